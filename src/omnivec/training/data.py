"""Training data: rows from memory or from a file, texts that belong together among them, and their order."""

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
"""Bad rows that a message names."""

Rows = Iterator[tuple[str, Any]]
"""Where each row is, and what it holds: a sequence of values, a mapping, or the error that it is."""


@dataclass(frozen=True)
class Columns:
    """The values of a row, and how a file or a mapping may name them.

    Attributes:
        roles: role -> names, in small letters, the best first.
        optional: roles that rows need not have.
        unnamed: how many of the first columns are meant in a table whose first line names none of them; None for all.
    """

    roles: Mapping[str, Sequence[str]]
    optional: Sequence[str] = ()
    unnamed: int | None = None

    def header(self, path: Path, row: Sequence[str]) -> list[int]:
        """The columns of the roles; empty where the first line of a table names none and is a row itself."""
        names = [name.strip().lower() for name in row]
        columns = {role: names.index(name) for role, name in self._found(names).items()}
        if columns and (lacking := self._lacking(columns)):
            raise UsageError(
                f"{path}: the columns {', '.join(row)} name only {', '.join(columns)}: {lacking} is missing"
            )
        return list(columns.values())

    def values(self, row: Mapping[str, Any]) -> list[Any]:
        """The values of a mapping, in the order of the roles."""
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
    """Goes through the rows of training data.

    Args:
        data: an iterable of rows, or the path of a file of them.
        columns: what a row holds.
        take: is given each row, a mapping as the list of its values; raises UsageError for one that cannot be used.
        expected: what to give in memory, for messages.
        other: reads a file that has no suffix of a table.

    Returns:
        What to call the data in a message.

    Raises:
        UsageError: no such file, or rows that cannot be used; the first few are named.
    """
    where, rows = _open(data, columns, expected, other)
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
        raise UsageError(f"{where}: {wrong} of {seen} rows cannot be used ({'; '.join(bad)}{more})")
    return where


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
            wanted = header or range(len(row) if columns.unnamed is None else columns.unnamed)
            row = [row[i] if i < len(row) else "" for i in wanted]
        yield f"{unit} {number}", row


def read_pairs(data: Any) -> list[Pair]:
    """Pairs, or triples, of texts.

    Args:
        data: an iterable of (anchor, positive[, negative]) or of mappings with these keys; or the path of a .csv or
            .tsv whose first line names the columns (without known names the first two or three are meant), or of a
            .jsonl or .parquet of such rows. PAIR lists the names.

    Raises:
        UsageError: no such file, rows that are no pairs (the first few are named), or fewer than two.
    """
    pairs: list[Pair] = []

    def take(row: Any) -> None:
        pairs.append(_pair(row, len(pairs[0]) if pairs else 0))

    where = each_row(data, PAIR, take, "(anchor, positive) tuples")
    if len(pairs) < 2:
        raise UsageError(
            f"{where}: {len(pairs)} pairs; at least 2 are needed, since a pair's negatives are the other pairs"
        )
    return pairs


def batches(count: int, size: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Indices of batches without end: each pass in a new order, every row once, sizes equal but for one row.

    None holds a row alone: nothing is told from it, so that of an odd number of rows in twos a batch has three.
    """
    random = np.random.default_rng(seed)
    while True:
        yield from np.array_split(random.permutation(count), per_epoch(count, size))


def per_epoch(count: int, size: int) -> int:
    """Batches of at most `size`, or of three, in one pass over `count` rows."""
    return max(min(-(-count // size), count // 2), 1)


def _pair(row: Any, width: int) -> Pair:
    """A row as texts, of the same number as the rows before it (0: none yet)."""
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
