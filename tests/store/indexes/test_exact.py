"""Exact search against float64 and sorting, on vectors made to be awkward."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnivec.errors import UsageError
from omnivec.store.indexes import exact
from omnivec.store.indexes.base import VectorIndex
from omnivec.store.indexes.exact import ExactIndex

METRICS = ["cosine", "dot", "euclidean"]


def oracle(keys, vectors, query, k, metric, allowed=None):
    """All scores in float64, rounded to float32; each key by its best; ties by key."""
    x, q = vectors.astype(np.float64), query.astype(np.float64)
    if metric == "euclidean":
        scores = -np.linalg.norm(x - q, axis=1)
    else:
        scores = (x * q).sum(axis=1)
        if metric == "cosine":
            sizes = np.linalg.norm(x, axis=1) * np.linalg.norm(q)
            scores = np.array([s / size if size else 0.0 for s, size in zip(scores, sizes, strict=True)])
    best = {}
    for key, score in zip(keys.tolist(), scores.astype(np.float32).tolist(), strict=True):
        if allowed is None or key in allowed:
            best[key] = max(score, best.get(key, -np.inf))
    ranked = sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
    ranked += [(-1, -np.inf)] * (k - len(ranked))
    return [key for key, _ in ranked], [score for _, score in ranked]


def agrees(index, keys, vectors, queries, k, allowed=None):
    found, scores = index.search(queries, k, None if allowed is None else np.array(sorted(allowed), np.int64))
    assert (found.shape, scores.shape) == ((len(queries), k), (len(queries), k))
    assert (found.dtype, scores.dtype) == (np.int64, np.float32)
    for row, query in enumerate(queries):
        wanted, values = oracle(keys, vectors, query, k, index.metric, allowed)
        # Two ways to add in float64 may round to neighbouring float32, and then trade places.
        np.testing.assert_allclose(scores[row], values, rtol=3e-7, atol=1e-37)
        if np.array_equal(scores[row], np.float32(values)):
            clear = [i for i in range(k) if values.count(values[i]) == 1 and values[i] != values[-1]]
            assert [found[row, i] for i in clear] == [wanted[i] for i in clear]
        assert len(set(found[row][found[row] >= 0].tolist())) == (found[row] >= 0).sum()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [1, 3, 64, 384])
def test_random_vectors(metric, dim):
    chance = np.random.default_rng(dim)
    vectors = chance.standard_normal((3000, dim)).astype(np.float32)
    keys = np.sort(chance.choice(10**12, 3000, replace=False))
    queries = chance.standard_normal((7, dim)).astype(np.float32)
    index = ExactIndex(dim, metric, keys, vectors)
    agrees(index, keys, vectors, queries, 10)
    agrees(index, keys, vectors, queries, 10, set(keys[::7].tolist()) | {5})
    agrees(index, keys, vectors, queries[:1], 3000)


@pytest.mark.parametrize("metric", METRICS)
def test_near_duplicates_far_from_the_origin(metric):
    """In float32 |q|² + |x|² - 2 q·x would have no digit left here."""
    chance = np.random.default_rng(1)
    vectors = (1000 + 1e-3 * chance.standard_normal((500, 48))).astype(np.float32)
    index = ExactIndex(48, metric, np.arange(500), vectors)
    agrees(index, np.arange(500), vectors, vectors[:5], 20)
    if metric == "euclidean":
        found, scores = index.search(vectors[:5], 1)
        assert found[:, 0].tolist() == [0, 1, 2, 3, 4]
        assert scores[:, 0].tolist() == [0.0] * 5


@pytest.mark.parametrize("metric", METRICS)
def test_equal_vectors_tie_exactly_and_go_by_key(metric):
    chance = np.random.default_rng(2)
    vectors = np.repeat(chance.standard_normal((7, 131)).astype(np.float32), 150, axis=0)[
        chance.permutation(1050)
    ]
    index = ExactIndex(131, metric, np.arange(1050), vectors)
    found, scores = index.search(vectors[:3], 149)
    for row in range(3):
        twins = np.flatnonzero((vectors == vectors[row]).all(axis=1))
        if metric != "dot":
            np.testing.assert_array_equal(found[row], twins[:149])
        assert len(set(scores[row].tolist())) == 1
        assert (np.diff(found[row]) > 0).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e-12, 1e12, 1e18, 1e30])
def test_any_magnitude(metric, scale):
    chance = np.random.default_rng(3)
    mixed = np.where(np.arange(200)[:, None] % 2, scale, 1.0)
    vectors = (chance.standard_normal((200, 16)) * mixed).astype(np.float32)
    queries = (chance.standard_normal((4, 16)) * [[1], [1], [scale], [scale]]).astype(np.float32)
    with np.errstate(over="ignore"):
        agrees(ExactIndex(16, metric, np.arange(200), vectors), np.arange(200), vectors, queries, 9)


def test_zero_vectors_score_zero_under_cosine():
    vectors = np.array([[0, 0], [1, 0], [-1, 0]], np.float32)
    index = ExactIndex(2, "cosine", np.arange(3), vectors)
    found, scores = index.search(np.array([[2, 0], [0, 0]], np.float32), 3)
    assert found.tolist() == [[1, 0, 2], [0, 1, 2]]
    assert scores.tolist() == [[1, 0, -1], [0, 0, 0]]


@pytest.mark.parametrize("metric", METRICS)
def test_a_key_of_several_parts_is_found_once_by_its_best(metric):
    chance = np.random.default_rng(4)
    keys = np.sort(chance.integers(0, 60, 400))
    vectors = chance.standard_normal((400, 8)).astype(np.float32)
    index = ExactIndex(8, metric, keys, vectors)
    queries = chance.standard_normal((5, 8)).astype(np.float32)
    agrees(index, keys, vectors, queries, 10)
    agrees(index, keys, vectors, queries, 10, set(range(0, 60, 3)))
    agrees(index, keys, vectors, queries, 70)


def test_fewer_than_k_and_none_at_all():
    index = ExactIndex(2, "dot")
    query = np.ones((2, 2), np.float32)
    for rows in (0, 2):
        found, scores = index.search(query, 3)
        assert (found[:, rows:] == -1).all()
        assert np.isneginf(scores[:, rows:]).all()
        index.add(np.array([4, 2]), np.eye(2, dtype=np.float32))
    assert index.search(query, 3)[0].tolist() == [[2, 4, -1], [2, 4, -1]]
    assert index.search(query, 1, np.array([99]))[0].tolist() == [[-1], [-1]]
    assert index.search(query, 1, np.zeros(0, np.int64))[0].tolist() == [[-1], [-1]]
    assert index.search(np.zeros((0, 2), np.float32), 4)[0].shape == (0, 4)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), metric=st.sampled_from(METRICS))
def test_adding_and_removing_against_a_dict(data, metric):
    index, model = ExactIndex(2, metric), {}
    small = st.integers(-3, 3).map(float)
    for _ in range(data.draw(st.integers(1, 5))):
        keys = data.draw(st.lists(st.integers(0, 9), max_size=5))
        if data.draw(st.booleans()):
            vectors = np.array([data.draw(st.tuples(small, small)) for _ in keys], np.float32).reshape(-1, 2)
            index.add(np.array(keys, np.int64), vectors)
            model |= {key: [v for k, v in zip(keys, vectors, strict=True) if k == key] for key in keys}
        else:
            index.remove(np.array(keys, np.int64))
            model = {key: rows for key, rows in model.items() if key not in keys}
        pairs = [(key, row) for key, rows in model.items() for row in rows]
        assert len(index) == len(pairs)
        query = np.array([data.draw(st.tuples(small, small))], np.float32)
        agrees(
            index,
            np.array([key for key, _ in pairs], np.int64),
            np.array([row for _, row in pairs], np.float32).reshape(-1, 2),
            query,
            4,
        )


def test_blocks_make_no_difference(monkeypatch):
    chance = np.random.default_rng(5)
    vectors = chance.standard_normal((1000, 32)).astype(np.float32)
    queries = chance.standard_normal((50, 32)).astype(np.float32)
    whole = ExactIndex(32, "cosine", np.arange(1000), vectors).search(queries, 10)
    monkeypatch.setattr(exact, "_SCORES_AT_ONCE", 2500)
    for allowed in (None, np.arange(1000)):
        parts = ExactIndex(32, "cosine", np.arange(1000), vectors).search(queries, 10, allowed)
        np.testing.assert_array_equal(whole[0], parts[0])
        np.testing.assert_array_equal(whole[1], parts[1])


def test_a_read_only_memory_map(tmp_path):
    vectors = np.random.default_rng(6).standard_normal((300, 12)).astype(np.float32)
    vectors.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float32, "r", shape=(300, 12))
    index = ExactIndex(12, "cosine", np.arange(300), mapped)
    assert isinstance(index, VectorIndex)
    agrees(index, np.arange(300), vectors, vectors[:3], 5)
    index.add(np.array([7]), np.ones((1, 12), np.float32))
    index.remove(np.array([0]))
    assert len(index) == 299
    np.testing.assert_array_equal(np.fromfile(tmp_path / "rows", np.float32).reshape(300, 12), vectors)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda index: index.search(np.zeros((1, 3), np.float32), 1), r"\(1, 3\).*\(n, 2\)"),
        (lambda index: index.search(np.zeros(2, np.float32), 1), r"\(2,\)"),
        (lambda index: index.search(np.zeros((1, 2), np.float32), 0), "k is 0"),
        (lambda index: index.search(np.array([[np.nan, 1]], np.float32), 1), "1 numbers that are NaN"),
        (lambda index: index.add(np.array([1, 2]), np.zeros((1, 2), np.float32)), "as many keys"),
        (lambda index: index.add(np.array([-1]), np.zeros((1, 2), np.float32)), "none negative"),
        (lambda index: ExactIndex(2, "dot", np.array([2, 1]), np.zeros((2, 2), np.float32)), "not ascending"),
        (lambda index: ExactIndex(2, "dot", np.array([1]), np.zeros((2, 2), np.float32)), "1 keys need"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(UsageError, match=message):
        call(ExactIndex(2, "cosine"))
