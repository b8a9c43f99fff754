"""Reads and writes tables of vectors in published file formats, which are recognised by their content."""

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
"""Formats that are read sequentially instead of memory-mapped, and therefore also from gzip-compressed files."""
_HEAD = 1 << 20  # bytes from which the format is recognised
_BINARY = re.compile(rb"[\0-\x08\x0e-\x1f]")  # control characters, which do not occur in text
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\r\v\f")


@dataclass(frozen=True)
class Format:
    """The reader and writer of one format.

    Attributes:
        read: (path, limit, errors) -> table, with the arguments of `read_table`.
        write: (path, table) writes a file, or into an empty folder; None for formats that are only read.
        folder: whether a table is a folder in this format, not a file.
    """

    read: Callable[[Path, int, str], Table]
    write: Callable[[Path, Table], None] | None
    folder: bool = False


def _of_text(read: Callable[[Path, int], Table]) -> Callable[[Path, int, str], Table]:
    """A reader that ignores `errors`, for formats whose keys are strings already (JSON, pickle, tokenizer)."""
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
        limit: read at most this many keys, from the beginning; 0 for all.
        format: a name in `FORMATS`; None to recognise the format with `sniff`.
        errors: what to do with keys that are not valid UTF-8: "strict" raises an error, "replace" puts U+FFFD in
            place of invalid bytes, "ignore" drops them; `Table.undecoded` counts such keys.

    Raises:
        UsageError: an unknown format, a limit below 0, or another value of `errors`.
        ModelError: the file is damaged, unsafe, or in a format that is not read.
    """
    if limit < 0:
        raise UsageError(f"limit={limit} is negative: give the number of rows to read, or 0 for all")
    if errors not in ERRORS:
        raise UsageError(f"errors={errors!r} is none of {', '.join(ERRORS)}")
    return _format(format or sniff(path)).read(path, limit, errors)


def write_table(path: Path, table: Table, format: str, card_bytes: bytes | None = None) -> None:
    """Writes a table in one of `FORMATS`, atomically; in a folder that holds a model already, file by file.

    Args:
        path: the file or folder to write.
        table: the table.
        format: a name in `FORMATS`.
        card_bytes: content of the model card, for formats that are folders; None for a card without facts.

    Raises:
        UsageError: an unknown format, one that is only read, or a table that the format cannot hold.
        WeightsError: the disk refused, or the folder holds something other than a model.
    """
    form = _format(format)
    if form.write is None:
        raise UsageError(
            f"{format} is read-only here; write word2vec-text or word2vec-binary, which gensim can load"
        )
    if not form.folder:
        with contextlib.suppress(OSError):  # the writer reports it, with the name of the file
            path.parent.mkdir(parents=True, exist_ok=True)
        form.write(path, table)
        return
    with model_folder(path) as fresh:
        form.write(fresh, table)
        (fresh / CARD).write_bytes(card(None).encode() if card_bytes is None else card_bytes)


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise UsageError(f"unknown format {name!r}: choose one of {', '.join(FORMATS)}")
    return FORMATS[name]


def sniff(path: Path) -> str:
    """The name in `FORMATS` of a file's or folder's format, recognised by its content.

    fastText's .vec has the layout of word2vec's text, and is reported as "word2vec-text".

    Raises:
        UnsupportedModel: the content has none of these formats.
        WeightsError: the file cannot be read.
    """
    if path.is_dir():
        return _sniff_folder(path)
    with reading(path) as stream:
        head, is_gzip = stream.read(_HEAD), isinstance(stream, gzip.GzipFile)
    name = _sniff_magic(head) or _sniff_text(head)
    if head[:3] == b"BZh" or (is_gzip and name is not None and name not in STREAMED):
        inside = f" {name}" if is_gzip else ""
        raise UnsupportedModel(
            f"{path} is a compressed{inside} file: decompress it first ({'gunzip' if is_gzip else 'bunzip2'}); "
            f"only {', '.join(STREAMED)} are read from gzip files"
        )
    if name is None:
        raise UnsupportedModel(f"{path} begins with {head[:24]!r}, which is none of {', '.join(FORMATS)}")
    return name


def _sniff_magic(head: bytes) -> str | None:
    if head[:4] == b"PAR1":
        return "parquet"
    if head[:6] == b"\x93NUMPY":
        return "npy"
    if head[:4] == b"PK\x03\x04":
        return "npz" if b".npy" in head[:512] else None
    if head[:4] == struct.pack("<i", MAGIC):
        return "fasttext-bin"
    # A pickle begins with its protocol number; protocols 0 and 1 have none and begin with a global's name.
    if (head[:1] == b"\x80" or head[:5] in (b"ccopy", b"cgens")) and b"gensim" in head[:4096]:
        return "gensim"
    return None


def _sniff_text(head: bytes) -> str | None:
    line, _, rest = head.removeprefix(BOM).partition(b"\n")
    header = parse_header(line)
    if header is not None:
        second = rest.partition(b"\n")[0].rstrip()
        # A text row with the wrong number of components still counts as text: the reader names the line.
        if (numbers_behind(second) > 0 and _CONTROLS.isdisjoint(second)) or _is_text(rest):
            return "word2vec-text"
        if not rest.strip() and not header.keys:
            return "word2vec-text"
        if header.dim > 1 or b" " in rest:
            return "word2vec-binary"
    return "glove" if numbers_behind(line) > 0 and b"\0" not in line else None


def _is_text(rest: bytes) -> bool:
    """Whether rows are text, perhaps with malformed numbers, and not binary numbers whose bytes look like text."""
    if not rest.strip() or _BINARY.search(rest):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(rest)  # the head may end inside a character
    except UnicodeDecodeError:
        return False
    return True


def _sniff_folder(folder: Path) -> str:
    config = read_json(folder / "config.json", {}, dict)
    model_type = config.get("model_type")
    if model_type in MODEL_TYPES and (folder / "keys.json").is_file():
        return "omnivec"
    listed = modules(folder)
    first = listed[0].type if listed else ""
    # model2vec writes a modules.json too, beside a config.json that does not always have a model_type.
    if model_type == "model2vec" or config.get("architectures") == ["StaticModel"] or "normalize" in config:
        return "model2vec"
    if first.rpartition(".")[2] == "StaticEmbedding":
        return "static-embedding"
    raise UnsupportedModel(
        f"{folder} does not hold a table: {model_type or 'no model_type'}, first module {first or 'none'}"
    )
