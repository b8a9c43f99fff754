"""Questions to vectors of keys, equal to gensim's answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import given
from hypothesis import strategies as st

from omnivec.errors import UsageError
from omnivec.vectors.analogies import analogies, most_similar, odd_one_out

COUNT = 200
UNKNOWN: Any = "sub"  # a method that there is not


@pytest.fixture(scope="module")
def vectors():
    generator = np.random.default_rng(5)
    scales = generator.uniform(0.1, 9, size=(COUNT, 1))
    return (generator.normal(size=(COUNT, 12)) * scales).astype(np.float32)


@pytest.fixture(scope="module")
def gensim(vectors):
    keyed = KeyedVectors(12)
    keyed.add_vectors([str(row) for row in range(COUNT)], vectors)
    return keyed


QUESTIONS = [([3], []), ([3, 7], []), ([3, 7], [9]), ([1, 2, 3], [4, 5]), ([1, 1], [2])]


def assert_equals(found, theirs):
    rows, scores = found
    assert rows.tolist() == [int(key) for key, _ in theirs]
    np.testing.assert_allclose(scores, [score for _, score in theirs], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(("positive", "negative"), [*QUESTIONS, ([], [8])])
def test_3cosadd_equals_gensim(vectors, gensim, positive, negative):
    for k in (1, 10, COUNT):
        theirs = gensim.most_similar([str(row) for row in positive], [str(row) for row in negative], topn=k)
        assert_equals(most_similar(vectors, positive, negative, k), theirs)


@pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")  # inside gensim
@pytest.mark.parametrize(("positive", "negative"), QUESTIONS)
def test_3cosmul_equals_gensim(vectors, gensim, positive, negative):
    theirs = gensim.most_similar_cosmul(
        [str(row) for row in positive], [str(row) for row in negative], topn=9
    )
    assert_equals(most_similar(vectors, positive, negative, 9, "mul"), theirs)


def test_rows_that_are_not_wanted(vectors):
    rows, _ = most_similar(vectors, [3], k=5)
    without, _ = most_similar(vectors, [3], k=4, exclude=[int(rows[1])])
    assert without.tolist() == np.delete(rows, 1).tolist()
    assert most_similar(vectors, [3], k=0)[0].size == 0
    assert len(most_similar(vectors[:5], [3], [1], 99)[0]) == 3


def test_a_row_of_zeros_is_like_nothing():
    rows, scores = most_similar(np.array([[1, 0], [0, 0], [-1, 0], [2, 0]], np.float32), [0], k=3)
    assert rows.tolist() == [3, 1, 2] and scores.tolist() == [1, 0, -1]


@given(st.integers(0, 2**32 - 1), st.integers(3, 30))  # of two both are as far from the mean
def test_odd_one_out_equals_gensim(seed, count):
    vectors = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    keyed = KeyedVectors(8)
    keyed.add_vectors([str(row) for row in range(count)], vectors)
    assert odd_one_out(vectors) == int(keyed.doesnt_match([str(row) for row in range(count)]))


@pytest.mark.parametrize("method", ["add", "mul"])
def test_many_analogies_equal_each_by_itself(vectors, method, monkeypatch):
    questions = np.random.default_rng(0).permuted(np.tile(np.arange(COUNT), (50, 1)), axis=1)[:, :3]
    alone = [most_similar(vectors, [b, c], [a], 1, method)[0][0] for a, b, c in questions]
    assert analogies(vectors, questions, method=method).tolist() == alone
    monkeypatch.setattr("omnivec.vectors.analogies._SCORES", 7 * COUNT)
    assert analogies(vectors, questions, method=method).tolist() == alone
    assert analogies(vectors, questions[:0]).shape == (0,)


def test_another_spelling_of_the_question_is_no_answer(vectors):
    doubled = np.concatenate([vectors, vectors * 2])
    same = np.tile(np.arange(COUNT), 2)
    questions = np.array([[1, 2, 3], [COUNT + 4, 5, 6]])
    answers = analogies(doubled, questions, same)
    assert (same[answers] == analogies(vectors, questions % COUNT)).all()
    assert answers[0] not in (1, 2, 3, COUNT + 1, COUNT + 2, COUNT + 3)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda v: most_similar(v, []), "needs a positive row"),
        (
            lambda v: most_similar(v, [], [1], method="mul"),
            "needs a positive row or vector; there are 1 negative",
        ),
        (lambda v: most_similar(v, [COUNT]), "row 200 does not exist: there are 200"),
        (lambda v: most_similar(v, [-1]), "row -1 does not exist: there are 200"),
        (lambda v: most_similar(v, [1], method=UNKNOWN), "method='sub'"),
        (lambda v: analogies(v, np.zeros((1, 3), int), method=UNKNOWN), "method='sub'"),
        (lambda v: analogies(v[:3], np.zeros((1, 3), int)), "analogies in 3 vectors"),
        (lambda v: odd_one_out(v[:0]), "odd_one_out of 0 vectors"),
    ],
)
def test_wrong_questions(vectors, call, named):
    with pytest.raises(UsageError, match=named):
        call(vectors)
