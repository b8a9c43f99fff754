"""Vectors of whole documents: of trained ones by their tags, of new ones by inference (Doc2Vec).

Le and Mikolov 2014, arXiv:1405.4053. Inference trains the document's vector with fixed words, so it needs Numba.
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
    """The encoder of a table."""
    return DocumentEncoder(table)


class DocumentEncoder:
    """Vectors of texts by inference, and of tags by their rows."""

    unit = UNIT

    def __init__(self, table: Table) -> None:
        self._table = table
        self._words = table.words or Table([], np.zeros((0, table.dim), np.float32))
        self.nothing = f"none of its words is among the {len(self._words):,} of the documents"

    @cached_property
    def cutter(self) -> KeyCutter:
        """Splits texts into words."""
        # In training, rare words were dropped whole; splitting them further would give words that were not seen there.
        return KeyCutter(self._words.keys, whole=True)

    @cached_property
    def _tags(self) -> dict[str, int]:
        return {tag: row for row, tag in enumerate(self._table.keys)}

    @cached_property
    def _learned(self) -> InferenceModel:
        settings, words = self._table.settings, self._words
        if words.output is None or words.counts is None or not set(KEPT) <= settings.keys():
            raise UsageError(
                "this table does not say how it was trained, so it has vectors of its tags only: none can be inferred"
            )
        beyond = np.array(settings.get("beyond") or np.zeros(self._table.dim), np.float32)
        inputs = np.concatenate([words.vectors, beyond[None]])
        return learned_of(
            settings, words.counts, inputs, np.asarray(words.output, np.float32), self._table.dim
        )

    def vectors(self, texts: Sequence[str], threads: int = 1) -> tuple[Floats, Ints]:
        """The inferred vectors, each depending on its text and the training's seed; frequent words are subsampled."""
        rows, offsets = self.cutter.flat(texts)
        return infer(self._learned, rows.astype(np.int32), offsets, self._table.dim, threads)

    def spans(self, text: str) -> NDArray[np.int64]:
        """Start and end offsets of each known word."""
        return self.cutter.spans(text)

    def words(self, text: str) -> list[str]:
        """The known words of a text."""
        return self.cutter.words(text)

    def rows(self) -> Floats:
        """The documents' vectors."""
        return self._table.vectors

    def row(self, key: str) -> Floats | None:
        """The vector of a tag."""
        row = self._tags.get(key)
        return None if row is None else self._table.vectors[row]
