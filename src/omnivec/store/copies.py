"""Backups of a collection and their restoring: whole, checked, and under their name at once or not at all."""

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
    """Copies a collection, as it is at one moment, into a folder that is not there yet; others may read and write.

    Raises:
        CollectionError: the folder is there, or cannot be written.
        CollectionDamaged: what would be copied is not sound.
    """
    target = target.absolute()
    if os.path.lexists(target):
        raise CollectionError(
            f"{target} is there: a backup goes into a folder of its own that is not there yet"
        )
    _refuse_inside(catalogue.folder, target, "a backup")
    with _made(target) as draft:
        _copy(catalogue, draft, target)


def restore(source: Path, target: Path, *, aside: bool = False) -> Path | None:
    """Puts a copy of a backup, or of any collection, in the place of a collection.

    Args:
        source: folder of the backup.
        target: folder of the collection.
        aside: what is there is renamed; else it is refused.

    Returns:
        What the collection that was there is called now; None where there was none.

    Raises:
        CollectionError: something is there, or the folder cannot be written.
        CollectionDamaged: the backup is not sound.
    """
    target, moved = target.absolute(), None
    _refuse_inside(source, target, "what is restored")
    if os.path.lexists(target) and not aside:
        raise CollectionError(
            f"{target} is there: nothing is replaced; move it away, or have it renamed (--aside, aside=True)"
        )
    try:
        with Catalogue.open(source, create=False, readonly=True) as catalogue, _made(target) as draft:
            _copy(catalogue, draft, target)
            if os.path.lexists(target):
                moved = _moved(target)
    except BaseException:
        if moved is not None and not os.path.lexists(target):
            moved.rename(target)
        raise
    return moved


@contextmanager
def _made(target: Path) -> Iterator[Path]:
    """A new folder that becomes `target`."""
    try:
        with assembled(target) as draft:
            yield draft
    except OSError as exc:
        raise CollectionError(f"{target} cannot be made: {of_system(exc)}") from exc


def _refuse_inside(folder: Path, target: Path, what: str) -> None:
    """Refuses to write into the folder of the collection that is read, by whatever way the path leads there."""
    source, place = folder.resolve(), target.resolve()
    if place == source:
        raise CollectionError(f"{target} is the collection that is to be copied there: name another place")
    if place.is_relative_to(source):
        raise CollectionError(
            f"{target} lies in the collection {folder}: {what} takes a folder outside of it"
        )


def _copy(catalogue: Catalogue, draft: Path, target: Path) -> None:
    """Writes a copy, which will be `target`, into an empty folder, and checks it."""
    with closing(sqlite3.connect(draft / FILE)) as copy, catalogue.connection() as connection:
        try:
            connection.backup(copy)
        except sqlite3.Error as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                raise
            with translated(target):  # what is read needs no room
                raise
    synced(draft / FILE)  # Closed by SQLite: no lock of this process is on it.
    with Catalogue.open(draft, create=False, readonly=True) as written:
        problems = written.check()
    if problems:
        raise CollectionDamaged(
            f"{catalogue.folder} is damaged, and was not copied: {problems[0]} (omnivec collection check shows all)"
        )
    for name in (f"{FILE}-wal", f"{FILE}-shm"):
        (draft / name).unlink(missing_ok=True)  # of reading the copy: empty


def _moved(target: Path) -> Path:
    """Renames a collection that nobody writes to; handles that have it open will say that it was replaced."""
    if not (target / FILE).exists():
        raise CollectionError(f"{target} is no collection: it is not moved; name another place")
    with writer_lock(target, 0):
        number = 1
        while os.path.lexists(moved := target.with_name(f"{target.name}.before-restore-{number}")):
            number += 1
        target.rename(moved)
    return moved
