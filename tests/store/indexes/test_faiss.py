"""FAISS' lists propose the right candidates: by every metric, of any data, after any change, saved and loaded."""

from __future__ import annotations

import re

import numpy as np
import pytest

from omnivec.errors import CollectionError, UsageError
from omnivec.store.index_recall import Truth
from omnivec.store.indexes.exact import ExactIndex
from omnivec.store.indexes.faiss import TARGET, FaissIndex

DIM = 24


def clustered(n, seed=0, dim=DIM, centres=40):
    """Vectors in clusters of different sizes and with different norms."""
    chance = np.random.default_rng(seed)
    middle = np.random.default_rng(99).standard_normal((centres, dim))
    places = (centres * chance.random(n) ** 2).astype(int)
    vectors = middle[places] + 0.4 * chance.standard_normal((n, dim))
    return (vectors * chance.uniform(0.5, 2, (n, 1))).astype(np.float32)


def in_blocks(keys, vectors, size=700):
    return lambda: ((keys[i : i + size], vectors[i : i + size]) for i in range(0, len(keys), size))


def built(keys, vectors, metric="cosine"):
    return FaissIndex.build(vectors.shape[1], metric, len(keys), in_blocks(keys, vectors))


def recall(index, keys, vectors, queries, allowed=None):
    """The share of the ten nearest among the candidates."""
    right, _ = ExactIndex(vectors.shape[1], index.metric, keys, vectors).search(queries, 10, allowed)
    found, _ = index.search(queries, index.candidates(10), allowed)
    return np.mean([np.isin(one[one >= 0], row).mean() for one, row in zip(right, found, strict=True)])


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_the_nearest_are_among_the_candidates_as_often_as_the_index_states(metric):
    vectors, queries = clustered(4000), clustered(100, seed=1)
    keys = np.arange(4000) * 3 + 5
    index = built(keys, vectors, metric)
    assert index.facts["recall"] >= TARGET and index.facts["lists"] > 50
    assert index.facts["probes"] < index.facts["lists"]
    assert recall(index, keys, vectors, queries) > 0.97
    assert recall(index, keys, vectors, queries, keys[::10]) > 0.97


def test_the_same_vectors_give_the_same_index(tmp_path):
    vectors, keys = clustered(1500), np.arange(1500)
    for name, size in ("one", 700), ("two", 700), ("other blocks", 1000):
        FaissIndex.build(DIM, "dot", 1500, in_blocks(keys, vectors, size)).save(tmp_path / name)
    one, two, other = ((tmp_path / name).read_bytes() for name in ("one", "two", "other blocks"))
    assert one == two == other


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize(
    "vectors",
    [
        np.zeros((1500, DIM), np.float32),
        np.ones((1500, DIM), np.float32),
        np.repeat(clustered(3), 500, 0),
        np.concatenate([np.zeros((50, DIM), np.float32), clustered(1450)]),
        clustered(1),
        clustered(7),
        clustered(1500) * np.float32(1e30),
        clustered(1500) * np.float32(1e-30),
        np.concatenate([clustered(1499), np.full((1, DIM), 3e38, np.float32)]),
    ],
    ids=["zeros", "ones", "repeated", "some-zeros", "one", "seven", "large", "small", "one-large"],
)
def test_any_vectors_can_be_indexed(metric, vectors):
    keys = np.arange(len(vectors))
    index = built(keys, vectors, metric)
    found, scores = index.search(np.concatenate([vectors[-3:], clustered(3)]), 20)
    assert found.max() < len(keys)
    if vectors.any():  # among zeros all score the same, and a collection compares them all
        assert (found[3:, 0] >= 0).all()
        assert len(np.unique(found[-1])) == min(20, len(keys)) + (len(keys) < 20)
    assert np.array_equal(np.isneginf(scores), found < 0)


def test_an_index_of_nothing_finds_nothing_and_takes_vectors():
    index = FaissIndex.build(DIM, "cosine", 0, lambda: iter(()))
    keys, scores = index.search(clustered(2), 5)
    assert (keys == -1).all() and np.isneginf(scores).all() and len(index) == 0
    index.remove(np.array([3]))
    index.add(np.array([9, 4]), clustered(2))
    assert sorted(index.search(clustered(1), 2)[0][0]) == [4, 9]


def test_a_key_with_several_vectors_is_proposed_once():
    vectors = clustered(3000)
    keys = np.sort(np.arange(3000) % 1000)
    index = built(keys, vectors)
    found, _ = index.search(vectors[:50], 30)
    for row in found:
        assert len(np.unique(row[row >= 0])) == (row >= 0).sum()
    assert (found == keys[:50, None]).any(axis=1).mean() > 0.95


def test_bad_arguments_are_refused():
    index = built(np.arange(100), clustered(100))
    with pytest.raises(UsageError, match="k is 0"):
        index.search(clustered(1), 0)
    with pytest.raises(UsageError, match=r"queries are \(1, 7\); this index takes \(n, 24\)"):
        index.search(clustered(1, dim=7), 5)
    with pytest.raises(UsageError, match="NaN"):
        index.add(np.array([200]), np.full((1, DIM), np.nan, np.float32))
    with pytest.raises(UsageError, match="none negative"):
        index.add(np.array([-1]), clustered(1))
    with pytest.raises(UsageError, match=r"gave 100 vectors; n is 90"):
        FaissIndex.build(DIM, "dot", 90, in_blocks(np.arange(100), clustered(100)))


def test_files_of_other_kinds_are_refused(tmp_path):
    path = tmp_path / "index"
    built(np.arange(100), clustered(100)).save(path)
    with pytest.raises(CollectionError, match="dim 24 and metric cosine, not 24 and dot"):
        FaissIndex.load(path, DIM, "dot")
    raw = path.read_bytes()
    for other in (b"", raw[:9], b"another!" + raw[8:], raw[:12] + b"{" + raw[13:40]):
        path.write_bytes(other)
        with pytest.raises(CollectionError, match=f"{re.escape(str(path))} holds no index"):
            FaissIndex.load(path, DIM, "cosine")


def test_recall_counts_ties_and_not_the_query_itself():
    vectors = np.arange(1, 31, dtype=np.float32)[:, None]
    truth = Truth(np.array([29]), vectors[29:], "dot")
    truth.see(np.arange(30), vectors)
    assert truth.recall(np.array([[29, 28, 27, 26, 25, 24]])) == 0.5
    vectors[15:25] = 20
    truth = Truth(np.array([29]), vectors[29:], "dot")
    for i in range(0, 30, 7):
        truth.see(np.arange(30)[i : i + 7], vectors[i : i + 7])
    assert truth.recall(np.array([[28, 27, 26, 25, 15, 16, 17, 18, 19, 20]])) == 1.0
    assert truth.recall(np.array([[28, 27, 26, 25, 15, 16, 3, 2, 1, 0]])) == 0.6
