"""Where the words of a benchmark stand in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from omnivec.inputs.items import texts
from omnivec.types import Ints
from omnivec.validation.arguments import whole


@dataclass(frozen=True, eq=False)
class KeyRows:
    """The first keys of a table by their spelling.

    Attributes:
        rows: spelling -> row; of keys that are spelled alike the first.
        spelling: (n,) a number for each row, equal for keys that are spelled alike.
        any_case: whether capitals count.
    """

    rows: Mapping[str, int]
    spelling: Ints
    any_case: bool

    def find(self, words: Sequence[str]) -> list[int] | None:
        """The rows of all words; None where one is unknown."""
        rows = [self.rows.get(word.upper() if self.any_case else word, -1) for word in words]
        return None if -1 in rows else rows


def look_up(keys: Sequence[str], first: int, any_case: bool) -> KeyRows:
    """The first so many keys of a table, whose keys stand in the order of their frequency."""
    keys, first = texts(keys, "keys"), whole("first", first)
    rows: dict[str, int] = {}
    spelled = [key.upper() for key in keys[:first]] if any_case else keys[:first]
    spelling = np.array([rows.setdefault(key, row) for row, key in enumerate(spelled)], np.int64)
    return KeyRows(rows, spelling, any_case)
