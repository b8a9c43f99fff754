"""Acknowledged means committed to the files that the path names: removed, moved and replaced collections."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from omnivec.errors import CollectionDamaged, CollectionError
from omnivec.store import replaced
from omnivec.store.sqlite import Catalogue
from patience import PATIENCE
from store_samples import document, space


def make(folder, *names):
    with Catalogue.open(folder, create=True) as catalogue:
        catalogue.put_space(space())
        catalogue.write([document(name) for name in names])


def ids(folder):
    """What another process finds there."""
    code = (
        "import sys; from pathlib import Path; from omnivec.store.sqlite import Catalogue\n"
        "with Catalogue.open(Path(sys.argv[1]), create=False) as c: print(*[e.id for e in c.documents()], c.check())"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    return done.stdout.split()


def removed(folder):
    shutil.rmtree(folder)


def remade(folder):
    shutil.rmtree(folder)
    make(folder, "new")


def moved(folder):
    folder.rename(folder.with_name("elsewhere"))


def moved_and_remade(folder):
    moved(folder)
    make(folder, "new")


def restored_from_a_copy(folder):
    shutil.copytree(folder, folder.with_name("copy"))
    shutil.rmtree(folder)
    folder.with_name("copy").rename(folder)


def retargeted(folder):
    folder.rename(folder.with_name("first"))
    make(folder.with_name("second"), "new")
    folder.symlink_to(folder.with_name("second"))


def file_replaced(folder):
    make(folder.with_name("other"), "new")
    (folder.with_name("other") / "catalogue.sqlite").replace(folder / "catalogue.sqlite")


def file_removed(folder):
    (folder / "catalogue.sqlite").unlink()


def log_removed(folder):
    (folder / "catalogue.sqlite-wal").unlink()


def overwritten_in_place(folder):
    make(folder.with_name("other"), *"abcdefgh")
    shutil.copy(folder.with_name("other") / "catalogue.sqlite", folder / "catalogue.sqlite")


CHANGES = [
    removed,
    remade,
    moved,
    moved_and_remade,
    restored_from_a_copy,
    retargeted,
    file_replaced,
    file_removed,
    log_removed,
    overwritten_in_place,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("readonly", [False, True])
def test_a_collection_replaced_under_an_open_handle_is_an_error(tmp_path, change, readonly):
    folder = tmp_path / "notes.omni"
    make(folder, "old")
    with Catalogue.open(folder, create=False, readonly=readonly) as handle:
        assert [entry.id for entry in handle.documents()] == ["old"]
        change(folder)
        with pytest.raises(
            CollectionError, match="was removed or replaced since it was opened; open it again"
        ):
            handle.documents()
        if not readonly:
            with pytest.raises(CollectionError, match="removed or replaced"):
                handle.write([document("lost")])
            with pytest.raises(CollectionError, match="removed or replaced"):
                handle.delete(["old"])
    if change in (remade, moved_and_remade, retargeted):
        assert ids(folder) == ["new", "[]"]


def test_a_thread_that_comes_later_is_not_given_the_new_collection(tmp_path):
    """The thread that opened it has ended, and its connection with it; the new file may get the old one's inode."""
    folder, opened, raised = tmp_path / "notes.omni", [], []
    make(folder, "old")
    first = threading.Thread(target=lambda: opened.append(Catalogue.open(folder, create=False)))
    first.start()
    first.join()
    for _ in range(5):
        remade(folder)
    with opened[0] as handle, pytest.raises(CollectionError, match="removed or replaced"):
        handle.documents()
    assert not raised


def test_a_collection_replaced_while_a_write_runs_is_not_acknowledged(tmp_path):
    folder = tmp_path / "notes.omni"
    make(folder, "old")
    with (
        Catalogue.open(folder, create=False) as handle,
        pytest.raises(CollectionError, match="removed or replaced"),
        handle._connections.transaction() as writer,
    ):
        writer.execute("DELETE FROM documents")
        folder.rename(tmp_path / "elsewhere")


def test_a_second_handle_of_the_process_does_not_cost_the_first_its_log(tmp_path):
    """Any descriptor that a process closes drops all its locks on that file: another process then removed the log."""
    folder = tmp_path / "notes.omni"
    make(folder, "one")
    with Catalogue.open(folder, create=False) as first:
        first.write([document("kept")])
        for readonly in (False, True):
            Catalogue.open(folder, create=False, readonly=readonly).close()
        assert ids(folder) == ["kept", "one", "[]"]
        first.write([document("two")], remove=["one"])
        assert ids(folder) == ["kept", "two", "[]"]
    assert ids(folder) == ["kept", "two", "[]"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_keeps_its_log_when_its_parent_has_closed(tmp_path):
    folder = tmp_path / "notes.omni"
    make(folder, "one")
    handle = Catalogue.open(folder, create=False)
    handle.documents()
    (read, write), (done, finished) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        code = 1
        os.close(write)  # so that a parent that fails is not waited for
        try:
            handle.write([document("kept")])
            os.write(finished, b"x")  # has its own connections now
            os.read(read, 1)
            handle.write([document("two")], remove=["one"])
            os.write(finished, b"x")
            os.read(read, 1)
            code = 0
        finally:
            os._exit(code)
    os.close(finished)  # so that a child that fails is not waited for
    os.read(done, 1)
    handle.close()
    assert ids(folder) == ["kept", "one", "[]"]  # opens and closes: the last to close would remove the log
    os.write(write, b"x")
    os.read(done, 1)
    assert ids(folder) == ["kept", "two", "[]"]
    os.write(write, b"x")
    assert os.waitpid(child, 0)[1] == 0
    assert ids(folder) == ["kept", "two", "[]"]


def left_by_a_killed_writer(folder):
    """A collection whose writer was killed: its last commits are in the log alone."""
    code = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from store_samples import document, space
from omnivec.store.sqlite import Catalogue
c = Catalogue.open(Path(sys.argv[1]), create=True)
if not c.spaces():
    c.put_space(space())
for i in range(4):
    c.write([document(f"{sys.argv[3]}{i}")])
os._exit(0)
"""

    def run(prefix):
        subprocess.run(
            [sys.executable, "-c", code, folder, Path(__file__).parents[1] / "helpers", prefix], check=True
        )

    return run


def test_a_file_restored_over_the_log_of_another_state_is_refused(tmp_path):
    folder, backup, other = tmp_path / "notes.omni", tmp_path / "backup", tmp_path / "other"
    make(folder, "old")
    shutil.copytree(folder, backup)  # nobody has it open: whole
    make(other, "foreign")
    run = left_by_a_killed_writer(folder)
    run("a")
    with Catalogue.open(folder, create=False) as catalogue:  # what the log held goes into the file
        assert catalogue.counts().documents == 5
    run("b")
    with Catalogue.open(folder, create=False) as catalogue:
        catalogue.write([document("c")])
    run("d")
    kept = {file.name: file.read_bytes() for file in folder.iterdir()}
    for source in (backup, other):
        shutil.copy(source / "catalogue.sqlite", folder / "catalogue.sqlite")
        with pytest.raises(CollectionDamaged, match="do not belong together"):
            Catalogue.open(folder, create=False)
        with pytest.raises(CollectionDamaged, match="do not belong together"):
            Catalogue.open(folder, create=False, readonly=True)
        for name, content in kept.items():
            (folder / name).write_bytes(content)
    found = ids(folder)
    assert len(found) == 15 and found[-1] == "[]"


def test_checkpoints_of_others_are_no_replacement(tmp_path):
    folder = tmp_path / "notes.omni"
    make(folder, "one")
    with Catalogue.open(folder, create=False) as first, Catalogue.open(folder, create=False) as second:
        for i in range(30):
            (first, second)[i % 2].write([document(f"d{i}", ["word " * 200] * 20)])
            other = sqlite3.connect(folder / "catalogue.sqlite")
            other.execute("PRAGMA wal_checkpoint(PASSIVE)")
            other.close()
            assert first.counts().documents == second.counts().documents == i + 2
        assert first.check() == []


def test_looking_costs_little(tmp_path):
    folder = tmp_path / "notes.omni"
    make(folder, "one")
    with Catalogue.open(folder, create=False) as catalogue:
        catalogue.counts()
        files = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0  # noqa: PTH208
        for i in range(50):
            catalogue.write([document(str(i))])
            with Catalogue.open(folder, create=False) as beside:
                beside.counts()
        if files:
            assert len(os.listdir("/proc/self/fd")) <= files + 4  # noqa: PTH208


def test_threads_that_look_at_a_moving_file_do_not_take_it_for_another(tmp_path, monkeypatch):
    """One thread reads the file's own state, then the log moves on and another reads a newer one."""
    folder = tmp_path / "notes.omni"
    make(folder, "a")
    looking, go_on = threading.Event(), threading.Event()
    found: list[Any] = []

    def held(path):
        state = own_state(path)
        if threading.current_thread() is slow:
            looking.set()
            assert go_on.wait(PATIENCE)
        return state

    def read():
        try:
            found.append([entry.id for entry in reader.documents()])
        except CollectionError as error:
            found.append(str(error))

    own_state = replaced._state_in_file
    monkeypatch.setattr(replaced, "_state_in_file", held)
    slow = threading.Thread(target=read)
    log = sqlite3.connect(folder / "catalogue.sqlite")
    with Catalogue.open(folder, create=False) as reader, Catalogue.open(folder, create=False) as writer:
        writer.write([document("b")])
        log.execute("PRAGMA wal_checkpoint(PASSIVE)")
        writer.write([document("c")])
        slow.start()
        assert looking.wait(PATIENCE)
        log.execute("PRAGMA wal_checkpoint(PASSIVE)")
        assert [entry.id for entry in reader.documents()] == ["a", "b", "c"]
        go_on.set()
        slow.join()
    log.close()
    assert found == [["a", "b", "c"]]


def test_a_log_that_is_begun_anew_while_it_is_checked_is_no_damage(tmp_path, monkeypatch):
    """Another process may move the log into the file, and begin the next one, between two looks of an opening."""
    make(tmp_path / "notes.omni", "a")
    looked, path = [], tmp_path / "notes.omni" / "catalogue.sqlite"
    with Catalogue.open(path.parent, create=False) as writer:
        writer.write([document("b")])
        original = replaced._state_in_file

        def meanwhile(place):
            own = original(place)
            if not looked:
                looked.append(own)
                monkeypatch.setattr("omnivec.store.connections._LOG_BYTES", 0)  # each commit is moved at once
                for name in "cde":
                    writer.write([document(name)])
            return own

        monkeypatch.setattr(replaced, "_state_in_file", meanwhile)
        replaced.check_log(path)
        assert looked
