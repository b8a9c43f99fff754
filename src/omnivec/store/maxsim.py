"""Exact search among passages of several parts: the sum over the query's parts of the best part of a passage (MaxSim).

A worked example by dot product, with parts of 2 components. The query has the parts (1, 0) and (0, 1).

    passage 4:  (2, 0) and (0, 3)    best for (1, 0): 2, best for (0, 1): 3    score 5
    passage 9:  (4, 0)               best for (1, 0): 4, best for (0, 1): 0    score 4

Source: Khattab and Zaharia 2020, ColBERT, arXiv:2004.12832, section 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.store.indexes.exact import is_tame
from omnivec.types import Floats, Keys, Metric

_SCORES_AT_ONCE = 1 << 21
"""Most scores of pairs of parts in memory at a time: 8 MB of float32."""

_NUMBERS_AT_ONCE = 1 << 20
"""Most components of parts that are scored in float64 at a time: 8 MB."""

_METRICS = ("cosine", "dot")

Doubles = NDArray[np.float64]
Rows = NDArray[np.int64]


class MaxSimIndex:
    """The parts of all passages in one matrix, compared exactly with all parts of a query.

    A float32 product ranks all passages; those that could be among the k best, given its rounding error, are scored
    again in float64. So passages with equal parts have equal scores, in whatever rows they are. By cosine, a part of
    zeros scores 0. Several threads may search at a time.
    """

    def __init__(self, dim: int, metric: Metric, keys: Keys, parts: Floats) -> None:
        """Makes an index of existing vectors, which are not copied.

        Args:
            dim: length of a vector.
            metric: by which two parts are compared: "cosine" or "dot".
            keys: (n,) int64, the passage of each part, ascending.
            parts: (n, dim) float32, finite; may be a read-only memory map.

        Raises:
            UsageError: another metric, wrong shapes, or keys that are not ascending.
        """
        if metric not in _METRICS:
            raise UsageError(
                f"metric={metric!r}: passages of several parts are compared by {' or '.join(_METRICS)}"
            )
        if parts.shape != (len(keys), dim):
            raise UsageError(f"parts are {parts.shape}; {len(keys)} keys need ({len(keys)}, {dim})")
        if np.any(keys[1:] < keys[:-1]):
            raise UsageError("keys are not ascending; sort keys and parts together")
        self.dim = dim
        self.metric: Metric = metric
        self._matrix = parts
        self._starts = _starts(keys)
        self._ends = np.append(self._starts[1:], len(keys))
        self._keys = keys[self._starts]

    def __len__(self) -> int:
        """The number of passages."""
        return len(self._keys)

    def search(self, query: Floats, k: int, allowed: Keys | None = None) -> tuple[Keys, Floats]:
        """Finds the k best passages for one query.

        Args:
            query: (parts, dim) float32, finite; without parts, every passage scores 0.
            k: how many, at least 1.
            allowed: (m,) int64, the keys that may be found; None for all.

        Returns:
            keys (n,) int64 and scores (n,) float32, n at most k, best first; of equal scores the smaller key first.
        """
        if k < 1:
            raise UsageError(f"k is {k}; it must be at least 1")
        query = np.ascontiguousarray(query, np.float32)
        if query.ndim != 2 or query.shape[1] != self.dim:
            raise UsageError(f"the query is {query.shape}; this index takes (parts, {self.dim})")
        if not np.isfinite(query).all():
            raise UsageError(
                f"the query has {int((~np.isfinite(query)).sum())} numbers that are NaN or infinite"
            )
        passages = np.arange(len(self))
        if allowed is not None:
            passages = np.flatnonzero(np.isin(self._keys, allowed))
        if not len(passages):
            return self._keys[:0], np.zeros(0, np.float32)
        exact = query.astype(np.float64)
        if self.metric == "cosine":
            exact = _units(exact)
        near = self._candidates(exact, passages, k) if len(passages) > k else passages
        scores = np.concatenate([self._scored(exact, one) for one in self._blocks(near, len(query))])
        best = np.argsort(-scores, kind="stable")[:k]  # `near` is in the order of the keys
        return self._keys[near[best]], scores[best]

    def _candidates(self, query: Doubles, passages: Rows, k: int) -> Rows:
        """Returns the passages that may be among the k best, by float32 products and a bound of their error.

        The error of a product of vectors is at most n u / (1 - n u) |q||x|, u = 2^-24 (Higham, Accuracy and Stability
        of Numerical Algorithms, 2nd ed., section 3.1); the best part of a passage is off by no more, and the sum by the
        sum of the errors. A few u more cover the other steps.
        """
        single = query.astype(np.float32)
        scores, largest = np.empty(len(passages)), 0.0
        done = 0
        for block in self._blocks(passages, len(query)):
            rows, starts = self._rows(block)
            parts = self._matrix[rows]
            norms = np.sqrt(np.einsum("ij,ij->i", parts, parts, dtype=np.float64))
            with np.errstate(over="ignore", invalid="ignore"):
                if self.metric == "cosine":
                    parts = (parts / np.where(norms > 0, norms, 1)[:, None]).astype(np.float32)
                best = np.maximum.reduceat(single @ parts.T, starts, axis=1)
            scores[done : done + len(block)] = best.sum(axis=0, dtype=np.float64)
            largest = max(largest, float(norms.max()))
            done += len(block)
        sizes = np.sqrt((query**2).sum(axis=1))
        if self.metric == "cosine":
            largest = 1.0
        slack = (self.dim + 16) * 2.0**-24 * 1.01 * float(sizes.sum()) * largest
        if not is_tame(np.array([sizes.max(initial=0.0), largest])) or not np.isfinite(scores).all():
            return passages
        floor = np.partition(scores, len(scores) - k)[len(scores) - k]
        # The scores are rounded to float32 before they are compared, so neighbours of the floor may tie with it.
        near: Rows = passages[scores >= floor - 2 * slack - abs(floor) * 2.0**-22]
        return near

    def _scored(self, query: Doubles, passages: Rows) -> Floats:
        """Scores passages in float64; the sums of each pair of parts do not depend on their neighbours."""
        rows, starts = self._rows(passages)
        total = np.zeros(len(passages))
        pieces = [rows[i : i + self._at_once] for i in range(0, len(rows), self._at_once)]
        for part in query:
            products = np.concatenate([(self._exactly(piece) * part).sum(axis=1) for piece in pieces])
            total += np.maximum.reduceat(products, starts)
        with np.errstate(over="ignore"):
            rounded: Floats = total.astype(np.float32)
        return rounded + np.float32(0)  # so that nothing scores -0.0

    @property
    def _at_once(self) -> int:
        return max(1, _NUMBERS_AT_ONCE // max(1, self.dim))

    def _exactly(self, rows: Rows) -> Doubles:
        parts = self._matrix[rows].astype(np.float64)
        return _units(parts) if self.metric == "cosine" else parts

    def _rows(self, passages: Rows) -> tuple[Rows, Rows]:
        """Returns the rows of some passages, and at which of them each passage begins."""
        first, counts = self._starts[passages], self._ends[passages] - self._starts[passages]
        ends = np.cumsum(counts)
        rows: Rows = np.repeat(first - ends + counts, counts) + np.arange(ends[-1])
        return rows, ends - counts

    def _blocks(self, passages: Rows, parts: int) -> Iterator[Rows]:
        """Splits passages into blocks whose products with a query of some parts fit in memory; at least one in each."""
        most = min(_SCORES_AT_ONCE // max(1, parts), self._at_once)
        ends = np.cumsum(self._ends[passages] - self._starts[passages])
        start = before = 0
        while start < len(passages):
            stop = max(start + 1, int(np.searchsorted(ends, before + most, "right")))
            yield passages[start:stop]
            start, before = stop, int(ends[stop - 1])


def _starts(keys: Keys) -> Rows:
    """Returns the first row of each key."""
    return np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1)) if len(keys) else np.zeros(0, np.int64)


def _units(vectors: Doubles) -> Doubles:
    """Scales vectors (n, dim) to length 1; those of zeros stay zeros."""
    norms = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    units: Doubles = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return units
