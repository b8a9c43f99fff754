"""Reads texts with labels, from memory or from a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from omnivec.errors import UsageError
from omnivec.inputs.files.rows import lines
from omnivec.inputs.items import shown
from omnivec.inputs.text.whitespace import is_blank, split_words
from omnivec.tables.bags import MARK
from omnivec.training.data import Columns, Rows, each_row
from omnivec.validation.arguments import characters

LABELLED = Columns(
    {
        "text": ("text", "sentence", "content", "document"),
        "label": ("label", "class", "category", "target"),
    },
    unnamed=2,
)


class Labelled(NamedTuple):
    """A text and its label."""

    text: str
    label: str


def read_labelled(data: Any) -> list[Labelled]:
    """Reads texts and their labels.

    Args:
        data: an iterable of (text, label) or of mappings with these keys; or the path of a .csv or .tsv whose first
            line names the columns (otherwise the first column is the text, the second the label), of a .jsonl or
            .parquet of such rows, or of plain text whose lines are "__label__x text". LABELLED lists the accepted
            names. A text with several labels gives one example per label.

    Raises:
        UsageError: the file does not exist, rows cannot be used (the first few are named), or there are fewer than two
            labels.
    """
    examples: list[Labelled] = []
    name = each_row(
        data, LABELLED, lambda row: examples.extend(_examples(row)), "(text, label) tuples", _marked
    )
    labels = {one.label for one in examples}
    if len(labels) < 2:
        raise UsageError(
            f"{name}: {len(examples)} texts of {len(labels)} labels; at least 2 labels are needed"
        )
    return examples


def _marked(path: Path) -> Rows:
    """The rows of a text file in which labels are words that begin with "__label__"."""
    for number, line in enumerate(lines(path), 1):
        words = split_words(line)
        if words:
            labels = [word.removeprefix(MARK) for word in words if word.startswith(MARK)]
            text = " ".join(word for word in words if not word.startswith(MARK))
            yield f"line {number}", [text, labels or UsageError(f"no word begins with {MARK}")]


def _examples(row: Any) -> Iterator[Labelled]:
    """One example for each label of a row.

    Raises:
        UsageError: the row is not a text and its labels.
    """
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
