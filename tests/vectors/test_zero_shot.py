"""Zero-shot classes: hand-computed probabilities, and what must not change them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from omnivec.errors import UsageError
from omnivec.vectors.labels import average, fill, zero_shot

IMAGES = np.array([[3.0, 0.0], [0.0, 0.5], [1.0, 1.0]], np.float32)
LABELS = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
COSINES = [[1.0, 0.0], [0.0, 1.0], [math.sqrt(0.5), math.sqrt(0.5)]]

VECTORS = arrays(np.float32, (4, 6), elements=st.floats(-5, 5, width=32)).filter(
    lambda rows: np.linalg.norm(rows, axis=1).min() > 0.1
)


def test_a_softmax_over_the_labels_by_hand():
    got = zero_shot(IMAGES, LABELS, scale=2.0)
    assert got.dtype == np.float32
    assert got[0] == pytest.approx([math.exp(2) / (math.exp(2) + 1), 1 / (math.exp(2) + 1)])
    assert got[1] == pytest.approx(got[0][::-1])
    assert got[2] == pytest.approx([0.5, 0.5])


def test_a_sigmoid_of_each_pair_by_hand():
    got = zero_shot(IMAGES, LABELS, scale=4.0, bias=-1.0)
    expected = [[1 / (1 + math.exp(-(4 * cosine - 1))) for cosine in row] for row in COSINES]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_no_label_fits_and_a_sigmoid_says_so():
    images, labels = np.eye(3, dtype=np.float32)[:1], np.eye(3, dtype=np.float32)[1:]
    assert zero_shot(images, labels, 100.0).sum() == pytest.approx(1)
    assert zero_shot(images, labels, 100.0, -10.0).max() < 1e-4


def test_large_logits_stay_finite_and_small_probabilities_are_kept():
    opposite = np.array([[1.0, 0.0]], np.float32), np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32)
    soft, sig = zero_shot(*opposite, scale=1e4), zero_shot(*opposite, scale=40.0, bias=-10.0)
    np.testing.assert_allclose(soft, [[1, 0]], atol=1e-12)
    np.testing.assert_allclose(sig, [[1 / (1 + math.exp(-30)), math.exp(-50)]], rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(images=VECTORS, labels=VECTORS, size=st.floats(0.01, 100), scale=st.floats(0.1, 100))
def test_lengths_do_not_matter_and_the_order_of_labels_only_moves_columns(images, labels, size, scale):
    right = zero_shot(images, labels, scale)
    np.testing.assert_allclose(right.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(
        zero_shot(images * np.float32(size), labels, scale), right, rtol=1e-3, atol=1e-6
    )
    np.testing.assert_allclose(zero_shot(images, labels[::-1], scale), right[:, ::-1], rtol=1e-5, atol=1e-9)
    cosines = images @ labels.T / np.linalg.norm(images, axis=1)[:, None] / np.linalg.norm(labels, axis=1)
    for bias in (None, -3.0):
        found = zero_shot(images, labels, scale, bias)
        order = np.argsort(-cosines, axis=1, kind="stable")
        assert (np.diff(np.take_along_axis(found, order, 1)) <= 1e-5).all()


def test_templates_are_filled_label_by_label():
    assert fill(["a {}", "{}s"], ["cat", "dog"]) == ["a cat", "cats", "a dog", "dogs"]
    assert fill(["{} and {}"], ["{x}"]) == ["{x} and {x}"]
    with pytest.raises(UsageError, match=r"'a photo' has no \{\}"):
        fill(["a {}", "a photo"], ["cat"])
    with pytest.raises(UsageError, match="no templates"):
        fill([], ["cat"])


def test_a_label_is_the_mean_direction_of_its_templates():
    vectors = np.array([[2, 0], [0, 9], [1, 1], [5, 5]], np.float32)
    np.testing.assert_allclose(average(vectors, 2), [[math.sqrt(0.5)] * 2] * 2, rtol=1e-6)
    np.testing.assert_allclose(average(vectors[:2], 2), [[1, 0], [0, 1]])
    for labels in (0, 3):
        with pytest.raises(UsageError, match=f"4 vectors for {labels} labels"):
            average(vectors, labels)


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), "3 components and labels 4"),
        (np.ones((2, 3)), np.ones((0, 3)), "no labels"),
        (np.ones(3), np.ones((1, 3)), "items of shape"),
        (np.array([[np.nan, 1.0]]), np.ones((1, 2)), "1 of 2 numbers"),
    ],
)
def test_what_cannot_be_meant_is_said(images, labels, said):
    with pytest.raises(UsageError, match=said):
        zero_shot(images, labels)


def test_it_is_a_name_of_tasks_whatever_was_imported_before():
    from omnivec import tasks

    assert tasks.zero_shot is zero_shot and callable(tasks.spearman)
    with pytest.raises(AttributeError, match="no attribute 'cluster_by_magic'"):
        tasks.cluster_by_magic  # noqa: B018
