"""Classifiers of few examples: equal to scikit-learn's, honest in their estimates, usable from one example on."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neighbors import NearestCentroid as PeerCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer

from omnivec.errors import UsageError
from omnivec.vectors.folds import folds_of, merged_groups
from omnivec.vectors.probe_estimate import calibration_error
from omnivec.vectors.probe_rules import Neighbours, standard
from omnivec.vectors.probe_selection import NESTED, SPLIT
from omnivec.vectors.probes import KINDS, AutoProbe, KNearest, LogisticProbe, NearestCentroid
from omnivec.vectors.unit import unit

ALL = sorted(KINDS)


def clouds(
    each: int = 20, classes: int = 4, dim: int = 12, spread: float = 0.8, seed: int = 0
) -> tuple[Any, Any]:
    """Overlapping clouds of vectors off the origin, and the names of their classes."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((classes, dim))
    labels = np.repeat(np.arange(classes), each)
    vectors = centres[labels] + spread * random.standard_normal((len(labels), dim)) + 1.0
    return vectors.astype(np.float32), np.array([f"class {i}" for i in labels])


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("dim", [6, 200])
@pytest.mark.parametrize("strength", [0.01, 10.0])
def test_logistic_regression_is_that_of_scikit_learn(
    classes: int, class_weight: str | None, dim: int, strength: float
) -> None:
    vectors, names = clouds(classes=classes, dim=dim)
    vectors, names = vectors[7:], names[7:]  # classes of different sizes
    probe = LogisticProbe(C=strength, class_weight=class_weight, folds=0).fit(vectors, names)
    rows = unit(vectors.astype(np.float64))
    mean, spread = standard(rows)
    peer = LogisticRegression(C=strength, class_weight=class_weight, tol=1e-10, max_iter=10_000)
    peer.fit((rows - mean) / spread, names)
    expected = peer.coef_ if classes > 2 else np.concatenate([-peer.coef_, peer.coef_]) / 2
    np.testing.assert_allclose(probe.coef_, expected, atol=2e-3 * np.abs(expected).max())
    np.testing.assert_allclose(
        probe.predict_proba(vectors), peer.predict_proba((rows - mean) / spread), atol=2e-3
    )
    assert probe.classes_.tolist() == peer.classes_.tolist()


def test_nearest_neighbours_are_those_of_scikit_learn() -> None:
    vectors, names = clouds()
    asked, _ = clouds(seed=1)
    probe = KNearest(k=7, temperature=0.2, centred=False, folds=0).fit(vectors, names)
    peer = KNeighborsClassifier(7, metric="cosine", weights=lambda distances: np.exp((1 - distances) / 0.2))
    peer.fit(vectors.astype(np.float64), names)
    assert isinstance(probe.scorer_, Neighbours)
    votes = probe.scorer_.votes(unit(asked.astype(np.float64)))
    np.testing.assert_allclose(votes, peer.predict_proba(asked.astype(np.float64)), atol=1e-9)
    assert probe.predict(asked).tolist() == peer.predict(asked.astype(np.float64)).tolist()


def test_class_means_are_those_of_scikit_learn() -> None:
    vectors, names = clouds()
    asked, _ = clouds(seed=1)
    probe = NearestCentroid(centred=False, folds=0).fit(vectors, names)
    rows = unit(vectors.astype(np.float64))
    peer = PeerCentroid().fit(rows, names)
    peer.centroids_ /= np.linalg.norm(peer.centroids_, axis=1, keepdims=True)
    np.testing.assert_allclose(probe.centroids_, peer.centroids_, atol=1e-12)
    assert probe.predict(asked).tolist() == peer.predict(unit(asked.astype(np.float64))).tolist()


def test_a_cross_validated_estimate_is_that_of_scikit_learn() -> None:
    vectors, names = clouds(spread=2.0)
    probe = KNearest(k=5, centred=False).fit(vectors, names)
    classes = np.unique(names, return_inverse=True)[1]
    folds = folds_of(classes, np.arange(len(names)), 5, 0)
    assert folds is not None and probe.estimate_ is not None
    peer = make_pipeline(
        Normalizer(),
        KNeighborsClassifier(5, metric="cosine", weights=lambda distances: np.exp((1 - distances) / 0.07)),
    )
    predicted = cross_val_predict(peer, vectors.astype(np.float64), names, cv=list(folds))
    assert probe.estimate_.accuracy == pytest.approx(accuracy_score(names, predicted))
    assert probe.estimate_.macro_f1 == pytest.approx(f1_score(names, predicted, average="macro"))
    assert probe.estimate_.confusion.tolist() == confusion_matrix(names, predicted).tolist()
    assert 0 < probe.estimate_.low < probe.estimate_.accuracy < probe.estimate_.high < 1


@pytest.mark.parametrize("kind", ALL)
def test_scikit_learn_takes_it_for_one_of_its_own(kind: str) -> None:
    vectors, names = clouds()
    probe = KINDS[kind](folds=3)  # type: ignore[call-arg]
    assert is_classifier(probe)
    copy = clone(probe)
    assert copy.get_params() == probe.get_params() and not hasattr(copy, "classes_")
    assert copy.set_params(folds=0).folds == 0
    pipeline = make_pipeline(FunctionTransformer(), copy)
    scores = cross_val_score(pipeline, vectors, names, cv=3)
    assert scores.mean() > 0.8
    assert clone(pipeline).fit(vectors, names).predict(vectors[:2]).tolist() == ["class 0"] * 2
    with pytest.raises(UsageError, match="none of"):
        copy.set_params(neighbours=3)


@pytest.mark.parametrize("kind", ALL)
def test_one_example_of_each_class_is_enough(kind: str) -> None:
    vectors, names = clouds(each=1, spread=0.1)
    probe = KINDS[kind]().fit(vectors, names)
    assert probe.predict(vectors).tolist() == names.tolist()
    assert probe.estimate_ is None and "one example of class 0" in probe.basis_
    assert "not calibrated" in probe.calibration_
    assert probe.rule_.kind == ("centroid" if kind == "auto" else kind)


def test_a_class_with_one_example_is_learned_and_never_asked() -> None:
    vectors, names = clouds()
    rare = np.concatenate([names[:60], ["class 3"]])
    probe = AutoProbe().fit(vectors[:61], rare)
    assert probe.estimate_ is not None and probe.estimate_.asked == 60
    assert "never asked: class 3" in probe.estimate_.method
    assert probe.estimate_.confusion[3].sum() == 0
    assert "class 3" in probe.predict(vectors[61:])


def test_the_choice_is_that_with_the_lowest_log_loss() -> None:
    vectors, names = clouds(each=30, spread=2.0)
    probe = AutoProbe().fit(vectors, names)
    best = min(probe.trials_, key=lambda trial: trial.log_loss)
    assert best.rule == str(probe.rule_) and len(probe.trials_) == 7
    assert probe.estimate_ is not None and "repeated in each fold" in probe.estimate_.method


def test_temperature_makes_confidence_match_accuracy() -> None:
    vectors, names = clouds(each=60, spread=3.0)
    asked, truth = clouds(each=60, spread=3.0)
    probe = LogisticProbe(C=100.0).fit(vectors[::2], names[::2])
    raw = LogisticProbe(C=100.0, folds=0).fit(vectors[::2], names[::2])
    places = np.unique(truth[1::2], return_inverse=True)[1]
    assert probe.temperature_ > 1.2
    losses, errors = zip(
        *(
            (-np.log(shares[np.arange(len(places)), places]).mean(), calibration_error(shares, places))
            for shares in (one.predict_proba(asked[1::2]) for one in (probe, raw))
        ),
        strict=True,
    )
    assert losses[0] < 0.95 * losses[1] and errors[0] < errors[1]


def test_no_group_lies_on_both_sides_and_the_estimate_is_lower() -> None:
    random = np.random.default_rng(3)
    vectors, names = clouds(each=40, spread=0.1)
    speakers = np.tile(np.arange(10), 16)
    # A speaker's voice outweighs what is said.
    vectors = vectors + 4 * random.standard_normal((4, 10, 12))[np.repeat(np.arange(4), 40), speakers]
    together, apart = (KNearest(k=1).fit(vectors, names, groups) for groups in (None, speakers))
    assert together.estimate_ is not None and apart.estimate_ is not None
    assert together.estimate_.accuracy == 1.0 and apart.estimate_.accuracy < 0.8
    assert apart.estimate_.high - apart.estimate_.low > 0.1
    assert "10 groups, none on both sides" in apart.estimate_.method
    folds = folds_of(np.unique(names, return_inverse=True)[1], speakers, 5, 0)
    assert folds is not None
    for known, asked in folds:
        assert not set(speakers[known]) & set(speakers[asked])


def test_folds_keep_the_shares_of_the_classes() -> None:
    classes = np.repeat([0, 1, 2], [50, 25, 10])
    folds = folds_of(classes, np.arange(85), 5, 0)
    assert folds is not None
    counts = [np.bincount(classes[asked], minlength=3).tolist() for _, asked in folds]
    assert counts == [[10, 5, 2]] * 5
    other = folds_of(classes, np.arange(85), 5, 1)
    assert other is not None and other.of_row.tolist() != folds.of_row.tolist()


def test_equal_vectors_are_one_group() -> None:
    vectors, names = clouds(each=10)
    doubled = np.concatenate([vectors, vectors])
    merged = merged_groups(doubled, np.arange(80))
    assert merged[:40].tolist() == merged[40:].tolist() == list(range(40))
    assert merged_groups(vectors[[0, 0, 1, 1]], np.array([0, 1, 1, 2])).tolist() == [0, 0, 0, 0]
    noise = np.random.default_rng(0).standard_normal((40, 12))
    found = KNearest(k=1).fit(np.concatenate([noise, noise]), np.tile(names, 2)).estimate_
    assert found is not None and found.accuracy < 0.6


def test_many_examples_are_held_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, names = clouds(each=SPLIT // 4 + 50)
    found = NearestCentroid().fit(vectors, names).estimate_
    assert found is not None and found.asked == len(names) // 5
    assert "held out once" in found.method
    vectors, names = clouds(each=NESTED // 4 + 1)
    nested = LogisticProbe(grid=(0.01, 0.1)).fit(vectors, names).estimate_
    assert nested is not None and "repeated" not in nested.method


def test_it_is_deterministic_and_labels_may_be_numbers() -> None:
    vectors, _ = clouds(spread=2.0)
    numbers = np.repeat([3, 1, 7, 9], 20)
    one, two = (AutoProbe(random_state=5).fit(vectors, numbers) for _ in range(2))
    assert one.predict_proba(vectors).tolist() == two.predict_proba(vectors).tolist()
    assert one.classes_.tolist() == [1, 3, 7, 9] and one.predict(vectors).dtype == numbers.dtype


@pytest.mark.parametrize("kind", ALL)
def test_equal_vectors_and_zeros_give_no_nan(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe = KINDS[kind]().fit(np.ones((6, 3)), ["a", "b"] * 3)
        shares = probe.predict_proba(np.concatenate([np.ones((1, 3)), np.zeros((1, 3))]))
    assert np.isfinite(shares).all() and shares.sum(axis=1) == pytest.approx([1, 1])


VECTORS = np.eye(4)


@pytest.mark.parametrize(
    ("vectors", "labels", "part"),
    [
        (VECTORS, ["a"] * 4, "one label only, 'a'"),
        (VECTORS, ["a", "b"], "give one for each"),
        (VECTORS, ["a", "b", None, "a"], "without missing ones"),
        (VECTORS, [0.5, 1.0, 2.0, 3.0], "a text or a whole number"),
        (np.zeros((4, 3)), ["a", "b"] * 2, "4 of 4 vectors are 0"),
        (np.where(VECTORS > 0, np.nan, 1.0), ["a", "b"] * 2, "not finite"),
        (np.zeros((0, 3)), [], "at least one vector"),
        ([1.0, 2.0], ["a", "b"], "vectors"),
    ],
)
def test_what_cannot_be_learned_from(vectors: Any, labels: Any, part: str) -> None:
    with pytest.raises(UsageError, match=part):
        NearestCentroid().fit(vectors, labels)


@pytest.mark.parametrize(
    ("probe", "part"),
    [
        (KNearest(k=0), "k=0"),
        (KNearest(temperature=0.0), "temperature"),
        (LogisticProbe(C=-1.0), "C=-1"),
        (LogisticProbe(grid=()), "grid is empty"),
        (LogisticProbe(class_weight="even"), "class_weight='even'"),
        (NearestCentroid(folds=-1), "folds=-1"),
        (AutoProbe(random_state=-1), "random_state=-1"),
    ],
)
def test_invalid_parameters(probe: Any, part: str) -> None:
    with pytest.raises(UsageError, match=part):
        probe.fit(np.eye(4), ["a", "b"] * 2)


def test_other_vectors_and_no_fit_are_said() -> None:
    with pytest.raises(UsageError, match="not fitted"):
        KNearest().predict(np.eye(3))
    with pytest.raises(UsageError, match="of 5 components, but the probe was fitted to 4"):
        KNearest().fit(np.eye(4), ["a", "b"] * 2).predict(np.ones((1, 5)))
