"""Vectors of whole documents, known by their tags; those of new documents are inferred (Doc2Vec).

Le and Mikolov 2014, arXiv:1405.4053. Inference is training with the words left as they are, so it needs Numba.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.tables.document_inference import KEPT, InferenceModel, infer, learned_of
from omnivec.tables.keys import UNIT, KeyCutter
from omnivec.tables.record import Table
from omnivec.types import Floats, Ints

CLAIMS = {"model_type": ["doc2vec"], "modality": "text"}


def encoder(table: Table) -> DocumentEncoder:
    """By the words of the table's documents."""
    return DocumentEncoder(table)


class DocumentEncoder:
    """Texts by inference; tags by their rows."""

    unit = UNIT

    def __init__(self, table: Table) -> None:
        self._table = table
        self._words = table.words or Table([], np.zeros((0, table.dim), np.float32))
        self.nothing = f"none of its words is among the {len(self._words):,} of the documents"

    @cached_property
    def cutter(self) -> KeyCutter:
        """Text to words."""
        # Training dropped rare words whole: their parts would be words that it has not seen there.
        return KeyCutter(self._words.keys, whole=True)

    @cached_property
    def _tags(self) -> dict[str, int]:
        return {tag: row for row, tag in enumerate(self._table.keys)}

    @cached_property
    def _learned(self) -> InferenceModel:
        settings, words = self._table.settings, self._words
        if words.output is None or words.counts is None or not set(KEPT) <= settings.keys():
            raise UsageError(
                "this table does not say how it was trained: vectors of its tags alone are known"
            )
        beyond = np.array(settings.get("beyond") or np.zeros(self._table.dim), np.float32)
        inputs = np.concatenate([words.vectors, beyond[None]])
        return learned_of(
            settings, words.counts, inputs, np.asarray(words.output, np.float32), self._table.dim
        )

    def vectors(self, texts: Sequence[str], threads: int = 1) -> tuple[Floats, Ints]:
        """Each depends on its own words and the seed of the training alone; frequent words are left out at times."""
        rows, offsets = self.cutter.flat(texts)
        return infer(self._learned, rows.astype(np.int32), offsets, self._table.dim, threads)

    def spans(self, text: str) -> NDArray[np.int64]:
        """Characters of each known word."""
        return self.cutter.spans(text)

    def words(self, text: str) -> list[str]:
        """The known words."""
        return self.cutter.words(text)

    def rows(self) -> Floats:
        """The documents' vectors."""
        return self._table.vectors

    def row(self, key: str) -> Floats | None:
        """The vector of a tag."""
        row = self._tags.get(key)
        return None if row is None else self._table.vectors[row]
