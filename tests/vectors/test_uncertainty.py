"""What to label next: the least sure, not ten times the same, always in the same order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from omnivec.errors import UsageError
from omnivec.vectors.uncertainty import most_uncertain, uncertainty

SHARES = [[0.9, 0.1, 0.0], [0.5, 0.5, 0.0], [0.4, 0.3, 0.3], [1.0, 0.0, 0.0]]


def test_both_measures_by_hand() -> None:
    assert uncertainty(SHARES) == pytest.approx([0.2, 1.0, 0.9, 0.0])
    entropy = -(0.4 * np.log(0.4) + 0.6 * np.log(0.3)) / np.log(3)
    assert uncertainty(SHARES, "entropy")[[1, 2, 3]] == pytest.approx([np.log(2) / np.log(3), entropy, 0])
    assert most_uncertain(SHARES, 2).tolist() == [1, 2]
    assert most_uncertain(SHARES, 2, measure="entropy").tolist() == [2, 1]


def test_copies_are_asked_once() -> None:
    shares = np.array([[0.5, 0.5]] * 5 + [[0.6, 0.4], [0.7, 0.3]])
    vectors = np.array([[1.0, 0.0]] * 5 + [[0.0, 1.0], [-1.0, 0.0]])
    assert most_uncertain(shares, 3).tolist() == [0, 1, 2]
    # Uncertainty times distance: 0.8 * 1 and 0.6 * 2.
    assert most_uncertain(shares, 3, vectors).tolist() == [0, 6, 5]
    assert sorted(most_uncertain(shares, 9, vectors).tolist()) == list(range(7))
    assert most_uncertain(shares, 9, vectors).tolist()[3:] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("shares", "options", "part"),
    [
        ([[1.0]], {}, "at least two classes"),
        ([[0.5, np.nan]], {}, "not between 0 and 1"),
        (SHARES, {"measure": "least"}, "measure='least'"),
        (SHARES, {"n": 0}, "n=0"),
        (SHARES, {"vectors": np.eye(3)}, "3 vectors for 4 items"),
    ],
)
def test_what_is_refused(shares: Any, options: Any, part: str) -> None:
    with pytest.raises(UsageError, match=part):
        most_uncertain(shares, **{"n": 1, **options})
