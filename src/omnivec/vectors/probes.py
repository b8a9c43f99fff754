"""Classifiers of vectors that learn from a few labelled examples, with the conventions of scikit-learn.

Each has `fit`, `predict`, `predict_proba` and `classes_`, can be cloned, and can be put into a pipeline. `fit` also
cross-validates: `estimate_` says how good it is, and a temperature makes its scores probabilities. One example of each
class is enough to fit, but not for these two.

Snell et al. 2017, arXiv:1703.05175 (class means); Wu et al. 2018, arXiv:1805.01978, and Caron et al. 2021,
arXiv:2104.14294 (votes weighted by exp(cosine / 0.07)); Alain and Bengio 2016, arXiv:1610.01644 (linear probes).
"""

from __future__ import annotations

import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omnivec.errors import UsageError
from omnivec.types import Ints
from omnivec.validation.arguments import choice, flag, real, said, whole
from omnivec.vectors.arrays import numbers
from omnivec.vectors.folds import merged_groups
from omnivec.vectors.probe_estimate import Estimate, softmax
from omnivec.vectors.probe_rules import (
    CentroidRule,
    Centroids,
    Linear,
    LogisticRule,
    NeighbourRule,
    Rule,
    Scorer,
)
from omnivec.vectors.probe_selection import Examples, Trial, learned, select
from omnivec.vectors.unit import unit

Doubles = NDArray[np.float64]

GRID = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Values of C that are compared."""

DEFAULT_C = 0.1
"""C where nothing can be compared."""


class VectorClassifier(ABC):
    """What the classifiers here have in common.

    Attributes:
        classes_: (classes,) the labels, sorted.
        n_features_in_: length of a vector.
        temperature_: by which scores are divided before the softmax.
        calibration_: how it was found, or why it was not, in words.
        estimate_: how good it is on items that it has not learned from; None if there were too few examples.
        basis_: how that was computed, or why it was not, in words.
        trials_: what was compared, if `fit` had a choice.
        rule_: what was taken.
        scorer_: what it has learned.
    """

    _estimator_type = "classifier"

    folds: SupportsIndex
    random_state: SupportsIndex
    classes_: NDArray[Any]
    n_features_in_: int
    temperature_: float
    calibration_: str
    estimate_: Estimate | None
    basis_: str
    trials_: tuple[Trial, ...]
    rule_: Rule
    scorer_: Scorer

    @abstractmethod
    def _rules(self) -> Sequence[Rule]:
        """The rules among which `fit` chooses; UsageError for invalid parameters."""

    def _default(self) -> Rule:
        """The rule where nothing can be compared."""
        return self._rules()[0]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters of the constructor by name; `deep` is there for scikit-learn."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Sets parameters of the constructor; UsageError for any other name."""
        for name, value in params.items():
            choice("parameter", name, tuple(self.get_params()))
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({shown})"

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks an estimator; only scikit-learn calls it, so that it is loaded already."""
        utils = sys.modules["sklearn.utils"]
        return utils.Tags(
            estimator_type="classifier",
            target_tags=utils.TargetTags(required=True),
            classifier_tags=utils.ClassifierTags(),
        )

    def fit(self, X: ArrayLike, y: Any, groups: Any = None) -> Self:
        """Learns from labelled vectors.

        Args:
            X: (n, dim) vectors.
            y: (n,) labels, texts or whole numbers; at least two different ones.
            groups: (n,) names or numbers, such as the speaker of each: no group lies on both sides of a fold.

        Raises:
            UsageError: other shapes, numbers that are not finite, vectors that are all 0, missing labels, or one label
                only; invalid parameters.
        """
        vectors = checked_vectors("X", X)
        if zero := int((~vectors.any(axis=1)).sum()):
            raise UsageError(f"{zero} of {len(vectors)} vectors are 0, without a direction: leave them out")
        self.classes_, labels = _checked_labels(y, len(vectors))
        numbered = np.arange(len(vectors)) if groups is None else _numbered("groups", groups, len(vectors))[1]
        merged = merged_groups(vectors, numbered)
        classes = tuple(str(one) for one in self.classes_.tolist())
        examples = Examples(vectors, labels, merged, classes, groups is not None)
        seed = whole("random_state", self.random_state, 0)
        chosen = select(self._rules(), examples, whole("folds", self.folds, 0, 100), seed, self._default())
        self.n_features_in_ = vectors.shape[1]
        self.rule_, self.scorer_ = chosen.rule, learned(chosen.rule, examples)
        self.temperature_, self.calibration_ = chosen.temperature, chosen.calibrated
        self.estimate_, self.basis_, self.trials_ = chosen.estimate, chosen.basis, chosen.trials
        return self

    def scores(self, X: ArrayLike) -> Doubles:
        """Scores before the temperature: X (n, dim) -> (n, classes) float64.

        Raises:
            UsageError: it is not fitted; vectors of another length, or invalid ones.
        """
        if not hasattr(self, "scorer_"):
            raise UsageError(f"this {type(self).__name__} is not fitted: call fit(vectors, labels) first")
        vectors = checked_vectors("X", X)
        if vectors.shape[1] != self.n_features_in_:
            raise UsageError(
                f"vectors of {vectors.shape[1]} components, but the probe was fitted to {self.n_features_in_}: use the "
                "same model"
            )
        return self.scorer_.scores(vectors)

    def predict_proba(self, X: ArrayLike) -> Doubles:
        """Probabilities of the classes: X (n, dim) -> (n, classes) float64, with a sum of 1; exceptions as `scores`."""
        return softmax(self.scores(X), self.temperature_)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable label of each vector: X (n, dim) -> (n,); exceptions as `scores`."""
        best = self.scores(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def score(self, X: ArrayLike, y: Any) -> float:
        """The share of vectors whose label is predicted; arguments as `fit`."""
        return float((self.predict(X) == np.asarray(y)).mean())


class NearestCentroid(VectorClassifier):
    """Predicts the class with the nearest mean, by cosine.

    Args:
        centred: whether the mean of all examples is subtracted first.
        folds: largest number of folds of the cross-validation; 0 for none.
        random_state: seed of the folds.
    """

    def __init__(
        self, centred: bool = True, folds: SupportsIndex = 5, random_state: SupportsIndex = 0
    ) -> None:
        self.centred, self.folds, self.random_state = centred, folds, random_state

    def _rules(self) -> Sequence[Rule]:
        return [CentroidRule(flag("centred", self.centred))]

    @property
    def centroids_(self) -> Doubles:
        """(classes, dim) the means, of length 1."""
        if not isinstance(self.scorer_, Centroids):
            raise AttributeError("centroids_")
        return self.scorer_.centroids


class KNearest(VectorClassifier):
    """Predicts by the votes of the k nearest examples, each with the weight exp(cosine / temperature).

    Args:
        k: how many vote; all examples if there are fewer.
        temperature: smaller values give the nearest more weight.
        centred: whether the mean of all examples is subtracted first.
        folds: largest number of folds of the cross-validation; 0 for none.
        random_state: seed of the folds.
    """

    def __init__(
        self,
        k: SupportsIndex = 20,
        temperature: float = 0.07,
        centred: bool = True,
        folds: SupportsIndex = 5,
        random_state: SupportsIndex = 0,
    ) -> None:
        self.k, self.temperature, self.centred = k, temperature, centred
        self.folds, self.random_state = folds, random_state

    def _rules(self) -> Sequence[Rule]:
        temperature = real("temperature", self.temperature, 1e-3, 1e3)
        return [NeighbourRule(whole("k", self.k), temperature, flag("centred", self.centred))]


class LogisticProbe(VectorClassifier):
    """A multinomial logistic regression with L2 regularisation on standardised vectors.

    Args:
        C: higher is less regularised; None chooses it from `grid` by cross-validation, or 0.1 where there are too few
            examples.
        class_weight: "balanced" gives all classes the same total weight, None all examples.
        grid: values of C to choose from.
        folds: largest number of folds of the cross-validation; 0 for none.
        random_state: seed of the folds.
    """

    def __init__(
        self,
        C: float | None = None,
        class_weight: str | None = None,
        grid: Sequence[float] = GRID,
        folds: SupportsIndex = 5,
        random_state: SupportsIndex = 0,
    ) -> None:
        self.C, self.class_weight, self.grid = C, class_weight, grid
        self.folds, self.random_state = folds, random_state

    def _rules(self) -> Sequence[Rule]:
        strengths = sorted(self.grid) if self.C is None else [self.C]
        if not strengths:
            raise UsageError("grid is empty: give values of C such as (0.01, 0.1, 1)")
        return _logistic(strengths, self.class_weight)

    def _default(self) -> Rule:
        return _logistic([DEFAULT_C if self.C is None else self.C], self.class_weight)[0]

    @property
    def coef_(self) -> Doubles:
        """(classes, dim) weights of the components of standardised vectors."""
        return self._linear("coef_").weights

    @property
    def intercept_(self) -> Doubles:
        """(classes,) offsets, with the sum 0."""
        return self._linear("intercept_").offsets

    def _linear(self, name: str) -> Linear:
        if not isinstance(self.scorer_, Linear):
            raise AttributeError(name)
        return self.scorer_


class AutoProbe(VectorClassifier):
    """Chooses among class means, nearest examples and logistic regressions by cross-validation.

    The rule with the lowest log loss at its best temperature is taken, out of `NearestCentroid`, `KNearest` and
    `LogisticProbe` with each C of the grid; class means where there are too few examples to compare.

    Args:
        class_weight: for the logistic regressions, as in `LogisticProbe`.
        folds: largest number of folds of the cross-validation; 0 for none.
        random_state: seed of the folds.
    """

    def __init__(
        self, class_weight: str | None = None, folds: SupportsIndex = 5, random_state: SupportsIndex = 0
    ) -> None:
        self.class_weight, self.folds, self.random_state = class_weight, folds, random_state

    def _rules(self) -> Sequence[Rule]:
        return [CentroidRule(), NeighbourRule(), *_logistic(GRID, self.class_weight)]


KINDS: dict[str, type[VectorClassifier]] = {
    "auto": AutoProbe,
    "centroid": NearestCentroid,
    "knn": KNearest,
    "logistic": LogisticProbe,
}
"""The classifiers by the names that `omnivec.Probe.train` and the command line have for them."""


def _logistic(strengths: Sequence[float], class_weight: str | None) -> list[Rule]:
    balanced = choice("class_weight", class_weight, (None, "balanced")) is not None
    return [LogisticRule(real("C", one, 1e-12, 1e12), balanced) for one in strengths]


def checked_vectors(name: str, value: ArrayLike) -> Doubles:
    """Vectors (n, dim) scaled to length 1, float64; UsageError if there are none, or numbers that are not finite."""
    vectors = numbers(name, value, 2).astype(np.float64)
    if not len(vectors) or not vectors.shape[1]:
        raise UsageError(f"{name} of shape {vectors.shape}: give at least one vector")
    if not np.isfinite(vectors).all():
        raise UsageError(
            f"{name}: {int((~np.isfinite(vectors)).any(axis=1).sum())} of {len(vectors)} vectors have numbers that "
            "are not finite: leave them out"
        )
    return unit(vectors)


def _checked_labels(value: Any, count: int) -> tuple[NDArray[Any], Ints]:
    """The different labels, sorted, and the index (n,) of each."""
    classes, index = _numbered("y", value, count)
    if len(classes) < 2:
        raise UsageError(
            f"one label only, {said(classes.tolist()[0])}, for {count} examples: at least two are needed"
        )
    return classes, index


def _numbered(name: str, value: Any, count: int) -> tuple[NDArray[Any], Ints]:
    array = np.asarray(value)
    if array.dtype == object and all(isinstance(one, str) for one in array.ravel().tolist()):
        array = array.astype(str)
    if array.shape != (count,):
        raise UsageError(f"{name} of shape {array.shape} for {count} vectors: give one for each")
    if array.dtype.kind not in "biuU":
        raise UsageError(
            f"{name} of type {array.dtype}: give a text or a whole number for each vector, without missing ones"
        )
    different, index = np.unique(array, return_inverse=True)
    return different, index.astype(np.int64)
