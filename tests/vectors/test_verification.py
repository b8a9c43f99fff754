"""Error rates of verification: by hand, by brute force over thresholds, against scikit-learn, and invariants."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import det_curve, log_loss

from omnivec.errors import UsageError
from omnivec.vectors.verification import (
    all_trials,
    cllr,
    det_points,
    equal_error_rate,
    false_accept_threshold,
    min_dcf,
    rate_interval,
    score_trials,
    scores_needed,
)

SAME = np.array([0, 0, 0, 1, 0, 1, 1, 1], bool)
SCORES = np.array([0.1, 0.2, 0.3, 0.35, 0.5, 0.6, 0.8, 0.9])


@st.composite
def trials(draw):
    """Labels of both kinds and scores with many ties."""
    count = draw(st.integers(2, 40))
    labels = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    labels[:2] = [True, False]
    scores = draw(st.lists(st.integers(-8, 8), min_size=count, max_size=count))
    return labels, np.array(scores) / 4


def rates_at(labels, scores, threshold):
    accepted = scores >= threshold
    return accepted[~labels].mean(), (~accepted)[labels].mean()


@settings(max_examples=150, deadline=None)
@given(trials())
def test_points_are_the_rates_at_each_threshold(sample):
    labels, scores = sample
    accepts, rejects, thresholds = det_points(labels, scores)
    assert thresholds.tolist() == [*sorted(set(scores.tolist())), math.inf]
    assert (accepts[0], rejects[0], accepts[-1], rejects[-1]) == (1, 0, 0, 1)
    for accept, reject, threshold in zip(accepts, rejects, thresholds, strict=True):
        assert (accept, reject) == pytest.approx(rates_at(labels, scores, threshold))


@settings(max_examples=100, deadline=None)
@given(trials())
def test_points_hold_those_of_scikit_learn(sample):
    """Its curve leaves out end points at which only one of the rates changes."""
    labels, scores = sample
    if len(set(scores.tolist())) < 2:
        return
    fpr, fnr, _ = det_curve(labels, scores)
    accepts, rejects, _ = det_points(labels, scores)
    ours = set(zip(accepts.round(9).tolist(), rejects.round(9).tolist(), strict=True))
    assert set(zip(fpr.round(9).tolist(), fnr.round(9).tolist(), strict=True)) <= ours


def test_equal_error_rate_by_hand():
    # At 0.35, one impostor of four is accepted and no target rejected; above it and up to 0.5, one of each.
    found = equal_error_rate(SAME, SCORES)
    assert (found.value, found.threshold) == (0.25, 0.425)
    assert (found.targets, found.impostors) == (4, 4)


def test_equal_error_rate_is_interpolated_between_two_points():
    # Thresholds 1, 2, 3, inf: false accepts 1, 1/2, 1/2, 0 and false rejects 0, 0, 1, 1. They cross where both are 1/2.
    assert equal_error_rate([False, True, False], [1, 2, 3]).value == pytest.approx(0.5)
    # (2/3, 0) to (1/3, 1/2): rates are equal after 4/5 of the way, 2/3 - 4/15 = 0.4.
    labels, scores = [False, False, True, False, True], [0, 1, 1, 2, 3]
    found = equal_error_rate(labels, scores)
    assert found.value == pytest.approx(0.4)
    assert found.threshold == pytest.approx(1.8)


@settings(max_examples=200, deadline=None)
@given(trials())
def test_equal_error_rate_is_where_the_piecewise_linear_curve_crosses(sample):
    labels, scores = sample
    points = [rates_at(labels, scores, t) for t in [*sorted(set(scores.tolist())), math.inf]]
    crossing = []
    for (fa, fr), (fa_next, fr_next) in pairwise(points):
        for share in np.linspace(0, 1, 2001):
            a, r = fa + share * (fa_next - fa), fr + share * (fr_next - fr)
            crossing.append((abs(a - r), (a + r) / 2))
    assert equal_error_rate(labels, scores).value == pytest.approx(min(crossing)[1], abs=1e-3)


@settings(max_examples=100, deadline=None)
@given(trials())
def test_increasing_transforms_leave_rates_unchanged(sample):
    labels, scores = sample
    for changed in (3 * scores - 1, np.exp(scores), scores**3):
        assert equal_error_rate(labels, changed).value == pytest.approx(
            equal_error_rate(labels, scores).value
        )
        assert min_dcf(labels, changed).value == pytest.approx(min_dcf(labels, scores).value)


@settings(max_examples=100, deadline=None)
@given(trials(), st.integers(1, 5))
def test_rates_do_not_depend_on_order_repetition_or_direction(sample, times):
    labels, scores = sample
    rate = equal_error_rate(labels, scores).value
    order = np.random.default_rng(times).permutation(len(labels))
    assert equal_error_rate(labels[order], scores[order]).value == pytest.approx(rate)
    assert equal_error_rate(np.tile(labels, times), np.tile(scores, times)).value == pytest.approx(rate)
    assert equal_error_rate(~labels, -scores).value == pytest.approx(rate)


def test_perfect_and_reversed_scores():
    found = equal_error_rate([False, False, True], [0, 1, 2])
    assert (found.value, found.threshold) == (0, 1.5)
    assert equal_error_rate([True, True, False], [0, 1, 2]).value == 1
    assert min_dcf([False, False, True], [0, 1, 2]).value == 0


@settings(max_examples=150, deadline=None)
@given(trials(), st.sampled_from([0.01, 0.05, 0.5, 0.9]))
def test_detection_cost_is_the_least_of_all_thresholds(sample, prior):
    labels, scores = sample
    costs = []
    for threshold in [*sorted(set(scores.tolist())), math.inf]:
        accept, reject = rates_at(labels, scores, threshold)
        costs.append(prior * reject + (1 - prior) * accept)
    found = min_dcf(labels, scores, prior=prior)
    assert found.value == pytest.approx(min(costs) / min(prior, 1 - prior))
    assert found.value <= 1 + 1e-12
    accept, reject = rates_at(labels, scores, found.threshold)
    assert prior * reject + (1 - prior) * accept == pytest.approx(min(costs))


def test_a_useless_score_costs_one_because_nothing_need_be_accepted():
    found = min_dcf([True, False], [0.0, 1.0])
    assert (found.value, found.threshold) == (1.0, math.inf)


def test_costs_by_hand():
    # Best at 0.6: one target of four is rejected, no impostor accepted.
    assert min_dcf(SAME, SCORES).value == pytest.approx(0.25)
    assert min_dcf(SAME, SCORES).threshold == 0.6
    # With a prior of one half it is as good to accept one impostor of four and all targets, and that is the first.
    assert min_dcf(SAME, SCORES, prior=0.5).value == pytest.approx(0.25)
    # Rejects cost ten times as much.
    assert min_dcf(SAME, SCORES, prior=0.5, miss_cost=10).threshold == 0.35


@settings(max_examples=50, deadline=None)
@given(trials())
def test_cost_of_ratios_is_the_balanced_log_loss(sample):
    labels, ratios = sample
    weights = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())
    odds = 1 / (1 + np.exp(-ratios))
    expected = log_loss(labels, odds, sample_weight=weights) / math.log(2)
    assert cllr(labels, ratios) == pytest.approx(expected)
    assert cllr(labels, np.zeros(len(labels))) == pytest.approx(1)


@pytest.mark.parametrize(("rate", "needed"), [(0.01, 300), (0.05, 60), (0.1, 30), (0.001, 3000)])
def test_a_rate_needs_three_scores_above_its_threshold(rate, needed):
    assert scores_needed(rate) == needed
    scores = np.random.default_rng(0).normal(size=needed)
    assert (scores >= false_accept_threshold(scores, rate)).sum() == 3
    with pytest.raises(UsageError, match=f"{needed - 1:,} impostor scores .* {needed:,} are needed"):
        false_accept_threshold(scores[1:], rate)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=60, max_size=150), st.sampled_from([0.05, 0.1, 0.3]))
def test_no_more_false_accepts_than_allowed_even_with_ties(scores, rate):
    values = np.array(scores, float)
    threshold = false_accept_threshold(values, rate)
    assert (values >= threshold).mean() <= rate + 1e-12
    lower = np.nextafter(threshold, -np.inf)  # an impostor score
    assert (values >= lower).mean() > rate


def test_interval_of_a_rate():
    for errors, trials in [(3, 300), (0, 10), (10, 10), (450, 4500)]:
        reference = binomtest(errors, trials).proportion_ci(method="wilson")
        assert rate_interval(errors, trials) == pytest.approx((reference.low, reference.high))
    assert rate_interval(0, 10)[0] == 0
    assert rate_interval(10, 10)[1] == 1
    with pytest.raises(UsageError, match="4 errors of 3 trials"):
        rate_interval(4, 3)


def test_trials_are_all_pairs():
    pairs, labels = all_trials(["anna", "ben", "anna", "cleo"])
    assert pairs.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert labels.tolist() == [False, True, False, False, False, False]
    assert len(all_trials(np.repeat(np.arange(10), 10))[1]) == 4950
    assert all_trials(np.repeat(np.arange(10), 10))[1].sum() == 450
    with pytest.raises(UsageError, match="1 items"):
        all_trials(["anna"])


def test_scores_of_pairs_are_cosines():
    vectors = np.random.default_rng(0).normal(size=(400, 7)).astype(np.float32)
    pairs, _ = all_trials(range(400))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = (unit @ unit.T)[pairs[:, 0], pairs[:, 1]]
    assert score_trials(vectors, pairs) == pytest.approx(expected, abs=1e-6)
    assert score_trials(vectors, np.zeros((0, 2), int)).shape == (0,)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: equal_error_rate([True, True], [1, 2]), "2 target and 0 impostor scores"),
        (lambda: equal_error_rate([False], [1]), "0 target and 1 impostor scores.*pairs of one speaker"),
        (lambda: equal_error_rate([True, False], [1, math.nan]), "1 of 2 scores are NaN"),
        (lambda: equal_error_rate([True, False, True], [1, 2]), "3 labels for 2 scores"),
        (lambda: equal_error_rate([2, 0], [1, 2]), "other than True and False"),
        (lambda: equal_error_rate([True, False], [[1, 2]]), r"shape \(1, 2\)"),
        (lambda: min_dcf([True, False], [1, 2], prior=0), "prior=0"),
        (lambda: min_dcf([True, False], [1, 2], miss_cost=-1), "miss_cost=-1"),
        (lambda: false_accept_threshold(np.zeros(5), 0.01), "5 impostor scores .* state a rate of 60 %"),
        (lambda: false_accept_threshold(np.zeros(5), 1.5), "rate=1.5"),
        (lambda: score_trials(np.eye(3), [[0, 3]]), "indices of the 3 vectors"),
        (lambda: score_trials(np.zeros((2, 3)), [[0, 1]]), "row 0 is a vector of zeros"),
        (lambda: score_trials([[1, math.inf]], [[0, 0]]), "1 of 2 numbers"),
    ],
)
def test_invalid_arguments_are_named(call, why):
    with pytest.raises(UsageError, match=why):
        call()
