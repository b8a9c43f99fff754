"""What probes can learn from labelled vectors: class means, the nearest examples, a linear boundary.

Vectors are scaled to length 1 and centred: the mean of the vectors of most models is far from 0, and cosines around it
tell classes better apart. For the linear boundary each component is also divided by its spread, the root of the mean
of its own variance and the average one. Dividing by its own alone would give components that hardly vary, as most of
YAMNet's, the weight of noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from omnivec.types import Ints
from omnivec.vectors.softmax_regression import SoftmaxRegression
from omnivec.vectors.unit import unit

Doubles = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]

SCALE = 10.0
"""Factor of the cosines of class means, before a temperature is fitted."""

_BLOCK = 2048
"""Rows of which the similarities to all examples are computed at once."""


class Scorer(Protocol):
    """What was learned: it gives vectors a score for each class."""

    def scores(self, rows: Doubles) -> Doubles:
        """Scores of vectors of length 1: rows (n, dim) -> (n, classes); higher is more probable."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays that it consists of, to be stored."""


@dataclass(frozen=True, eq=False)
class Centroids:
    """The mean of each class.

    Attributes:
        mean: (dim,) subtracted from vectors.
        centroids: (classes, dim) of length 1.
    """

    mean: Doubles
    centroids: Doubles

    def scores(self, rows: Doubles) -> Doubles:
        """The cosines with the means, times `SCALE`."""
        cosines: Doubles = unit(rows - self.mean) @ self.centroids.T
        return cosines * SCALE

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `Scorer.arrays`."""
        return {"mean": self.mean, "centroids": self.centroids}


@dataclass(frozen=True, eq=False)
class Neighbours:
    """All examples.

    Attributes:
        mean: (dim,) subtracted from vectors.
        examples: (m, dim) of length 1.
        labels: (m,) int64, index of the class of each.
        classes: number of classes.
        k: how many of them have a vote.
        temperature: a vote counts exp(cosine / temperature).
    """

    mean: Doubles
    examples: Doubles
    labels: Ints
    classes: int
    k: int
    temperature: float

    def votes(self, rows: Doubles) -> Doubles:
        """The share of the votes for each class: rows (n, dim) -> (n, classes), with a sum of 1."""
        votes = np.zeros((len(rows), self.classes))
        k = min(self.k, len(self.examples))
        for start in range(0, len(rows), _BLOCK):
            cosines = unit(rows[start : start + _BLOCK] - self.mean) @ self.examples.T
            # A stable sort: of equal cosines the first examples vote, whatever the platform.
            nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
            near = np.take_along_axis(cosines, nearest, axis=1)
            weights = np.exp((near - near[:, :1]) / self.temperature)
            weights /= weights.sum(axis=1, keepdims=True)
            places = np.arange(start, start + len(cosines))
            for i in range(k):
                votes[places, self.labels[nearest[:, i]]] += weights[:, i]
        return votes

    def scores(self, rows: Doubles) -> Doubles:
        """Logarithms of the shares of the votes, with one more vote that is divided evenly between the classes."""
        k = min(self.k, len(self.examples))
        smoothed: Doubles = np.log((k * self.votes(rows) + 1 / self.classes) / (k + 1))
        return smoothed

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `Scorer.arrays`."""
        return {"mean": self.mean, "examples": self.examples, "labels": self.labels}


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear boundary between standardised vectors.

    Attributes:
        mean: (dim,) subtracted from vectors.
        spread: (dim,) by which they are then divided.
        weights: (classes, dim).
        offsets: (classes,).
    """

    mean: Doubles
    spread: Doubles
    weights: Doubles
    offsets: Doubles

    def scores(self, rows: Doubles) -> Doubles:
        """The logits."""
        logits: Doubles = (rows - self.mean) / self.spread @ self.weights.T
        return logits + self.offsets

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `Scorer.arrays`."""
        return {
            "mean": self.mean,
            "spread": self.spread,
            "weights": self.weights,
            "offsets": self.offsets,
        }


@dataclass(frozen=True)
class CentroidRule:
    """Learn the mean of each class.

    Attributes:
        centred: whether the mean of all examples is subtracted first.
    """

    centred: bool = True
    kind = "centroid"

    def __str__(self) -> str:
        return "the nearest class mean"

    def learn(self, rows: Doubles, labels: Ints, classes: int) -> Centroids:
        """Learns from vectors of length 1: rows (n, dim), labels (n,) of which each class has one."""
        mean = _mean(rows, self.centred)
        truth = np.eye(classes)[labels]
        return Centroids(mean, unit(truth.T @ unit(rows - mean)))


@dataclass(frozen=True)
class NeighbourRule:
    """Keep all examples.

    Attributes:
        k: how many of the nearest vote.
        temperature: a vote counts exp(cosine / temperature).
        centred: whether the mean of all examples is subtracted first.
    """

    k: int = 20
    temperature: float = 0.07
    centred: bool = True
    kind = "knn"

    def __str__(self) -> str:
        return f"the {self.k} nearest examples"

    def learn(self, rows: Doubles, labels: Ints, classes: int) -> Neighbours:
        """Keeps vectors of length 1: rows (n, dim), labels (n,)."""
        mean = _mean(rows, self.centred)
        return Neighbours(mean, unit(rows - mean), labels, classes, self.k, self.temperature)


@dataclass(frozen=True)
class LogisticRule:
    """Fit a multinomial logistic regression.

    Attributes:
        strength: C: higher is less regularised.
        balanced: whether all classes have the same total weight.
    """

    strength: float
    balanced: bool = False
    kind = "logistic"

    def __str__(self) -> str:
        return f"logistic regression with C = {self.strength:g}"


Rule = CentroidRule | NeighbourRule | LogisticRule


def learn(rules: Sequence[Rule], rows: Doubles, labels: Ints, classes: int, tolerance: float) -> list[Scorer]:
    """What each rule learns from vectors of length 1; logistic regressions start from the one before.

    Args:
        rules: the rules.
        rows: (n, dim) float64.
        labels: (n,) index of the class of each.
        classes: number of classes, each of which has an example.
        tolerance: of logistic regressions, see `SoftmaxRegression.solve`.
    """
    problems: dict[bool, tuple[Doubles, Doubles, SoftmaxRegression]] = {}
    learned: list[Scorer] = []
    for rule in rules:
        if not isinstance(rule, LogisticRule):
            learned.append(rule.learn(rows, labels, classes))
            continue
        if rule.balanced not in problems:
            mean, spread = standard(rows)
            shares = balanced_shares(labels, classes) if rule.balanced else np.ones(len(rows))
            problem = SoftmaxRegression((rows - mean) / spread, labels, classes, shares)
            problems[rule.balanced] = mean, spread, problem
        mean, spread, problem = problems[rule.balanced]
        solution = problem.solve(rule.strength, tolerance)
        learned.append(Linear(mean, spread, solution.weights, solution.offsets))
    return learned


def standard(rows: Doubles) -> tuple[Doubles, Doubles]:
    """The mean (dim,) of rows, and the spread (dim,): the root of the mean of its own and the average variance."""
    variances = rows.var(axis=0)
    average = float(variances.mean())
    # Rows that are all equal have no spread.
    return rows.mean(axis=0), np.sqrt((variances + average) / 2) if average > 0 else np.ones_like(variances)


def balanced_shares(labels: Ints, classes: int) -> Doubles:
    """The weight of each row (n,) with which all classes have the same total weight, as "balanced" in scikit-learn."""
    counts = np.bincount(labels, minlength=classes)
    shares: Doubles = len(labels) / (classes * counts[labels])
    return shares


def restored(rule: Rule, arrays: Arrays, classes: int) -> Scorer:
    """What a rule has learned, from stored arrays.

    Raises:
        KeyError, ValueError: the arrays are not those of such a rule.
    """
    mean = np.asarray(arrays["mean"], np.float64)
    if isinstance(rule, CentroidRule):
        scorer: Scorer = Centroids(mean, _fitting(arrays["centroids"], classes, mean))
    elif isinstance(rule, NeighbourRule):
        labels = np.asarray(arrays["labels"], np.int64)
        examples = _fitting(arrays["examples"], len(labels), mean)
        if not len(labels) or labels.min() < 0 or labels.max() >= classes:
            raise ValueError("labels")
        scorer = Neighbours(mean, examples, labels, classes, rule.k, rule.temperature)
    else:
        spread, offsets = (np.asarray(arrays[name], np.float64) for name in ("spread", "offsets"))
        if spread.shape != mean.shape or offsets.shape != (classes,):
            raise ValueError("spread or offsets")
        scorer = Linear(mean, spread, _fitting(arrays["weights"], classes, mean), offsets)
    if not all(np.isfinite(array).all() for array in scorer.arrays().values()):
        raise ValueError("numbers that are not finite")
    return scorer


def _fitting(array: NDArray[Any], count: int, mean: Doubles) -> Doubles:
    if mean.ndim != 1 or array.shape != (count, len(mean)):
        raise ValueError(f"shape {array.shape}")
    return np.asarray(array, np.float64)


def _mean(rows: Doubles, centred: bool) -> Doubles:
    # The examples of one point have no directions around their mean.
    mean: Doubles = rows.mean(axis=0)
    return mean if centred and np.ptp(rows, axis=0).any() else np.zeros(rows.shape[1])
