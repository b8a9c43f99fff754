"""Exact search among sparse vectors: the dot product by an inverted index.

A worked example. Three rows in the form of a CSR matrix, and the inverted index of their 4 weights:

    key 2:  {7: 0.5}              indptr   0 1 3 4        index 1:  row 1 (1.0)
    key 5:  {1: 1.0, 7: 2.0}      indices  7 1 7 3        index 3:  row 2 (4.0)
    key 8:  {3: 4.0}              weights  .5 1 2 4       index 7:  row 0 (0.5), row 1 (2.0)

The query {1: 3.0, 7: 1.0} reads the lists of 1 and 7: row 0 scores 0.5, row 1 scores 3.0 + 2.0, and row 2, which shares
no index with the query, is not found.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.types import Floats, Ints, Keys

Doubles = NDArray[np.float64]


class SparseIndex:
    """An inverted index: for each index, the rows that have it and their weights.

    Scores are summed in float64 in the order of the indices, so that equal vectors have equal scores. Several threads
    may search at a time.
    """

    def __init__(self, keys: Keys, indptr: Ints, indices: Ints, weights: Floats) -> None:
        """Makes an index of the rows of a CSR matrix.

        Args:
            keys: (n,) int64, the passage of each row, ascending; a passage of several rows is found by its best.
            indptr: (n + 1,) int64; row i has the entries indptr[i] to indptr[i + 1].
            indices: (entries,) int64, not negative, ascending in each row, none twice.
            weights: (entries,) float32, finite.

        Raises:
            UsageError: the arrays do not fit together, or keys or indices are not ascending.
        """
        _check_rows(keys, indptr, indices, weights)
        self._keys = keys
        rows = np.repeat(np.arange(len(keys)), np.diff(indptr))
        order = np.argsort(indices, kind="stable")
        self._rows, self._weights = rows[order], weights[order]
        self._terms, starts = np.unique(indices[order], return_index=True)
        self._ends = np.append(starts[1:], len(indices)).astype(np.int64)
        self._starts = starts.astype(np.int64)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._keys)

    def search(self, query: tuple[Ints, Floats], k: int, allowed: Keys | None = None) -> tuple[Keys, Floats]:
        """Finds the k passages with the largest dot product, among those that share an index with the query.

        Args:
            query: indices (m,) int64, ascending, none twice, and their weights (m,) float32, finite.
            k: how many, at least 1.
            allowed: (m,) int64, the keys that may be found; None for all.

        Returns:
            keys (n,) int64 and scores (n,) float32, n at most k, best first; of equal scores the smaller key first.
        """
        if k < 1:
            raise UsageError(f"k is {k}; it must be at least 1")
        indices, weights = query
        _check_rows(np.zeros(1, np.int64), np.array([0, len(indices)]), indices, weights)
        scores, shared = np.zeros(len(self)), np.zeros(len(self), np.bool_)
        for term, weight in zip(indices.tolist(), weights.astype(np.float64).tolist(), strict=True):
            place = int(np.searchsorted(self._terms, term))
            if place < len(self._terms) and self._terms[place] == term:
                entries = slice(int(self._starts[place]), int(self._ends[place]))
                rows = self._rows[entries]  # each row once, as no index occurs twice in a row
                scores[rows] += weight * self._weights[entries].astype(np.float64)
                shared[rows] = True
        if allowed is not None:
            shared &= np.isin(self._keys, allowed)
        found = np.flatnonzero(shared)
        return _best(self._keys[found], scores[found], k)


def _best(keys: Keys, scores: Doubles, k: int) -> tuple[Keys, Floats]:
    """Returns the k best of ascending keys, each with its best score."""
    with np.errstate(over="ignore"):
        rounded = scores.astype(np.float32) + np.float32(0)  # so that nothing scores -0.0
    if len(keys) and np.any(keys[1:] == keys[:-1]):
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        keys, rounded = keys[starts], np.maximum.reduceat(rounded, starts)
    best = np.argsort(-rounded, kind="stable")[:k]
    return keys[best], rounded[best]


def _check_rows(keys: Keys, indptr: Ints, indices: Ints, weights: Floats) -> None:
    """Raises UsageError unless the arrays are the rows of a CSR matrix with ascending keys."""
    if indptr.shape != (len(keys) + 1,) or indices.shape != weights.shape or indices.ndim != 1:
        raise UsageError(
            f"{len(keys)} rows need indptr ({len(keys) + 1},), and as many indices as weights: indptr is "
            f"{indptr.shape}, indices are {indices.shape}, weights are {weights.shape}"
        )
    if indptr[0] != 0 or indptr[-1] != len(indices) or np.any(np.diff(indptr) < 0):
        raise UsageError(
            f"indptr runs from {indptr[0]} to {indptr[-1]}; it must ascend from 0 to {len(indices)}"
        )
    if np.any(keys[1:] < keys[:-1]):
        raise UsageError("keys are not ascending; sort keys and rows together")
    inside = np.ones(max(len(indices) - 1, 0), np.bool_)
    first = indptr[1:-1]  # between the last entry of a row and the first of the next nothing is compared
    inside[first[(first > 0) & (first < len(indices))] - 1] = False
    if np.any((np.diff(indices) <= 0) & inside) or np.any(indices < 0):
        raise UsageError("the indices of a row are not ascending, or one is negative or occurs twice")
    if not np.isfinite(weights).all():
        raise UsageError(f"{int((~np.isfinite(weights)).sum())} weights are NaN or infinite")
