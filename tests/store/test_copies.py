"""Backups and restoring: whole or not at all, and nothing that is there is lost."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from omnivec.errors import CollectionBusy, CollectionDamaged, CollectionError
from omnivec.store import copies
from omnivec.store.lock import writer_lock
from omnivec.store.sqlite import Catalogue
from store_samples import document, space


def fails(path, to):
    raise OSError(errno.EIO, "Input/output error")


def ids(folder):
    with Catalogue.open(folder, create=False, readonly=True) as catalogue:
        assert catalogue.check() == []
        return [entry.id for entry in catalogue.documents()]


def test_a_backup_holds_what_was_committed_and_nothing_else(catalogue, tmp_path):
    catalogue.write([document(name) for name in "abc"])
    copies.back_up(catalogue, tmp_path / "backup" / "today.omni")
    catalogue.write([document("d")], remove=["a"])
    assert [file.name for file in (tmp_path / "backup" / "today.omni").iterdir()] == ["catalogue.sqlite"]
    assert ids(tmp_path / "backup" / "today.omni") == ["a", "b", "c"]
    with Catalogue.open(tmp_path / "backup" / "today.omni", create=False) as copy:
        assert copy.id() == catalogue.id() and copy.spaces().keys() == {"text"}


def test_a_backup_without_room_names_where_it_should_go(catalogue, tmp_path, monkeypatch):
    catalogue.write([document(name) for name in "abc"])
    connect = sqlite3.connect

    def on_a_small_disk(*arguments, **options):
        connection = connect(*arguments, **options)
        if "today" in str(arguments[0]):
            connection.execute("PRAGMA max_page_count = 3")
        return connection

    monkeypatch.setattr(sqlite3, "connect", on_a_small_disk)
    with pytest.raises(CollectionError, match=r"^no room to write to .*today\.omni .*bytes free") as caught:
        copies.back_up(catalogue, tmp_path / "today.omni")
    assert str(catalogue.folder / "catalogue.sqlite") not in str(caught.value)
    assert not list(tmp_path.glob("*today*"))


def test_a_backup_taken_while_another_thread_writes_is_one_state(catalogue, tmp_path):
    done = threading.Event()

    def write():
        for i in range(200):
            catalogue.write([document(f"{i}-a"), document(f"{i}-b")])
            if done.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for i in range(3):
            copies.back_up(catalogue, tmp_path / f"backup-{i}")
    finally:
        done.set()
        writer.join()
    for i in range(3):
        names = ids(tmp_path / f"backup-{i}")
        assert {name[:-1] + "b" for name in names} == {name for name in names if name.endswith("b")}


def test_a_backup_replaces_nothing_and_leaves_nothing_behind(catalogue, tmp_path, monkeypatch):
    (tmp_path / "taken").mkdir()
    with pytest.raises(CollectionError, match="taken exists already"):
        copies.back_up(catalogue, tmp_path / "taken")
    (tmp_path / "file").write_text("x")
    with pytest.raises(CollectionError, match="cannot be made"):
        copies.back_up(catalogue, tmp_path / "file" / "below")
    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(CollectionError, match=r"new cannot be made: .*input/output error"):
        copies.back_up(catalogue, tmp_path / "new")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "notes.omni", "taken"]


def test_a_damaged_collection_is_not_copied(catalogue, tmp_path):
    catalogue.write([document("a")])
    other = sqlite3.connect(catalogue.folder / "catalogue.sqlite")
    other.execute("UPDATE passages SET text = 'some tent'")
    other.commit()
    other.close()
    with pytest.raises(CollectionDamaged, match="was not copied: document 'a' is not what was written"):
        copies.back_up(catalogue, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_what_is_there_is_refused_or_renamed_never_lost(tmp_path):
    for name in ("backup", "notes.omni"):
        with Catalogue.open(tmp_path / name, create=True) as made:
            made.put_space(space())
            made.write([document(f"of {name}")])
    target = tmp_path / "notes.omni"
    with pytest.raises(CollectionError, match="nothing is replaced"):
        copies.restore(tmp_path / "backup", target)
    assert ids(target) == ["of notes.omni"]
    with writer_lock(target, 0), pytest.raises(CollectionBusy):
        copies.restore(tmp_path / "backup", target, aside=True)
    with Catalogue.open(target, create=False) as handle:
        moved = copies.restore(tmp_path / "backup", target, aside=True)
        with pytest.raises(CollectionError, match="removed or replaced"):
            handle.write([document("x")])
    assert moved is not None and ids(moved) == ["of notes.omni"]
    assert ids(target) == ["of backup"] == ids(tmp_path / "backup")
    second = copies.restore(tmp_path / "backup", target, aside=True)
    assert second not in (None, moved)
    shutil.rmtree(target)
    assert copies.restore(tmp_path / "backup", target) is None
    (tmp_path / "thesis").mkdir()
    with pytest.raises(CollectionError, match="is not a collection, so it is not moved"):
        copies.restore(tmp_path / "backup", tmp_path / "thesis", aside=True)
    with pytest.raises(CollectionError, match="no collection in"):
        copies.restore(tmp_path / "thesis", tmp_path / "new")
    assert sorted(one.name for one in tmp_path.iterdir() if one.name.startswith(".")) == []


def test_a_restoring_that_fails_leaves_the_collection_where_it_was(tmp_path, monkeypatch):
    for name in ("backup", "notes.omni"):
        with Catalogue.open(tmp_path / name, create=True) as made:
            made.put_space(space())
            made.write([document(f"of {name}")])
    rename, target = Path.rename, tmp_path / "notes.omni"
    monkeypatch.setattr(Path, "rename", lambda one, to: (fails if one.suffix == ".part" else rename)(one, to))
    with pytest.raises(CollectionError, match="cannot be made"):
        copies.restore(tmp_path / "backup", target, aside=True)
    assert ids(target) == ["of notes.omni"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["backup", "notes.omni"]


def test_nothing_is_written_into_the_collection_that_is_copied(catalogue, tmp_path):
    catalogue.write([document("a")])
    own = catalogue.folder
    (tmp_path / "link").symlink_to(own)
    before = sorted(one.name for one in own.iterdir())
    for target in (
        own / "backup",
        own / "deep" / "er",
        tmp_path / "link" / "backup",
        own / ".." / own.name / "x",
    ):
        with pytest.raises(CollectionError, match="lies in the collection"):
            copies.back_up(catalogue, target)
        with pytest.raises(CollectionError, match="lies in the collection"):
            copies.restore(own, target, aside=True)
    for source, target in ((own, own), (own, tmp_path / "link"), (tmp_path / "link", own)):
        with pytest.raises(CollectionError, match="is the collection itself"):
            copies.restore(source, target, aside=True)
    assert sorted(one.name for one in own.iterdir()) == before and ids(own) == ["a"]


CHANGES = {
    "a letter of a text": "UPDATE passages SET text = 'some tent', searched = NULL WHERE document = 1",
    "metadata": "UPDATE documents SET metadata = '{\"year\": 2}' WHERE key = 1",
    "a vector": "UPDATE vectors SET vector = zeroblob(16) WHERE passage = 1",
    "a word of the index": "INSERT INTO passages_words (rowid, text) VALUES (99, 'ghost')",
}
RELATIONS = {
    "a document": "PRAGMA foreign_keys = OFF; DELETE FROM documents WHERE key = 1",
    "a document and its passages": "PRAGMA foreign_keys = ON; DELETE FROM documents WHERE key = 1;"
    " UPDATE meta SET value = value + 1 WHERE key = 'sum'",
    "passages": "PRAGMA foreign_keys = OFF; DELETE FROM passages WHERE key = 1",
    "a space": "PRAGMA foreign_keys = OFF; DELETE FROM spaces",
    "a fact of a space": "UPDATE spaces SET metric = 'dot'",
    "a root": "INSERT INTO roots VALUES ('/elsewhere')",
    "the history": "DELETE FROM history",
    "a checksum": "UPDATE meta SET value = value + 1 WHERE key = 'sum'",
}


def checks(catalogue, script):
    """What a fast and a deep check say after a change outside omnivec."""
    other = sqlite3.connect(catalogue.folder / "catalogue.sqlite")
    other.executescript(script)
    other.commit()
    other.close()
    return catalogue.check(deep=False), catalogue.check(deep=True)


@pytest.mark.parametrize("what", CHANGES)
def test_only_a_deep_check_reads_content(catalogue, what):
    catalogue.write([document(name, ["some text", "more"]) for name in "abc"])
    assert catalogue.check(deep=False) == []
    fast, deep = checks(catalogue, CHANGES[what])
    assert fast == [] and deep


@pytest.mark.parametrize("what", RELATIONS)
def test_a_fast_check_finds_what_is_missing(catalogue, what):
    catalogue.write([document(name, ["some text", "more"]) for name in "abc"])
    catalogue.add_root("/docs")
    fast, deep = checks(catalogue, RELATIONS[what])
    assert fast and set(fast) <= set(deep)
