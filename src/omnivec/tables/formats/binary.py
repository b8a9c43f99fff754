"""word2vec's binary format: a line with the number of keys and the dimension, then rows of key, space and float32s."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import BinaryIO

import numpy as np

from omnivec.errors import WeightsError
from omnivec.files import written
from omnivec.tables.checks import blocks, check_finite, decoded, encoded, reading, unique
from omnivec.tables.formats.text import Header, parse_header
from omnivec.tables.record import Table
from omnivec.tables.subwords import composed
from omnivec.types import Floats
from omnivec.weights.bounds import Bounds

_FIRST_LINE = 64  # bytes
_LONGEST_KEY = 1 << 16  # bytes
_WINDOW = 1 << 23  # bytes per read


def read_word2vec_binary(path: Path, limit: int = 0, errors: str = "strict", *, dim: int = 0) -> Table:
    """Reads a binary file of word2vec.

    Keys vary in length, so rows are not at regular offsets and cannot be used from a memory map. The file is read in
    blocks; memory holds the requested vectors, their keys and one block.

    Args:
        path: the file; may be gzip-compressed.
        limit: read at most this many rows, from the beginning; 0 for all.
        dim: numbers per row, for an uncompressed file without a first line; 0 if the file has one.
        errors: what to do with keys that are not valid UTF-8, such as truncated ones: "strict", "replace" or "ignore",
            as in `bytes.decode`.

    Raises:
        WeightsError: the file cannot be read, is truncated, or contradicts its first line.
    """
    with reading(path) as stream:
        is_gzip = isinstance(stream, gzip.GzipFile)
        bounds = Bounds.of(path)
        size = bounds.limit if is_gzip else bounds.size
        header, whole, exact = _begin(path, stream, size, limit, 0 if is_gzip else dim)
        keys, vectors, rest = _rows(path, stream, header, exact)
        if whole and (rest := rest.strip() or stream.read(_FIRST_LINE).strip()):
            raise WeightsError(
                f"{path}: its first line says {header.keys} rows of {header.dim} numbers, but {rest[:20]!r} follows "
                "them: the first line is wrong, or the file damaged"
            )
    if not keys:
        raise WeightsError(f"{path} holds no vectors")
    texts, undecoded = decoded(path, keys, range(1, len(keys) + 1), errors, "row")
    return unique(Table(texts, vectors, undecoded=undecoded))


def _begin(path: Path, stream: BinaryIO, size: int, limit: int, dim: int) -> tuple[Header, bool, bool]:
    """Reads the first line and moves the stream to the first row.

    Returns:
        the rows to read, whether these are all rows of the file, and whether their number is known exactly.
    """
    line = stream.read(_FIRST_LINE).partition(b"\n")[0]
    header = parse_header(line)
    if header is None and dim:
        stream.seek(0)
        return Header(min(size // (4 * dim + 1), limit or size), dim), False, False
    if header is None or not header.dim:
        raise WeightsError(
            f"{path}: its first line {line[:40]!r} is not the number of keys and of dimensions"
        )
    # A row takes at least a space and its numbers; allocate nothing for a first line that claims more rows than fit.
    possible = (size - len(line) - 1) // (4 * header.dim + 1)
    rows = min(header.keys, limit or header.keys)
    if rows > possible:
        raise WeightsError(
            f"{path}: its first line says {header.keys} rows of {header.dim} numbers, its {path.stat().st_size} bytes "
            f"hold at most {possible}: truncated or damaged"
        )
    stream.seek(len(line) + 1)
    return Header(rows, header.dim), rows == header.keys, True


def _rows(path: Path, stream: BinaryIO, header: Header, exact: bool) -> tuple[list[bytes], Floats, bytes]:
    """Keys, vectors, and the bytes that were read beyond the last row."""
    if not header.keys:
        return [], np.zeros((0, 0), np.float32), b""
    keys: list[bytes] = []
    vectors = np.empty((header.keys, header.dim), np.float32)
    rest = b""
    while len(keys) < header.keys:
        block = stream.read(_WINDOW)
        window = rest + block
        block_keys, places, end = _scan(window, header.keys - len(keys), 4 * header.dim)
        if places:
            rows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(window, np.uint8), 4 * header.dim)
            numbers = rows[places].view("<f4")
            check_finite(path, numbers, len(keys) + 1)
            vectors[len(keys) : len(keys) + len(places)] = numbers
            keys += block_keys
        rest = window[end:]
        if not block and not exact and not rest.strip():
            break
        if not places and (not block or len(rest) > _LONGEST_KEY + 4 * header.dim):
            raise WeightsError(
                f"{path}: truncated or damaged: row {len(keys) + 1} of {header.keys} "
                f"at byte {stream.tell() - len(rest)}"
            )
    return keys, vectors[: len(keys)], rest


def _scan(window: bytes, most: int, size: int) -> tuple[list[bytes], list[int], int]:
    """The keys of the complete rows in a window, the offset of each row's numbers, and the end of the last row.

    Args:
        window: bytes that begin with a row.
        most: stop after this many rows.
        size: bytes of the numbers of a row.
    """
    keys: list[bytes] = []
    places: list[int] = []
    end = 0
    while len(keys) < most:
        blank = window.find(b" ", end)
        if blank < 0 or blank + 1 + size > len(window):
            break
        keys.append(window[end:blank].lstrip(b"\n"))
        places.append(blank + 1)
        end = blank + 1 + size
    return keys, places, end


def write_word2vec_binary(path: Path, table: Table) -> None:
    """Writes word2vec's binary format; with n-grams, the vectors composed of them.

    Raises:
        UsageError: a key is empty or contains whitespace.
        WeightsError: the disk refused.
    """
    keys = encoded(table.keys, "word2vec binary")
    with written(path, error=WeightsError) as partial, partial.open("wb") as stream:
        stream.write(b"%d %d\n" % (len(table), table.dim))
        rows = (row for block in blocks(composed(table)) for row in block)
        stream.writelines(b"%s %s\n" % (key, row.tobytes()) for key, row in zip(keys, rows, strict=True))
