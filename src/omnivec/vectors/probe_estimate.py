"""How good a probe is: accuracy with its interval, F1, confusion; and the temperature that makes scores probabilities.

Wilson 1927, doi:10.1080/01621459.1927.10502953 (interval); Guo et al. 2017, arXiv:1706.04599 (temperature, calibration
error); Platt 1999 (targets that are not quite 0 and 1, so that scores without an error have a temperature too).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omnivec.errors import UsageError
from omnivec.types import Ints
from omnivec.validation.arguments import whole
from omnivec.vectors.arrays import numbers

Doubles = NDArray[np.float64]

LEAST = 30
"""Smallest number of out-of-fold scores to which a temperature is fitted."""

_Z = 1.959963984540054
"""Half the width of a 95 % interval of a normal distribution, in standard deviations."""

_RANGE = (-4.0, 4.0)
"""Natural logarithms of the smallest and the largest temperature."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """How well a probe does on items that it has not learned from, by cross-validation.

    Attributes:
        accuracy: share of the items that were asked whose label was predicted.
        low: lower end of its 95 % interval (Wilson). If there are groups whose items succeed or fail together, the
            number of items is divided by the design effect.
        high: upper end.
        macro_f1: mean of the F1 of the classes that were asked.
        confusion: (classes, classes) int64, how often a class (row) was predicted as another (column).
        asked: number of items that were asked.
        method: how it was computed, in words.
    """

    accuracy: float
    low: float
    high: float
    macro_f1: float
    confusion: Ints
    asked: int
    method: str

    def __str__(self) -> str:
        return (
            f"accuracy {100 * self.accuracy:.1f} % (95 % interval {100 * self.low:.1f} to {100 * self.high:.1f}), "
            f"macro-F1 {self.macro_f1:.3f}: {self.method}"
        )


def estimate(truth: Ints, predicted: Ints, groups: Ints, classes: int, method: str) -> Estimate:
    """The estimate from predictions (n,) for items (n,) that were not learned from; `groups` (n,) numbers of groups."""
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    right = truth == predicted
    accuracy = float(right.mean())
    low, high = wilson(accuracy, len(right) / _design_effect(right, groups))
    return Estimate(accuracy, low, high, macro_f1(confusion), confusion, len(right), method)


def wilson(share: float, count: float) -> tuple[float, float]:
    """The 95 % interval of a share that was found in `count` independent cases."""
    middle = share + _Z**2 / (2 * count)
    half = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    whole_ = 1 + _Z**2 / count
    return max((middle - half) / whole_, 0.0), min((middle + half) / whole_, 1.0)


def _design_effect(right: NDArray[np.bool_], groups: Ints) -> float:
    """The variance of the accuracy with groups over that of independent items."""
    count = len(right)
    _, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) == count:
        return 1.0
    share = float(right.mean())
    if share in (0.0, 1.0):  # no variance to compare: the cautious reading is that each group is one case
        return count / len(sizes)
    sums = np.bincount(index, weights=right - share)
    return float(min(max((sums**2).sum() / (count * share * (1 - share)), 1.0), count / 2))


def macro_f1(confusion: Ints) -> float:
    """The mean F1 of those classes that occur among the rows of a confusion matrix."""
    right = np.diag(confusion).astype(np.float64)
    rows, columns = confusion.sum(axis=1), confusion.sum(axis=0)
    occurs = rows > 0
    return float((2 * right[occurs] / (rows + columns)[occurs]).mean())


def softmax(scores: Doubles, temperature: float = 1.0) -> Doubles:
    """Probabilities from scores (n, classes) and a temperature."""
    powers = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature)
    shares: Doubles = powers / powers.sum(axis=1, keepdims=True)
    return shares


def log_loss(scores: Doubles, truth: Ints, temperature: float = 1.0) -> float:
    """The mean log loss of scores (n, classes), with the true class smoothed: 1 / (n + 2) goes to the others.

    Classes with a score of -inf, which were not learned, take no part.
    """
    scaled = scores / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    logs = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    count = len(truth)
    right = logs[np.arange(count), truth]
    learned = np.isfinite(logs)
    others = np.where(learned, logs, 0.0).sum(axis=1) - right
    smoothing = 1 / (count + 2)
    losses = (1 - smoothing) * right + smoothing * others / np.maximum(learned.sum(axis=1) - 1, 1)
    return float(-losses.mean())


def fitted_temperature(scores: Doubles, truth: Ints) -> float:
    """The temperature with the lowest log loss, by golden section of its logarithm to three digits."""
    low, high = _RANGE
    ratio = (math.sqrt(5) - 1) / 2
    inner = [high - ratio * (high - low), low + ratio * (high - low)]
    losses = [log_loss(scores, truth, math.exp(one)) for one in inner]
    while high - low > 1e-3:
        if losses[0] <= losses[1]:
            high, inner[1], losses[1] = inner[1], inner[0], losses[0]
            inner[0] = high - ratio * (high - low)
            losses[0] = log_loss(scores, truth, math.exp(inner[0]))
        else:
            low, inner[0], losses[0] = inner[0], inner[1], losses[1]
            inner[1] = low + ratio * (high - low)
            losses[1] = log_loss(scores, truth, math.exp(inner[1]))
    return math.exp((low + high) / 2)


def calibration_error(probabilities: ArrayLike, truth: Sequence[int] | Ints, bins: int = 15) -> float:
    """The expected calibration error: the mean difference between confidence and accuracy, over bins of equal width.

    Args:
        probabilities: (n, classes).
        truth: (n,) index of the true class of each row.
        bins: number of bins of the probability of the predicted class.

    Raises:
        UsageError: other shapes, or no rows.
    """
    shares = numbers("probabilities", probabilities, 2).astype(np.float64)
    known, count = np.asarray(truth), whole("bins", bins)
    if not len(shares) or known.shape != (len(shares),):
        raise UsageError(
            f"probabilities of shape {shares.shape} for truth of shape {known.shape}: a row for each"
        )
    confidence = shares.max(axis=1)
    surplus = confidence - (shares.argmax(axis=1) == known)
    places = np.minimum((confidence * count).astype(np.int64), count - 1)
    return float(np.abs(np.bincount(places, weights=surplus)).sum() / len(shares))
