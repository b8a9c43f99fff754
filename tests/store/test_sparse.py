"""The inverted index against dot products of dicts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnivec.errors import UsageError
from omnivec.store.sparse import SparseIndex


def index_of(rows):
    """(key, {index: weight}) pairs, ascending by key."""
    pairs = [sorted(row.items()) for _, row in rows]
    flat = [pair for row in pairs for pair in row]
    return SparseIndex(
        np.array([key for key, _ in rows], np.int64),
        np.cumsum([0, *map(len, pairs)]).astype(np.int64),
        np.array([index for index, _ in flat], np.int64),
        np.array([weight for _, weight in flat], np.float32),
    )


def row_of(query):
    listed = sorted(query.items())
    return np.array([one for one, _ in listed], np.int64), np.array([one for _, one in listed], np.float32)


def by_loop(rows, query, k, allowed=None):
    best = {}
    for key, row in rows:
        shared = row.keys() & query.keys()
        if shared and (allowed is None or key in allowed):
            score = np.float32(sum(row[one] * query[one] for one in sorted(shared)))
            best[key] = max(score, best.get(key, -np.inf))
    return sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))[:k]


def test_the_example_of_the_module():
    rows = [(2, {7: 0.5}), (5, {1: 1.0, 7: 2.0}), (8, {3: 4.0})]
    keys, scores = index_of(rows).search(row_of({1: 3.0, 7: 1.0}), 10)
    assert (keys.tolist(), scores.tolist()) == ([5, 2], [5.0, 0.5])
    assert (keys.dtype, scores.dtype) == (np.int64, np.float32)


weight = st.integers(-3, 3).map(lambda n: n / 2)
row = st.dictionaries(st.integers(0, 6) | st.just(2**40), weight, max_size=5)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 12), row), max_size=10),
    query=row,
    k=st.integers(1, 8),
    allowed=st.none() | st.sets(st.integers(0, 12)),
)
def test_empty_rows_ties_and_several_rows_of_a_key(rows, query, k, allowed):
    """Halves, of which every sum is exact."""
    rows = sorted(rows, key=lambda pair: pair[0])
    listed = None if allowed is None else np.array(sorted(allowed), np.int64)
    index = index_of(rows)
    assert len(index) == len(rows)
    keys, scores = index.search(row_of(query), k, listed)
    assert list(zip(keys.tolist(), scores.tolist(), strict=True)) == by_loop(rows, query, k, allowed)


def test_many_random_rows_and_equal_ones_tie():
    chance = np.random.default_rng(1)
    weights = chance.standard_normal(5000).astype(np.float32).astype(float)
    rows = [
        (key, {int(i): weights[(key % 250 + i) % 5000] for i in np.unique(chance.zipf(1.3, 40) % 3000)})
        for key in range(500)
    ]
    rows += [(key + 500, row) for key, row in rows]
    query = {int(i): float(np.float32(chance.standard_normal())) for i in range(0, 3000, 3)}
    keys, scores = index_of(rows).search(row_of(query), 1000)
    wanted = by_loop(rows, query, 1000)
    np.testing.assert_allclose(scores, [score for _, score in wanted], rtol=1e-5, atol=1e-6)
    found = dict(zip(keys.tolist(), scores.tolist(), strict=True))
    assert set(found) == {key for key, _ in wanted}
    assert all(found[key] == found[key + 500] for key, _ in rows[:500] if key in found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda index: index.search((np.array([1]), np.zeros(2, np.float32)), 1), "as many indices"),
        (lambda index: index.search(row_of({1: 1.0}), 0), "k is 0"),
        (lambda index: index.search((np.array([2, 1]), np.ones(2)), 1), "not ascending"),
        (lambda index: index.search((np.array([1, 1]), np.ones(2)), 1), "occurs twice"),
        (lambda index: index.search((np.array([-1]), np.ones(1)), 1), "negative"),
        (lambda index: index.search((np.array([1]), np.array([np.inf])), 1), "1 weights"),
        (lambda index: SparseIndex(np.array([2, 1]), np.zeros(3, np.int64), *row_of({})), "keys are not"),
        (lambda index: SparseIndex(np.array([1]), np.array([0, 2]), *row_of({1: 1.0})), "0 to 2"),
        (lambda index: SparseIndex(np.array([1]), np.array([0]), *row_of({})), r"indptr \(2,\)"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(UsageError, match=message):
        call(index_of([(1, {1: 1.0})]))
