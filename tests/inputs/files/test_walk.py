from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from omnivec.inputs.files.walk import Walk, walk


def plant(top: Path, *names: str) -> None:
    for name in names:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text", encoding="utf-8")


def listed(found: Walk) -> list[str]:
    return [entry.path.relative_to(found.root).as_posix() for entry in found]


def test_a_tree_is_listed_in_the_order_of_its_paths(tmp_path: Path) -> None:
    plant(tmp_path, "b.txt", "a/z.md", "a/b/c.rst", "a.txt", "B.TXT", "Makefile", "src/x.py")
    entries = list(walk(tmp_path))
    paths = [entry.path for entry in entries]
    assert paths == sorted(paths)
    assert len(paths) == 7
    status = (tmp_path / "a.txt").stat()
    entry = next(entry for entry in entries if entry.path == tmp_path / "a.txt")
    assert (entry.size, entry.mtime_ns, entry.device) == (4, status.st_mtime_ns, status.st_dev)


def test_files_that_promise_no_text_are_counted_and_not_failures(tmp_path: Path) -> None:
    plant(tmp_path, "a.txt", "b.png", "c.PNG", "d.csv", "noname", "README", "LICENSE", "Dockerfile")
    found = walk(tmp_path)
    assert listed(found) == ["Dockerfile", "LICENSE", "README", "a.txt"]
    assert found.skipped == {".png": 2, ".csv": 1, "": 1}
    assert found.failures == {}


@pytest.mark.parametrize("name", ["photo.png", ".hidden", ".env.txt", "unknown.xyz"])
def test_a_file_named_as_the_root_is_always_taken(tmp_path: Path, name: str) -> None:
    plant(tmp_path, name)
    (tmp_path / ".gitignore").write_text("*\n")
    assert [entry.path for entry in walk(tmp_path / name)] == [tmp_path / name]


def test_folders_that_hold_no_documents_are_never_entered(tmp_path: Path) -> None:
    never = [
        ".git",
        ".hg",
        ".svn",
        "__pycache__",
        "node_modules",
        ".venv",
        ".omnivec",
        ".omnivec-old",
        "notes.omni",
    ]
    plant(tmp_path, *[f"{folder}/a.txt" for folder in never], "env/pyvenv.cfg", "env/b.txt", "keep/c.txt")
    assert listed(walk(tmp_path, hidden=True)) == ["keep/c.txt"]


def test_hidden_files_and_folders_wait_to_be_asked_for(tmp_path: Path) -> None:
    plant(tmp_path, "a.txt", ".b.txt", ".c/d.txt", ".c/.e.txt")
    assert listed(walk(tmp_path)) == ["a.txt"]
    assert listed(walk(tmp_path, hidden=True)) == [".b.txt", ".c/.e.txt", ".c/d.txt", "a.txt"]
    assert listed(walk(tmp_path / ".c")) == ["d.txt"]


def test_a_file_over_the_limit_is_left_out_and_a_failure_with_both_sizes_where_it_is_named(
    tmp_path: Path,
) -> None:
    plant(tmp_path, "small.txt")
    (tmp_path / "large.txt").write_bytes(b"x" * 1001)
    found = walk(tmp_path, max_bytes=1000)
    assert listed(found) == ["small.txt"]
    assert found.left_out == {str(tmp_path / "large.txt"): "over the size limit"} and not found.failures
    assert not found.covers(tmp_path / "large.txt")
    named = walk(tmp_path / "large.txt", max_bytes=1000)
    assert list(named) == [] and not named.left_out
    why = named.failures[str(tmp_path / "large.txt")]
    assert "1,001" in why and "1,000" in why and "\n" not in why


def test_loops_of_links_end_and_each_folder_is_listed_under_its_own_name(tmp_path: Path) -> None:
    plant(tmp_path, "m/one.txt", "m/n/two.txt")
    (tmp_path / "a_loop").symlink_to(tmp_path)
    (tmp_path / "m" / "n" / "up").symlink_to("..")
    (tmp_path / "a_twin").symlink_to("m/n")
    found = walk(tmp_path)
    assert listed(found) == ["m/n/two.txt", "m/one.txt"]
    assert found.failures == {}
    assert found.covers(tmp_path / "a_loop" / "a_loop" / "m" / "gone.txt")


def test_links_out_of_the_root_are_followed_once(tmp_path: Path) -> None:
    plant(tmp_path, "root/a.txt", "else/b.txt", "else/deep/c.txt", "single.txt")
    root = tmp_path / "root"
    (root / "l1").symlink_to(tmp_path / "else")
    (root / "l2").symlink_to(tmp_path / "else" / "deep")
    (root / "l3.txt").symlink_to(tmp_path / "single.txt")
    (tmp_path / "else" / "back").symlink_to(tmp_path)
    assert listed(walk(root)) == ["a.txt", "l1/b.txt", "l1/back/single.txt", "l1/deep/c.txt", "l3.txt"]


def test_dangling_links_and_circles_are_left_out_and_their_documents_are_kept(tmp_path: Path) -> None:
    plant(tmp_path, "a.txt")
    (tmp_path / "usb").symlink_to("/mnt/nowhere/at/all")
    (tmp_path / "self.txt").symlink_to("self.txt")
    found = walk(tmp_path)
    assert listed(found) == ["a.txt"]
    assert found.failures == {}
    assert found.left_out == {
        str(tmp_path / "usb"): "broken link",
        str(tmp_path / "self.txt"): "link in a circle",
    }
    for name, part in (("usb", "/mnt/nowhere/at/all"), ("self.txt", "circles")):
        named = walk(tmp_path / name)
        assert list(named) == [] and part in named.failures[str(tmp_path / name)]
    assert not found.covers(tmp_path / "usb" / "deep" / "x.txt")
    assert found.covers(tmp_path / "gone.txt")


def test_what_is_no_regular_file_is_left_out_and_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path, "a.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    os.mkfifo(tmp_path / ".gitignore")
    monkeypatch.chdir(tmp_path)  # the address of a socket has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.md")
        found = walk(tmp_path)
        assert listed(found) == ["a.txt"]
    assert found.left_out == {str(tmp_path / "pipe.txt"): "FIFO", str(tmp_path / "socket.md"): "socket"}
    named = walk(tmp_path / "pipe.txt")
    assert list(named) == [] and "a FIFO" in named.failures[str(tmp_path / "pipe.txt")]


def test_a_missing_root_covers_nothing(tmp_path: Path) -> None:
    found = walk(tmp_path / "gone")
    assert list(found) == []
    assert list(found.failures) == [str(tmp_path / "gone")]
    assert not found.covers(tmp_path / "gone" / "a.txt")


def test_only_a_finished_run_covers_and_only_what_lies_below_its_root(tmp_path: Path) -> None:
    plant(tmp_path, "root/a.txt", "root/b.txt", "root/node_modules/c.txt")
    root = tmp_path / "root"
    found = walk(root)
    next(found)
    assert not found.covers(root / "gone.txt")
    list(found)
    assert found.covers(root / "gone.txt")
    assert found.covers(root / "gone" / "deep" / "x.txt")
    assert found.covers(root / "node_modules" / "c.txt")
    assert not found.covers(tmp_path / "other.txt")
    assert not found.covers(tmp_path / "root2" / "a.txt")


def test_a_folder_on_another_device_than_before_proves_nothing(tmp_path: Path) -> None:
    plant(tmp_path, "disk/a.txt")
    found = walk(tmp_path)
    (entry,) = found
    next(found, None)
    assert found.covers(tmp_path / "disk" / "gone.txt", device=entry.device)
    assert not found.covers(tmp_path / "disk" / "gone.txt", device=entry.device + 1)
    assert not found.covers(tmp_path / "disk" / "gone" / "x.txt", device=entry.device + 1)


def test_relative_roots_and_dots_name_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "a/b.txt", "c/d.txt")
    monkeypatch.chdir(tmp_path / "a")
    assert [entry.path for entry in walk(Path())] == [tmp_path / "a" / "b.txt"]
    assert [entry.path for entry in walk(Path("../c"))] == [(tmp_path / "c" / "d.txt").resolve()]


def test_a_tree_deeper_than_pythons_stack_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    depth, leaf = 1200, Path("leaf.txt")
    monkeypatch.chdir(tmp_path)
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    leaf.write_text("x")
    found = [entry.path.name for entry in walk(tmp_path)]
    leaf.unlink()
    for _ in range(depth):  # shutil.rmtree, which would do it later, calls itself
        os.chdir("..")
        Path("d").rmdir()
    assert found == ["leaf.txt"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_a_name_that_is_not_utf8_is_a_failure_that_can_be_printed(tmp_path: Path) -> None:
    plant(tmp_path, "a.txt")
    plant(tmp_path, os.fsdecode(b"caf\xe9.txt"))
    found = walk(tmp_path)
    assert listed(found) == ["a.txt"]
    ((path, why),) = found.failures.items()
    assert path.endswith("caf\\xe9.txt")
    (path + why).encode("utf-8")


def test_a_folder_without_permission_keeps_what_is_below_it(
    tmp_path: Path, run_bound: Callable[[str], str]
) -> None:
    plant(tmp_path, "open/a.txt", "shut/b.txt", "blind/c.txt", "rules/d.txt", "rules/.gitignore")
    modes = {"shut": 0o000, "blind": 0o400, "rules/.gitignore": 0o000}
    for name, mode in modes.items():
        (tmp_path / name).chmod(mode)
    try:
        out = run_bound("""
import json
from omnivec.inputs.files.walk import walk
found = walk(Path("."))
listed = [entry.path.relative_to(found.root).as_posix() for entry in found]
names = ["open/x.txt", "shut/x.txt", "shut/deep/x.txt", "blind/c.txt", "rules/d.txt", "x.txt"]
print(json.dumps([listed, [name for name in names if found.covers(found.root / name)], found.failures]))
""")
    finally:
        for name in modes:
            (tmp_path / name).chmod(0o755)
    files, covered, failures = json.loads(out)
    assert files == ["open/a.txt"]
    assert covered == ["open/x.txt", "x.txt"]
    assert sorted(Path(path).name for path in failures) == ["blind", "rules", "shut"]
    assert all("permission denied" in why for why in failures.values())
