"""Spans of activity: worked examples, the rules stated another way, and invariants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnivec.errors import UsageError
from omnivec.vectors.activity import active_spans

SHARES = [0.1, 0.9, 0.4, 0.3, 0.6, 0.2, 0.1, 0.1, 0.0, 0.7]


def spans(shares: list[float], **settings_: float) -> list[tuple[float, float]]:
    return [tuple(row) for row in active_spans(shares, 1.0, **settings_).tolist()]


def test_worked_examples() -> None:
    assert spans(SHARES, min_gap=2) == [(1, 5), (9, 10)]
    assert spans(SHARES, min_gap=1) == [(1, 5), (9, 10)]
    assert spans(SHARES, min_gap=0) == [(1, 3), (4, 5), (9, 10)]
    assert spans(SHARES, min_gap=9) == [(1, 10)]
    assert spans(SHARES, min_gap=2, min_active=1) == [(1, 5)]
    assert spans(SHARES, min_gap=2, pad=0.5) == [(0.5, 5.5), (8.5, 10)]
    assert spans(SHARES, min_gap=2, pad=3) == [(0, 7), (7, 10)]
    assert spans(SHARES, min_gap=2, length=9.25) == [(1, 5), (9, 9.25)]
    assert spans(SHARES, min_gap=2, threshold=0.75) == [(1, 2)]
    assert spans(SHARES, min_gap=2, exit_threshold=0.15) == [(1, 6), (9, 10)]
    assert spans([0.4] * 5) == [] and spans([]) == [] and active_spans([], 1.0).shape == (0, 2)
    assert spans([0.005, 0.02, 0.012, 0.005], threshold=0.015) == [(1, 3)]


def by_marks(
    shares: list[float], enter: float, leave: float, gap: int, least: float
) -> list[tuple[int, int]]:
    """The same rules, stated as a mark for each frame: -1 below, +1 above, 0 between both thresholds."""
    marks = "".join("+" if share >= enter else "-" if share < leave else "0" for share in shares)
    found, at = [], 0
    while (start := marks.find("+", at)) >= 0:
        end = len(marks)
        at = start + 1
        while at < len(marks):
            if marks[at] == "-":
                again = marks.find("+", at)
                reach = len(marks) if again < 0 else again
                closing = next((i for i in range(at + gap, reach) if marks[i] == "-"), None)
                if closing is not None:
                    end, at = at, closing + 1
                    break
                at = reach
            else:
                at += 1
        if end - start > least:
            found.append((start, end))
        if end == len(marks):
            break
    return found


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.floats(0, 1), max_size=40),
    st.floats(0.2, 0.9),
    st.integers(0, 5),
    st.integers(0, 4),
)
def test_the_rules_stated_another_way(shares: list[float], enter: float, gap: int, least: int) -> None:
    found = spans(shares, threshold=enter, min_gap=gap, min_active=least)
    assert found == by_marks(shares, enter, max(enter - 0.15, 0.01), gap, least)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0, 3), st.floats(0, 1))
def test_spans_are_in_order_and_within_the_recording(shares: list[float], pad: float, cut: float) -> None:
    length = (len(shares) - 1 + cut) * 32.0
    found = active_spans(shares, 32.0, length, min_gap=64.0, pad=32.0 * pad)
    flat = found.ravel()
    assert (np.diff(flat) >= 0).all() and (flat >= 0).all() and (flat <= length).all()


def test_bad_arguments_are_refused() -> None:
    for change in (
        {"threshold": 1.5},
        {"exit_threshold": -1},
        {"min_gap": -1},
        {"min_active": -1},
        {"pad": -1},
        {"length": 11},
    ):
        with pytest.raises(UsageError, match=next(iter(change))):
            spans(SHARES, **change)
    with pytest.raises(UsageError, match="1 of 2 are not finite"):
        spans([0.5, float("nan")])
    with pytest.raises(UsageError, match="frame"):
        active_spans([0.5], 0.0)
    with pytest.raises(UsageError, match="shape"):
        active_spans([[0.5]], 1.0)
