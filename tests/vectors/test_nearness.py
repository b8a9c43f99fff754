"""Nearness of vectors: against SciPy in float64, also where float32 or products lose all digits; what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from omnivec import similarity
from omnivec.errors import UsageError
from omnivec.vectors.similarity import pairwise_similarity

RANDOM = np.random.default_rng(5)
A, B = RANDOM.normal(size=(7, 33)).astype(np.float32), RANDOM.normal(size=(4, 33)).astype(np.float32)


@pytest.mark.parametrize("shift", [0, 1e3, 1e6])
@pytest.mark.parametrize("scale", [1e-25, 1, 1e18, 1e30])
def test_distances_equal_those_of_differences_in_float64(shift: float, scale: float) -> None:
    a, b = (((rows + np.float32(shift)) * np.float32(scale)).astype(np.float32) for rows in (A, B))
    b = np.concatenate([b, a[:2], np.nextafter(a[:2], np.float32(np.inf))])
    expected = -cdist(a.astype(np.float64), b.astype(np.float64))
    found = similarity(a, b, "euclidean")
    assert found.dtype == np.float32 and found.shape == (7, 8)
    np.testing.assert_allclose(found, expected.astype(np.float32), rtol=3e-7, atol=0)


@pytest.mark.parametrize("scale", [1e-20, 1, 1e19, 1e37])
def test_a_vector_has_no_distance_to_itself_and_a_cosine_of_one(scale: float) -> None:
    a = (A * np.float32(scale)).astype(np.float32)
    assert (similarity(a, a, "euclidean").diagonal() == 0).all()
    np.testing.assert_allclose(similarity(a, a).diagonal(), 1, rtol=1e-6)
    np.testing.assert_allclose(similarity(a, B), 1 - cdist(a.astype(float), B, "cosine"), atol=1e-6)


def test_products_and_pairs() -> None:
    np.testing.assert_allclose(similarity(A, B, "dot"), A.astype(float) @ B.T.astype(float), rtol=1e-5)
    for metric in ("cosine", "dot", "euclidean"):
        whole = similarity(A[:4], B, metric)
        np.testing.assert_allclose(
            pairwise_similarity(A[:4], B, metric),
            whole.diagonal(),
            rtol=1e-5,
            atol=1e-6,
        )


def test_one_vector_none_and_zeros() -> None:
    assert similarity(A[0], B[0]).shape == (1, 1)
    assert (
        similarity([], B).shape == (0, 4)
        and similarity(A, []).shape == (7, 0)
        and similarity([], []).shape == (0, 0)
    )
    assert similarity([1, 0], [[0, 2], [3, 0]]).tolist() == [[0.0, 1.0]]
    assert similarity(np.zeros(3), np.ones(3)).tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("a", "b", "metric", "why"),
    [
        (A, B, "l2", r"metric='l2' is none of cosine, dot, euclidean"),
        (A, B, None, r"metric=None is none of"),
        (A, B, ["cosine"], r"metric=\['cosine'\] is none of"),
        (A, B[:, :5], "cosine", r"vectors of a have 33 components and those of b 5"),
        (A * np.nan, B, "dot", r"a: 231 of 231 numbers are NaN or infinite"),
        (A, [[np.inf, 1.0]], "euclidean", r"b: 1 of 2 numbers are NaN or infinite"),
        ("king", "queen", "cosine", r"a is a str that is not an array of numbers"),
        (["a", "b"], B, "cosine", r"a is a list that is not an array of numbers"),
        ([[1, 2], [3]], B, "cosine", r"a is a list that is not an array of numbers"),
        (None, B, "cosine", r"a is a NoneType"),
        (np.ma.array(A, mask=A > 0), B, "cosine", r"a is an array with masked numbers"),
        (3.0, B, "cosine", r"a of shape \(\): vectors are \(n, dim\)"),
        (np.zeros((2, 2, 2)), B, "cosine", r"a of shape \(2, 2, 2\)"),
    ],
)
def test_what_is_no_vectors_and_no_metric_is_refused(a: Any, b: Any, metric: Any, why: str) -> None:
    with pytest.raises(UsageError, match=why) as raised:
        similarity(a, b, metric)
    assert "\n" not in str(raised.value)


def test_pairs_need_as_many_of_both() -> None:
    with pytest.raises(UsageError, match="a has 7 vectors and b 4"):
        pairwise_similarity(A, B)


@pytest.mark.parametrize(("metric", "sizes"), [("dot", (1e30, 1e200)), ("euclidean", (1e39, 1e200))])
def test_a_nearness_beyond_float32_is_an_error_and_not_infinite(
    metric: Any, sizes: tuple[float, float]
) -> None:
    a, b = A[:2].astype(float), A[2:4].astype(float)
    for size in sizes:
        for call in (similarity, pairwise_similarity):
            with pytest.raises(UsageError, match="beyond the range of float32"):
                call(a * size, b * size, metric)
    assert np.allclose(similarity(a * 1e15, b * 1e15, "dot"), (a @ b.T) * 1e30, rtol=1e-5)
