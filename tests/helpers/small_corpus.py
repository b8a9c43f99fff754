"""Sentences of two kinds, whose words stand near each other and never near those of the other kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ANIMALS = ["horse", "horses", "cow", "cows", "sheep", "goat", "goats", "pony", "foal"]
COLOURS = ["red", "reddish", "blue", "bluish", "green", "yellow", "brown", "brownish", "grey"]


def sentences(count: int = 400, length: int = 8, seed: int = 0) -> list[list[str]]:
    random = np.random.default_rng(seed)
    return [list(random.choice((ANIMALS, COLOURS)[i % 2], length)) for i in range(count)]


def together(vectors: NDArray[np.floating], words: Sequence[str]) -> tuple[float, float]:
    """Mean cosine within the two kinds, and between them."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    kind = np.array([word in ANIMALS for word in words])
    cosines, same = unit @ unit.T, kind[:, None] == kind
    return cosines[same & ~np.eye(len(words), dtype=bool)].mean(), cosines[~same].mean()
