"""The contract suite itself: it passes what is right, and what is wrong in one point fails it."""

from __future__ import annotations

import numpy as np
import pytest

from omnivec.store.indexes.exact import ExactIndex
from omnivec.testing import check_close, check_index, check_rejected


class Forgetful(ExactIndex):
    """Keeps what it was told to remove."""

    def remove(self, keys):
        pass


class Careless(ExactIndex):
    """Finds keys that are not allowed."""

    def search(self, queries, k, allowed=None):
        return super().search(queries, k)


class Unscaled(ExactIndex):
    """Takes every metric for the dot product."""

    def __init__(self, dim, metric):
        super().__init__(dim, "dot")


def test_exact_search_keeps_the_contract():
    check_index(ExactIndex)


@pytest.mark.parametrize("wrong", [Forgetful, Careless, Unscaled])
def test_an_index_that_breaks_it_is_named(wrong):
    with pytest.raises(AssertionError, match=r"found|vectors after removal"):
        check_index(wrong)


def test_comparisons_see_shape_size_and_what_is_not_finite():
    one = np.ones((2, 3))
    check_close(one, one + 1e-7, "equal")
    for other in (one[:1], one * 1.001, np.full((2, 3), np.nan)):
        with pytest.raises(AssertionError):
            check_close(other, one, "different")
    check_rejected(one * 1.01, one, "a wrong factor")
    with pytest.raises(AssertionError, match="would pass"):
        check_rejected(one + 1e-6, one, "nothing wrong")
