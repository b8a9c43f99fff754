"""Toy models of texts without files: the mean of a vector for each word, up to a number of words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kinds_of_model import Toy, word_vector, words_of
from omnivec.inputs.preparer import ReadOptions
from omnivec.models.batching import BatchOptions
from omnivec.models.embedder import Embedder
from omnivec.models.facts import Card
from omnivec.types import Encoded, Floats, Space
from omnivec.vectors.alignment import Projection


def text_vector(text: str, salt: str, dim: int) -> Floats:
    """The vector (dim,) of length 1 that the toy of a salt gives for a text."""
    words = [np.resize(word_vector(f"{salt} {word}"), dim) for word in words_of(text)]
    mean = np.mean(words, axis=0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


class ToyTexts(Toy):
    """Embeds texts of at most `limit` words; longer ones are cut off.

    Attributes:
        embedded: all texts that it was given, canaries among them.
        refused: texts that fail.
    """

    def __init__(self, salt: str, limit: int, dim: int, modalities: tuple[str, ...]) -> None:
        super().__init__("multi", "cosine", salt)
        space = Space(dim, "cosine", modalities)
        self.card = Card(Path(), "toy texts", space, limit, {}, None, False, 0, stored=False)
        self.identity = {
            "family": "toy texts",
            "dim": dim,
            "metric": "cosine",
            "weights": {"float32": salt},
            "preprocessing": {"limit": limit},
        }
        self.salt, self.limit, self.dim = salt, limit, dim
        self.embedded: list[str] = []
        self.refused: set[str] = set()

    def run(
        self,
        items: Sequence[Any],
        reading: ReadOptions,
        plan: BatchOptions,
        projection: Projection | None = None,
    ) -> Encoded:
        kept = [i for i, text in enumerate(items) if words_of(text) and text not in self.refused]
        self.embedded += [items[i] for i in kept]
        counts = [len(words_of(items[i])) for i in kept]
        read = [" ".join(words_of(items[i])[: self.limit]) for i in kept]
        vectors = [text_vector(text, self.salt, self.dim) for text in read]
        return Encoded(
            np.stack(vectors) if vectors else np.zeros((0, self.dim), np.float32),
            np.array(kept, np.int64),
            {i: "it cannot be read" for i in range(len(items)) if i not in kept},
            np.array([min(count, self.limit) for count in counts], np.int64),
            np.array([max(0, count - self.limit) for count in counts], np.int64),
        )


def toy_texts(
    salt: str, limit: int = 1000, dim: int = 16, modalities: tuple[str, ...] = ("text",)
) -> Embedder:
    """An embedder of texts; another salt is another model."""
    return Embedder(ToyTexts(salt, limit, dim, modalities), f"toy-{salt}", "made here")


def encoder_of(model: Embedder) -> ToyTexts:
    """The encoder of such an embedder."""
    encoder = model.encoder
    assert isinstance(encoder, ToyTexts)
    return encoder


def embedded(model: Embedder) -> list[str]:
    """The texts that a toy was given, canaries among them."""
    return encoder_of(model).embedded
