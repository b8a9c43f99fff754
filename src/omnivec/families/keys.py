"""Tables of names: nodes of a graph, products, users; a key is a whole name and no text.

The items are of type `Key`. A str is a text, for which such a table has no vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from omnivec.tables.record import Table
from omnivec.types import Floats, Ints

CLAIMS = {"model_type": ["keys"], "modality": "key"}


def encoder(table: Table) -> KeyEncoder:
    """The encoder of a table, which looks up whole keys."""
    return KeyEncoder(table)


class KeyEncoder:
    """Looks up the rows of a table by their names."""

    unit = "keys"
    nothing = "it is not a key of the table"

    def __init__(self, table: Table) -> None:
        self._table = table

    @cached_property
    def _places(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self._table.keys)}

    def vectors(self, texts: Sequence[str], threads: int = 1) -> tuple[Floats, Ints]:
        """The row of each name and 1, or zeros and 0 for a name that is not a key."""
        places = np.array([self._places.get(one, -1) for one in texts], np.int64)
        vectors = np.zeros((len(texts), self._table.dim), np.float32)
        vectors[places >= 0] = self._table.vectors[places[places >= 0]]
        return vectors, (places >= 0).astype(np.int64)

    def spans(self, text: str) -> NDArray[np.int64]:
        """Start and end offsets of the whole name if it is a key."""
        return np.array([[0, len(text)]] if text in self._places else [], np.int64).reshape(-1, 2)

    def words(self, text: str) -> list[str]:
        """The name itself if it is a key."""
        return [text] if text in self._places else []

    def rows(self) -> Floats:
        """The vector of each key."""
        return self._table.vectors

    def row(self, key: str) -> Floats | None:
        """The vector of a key; None if the table does not have it."""
        row = self._places.get(key)
        return None if row is None else self._table.vectors[row]
