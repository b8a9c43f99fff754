"""The published forms of a table: told apart by their content, read and written."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from omnivec.errors import UnsupportedModel, UsageError
from omnivec.inputs.text.whitespace import BOM
from omnivec.tables.checks import reading
from omnivec.tables.formats.arrays import read_npy, read_npz, write_npy, write_npz
from omnivec.tables.formats.binary import read_word2vec_binary, write_word2vec_binary
from omnivec.tables.formats.fasttext import MAGIC, read_fasttext_bin, write_fasttext_bin
from omnivec.tables.formats.gensim import read_gensim
from omnivec.tables.formats.own import read_own, write_own
from omnivec.tables.formats.parquet import read_parquet, write_parquet
from omnivec.tables.formats.static import (
    read_model2vec,
    read_static_embedding,
    write_model2vec,
    write_static_embedding,
)
from omnivec.tables.formats.text import (
    numbers_behind,
    parse_header,
    read_glove,
    read_word2vec_text,
    write_glove,
    write_vec,
    write_word2vec_text,
)
from omnivec.tables.record import ERRORS, MODEL_TYPES, Table
from omnivec.validation.json_files import read_json
from omnivec.weights.card import CARD, card
from omnivec.weights.folder_writer import model_folder
from omnivec.weights.sentence_files import modules

STREAMED = ("word2vec-text", "word2vec-binary", "glove")
"""Forms that are read from the beginning to the end, not mapped: from a file packed by gzip, too."""
_HEAD = 1 << 20  # bytes that a file is judged by
_BINARY = re.compile(rb"[\0-\x08\x0e-\x1f]")  # no letter of a text
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\r\v\f")


@dataclass(frozen=True)
class Format:
    """How one form is read and written.

    Attributes:
        read: path, the most keys, what to do with keys that are no UTF-8 -> table.
        write: a file, or into an empty folder; None for what is read only.
        folder: whether it is one.
    """

    read: Callable[[Path, int, str], Table]
    write: Callable[[Path, Table], None] | None
    folder: bool = False


def _of_text(read: Callable[[Path, int], Table]) -> Callable[[Path, int, str], Table]:
    """The reader of a form whose keys are text already, in JSON or pickled: there is nothing to decode."""
    return lambda path, limit, errors: read(path, limit)


FORMATS = {
    "word2vec-text": Format(read_word2vec_text, write_word2vec_text),
    "word2vec-binary": Format(read_word2vec_binary, write_word2vec_binary),
    "glove": Format(read_glove, write_glove),
    "fasttext-vec": Format(read_word2vec_text, write_vec),
    "fasttext-bin": Format(read_fasttext_bin, write_fasttext_bin),
    "gensim": Format(_of_text(read_gensim), None),
    "npz": Format(read_npz, write_npz),
    "npy": Format(_of_text(read_npy), write_npy),
    "parquet": Format(read_parquet, write_parquet),
    "model2vec": Format(_of_text(read_model2vec), write_model2vec, folder=True),
    "static-embedding": Format(_of_text(read_static_embedding), write_static_embedding, folder=True),
    "omnivec": Format(_of_text(read_own), write_own, folder=True),
}


def read_table(path: Path, limit: int = 0, format: str | None = None, *, errors: str = "strict") -> Table:
    """Reads a table of keys and vectors.

    Args:
        path: a file or a folder in one of `FORMATS`.
        limit: keep the first so many keys; 0 for all.
        format: its form; None: as `sniff` finds it.
        errors: of keys that are no UTF-8: "strict" refuses the table, "replace" reads them with U+FFFD in place of
            what is none, "ignore" without it; `Table.undecoded` counts them.

    Raises:
        UsageError: an unknown form, a limit below 0, or another word for `errors`.
        ModelError: the file is damaged, unsafe, or in a form that is not read.
    """
    if limit < 0:
        raise UsageError(f"limit={limit}: 0 for all rows, or how many")
    if errors not in ERRORS:
        raise UsageError(f"errors={errors!r} is none of {', '.join(ERRORS)}")
    return _format(format or sniff(path)).read(path, limit, errors)


def write_table(path: Path, table: Table, format: str, said: bytes | None = None) -> None:
    """Writes a table in one of `FORMATS`, whole or not at all; of an older one in a folder, file by file.

    Args:
        path: of the file or folder.
        table: what is written.
        format: its form.
        said: the card of a form that is a folder; None for one that knows nothing.

    Raises:
        UsageError: an unknown form, one that is only read, or a table that it cannot hold.
        WeightsError: the disk refused, or the folder holds something else than a model.
    """
    form = _format(format)
    if form.write is None:
        raise UsageError(f"{format} is only read; gensim loads word2vec-text and word2vec-binary")
    if not form.folder:
        with contextlib.suppress(OSError):  # said by the writer, with the file's name
            path.parent.mkdir(parents=True, exist_ok=True)
        form.write(path, table)
        return
    with model_folder(path) as fresh:
        form.write(fresh, table)
        (fresh / CARD).write_bytes(card(None).encode() if said is None else said)


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise UsageError(f"unknown format {name!r}: one of {', '.join(FORMATS)}")
    return FORMATS[name]


def sniff(path: Path) -> str:
    """The name in `FORMATS` of what a file or folder holds, by its content.

    fastText's .vec is word2vec's text.

    Raises:
        UnsupportedModel: it is none of them.
        WeightsError: it cannot be read.
    """
    if path.is_dir():
        return _sniff_folder(path)
    with reading(path) as stream:
        head, packed = stream.read(_HEAD), isinstance(stream, gzip.GzipFile)
    found = _sniff_magic(head) or _sniff_text(head)
    if head[:3] == b"BZh" or (packed and found is not None and found not in STREAMED):
        inside = f" {found}" if packed else ""
        raise UnsupportedModel(
            f"{path} is a packed{inside} file: unpack it first ({'gunzip' if packed else 'bunzip2'}); packed by gzip, "
            f"only {', '.join(STREAMED)} are read"
        )
    if found is None:
        raise UnsupportedModel(f"{path} begins with {head[:24]!r}: none of {', '.join(FORMATS)}")
    return found


def _sniff_magic(head: bytes) -> str | None:
    if head[:4] == b"PAR1":
        return "parquet"
    if head[:6] == b"\x93NUMPY":
        return "npy"
    if head[:4] == b"PK\x03\x04":
        return "npz" if b".npy" in head[:512] else None
    if head[:4] == struct.pack("<i", MAGIC):
        return "fasttext-bin"
    # A pickle begins with its protocol; the oldest have none and begin with a name.
    if (head[:1] == b"\x80" or head[:5] in (b"ccopy", b"cgens")) and b"gensim" in head[:4096]:
        return "gensim"
    return None


def _sniff_text(head: bytes) -> str | None:
    line, _, rest = head.removeprefix(BOM).partition(b"\n")
    said = parse_header(line)
    if said is not None:
        second = rest.partition(b"\n")[0].rstrip()
        # A row of another length than the first line says is text too: its reader names the line.
        if (numbers_behind(second) > 0 and _CONTROLS.isdisjoint(second)) or _is_text(rest):
            return "word2vec-text"
        if not rest.strip() and not said.keys:
            return "word2vec-text"
        if said.dim > 1 or b" " in rest:
            return "word2vec-binary"
    return "glove" if numbers_behind(line) > 0 and b"\0" not in line else None


def _is_text(rest: bytes) -> bool:
    """Whether rows are letters: numbers that are written wrongly, and no binary ones that happen to be printable."""
    if not rest.strip() or _BINARY.search(rest):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(rest)  # The head may end within a letter.
    except UnicodeDecodeError:
        return False
    return True


def _sniff_folder(folder: Path) -> str:
    config = read_json(folder / "config.json", {}, dict)
    kind = config.get("model_type")
    if kind in MODEL_TYPES and (folder / "keys.json").is_file():
        return "omnivec"
    listed = modules(folder)
    first = listed[0].type if listed else ""
    # model2vec writes a modules.json too, but a config.json beside it, which not always has the model's type.
    if kind == "model2vec" or config.get("architectures") == ["StaticModel"] or "normalize" in config:
        return "model2vec"
    if first.rpartition(".")[2] == "StaticEmbedding":
        return "static-embedding"
    raise UnsupportedModel(
        f"{folder} is no folder of a table: {kind or 'no model_type'}, first module {first or 'none'}"
    )
