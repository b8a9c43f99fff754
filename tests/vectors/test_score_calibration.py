"""Calibration of scores: against scikit-learn's logistic regression, known distributions, and invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from omnivec.errors import UsageError
from omnivec.vectors.score_calibration import ScoreCalibration, log_odds, logistic_regression, sigmoid
from omnivec.vectors.verification import cllr

LABELS, TWENTY = [True, False] * 10, [float(i) for i in range(20)]


def sample(count=400, seed=0, gap=1.0):
    generator = np.random.default_rng(seed)
    labels = generator.random(count) < 0.3
    return labels, generator.normal(size=count) + gap * labels, np.exp(generator.normal(size=count))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(5, 200),
    width=st.integers(1, 4),
    l2=st.sampled_from([0.01, 0.3, 1.0, 10.0]),
    gap=st.sampled_from([0.0, 1.0, 20.0]),
)
def test_regression_is_that_of_scikit_learn(seed, count, width, l2, gap):
    generator = np.random.default_rng(seed)
    labels = generator.random(count) < 0.5
    labels[:2] = [True, False]
    rows = generator.normal(size=(count, width)) + gap * labels[:, None]
    weights = generator.random(count) + 0.1
    coefficients, intercept = logistic_regression(rows, labels, weights, l2)
    reference = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=10_000).fit(rows, labels, weights)

    def loss(theta, offset):
        margins = np.where(labels, 1, -1) * (rows @ theta + offset)
        return weights @ np.logaddexp(0, -margins) + l2 / 2 * theta @ theta

    ours, theirs = loss(coefficients, intercept), loss(reference.coef_[0], reference.intercept_[0])
    assert ours <= theirs * (1 + 1e-9) + 1e-9
    assert coefficients == pytest.approx(reference.coef_[0], rel=2e-3, abs=2e-3)


def test_regression_is_deterministic_and_finite_for_separated_labels():
    rows, labels = np.array([[-1.0], [1.0]]).repeat(50, axis=0), np.repeat([False, True], 50)
    once, again = (logistic_regression(rows, labels, l2=1e-6) for _ in range(2))
    assert np.array_equal(once[0], again[0])
    assert once[1] == again[1]
    assert np.isfinite(once[0]).all()
    assert once[0][0] > 5


def test_ratios_of_normal_scores_are_the_true_ones():
    """Two normals of one deviation d, with means a and b: the ratio is linear, (b - a) / d² (s - (a + b) / 2)."""
    generator = np.random.default_rng(1)
    labels = np.repeat([True, False], [4000, 20_000])
    scores = np.where(labels, 0.7, 0.2) + 0.2 * generator.normal(size=len(labels))
    fitted = ScoreCalibration.fit(labels, scores)
    assert fitted.weights[0] == pytest.approx(0.5 / 0.04, rel=0.05)
    assert fitted.threshold() == pytest.approx(0.45, abs=0.01)
    assert fitted.llr(0.45) == pytest.approx([0], abs=0.15)
    assert (fitted.targets, fitted.impostors) == (4000, 20_000)


def test_durations_improve_ratios_where_short_sounds_score_lower():
    generator = np.random.default_rng(2)
    labels = np.repeat([True, False], 3000)
    seconds = np.exp(generator.uniform(0, 3, len(labels)))
    scores = np.where(labels, 0.5, 0.2) + 0.1 * np.log(seconds) + 0.1 * generator.normal(size=len(labels))
    plain, aware = ScoreCalibration.fit(labels, scores), ScoreCalibration.fit(labels, scores, seconds)
    assert cllr(labels, aware.llr(scores, seconds)) < 0.8 * cllr(labels, plain.llr(scores))
    # The threshold rises by 0.1 for each factor e of the duration.
    rise = aware.threshold([math.e**2]) - aware.threshold([math.e])
    assert rise == pytest.approx(0.1, abs=0.01)


def test_base_rate_shifts_the_log_odds():
    labels, scores, _ = sample()
    fitted = ScoreCalibration.fit(labels, scores)
    even, rare = fitted.predict_proba(scores), fitted.predict_proba(scores, base_rate=0.01)
    assert np.allclose(np.log(even / (1 - even)), fitted.llr(scores))
    assert np.allclose(np.log(rare / (1 - rare)) - fitted.llr(scores), math.log(0.01 / 0.99))
    at = fitted.threshold(base_rate=0.01)
    assert fitted.predict_proba(at, base_rate=0.01) == pytest.approx([0.5])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000), scale=st.floats(0.01, 100), shift=st.floats(-10, 10), times=st.integers(2, 4)
)
def test_ratios_do_not_depend_on_the_scale_of_scores_nor_on_the_share_of_targets(seed, scale, shift, times):
    labels, scores, seconds = sample(seed=seed)
    ratios = ScoreCalibration.fit(labels, scores, seconds).llr(scores, seconds)
    changed = scale * scores + shift
    assert ScoreCalibration.fit(labels, changed, 7 * seconds).llr(changed, 7 * seconds) == pytest.approx(
        ratios, abs=1e-6
    )
    # More impostors of the same distribution change nothing but the strength of the regularisation.
    again = np.concatenate([np.arange(len(labels)), *[np.flatnonzero(~labels)] * times])
    more = ScoreCalibration.fit(labels[again], scores[again], seconds[again], l2=1e-6)
    once = ScoreCalibration.fit(labels, scores, seconds, l2=1e-6)
    assert more.predict_proba(scores, seconds) == pytest.approx(once.predict_proba(scores, seconds), abs=0.02)


def test_a_constant_duration_has_no_weight():
    labels, scores, _ = sample()
    fitted = ScoreCalibration.fit(labels, scores, np.full(len(scores), 3.0))
    assert fitted.weights[1] == 0
    assert fitted.llr(scores, np.full(len(scores), 9.0)) == pytest.approx(
        ScoreCalibration.fit(labels, scores).llr(scores)
    )


def test_sigmoid_does_not_overflow():
    with np.errstate(all="raise"):
        assert sigmoid(np.array([-700.0, 0.0, 700.0])) == pytest.approx([0, 0.5, 1])
    assert log_odds("rate", 0.75) == pytest.approx(math.log(3))


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (
            lambda: ScoreCalibration.fit([True, False], [1, 0]),
            "1 target and 1 impostor scores: .* at least 10",
        ),
        (lambda: ScoreCalibration.fit(LABELS, [0.5] * 20), "all 20 scores are 0.5"),
        (lambda: ScoreCalibration.fit(LABELS, TWENTY, [1.0] * 19), r"durations of shape \(19, 1\) for 20"),
        (lambda: ScoreCalibration.fit(LABELS, TWENTY, [0.0] * 20), "20 of 20 durations are not above 0"),
        (lambda: ScoreCalibration.fit(LABELS, TWENTY, l2=0), "l2=0"),
        (lambda: ScoreCalibration.fit(*sample()).llr([1.0]), "0 durations for each score: .* has 1"),
        (lambda: ScoreCalibration.fit(*sample()[:2]).predict_proba([1.0], base_rate=1), "base_rate=1"),
        (lambda: ScoreCalibration.fit(*sample(gap=-2.0)[:2]).threshold(), "a higher score was no sign"),
        (lambda: logistic_regression(np.zeros((2, 1)), [True, True]), "2 of them True"),
    ],
)
def test_invalid_arguments_are_named(call, why):
    with pytest.raises(UsageError, match=why):
        call()
