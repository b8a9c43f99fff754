"""Average link on the cosine: against SciPy and scikit-learn, and in pieces against the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from omnivec.errors import UsageError
from omnivec.vectors import agglomerative
from omnivec.vectors.agglomerative import average_link, renumbered


def groups(count, per, dim=12, spread=0.3, seed=0):
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(count, dim))
    labels = np.repeat(np.arange(count), per)
    return centres[labels] + spread * generator.normal(size=(len(labels), dim)), labels


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 60), dim=st.integers(2, 20))
def test_merges_are_those_of_scipy(seed, count, dim):
    vectors = np.random.default_rng(seed).normal(size=(count, dim))
    ours, reference = average_link(vectors), linkage(vectors, "average", "cosine")
    assert ours.distances == pytest.approx(reference[:, 2], abs=1e-5)
    for number in {1, 2, count // 2 + 1, count}:
        expected = fcluster(reference, number, "maxclust")
        if len(set(expected.tolist())) == number:
            assert adjusted_rand_score(ours.cut(number), expected) == pytest.approx(1)
    middle = float(np.mean(reference[(count - 2) // 2 : (count - 2) // 2 + 2, 2]))
    if np.abs(reference[:, 2] - middle).min() > 1e-5:
        expected = fcluster(reference, middle, "distance")
        assert adjusted_rand_score(ours.cut(distance=middle), expected) == pytest.approx(1)


def test_clusters_are_those_of_scikit_learn():
    vectors, _ = groups(6, 40, spread=0.8)
    reference = AgglomerativeClustering(6, metric="cosine", linkage="average").fit_predict(vectors)
    assert adjusted_rand_score(average_link(vectors).cut(6), reference) == pytest.approx(1)


def test_distances_by_hand():
    # Two equal vectors, and one at a right angle to them.
    found = average_link([[1, 0], [0, 3], [5, 0]])
    assert found.merges.tolist() == [[0, 2], [3, 1]]
    assert found.distances.tolist() == [0, 1]
    assert found.cut(2).tolist() == [0, 1, 0]
    assert found.cut(distance=0.99).tolist() == [0, 1, 0]
    assert found.cut(distance=1.0).tolist() == [0, 0, 0]
    assert found.cut(3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("most", [30, 100, 1000])
def test_pieces_find_the_same_groups(most, monkeypatch):
    """300 vectors in pieces of 60: clear groups come out whole, whatever the order of their members."""
    monkeypatch.setattr(agglomerative, "MOST", most)
    monkeypatch.setattr(agglomerative, "_PIECE", 60)
    vectors, labels = groups(4, 75)
    order = np.random.default_rng(1).permutation(300)
    found = average_link(vectors[order])
    assert adjusted_rand_score(found.cut(4), labels[order]) == 1
    assert len(found.merges) < most
    # The last merges are of whole groups, so that their distances are those of one piece.
    monkeypatch.setattr(agglomerative, "MOST", 1000)
    whole = average_link(vectors[order])
    assert found.distances[-3:] == pytest.approx(whole.distances[-3:], abs=1e-5)


def test_equal_vectors_and_a_single_one():
    assert average_link(np.ones((50, 3))).cut(distance=1e-6).tolist() == [0] * 50
    assert average_link([[1.0, 2.0]]).cut(1).tolist() == [0]
    assert average_link([1.0, 2.0]).cut(distance=0.5).tolist() == [0]


def test_result_does_not_depend_on_lengths_and_is_repeatable():
    vectors, _ = groups(3, 20)
    scaled = vectors * np.linspace(0.1, 9, 60)[:, None]
    assert np.array_equal(average_link(vectors).cut(5), average_link(scaled).cut(5))
    assert np.array_equal(average_link(vectors).merges, average_link(vectors).merges)


def test_numbers_follow_the_first_occurrence():
    assert renumbered(np.array([7, 3, 7, 9, 3])).tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: average_link(np.zeros((0, 3))), "no vectors"),
        (lambda: average_link([[0.0, 0.0]]), "row 0 is a vector of zeros"),
        (lambda: average_link(np.eye(3)).cut(), "give one of both"),
        (lambda: average_link(np.eye(3)).cut(2, 0.5), "give one of both"),
        (lambda: average_link(np.eye(3)).cut(4), "count=4: 1 to 3"),
        (lambda: average_link(np.eye(3)).cut(distance=-1), "distance=-1"),
    ],
)
def test_invalid_arguments_are_named(call, why):
    with pytest.raises(UsageError, match=why):
        call()
