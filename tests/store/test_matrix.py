"""The matrix file: exact whatever happened since it was made, and never believed when it should not be."""

from __future__ import annotations

import os
import shutil
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnivec.errors import UsageError
from omnivec.store import matrix
from omnivec.store.sqlite import Catalogue
from store_samples import DIM, document, space


def write(catalogue, names, passages=100):
    catalogue.write([document(name, ["text"] * passages, zlib.crc32(name.encode()) % 1000) for name in names])


def files(catalogue):
    return sorted(file.name for file in catalogue.folder.glob("matrix-*"))


def load(catalogue, name="text"):
    """Loads, and compares with the catalogue itself."""
    loaded = matrix.load(catalogue, catalogue.folder, name)
    keys, rows = loaded.keys, loaded.vectors
    wanted_keys, wanted_rows = catalogue.vectors(name)
    np.testing.assert_array_equal(keys, wanted_keys)
    np.testing.assert_array_equal(rows, wanted_rows)
    assert (keys.dtype, rows.dtype) == (np.dtype(np.int64), np.dtype(np.float32))
    return rows


def mapped(rows):
    return isinstance(rows, np.memmap)


@pytest.fixture
def large(catalogue):
    write(catalogue, [f"d{i}" for i in range(30)])
    load(catalogue)
    return catalogue


def test_a_small_collection_has_no_file(catalogue):
    write(catalogue, ["a"], 1999)
    load(catalogue)
    assert files(catalogue) == []
    write(catalogue, ["b"], 1)
    load(catalogue)
    assert len(files(catalogue)) == 1


def test_the_file_is_named_by_the_state_and_mapped(large):
    changes, stamp = large.changes()
    assert files(large) == [f"matrix-{matrix.slug('text', 1)}-{changes}-{stamp % 2**64:016x}.f32"]
    rows = load(large)
    assert mapped(rows)
    assert rows.offset % 64 == 0
    with pytest.raises(ValueError, match="read-only"):
        rows[0, 0] = 1


def test_a_few_changes_leave_the_file_many_renew_it(large):
    made = files(large)
    write(large, ["new"])
    large.delete(["d3"])
    assert not mapped(load(large))
    assert files(large) == made
    write(large, ["d4", "d5"])
    load(large)
    assert len(files(large)) == 1
    assert files(large) != made
    assert mapped(load(large))


def test_a_renamed_unchanged_file_is_touched_for_free(large):
    large.touch({"d1": (1, 2, 3)})
    assert mapped(load(large))


def test_everything_deleted(large):
    large.delete([f"d{i}" for i in range(30)])
    assert load(large).shape == (0, DIM)
    write(large, ["x"])
    load(large)


def test_several_parts_in_the_file(catalogue):
    catalogue.write([document("a", ["text"] * 1200, parts=2)])
    load(catalogue)
    assert mapped(load(catalogue))
    catalogue.write([document("b", ["text"] * 3, parts=2)])
    load(catalogue)


def test_spaces_have_their_own_files(large):
    assert matrix.slug("a/b", 1) != matrix.slug("a b", 1)
    assert set(matrix.slug("../ä*[x]" * 50, 1)) <= set(matrix.slug("abc", 1) + "._x0123456789abcdef~")
    large.put_space(space("image", dim=3))
    assert load(large, "image").shape == (0, 3)
    with pytest.raises(UsageError, match="no space"):
        matrix.load(large, large.folder, "sound")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:10],
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: b"foreign!" + data[8:],
        lambda data: data[:8] + (2**60).to_bytes(8, "little") + data[16:],
        lambda data: data[:8] + bytes(8) + data[16:],
        lambda data: data[:16] + (5).to_bytes(4, "little") + data[20:],
        lambda data: data[:40] + b"\xff" + data[41:],
        lambda data: data[: -DIM * 4] + bytes(DIM * 4),
        lambda data: data[: -DIM * 8] + data[-DIM * 4 :] + data[-DIM * 8 : -DIM * 4],
        lambda data: data[:-1] + bytes([data[-1] ^ 0x80]),
        lambda data: b"omnivec\2" + data[8:],
    ],
)
def test_a_damaged_file_is_rebuilt(large, damage):
    (file,) = large.folder.glob("matrix-*")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert not mapped(load(large))
    assert mapped(load(large))
    assert file.read_bytes() == whole


def test_the_file_of_a_history_that_was_undone_is_not_believed(large, tmp_path):
    """A backup is restored, and other vectors get the same keys and the same number of writes."""
    shutil.copytree(large.folder, tmp_path / "backup")
    write(large, ["x", "y", "z", "v"])
    load(large)
    (newest,) = large.folder.glob("matrix-*")
    with Catalogue.open(tmp_path / "backup", create=False) as restored:
        shutil.copy(newest, restored.folder)
        write(restored, ["other", "than", "those", "before"])
        assert restored.changes()[0] == large.changes()[0]
        load(restored)


def test_a_reader_and_a_folder_that_cannot_be_written(large, monkeypatch):
    (file,) = large.folder.glob("matrix-*")
    file.unlink()
    with Catalogue.open(large.folder, create=False, readonly=True) as reader:
        load(reader)
        assert files(reader) == []

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    load(large)
    assert files(large) == []


def test_an_open_map_outlives_its_file(large):
    rows = load(large)
    before = np.array(rows)
    write(large, [f"e{i}" for i in range(30)])
    load(large)
    np.testing.assert_array_equal(rows, before)


def test_the_file_of_another_collection_under_this_ones_name_is_rebuilt(large, tmp_path):
    with Catalogue.open(tmp_path / "other", create=True) as other:
        other.put_space(space())
        write(other, [f"e{i}" for i in range(30)])
        load(other)
        (theirs,), (ours,) = other.folder.glob("matrix-*"), large.folder.glob("matrix-*")
        shutil.copy(theirs, ours)
    assert matrix.problems(large, large.folder) == [
        f"{ours} is not what was written; it is not used, and the next write makes it again from the catalogue"
    ]
    assert not mapped(load(large)) and mapped(load(large))
    assert matrix.problems(large, large.folder) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bytes_in_place_of_the_file_change_an_answer(large, data):
    (file,) = large.folder.glob("matrix-*.f32")
    whole = file.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 300)))
    changed = whole[:start] + data.draw(st.binary(max_size=300)) + whole[end:]
    changed = data.draw(st.sampled_from([changed, changed[: len(changed) // 2], changed + changed]))
    file.write_bytes(changed)
    assert mapped(load(large)) == (changed == whole)
    load(large)


def test_a_file_that_is_written_to_while_it_is_mapped_is_mapped_anew(large):
    from omnivec.store.indexes.exact import ExactIndex

    (file,) = large.folder.glob("matrix-*.f32")
    loaded = matrix.load(large, large.folder, "text")
    assert loaded.unchanged() and mapped(loaded.vectors)
    assert len(ExactIndex(DIM, "cosine", loaded.keys, loaded.vectors)) == 3000
    status = file.stat()
    with file.open("r+b") as stream:
        stream.seek(-DIM * 4, 2)
        stream.write(bytes(DIM * 4))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not loaded.unchanged()
    load(large)
    loaded = matrix.load(large, large.folder, "text")
    file.unlink()
    assert loaded.unchanged()


def test_a_folder_in_the_files_place_is_no_answer(large):
    (file,) = large.folder.glob("matrix-*.f32")
    file.unlink()
    file.mkdir()
    assert len(matrix.problems(large, large.folder)) == 1
    load(large)
    assert file.is_file() and mapped(load(large))
    file.unlink()
    file.mkdir()
    (file / "thesis").write_text("x")
    load(large)
    assert (file / "thesis").read_text() == "x"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_or_a_device_in_the_files_place_is_not_waited_for(large):
    (file,) = large.folder.glob("matrix-*.f32")
    for make in (os.mkfifo, lambda place: place.symlink_to("/dev/zero")):
        file.unlink()
        make(file)
        assert len(matrix.problems(large, large.folder)) == 1
        load(large)
        assert file.is_file() and mapped(load(large))
