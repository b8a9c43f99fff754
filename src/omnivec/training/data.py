"""Reads rows of training data from memory or from a file, pairs of texts among them, and batches them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ItemError, UsageError
from omnivec.inputs.files import rows as files
from omnivec.inputs.items import shown
from omnivec.training import texts

Pair = tuple[str, ...]
"""(anchor, positive) or (anchor, positive, negative)."""

SHOWN = 3
"""Most bad rows that an error message names."""

Rows = Iterator[tuple[str, Any]]
"""The place of each row, such as "line 3", and the row: a sequence of values, a mapping, or an error."""


@dataclass(frozen=True)
class Columns:
    """The values of a row, and the names that columns or keys of them may have.

    Attributes:
        roles: role -> accepted names in lower case, the preferred one first.
        optional: roles that a row may lack.
        unnamed: how many of the first columns to take from a table whose first line names none; None for all.
    """

    roles: Mapping[str, Sequence[str]]
    optional: Sequence[str] = ()
    unnamed: int | None = None

    def header(self, path: Path, row: Sequence[str]) -> list[int]:
        """The columns of the roles, from a table's first line; empty if that names none and so is a row itself.

        Raises:
            UsageError: the line names some of the roles, but not all that are required.
        """
        names = [name.strip().lower() for name in row]
        columns = {role: names.index(name) for role, name in self._found(names).items()}
        if columns and (lacking := self._lacking(columns)):
            raise UsageError(
                f"{path}: the columns {', '.join(row)} name only {', '.join(columns)}: {lacking} is missing"
            )
        return list(columns.values())

    def values(self, row: Mapping[str, Any]) -> list[Any]:
        """The values of a mapping, in the order of the roles.

        Raises:
            UsageError: a required role is missing.
        """
        cells = self._found(row)
        if self._lacking(cells):
            expected = " and ".join(
                "/".join(known) for role, known in self.roles.items() if role not in self.optional
            )
            raise UsageError(f"the keys {', '.join(map(str, row))}, expected {expected}")
        return [row[name] for name in cells.values()]

    def _found(self, names: Any) -> dict[str, str]:
        return {
            role: name
            for role, known in self.roles.items()
            if (name := next((each for each in known if each in names), None)) is not None
        }

    def _lacking(self, present: Mapping[str, Any]) -> str:
        needed = [role for role in self.roles if role not in self.optional and role not in present]
        return " and ".join("/".join(self.roles[role]) for role in needed)


PAIR = Columns(
    {
        "anchor": ("anchor", "query", "question", "sentence1"),
        "positive": ("positive", "answer", "sentence2"),
        "negative": ("negative",),
    },
    optional=("negative",),
)


def each_row(
    data: Any,
    columns: Columns,
    take: Callable[[Any], object],
    expected: str,
    other: Callable[[Path], Rows] | None = None,
) -> str:
    """Calls a function with each row of training data.

    Args:
        data: an iterable of rows, or the path of a file of rows.
        columns: the values of a row.
        take: called with each row, for a mapping with the list of its values; raises UsageError for an unusable row.
        expected: description of valid data in memory, for error messages.
        other: reads a file whose suffix is not that of a table; None to refuse such files.

    Returns:
        The name of the data in messages.

    Raises:
        UsageError: the file does not exist, or rows cannot be used; the first few are named.
    """
    name, rows = _open(data, columns, expected, other)
    bad: list[str] = []
    seen = wrong = 0
    for place, row in rows:
        seen += 1
        try:
            if isinstance(row, ItemError):
                raise UsageError(str(row))
            take(columns.values(row) if isinstance(row, Mapping) else row)
        except UsageError as error:
            wrong += 1
            bad += [f"{place}: {error}"] * (wrong <= SHOWN)
    if wrong:
        more = f"; and {wrong - SHOWN} more" if wrong > SHOWN else ""
        raise UsageError(f"{name}: {wrong} of {seen} rows cannot be used ({'; '.join(bad)}{more})")
    return name


def _open(
    data: Any, columns: Columns, expected: str, other: Callable[[Path], Rows] | None
) -> tuple[str, Rows]:
    if not isinstance(data, str | Path):
        known = ", ".join(files.SUFFIXES)
        rows = texts.several(data, f"{expected}, or the path of a file ({known})", tuple(columns.roles)[:2])
        return "data", ((f"item {i}", row) for i, row in enumerate(rows))
    path = texts.path(data)
    if files.kind(path) in files.SUFFIXES:
        return str(path), _of_file(path, columns)
    if other is None:
        raise UsageError(f"{path}: pairs come from {', '.join(files.SUFFIXES)}, or from a list of tuples")
    return str(path), other(path)


def _of_file(path: Path, columns: Columns) -> Rows:
    unit = "row" if files.kind(path) == ".parquet" else "line"
    header: list[int] | None = None
    for number, row in files.rows(path):
        if files.is_table(path):
            if header is None:
                header = columns.header(path, row)
                if header or not number:
                    continue
            indices = header or range(len(row) if columns.unnamed is None else columns.unnamed)
            row = [row[i] if i < len(row) else "" for i in indices]
        yield f"{unit} {number}", row


def read_pairs(data: Any) -> list[Pair]:
    """Reads pairs, or triples, of texts.

    Args:
        data: an iterable of (anchor, positive[, negative]) or of mappings with these keys; or the path of a .csv or
            .tsv whose first line names the columns (otherwise the first two or three columns are taken), or of a
            .jsonl or .parquet of such rows. PAIR lists the accepted names.

    Raises:
        UsageError: the file does not exist, rows are not pairs (the first few are named), or there are fewer than two.
    """
    pairs: list[Pair] = []

    def take(row: Any) -> None:
        pairs.append(_pair(row, len(pairs[0]) if pairs else 0))

    name = each_row(data, PAIR, take, "(anchor, positive) tuples")
    if len(pairs) < 2:
        raise UsageError(
            f"{name}: {len(pairs)} pairs; at least 2 are needed, since a pair's negatives are the other pairs"
        )
    return pairs


def batches(count: int, size: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yields the indices of batches without end.

    Each epoch takes every row once, in a new order; batch sizes differ by at most one. No batch has a single row, which
    would have no negatives, so for an odd number of rows and size 2 one batch has three: 7 rows give 3, 2 and 2.
    """
    random = np.random.default_rng(seed)
    while True:
        yield from np.array_split(random.permutation(count), per_epoch(count, size))


def per_epoch(count: int, size: int) -> int:
    """The number of batches in one epoch over `count` rows; see `batches`."""
    return max(min(-(-count // size), count // 2), 1)


def _pair(row: Any, width: int) -> Pair:
    """A row as texts; `width` is the number of texts of the rows before it, 0 for the first row.

    Raises:
        UsageError: the row is not two or three texts, or not as many as the rows before it.
    """
    if not isinstance(row, Sequence) or isinstance(row, str | bytes):
        raise UsageError(f"{shown(row)}, expected (anchor, positive) or (anchor, positive, negative)")
    if len(row) not in (2, 3) or len(row) != (width or len(row)):
        raise UsageError(f"{len(row)} texts, expected {width or '2 or 3'}")
    for role, text in zip(PAIR.roles, row, strict=False):
        if not isinstance(text, str):
            raise UsageError(f"the {role} is {shown(text)}, expected a str")
        if not text.strip():
            raise UsageError(f"the {role} is empty")
    if len(row) == 3 and row[2] == row[1]:
        raise UsageError("the negative equals the positive")
    return tuple(row)
