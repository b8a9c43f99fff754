"""Files that are written whole or not at all, and what cannot be written to."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from omnivec.errors import ModelError, OmnivecError, UsageError
from omnivec.files import assembled, check_target, locked, read_kept, write_kept, written

posix = pytest.mark.skipif(os.name != "posix", reason="links, rights and devices")


def test_a_block_that_fails_leaves_the_older_file_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("older")
    for error in (KeyboardInterrupt(), SystemExit(143), ValueError("x")):
        with pytest.raises(type(error)), written(tmp_path / "a.txt") as scratch:
            scratch.write_text("half")
            raise error
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "older"
    with written(tmp_path / "a.txt") as scratch:
        scratch.write_text("newer")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "newer"


@posix
def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def fsync(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        sync(handle)

    def replacing(source: Path, target: Path) -> None:
        done.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replacing)
    with written(tmp_path / "a.txt") as scratch:
        scratch.write_text("content")
    assert done == ["file", "rename", "folder"]


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "models" / "a"
    with pytest.raises(KeyboardInterrupt), assembled(target) as fresh:
        (fresh / "half").write_text("x")
        raise KeyboardInterrupt
    assert not list(target.parent.iterdir())
    with assembled(target) as fresh:
        (fresh / "sub").mkdir()
        (fresh / "sub" / "whole").write_text("x")
    assert [path.relative_to(target.parent).as_posix() for path in target.rglob("*")] == [
        "a/sub",
        "a/sub/whole",
    ]
    with pytest.raises(FileExistsError, match="of this name exists by now"), assembled(target):
        pass
    shutil.rmtree(target)
    with pytest.raises(FileExistsError, match="of this name exists by now"), assembled(target):
        target.mkdir()  # an empty one, which a rename would replace
    assert [path.name for path in target.parent.iterdir()] == ["a"] and not list(target.iterdir())


@posix
def test_what_a_killed_process_left_is_removed_and_what_another_is_writing_stays(tmp_path: Path) -> None:
    dead, alive = (tmp_path / f".a.{digit * 16}.part" for digit in "01")
    for folder in (dead, alive):
        (folder / "sub").mkdir(parents=True)
        os.utime(folder, (0, 0))
    with locked(alive), assembled(tmp_path / "a"):
        assert not dead.exists() and alive.exists()


@posix
def test_devices_pipes_and_links_to_nowhere_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "far").symlink_to("absent/file")
    (tmp_path / "file").write_text("x")
    refused = [
        Path("/dev/null"),
        Path("/dev/stdout"),
        *map(tmp_path.joinpath, ("pipe", "loop", "far", "file/x", ".")),
    ]
    for path in refused:
        with pytest.raises(UsageError) as found:
            check_target(path)
        assert str(path) in str(found.value) and "\n" not in str(found.value)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@posix
def test_the_longest_name_there_may_be(tmp_path: Path) -> None:
    name = "é" * 120 + ".npy"
    with written(tmp_path / name) as scratch:
        scratch.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_error_is_of_the_class_that_was_asked_for(tmp_path: Path) -> None:
    with (
        pytest.raises(ModelError, match="folder that does not exist"),
        written(tmp_path / "a/b", error=ModelError),
    ):
        pass
    with pytest.raises(OmnivecError, match="cannot be written: no space is left"), written(tmp_path / "c"):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_what_is_kept_in_a_cache_that_cannot_be_written_is_not_missed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    write_kept(tmp_path / "file" / "kept.json", {"a": 1})
    write_kept(tmp_path / "kept.json", {"a": 1})
    assert read_kept(tmp_path / "kept.json") == {"a": 1}


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no device that never ends")
def test_a_kept_file_that_never_ends_is_not_read(tmp_path):
    (tmp_path / "kept.json").symlink_to("/dev/zero")
    assert read_kept(tmp_path / "kept.json") == {}


@posix
@pytest.mark.parametrize("shared", [True, False])
def test_readers_share_a_lock_and_a_writer_waits_for_them(tmp_path: Path, shared: bool) -> None:
    events: list[str] = []

    def wait() -> None:
        with locked(tmp_path, shared=shared, waiting=lambda: events.append("waits")):
            events.append("in")

    thread = threading.Thread(target=wait)
    with locked(tmp_path, shared=True):
        thread.start()
        thread.join(0.3)
        events.append("reader leaves")
    thread.join()
    assert events == (["in", "reader leaves"] if shared else ["waits", "reader leaves", "in"])
