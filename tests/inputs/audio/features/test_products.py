"""Matrix products in pieces, against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from omnivec.inputs.audio.features import MelFilters, products
from omnivec.inputs.audio.features.products import Banded, multiply


@pytest.mark.parametrize("rows", [0, 1, 5, 162, 163, 164, 400])
def test_products_of_any_number_of_rows(rows):
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(shape).astype(np.float32) for shape in ((rows, 80), (80, 20)))
    out = np.full((rows, 20), np.nan, np.float32)
    multiply(a, b, out)
    assert np.allclose(out, a @ b, atol=1e-4)


@pytest.mark.parametrize("columns", [1, 15, 16, 17, 80])
def test_banded_matrices(columns, monkeypatch):
    matrix = MelFilters(rate=16000, bands=columns, high=7000.0).matrix(400)
    a = np.random.default_rng(1).standard_normal((90, 201)).astype(np.float32)
    for largest in (2**18, 1, 2000):
        monkeypatch.setattr(products, "_LARGEST", largest)
        out = np.full((90, columns), np.nan, np.float32)
        Banded.of(matrix).multiply(a, out)
        assert np.allclose(out, a @ matrix, atol=1e-4)


def test_columns_of_zeros():
    matrix = np.zeros((30, 40), np.float32)
    matrix[3, 1] = 2
    out = np.full((2, 40), np.nan, np.float32)
    Banded.of(matrix).multiply(np.ones((2, 30), np.float32), out)
    assert out.sum() == 4 and out[0, 1] == 2
