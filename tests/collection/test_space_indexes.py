"""Indexes of large spaces: built by a method and by commands, kept up to date, named when damaged."""

from __future__ import annotations

import numpy as np
import pytest

from omnivec import Collection
from omnivec.collection import space_indexes
from omnivec.errors import UsageError
from omnivec.store import matrix

ROWS = 700


@pytest.fixture
def small_limit(monkeypatch):
    """Makes spaces of more than 500 vectors large ones."""
    monkeypatch.setattr(matrix, "EXACT_ROWS", 500)


def drawn(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 16)).astype(np.float32)


def fill(notes, n, seed=0):
    notes.add(ids=[f"{seed}-{i}" for i in range(n)], vectors=drawn(n, seed))


def test_an_index_is_built_and_extended_by_the_method(small_limit, tmp_path):
    with Collection(tmp_path / "notes.omni") as notes:
        assert notes.build_index() == []
        fill(notes, ROWS)
        [built] = notes.build_index()
        assert (built.space, built.rows, built.added) == ("vectors", ROWS, ROWS)
        fill(notes, 50, 1)
        assert notes.build_index("vectors")[0].added == 50
        [file] = notes.folder.glob("index-*.faiss")
        assert notes.check() == []
        file.write_bytes(file.read_bytes()[:-1])
        [line] = notes.check()
        assert str(file) in line
        assert notes.build_index()[0].rows == ROWS + 50 and notes.check() == []


def test_an_index_of_a_small_space_is_built_if_it_is_named(tmp_path):
    with Collection(tmp_path / "notes.omni") as notes:
        fill(notes, 30)
        assert notes.build_index() == []
        assert notes.build_index("vectors")[0].rows == 30


def test_it_is_built_at_the_end_of_a_command_if_much_is_missing(small_limit, tmp_path):
    with Collection(tmp_path / "notes.omni") as notes:
        assert space_indexes.stale(notes._catalogue, notes.folder, "faiss") == []
        fill(notes, ROWS)
        assert [one.added for one in space_indexes.build_stale(notes)] == [ROWS]
        fill(notes, 50, 1)
        assert space_indexes.build_stale(notes) == []
        fill(notes, 50, 2)
        assert [one.added for one in space_indexes.build_stale(notes)] == [100]


def test_what_cannot_have_an_index_is_said(tmp_path):
    with Collection(tmp_path / "notes.omni") as notes:
        fill(notes, 30)
        with pytest.raises(UsageError, match="no space 'other' in this collection; there are: vectors"):
            notes.build_index("other")
        with pytest.raises(UsageError, match="index 'exact' is not stored in files"):
            notes.build_index("vectors", index="exact")
    with (
        Collection(tmp_path / "notes.omni", readonly=True) as notes,
        pytest.raises(UsageError, match="open for reading only"),
    ):
        notes.build_index("vectors")
