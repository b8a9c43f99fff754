"""Checks shared by readers and writers of tables: finite numbers, unique keys, valid UTF-8, bounded gzip files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError, WeightsError
from omnivec.inputs.text.whitespace import BLANKS
from omnivec.tables.record import Table
from omnivec.types import Floats
from omnivec.validation.reasons import of_system
from omnivec.weights.bounds import Bounds

GZIP = b"\x1f\x8b"
"""The first bytes of a gzip file."""
_BLOCK = 1 << 16  # rows
_SEPARATORS = frozenset(BLANKS)


def check_finite(path: Path, vectors: NDArray[Any], first: int = 0, unit: str = "row") -> None:
    """Refuses NaN and infinity.

    Args:
        path: the file, for the error.
        vectors: (n, d).
        first: the number of the first row of `vectors` in the file, counted in `unit`.
        unit: "row" or "line".

    Raises:
        WeightsError: names the first such row and how many of its numbers are not finite.
    """
    for start in range(0, len(vectors), _BLOCK):
        finite = np.isfinite(vectors[start : start + _BLOCK])
        if not finite.all():
            row = int(np.flatnonzero(~finite.all(axis=1))[0])
            raise WeightsError(
                f"{path}, {unit} {first + start + row}: {int((~finite[row]).sum())} of {vectors.shape[1]} numbers are "
                "NaN or infinite: train or download it again"
            )


def decoded(
    path: Path, raw: Sequence[bytes], numbers: Sequence[int], errors: str, unit: str
) -> tuple[list[str], int]:
    """Keys as strings, and how many of them are not valid UTF-8.

    Args:
        path: the file, for the error.
        raw: keys in UTF-8.
        numbers: the line or row number of each, for the error.
        errors: error handler of `bytes.decode`: "strict", "replace" or "ignore".
        unit: "line" or "row".

    Raises:
        WeightsError: a key is not valid UTF-8 and `errors` is "strict"; names its place and bytes.
    """
    try:
        # Decoding all keys at once is twice as fast; it works if no key contains the separator.
        joined = b"\n".join(raw).decode().split("\n")
        return (joined if len(joined) == len(raw) else [key.decode() for key in raw]), 0
    except UnicodeDecodeError:
        keys, undecoded = [], 0
    for number, key in zip(numbers, raw, strict=True):
        try:
            keys.append(key.decode())
        except UnicodeDecodeError as error:
            if errors == "strict":
                raise WeightsError(
                    f"{path}, {unit} {number}: the key {key[:40]!r} is not UTF-8 ({error.reason}, byte {error.start}); "
                    'load(..., errors="replace") replaces invalid bytes with U+FFFD, errors="ignore" drops them'
                ) from error
            keys.append(key.decode("utf-8", errors))
            undecoded += 1
    return keys, undecoded


def first_rows(keys: Sequence[str]) -> list[int] | None:
    """The rows whose key did not occur in an earlier row; None if all keys are distinct."""
    seen = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
    return None if len(seen) == len(keys) else sorted(seen.values())


def unique(table: Table) -> Table:
    """The table with only the first row of each key; `duplicates` counts the rows left out."""
    rows = first_rows(table.keys)
    return table if rows is None else taken(table, rows, len(table) - len(rows))


def taken(table: Table, rows: Sequence[int] | slice, duplicates: int = 0) -> Table:
    """Some rows of a table; `duplicates` is added to its count of rows left out."""
    chosen = range(len(table))[rows] if isinstance(rows, slice) else rows
    return replace(
        table,
        keys=[table.keys[row] for row in chosen],
        vectors=table.vectors[rows],
        counts=None if table.counts is None else table.counts[rows],
        weights=None if table.weights is None else table.weights[rows],
        output=_output(table, rows),
        duplicates=table.duplicates + duplicates,
    )


def _output(table: Table, rows: Sequence[int] | slice) -> Floats | None:
    """The output rows of `rows`; all output rows if they belong to labels or tree nodes and not to keys."""
    if table.output is None or is_classifier(table) or len(table.output) != len(table):
        return table.output
    return table.output[rows]


def is_classifier(table: Table) -> bool:
    """Whether a table was trained on labels; without a record of its training, whether it has labels."""
    settings = table.settings
    return settings["model"] == "supervised" if "model" in settings else bool(settings.get("labels"))


def limited(table: Table, limit: int) -> Table:
    """The first `limit` rows of a table; all for 0.

    Raises:
        UsageError: the table has a tokenizer or is a classifier, which need all rows.
    """
    if not limit or limit >= len(table):
        return table
    if table.tokenizer is not None:
        raise UsageError(
            f"limit={limit} of {len(table)} rows: a table with a tokenizer needs all of its rows"
        )
    if is_classifier(table):
        raise UsageError(f"limit={limit} of {len(table)} rows: a classifier needs all of its rows")
    return taken(table, slice(limit))


def encoded(keys: Sequence[str], form: str) -> list[bytes]:
    """Keys in UTF-8, for formats that separate keys by spaces, line feeds or zero bytes.

    Raises:
        UsageError: a key is empty or contains a separator; names the key.
    """
    for key in keys:
        if not key or not _SEPARATORS.isdisjoint(key):
            raise UsageError(
                f"the key {key[:60]!r} cannot be written as {form}, which separates keys by whitespace: "
                "write parquet or omnivec"
            )
    return [utf8(key) for key in keys]


def utf8(key: str) -> bytes:
    """A key in UTF-8; UsageError if it contains a lone surrogate."""
    try:
        return key.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the key {key[:60]!r} cannot be encoded as UTF-8: {error.reason}") from error


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for reading; a gzip file is decompressed as it is read.

    Raises:
        WeightsError: the file cannot be read, or its gzip data is damaged or truncated.
    """
    try:
        with path.open("rb") as raw:
            if raw.peek(len(GZIP))[: len(GZIP)] != GZIP:
                yield raw
                return
            with _Unpacking(Bounds.of(path), raw) as stream:
                yield cast(BinaryIO, stream)
    except (OSError, EOFError, zlib.error) as error:
        raise WeightsError(f"{path} cannot be read: {of_system(error)}") from error


class _Unpacking(gzip.GzipFile):
    """A gzip stream that raises an error past the size that a file of its compressed size may have."""

    def __init__(self, bounds: Bounds, packed: BinaryIO) -> None:
        super().__init__(fileobj=packed)
        self._bounds = bounds

    def read(self, size: int | None = -1) -> bytes:
        return self._counted(super().read(size))

    def readline(self, size: int | None = -1) -> bytes:
        return self._counted(super().readline(size))

    def _counted(self, data: bytes) -> bytes:
        if self.tell() > self._bounds.limit:
            raise self._bounds.error(
                f"its gzip data of {self._bounds.size} bytes expands to more than the allowed {self._bounds.limit} "
                "bytes: decompress it first"
            )
        return data


def blocks(vectors: Floats, rows: int = 4096) -> Iterator[Floats]:
    """The rows of a matrix in blocks, little-endian float32, so that a memory-mapped file is never copied whole."""
    for start in range(0, len(vectors), rows):
        yield np.ascontiguousarray(vectors[start : start + rows], "<f4")
