"""Vectors at length 1: zeros stay, and every bit is that of the formula that stored vectors were made by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from omnivec.vectors.unit import unit, unit_table

ROWS = np.random.default_rng(0).standard_normal((300, 384)) * 10.0 ** np.arange(-12, 18).repeat(10)[:, None]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_lengths_are_one_and_zeros_stay(kind: Any) -> None:
    rows = ROWS.astype(kind)
    rows[7] = 0
    scaled = unit(rows)
    assert scaled.dtype == kind and not scaled[7].any()
    exact = np.linalg.norm(scaled.astype(np.float64), axis=1)
    np.testing.assert_allclose(np.delete(exact, 7), 1, atol=2 * np.finfo(kind).eps)


def test_in_float32_it_is_torchs_down_to_vanishing_lengths() -> None:
    rows = np.concatenate([ROWS, ROWS[:10] * 1e-4]).astype(np.float32)
    expected = torch.nn.functional.normalize(torch.from_numpy(rows), dim=1).numpy()
    np.testing.assert_allclose(unit(rows), expected, rtol=3e-7)
    assert np.linalg.norm(unit(rows)[-10:], axis=1).max() < 0.5  # shorter than 1e-12
    assert np.linalg.norm(unit(rows.astype(np.float64)), axis=1).min() > 0.99


def test_the_bits_of_stored_vectors_stay() -> None:
    rows = ROWS.astype(np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_array_equal(unit(rows), rows / np.maximum(norms, np.float32(1e-12)))


def test_of_a_table_only_the_last_bit_may_differ() -> None:
    rows = ROWS.astype(np.float32)
    rows[7] = 0
    scaled = unit_table(rows)
    assert scaled.dtype == np.float32 and not scaled[7].any()
    np.testing.assert_allclose(scaled, unit(rows), rtol=5e-7)
    assert unit_table(np.array([[3, 4]], np.float32)).tolist() == [[np.float32(0.6), np.float32(0.8)]]
