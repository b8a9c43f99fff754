"""The writer's lock, held by this process and by others."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading

import pytest

from omnivec.errors import CollectionBusy, CollectionError
from omnivec.store.lock import writer_lock

HOLDER = """
import sys, time
from pathlib import Path
from omnivec.store.lock import writer_lock

with writer_lock(Path(sys.argv[1]), 0):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_who_holds_it_is_named(tmp_path, holder):
    said = []
    with (
        pytest.raises(CollectionBusy, match=rf"process {holder.pid} is writing.*within 0.2 s") as caught,
        writer_lock(tmp_path, 0.2, said.append),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert len(said) == 1
    assert f"process {holder.pid}" in said[0]


def test_waiting_ends_when_the_holder_is_killed(tmp_path, holder):
    said = []

    def tell(line):
        said.append(line)
        holder.kill()

    with writer_lock(tmp_path, None, tell):
        assert (tmp_path / "writer.lock").read_text() == str(os.getpid())
    assert len(said) == 1


def test_waiting_ends_when_the_holder_leaves(tmp_path, holder):
    threading.Timer(0.1, holder.stdin.close).start()
    with writer_lock(tmp_path, 30):
        pass
    assert holder.wait() == 0


def test_threads_take_turns(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(5):
            with writer_lock(tmp_path, 60):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20


def test_it_is_released_by_an_error_and_says_nothing_when_free(tmp_path):
    said = []
    for _ in range(2):
        with pytest.raises(KeyError), writer_lock(tmp_path, 0, said.append):
            raise KeyError
    assert said == []


def test_without_a_folder(tmp_path):
    with (
        pytest.raises(CollectionError, match="cannot be opened for writing"),
        writer_lock(tmp_path / "none", 0),
    ):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX's locks")
def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    import fcntl

    def none(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(CollectionError, match="cannot be locked"), writer_lock(tmp_path, 0):
        pass
