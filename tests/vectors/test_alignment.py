"""Alignment against closed forms and SciPy, and what is known of planted pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes

from omnivec.errors import UsageError
from omnivec.vectors import alignment
from omnivec.vectors.alignment import Projection, cca, choose, procrustes, ranks, recall, ridge, split


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def planted(seed=0, count=400, shared=6, noise=0.3, dims=(24, 16)):
    """Two views of the same hidden causes, each mixed by itself, with noise of its own."""
    rng = np.random.default_rng(seed)
    causes = rng.standard_normal((count, shared))
    views = []
    for dim in dims:
        mixed = causes @ rng.standard_normal((shared, dim)) + noise * rng.standard_normal((count, dim))
        views.append((mixed + rng.standard_normal(dim)).astype(np.float32))
    return views


def test_ridge_solves_its_normal_equations():
    left, right = planted()
    x, y = unit(left.astype(np.float64)), unit(right.astype(np.float64))
    x, y = x - x.mean(0), y - y.mean(0)
    made = ridge(left, right, 0.2)
    weight, bias = (value.astype(np.float64) for value in made.left.layers[0])
    penalty = 0.2 * np.trace(x.T @ x) / x.shape[1]
    gradient = x.T @ (x @ weight.T - y) + penalty * weight.T
    assert np.abs(gradient).max() < 1e-4 * np.abs(x.T @ y).max()
    np.testing.assert_allclose(bias, -weight @ unit(left.astype(np.float64)).mean(0), atol=1e-5)
    np.testing.assert_array_equal(made.right.layers[0][0], np.eye(16))


def test_ridge_without_penalty_is_least_squares():
    left, right = planted(noise=1.0)
    x, y = unit(left.astype(np.float64)), unit(right.astype(np.float64))
    x, y = x - x.mean(0), y - y.mean(0)
    expected = np.linalg.lstsq(x, y, rcond=None)[0].T
    np.testing.assert_allclose(ridge(left, right, 0.0).left.layers[0][0], expected, rtol=1e-3, atol=1e-4)


def test_procrustes_equals_scipys_and_keeps_distances():
    left, right = planted(dims=(12, 12))
    x, y = unit(left.astype(np.float64)), unit(right.astype(np.float64))
    expected, _ = orthogonal_procrustes(x - x.mean(0), y - y.mean(0))
    weight = procrustes(left, right).left.layers[0][0].astype(np.float64)
    np.testing.assert_allclose(weight, expected.T, atol=1e-5)
    np.testing.assert_allclose(weight @ weight.T, np.eye(12), atol=1e-6)


def test_procrustes_finds_a_planted_rotation():
    rng = np.random.default_rng(3)
    left = rng.standard_normal((300, 10)).astype(np.float32)
    turn = np.linalg.qr(rng.standard_normal((10, 10)))[0]
    made = procrustes(left, (left @ turn).astype(np.float32))
    np.testing.assert_allclose(made.left.layers[0][0], turn.T, atol=1e-3)
    assert recall(made.left(left), made.right(left @ turn), 1) == (1, 1)


@pytest.mark.parametrize("dims", [(24, 16), (16, 24)])
def test_procrustes_of_two_lengths_is_orthogonal_where_it_can_be(dims):
    left, right = planted(dims=dims)
    weight = procrustes(left, right).left.layers[0][0].astype(np.float64)
    small = weight @ weight.T if dims[1] < dims[0] else weight.T @ weight
    np.testing.assert_allclose(small, np.eye(16), atol=1e-6)


def test_canonical_directions_are_white_and_their_correlations_are_the_scales():
    """With next to no penalty: each side's outputs are uncorrelated, partners' correlate as SciPy's subspaces say."""
    from scipy.linalg import subspace_angles

    left, right = planted(noise=1.0)
    made = cca(left, right, 1e-9)
    outputs, inputs = [], []
    for head, rows in ((made.left, left), (made.right, right)):
        rows = unit(rows.astype(np.float64))
        weight, bias = (value.astype(np.float64) for value in head.layers[0])
        outputs.append(rows @ weight.T + bias)
        inputs.append(rows - rows.mean(0))
    correlations = np.sort(np.cos(subspace_angles(*inputs)))[::-1]
    for output in outputs:
        covariance = output.T @ output
        np.testing.assert_allclose(np.sqrt(np.diag(covariance)), correlations, atol=2e-3)
        assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-3
    np.testing.assert_allclose(np.diag(outputs[0].T @ outputs[1]), correlations**3, atol=3e-3)


def test_fewer_directions_are_the_first_ones():
    left, right = planted()
    whole, part = cca(left, right, 0.1), cca(left, right, 0.1, dim=4)
    assert part.left.dims == (24, 4) and part.right.dims == (16, 4)
    np.testing.assert_array_equal(part.left.layers[0][0], whole.left.layers[0][0][:4])


@pytest.mark.parametrize("method", alignment.METHODS)
def test_partners_that_were_never_seen_are_found(method):
    left, right = planted(count=600)
    made = choose(alignment.METHODS[method], left[:400], right[:400])
    found = recall(made.left(left[400:]), made.right(right[400:]), 5)
    assert min(found) > (0.5 if method == "procrustes" else 0.9)
    shuffled = np.random.default_rng(0).permutation(400)
    blind = choose(alignment.METHODS[method], left[:400], right[:400][shuffled])
    assert max(recall(blind.left(left[400:]), blind.right(right[400:]), 5)) < 0.15


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), size=st.floats(0.1, 10))
@pytest.mark.parametrize("method", alignment.METHODS)
def test_order_and_length_of_the_vectors_do_not_matter(method, seed, size):
    left, right = planted(seed, count=60)
    fit, order = alignment.METHODS[method], np.random.default_rng(seed).permutation(60)
    plain = fit(left, right, 0.3)
    other = fit(left[order] * np.float32(size), right[order], 0.3)
    # The directions themselves may change their sign together: what is compared is what they are compared by.
    np.testing.assert_allclose(
        other.left(left) @ other.right(right).T, plain.left(left) @ plain.right(right).T, atol=2e-3
    )


def test_regularisation_is_chosen_by_pairs_that_were_held_out():
    """Few pairs and many components: the weakest penalty learns the noise by heart and is not taken."""
    left, right = planted(count=80, noise=2.0, dims=(70, 60))
    assert choose(cca, left, right).strength >= 0.1
    many = planted(count=4000, noise=0.05, dims=(8, 8))
    assert choose(ridge, *many).strength <= 0.1
    assert choose(ridge, left, right, (0.7,)).strength == 0.7


def test_ranks_by_hand():
    left = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    right = np.array([[1, 0.1], [1, 0], [0.1, 1]], np.float32)
    forth, back = ranks(left, right)
    assert forth.tolist() == [2, 3, 2] and back.tolist() == [1, 3, 2]
    assert recall(left, right, 2) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert alignment.mean_reciprocal_rank(left, right) == pytest.approx(
        np.mean([1 / 2, 1 / 3, 1 / 2, 1, 1 / 3, 1 / 2])
    )


def test_a_space_in_which_all_is_alike_finds_nothing():
    same = np.ones((20, 3), np.float32)
    assert recall(same, same, 10) == (0, 0)


def test_split_is_disjoint_complete_and_seeded():
    known, held = split(100, 0.2, 1)
    assert len(held) == 20 and sorted([*known, *held]) == list(range(100))
    assert split(100, 0.2, 1)[1].tolist() == held.tolist() != split(100, 0.2, 2)[1].tolist()
    with pytest.raises(UsageError, match="3 pairs with 2 held out leave 1"):
        split(3, 0.5, 0)


def test_a_head_by_hand():
    first = (np.array([[1, 0], [0, 1], [1, -1]], np.float32), np.array([0, 0, 0.5], np.float32))
    last = (np.array([[1, 1, 0], [0, 0, 2]], np.float32), np.array([0, 1], np.float32))
    # (3, 4) -> (0.6, 0.8) -> (0.6, 0.8, 0.3) -> (1.4, 1.6) -> length 1
    np.testing.assert_allclose(
        Projection((first, last))(np.array([[3.0, 4.0]], np.float32)),
        [[1.4, 1.6] / np.hypot(1.4, 1.6)],
        rtol=1e-6,
    )
    # (0, 2) -> (0, 1) -> (0, 1, -0.5) -> relu -> (1, 1)
    np.testing.assert_allclose(
        Projection((first, last))(np.array([[0.0, 2.0]], np.float32)), [[0.5**0.5] * 2]
    )
    assert Projection((first, last)).dims == (2, 2)
    with pytest.raises(UsageError, match="vectors of 3 components, but this head takes 2"):
        Projection((first,))(np.ones((1, 3), np.float32))


@pytest.mark.parametrize("method", alignment.METHODS)
def test_what_is_no_pairs_is_said(method):
    fit = alignment.METHODS[method]
    with pytest.raises(UsageError, match="pairs of"):
        fit(np.ones((3, 2), np.float32), np.ones((4, 2), np.float32), 0.1)
    bad = np.ones((4, 2), np.float32)
    bad[2, 1] = np.inf
    with pytest.raises(UsageError, match="right: 1 of 8 numbers are not finite"):
        fit(np.eye(4, dtype=np.float32), bad, 0.1)
