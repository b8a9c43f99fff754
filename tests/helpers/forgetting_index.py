"""A vector index that is approximate on purpose: it forgets some vectors, and proposes the others out of order."""

from __future__ import annotations

import numpy as np

from omnivec.store.indexes.exact import ExactIndex


class Forgetting:
    """Forgets one vector in twenty; its candidates come shuffled, with scores that are far off."""

    exact = False
    share = 0.05

    def __init__(self, dim, metric, keys=None, vectors=None):
        self.dim, self.metric = dim, metric
        self.built, self.searches = 0 if keys is None else len(keys), []
        self._all, self._remembered = ExactIndex(dim, metric), ExactIndex(dim, metric)
        if keys is not None and len(keys):
            self.add(keys, vectors)

    def __len__(self):
        return len(self._all)

    def forgets(self, keys):
        """Which of some keys it forgets: decided by the key, so that a test can foretell it."""
        return np.random.default_rng(3).random(100_000)[keys] < self.share

    def add(self, keys, vectors):
        self._all.add(keys, vectors)
        self._remembered.remove(keys)
        kept = ~self.forgets(keys)
        self._remembered.add(keys[kept], vectors[kept])

    def remove(self, keys):
        self._all.remove(keys)
        self._remembered.remove(keys)

    def search(self, queries, k, allowed=None):
        self.searches.append(k)
        keys, scores = self._remembered.search(queries, k, allowed)
        for row, own in zip(keys, scores, strict=True):
            there = int((row >= 0).sum())
            row[:there] = np.random.default_rng(k).permutation(row[:there])
            own[:there] = np.linspace(1e6, 0, there)
        return keys, scores


INDEX = Forgetting
