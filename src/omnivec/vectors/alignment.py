"""Maps two spaces into a common one, learned from pairs of vectors: ridge regression, CCA or a rotation.

What is learned is one affine map for each side, applied to vectors of length 1; its results are compared by cosine. The
regularisation is chosen on held-out pairs.
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
"""Regularisation strengths to choose from: what is added to a covariance, as a share of its mean eigenvalue."""

SCALES = (1.0, 100.0)
"""Smallest and largest scale of `fitted_scale`."""
SCALED = 1000
"""Most pairs that a scale is fitted to, which takes time quadratic in their number."""


@dataclass(frozen=True, eq=False)
class Projection:
    """A map into the joint space: linear layers with ReLUs between them, applied to vectors scaled to length 1.

    Attributes:
        layers: (weight, bias) of each, at least one; the output of each is as wide as the input of the next.
    """

    layers: tuple[Layer, ...]

    @property
    def dims(self) -> tuple[int, int]:
        """Lengths of the vectors that it takes and returns."""
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
            raise UsageError(f"vectors of {x.shape[1]} components, but this head takes {self.dims[0]}")
        # The mean that is subtracted here is large compared with the difference: float32 would lose digits.
        for i, (weight, bias) in enumerate(self._exact):
            x = (np.maximum(x, 0.0) if i else x) @ weight + bias
        return unit(x).astype(np.float32)

    def project(self, vectors: Floats) -> Floats:
        """Vectors (n, in or more) -> (n, out), of the first `in` components, which may be all that training used."""
        return self(vectors[:, : self.dims[0]])


@dataclass(frozen=True, eq=False)
class Aligned:
    """The maps that were learned from pairs.

    Attributes:
        left: the map of the left side.
        right: the map of the right side.
        strength: the regularisation strength; 0 for a method without.
        scale: the factor on cosines before a softmax; see `fitted_scale`.
    """

    left: Projection
    right: Projection
    strength: float = 0.0
    scale: float = SCALES[1]


Fit = Callable[[Floats, Floats, float], Aligned]
"""(left (n, a), right (n, b), strength) -> the two maps."""


def ridge(left: Floats, right: Floats, strength: float = 0.1) -> Aligned:
    """Ridge regression: predicts right vectors from left ones, with a penalty on the squares of the weights.

    Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634. The map of the right side only centres it.

    Args:
        left: (n, a) vectors.
        right: (n, b), row i being the partner of left row i.
        strength: of the penalty, as a share of the left covariance's mean eigenvalue.
    """
    a, b = _paired(left, right)
    (x, mean_x), (y, mean_y) = _centred(a), _centred(b)
    covariance = x.T @ x
    penalty = strength * float(np.trace(covariance)) / len(covariance)
    weight = np.linalg.solve(covariance + penalty * np.eye(len(covariance)), x.T @ y).T.astype(np.float64)
    return Aligned(_affine(weight, mean_x), _affine(np.eye(len(mean_y)), mean_y), strength)


def procrustes(left: Floats, right: Floats, strength: float = 0.0) -> Aligned:
    """Orthogonal Procrustes: rotates the left space onto the right one, preserving all distances.

    Schönemann 1966, doi:10.1007/BF02289451. If the spaces differ in dim, they share as many directions as the smaller.

    Args:
        left: (n, a) vectors.
        right: (n, b), row i being the partner of left row i.
        strength: ignored; a rotation needs no regularisation.
    """
    a, b = _paired(left, right)
    (x, mean_x), (y, mean_y) = _centred(a), _centred(b)
    u, _, v = np.linalg.svd(y.T @ x, full_matrices=False)
    return Aligned(_affine(u @ v, mean_x), _affine(np.eye(len(mean_y)), mean_y))


def cca(left: Floats, right: Floats, strength: float = 0.1, dim: int | None = None) -> Aligned:
    """Canonical correlation analysis: the directions in which partners correlate, each scaled by its correlation.

    Hotelling 1936, doi:10.1093/biomet/28.3-4.321, regularised as by Vinod 1976, doi:10.1016/0304-4076(76)90010-5;
    scaled so that weakly correlated directions have little weight (Gong et al. 2014, arXiv:1212.4522, section 3.2).

    Args:
        left: (n, a) vectors.
        right: (n, b), row i being the partner of left row i.
        strength: what is added to each covariance, as a share of its mean eigenvalue.
        dim: number of directions; None for the dim of the smaller space.
    """
    a, b = _paired(left, right)
    (x, mean_x), (y, mean_y) = _centred(a), _centred(b)
    white_x, white_y = _whitener(x, strength), _whitener(y, strength)
    u, correlations, v = np.linalg.svd(white_x @ (x.T @ y) @ white_y, full_matrices=False)
    used = slice(None, dim)
    scale = correlations[used, None]
    return Aligned(
        _affine(scale * (u.T[used] @ white_x), mean_x),
        _affine(scale * (v[used] @ white_y), mean_y),
        strength,
    )


METHODS: dict[str, Fit] = {"ridge": ridge, "cca": cca, "procrustes": procrustes}


def ranks(left: Floats, right: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rank of each row's partner among all rows of the other side by cosine, from 1: left to right, and right to left.

    Ties count against the partner, so that a space of equal vectors gets the worst ranks.

    Args:
        left: (n, dim) vectors.
        right: (n, dim), each row's partner in the same row.
    """
    cosines = (unit(left.astype(np.float64)) @ unit(right.astype(np.float64)).T).astype(np.float32)
    paired = np.diag(cosines)
    return (cosines >= paired[:, None]).sum(1), (cosines >= paired).sum(0)


def recall(left: Floats, right: Floats, k: int = 10) -> tuple[float, float]:
    """Share of rows whose partner is among the k nearest by cosine: left to right, and right to left; see `ranks`."""
    forth, back = ranks(left, right)
    return float((forth <= k).mean()), float((back <= k).mean())


def mean_reciprocal_rank(left: Floats, right: Floats) -> float:
    """Mean reciprocal rank of the partners, over both directions: 1 if every partner is the nearest."""
    return float((1.0 / np.concatenate(ranks(left, right))).mean())


def fitted_scale(left: Floats, right: Floats) -> float:
    """The factor on cosines with which a softmax over the other side's rows gives the probability of each partner.

    It maximises the likelihood in both directions (temperature scaling: Guo et al. 2017, arXiv:1706.04599, section
    4.2). The likelihood has one maximum, which is found by bisection between 1 and 100, CLIP's limit.

    Args:
        left: (n, dim) vectors that the maps were not learned from; of more than `SCALED`, the first are used.
        right: (n, dim), row i being the partner of left row i. Equal rows do not count as alternatives to each other.
    """
    a, b = unit(left[:SCALED].astype(np.float64)), unit(right[:SCALED].astype(np.float64))
    cosines = a @ b.T
    paired = np.diag(cosines)
    twins = (a @ a.T > 1 - 1e-9) | (b @ b.T > 1 - 1e-9)
    np.fill_diagonal(twins, False)
    rivals = np.where(twins, -np.inf, cosines)

    def slope(scale: float) -> float:
        """Slope of the log-likelihood: cosines of partners minus the cosines that the softmax expects."""
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
    """Splits rows at random into those to learn from and those held out, each ascending.

    Raises:
        UsageError: too few rows for both.
    """
    held_out = max(round(count * share), 2)
    left = count - held_out
    if left < 2:
        raise UsageError(
            f"{count} pairs with {held_out} held out leave {left} to learn from, at least 2 are needed: give more"
        )
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def choose(
    fit: Fit,
    left: Floats,
    right: Floats,
    strengths: Sequence[float] = STRENGTHS,
    share: float = 0.1,
    seed: int = 0,
) -> Aligned:
    """Chooses the strength with the best mean reciprocal rank on held-out pairs, and learns from all pairs with it.

    Args:
        fit: one of `METHODS`.
        left: (n, a) vectors.
        right: (n, b), row i being the partner of left row i.
        strengths: to choose from.
        share: of the pairs that is held out.
        seed: by which they are drawn.
    """
    known, held_out = split(len(left), share, seed)

    def reciprocal_rank(strength: float) -> float:
        made = fit(left[known], right[known], strength)
        return mean_reciprocal_rank(made.left(left[held_out]), made.right(right[held_out]))

    best = max(strengths, key=reciprocal_rank) if len(strengths) > 1 else strengths[0]
    return fit(left, right, best)


def _paired(left: Floats, right: Floats) -> tuple[Doubles, Doubles]:
    a, b = np.asarray(left), np.asarray(right)
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b) or len(a) < 2:
        raise UsageError(
            f"pairs of {a.shape} and {b.shape}: both must be (n, dim), with the same n of at least 2"
        )
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
    """The map weight (x - mean), as one layer."""
    return Projection(((weight.astype(np.float32), (-weight @ mean).astype(np.float32)),))


def _whitener(rows: Doubles, strength: float) -> Doubles:
    """The inverse square root of a regularised covariance (d, d)."""
    values, vectors = np.linalg.eigh(rows.T @ rows)
    values = np.maximum(values, 0.0)
    # A floor, so that directions without variance are suppressed and not amplified.
    floor = max(strength * float(values.mean()), 1e-9 * float(values[-1]), 1e-30)
    white: Doubles = (vectors / np.sqrt(values + floor)) @ vectors.T
    return white
