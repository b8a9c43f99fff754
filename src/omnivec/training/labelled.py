"""Texts with labels, from memory or from a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from omnivec.errors import UsageError
from omnivec.inputs.items import shown
from omnivec.inputs.text.whitespace import is_blank, split_words
from omnivec.tables.bags import MARK
from omnivec.training import texts
from omnivec.training.data import SHOWN, Rows, lines_of
from omnivec.validation.arguments import characters

COLUMNS = {
    "text": ("text", "sentence", "content", "document"),
    "label": ("label", "class", "category", "target"),
}


class Labelled(NamedTuple):
    """A text and what it is."""

    text: str
    label: str


def read_labelled(data: Any) -> list[Labelled]:
    """Texts and their labels.

    Args:
        data: an iterable of (text, label) or of mappings with these keys; or the path of a .csv or .tsv whose first
            line names the columns (without known names the first is the text, the second the label), of a .jsonl of
            such rows, or of plain text whose lines are "__label__x text". COLUMNS lists the names. A text with
            several labels is one example of each.

    Raises:
        UsageError: no such file, rows that cannot be used (the first few are named), or fewer than two labels.
    """
    where, rows = _open(data)
    found: list[Labelled] = []
    bad: list[str] = []
    seen = 0
    for place, row in rows:
        seen += 1
        try:
            found += _examples(row)
        except UsageError as error:
            bad.append(f"{place}: {error}")
    if bad:
        more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise UsageError(
            f"{where}: {len(bad)} of {seen} rows cannot be used ({'; '.join(bad[:SHOWN])}{more})"
        )
    labels = {one.label for one in found}
    if len(labels) < 2:
        raise UsageError(f"{where}: {len(found)} texts of {len(labels)} labels; at least 2 labels are needed")
    return found


def _open(data: Any) -> tuple[str, Rows]:
    if isinstance(data, str | Path):
        path = texts.path(data)
        readers = {".csv": _table, ".tsv": _table, ".jsonl": lines_of}
        return str(path), readers.get(path.suffix.lower(), _marked)(path)
    rows = texts.several(
        data,
        f"(text, label) tuples, or the path of a .csv, .tsv, .jsonl or of lines that begin with {MARK}",
        ("text", "label"),
    )
    return "data", ((f"item {i}", row) for i, row in enumerate(rows))


def _marked(path: Path) -> Rows:
    for number, line in enumerate(texts.lines(path), 1):
        found = split_words(line)
        if found:
            labels = [word.removeprefix(MARK) for word in found if word.startswith(MARK)]
            text = " ".join(word for word in found if not word.startswith(MARK))
            yield f"line {number}", [text, labels or UsageError(f"no word begins with {MARK}")]


def _table(path: Path) -> Rows:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(io.StringIO(texts.read(path), newline=""), delimiter=delimiter, strict=True)
    columns: Sequence[int] | None = None
    try:
        for row in filter(None, reader):
            if columns is None:
                names = [name.strip().lower() for name in row]
                named = [
                    next((names.index(n) for n in known if n in names), -1) for known in COLUMNS.values()
                ]
                if named.count(-1) == 1:
                    lacking = COLUMNS[list(COLUMNS)[named.index(-1)]]
                    raise UsageError(
                        f"{path}: the columns {', '.join(row)}: one named {'/'.join(lacking)} is missing"
                    )
                columns = (0, 1) if -1 in named else named
                if -1 not in named:
                    continue
            yield f"line {reader.line_num}", [row[i] if i < len(row) else "" for i in columns]
    except csv.Error as error:
        raise UsageError(f"{path} line {reader.line_num}: {error}") from error


def _examples(row: Any) -> Iterator[Labelled]:
    """One for each label of a row."""
    if isinstance(row, UsageError):
        raise row
    if isinstance(row, Mapping):
        row = [next((row[n] for n in known if n in row), None) for known in COLUMNS.values()]
    if not isinstance(row, Sequence) or isinstance(row, str | bytes) or len(row) != 2:
        raise UsageError(f"{shown(row)}, expected (text, label)")
    text, labels = row
    if isinstance(labels, UsageError):
        raise labels
    if not isinstance(text, str) or is_blank(text):
        raise UsageError(f"the text is {'empty' if isinstance(text, str) else shown(text)}")
    labels = labels if isinstance(labels, list | tuple) else [labels]
    if not labels:
        raise UsageError("it has no label")
    for label in labels:
        if not isinstance(label, str | int | np.integer):
            raise UsageError(f"the label is {shown(label)}, expected a str or an int")
        if is_blank(characters(label)):
            raise UsageError("the label is empty")
        yield Labelled(text, characters(label).strip())
