"""Sums and means of a table's rows, by the kernel and by NumPy, equal a plain loop."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from omnivec.errors import ModelError
from omnivec.tables import pooling
from omnivec.tables.pooling import pooled


def by_loop(table, rows, how, weights):
    vectors = []
    for row in rows:
        factors = np.ones(len(row)) if weights is None else weights[row].astype(np.float64)
        total = sum(
            (factor * table[i].astype(np.float64) for factor, i in zip(factors, row, strict=True)),
            np.zeros(table.shape[1]),
        )
        by = {"sum": 1, "mean": len(row), "weighted mean": factors.sum()}[how]
        vectors.append(total / by if len(row) else total)
    return np.array(vectors)


@pytest.fixture(params=["kernel", "numpy"])
def way(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setitem(sys.modules, "omnivec.tables.kernels", None)
    assert (pooling._kernel() is pooling._add_by_numpy) == (request.param == "numpy")


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("how", ["mean", "weighted mean", "sum"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_vectors_are_a_plain_loops(way, dtype, how, weighted, threads, monkeypatch):
    monkeypatch.setattr(pooling, "AT_ONCE", 10)
    random = np.random.default_rng(0)
    table = (random.normal(size=(50, 37)) * 30).astype(dtype)
    weights = random.uniform(0.1, 2, 50).astype(np.float32) if weighted else None
    rows = [random.integers(0, 50, size) for size in (0, 1, 2, 3, 4, 5, 9, 0, 64, 17, 0)]
    ids = np.concatenate(rows).astype(np.int32)
    offsets = np.cumsum([0, *map(len, rows)])
    found = pooled(table, ids, offsets, how, weights, threads=threads)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_loop(table, rows, how, weights), rtol=1e-5, atol=1e-4)


def test_rows_are_added_in_their_order():
    table = np.array([[1e8], [1.0], [-1e8]], np.float32)
    found = pooled(table, np.array([0, 1, 2, 1, 0, 2, 1], np.int32), np.array([0, 5, 7], np.int64), "sum")
    # In float32 1e8 + 1 is 1e8: 0, then 1, then 1e8 + 1; a sum in another order would differ.
    assert found.tolist() == [[1e8], [-1e8]]


def test_no_texts_and_no_ids(way):
    table = np.ones((3, 5), np.float32)
    assert pooled(table, np.array([], np.int32), np.array([0], np.int64)).shape == (0, 5)
    assert pooled(table, np.array([], np.int32), np.array([0, 0], np.int64)).tolist() == [[0.0] * 5]


@pytest.mark.parametrize("wrong", [-1, 3])
def test_an_id_that_is_no_row_is_refused(way, wrong):
    with pytest.raises(ModelError, match=r"rows of a table of 3"):
        pooled(np.ones((3, 5), np.float32), np.array([0, wrong], np.int32), np.array([0, 2], np.int64))
