"""A vector index that is approximate on purpose: it forgets some vectors, and proposes the others out of order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from omnivec.store.indexes.exact import ExactIndex
from omnivec.types import Floats, Keys, Metric


class Forgetting:
    """Forgets one vector in twenty; its candidates come shuffled, with scores that are far off."""

    exact = False
    share = 0.05

    def __init__(
        self, dim: int, metric: Metric, keys: Keys | None = None, vectors: Floats | None = None
    ) -> None:
        self.dim, self.metric = dim, metric
        self.built = 0 if keys is None else len(keys)
        self.searches: list[int] = []
        self._all, self._remembered = ExactIndex(dim, metric), ExactIndex(dim, metric)
        if keys is not None and vectors is not None and len(keys):
            self.add(keys, vectors)

    def __len__(self) -> int:
        return len(self._all)

    def forgets(self, keys: Keys) -> NDArray[np.bool_]:
        """Which of some keys it forgets: decided by the key, so that a test can foretell it."""
        return np.random.default_rng(3).random(100_000)[keys] < self.share

    def add(self, keys: Keys, vectors: Floats) -> None:
        self._all.add(keys, vectors)
        self._remembered.remove(keys)
        kept = ~self.forgets(keys)
        self._remembered.add(keys[kept], vectors[kept])

    def remove(self, keys: Keys) -> None:
        self._all.remove(keys)
        self._remembered.remove(keys)

    def search(self, queries: Floats, k: int, allowed: Keys | None = None) -> tuple[Keys, Floats]:
        self.searches.append(k)
        keys, scores = self._remembered.search(queries, k, allowed)
        for row, own in zip(keys, scores, strict=True):
            there = int((row >= 0).sum())
            row[:there] = np.random.default_rng(k).permutation(row[:there])
            own[:there] = np.linspace(1e6, 0, there)
        return keys, scores


INDEX = Forgetting
