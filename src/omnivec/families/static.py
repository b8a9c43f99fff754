"""Tables of word or token vectors (Word2Vec, GloVe, model2vec); a text is their mean.

Mikolov et al. 2013, arXiv:1301.3781 and arXiv:1310.4546; Pennington et al. 2014, "GloVe: Global Vectors for Word
Representation"; smooth inverse frequency: Arora et al. 2017, "A Simple but Tough-to-Beat Baseline for Sentence
Embeddings", section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from omnivec.inputs.text.tokenizer import Tokenizer, tokenizer_of
from omnivec.tables.fast_tokens import FastTokenizer
from omnivec.tables.keys import UNIT, KeyCutter
from omnivec.tables.pooling import pooled
from omnivec.tables.record import Table
from omnivec.types import Floats, Ints

CLAIMS = {"model_type": ["static", "model2vec"], "modality": "text"}


def encoder(table: Table) -> StaticEncoder | TokenEncoder:
    """The encoder of a table: by its tokenizer if it has one, else by its keys as words."""
    return StaticEncoder(table) if table.tokenizer is None else TokenEncoder(table)


class StaticEncoder:
    """Vectors of texts by those words that are keys of a table."""

    unit = UNIT

    def __init__(self, table: Table) -> None:
        self._table = table
        self.nothing = f"none of its words is among the table's {len(table):,}"

    @cached_property
    def cutter(self) -> KeyCutter:
        """Splits texts into words."""
        return KeyCutter(self._table.keys)

    def vectors(self, texts: Sequence[str], threads: int = 1) -> tuple[Floats, Ints]:
        """The mean of the vectors of each text's words, weighted if the table has weights."""
        rows, offsets = self.cutter.flat(texts)
        table, weights = self._table.vectors, self._table.weights
        means = pooled(table, rows.astype(np.int32), offsets, weights=weights, threads=threads)
        return means, np.diff(offsets)

    def spans(self, text: str) -> NDArray[np.int64]:
        """Start and end offsets of each known word."""
        return self.cutter.spans(text)

    def words(self, text: str) -> list[str]:
        """The known words of a text."""
        return self.cutter.words(text)

    def rows(self) -> Floats:
        """The vector of each key."""
        return self._table.vectors

    def row(self, key: str) -> Floats | None:
        """The vector of a key; None if the table does not have it."""
        row = self.cutter.rows.get(key)
        return None if row is None else self._table.vectors[row]


class TokenEncoder:
    """Vectors of texts by the tokens of a tokenizer whose ids are the table's rows; unknown tokens are left out."""

    unit = "tokens"
    nothing = "it has no token that the table knows"

    def __init__(self, table: Table) -> None:
        self._table = table

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The published tokenizer."""
        return tokenizer_of(
            self._table.tokenizer or b"", self._table.settings.get("drop_unknown") is not False
        )

    @cached_property
    def _fast(self) -> FastTokenizer:
        return FastTokenizer(self.tokenizer)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self._table.keys)}

    def vectors(self, texts: Sequence[str], threads: int = 1) -> tuple[Floats, Ints]:
        """The mean of the vectors of each text's tokens, weighted if the table has weights."""
        flat = self._fast.flat_ids(texts, special=False, threads=threads)
        table, weights = self._table.vectors, self._table.weights
        means = pooled(table, flat.ids, flat.offsets, weights=weights, threads=threads)
        return means, np.diff(flat.offsets)

    def spans(self, text: str) -> NDArray[np.int64]:
        """Start and end offsets of each token."""
        return self.tokenizer.spans(text)

    def words(self, text: str) -> list[str]:
        """The tokens of a text."""
        [ids] = self.tokenizer.ids([text], special=False)
        return [self._table.keys[i] for i in ids.tolist()]

    def rows(self) -> Floats:
        """The vector of each key."""
        return self._table.vectors

    def row(self, key: str) -> Floats | None:
        """The vector of a token; None if the table does not have it."""
        row = self._places.get(key)
        return None if row is None else self._table.vectors[row]
