"""Index files: what was written comes back, whatever else stands in their place does not."""

from __future__ import annotations

import json
import os
import random
import shutil

import numpy as np
import pytest

from omnivec.errors import CollectionError, UsageError
from omnivec.store import index_files, matrix
from omnivec.store.index_builder import build
from omnivec.store.sqlite import Catalogue
from store_samples import document, space

PASSAGES = 400


@pytest.fixture
def stored(catalogue):
    """A catalogue with an index file."""
    catalogue.write([document("a", ["text"] * PASSAGES)])
    build(catalogue, catalogue.folder, "text", "faiss")
    return catalogue


def newest(catalogue):
    return index_files.newest(catalogue, catalogue.folder, "text", "faiss")


def file_of(catalogue):
    [file] = catalogue.folder.glob("index-*.faiss")
    return file


def test_what_was_saved_is_read_with_its_header(stored):
    read = newest(stored)
    header = read.header
    assert (header.space, header.dim, header.metric, header.index) == ("text", 4, "cosine", "faiss")
    assert (header.state, header.rows, header.trained) == (stored.changes(), PASSAGES, PASSAGES)
    keys, vectors = stored.vectors("text")
    assert header.last == keys[-1] and read.size == file_of(stored).stat().st_size
    assert header.facts["faiss"] and 0 <= header.facts["recall"] <= 1
    found, _ = read.index.search(vectors[300:301], 50)
    assert keys[300] in found
    assert index_files.problems(stored, stored.folder) == []


def test_an_older_state_of_the_history_is_used_and_a_foreign_one_is_not(stored, tmp_path):
    stored.write([document("b")])
    assert newest(stored).header.state != stored.changes()
    file = file_of(stored)
    moved = file.rename(file.with_name(f"{file.name.rsplit('-', 1)[0]}-{7:016x}.faiss"))
    assert newest(stored) is None and index_files.problems(stored, stored.folder) == []
    with Catalogue.open(tmp_path / "other", create=True) as other:
        other.put_space(space())
        other.write([document("a", ["text"] * PASSAGES)])
        build(other, other.folder, "text", "faiss")
        taken = file_of(other)
        shutil.copy(moved, taken)
        assert newest(other) is None
        assert len(index_files.problems(other, other.folder)) == 1


def test_a_space_that_takes_the_name_of_another_takes_no_index_of_it(stored):
    file = file_of(stored)
    key = stored.space_key("text")
    own, other = matrix.slug("text", key), matrix.slug("text", key + 1)
    file.rename(file.with_name(file.name.replace(own, other)))
    assert newest(stored) is None and index_files.problems(stored, stored.folder) == []


def test_damage_anywhere_is_seen_named_and_mended(stored):
    file = file_of(stored)
    whole, chance = file.read_bytes(), random.Random(0)
    places = [
        0,
        8,
        len(whole) - 1,
        len(whole) - 9,
        len(whole) - 13,
        *(chance.randrange(len(whole)) for _ in range(150)),
    ]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        assert newest(stored) is None, place
    [line] = index_files.problems(stored, stored.folder)
    assert str(file) in line and "omnivec collection build-index text" in line
    for length in (0, 1, 15, 16, 17, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert newest(stored) is None, length
    file.write_bytes(whole + b"more")
    assert newest(stored) is None
    build(stored, stored.folder, "text", "faiss")
    assert newest(stored) is not None and index_files.problems(stored, stored.folder) == []
    assert file.read_bytes() == whole  # the same vectors give the same index


def test_pipes_and_folders_in_its_place_are_no_index(stored):
    file = file_of(stored)
    for put in (file.mkdir, lambda: os.mkfifo(file), lambda: file.symlink_to("/nowhere")):
        file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
        put()
        assert newest(stored) is None
        assert len(index_files.problems(stored, stored.folder)) == 1
        build(stored, stored.folder, "text", "faiss")
        assert newest(stored) is not None


def test_a_newer_file_replaces_older_ones(stored):
    first = file_of(stored)
    stored.write([document("b")])
    build(stored, stored.folder, "text", "faiss")
    assert not first.exists()
    assert newest(stored).header.state == stored.changes()


def test_an_index_of_another_version_of_its_library_is_ignored(stored, monkeypatch):
    from omnivec.store.indexes.faiss import FaissIndex

    for error in (
        CollectionError("no index of this version"),
        RuntimeError("Index type 0x77 not recognized"),
    ):

        def refuse(path, dim, metric, error=error):
            raise error

        monkeypatch.setattr(FaissIndex, "load", refuse)
        assert newest(stored) is None


def test_an_index_without_files_is_refused(stored):
    with pytest.raises(UsageError, match="index 'exact' is not stored in files"):
        index_files.stored_class("exact")
    with pytest.raises(UsageError, match="no index 'none'; there are:"):
        build(stored, stored.folder, "text", "none")


def test_a_header_is_plain_json(stored):
    raw = file_of(stored).read_bytes()
    length = int.from_bytes(raw[-16:-12], "little")
    header = json.loads(raw[-16 - length : -16])
    assert header["owner"] == stored.id() and header["rows"] == PASSAGES
    assert np.isfinite(header["facts"]["recall"])
