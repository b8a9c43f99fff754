"""Two spaces brought into one from pairs of vectors: ridge regression, canonical correlations, a rotation.

All that is learned is one affine map for each side, on vectors of length 1; what comes out is compared by its cosine.
How strongly the maps are regularised is chosen on pairs that were held out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.types import Floats
from omnivec.vectors.unit import unit

Layer = tuple[Floats, Floats]
"""A weight (out, in) and a bias (out,)."""

Doubles = NDArray[np.float64]

STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Regularisations that are tried: what is added to a covariance, as a share of its mean eigenvalue."""

SCALES = (1.0, 100.0)
SCALED = 1000
"""Pairs that a scale is fitted on, at most: the time goes with their square."""


@dataclass(frozen=True, eq=False)
class Projection:
    """A map into the joint space: linear layers with a ReLU between each two, on vectors scaled to length 1.

    Attributes:
        layers: at least one, each as wide as the next expects.
    """

    layers: tuple[Layer, ...]

    @property
    def dims(self) -> tuple[int, int]:
        """Length of a vector before and behind it."""
        return self.layers[0][0].shape[1], self.layers[-1][0].shape[0]

    @cached_property
    def _exact(self) -> list[tuple[Doubles, Doubles]]:
        return [(weight.T.astype(np.float64), bias.astype(np.float64)) for weight, bias in self.layers]

    def __call__(self, vectors: Floats) -> Floats:
        """Vectors (n, in) -> (n, out) float32 of length 1.

        Raises:
            UsageError: vectors of another length.
        """
        x = unit(np.asarray(vectors, np.float64))
        if x.shape[1] != self.dims[0]:
            raise UsageError(f"vectors of {x.shape[1]} components, and this head takes {self.dims[0]}")
        # What is subtracted here is large beside what is left: float32 would lose digits.
        for i, (weight, bias) in enumerate(self._exact):
            x = (np.maximum(x, 0.0) if i else x) @ weight + bias
        return unit(x).astype(np.float32)

    def project(self, vectors: Floats) -> Floats:
        """Vectors (n, at least in) -> (n, out): of longer ones the first components, as the head may have seen them."""
        return self(vectors[:, : self.dims[0]])


@dataclass(frozen=True, eq=False)
class Aligned:
    """What was learned from pairs.

    Attributes:
        left: the map of the one side.
        right: that of the other.
        strength: the regularisation that it was learned with; 0 for a method without.
        scale: what cosines are multiplied by for a softmax; see `fitted_scale`.
    """

    left: Projection
    right: Projection
    strength: float = 0.0
    scale: float = SCALES[1]


Fit = Callable[[Floats, Floats, float], Aligned]
"""(left (n, a), right (n, b), strength) -> the two maps."""


def ridge(left: Floats, right: Floats, strength: float = 0.1) -> Aligned:
    """The right vector predicted from the left one by least squares, the weights' squares added to the error.

    Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634. The right side is only centred.

    Args:
        left: (n, a) vectors.
        right: (n, b), the vector of each one's partner.
        strength: of the penalty, as a share of the left covariance's mean eigenvalue.
    """
    a, b = _paired(left, right)
    (x, mean_x), (y, mean_y) = _centred(a), _centred(b)
    covariance = x.T @ x
    penalty = strength * float(np.trace(covariance)) / len(covariance)
    weight = np.linalg.solve(covariance + penalty * np.eye(len(covariance)), x.T @ y).T.astype(np.float64)
    return Aligned(_affine(weight, mean_x), _affine(np.eye(len(mean_y)), mean_y), strength)


def procrustes(left: Floats, right: Floats, strength: float = 0.0) -> Aligned:
    """The left space turned into the right one, all distances kept: the nearest orthogonal map.

    Schönemann 1966, doi:10.1007/BF02289451. Spaces of two lengths meet in as many directions as the smaller has.

    Args:
        left: (n, a) vectors.
        right: (n, b), the vector of each one's partner.
        strength: unused; a rotation has nothing to regularise.
    """
    a, b = _paired(left, right)
    (x, mean_x), (y, mean_y) = _centred(a), _centred(b)
    u, _, v = np.linalg.svd(y.T @ x, full_matrices=False)
    return Aligned(_affine(u @ v, mean_x), _affine(np.eye(len(mean_y)), mean_y))


def cca(left: Floats, right: Floats, strength: float = 0.1, dim: int | None = None) -> Aligned:
    """The directions in which partners go together, each scaled by the correlation that it has.

    Hotelling 1936, doi:10.1093/biomet/28.3-4.321, regularised as by Vinod 1976, doi:10.1016/0304-4076(76)90010-5;
    scaled so that directions that go together little count little (Gong et al. 2014, arXiv:1212.4522, section 3.2).

    Args:
        left: (n, a) vectors.
        right: (n, b), the vector of each one's partner.
        strength: what is added to each covariance, as a share of its mean eigenvalue.
        dim: how many directions; None for as many as the smaller space has.
    """
    a, b = _paired(left, right)
    (x, mean_x), (y, mean_y) = _centred(a), _centred(b)
    white_x, white_y = _whitener(x, strength), _whitener(y, strength)
    u, correlations, v = np.linalg.svd(white_x @ (x.T @ y) @ white_y, full_matrices=False)
    kept = slice(None, dim)
    scale = correlations[kept, None]
    return Aligned(
        _affine(scale * (u.T[kept] @ white_x), mean_x),
        _affine(scale * (v[kept] @ white_y), mean_y),
        strength,
    )


METHODS: dict[str, Fit] = {"ridge": ridge, "cca": cca, "procrustes": procrustes}


def ranks(left: Floats, right: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Place of each row's partner among all of the other side by cosine, from 1: from left to right, and back.

    Ties count against it: a space in which all is alike finds nothing.

    Args:
        left: (n, dim) vectors.
        right: (n, dim), each row's partner in the same row.
    """
    cosines = (unit(left.astype(np.float64)) @ unit(right.astype(np.float64)).T).astype(np.float32)
    paired = np.diag(cosines)
    return (cosines >= paired[:, None]).sum(1), (cosines >= paired).sum(0)


def recall(left: Floats, right: Floats, k: int = 10) -> tuple[float, float]:
    """Share of rows whose partner is among the k nearest by cosine: from left to right, and back; see `ranks`."""
    forth, back = ranks(left, right)
    return float((forth <= k).mean()), float((back <= k).mean())


def mean_reciprocal_rank(left: Floats, right: Floats) -> float:
    """Mean of one over the rank of each row's partner, in both directions: 1 where all are found first."""
    return float((1.0 / np.concatenate(ranks(left, right))).mean())


def fitted_scale(left: Floats, right: Floats) -> float:
    """What cosines are multiplied by, so that a softmax over the other side's rows says how sure a partner is.

    The likeliest in both directions (temperature scaling: Guo et al. 2017, arXiv:1706.04599, section 4.2), found by
    halving, since the likelihood has one maximum; between 1 and 100, CLIP's limit.

    Args:
        left: (n, dim) vectors that the heads were not learned from; of more than `SCALED` the first.
        right: (n, dim), each row's partner in the same row. Equal rows are no rivals of each other.
    """
    a, b = unit(left[:SCALED].astype(np.float64)), unit(right[:SCALED].astype(np.float64))
    cosines = a @ b.T
    paired = np.diag(cosines)
    twins = (a @ a.T > 1 - 1e-9) | (b @ b.T > 1 - 1e-9)
    np.fill_diagonal(twins, False)
    rivals = np.where(twins, -np.inf, cosines)

    def slope(scale: float) -> float:
        """Of the likelihood: how much nearer a partner is than what the softmax expects."""
        total = 0.0
        for axis in (0, 1):
            shares = np.exp(scale * (rivals - rivals.max(axis, keepdims=True)))
            expected = (shares * np.where(twins, 0.0, cosines)).sum(axis) / shares.sum(axis)
            total += float((paired - expected).mean())
        return total

    low, high = SCALES
    for _ in range(24):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return float(f"{(low * high) ** 0.5:.6g}")


def split(count: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to learn from and rows held out, at random, each in order.

    Raises:
        UsageError: too few rows for both.
    """
    held = max(round(count * share), 2)
    if count - held < 2:
        raise UsageError(f"{count} pairs with {held} held out leave {count - held} to learn from: give more")
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[held:]), np.sort(order[:held])


def choose(
    fit: Fit,
    left: Floats,
    right: Floats,
    strengths: Sequence[float] = STRENGTHS,
    share: float = 0.1,
    seed: int = 0,
) -> Aligned:
    """The maps at the strength that finds most partners of pairs that were held out, learned again from all pairs.

    Args:
        fit: a method, as `METHODS` has them.
        left: (n, a) vectors.
        right: (n, b), the vector of each one's partner.
        strengths: to choose from.
        share: of the pairs that is held out.
        seed: of which.
    """
    known, held = split(len(left), share, seed)

    def held_out_recall(strength: float) -> float:
        made = fit(left[known], right[known], strength)
        return mean_reciprocal_rank(made.left(left[held]), made.right(right[held]))

    best = max(strengths, key=held_out_recall) if len(strengths) > 1 else strengths[0]
    return fit(left, right, best)


def _paired(left: Floats, right: Floats) -> tuple[Doubles, Doubles]:
    a, b = np.asarray(left), np.asarray(right)
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b) or len(a) < 2:
        raise UsageError(f"pairs of {a.shape} and {b.shape}: (n, dim) each, as many, and at least 2")
    for name, rows in (("left", a), ("right", b)):
        if not np.isfinite(rows).all():
            raise UsageError(
                f"{name}: {int((~np.isfinite(rows)).sum())} of {rows.size} numbers are not finite"
            )
    return unit(a.astype(np.float64)), unit(b.astype(np.float64))


def _centred(rows: Doubles) -> tuple[Doubles, Doubles]:
    mean: Doubles = rows.mean(0)
    return rows - mean, mean


def _affine(weight: Doubles, mean: Doubles) -> Projection:
    """weight (x - mean), as one layer."""
    return Projection(((weight.astype(np.float32), (-weight @ mean).astype(np.float32)),))


def _whitener(rows: Doubles, strength: float) -> Doubles:
    """The inverse root of a regularised covariance (d, d)."""
    values, vectors = np.linalg.eigh(rows.T @ rows)
    values = np.maximum(values, 0.0)
    # A floor, so that directions in which nothing varies are left out and not blown up.
    floor = max(strength * float(values.mean()), 1e-9 * float(values[-1]), 1e-30)
    white: Doubles = (vectors / np.sqrt(values + floor)) @ vectors.T
    return white
