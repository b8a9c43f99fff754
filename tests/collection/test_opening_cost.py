"""What opening a collection costs, and what a search reads beside vectors, does not grow with its size.

Counted are the steps of SQLite's virtual machine, by its progress handler.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omnivec import Collection

SMALL, LARGE = 100, 3_000
STEPS = 50


def filled(folder: Path, count: int) -> Path:
    with Collection(folder) as notes:
        notes.add(
            [f"text {i}" for i in range(count)],
            [f"doc {i}" for i in range(count)],
            [{"third": i % 3} for i in range(count)],
            vectors=np.random.default_rng(0).standard_normal((count, 4)),
        )
        notes.search([1, 0, 0, 0])
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("opening")
    return [filled(place / f"{count}.omni", count) for count in (SMALL, LARGE)]


def steps(
    monkeypatch: pytest.MonkeyPatch, folder: Path, use: Callable[[Collection], Any], **opened: Any
) -> int:
    """Steps of SQLite, in units of `STEPS`, in opening a collection and a use of it."""
    count = 0

    def count_up() -> None:
        nonlocal count
        count += 1

    def connect(*given: Any, **options: Any) -> sqlite3.Connection:
        connection = plain(*given, **options)
        connection.set_progress_handler(count_up, STEPS)
        return connection

    plain = sqlite3.connect
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", connect)
        with Collection(folder, create=False, **opened) as notes:
            use(notes)
    return count


USES: dict[str, Callable[[Collection], Any]] = {
    "open": lambda notes: None,
    "spaces": lambda notes: notes.spaces(),
    "get": lambda notes: notes.get(["doc 7"]),
    "get with vectors": lambda notes: notes.get(["doc 7"], vectors=True),
    "list": lambda notes: notes.documents(limit=5),
    "a rare word": lambda notes: notes.search("7", k=1, mode="text"),
}


@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize("readonly", [False, True])
def test_it_takes_as_many_steps_in_a_large_collection(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch, name: str, readonly: bool
) -> None:
    few, many = (steps(monkeypatch, folder, USES[name], readonly=readonly) for folder in folders)
    assert many <= few + 20, (
        f"{few} times {STEPS} steps of SQLite over {SMALL} documents, {many} over {LARGE}"
    )


def test_a_model_of_one_modality_is_opened_without_reading_passages(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    few, many = (
        steps(monkeypatch, folder, lambda notes: None, models={"text": "no-such-model"}) for folder in folders
    )
    assert many <= few + 20
