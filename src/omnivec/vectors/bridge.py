"""A linear map between the vectors that two models make of the same items, to search those of one by the other.

While a collection is embedded again by another model, queries of the new model can be mapped into the old vectors, for
instance if the old model is not there any more. How well that works depends on the two models, so it is measured:
`recall` of the neighbours by the target's own vectors, on pairs that were held out.

Example: 2,000 passages have vectors by both models.

    bridge = Bridge(random_state=0).fit(new, old)      # new (2000, 384), old (2000, 256)
    bridge.recall_                                     # such as 0.73: of 10 true neighbours, 7.3 are found on average
    bridge.transform(queries)                          # (q, 384) -> (q, 256), to be compared by cosine
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.types import Floats
from omnivec.vectors.unit import unit

Method = Literal["ridge", "procrustes"]
Doubles = NDArray[np.float64]

STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Strengths of the ridge that are tried: what is added to a covariance, as a share of its mean eigenvalue."""

HELD_OUT = 0.2
"""Share of the pairs on which the maps are compared."""

LEAST = 50
"""Fewest pairs that a map is fitted to."""

NEIGHBOURS = 10
"""Number of neighbours of the recall."""

ENOUGH = 0.7
"""Recall from which on a map will do for a time. With 2,000 pairs, such maps find at most 5 points fewer questions of
the same intent in BANKING77 than the model itself whose vectors are searched (benchmarks/results/bridge.csv)."""


_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Map:
    """An affine map x -> (unit(x) - before) @ weight + after.

    Attributes:
        weight: (in, out) float64.
        before: (in,) float64, the mean of the source.
        after: (out,) float64, the mean of the target.
    """

    weight: Doubles
    before: Doubles
    after: Doubles

    def __call__(self, vectors: Floats) -> Floats:
        """Maps vectors (n, in) to (n, out) float32 of length 1."""
        mapped = (unit(np.asarray(vectors, np.float64)) - self.before) @ self.weight + self.after
        return unit(mapped).astype(np.float32)


class Bridge:
    """Maps vectors of one model into the space of another, by ridge regression or by an orthogonal map.

    What is better on held-out pairs is fitted to all pairs in the end.

    Args:
        held_out: share of the pairs that are held out.
        random_state: seed of the split.

    Attributes:
        method_: "ridge" or "procrustes".
        strength_: strength of the ridge; 0 for "procrustes".
        recall_: mean share of the 10 nearest neighbours of a held-out vector, among the fitted ones, that are found by
            its mapped vector.
        recalls_: the same for each method and strength that was tried.

    Examples:
        >>> bridge = Bridge().fit(new_vectors, old_vectors)
        >>> bridge.transform(queries).shape
        (3, 256)
    """

    method_: Method
    strength_: float
    recall_: float
    recalls_: dict[tuple[Method, float], float]

    def __init__(self, *, held_out: float = HELD_OUT, random_state: int = 0) -> None:
        self.held_out, self.random_state = held_out, random_state

    @property
    def enough_(self) -> bool:
        """Whether the recall is at least `ENOUGH`."""
        return self.recall_ >= ENOUGH

    def fit(self, source: Floats, target: Floats) -> Bridge:
        """Fits the map to pairs.

        Args:
            source: (n, in) vectors of the model whose vectors are mapped.
            target: (n, out) vectors of the same items by the other model.

        Raises:
            UsageError: the numbers of vectors differ, are fewer than 50, or a number is not finite.
        """
        source, target = _checked(source, target)
        n = len(source)
        order = np.random.default_rng(self.random_state).permutation(n)
        count = min(n - 1, max(1, round(self.held_out * n)))
        held, fitted = order[:count], order[count:]
        self.recalls_ = {}
        for method, strength in _candidates():
            found = fit_map(source[fitted], target[fitted], method, strength)
            self.recalls_[method, strength] = recall(found(source[held]), target[held], target[fitted])
        best = max(self.recalls_, key=lambda one: self.recalls_[one])
        self.method_, self.strength_ = best
        self.recall_ = self.recalls_[best]
        self._map = fit_map(source, target, *best)
        return self

    def transform(self, vectors: Floats) -> Floats:
        """Maps vectors (n, in) of the source to (n, out) float32 of length 1 in the space of the target.

        Raises:
            UsageError: they have another length.
        """
        vectors = np.asarray(vectors)
        width = len(self._map.before)
        if vectors.ndim != 2 or vectors.shape[1] != width:
            raise UsageError(f"vectors are of shape {vectors.shape}; this map takes (n, {width})")
        return self._map(vectors)


def fit_map(source: Floats, target: Floats, method: Method, strength: float) -> Map:
    """Fits an affine map from unit vectors (n, in) to unit vectors (n, out)."""
    x, y = unit(np.asarray(source, np.float64)), unit(np.asarray(target, np.float64))
    before, after = x.mean(axis=0), y.mean(axis=0)
    x, y = x - before, y - after
    if method == "ridge":
        covariance = x.T @ x
        covariance += strength * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        return Map(np.linalg.solve(covariance, x.T @ y), before, after)
    # The orthogonal map nearest to x -> y; of spaces of different lengths, one with orthonormal rows or columns.
    left, scales, right = np.linalg.svd(x.T @ y, full_matrices=False)
    scale = scales.sum() / max(float((x**2).sum()), 1e-30)
    return Map(scale * (left @ right), before, after)


def recall(
    mapped: Floats, own: Floats, among: Floats, k: int = NEIGHBOURS, *, own_among: Floats | None = None
) -> float:
    """Mean share of the k nearest neighbours by cosine of `own` that are also those of `mapped`.

    Args:
        mapped: (q, dim) queries that were mapped.
        own: (q, dim) the same queries in the space itself.
        among: (n, dim) vectors that are searched.
        k: number of neighbours; all of them if there are fewer.
        own_among: (n, other dim) vectors of the same items that are searched for `own`; None for `among`.
    """
    k = min(k, len(among))
    rows = unit(np.asarray(among, np.float32)).T
    own_rows = rows if own_among is None else unit(np.asarray(own_among, np.float32)).T
    shares: list[float] = []
    for start in range(0, len(own), _AT_ONCE):
        block = slice(start, start + _AT_ONCE)
        true = _nearest(unit(np.asarray(own[block], np.float32)) @ own_rows, k)
        found = _nearest(unit(np.asarray(mapped[block], np.float32)) @ rows, k)
        shares += [len(np.intersect1d(a, b)) / k for a, b in zip(true, found, strict=True)]
    return float(np.mean(shares))


def _nearest(scores: Floats, k: int) -> NDArray[np.int64]:
    """Returns for each row the places of the k greatest scores."""
    return np.argpartition(-scores, k - 1, axis=1)[:, :k]


def _candidates() -> list[tuple[Method, float]]:
    return [("procrustes", 0.0), *(("ridge", strength) for strength in STRENGTHS)]


def _checked(source: Floats, target: Floats) -> tuple[Floats, Floats]:
    source, target = np.asarray(source), np.asarray(target)
    if source.ndim != 2 or target.ndim != 2 or len(source) != len(target):
        raise UsageError(
            f"vectors are of shapes {source.shape} and {target.shape}; both must be (n, dim), of the same items"
        )
    if len(source) < LEAST:
        raise UsageError(f"{len(source)} pairs of vectors: a map is fitted to {LEAST} or more")
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise UsageError("some numbers of the vectors are NaN or infinite")
    return source, target
