"""Whole numbers from NumPy are taken as Python's are; mypy, which reads this file too, knows it."""

from __future__ import annotations

import numpy as np
import pytest

import omnivec
import small_models

FOUR, TWO, ONE = np.int64(4), np.int32(2), np.uint8(1)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return small_models.of_words(tmp_path_factory.mktemp("table") / "model")


def test_embedders_take_them(table):
    model: omnivec.Embedder = omnivec.load(table, dim=FOUR, threads=TWO)
    assert model.dim == 4 and type(model.dim) is int
    assert model.encode(["quick fox", "lazy dog"], batch_size=ONE, dim=TWO).shape == (2, 2)
    assert model.run(["quick fox"], batch_size=TWO, dim=TWO).vectors.shape == (1, 2)
    assert [one.vectors.shape for one in model.stream(["quick fox"], batch_size=TWO, dim=ONE)] == [(1, 1)]


def test_tables_take_them(table):
    words = omnivec.load(table, limit=FOUR)
    assert isinstance(words, omnivec.KeyedEmbedder) and len(words) == 4
    assert (
        len(words.most_similar(words.keys[0], k=TWO)) == len(words.most_similar(words.keys[0], topn=TWO)) == 2
    )


def test_collections_take_them(table, tmp_path):
    with omnivec.Collection(tmp_path / "notes.omni", model=table) as notes:
        notes.add(["quick fox", "lazy dog", "quick dog"], ids=["a", "b", "c"])
        assert len(notes.search("quick", k=TWO)) == len(notes.recommend("a", k=TWO)) == 2
