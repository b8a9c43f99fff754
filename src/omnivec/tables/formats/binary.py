"""word2vec's binary file: a first line of two numbers, then key, blank and float32 numbers, row behind row."""

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
_WINDOW = 1 << 23  # bytes that are read at once


def read_word2vec_binary(path: Path, limit: int = 0, errors: str = "strict", *, dim: int = 0) -> Table:
    """Reads a binary file of word2vec.

    Keys are of any length, so that the rows lie at no regular places and cannot stay in a map of the file. It is read
    piece by piece: memory holds the vectors that are asked for, their keys and one piece.

    Args:
        path: the file; it may be packed by gzip.
        limit: read the first so many rows; 0 for all.
        dim: numbers of a row, for a file without a first line, not packed; 0: it has one.
        errors: of keys that are no UTF-8, such as those cut in the middle of a character: "strict", "replace" or
            "ignore", as Python has them.

    Raises:
        WeightsError: the file cannot be read, is cut short, or its first line says what cannot be.
    """
    with reading(path) as stream:
        packed = isinstance(stream, gzip.GzipFile)
        bounds = Bounds.of(path)
        size = bounds.limit if packed else bounds.size
        said, whole, exact = _begin(path, stream, size, limit, 0 if packed else dim)
        keys, vectors, rest = _rows(path, stream, said, exact)
        if whole and (rest := rest.strip() or stream.read(_FIRST_LINE).strip()):
            raise WeightsError(
                f"{path}: its first line says {said.keys} rows of {said.dim} numbers, behind which "
                f"{rest[:20]!r} follows: one of the two is wrong"
            )
    if not keys:
        raise WeightsError(f"{path} holds no vectors")
    texts, undecoded = decoded(path, keys, range(1, len(keys) + 1), errors, "row")
    return unique(Table(texts, vectors, undecoded=undecoded))


def _begin(path: Path, stream: BinaryIO, size: int, limit: int, dim: int) -> tuple[Header, bool, bool]:
    """The rows to read, whether a first line says that there are no more, and whether they are known to be there.

    The stream then stands at the first of them.
    """
    line = stream.read(_FIRST_LINE).partition(b"\n")[0]
    said = parse_header(line)
    if said is None and dim:
        stream.seek(0)
        return Header(min(size // (4 * dim + 1), limit or size), dim), False, False
    if said is None or not said.dim:
        raise WeightsError(
            f"{path}: its first line {line[:40]!r} is not the number of keys and of dimensions"
        )
    # A row has at least a blank and its numbers: no memory is asked for what a first line claims beyond that.
    possible = (size - len(line) - 1) // (4 * said.dim + 1)
    wanted = min(said.keys, limit or said.keys)
    if wanted > possible:
        raise WeightsError(
            f"{path}: its first line says {said.keys} rows of {said.dim} numbers, its {path.stat().st_size} bytes "
            f"hold at most {possible}: cut short or wrong"
        )
    stream.seek(len(line) + 1)
    return Header(wanted, said.dim), wanted == said.keys, True


def _rows(path: Path, stream: BinaryIO, wanted: Header, exact: bool) -> tuple[list[bytes], Floats, bytes]:
    """Keys, vectors and what was read behind them."""
    if not wanted.keys:
        return [], np.zeros((0, 0), np.float32), b""
    keys: list[bytes] = []
    vectors = np.empty((wanted.keys, wanted.dim), np.float32)
    rest = b""
    while len(keys) < wanted.keys:
        piece = stream.read(_WINDOW)
        window = rest + piece
        found, places, end = _scan(window, wanted.keys - len(keys), 4 * wanted.dim)
        if places:
            rows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(window, np.uint8), 4 * wanted.dim)
            numbers = rows[places].view("<f4")
            check_finite(path, numbers, len(keys) + 1)
            vectors[len(keys) : len(keys) + len(places)] = numbers
            keys += found
        rest = window[end:]
        if not piece and not exact and not rest.strip():
            break
        if not places and (not piece or len(rest) > _LONGEST_KEY + 4 * wanted.dim):
            raise WeightsError(
                f"{path}: cut short or damaged: row {len(keys) + 1} of {wanted.keys} "
                f"at byte {stream.tell() - len(rest)}"
            )
    return keys, vectors[: len(keys)], rest


def _scan(window: bytes, most: int, size: int) -> tuple[list[bytes], list[int], int]:
    """The keys of the whole rows in a window, where the numbers of each begin, and where the last row ends."""
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
    """Writes word2vec's binary file; of a table with n-grams, the vectors that they make up."""
    keys = encoded(table.keys, "word2vec binary")
    with written(path, error=WeightsError) as partial, partial.open("wb") as stream:
        stream.write(b"%d %d\n" % (len(table), table.dim))
        rows = (row for block in blocks(composed(table)) for row in block)
        stream.writelines(b"%s %s\n" % (key, row.tobytes()) for key, row in zip(keys, rows, strict=True))
