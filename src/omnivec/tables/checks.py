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
from omnivec.inputs.text.whitespace import BLANKS
from omnivec.tables.record import Table
from omnivec.types import Floats
from omnivec.validation.reasons import of_system
from omnivec.weights.bounds import Bounds

GZIP = b"\x1f\x8b"
"""What a file that gzip packed begins with."""
_BLOCK = 1 << 16  # rows
_SEPARATORS = frozenset(BLANKS)


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


def decoded(
    path: Path, raw: Sequence[bytes], numbers: Sequence[int], errors: str, unit: str
) -> tuple[list[str], int]:
    """Keys as text, and how many of them are no UTF-8.

    Args:
        path: the file, for the error.
        raw: keys in UTF-8.
        numbers: where each stands in the file, in `unit`.
        errors: "strict", "replace" or "ignore": what Python is to do with what is no UTF-8.
        unit: "line" or "row".

    Raises:
        WeightsError: with the place and the bytes.
    """
    try:
        # All at once, where no key holds the separator itself: twice as fast.
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
                    f"{path}, {unit} {number}: the key {key[:40]!r} is no UTF-8 ({error.reason}, byte {error.start}); "
                    'load(..., errors="replace") reads it with a mark instead, errors="ignore" without'
                ) from error
            keys.append(key.decode("utf-8", errors))
            undecoded += 1
    return keys, undecoded


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
        output=_output(table, rows),
        duplicates=table.duplicates + duplicates,
    )


def _output(table: Table, rows: Sequence[int] | slice) -> Floats | None:
    """The output rows that belong to some rows; those of labels, or of the nodes of a tree, belong to none."""
    if table.output is None or is_classifier(table) or len(table.output) != len(table):
        return table.output
    return table.output[rows]


def is_classifier(table: Table) -> bool:
    """Whether a table was trained on labels; where it does not say how it was trained, whether it has any."""
    settings = table.settings
    return settings["model"] == "supervised" if "model" in settings else bool(settings.get("labels"))


def limited(table: Table, limit: int) -> Table:
    """The first rows of a table; all for 0.

    Raises:
        UsageError: its keys are a tokenizer's, or a classifier's, which needs all of them.
    """
    if not limit or limit >= len(table):
        return table
    if table.tokenizer is not None:
        raise UsageError(f"limit={limit} of {len(table)} rows: a table with a tokenizer is read whole")
    if is_classifier(table):
        raise UsageError(f"limit={limit} of {len(table)} rows: a classifier is read whole")
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
            with _Unpacking(Bounds.of(path), raw) as stream:
                yield cast(BinaryIO, stream)
    except (OSError, EOFError, zlib.error) as error:
        raise WeightsError(f"{path} cannot be read: {of_system(error)}") from error


class _Unpacking(gzip.GzipFile):
    """What gzip unpacks, up to what a file of its size may be unpacked to."""

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
                f"packed by gzip, it unpacks to more than {self._bounds.limit} bytes, which {self._bounds.size} bytes "
                "may not: unpack it first"
            )
        return data


def blocks(vectors: Floats, rows: int = 4096) -> Iterator[Floats]:
    """The rows of a matrix a few at a time: a map of a large file never comes into memory whole."""
    for start in range(0, len(vectors), rows):
        yield np.ascontiguousarray(vectors[start : start + rows], "<f4")
