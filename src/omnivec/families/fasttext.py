"""fastText: words as the sum of their character n-grams, so that words never seen have vectors too.

Bojanowski et al. 2017, arXiv:1607.04606; a text is the mean of its words' vectors at length 1, as fastText's own
program has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from omnivec.media.keys import UNIT, KeyCutter
from omnivec.media.pooling import pooled
from omnivec.types import Floats, Keys
from omnivec.weights.tables.record import Table
from omnivec.weights.tables.subwords import composed, unseen

CLAIMS = {"model_type": ["fasttext"], "modality": "text"}


def encoder(table: Table) -> FastTextEncoder:
    """By the table's keys, and by n-grams for all other words."""
    return FastTextEncoder(table)


class FastTextEncoder:
    """Texts by their words, known or not."""

    unit = UNIT
    nothing = "it has no word that the table has an n-gram of"

    def __init__(self, table: Table) -> None:
        self._table = table

    @cached_property
    def cutter(self) -> KeyCutter:
        """Text to words."""
        return KeyCutter(self._table.keys, lambda word: self._made(word) is not None)

    @cached_property
    def _composed(self) -> Floats:
        return composed(self._table)

    def vectors(self, texts: Sequence[str], threads: int = 1) -> tuple[Floats, Keys]:
        """The mean of each text's words at length 1, weighted where the table has weights for them."""
        listed = [self.cutter.words(text) for text in texts]
        offsets = np.concatenate([[0], np.cumsum([len(words) for words in listed])]).astype(np.int64)
        places = {word: i for i, word in enumerate(dict.fromkeys(word for words in listed for word in words))}
        rows = np.zeros((len(places), self._table.dim), np.float32)
        weights = np.ones(len(places), np.float32)
        for word, place in places.items():
            vector = self.row(word)
            if vector is not None:
                rows[place] = vector / max(float(np.linalg.norm(vector)), 1e-12)
            row = self.cutter.rows.get(word)
            if self._table.weights is not None and row is not None:
                weights[place] = self._table.weights[row]
        ids = np.array([places[word] for words in listed for word in words], np.int32)
        weighted = None if self._table.weights is None else weights
        return pooled(rows, ids, offsets, weights=weighted, threads=threads), np.diff(offsets)

    def spans(self, text: str) -> NDArray[np.int64]:
        """Characters of each word that has a vector."""
        return self.cutter.spans(text)

    def words(self, text: str) -> list[str]:
        """The words that have a vector."""
        return self.cutter.words(text)

    def rows(self) -> Floats:
        """The vector of each key, its n-grams included."""
        return self._composed

    def row(self, key: str) -> Floats | None:
        """The vector of a word, known or made of its n-grams."""
        row = self.cutter.rows.get(key)
        return self._made(key) if row is None else self._composed[row]

    def _made(self, word: str) -> Floats | None:
        vector = unseen(self._table, word)
        return vector if vector.any() else None
