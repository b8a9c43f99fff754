"""Spearman's correlation, by hand and equal to scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from omnivec.errors import UsageError
from omnivec.vectors.correlation import ranks, spearman

pairs = st.lists(st.tuples(st.integers(-4, 4), st.floats(-10, 10)), min_size=2, max_size=40)


def test_by_hand():
    assert ranks([10, 30, 20, 20]).tolist() == [1, 4, 2.5, 2.5]
    assert spearman([1, 2, 3, 4], [10, 20, 30, 29]) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert spearman([1, 2], [2, 1]) == -1
    assert math.isnan(spearman([1, 1], [2, 1]))


@given(pairs)
def test_equals_scipy(values):
    one, other = np.array(values).T
    np.testing.assert_array_equal(ranks(one), stats.rankdata(one))
    if len(set(one)) > 1 and len(set(other)) > 1:
        assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic, abs=1e-12)


@pytest.mark.parametrize(("one", "other"), [([1], [1]), ([1, 2], [1, 2, 3]), ([], [])])
def test_lists_that_do_not_fit(one, other):
    with pytest.raises(UsageError, match="both need the same number, at least 2"):
        spearman(one, other)
