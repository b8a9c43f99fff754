"""Verification: error rates of a score that says whether two vectors are of the same speaker, face or object.

A trial is a pair of items with a label: True for a target (the same speaker), False for an impostor. A pair is accepted
if its score is at least the threshold. False accepts are impostors that are accepted, false rejects are targets that
are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omnivec.errors import UsageError
from omnivec.types import Ints
from omnivec.validation.arguments import real
from omnivec.vectors.arrays import numbers

Doubles = NDArray[np.float64]
Labels = NDArray[np.bool_]

SCORES = "scores (n,), one for each trial"
LABELS = "labels (n,), True where both items of a trial are of the same speaker"

SUPPORT = 3
"""Smallest number of impostor scores that lie above a threshold on average before its rate of false accepts is stated:
1 % needs 300 scores."""

_WILSON = 1.959964
"""Two-sided 95 % quantile of the normal distribution."""


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold with its error rates.

    Attributes:
        threshold: pairs with at least this score are accepted.
        value: the figure at this threshold: the equal error rate, or the detection cost.
        targets: number of target scores that it was computed from.
        impostors: number of impostor scores.
    """

    threshold: float
    value: float
    targets: int
    impostors: int


def det_points(labels: ArrayLike, scores: ArrayLike) -> tuple[Doubles, Doubles, Doubles]:
    """The points of the detection error tradeoff (DET), as `sklearn.metrics.det_curve`, with both end points.

    Args:
        labels: (n,) bool, True for targets; at least one of each kind.
        scores: (n,) higher for more similar pairs.

    Returns:
        Three arrays (k,) float64: the rate of false accepts (falling from 1 to 0), of false rejects (rising from 0 to
        1), and the thresholds: each different score in ascending order, then infinity, at which nothing is accepted.

    Raises:
        UsageError: other shapes or types, scores that are not finite, no targets or no impostors.

    Examples:
        >>> det_points([False, True, False, True], [0.1, 0.3, 0.4, 0.9])
        (array([1. , 0.5, 0.5, 0. , 0. ]), array([0. , 0. , 0.5, 0.5, 1. ]), array([0.1, 0.3, 0.4, 0.9, inf]))
    """
    is_target, values = checked_trials(labels, scores)
    thresholds, place = np.unique(values, return_inverse=True)
    # Counts of each kind that lie below each threshold, and below infinity.
    below = [
        np.concatenate([[0], np.cumsum(np.bincount(place[kind], minlength=len(thresholds)))])
        for kind in (~is_target, is_target)
    ]
    impostors, targets = below[0][-1], below[1][-1]
    return (
        (impostors - below[0]) / impostors,
        below[1] / targets,
        np.append(thresholds, np.inf),
    )


def equal_error_rate(labels: ArrayLike, scores: ArrayLike) -> OperatingPoint:
    """The rate at which false accepts and false rejects are equally frequent (EER).

    Between the two points of the DET curve around the crossing, rates and threshold are interpolated linearly. If the
    rates are equal between two scores, the threshold is half way between these, such as between the highest impostor
    and the lowest target of separate scores. The rate does not change if the scores are transformed by an increasing
    function.

    Args:
        labels: (n,) bool, True for targets.
        scores: (n,) higher for more similar pairs.

    Returns:
        The rate in `value`, between 0 and 1, and its threshold. With t targets and i impostors, the rate is known only
        to about 1 / min(t, i).

    Raises:
        UsageError: as `det_points`.

    Examples:
        >>> equal_error_rate([False, False, True, True], [0.1, 0.6, 0.5, 0.9]).value
        0.5
    """
    accepts, rejects, thresholds = det_points(labels, scores)
    after = int(np.argmax(rejects >= accepts))  # never 0, where the rates are 1 and 0
    before = after - 1
    gaps = accepts[before] - rejects[before], rejects[after] - accepts[after]
    share = gaps[0] / (gaps[0] + gaps[1])
    rate = rejects[before] + share * (rejects[after] - rejects[before])
    # Nothing can be interpolated towards infinity: the highest score is the last threshold that accepts anything.
    high = thresholds[after] if math.isfinite(thresholds[after]) else thresholds[before]
    if gaps[1] == 0:  # both rates are the same at every threshold above the lower score, up to the higher one
        share = 0.5
    threshold = thresholds[before] + share * (high - thresholds[before])
    return _point(threshold, rate, labels)


def min_dcf(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    prior: float = 0.01,
    miss_cost: float = 1.0,
    false_accept_cost: float = 1.0,
) -> OperatingPoint:
    """The smallest detection cost over all thresholds (minDCF), divided by that of the better trivial decision.

    The cost of a threshold is miss_cost * prior * (false rejects) + false_accept_cost * (1 - prior) * (false accepts).
    It is divided by the cost of accepting everything or nothing, whichever is less, so that 1 is useless and 0 perfect.
    As both of these are points of the curve, the value is at most 1.

    Args:
        labels: (n,) bool, True for targets.
        scores: (n,) higher for more similar pairs.
        prior: probability that a pair is a target, where the system is used.
        miss_cost: cost of a false reject.
        false_accept_cost: cost of a false accept.

    Raises:
        UsageError: as `det_points`; a prior that is not between 0 and 1, or costs that are not positive.

    Source: NIST 2016 Speaker Recognition Evaluation Plan, section 3.1.
    """
    weights = _costs(prior, miss_cost, false_accept_cost)
    accepts, rejects, thresholds = det_points(labels, scores)
    costs = weights[0] * rejects + weights[1] * accepts
    best = int(np.argmin(costs))
    return _point(thresholds[best], costs[best] / min(weights), labels)


def cllr(labels: ArrayLike, ratios: ArrayLike) -> float:
    """The cost of log-likelihood ratios in bits (Cllr): 0 is perfect, 1 says nothing, more misleads.

    Args:
        labels: (n,) bool, True for targets.
        ratios: (n,) natural log-likelihood ratios, such as `ScoreCalibration.llr` returns.

    Raises:
        UsageError: as `det_points`.

    Source: Brümmer and du Preez 2006, doi:10.1016/j.csl.2005.08.001, equation 34.
    """
    is_target, values = checked_trials(labels, ratios)
    costs = np.logaddexp(0.0, np.where(is_target, -values, values)) / math.log(2)
    return float(costs[is_target].mean() + costs[~is_target].mean()) / 2


def false_accept_threshold(impostors: ArrayLike, rate: float = 0.01) -> float:
    """The lowest threshold at which no more than a share of impostor scores is accepted.

    Args:
        impostors: (n,) scores of pairs of different speakers; at least `SUPPORT` / rate: 300 for 1 %.
        rate: the largest share of false accepts.

    Returns:
        A threshold just above the impostor score that must be rejected.

    Raises:
        UsageError: too few scores for this rate, or scores that are not finite.
    """
    values = np.sort(_scores(impostors))
    share = real("rate", rate)
    if not 0 < share < 1:
        raise UsageError(f"rate={rate}: between 0 and 1, both excluded")
    needed = scores_needed(share)
    if len(values) < needed:
        lowest = SUPPORT / max(len(values), 1)
        way = f", or state a rate of {100 * lowest:.2g} % or more" if lowest < 1 else ""
        raise UsageError(
            f"{len(values):,} impostor scores are too few for {100 * share:.3g} % false accepts: {needed:,} are "
            f"needed; add speakers{way}"
        )
    allowed = math.floor(share * len(values) * (1 + 1e-12))
    return float(np.nextafter(values[len(values) - allowed - 1], np.inf))


def scores_needed(rate: float) -> int:
    """Number of impostor scores without which a rate of false accepts is not stated: 300 for 1 %."""
    return math.ceil(SUPPORT / rate * (1 - 1e-12))


def rate_interval(errors: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of an error rate that was observed as `errors` of `trials` (Wilson's score interval).

    It assumes independent trials. Scores that share a speaker are not independent, so that the true interval is wider.

    Raises:
        UsageError: no trials, or more errors than trials.
    """
    if not 0 <= errors <= trials or trials < 1:
        raise UsageError(
            f"{errors} errors of {trials} trials: at least one trial, and no more errors than trials"
        )
    share, square = errors / trials, _WILSON**2
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    half = math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    width = _WILSON * half / (1 + square / trials)
    return (middle - width if errors else 0.0), (middle + width if errors < trials else 1.0)


def all_trials(speakers: Sequence[Any] | NDArray[Any]) -> tuple[Ints, Labels]:
    """All pairs of n items, each once.

    Args:
        speakers: (n,) the speaker of each item: names or numbers.

    Returns:
        Pairs (n (n - 1) / 2, 2) int64 with the lower index first, and their labels, True for the same speaker.

    Raises:
        UsageError: fewer than two items.

    Examples:
        >>> all_trials(["anna", "anna", "ben"])
        (array([[0, 1], [0, 2], [1, 2]]), array([ True, False, False]))
    """
    names = _codes(speakers)
    if len(names) < 2:
        raise UsageError(f"{len(names)} items: a trial is a pair, so at least 2 are needed")
    pairs = np.stack(np.triu_indices(len(names), 1), axis=1)
    return pairs, names[pairs[:, 0]] == names[pairs[:, 1]]


def score_trials(vectors: ArrayLike, pairs: ArrayLike) -> Doubles:
    """The cosine of each pair of vectors.

    Args:
        vectors: (n, dim).
        pairs: (m, 2) indices of rows, such as `all_trials` returns.

    Returns:
        (m,) float64.

    Raises:
        UsageError: other shapes, or an index that has no row.
    """
    rows = unit_rows(vectors)
    chosen = numbers("pairs", pairs, 2, "pairs (m, 2) of row indices")
    if chosen.shape[1:] != (2,) or (chosen.size and not 0 <= chosen.min() <= chosen.max() < len(rows)):
        raise UsageError(f"pairs of shape {chosen.shape}: (m, 2) indices of the {len(rows)} vectors")
    steps = range(0, len(chosen), 65536)
    blocks = [np.einsum("ij,ij->i", *rows[chosen[i : i + 65536].T]) for i in steps]
    return np.concatenate([np.zeros(0), *blocks])


def unit_rows(vectors: ArrayLike, name: str = "vectors") -> Doubles:
    """Vectors (n, dim), or (dim,) for one, as rows of length 1 in float64.

    Raises:
        UsageError: not vectors, numbers that are not finite, or a vector of zeros.
    """
    rows = np.atleast_2d(numbers(name, vectors).astype(np.float64))
    if rows.ndim != 2:
        raise UsageError(f"{name} of shape {rows.shape}: vectors are (n, dim), or (dim,) for one")
    if not np.isfinite(rows).all():
        raise UsageError(
            f"{name}: {int((~np.isfinite(rows)).sum())} of {rows.size} numbers are NaN or infinite"
        )
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not norms.all():
        raise UsageError(f"{name}: row {int(np.argmin(norms))} is a vector of zeros, which has no direction")
    scaled: Doubles = rows / norms
    return scaled


def checked_trials(labels: ArrayLike, scores: ArrayLike) -> tuple[Labels, Doubles]:
    """Labels (n,) bool and scores (n,) float64 of trials.

    Raises:
        UsageError: other shapes or types, scores that are not finite, no targets or no impostors.
    """
    values = _scores(scores)
    given = numbers("labels", labels, 1, LABELS)
    if given.shape != values.shape:
        raise UsageError(f"{len(given)} labels for {len(values)} scores: one is needed for each")
    is_target = given.astype(bool)
    if not np.array_equal(is_target, given):
        raise UsageError(f"labels has values other than True and False, or 1 and 0: give {LABELS}")
    targets = int(is_target.sum())
    if not 0 < targets < len(values):
        raise UsageError(
            f"{targets} target and {len(values) - targets} impostor scores: error rates need both; add "
            + ("pairs of one speaker" if not targets else "pairs of different speakers")
        )
    return is_target, values


def _scores(scores: ArrayLike) -> Doubles:
    values = numbers("scores", scores, 1, SCORES).astype(np.float64)
    if not np.isfinite(values).all():
        raise UsageError(f"{int((~np.isfinite(values)).sum())} of {len(values)} scores are NaN or infinite")
    return values


def _codes(speakers: Sequence[Any] | NDArray[Any]) -> Ints:
    """Numbers the speakers in the order of their first item."""
    order: dict[Any, int] = {}
    listed = speakers.tolist() if isinstance(speakers, np.ndarray) else speakers
    return np.array([order.setdefault(one, len(order)) for one in listed], np.int64)


def _costs(prior: float, miss_cost: float, false_accept_cost: float) -> tuple[float, float]:
    """The weights of the rates of false rejects and of false accepts."""
    share = real("prior", prior)
    costs = real("miss_cost", miss_cost), real("false_accept_cost", false_accept_cost)
    if not 0 < share < 1:
        raise UsageError(f"prior={prior}: between 0 and 1, both excluded")
    if min(costs) <= 0:
        raise UsageError(
            f"miss_cost={miss_cost}, false_accept_cost={false_accept_cost}: both must be above 0"
        )
    return costs[0] * share, costs[1] * (1 - share)


def _point(threshold: float, value: float, labels: ArrayLike) -> OperatingPoint:
    is_target = np.asarray(labels, bool)
    targets = int(is_target.sum())
    return OperatingPoint(float(threshold), float(value), targets, len(is_target) - targets)
