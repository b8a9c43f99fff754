"""Intervals, F1, temperatures and calibration errors: against values computed by hand and by peers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from omnivec.errors import UsageError
from omnivec.vectors.probe_estimate import (
    calibration_error,
    estimate,
    fitted_temperature,
    log_loss,
    macro_f1,
    softmax,
    wilson,
)


@pytest.mark.parametrize(("right", "count"), [(0, 10), (7, 10), (10, 10), (950, 1000)])
def test_the_interval_is_that_of_wilson(right: int, count: int) -> None:
    peer = binomtest(right, count).proportion_ci(method="wilson")
    assert wilson(right / count, count) == pytest.approx((peer.low, peer.high))


def test_f1_of_a_class_that_was_never_asked_does_not_count() -> None:
    truth, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 2, 1, 1, 0])
    confusion = np.zeros((3, 3), np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    assert macro_f1(confusion) == pytest.approx(f1_score(truth, predicted, labels=[0, 1], average="macro"))


def test_groups_that_succeed_together_widen_the_interval() -> None:
    truth = np.zeros(100, np.int64)
    predicted = np.repeat(np.arange(10) < 2, 10).astype(np.int64)  # two groups of ten fail as a whole
    alone = estimate(truth, predicted, np.arange(100), 2, "")
    together = estimate(truth, predicted, np.repeat(np.arange(10), 10), 2, "")
    assert (alone.low, alone.high) == pytest.approx(wilson(0.8, 100))
    assert (together.low, together.high) == pytest.approx(wilson(0.8, 10))
    perfect = estimate(truth, truth, np.repeat(np.arange(10), 10), 2, "")
    assert perfect.low == pytest.approx(wilson(1.0, 10)[0])
    assert "accuracy 80.0 % (95 % interval" in str(alone)


def test_the_temperature_is_that_by_which_scores_were_multiplied() -> None:
    random = np.random.default_rng(0)
    logits = 2 * random.standard_normal((4000, 3))
    truth = (softmax(logits).cumsum(axis=1) > random.random((4000, 1))).argmax(axis=1)
    assert fitted_temperature(5 * logits, truth) == pytest.approx(5, rel=0.06)
    assert fitted_temperature(logits / 4, truth) == pytest.approx(0.25, rel=0.06)


def test_scores_without_an_error_have_a_temperature_too() -> None:
    scores = np.eye(2)[np.arange(40) % 2] * 3
    found = fitted_temperature(scores, np.arange(40) % 2)
    # The best probability is 1 - 1/42: exp(3 / t) = 41.
    assert found == pytest.approx(3 / np.log(41), rel=2e-3)


def test_a_class_that_was_not_learned_takes_no_part() -> None:
    scores, truth = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0, 1])
    wider = np.column_stack([scores, [-np.inf, -np.inf]])
    assert log_loss(wider, truth) == pytest.approx(log_loss(scores, truth))


def test_the_calibration_error_by_hand() -> None:
    # Confidence 0.9 with half right, and 0.6 with all right: (2 * 0.4 + 2 * 0.4) / 4.
    shares = [[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]]
    assert calibration_error(shares, np.array([0, 1, 1, 1])) == pytest.approx(0.4)
    with pytest.raises(UsageError, match="a row for each"):
        calibration_error(shares, np.array([0]))
