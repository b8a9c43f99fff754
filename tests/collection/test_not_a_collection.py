"""Folders and files that are no collection, or one of another time: one clear line, exit code 1, nothing changed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from omnivec import Collection
from omnivec.errors import CollectionDamaged, CollectionError, SchemaError
from workbench import CommandLine, loaded, prose, write_files

COMMANDS = (
    ("search", "fox"),
    ("search", "fox", "--mode", "text"),
    ("index", "docs"),
    ("index", "docs", "--dry-run"),
    ("collection", "status"),
    ("collection", "status", "--check"),
    ("collection", "list"),
    ("collection", "remove", "docs/a.txt"),
)


@pytest.fixture
def damaged(omni: CommandLine, tiny: Path) -> Path:
    """A collection, closed, to be damaged."""
    write_files(omni.folder / "docs", [prose(i) for i in range(20)])
    folder = omni.folder / "notes.omni"
    with Collection(folder, model=loaded(tiny)) as notes:
        notes.sync(omni.folder / "docs")
    return folder


def version(number: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "catalogue.sqlite")) as file:
            file.execute(f"PRAGMA user_version = {number}")

    return change


def of_another_program(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    with closing(sqlite3.connect(folder / "catalogue.sqlite")) as connection:
        connection.execute("CREATE TABLE cookies (name)")


def a_text_file(folder: Path) -> None:
    (folder / "catalogue.sqlite").write_text("Dear diary, " * 5000)


def nothing_in_it(folder: Path) -> None:
    (folder / "catalogue.sqlite").write_bytes(b"")


def cut_to(share: float) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        raw = (folder / "catalogue.sqlite").read_bytes()
        (folder / "catalogue.sqlite").write_bytes(raw[: int(len(raw) * share) or 50])

    return cut


def a_folder_in_its_place(folder: Path) -> None:
    (folder / "catalogue.sqlite").unlink()
    (folder / "catalogue.sqlite").mkdir()


def a_file_in_its_place(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("no folder")


def scribbled_over(folder: Path) -> None:
    """Every page but the first."""
    raw = bytearray((folder / "catalogue.sqlite").read_bytes())
    raw[16384:] = b"\xa5" * (len(raw) - 16384)
    (folder / "catalogue.sqlite").write_bytes(raw)


@pytest.mark.parametrize(
    ("damage", "kind", "part"),
    [
        (version(0), SchemaError, "schema version 0"),
        (version(99), SchemaError, "update omnivec"),
        (of_another_program, SchemaError, "another program"),
        (a_text_file, SchemaError, "not an SQLite file"),
        (nothing_in_it, SchemaError, "is empty"),
        (cut_to(0.5), CollectionDamaged, "cut off"),
        (cut_to(0.0), CollectionDamaged, "cut off"),
        (a_folder_in_its_place, CollectionError, "catalogue.sqlite"),
        (a_file_in_its_place, SchemaError, "is a file"),
        (scribbled_over, CollectionDamaged, "damaged"),
    ],
)
def test_one_clear_line(
    omni: CommandLine, damaged: Path, damage: Callable[[Path], None], kind: type[Exception], part: str
) -> None:
    damage(damaged)
    before = (damaged / "catalogue.sqlite" if damaged.is_dir() else damaged).stat()
    for readonly in (False, True):
        with pytest.raises(kind, match=part), Collection(damaged, readonly=readonly) as notes:
            notes.documents()
    for command in COMMANDS:
        done = omni(*command, "-c", "notes.omni")
        assert (done.code, done.out) == (1, ""), command
        assert len(done.errors) == 1 and done.err.startswith("omnivec: ") and part in done.err, done.err
        assert "fault" not in done.err and str(damaged) in done.err
    after = (damaged / "catalogue.sqlite" if damaged.is_dir() else damaged).stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


def test_where_there_is_none(omni: CommandLine) -> None:
    write_files(omni.folder / "docs", {"a.txt": prose(1)})
    for command in COMMANDS:
        if command[0] == "index":
            continue
        done = omni(*command)
        assert (done.code, done.out) == (1, "")
        assert done.errors == [
            f"omnivec: no collection in {omni.folder / '.omnivec'}; `omnivec index PATH` makes one"
        ]
    assert sorted(path.name for path in omni.folder.iterdir()) == ["docs"]


def test_a_dry_run_makes_no_collection(omni: CommandLine) -> None:
    write_files(omni.folder / "docs", {"a.txt": prose(1), "c.md": prose(2)})
    (omni.folder / "docs" / "b.txt").write_bytes(b"caf\xe9")
    done = omni("index", "docs", "--dry-run", "--json", "-m", "no/such-model")
    assert done.code == 3, done.err
    assert [(row["document"], row["status"]) for row in done.rows[:-1]] == [
        ("docs/a.txt", "new"),
        (str(omni.folder / "docs" / "b.txt"), "failed"),
        ("docs/c.md", "new"),
    ]
    assert done.rows[-1]["summary"]["dry_run"] is True
    assert sorted(path.name for path in omni.folder.iterdir()) == ["docs"]
    plain = omni("index", "docs", "--dry-run")
    assert plain.out.startswith("would be: 2 new")


def test_damage_inside_is_found_by_check(omni: CommandLine, damaged: Path) -> None:
    assert omni("collection", "status", "--check", "-c", "notes.omni").code == 0
    with closing(sqlite3.connect(damaged / "catalogue.sqlite")) as file:
        file.execute("PRAGMA foreign_keys = OFF")
        file.execute("DELETE FROM documents WHERE id = 'docs/f003.txt'")
        file.commit()
    done = omni("collection", "status", "--check", "--json", "-c", "notes.omni")
    assert done.code == 1
    assert done.rows[0]["problems"] and len(done.errors) == len(done.rows[0]["problems"])
    assert "passages without a document" in done.err
