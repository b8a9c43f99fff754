"""Reading a catalogue costs a few statements, however much it holds, and what is kept in memory follows every write."""

from __future__ import annotations

import multiprocessing
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from omnivec.store.opening import FILE
from omnivec.store.records import SpaceRecord
from omnivec.store.sqlite import Catalogue
from patience import PATIENCE


def space(name: str) -> SpaceRecord:
    return SpaceRecord(name, "none", 2, "cosine", {"weights": {}}, {"modalities": ["text"]}, ())


def grown(catalogue: Catalogue) -> None:
    """What a child does, which its exit code judges."""
    assert list(catalogue.spaces()) == ["one", "two", "three"]
    catalogue.put_space(space("four"))
    assert list(catalogue.spaces()) == ["one", "two", "three", "four"]


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with Catalogue.open(tmp_path / "a.omni", create=True) as opened:
        opened.put_space(space("one"))
        yield opened


def statements(catalogue: Catalogue, read: Callable[[], object]) -> list[str]:
    """The SQL that a call runs on this thread's reading connection."""
    ran: list[str] = []
    with catalogue.connection() as connection:
        pass
    connection.set_trace_callback(ran.append)
    try:
        read()
    finally:
        connection.set_trace_callback(None)
    return ran


def test_the_spaces_are_read_once_for_each_state(catalogue: Catalogue) -> None:
    def reads() -> int:
        return sum("FROM spaces" in one for one in statements(catalogue, catalogue.spaces))

    assert reads() == 1
    assert reads() == 0
    catalogue.put_space(space("two"))
    assert reads() == 1
    assert list(catalogue.spaces()) == ["one", "two"]


def test_what_a_caller_does_to_the_spaces_is_not_kept(catalogue: Catalogue) -> None:
    catalogue.spaces().clear()
    assert list(catalogue.spaces()) == ["one"]


def test_the_spaces_of_another_handle_a_thread_and_a_child_are_seen(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    assert list(catalogue.spaces()) == ["one"]
    with Catalogue.open(tmp_path / "a.omni", create=False) as other:
        other.put_space(space("two"))
    assert list(catalogue.spaces()) == ["one", "two"]
    thread = threading.Thread(target=lambda: catalogue.put_space(space("three")))
    thread.start()
    thread.join()
    assert list(catalogue.spaces()) == ["one", "two", "three"]

    if sys.platform == "linux":
        child = multiprocessing.get_context("fork").Process(target=grown, args=(catalogue,))
        child.start()
        child.join(PATIENCE)
        assert child.exitcode == 0
        assert list(catalogue.spaces()) == ["one", "two", "three", "four"]


def test_a_snapshot_keeps_its_spaces_while_a_thread_that_is_ahead_reads_newer_ones(
    catalogue: Catalogue,
) -> None:
    seen: list[list[str]] = []

    def write_and_read() -> None:
        catalogue.put_space(space("two"))
        seen.append(list(catalogue.spaces()))

    with catalogue.snapshot():
        assert list(catalogue.spaces()) == ["one"]
        thread = threading.Thread(target=write_and_read)
        thread.start()
        thread.join()
        assert seen == [["one", "two"]]
        assert list(catalogue.spaces()) == ["one"]
    assert list(catalogue.spaces()) == ["one", "two"]


def test_snapshots_that_end_in_another_order_than_they_began(catalogue: Catalogue, tmp_path: Path) -> None:
    first, second = catalogue.snapshot(), catalogue.snapshot()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with Catalogue.open(tmp_path / "a.omni", create=False) as other:
        other.put_space(space("two"))
    assert list(catalogue.spaces()) == ["one"]  # the second still lasts
    second.__exit__(None, None, None)
    assert list(catalogue.spaces()) == ["one", "two"]


def test_an_error_inside_an_inner_snapshot_is_translated_there(catalogue: Catalogue, tmp_path: Path) -> None:
    from omnivec.errors import CollectionDamaged

    with sqlite3.connect(tmp_path / "a.omni" / FILE) as foreign:
        foreign.execute("UPDATE spaces SET dim = 'two'")
        foreign.execute("UPDATE history SET stamp = 5")
    with catalogue.snapshot():
        with pytest.raises(CollectionDamaged, match=r"spaces\.dim of 'one' holds 'two', expected an integer"):
            catalogue.spaces()
        assert catalogue.passages(np.array([1])) == {}
