"""Connections to the catalogue's file: one for each reading thread, one for writing, none across a fork."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from omnivec.errors import CollectionBusy, CollectionDamaged, CollectionError, UsageError
from omnivec.reasons import of_system
from omnivec.store.text import has_unspaced, searchable

BUSY_SECONDS = 30.0

# A connection that a fork brought along belongs to the parent: closing it here could remove the parent's
# write-ahead log, so it is kept until the process ends.
_inherited: list[sqlite3.Connection] = []


def _busy(path: Path) -> CollectionError:
    return CollectionBusy(
        f"another process is writing to {path} and did not finish within {BUSY_SECONDS:g} s; try again later"
    )


def _damaged(path: Path) -> CollectionError:
    return CollectionDamaged(
        f"{path} is damaged; restore a backup of {path.parent}, or remove that folder and index again"
    )


def _full(path: Path) -> CollectionError:
    try:
        free = f"{shutil.disk_usage(path.parent).free:,} bytes free"
    except OSError:
        free = "free space unknown"
    return CollectionError(
        f"no room to write to {path} ({free}); nothing of this write was kept; make room and repeat"
    )


def _readonly(path: Path) -> CollectionError:
    return CollectionError(
        f"{path} cannot be written to: it was opened with readonly=True, or file or folder is read-only; nothing was "
        "changed"
    )


def _unopenable(path: Path) -> CollectionError:
    # SQLite does not say why: the system does, asked for the same.
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError as error:
        return CollectionError(f"{path} cannot be opened: {of_system(error)}")
    return CollectionError(
        f"{path} cannot be opened with the files beside it ({path.name}-wal, {path.name}-shm): this user needs access "
        "to them and to their folder, and the process room for a few more open files (ulimit -n)"
    )


# Primary result codes: https://www.sqlite.org/rescode.html
_MEANINGS: dict[int, Callable[[Path], CollectionError]] = {
    sqlite3.SQLITE_BUSY: _busy,
    sqlite3.SQLITE_LOCKED: _busy,
    sqlite3.SQLITE_CORRUPT: _damaged,
    sqlite3.SQLITE_NOTADB: _damaged,
    sqlite3.SQLITE_FULL: _full,
    sqlite3.SQLITE_READONLY: _readonly,
    sqlite3.SQLITE_CANTOPEN: _unopenable,
}


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """The border: what SQLite raises becomes one line of ours about the file at `path`."""
    try:
        yield
    except sqlite3.Error as exc:
        if str(exc).startswith("Cannot operate on a closed database"):
            raise CollectionError(f"{path} was closed; open the collection again") from exc
        meaning = _MEANINGS.get(getattr(exc, "sqlite_errorcode", 0) & 0xFF)
        if meaning is not None:
            raise meaning(path) from exc
        raise CollectionError(f"{path}: {exc}") from exc
    except UnicodeEncodeError as exc:
        name = exc.object if len(exc.object) <= 200 else f"{exc.object[:200]}..."
        raise UsageError(
            f"{name!r} has no UTF-8 (character {exc.start}), so it cannot be stored; rename it"
        ) from exc
    except OverflowError as exc:
        raise UsageError(f"a number is too large to be stored: {exc}; at most 64 bits with a sign") from exc


def _mentions(text: str, literal: str) -> bool:
    """Whether a text contains a literal of a search plan; SQL's own lower() folds ASCII only."""
    return literal in searchable(text).casefold()


def connect(path: Path, *, writing: bool, lasting: bool) -> sqlite3.Connection:
    """Opens the file; the caller translates errors.

    Args:
        path: of the file, which must exist.
        writing: False refuses every change.
        lasting: whether this process may write beside the file. If not, a file without a write-ahead log is
            opened as immutable, because SQLite otherwise wants to create one even to read.
    """
    mode = "rw" if lasting else "ro"
    alone = (
        not lasting
        and not os.access(path.parent, os.W_OK)
        and not path.with_name(path.name + "-wal").exists()
    )
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}{'&immutable=1' if alone else ''}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -16384")
        if not writing:
            connection.execute("PRAGMA query_only = ON")
        connection.create_function("mentions", 2, _mentions, deterministic=True)
        connection.create_function("searchable", 1, searchable, deterministic=True)
        connection.create_function("has_unspaced", 1, has_unspaced, deterministic=True)
    except BaseException:
        connection.close()
        raise
    return connection


class _Reader:
    """One thread's connection for reading; it is closed when the thread ends."""

    def __init__(self, path: Path, *, lasting: bool) -> None:
        self.pid = os.getpid()
        self.depth = 0
        self.connection = connect(path, writing=False, lasting=lasting)

    def close(self) -> None:
        if self.pid == os.getpid():
            self.connection.close()
        else:
            _inherited.append(self.connection)

    def __del__(self) -> None:
        if hasattr(self, "connection"):
            self.close()


class _Live:
    """The connections of one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.RLock()
        self.local = threading.local()
        self.readers: weakref.WeakSet[_Reader] = weakref.WeakSet()
        self.writer: sqlite3.Connection | None = None


class Connections:
    """Hands out the connections of one catalogue; safe for threads and across a fork."""

    def __init__(self, path: Path, *, readonly: bool) -> None:
        self.path = path
        self.readonly = readonly
        self._closed = False
        self._live = _Live()

    def _here(self) -> _Live:
        """The connections of this process: after a fork none is reused, and the locks are new as well."""
        if self._closed:
            raise CollectionError(f"{self.path} was closed; open the collection again")
        if self._live.pid != os.getpid():
            if self._live.writer is not None:
                _inherited.append(self._live.writer)
            self._live = _Live()
        return self._live

    def _reader(self) -> _Reader:
        live = self._here()
        reader: _Reader | None = getattr(live.local, "reader", None)
        if reader is None:
            reader = _Reader(self.path, lasting=not self.readonly)
            with live.lock:
                live.readers.add(reader)
            live.local.reader = reader
        return reader

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """This thread's reading connection, seeing one state of the catalogue from begin to end."""
        with translated(self.path):
            reader = self._reader()
            connection = reader.connection
            if reader.depth == 0:
                connection.execute("BEGIN DEFERRED")
            reader.depth += 1
            try:
                if reader.depth == 1:
                    # BEGIN alone fixes nothing: the state is chosen by the first read.
                    connection.execute("SELECT 1 FROM sqlite_master").fetchone()
                yield connection
            finally:
                reader.depth -= 1
                if reader.depth == 0 and not self._closed and connection.in_transaction:
                    connection.execute("COMMIT")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The writing connection inside one transaction: all of the block is kept, or nothing."""
        if self.readonly:
            raise _readonly(self.path)
        live = self._here()
        with translated(self.path), live.lock:
            if live.writer is None:
                live.writer = connect(self.path, writing=True, lasting=True)
            connection = live.writer
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Closes every connection of this process; nothing can be read or written afterwards."""
        if self._closed:
            return
        live = self._here()
        self._closed = True
        with translated(self.path), live.lock:
            for reader in list(live.readers):
                reader.close()
            if live.writer is not None:
                live.writer.close()
