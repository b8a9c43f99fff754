"""Training pairs: rows of texts that belong together, from memory or from a file, and their order."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.inputs.items import shown
from omnivec.training import texts

Pair = tuple[str, ...]
"""(anchor, positive) or (anchor, positive, negative)."""

COLUMNS = {
    "anchor": ("anchor", "query", "question", "sentence1"),
    "positive": ("positive", "answer", "sentence2"),
    "negative": ("negative",),
}
SHOWN = 3
"""Bad rows that a message names."""

Rows = Iterator[tuple[str, Any]]
"""Where each row is, and what it holds: a sequence of texts, a mapping, or the error that it is."""


def read_pairs(data: Any) -> list[Pair]:
    """Pairs, or triples, of texts.

    Args:
        data: an iterable of (anchor, positive[, negative]) or of mappings with these keys; or the path of a .csv or
            .tsv whose first line names the columns (without known names the first two or three are meant), or of a
            .jsonl of such rows. COLUMNS lists the names.

    Raises:
        UsageError: no such file, rows that are no pairs (the first few are named), or fewer than two.
    """
    where, rows = _open(data)
    pairs: list[Pair] = []
    bad: list[str] = []
    for place, row in rows:
        try:
            pairs.append(_pair(row, len(pairs[0]) if pairs else 0))
        except UsageError as error:
            bad.append(f"{place}: {error}")
    if bad:
        more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        count = len(bad) + len(pairs)
        raise UsageError(
            f"{where}: {len(bad)} of {count} rows cannot be used ({'; '.join(bad[:SHOWN])}{more})"
        )
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


def _open(data: Any) -> tuple[str, Rows]:
    if isinstance(data, str | Path):
        path = texts.path(data)
        readers = {".csv": _table, ".tsv": _table, ".jsonl": lines_of}
        if path.suffix.lower() not in readers:
            raise UsageError(f"{str(data)!r}: pairs come from {', '.join(readers)}, or from a list of tuples")
        return str(path), readers[path.suffix.lower()](path)
    rows = texts.several(
        data, "(anchor, positive) tuples, or the path of a .csv, .tsv or .jsonl", ("anchor", "positive")
    )
    return "data", ((f"item {i}", row) for i, row in enumerate(rows))


def _table(path: Path) -> Rows:
    reader = csv.reader(
        io.StringIO(texts.read(path), newline=""),
        delimiter="\t" if path.suffix.lower() == ".tsv" else ",",
        strict=True,
    )
    header: dict[str, int] | None = None
    try:
        for row in reader:
            place = f"line {reader.line_num}"
            if not row:
                continue
            if header is None:
                header = _header(path, row)
                if header:
                    continue
            wanted = header.values() if header else range(len(row))
            yield place, [row[i] if i < len(row) else "" for i in wanted]
    except csv.Error as error:
        raise UsageError(f"{path} line {reader.line_num}: {error}") from error


def _header(path: Path, row: Sequence[str]) -> dict[str, int]:
    """Column of each role; empty where the first line names none of them and is a pair itself."""
    names = [name.strip().lower() for name in row]
    found = {role: names.index(n) for role, known in COLUMNS.items() for n in known[::-1] if n in names}
    if found and not {"anchor", "positive"} <= found.keys():
        raise UsageError(
            f"{path}: the columns {', '.join(row)} name only {', '.join(found)}; name {_roles()}"
        )
    return found


def lines_of(path: Path) -> Rows:
    """The rows of a .jsonl file and where they stand."""
    for number, line in enumerate(texts.lines(path), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                row = UsageError(f"no JSON ({error})")
            yield f"line {number}", row


def _pair(row: Any, width: int) -> Pair:
    """A row as texts, of the same number as the rows before it (0: none yet)."""
    if isinstance(row, UsageError):
        raise row
    if isinstance(row, Mapping):
        row = _values(row)
    if not isinstance(row, Sequence) or isinstance(row, str | bytes):
        raise UsageError(f"{shown(row)}, expected (anchor, positive) or (anchor, positive, negative)")
    if len(row) not in (2, 3) or len(row) != (width or len(row)):
        raise UsageError(f"{len(row)} texts, expected {width or '2 or 3'}")
    for role, text in zip(COLUMNS, row, strict=False):
        if not isinstance(text, str):
            raise UsageError(f"the {role} is {shown(text)}, expected a str")
        if not text.strip():
            raise UsageError(f"the {role} is empty")
    if len(row) == 3 and row[2] == row[1]:
        raise UsageError("the negative equals the positive")
    return tuple(row)


def _values(row: Mapping[str, Any]) -> list[Any]:
    found = {role: row[n] for role, known in COLUMNS.items() for n in known[::-1] if n in row}
    if not {"anchor", "positive"} <= found.keys():
        raise UsageError(f"the keys {', '.join(map(str, row))}, expected {_roles()}")
    return list(found.values())


def _roles() -> str:
    return " and ".join("/".join(COLUMNS[role]) for role in ("anchor", "positive"))
