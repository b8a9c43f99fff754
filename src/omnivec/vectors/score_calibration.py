"""Calibration of verification scores: from a cosine to a log-likelihood ratio and a probability.

A cosine of 0.7 means one thing for ten seconds of speech and another for one. Logistic regression on the score, with
the logarithm of the durations as further features (quality measure functions), gives the log-likelihood ratio.
Mandasari et al. 2013, doi:10.1109/TASL.2013.2279332; Brümmer and du Preez 2006, doi:10.1016/j.csl.2005.08.001.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omnivec.errors import UsageError
from omnivec.validation.arguments import real
from omnivec.vectors.arrays import numbers
from omnivec.vectors.verification import checked_trials

Doubles = NDArray[np.float64]

LEAST = 10
"""Smallest number of target scores, and of impostor scores, that a calibration is fitted to."""

_STEPS = 100
_DONE = 1e-10
"""Newton's method stops when no component of the gradient, divided by the number of trials, is larger."""


@dataclass(frozen=True, eq=False)
class ScoreCalibration:
    """A calibration of scores, made by `ScoreCalibration.fit`.

    Attributes:
        weights: (1 + d,) float64, factors of the score and of the logarithms of d durations.
        offset: added to their sum; the result is the natural log-likelihood ratio.
        targets: number of target scores that it was fitted to.
        impostors: number of impostor scores.
    """

    weights: Doubles
    offset: float
    targets: int
    impostors: int

    @classmethod
    def fit(
        cls, labels: ArrayLike, scores: ArrayLike, durations: ArrayLike | None = None, *, l2: float = 1.0
    ) -> ScoreCalibration:
        """Fits the calibration to trials by logistic regression.

        Targets and impostors have the same total weight, whatever their numbers, so that the result is a
        log-likelihood ratio. The features are standardised, and `l2` times half the squared sum of their weights is
        added to the summed loss: without it, scores that separate both kinds perfectly would have no solution. The
        computation is in float64 and deterministic.

        Args:
            labels: (n,) bool, True for targets; at least `LEAST` of each kind.
            scores: (n,) higher for more similar pairs.
            durations: (n,) seconds of speech of the shorter side of each pair, or (n, d) of several quantities, all
                above 0; None to calibrate by the score alone.
            l2: strength of the regularisation, above 0; 1 / C of scikit-learn.

        Raises:
            UsageError: too few trials, invalid arguments, or a score that is the same for all trials.
        """
        is_target, values = checked_trials(labels, scores)
        targets = int(is_target.sum())
        if min(targets, len(values) - targets) < LEAST:
            raise UsageError(
                f"{targets} target and {len(values) - targets} impostor scores: a calibration needs at least {LEAST} "
                "of each; add recordings"
            )
        if real("l2", l2) <= 0:
            raise UsageError(f"l2={l2}: must be above 0")
        features = _features(values, durations)
        mean, spread = features.mean(axis=0), features.std(axis=0)
        if spread[0] <= 1e-12 * max(abs(mean[0]), 1.0):
            raise UsageError(f"all {len(values)} scores are {mean[0]:.4g}: nothing can be learned from them")
        spread[spread <= 1e-12 * np.maximum(np.abs(mean), 1.0)] = np.inf  # a constant duration has no weight
        share = np.where(is_target, targets, len(values) - targets)
        weights, offset = logistic_regression(
            (features - mean) / spread, is_target, len(values) / (2 * share), l2
        )
        weights = weights / spread
        return cls(weights, float(offset - mean @ weights), targets, len(values) - targets)

    def llr(self, scores: ArrayLike, durations: ArrayLike | None = None) -> Doubles:
        """Log-likelihood ratios of pairs: (n,) float64, above 0 where the same speaker is more likely than not.

        Args:
            scores: (n,), or one number.
            durations: as for `fit`, if it had any.

        Raises:
            UsageError: durations are missing, or were not fitted.
        """
        features = _features(np.atleast_1d(numbers("scores", scores).astype(np.float64)), durations)
        if features.shape[1] != len(self.weights):
            raise UsageError(
                f"{features.shape[1] - 1} durations for each score: this calibration has {len(self.weights) - 1}"
            )
        return features @ self.weights + self.offset

    def predict_proba(
        self, scores: ArrayLike, durations: ArrayLike | None = None, *, base_rate: float = 0.5
    ) -> Doubles:
        """Probabilities that the pairs are of the same speaker: (n,) float64.

        Args:
            scores: (n,), or one number.
            durations: as for `fit`, if it had any.
            base_rate: share of pairs of one speaker among those that are compared, before any score is seen.

        Raises:
            UsageError: as `llr`; a base rate that is not between 0 and 1.
        """
        return sigmoid(self.llr(scores, durations) + log_odds("base_rate", base_rate))

    def threshold(self, durations: ArrayLike | None = None, *, base_rate: float = 0.5) -> float:
        """The score at which the probability is 1/2 for one pair of these durations.

        Raises:
            UsageError: as `predict_proba`; or higher scores are no sign of the same speaker in this calibration.
        """
        if self.weights[0] <= 0:
            raise UsageError(
                f"the weight of the score is {self.weights[0]:.3g}: in these trials, a higher score was no sign of the "
                "same speaker, so there is no threshold"
            )
        others = self.llr([0.0], None if durations is None else np.atleast_1d(durations)[None])
        return float(-(others[0] + log_odds("base_rate", base_rate)) / self.weights[0])


def logistic_regression(
    features: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None, l2: float = 1.0
) -> tuple[Doubles, float]:
    """Fits a logistic regression by Newton's method with step halving, in float64.

    It minimises the weighted sum of log losses plus l2 / 2 times the squared sum of the coefficients, without the
    intercept: the problem of `sklearn.linear_model.LogisticRegression(C=1 / l2)`.

    Args:
        features: (n, d).
        labels: (n,) bool, with both values.
        weights: (n,) weight of each row, at least 0; None for 1.
        l2: strength of the regularisation, above 0.

    Returns:
        The coefficients (d,) and the intercept.

    Raises:
        UsageError: other shapes, or labels of one kind only.
    """
    rows = numbers("features", features, 2, "features (n, d)").astype(np.float64)
    is_true = numbers("labels", labels, 1, "labels (n,)").astype(bool)
    if len(rows) != len(is_true) or is_true.all() or not is_true.any():
        raise UsageError(
            f"{len(rows)} rows and {len(is_true)} labels, {int(is_true.sum())} of them True: each row needs a "
            "label, and both values must occur"
        )
    share = np.ones(len(rows)) if weights is None else numbers("weights", weights, 1).astype(np.float64)
    design = np.column_stack([rows, np.ones(len(rows))])
    penalty = np.append(np.full(rows.shape[1], float(l2)), 0.0)
    signs = np.where(is_true, 1.0, -1.0)

    def loss(theta: Doubles) -> float:
        margins = signs * (design @ theta)
        return float(share @ np.logaddexp(0.0, -margins) + penalty @ theta**2 / 2)

    theta = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        odds = sigmoid(design @ theta)
        gradient = design.T @ (share * (odds - is_true)) + penalty * theta
        if np.abs(gradient).max() <= _DONE * len(rows):
            break
        curvature = (design.T * (share * odds * (1 - odds))) @ design + np.diag(penalty)
        # The intercept is not regularised: a trace keeps the system solvable if all probabilities are 0 or 1.
        curvature[-1, -1] += 1e-12 * len(rows)
        step = np.linalg.solve(curvature, gradient)
        theta = _descend(loss, theta, step, float(gradient @ step))
    return theta[:-1], float(theta[-1])


def _descend(loss: Any, theta: Doubles, step: Doubles, slope: float) -> Doubles:
    """The point along Newton's step with a sufficient decrease of the loss (Armijo); the step is halved until then."""
    before, size = loss(theta), 1.0
    if slope <= 1e-12 * max(before, 1.0):  # at the minimum, the decrease is lost in rounding
        return theta - step
    for _ in range(40):
        moved: Doubles = theta - size * step
        if loss(moved) <= before - 1e-4 * size * slope:
            return moved
        size /= 2
    return theta - size * step


def sigmoid(values: Doubles) -> Doubles:
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(values))
    result: Doubles = np.where(values >= 0, 1.0, small) / (1.0 + small)
    return result


def log_odds(name: str, share: float) -> float:
    """Natural logarithm of share / (1 - share); UsageError if the share is not between 0 and 1."""
    value = real(name, share)
    if not 0 < value < 1:
        raise UsageError(f"{name}={share}: between 0 and 1, both excluded")
    return math.log(value) - math.log1p(-value)


def _features(scores: Doubles, durations: ArrayLike | None) -> Doubles:
    if durations is None:
        return scores[:, None]
    seconds = numbers("durations", durations, None, "seconds (n,) or (n, d)").astype(np.float64)
    seconds = seconds.reshape(1, 1) if seconds.ndim == 0 else seconds
    seconds = seconds[:, None] if seconds.ndim == 1 else seconds
    if seconds.ndim != 2 or len(seconds) != len(scores):
        raise UsageError(
            f"durations of shape {seconds.shape} for {len(scores)} scores: a row is needed for each"
        )
    if not (np.isfinite(seconds).all() and (seconds > 0).all()):
        wrong = int((~(np.isfinite(seconds) & (seconds > 0))).sum())
        raise UsageError(
            f"{wrong} of {seconds.size} durations are not above 0: leave out sounds without speech"
        )
    return np.column_stack([scores, np.log(seconds)])
