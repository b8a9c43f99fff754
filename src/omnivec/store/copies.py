"""Backing up and restoring collections: a copy is checked, and appears under its name complete or not at all."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from omnivec.errors import CollectionDamaged, CollectionError
from omnivec.files import assembled, synced
from omnivec.store.connections import translated
from omnivec.store.lock import writer_lock
from omnivec.store.opening import FILE
from omnivec.store.sqlite import Catalogue
from omnivec.validation.reasons import of_system


def back_up(catalogue: Catalogue, target: Path) -> None:
    """Copies one state of a collection into a new folder; others may read and write the collection meanwhile.

    Raises:
        CollectionError: the folder exists, or cannot be written.
        CollectionDamaged: the collection is damaged.
    """
    target = target.absolute()
    refuse_existing(target, "a backup needs a new folder; choose another name")
    refuse_inside(catalogue.folder, target, "a backup")
    with made(target) as draft:
        _copy(catalogue, draft, target)


def restore(source: Path, target: Path, *, aside: bool = False) -> Path | None:
    """Copies a backup, or any collection, to the folder of a collection.

    Args:
        source: folder of the backup.
        target: folder of the collection.
        aside: whether a collection in `target` is renamed; otherwise it is an error.

    Returns:
        The new folder of the collection that was in `target`; None if there was none.

    Raises:
        CollectionError: `target` exists, or cannot be written.
        CollectionDamaged: the backup is damaged.
    """
    target, moved = target.absolute(), None
    refuse_inside(source, target, "what is restored")
    if os.path.lexists(target) and not aside:
        raise CollectionError(
            f"{target} exists already, and nothing is replaced; move it away, or have it renamed (--aside, aside=True)"
        )
    try:
        with Catalogue.open(source, create=False, readonly=True) as catalogue, made(target) as draft:
            _copy(catalogue, draft, target)
            if os.path.lexists(target):
                moved = _moved(target)
    except BaseException:
        if moved is not None and not os.path.lexists(target):
            moved.rename(target)
        raise
    return moved


def refuse_existing(target: Path, way_out: str) -> None:
    """Raises CollectionError if a path exists already."""
    if os.path.lexists(target):
        raise CollectionError(f"{target} exists already: {way_out}")


@contextmanager
def made(target: Path) -> Iterator[Path]:
    """A new folder that is renamed to `target` after the block."""
    try:
        with assembled(target) as draft:
            yield draft
    except OSError as exc:
        raise CollectionError(f"{target} cannot be made: {of_system(exc)}") from exc


def refuse_inside(folder: Path, target: Path, what: str) -> None:
    """Refuses to write into the folder of the collection that is read, links followed."""
    source, destination = folder.resolve(), target.resolve()
    if destination == source:
        raise CollectionError(f"{target} is the collection itself; choose another folder")
    if destination.is_relative_to(source):
        raise CollectionError(
            f"{target} lies in the collection {folder}: {what} needs a folder outside of it"
        )


def _copy(catalogue: Catalogue, draft: Path, target: Path) -> None:
    """Copies the catalogue into the empty folder `draft`, which is to become `target`, and checks the copy."""
    with closing(sqlite3.connect(draft / FILE)) as copy, catalogue.connection() as connection:
        try:
            connection.backup(copy)
        except sqlite3.Error as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                raise
            with translated(target):  # the disk that is full is the copy's
                raise
    synced(draft / FILE)  # SQLite has closed it, so no lock of this process is lost.
    problems = checked(draft)
    if problems:
        raise CollectionDamaged(
            f"{catalogue.folder} is damaged, and was not copied: {problems[0]} (omnivec collection check --deep shows "
            "all, omnivec collection salvage takes what is sound)"
        )


def checked(draft: Path) -> list[str]:
    """Checks a new copy deeply, and leaves nothing but its file; returns the problems."""
    with Catalogue.open(draft, create=False, readonly=True) as written:
        problems = written.check()
    for name in (f"{FILE}-wal", f"{FILE}-shm"):
        (draft / name).unlink(missing_ok=True)  # empty files, left by reading the copy
    return problems


def _moved(target: Path) -> Path:
    """Renames a collection while holding its writer lock; open handles will report that it was replaced."""
    if not (target / FILE).exists():
        raise CollectionError(f"{target} is not a collection, so it is not moved; choose another folder")
    with writer_lock(target, 0):
        number = 1
        while os.path.lexists(moved := target.with_name(f"{target.name}.before-restore-{number}")):
            number += 1
        target.rename(moved)
    return moved
