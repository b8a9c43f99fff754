"""The rows of a benchmark's words in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from omnivec.inputs.items import texts
from omnivec.types import Ints
from omnivec.validation.arguments import whole


@dataclass(frozen=True, eq=False)
class KeyRows:
    """The rows of a table's first keys by their spelling.

    Attributes:
        rows: spelling -> row; the first row of keys with the same spelling.
        spelling: (n,) a number for each row, equal for keys with the same spelling.
        any_case: whether spellings that differ in case count as the same.
    """

    rows: Mapping[str, int]
    spelling: Ints
    any_case: bool

    def find(self, words: Sequence[str]) -> list[int] | None:
        """The rows of the words; None if one of them is unknown."""
        rows = [self.rows.get(word.upper() if self.any_case else word, -1) for word in words]
        return None if -1 in rows else rows


def look_up(keys: Sequence[str], first: int, any_case: bool) -> KeyRows:
    """The rows of the `first` most frequent keys of a table whose keys are sorted by frequency."""
    keys, first = texts(keys, "keys"), whole("first", first)
    rows: dict[str, int] = {}
    spelled = [key.upper() for key in keys[:first]] if any_case else keys[:first]
    spelling = np.array([rows.setdefault(key, row) for row, key in enumerate(spelled)], np.int64)
    return KeyRows(rows, spelling, any_case)
