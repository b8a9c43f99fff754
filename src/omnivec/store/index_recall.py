"""Recall of an approximate index: how many of the nearest neighbours of some vectors it finds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from omnivec.types import Floats, Keys, Metric

NEAREST = 10
"""Recall is measured among so many nearest neighbours."""
_HELD = 64
"""Neighbours of each query that are remembered, so that ties for the tenth place are seen."""
_ROWS_AT_ONCE = 1 << 12
_QUERIES_AT_ONCE = 64


class Truth:
    """The exact nearest neighbours of some vectors of a space, gathered while the space is read in blocks.

    A vector is no neighbour of itself, nor of others with its key.
    """

    def __init__(self, keys: Keys, vectors: Floats, metric: Metric) -> None:
        """Begins with no neighbours.

        Args:
            keys: (q,) int64, of the vectors that are searched for.
            vectors: (q, dim) float32.
            metric: by which vectors are compared.
        """
        self.keys, self.vectors, self._metric = keys, vectors, metric
        self._queries = self._directed(vectors)
        self._found = np.full((len(keys), _HELD), -1, np.int64)
        self._scores = np.full((len(keys), _HELD), -np.inf, np.float32)

    def see(self, keys: Keys, vectors: Floats) -> None:
        """Compares a block of the space, keys (n,) and vectors (n, dim), with all queries."""
        for start in range(0, len(keys), _ROWS_AT_ONCE):
            self._merge(keys[start : start + _ROWS_AT_ONCE], vectors[start : start + _ROWS_AT_ONCE])

    def recall(self, found: Keys) -> float:
        """The share of the ten nearest keys that were found, on average over the queries.

        A key that ties with the tenth counts as well as the tenth. Queries with more ties than are remembered do not
        count.

        Args:
            found: (q, m) keys found for each query, in any order; -1 for none. The query's own key is ignored.

        Returns:
            From 0 to 1; 1 if no query counts.
        """
        right, counts = self._right()
        if not counts.any():
            return 1.0
        hits = np.zeros(len(counts), np.int64)
        for i in range(0, len(counts), _QUERIES_AT_ONCE):
            some = slice(i, i + _QUERIES_AT_ONCE)
            hits[some] = (right[some, :, None] == found[some, None, :]).any(axis=2).sum(axis=1)
        counted = counts > 0
        return float(np.mean(np.minimum(hits, counts)[counted] / counts[counted]))

    def _right(self) -> tuple[Keys, Keys]:
        """For each query the keys that count, padded with -2, and how many are wanted: 0 if it does not count."""
        right = np.full(self._found.shape, -2, np.int64)
        counts = np.zeros(len(self.keys), np.int64)
        for i, (keys, scores) in enumerate(zip(self._found, self._scores, strict=True)):
            nearest, first = np.unique(keys[keys >= 0], return_index=True)
            if not len(nearest):
                continue
            best = scores[first]  # the first of a key is its best, as scores descend
            wanted = min(NEAREST, len(nearest))
            floor = np.partition(best, len(best) - wanted)[len(best) - wanted]
            if keys[-1] >= 0 and scores[-1] >= floor:
                continue
            chosen = nearest[best >= floor]
            right[i, : len(chosen)], counts[i] = chosen, wanted
        return right, counts

    def _directed(self, vectors: Floats) -> Floats:
        """Vectors of norm 1 for cosine."""
        if self._metric != "cosine":
            return vectors
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)[:, None]
        directed: Floats = np.divide(
            vectors, norms, out=np.zeros_like(vectors), where=norms > 0, casting="unsafe"
        )
        return directed

    def _merge(self, keys: Keys, vectors: Floats) -> None:
        block = self._directed(vectors)
        with np.errstate(over="ignore", invalid="ignore"):
            scores: NDArray[np.float32] = self._queries @ block.T
            if self._metric == "euclidean":
                scores -= np.einsum("ij,ij->i", block, block) / 2
        scores[~np.isfinite(scores) | (keys == self.keys[:, None])] = -np.inf
        most = min(_HELD, len(keys))
        near = np.argpartition(-scores, most - 1, axis=1)[:, :most] if most < len(keys) else None
        if near is not None:
            scores, keys = np.take_along_axis(scores, near, 1), keys[near]
        else:
            keys = np.broadcast_to(keys, scores.shape)
        keys = np.where(np.isneginf(scores), -1, keys)
        merged, merged_scores = np.hstack([self._found, keys]), np.hstack([self._scores, scores])
        order = np.argsort(-merged_scores, axis=1, kind="stable")[:, :_HELD]
        self._found = np.take_along_axis(merged, order, 1)
        self._scores = np.take_along_axis(merged_scores, order, 1)
