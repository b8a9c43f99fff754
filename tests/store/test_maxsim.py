"""MaxSim against a loop over all pairs of parts in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnivec.errors import UsageError
from omnivec.store import maxsim
from omnivec.store.maxsim import MaxSimIndex

METRICS = ["cosine", "dot"]


def compared(a, b, metric):
    a, b = a.astype(np.float64), b.astype(np.float64)
    size = np.sqrt((a**2).sum()) * np.sqrt((b**2).sum()) if metric == "cosine" else 1.0
    return float((a * b).sum() / size) if size else 0.0


def by_loop(passages, query, k, metric, allowed=None):
    """{key: parts} -> the k best (key, score), by Python's own max and sum."""
    scores = {
        key: sum(max(compared(asked, part, metric) for part in parts) for asked in query)
        for key, parts in passages.items()
        if allowed is None or key in allowed
    }
    return sorted(scores.items(), key=lambda pair: (-np.float32(pair[1]), pair[0]))[:k]


def index_of(passages, dim, metric):
    keys = np.repeat(list(passages), [len(parts) for parts in passages.values()]).astype(np.int64)
    parts = np.concatenate([np.zeros((0, dim), np.float32), *passages.values()])
    return MaxSimIndex(dim, metric, keys, parts)


def drawn(chance, count, dim, most=6):
    keys = np.sort(chance.choice(10**9, count, replace=False)).tolist()
    return {key: chance.standard_normal((chance.integers(1, most), dim)).astype(np.float32) for key in keys}


def test_the_example_of_the_module():
    passages = {4: np.array([[2, 0], [0, 3]], np.float32), 9: np.array([[4, 0]], np.float32)}
    keys, scores = index_of(passages, 2, "dot").search(np.eye(2, dtype=np.float32), 5)
    assert (keys.tolist(), scores.tolist()) == ([4, 9], [5.0, 4.0])
    keys, scores = index_of(passages, 2, "cosine").search(3 * np.eye(2, dtype=np.float32), 5)
    assert (keys.tolist(), scores.tolist()) == ([4, 9], [2.0, 1.0])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("at_once", [1, 50, 10**6])
def test_random_parts_in_blocks_of_any_size(metric, at_once, monkeypatch):
    monkeypatch.setattr(maxsim, "_SCORES_AT_ONCE", at_once)
    monkeypatch.setattr(maxsim, "_NUMBERS_AT_ONCE", at_once)
    chance = np.random.default_rng(3)
    passages = drawn(chance, 200, 24)
    index = index_of(passages, 24, metric)
    assert len(index) == 200
    for parts in (1, 5):
        query = chance.standard_normal((parts, 24)).astype(np.float32)
        for k, allowed in ((7, None), (200, None), (300, None), (9, set(list(passages)[::3]) | {5})):
            wanted = by_loop(passages, query, k, metric, allowed)
            keys, scores = index.search(query, k, None if allowed is None else np.array(sorted(allowed)))
            assert keys.tolist() == [key for key, _ in wanted]
            np.testing.assert_allclose(scores, [score for _, score in wanted], rtol=3e-7)
            assert (keys.dtype, scores.dtype) == (np.int64, np.float32)


small = st.integers(-2, 2).map(float)
part = st.tuples(small, small, small)


@settings(max_examples=150, deadline=None)
@given(
    passages=st.dictionaries(st.integers(0, 30), st.lists(part, min_size=1, max_size=4), max_size=8),
    query=st.lists(part, max_size=4),
    k=st.integers(1, 10),
    allowed=st.none() | st.sets(st.integers(0, 30)),
)
def test_ties_zeros_and_nothing_at_all_by_dot(passages, query, k, allowed):
    """Whole numbers, of which every sum is exact: the order of ties is that of the keys."""
    arrays = {key: np.array(parts, np.float32) for key, parts in sorted(passages.items())}
    asked = np.array(query, np.float32).reshape(-1, 3)
    listed = None if allowed is None else np.array(sorted(allowed), np.int64)
    keys, scores = index_of(arrays, 3, "dot").search(asked, k, listed)
    assert list(zip(keys.tolist(), scores.tolist(), strict=True)) == by_loop(arrays, asked, k, "dot", allowed)


@pytest.mark.parametrize("metric", METRICS)
def test_equal_passages_tie_and_one_part_is_the_metric_itself(metric):
    chance = np.random.default_rng(4)
    parts = chance.standard_normal((3, 131)).astype(np.float32)
    passages = {key: np.roll(parts, key, axis=0) for key in range(60)}  # the same parts in another order
    keys, scores = index_of(passages, 131, metric).search(
        chance.standard_normal((4, 131)).astype(np.float32), 40
    )
    assert keys.tolist() == list(range(40))
    assert len(set(scores.tolist())) == 1
    query = chance.standard_normal((1, 131)).astype(np.float32)
    [score] = index_of({1: parts[:1]}, 131, metric).search(query, 1)[1]
    assert score == pytest.approx(compared(parts[0], query[0], metric), rel=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-30, 1e18])
def test_magnitudes_that_float32_products_do_not_hold(metric, scale):
    chance = np.random.default_rng(5)
    passages = {key: (parts * scale).astype(np.float32) for key, parts in drawn(chance, 50, 8).items()}
    query = (chance.standard_normal((3, 8)) * scale).astype(np.float32)
    keys, scores = index_of(passages, 8, metric).search(query, 5)
    wanted = by_loop(passages, query, 50, metric)
    if metric == "cosine":
        assert keys.tolist() == [key for key, _ in wanted[:5]]
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(
            scores, np.array([dict(wanted)[key] for key in keys.tolist()], np.float32), rtol=1e-6
        )


def test_a_query_part_of_zeros_adds_nothing():
    passages = drawn(np.random.default_rng(6), 20, 5)
    query = np.random.default_rng(7).standard_normal((2, 5)).astype(np.float32)
    index = index_of(passages, 5, "cosine")
    with_zeros = np.concatenate([query, np.zeros((1, 5), np.float32)])
    for one, other in zip(index.search(query, 20), index.search(with_zeros, 20), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda index: index.search(np.zeros((1, 3), np.float32), 1), r"\(1, 3\).*\(parts, 2\)"),
        (lambda index: index.search(np.zeros(2, np.float32), 1), r"\(2,\)"),
        (lambda index: index.search(np.zeros((1, 2), np.float32), 0), "k is 0"),
        (lambda index: index.search(np.array([[np.nan, 1]]), 1), "1 numbers that are NaN"),
        (
            lambda index: MaxSimIndex(2, "euclidean", np.zeros(0, np.int64), np.zeros((0, 2), np.float32)),
            "euclidean",
        ),
        (
            lambda index: MaxSimIndex(2, "dot", np.array([2, 1]), np.zeros((2, 2), np.float32)),
            "not ascending",
        ),
        (lambda index: MaxSimIndex(2, "dot", np.array([1]), np.zeros((2, 2), np.float32)), "1 keys need"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(UsageError, match=message):
        call(MaxSimIndex(2, "dot", np.array([1, 1]), np.eye(2, dtype=np.float32)))
