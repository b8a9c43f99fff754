"""fastText: words as the sum of their character n-grams, so that words never seen have vectors too.

Bojanowski et al. 2017, arXiv:1607.04606. The vector of a text is the mean of its words' unit vectors, as in fastText's
own program.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UnsupportedModel
from omnivec.tables.bags import Bag, softmax
from omnivec.tables.checks import is_classifier
from omnivec.tables.keys import UNIT, KeyCutter
from omnivec.tables.pooling import pooled
from omnivec.tables.record import Table
from omnivec.tables.subwords import composed, unseen
from omnivec.types import Floats, Ints

CLAIMS = {"model_type": ["fasttext"], "modality": "text"}


def encoder(table: Table) -> FastTextEncoder:
    """The encoder of a table: by words and character n-grams, or for a classifier by all that it hashes."""
    return ClassifierEncoder(table) if is_classifier(table) else FastTextEncoder(table)


class FastTextEncoder:
    """Vectors of texts by their words: keys of the table, and others by their n-grams."""

    unit = UNIT
    nothing = "the table has no n-gram of any of its words"

    def __init__(self, table: Table) -> None:
        self._table = table

    @cached_property
    def cutter(self) -> KeyCutter:
        """Splits texts into words."""
        return KeyCutter(self._table.keys, lambda word: self._made(word) is not None)

    @cached_property
    def _composed(self) -> Floats:
        return composed(self._table)

    def vectors(self, texts: Sequence[str], threads: int = 1) -> tuple[Floats, Ints]:
        """The mean of the unit vectors of each text's words, weighted if the table has weights."""
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
        """Start and end offsets of each word that has a vector."""
        return self.cutter.spans(text)

    def words(self, text: str) -> list[str]:
        """The words of a text that have a vector."""
        return self.cutter.words(text)

    def rows(self) -> Floats:
        """The vector of each key, its n-grams included."""
        return self._composed

    def row(self, key: str) -> Floats | None:
        """The vector of a word: of a key, or made of its n-grams; None if the table has none of them."""
        row = self.cutter.rows.get(key)
        return self._made(key) if row is None else self._composed[row]

    def _made(self, word: str) -> Floats | None:
        vector = unseen(self._table, word)
        return vector if vector.any() else None


class ClassifierEncoder(FastTextEncoder):
    """Vectors of texts as a classifier computes them: the mean of the rows of words, character and word n-grams.

    Joulin et al. 2017, arXiv:1607.01759.
    """

    nothing = "no row of the table belongs to it"

    @cached_property
    def _bag(self) -> Bag:
        subwords = self._table.subwords
        words, length = list(self._table.keys), int(self._table.settings.get("word_ngrams") or 1)
        if subwords is None:
            return Bag(words, np.zeros(0, np.int32), length, bucket=1)
        buckets = (
            np.arange(len(subwords.vectors), dtype=np.int32) if subwords.buckets is None else subwords.buckets
        )
        return Bag(words, buckets, length, subwords.min_n, subwords.max_n, subwords.hashed_to)

    @cached_property
    def _inputs(self) -> Floats:
        subwords = self._table.subwords
        return (
            self._table.vectors
            if subwords is None
            else np.concatenate([self._table.vectors, subwords.vectors])
        )

    def vectors(self, texts: Sequence[str], threads: int = 1) -> tuple[Floats, Ints]:
        """The mean of each text's rows; its words are split at white space and not normalised."""
        rows = self._bag.rows(texts)
        return rows.means(self._inputs), np.diff(rows.starts)

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """The probability of each label for each text, by a softmax: (n, labels) float32.

        Raises:
            UnsupportedModel: the classifier was trained with another loss.
        """
        loss = self._table.settings.get("loss") or "softmax"
        if not self._table.settings.get("labels"):
            raise UnsupportedModel("a classifier without labels cannot predict any")
        if loss != "softmax" or self._table.output is None:
            raise UnsupportedModel(f"a classifier with the loss {loss!r}: only softmax is covered")
        return softmax(self.vectors(texts)[0], np.asarray(self._table.output, np.float32))
