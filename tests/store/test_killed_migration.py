"""A process that is killed while it migrates a collection leaves the old one, which the next process migrates."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path

import pytest

import older
from omnivec.store import schema
from omnivec.store.opening import FILE
from omnivec.store.sqlite import Catalogue

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
STEPS = len(schema.MIGRATIONS)
VERSIONS = [name for name in older.names() if name != "2026-11-21"]
"""Archives of different schemas; the other one holds more collections of a schema that lies between."""
WRITING = ("ALTER", "UPDATE", "INSERT", "DROP", "CREATE", "PRAGMA USER", "COMMIT")


def migrate_and_die(folder: Path, executed: int) -> int:
    """Opens a collection in a child that is killed after so many statements; returns the signal that ended it."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(sql: str) -> None:
            nonlocal count
            writes = (
                sql.lstrip()
                .upper()
                .startswith(("ALTER", "UPDATE", "INSERT", "DROP", "CREATE", "PRAGMA USER", "COMMIT"))
            )
            count += writes and "TEMP VIEW" not in sql
            if count > executed:
                os.kill(os.getpid(), signal.SIGKILL)

        connect = sqlite3.connect

        def traced(*arguments, **options):
            connection = connect(*arguments, **options)
            connection.set_trace_callback(counted)
            return connection

        sqlite3.connect = traced
        Catalogue.open(folder, create=False).close()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(
    "version", [name for name in older.names() if name.startswith("schema") or name == "2026-11-30"]
)
def test_a_killed_migration_changes_nothing(version: str, tmp_path: Path) -> None:
    root = older.unpack(version, tmp_path / "old")
    folder = root / "texts.omni"
    with Catalogue.open(folder, create=False, readonly=True) as catalogue:
        before = [catalogue.document(entry.id) for entry in catalogue.documents()]
        spaces = catalogue.spaces()
    executed, killed = 0, 0
    while migrate_and_die(folder, executed) == -signal.SIGKILL:
        killed += 1
        executed = executed * 2 + 1
        with sqlite3.connect(folder / FILE) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            assert connection.execute("PRAGMA user_version").fetchone()[0] < STEPS
    assert killed >= 3, "the migration was never interrupted"
    with Catalogue.open(folder, create=False) as catalogue:
        assert catalogue.check() == [] and catalogue.unverified() == []
        assert [entry.id for entry in catalogue.documents()] == [one.id for one in before if one is not None]
        for one in before:
            assert one is not None
            now = catalogue.document(one.id)
            assert now is not None and (now.digest, now.metadata, now.lost) == (
                one.digest,
                one.metadata,
                one.lost,
            )
            for then, passage in zip(one.passages, now.passages, strict=True):
                assert (passage.text, passage.start, passage.end, passage.unit) == (
                    then.text,
                    then.start,
                    then.end,
                    None,
                )
                assert passage.vectors["text"].tolist() == then.vectors["text"].tolist()
        for name, record in catalogue.spaces().items():
            assert record.modalities == tuple(name.split("+")) == spaces[name].modalities
            assert (record.kind, record.dtype, record.state) == ("dense", "float32", "active")
