"""The nearest passages of many vectors, as arrays: against comparing all of them in NumPy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import omnivec
from omnivec import Collection
from omnivec.errors import UsageError

ROWS, DIM = 300, 16
CHANCE = np.random.default_rng(0)
VECTORS = CHANCE.standard_normal((ROWS, DIM)).astype(np.float32)
QUERIES = CHANCE.standard_normal((7, DIM)).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    with Collection(tmp_path_factory.mktemp("nearest") / "a.omni") as opened:
        opened.add(
            [f"text {i}" for i in range(ROWS)],
            [f"doc {i}" for i in range(ROWS)],
            [{"third": i % 3} for i in range(ROWS)],
            vectors=VECTORS,
        )
        yield opened


@pytest.mark.parametrize("where", [None, {"third": 1}])
def test_keys_and_scores_are_those_of_comparing_all(notes: Collection, where: Any) -> None:
    keys, scores = notes.nearest(QUERIES, 5, where=where)
    cosines = unit(QUERIES) @ unit(VECTORS).T
    if where:
        cosines[:, np.arange(ROWS) % 3 != 1] = -2
    best = np.argsort(-cosines, axis=1)[:, :5]
    assert keys.dtype == np.int64
    assert scores.dtype == np.float32
    assert notes.ids_of(keys).tolist() == [[f"doc {i}" for i in row] for row in best]
    np.testing.assert_allclose(scores, np.take_along_axis(cosines, best, 1), atol=1e-6)


def test_they_are_those_of_search(notes: Collection) -> None:
    keys, scores = notes.nearest(QUERIES[0], 10)
    hits = notes.search(QUERIES[0], 10)
    assert notes.ids_of(keys)[0].tolist() == [hit.document for hit in hits]
    assert scores[0].tolist() == [hit.score for hit in hits]


def test_fewer_than_k_are_filled_up(notes: Collection) -> None:
    keys, scores = notes.nearest(QUERIES, ROWS + 2)
    assert keys.shape == scores.shape == (7, ROWS + 2)
    assert (keys[:, -2:] == -1).all()
    assert (keys[:, :-2] > 0).all()
    assert scores[0, -1] == -math.inf
    assert notes.ids_of(keys)[0, -2:].tolist() == ["", ""]
    keys, _ = notes.nearest(QUERIES, 2, where={"third": 7})
    assert keys.tolist() == [[-1, -1]] * 7


def test_nothing_in_nothing_out(notes: Collection, tmp_path: Path) -> None:
    keys, scores = notes.nearest(np.zeros((0, DIM)), 4)
    assert keys.shape == scores.shape == (0, 4)
    assert notes.ids_of(keys).shape == (0, 4)
    with Collection(tmp_path / "empty.omni") as empty:
        assert empty.nearest(QUERIES, 2)[0].tolist() == [[-1, -1]] * 7


def test_a_removed_document_has_no_id_and_is_not_found(tmp_path: Path) -> None:
    with Collection(tmp_path / "a.omni") as opened:
        opened.add(None, ["a", "b"], vectors=VECTORS[:2])
        keys, _ = opened.nearest(VECTORS[0], 2)
        opened.delete(["a"])
        assert opened.ids_of(keys).tolist() == [["", "b"]]
        assert opened.ids_of(opened.nearest(VECTORS[0], 2)[0]).tolist() == [["b", ""]]


@pytest.mark.parametrize(
    ("vectors", "options", "message"),
    [
        (QUERIES[:, :5], {}, "query has 5 components, which no space has"),
        (QUERIES, {"space": "other"}, "no space 'other'"),
        (QUERIES[None], {}, r"vectors of shape \(1, 7, 16\): give \(n, dim\), or one vector"),
        (np.full((2, DIM), np.nan), {}, "2 of 2 vectors have numbers that are NaN"),
        (["a text"], {}, "vectors is a list that is not an array of numbers"),
        (QUERIES, {"k": 0}, "k"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    notes: Collection, vectors: Any, options: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        notes.nearest(vectors, **options)
    assert "\n" not in str(refused.value)
    with pytest.raises(UsageError, match="give integers"):
        notes.ids_of([0.5])


def test_no_passage_is_read_for_keys_and_scores(notes: Collection) -> None:
    notes.nearest(QUERIES, 3)
    ran: list[str] = []
    with notes._catalogue.connection() as connection:
        pass
    connection.set_trace_callback(ran.append)
    try:
        notes.nearest(QUERIES, 3)
    finally:
        connection.set_trace_callback(None)
    assert not [one for one in ran if "passages" in one or "documents" in one or "FROM vectors" in one]
    assert omnivec.Collection is Collection
