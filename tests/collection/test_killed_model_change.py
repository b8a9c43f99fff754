"""A change of the model that is killed at any statement goes on, with the old vectors searched until the switch."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omnivec import Collection, Embedder
from omnivec.collection import indexing, migrating
from toy_texts import text_vector, toy_texts

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
WRITES = ("INSERT", "UPDATE", "DELETE", "COMMIT", "BEGIN")
AT_ONCE = 4
LIMIT = 8


def text(i: int) -> str:
    """Some are too long for the new model."""
    return " ".join(f"w{(5 * i + j) % 40}" for j in range(3 + i % 12))


def killed(folder: Path, old: Embedder, new: Embedder, statements: int) -> bool:
    """Migrates in a child that is killed after so many writing statements; returns whether it was."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(sql: str) -> None:
            nonlocal count
            count += sql.lstrip().upper().startswith(WRITES)
            if count > statements:
                os.kill(os.getpid(), signal.SIGKILL)

        connect = sqlite3.connect

        def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*arguments, **options)
            connection.set_trace_callback(counted)
            return connection

        sqlite3.connect = traced  # type: ignore[assignment]
        try:
            with Collection(folder, model=old) as notes:
                notes.migrate(new, show_progress_bar=False)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def is_sound(folder: Path, wanted: dict[str, str], models: dict[str, tuple[Embedder, str, int, int]]) -> str:
    """Asserts that what is there is right and can be searched; returns the name of the active space."""
    with Collection(folder, create=False, readonly=True) as raw:
        active = next(name for name, one in raw.spaces().items() if one.state == "active")
    model = models[active][0]
    with Collection(folder, model=model) as notes:
        assert notes.check() == []
        assert {one.id: one.text for one in notes.get(list(wanted))} == wanted
        assert len(notes) == len(wanted)
        catalogue = notes._catalogue
        for name in notes.spaces():
            _, salt, dim, limit = models[name]
            keys, vectors = catalogue.vectors(name)
            assert len(set(keys.tolist())) == len(keys)
            passages = catalogue.passages(keys)
            for key, vector in zip(keys.tolist(), vectors, strict=True):
                assert len(passages[key].text.split()) <= limit
                np.testing.assert_allclose(vector, text_vector(passages[key].text, salt, dim), atol=1e-6)
        assert sorted(catalogue.vectors(active)[0].tolist()) == sorted(
            key for name in wanted for key in catalogue.keys_of([name]).tolist()
        )
        for name in list(wanted)[:3]:
            hit = notes.search(wanted[name].split()[0], k=len(wanted), mode="vector")
            assert name in [one.document for one in hit]
    return active


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_change_of_the_model_goes_on_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    for name in ("FIRST", "PASSAGES"):
        monkeypatch.setattr(migrating, name, AT_ONCE)
        monkeypatch.setattr(indexing, name, AT_ONCE)
    chance, folder = random.Random(seed), tmp_path / "toys.omni"
    old, new = toy_texts("old", 30), toy_texts("new", LIMIT, 12)
    models = {"text": (old, "old", 16, 30), "text-2": (new, "new", 12, LIMIT)}
    wanted = {f"d{i}": text(i) for i in range(16)}
    with Collection(folder, model=old) as notes:
        notes.add(list(wanted.values()), ids=list(wanted))
    kills = 0
    while killed(folder, old, new, chance.randrange(1, 40 + 30 * kills)):
        kills += 1
        if is_sound(folder, wanted, models) == "text-2":
            break
        with Collection(folder, model=old) as notes:
            if kills % 3 == 0:  # others write meanwhile
                added, gone = f"more{kills}", chance.choice(list(wanted))
                notes.add(text(kills), ids=added)
                notes.delete(gone)
                wanted[added] = text(kills)
                del wanted[gone]
        assert kills < 200
    assert kills > 2
    assert is_sound(folder, wanted, models) == "text-2"
    with Collection(folder, model=new) as notes:
        assert notes.migrations()[0].waiting == notes.migrations()[0].missing == 0
