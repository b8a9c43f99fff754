"""Threads and processes that read while one writes, folders that may only be read, and collections that are closed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omnivec import Collection
from omnivec.errors import CollectionError
from patience import PATIENCE
from workbench import DROP, SOURCE, whole

MODES = ("vector", "text", "hybrid")


@pytest.fixture
def fruit(notes: Collection) -> Collection:
    notes.add(["apples are red", "plums are blue"], ids=["apple", "plum"])
    return notes


def test_threads_read_while_one_writes(notes: Collection) -> None:
    notes.add("number 0 is here", ids="0")
    done, failures = threading.Event(), []

    def read(mode: Any) -> None:
        try:
            last = 0
            while not done.is_set():
                found = {hit.document for hit in notes.search("number", 1000, mode=mode)}
                assert found == {str(i) for i in range(len(found))}, "half a write was seen"
                assert len(found) >= last, "a write was lost again"
                last = len(found)
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read, args=(mode,)) for mode in MODES]
    for reader in readers:
        reader.start()
    try:
        for first in range(1, 101, 4):
            notes.add(
                [f"number {i} is here" for i in range(first, first + 4)],
                ids=[str(i) for i in range(first, first + 4)],
            )
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert not failures, failures[0]
    whole(notes)


def test_two_threads_write(notes: Collection) -> None:
    failures = []

    def write(name: str) -> None:
        try:
            for i in range(15):
                notes.add([f"{name} {i}", f"{name} and {i}"], ids=[f"{name}{i}", f"{name}-{i}"])
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(name,)) for name in ("fox", "dog")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failures and len(notes) == 60
    whole(notes)


READER = """
import sys
from omnivec import Collection
with Collection(sys.argv[1], create=False, readonly=True) as notes:
    print(len(notes), flush=True)
    for line in sys.stdin:
        hits = [notes.search("number", 1000, mode=mode) for mode in ("vector", "text", "hybrid")]
        assert len({len(h) for h in hits}) == 1
        print(len(hits[0]), flush=True)
"""


def test_a_reader_in_another_process_sees_what_was_written_after_it_opened(notes: Collection) -> None:
    notes.add(["number 0", "number 1"])
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(notes.folder)],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdin and reader.stdout
    with reader, Collection(notes.folder, model=notes.model, readonly=True) as beside:
        assert reader.stdout.readline() == "2\n"
        for n in range(2, 6):
            reader.stdin.write("\n")
            reader.stdin.flush()
            assert reader.stdout.readline() == f"{n}\n"
            assert len(beside.search("number", 100)) == n
            notes.add(f"number {n}")
            assert len(beside.search("number", 100)) == n + 1
        reader.stdin.close()
        assert reader.wait(PATIENCE) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="drops rights as Linux has them")
def test_a_folder_that_may_only_be_read_is_searched(fruit: Collection, cache: Path) -> None:
    folder = fruit.folder
    fruit.close()
    code = f"""{DROP}
import sys
from pathlib import Path
from omnivec import Collection
from omnivec.errors import CollectionError
folder = Path(sys.argv[1])
with Collection(folder, create=False, readonly=True) as notes:
    print([notes.search("red", 1, mode=mode)[0].document for mode in ("text", "hybrid")], notes.check())
    for change in (lambda: notes.add("x"), lambda: notes.delete("apple"), lambda: notes.sync(folder)):
        try:
            change()
        except CollectionError as error:
            print("read-only" in str(error) or "cannot be opened for writing" in str(error))
try:
    Collection(folder)
except CollectionError as error:
    print("read-only" in str(error))
"""
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder)],
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    finally:
        folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0].endswith("] []") and said[1:] == ["True"] * 4
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == files


def test_after_close_everything_is_refused(fruit: Collection) -> None:
    fruit.close()
    fruit.close()
    calls: list[Callable[[], Any]] = [
        lambda: fruit.search("x"),
        lambda: fruit.add("x"),
        lambda: fruit.counts(),
        lambda: fruit.check(),
    ]
    for call in calls:
        with pytest.raises(CollectionError, match="was closed"):
            call()
