"""Multinomial logistic regression with L2 regularisation, fitted by L-BFGS in float64.

The rows are rotated to their principal axes, of which n rows of d components have at most min(n, d), and each axis is
scaled by the curvature that the loss has where all classes are equally probable. Neither changes the solution: L2 is
the same in every rotation, and directions in which the rows do not vary have no weight. It makes a few examples of long
vectors cheap, and few iterations enough. Liu and Nocedal 1989, doi:10.1007/BF01589116.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omnivec.types import Ints

Doubles = NDArray[np.float64]

TOLERANCE = 1e-8
"""The fit stops when no component of the gradient of the mean loss is larger."""

_STEPS = 500
_MEMORY = 12
_RANK = 1e-13
"""Axes whose variance is a smaller share of the largest one are left out: they are rounding errors."""


@dataclass(frozen=True, eq=False)
class Softmax:
    """A fitted regression: logits are rows @ weights.T + offsets.

    Attributes:
        weights: (classes, d) float64.
        offsets: (classes,) float64, with the sum 0.
    """

    weights: Doubles
    offsets: Doubles


class SoftmaxRegression:
    """The problem of one set of rows, which is solved for one strength of regularisation after the other.

    It minimises the weighted sum of log losses plus 1 / (2 C) times the squared sum of the weights, without the
    offsets: the problem of `sklearn.linear_model.LogisticRegression(C=C)`. Two classes have one vector of weights
    there, and two opposite ones of half its length here, so that the penalty is doubled for them.

    Args:
        rows: (n, d) float64; standardised, or of similar spread, for C to mean the same for all.
        labels: (n,) int64, index of the class of each row.
        classes: number of classes.
        shares: (n,) float64 weight of each row, at least 0.
    """

    def __init__(self, rows: Doubles, labels: Ints, classes: int, shares: Doubles) -> None:
        self._mean = rows.mean(axis=0)
        centred = rows - self._mean
        self._axes, self._features, self._variances = _principal(centred)
        self._labels, self._shares = labels, shares
        self._truth = np.eye(classes)[labels] * shares[:, None]
        self._start: Doubles | None = None

    def solve(self, strength: float, tolerance: float = TOLERANCE) -> Softmax:
        """The solution for one C, from that of the last one if there was one.

        Args:
            strength: C, above 0.
            tolerance: largest component of the gradient of the mean loss.
        """
        count, classes = self._truth.shape
        penalty = (2.0 if classes == 2 else 1.0) / strength
        mean_share = float(self._shares.mean())
        curvature = np.append(mean_share * self._variances / classes + penalty, mean_share * count / classes)
        scale = 1 / np.sqrt(curvature)
        design = np.column_stack([self._features, np.ones(count)])

        def loss(scaled: Doubles) -> tuple[float, Doubles]:
            theta = scaled * scale
            logits = design @ theta.T
            logits -= logits.max(axis=1, keepdims=True)
            powers = np.exp(logits)
            sums = powers.sum(axis=1)
            fit = float(self._shares @ np.log(sums) - (self._truth * logits).sum())
            powers *= (self._shares / sums)[:, None]
            gradient = (powers - self._truth).T @ design
            gradient[:, :-1] += penalty * theta[:, :-1]
            total = fit + penalty / 2 * float((theta[:, :-1] ** 2).sum())
            return total / count, gradient * scale / count

        start = np.zeros((classes, len(scale))) if self._start is None else self._start / scale
        # The gradient is compared in the scaled coordinates: the smallest scale would hide nothing in them.
        solution = _minimum(loss, start, tolerance) * scale
        self._start = solution
        weights = solution[:, :-1] @ self._axes.T
        offsets = solution[:, -1] - weights @ self._mean
        return Softmax(weights, offsets - offsets.mean())


def _principal(centred: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """The principal axes (d, r), the rows in their coordinates (n, r), and the squared sum of each coordinate (r,)."""
    count, dim = centred.shape
    wide = dim > count
    variances, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    kept = variances > _RANK * max(float(variances[-1]), 1e-300)
    variances, vectors = variances[kept], vectors[:, kept]
    axes = centred.T @ vectors / np.sqrt(variances) if wide else vectors
    return axes, centred @ axes, variances


def _minimum(loss: Callable[[Doubles], tuple[float, Doubles]], start: Doubles, tolerance: float) -> Doubles:
    """The minimum of a smooth convex function by L-BFGS with step halving (Armijo).

    Args:
        loss: returns the value and the gradient at a point.
        start: the first point.
        tolerance: largest component of the gradient at the end.
    """
    point = start
    value, gradient = loss(point)
    pairs: deque[tuple[Doubles, Doubles, float]] = deque(maxlen=_MEMORY)
    for _ in range(_STEPS):
        if np.abs(gradient).max() <= tolerance:
            break
        direction = _direction(gradient, pairs)
        slope = float((gradient * direction).sum())
        if slope >= 0:  # rounding has spoilt the curvature
            pairs.clear()
            direction, slope = -gradient, -float((gradient**2).sum())
        size = 1.0 if pairs else min(1.0, 1.0 / float(np.abs(gradient).sum()))
        for _ in range(40):
            moved = point + size * direction
            new_value, new_gradient = loss(moved)
            if new_value <= value + 1e-4 * size * slope:
                break
            size /= 2
        else:  # at the minimum, the decrease is lost in rounding
            break
        step, change = moved - point, new_gradient - gradient
        product = float((step * change).sum())
        if product > 1e-12 * float((change**2).sum()) ** 0.5 * float((step**2).sum()) ** 0.5:
            pairs.append((step, change, product))
        point, value, gradient = moved, new_value, new_gradient
    return point


def _direction(gradient: Doubles, pairs: deque[tuple[Doubles, Doubles, float]]) -> Doubles:
    """Minus the gradient times the inverse of the curvature as far as the last steps have shown it (two loops)."""
    direction = -gradient
    factors = []
    for step, change, product in reversed(pairs):
        factor = float((step * direction).sum()) / product
        factors.append(factor)
        direction = direction - factor * change
    if pairs:
        step, change, product = pairs[-1]
        direction = direction * (product / float((change**2).sum()))
    for (step, change, product), factor in zip(pairs, reversed(factors), strict=True):
        direction = direction + (factor - float((change * direction).sum()) / product) * step
    return direction
