"""What is asked of every table: finite numbers, unique keys, text that can be read and files that can be written."""

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
from omnivec.reasons import of_system
from omnivec.types import Floats
from omnivec.weights.tables.record import Table

GZIP = b"\x1f\x8b"
"""What a file that gzip packed begins with."""
_BLOCK = 1 << 16  # rows
_SEPARATORS = frozenset(" \t\n\r\v\f\0")


def check_finite(path: Path, vectors: NDArray[Any], first: int = 0, unit: str = "row") -> None:
    """Refuses NaN and infinity; `first` is the number of the first row of `vectors` in the file.

    Raises:
        WeightsError: with the row and how many of its numbers are not finite.
    """
    for start in range(0, len(vectors), _BLOCK):
        finite = np.isfinite(vectors[start : start + _BLOCK])
        if not finite.all():
            row = int(np.flatnonzero(~finite.all(axis=1))[0])
            raise WeightsError(
                f"{path}, {unit} {first + start + row}: {int((~finite[row]).sum())} of {vectors.shape[1]} numbers are "
                "NaN or infinite: train or fetch it again"
            )


def decoded(path: Path, raw: Sequence[bytes], numbers: Sequence[int], errors: str, unit: str) -> list[str]:
    """Keys as text.

    Args:
        path: the file, for the error.
        raw: keys in UTF-8.
        numbers: where each stands in the file, in `unit`.
        errors: "strict", or how Python is to replace what is no UTF-8.
        unit: "line" or "row".

    Raises:
        WeightsError: with the place and the bytes.
    """
    try:
        # All at once, where no key holds the separator itself: twice as fast.
        joined = b"\n".join(raw).decode("utf-8", errors).split("\n")
        return joined if len(joined) == len(raw) else [key.decode("utf-8", errors) for key in raw]
    except UnicodeDecodeError:
        for number, key in zip(numbers, raw, strict=True):
            try:
                key.decode("utf-8")
            except UnicodeDecodeError as error:
                raise WeightsError(
                    f"{path}, {unit} {number}: the key {key[:40]!r} is no UTF-8 ({error.reason}, byte {error.start}); "
                    'errors="replace" reads it with a mark instead'
                ) from error
        raise


def first_rows(keys: Sequence[str]) -> list[int] | None:
    """The rows whose key did not come before; None where that is all of them."""
    seen = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
    return None if len(seen) == len(keys) else sorted(seen.values())


def unique(table: Table) -> Table:
    """The table with the first row of each key only, and the number of others said."""
    rows = first_rows(table.keys)
    return table if rows is None else taken(table, rows, len(table) - len(rows))


def taken(table: Table, rows: Sequence[int] | slice, duplicates: int = 0) -> Table:
    """Some rows of a table."""
    chosen = range(len(table))[rows] if isinstance(rows, slice) else rows
    return replace(
        table,
        keys=[table.keys[row] for row in chosen],
        vectors=table.vectors[rows],
        counts=None if table.counts is None else table.counts[rows],
        weights=None if table.weights is None else table.weights[rows],
        duplicates=table.duplicates + duplicates,
    )


def limited(table: Table, limit: int) -> Table:
    """The first rows of a table; all for 0.

    Raises:
        UsageError: its keys are a tokenizer's, which needs all of them.
    """
    if not limit or limit >= len(table):
        return table
    if table.tokenizer is not None:
        raise UsageError(f"limit={limit} of {len(table)} rows: a table with a tokenizer is read whole")
    return taken(table, slice(limit))


def encoded(keys: Sequence[str], form: str) -> list[bytes]:
    """Keys in UTF-8, for formats that part them by blanks, line feeds or zero bytes.

    Raises:
        UsageError: a key that the format cannot hold, by name.
    """
    for key in keys:
        if not key or not _SEPARATORS.isdisjoint(key):
            raise UsageError(
                f"the key {key[:60]!r} cannot be written as {form}, which parts keys by blanks and line feeds: "
                "write parquet or omnivec"
            )
    return [utf8(key) for key in keys]


def utf8(key: str) -> bytes:
    """A key in UTF-8; UsageError for half a surrogate pair."""
    try:
        return key.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the key {key[:60]!r} is no text that UTF-8 can hold: {error.reason}") from error


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked as they are read where gzip has packed them.

    Raises:
        WeightsError: the file cannot be read, or is packed and damaged or cut short.
    """
    try:
        with path.open("rb") as raw:
            if raw.peek(len(GZIP))[: len(GZIP)] != GZIP:
                yield raw
                return
            with gzip.open(raw) as stream:
                yield cast(BinaryIO, stream)
    except (OSError, EOFError, zlib.error) as error:
        raise WeightsError(f"{path} cannot be read: {of_system(error)}") from error


def blocks(vectors: Floats, rows: int = 4096) -> Iterator[Floats]:
    """The rows of a matrix a few at a time: a map of a large file never comes into memory whole."""
    for start in range(0, len(vectors), rows):
        yield np.ascontiguousarray(vectors[start : start + rows], "<f4")
