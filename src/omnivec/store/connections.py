"""Connections to the catalogue's file: one for each reading thread and one for writing; none is used after a fork."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType

from omnivec.errors import CollectionBusy, CollectionDamaged, CollectionError, OmnivecError, UsageError
from omnivec.store import schema, writing
from omnivec.store.dates import instant
from omnivec.store.replaced import Files, identity_of
from omnivec.store.strings import has_unspaced, searchable
from omnivec.validation.reasons import of_system

BUSY_SECONDS = 30.0

_LOG_BYTES = 8 * 2**20
_FREE_PAGES = 64
_PAGES_AT_ONCE = 2048  # 32 MiB, about a tenth of a second

# A connection that a child inherits by fork belongs to the parent: closing it in the child could remove the parent's
# write-ahead log, so the child keeps it open until it ends.
_inherited: list[sqlite3.Connection] = []

# All instances that are open in this process: after a fork, the child has to take its own locks.
_open: weakref.WeakSet[Connections] = weakref.WeakSet()

# (suffix of the file, offset, length) of the bytes that SQLite locks: those of the catalogue's file on which a
# connection holds a shared lock, and the one of the log's index that says that it is in use.
# https://www.sqlite.org/src/file?name=src/os_unix.c ("SHARED_FIRST", "UNIX_SHM_DMS")
_SHARED_BYTES = (("", 0x40000002, 510), ("-shm", 128, 1))


def _busy(path: Path) -> CollectionError:
    return CollectionBusy(
        f"another process is writing to {path} and did not finish within {BUSY_SECONDS:g} s; try again later"
    )


def damaged(path: Path, what: str = "") -> CollectionDamaged:
    """The error of a catalogue that does not hold what was written; `what` says in a few words what is wrong."""
    return CollectionDamaged(
        f"{path} is damaged{': ' * bool(what)}{what}; restore a backup of {path.parent} (omnivec collection restore), "
        "take what is sound (omnivec collection salvage), or remove that folder and index again"
    )


def _full(path: Path) -> CollectionError:
    try:
        free = f"{shutil.disk_usage(path.parent).free:,} bytes free"
    except OSError:
        free = "free space unknown"
    return CollectionError(
        f"no room to write to {path} ({free}); nothing of this write was stored; make room and repeat"
    )


def _readonly(path: Path) -> CollectionError:
    return CollectionError(
        f"{path} cannot be written to: it was opened with readonly=True, or file or folder is read-only; nothing was "
        "changed"
    )


def _unopenable(path: Path) -> CollectionError:
    # SQLite does not say why, so the system is asked. The file itself is not opened: closing it would drop SQLite's
    # locks on it.
    try:
        path.stat()
        os.close(os.open(os.devnull, os.O_RDONLY))
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
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
    sqlite3.SQLITE_CORRUPT: damaged,
    sqlite3.SQLITE_NOTADB: damaged,
    sqlite3.SQLITE_FULL: _full,
    sqlite3.SQLITE_READONLY: _readonly,
    sqlite3.SQLITE_CANTOPEN: _unopenable,
}


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns SQLite's exceptions inside the block into omnivec's, with one line about the file at `path`."""
    try:
        yield
    except _UNTRANSLATED as exc:
        raise _translation(path, exc) from exc


_UNTRANSLATED = (sqlite3.Error, UnicodeEncodeError, OverflowError)


def _translation(path: Path, exc: BaseException) -> OmnivecError:
    """The error for one of `_UNTRANSLATED`."""
    if isinstance(exc, UnicodeEncodeError):
        name = exc.object if len(exc.object) <= 200 else f"{exc.object[:200]}..."
        return UsageError(
            f"{name!r} cannot be encoded in UTF-8 (character {exc.start}), so it cannot be stored; rename it"
        )
    if isinstance(exc, OverflowError):
        return UsageError(f"a number is too large to be stored: {exc}; at most 64 bits, signed")
    if str(exc).startswith("Cannot operate on a closed database"):
        return CollectionError(f"{path} was closed; open the collection again")
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    if code in _MEANINGS:
        return _MEANINGS[code](path)
    # The SQL here is right for the tables here: if it fails, they or their content were changed outside omnivec.
    if code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT) or "decode to UTF-8" in str(exc):
        return damaged(path, " ".join(str(exc).split()))
    return CollectionError(f"{path}: {exc}")


def _mentions(text: str, literal: str) -> bool:
    """Whether a text contains a literal of a search plan; SQL's own lower() folds ASCII only."""
    return literal in searchable(text).casefold()


def connect(path: Path, *, writing: bool, lasting: bool) -> sqlite3.Connection:
    """Opens the file; the caller translates errors.

    Args:
        path: of the file, which must exist.
        writing: whether the connection may change the file.
        lasting: whether this process may create files beside it. If not, and the folder cannot be written, a file
            without a write-ahead log is opened as immutable, because SQLite would create a log even to read.
    """
    mode = "rw" if lasting else "ro"
    immutable = (
        not lasting
        and not os.access(path.parent, os.W_OK)
        and not path.with_name(path.name + "-wal").exists()
    )
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}{'&immutable=1' if immutable else ''}",
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
            with suppress(sqlite3.DatabaseError):  # what is no catalogue is named when it is read
                schema.show_as_newest(connection)
            connection.execute("PRAGMA query_only = ON")
        connection.create_function("mentions", 2, _mentions, deterministic=True)
        connection.create_function("searchable", 1, searchable, deterministic=True)
        connection.create_function("has_unspaced", 1, has_unspaced, deterministic=True)
        connection.create_function("instant", 1, instant, deterministic=True)
    except BaseException:
        connection.close()
        raise
    return connection


class _ThreadReader:
    """The reading connection of one thread; it is closed when the thread ends."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.pid = os.getpid()
        self.depth = 0
        self.connection = connection

    def close(self) -> None:
        if self.pid == os.getpid():
            self.connection.close()
        else:
            _inherited.append(self.connection)

    def __del__(self) -> None:
        self.close()


class _Snapshot:
    """See `Connections.snapshot`; a class, since a search has a dozen of them and most cost next to nothing."""

    __slots__ = ("_owner", "_reader")

    def __init__(self, owner: Connections) -> None:
        self._owner = owner

    def __enter__(self) -> sqlite3.Connection:
        self._reader = self._owner.begin()
        return self._reader.connection

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        self._owner.end(self._reader)
        if isinstance(exc, _UNTRANSLATED):
            raise _translation(self._owner.path, exc) from exc


class _Live:
    """The connections of one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.RLock()
        self.local = threading.local()
        self.readers: weakref.WeakSet[_ThreadReader] = weakref.WeakSet()
        self.writer: sqlite3.Connection | None = None


class Connections:
    """The connections of one catalogue, for threads and for the children of a fork.

    All connections are to the same file. Whenever something is read or written, the path must still name that file.

    Args:
        path: of the catalogue's file.
        readonly: whether every change is refused.
    """

    def __init__(self, path: Path, *, readonly: bool) -> None:
        self.path = path
        self.readonly = readonly
        self.files = Files(path)
        self._closed = False
        self._live = _Live()
        self._first: _ThreadReader | None = None
        _open.add(self)

    def _here(self) -> _Live:
        """The connections of this process; after a fork, new ones with a new lock."""
        if self._closed:
            raise CollectionError(f"{self.path} was closed; open the collection again")
        if self._live.pid != os.getpid():
            if self._live.writer is not None:
                _inherited.append(self._live.writer)
            self._live = _Live()
        return self._live

    def _connect(self, *, writing: bool) -> sqlite3.Connection:
        """A connection to the file that was opened first."""
        before = identity_of(self.path)
        connection = connect(self.path, writing=writing, lasting=not self.readonly)
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # opens the log too
            self.files.opened(before)
        except BaseException:
            connection.close()
            raise
        return connection

    def _reader(self) -> _ThreadReader:
        live = self._here()
        reader: _ThreadReader | None = getattr(live.local, "reader", None)
        if reader is None:
            with live.lock:
                reader = _ThreadReader(self._connect(writing=False))
                live.readers.add(reader)
                # While one connection is open, the inode by which the file is recognised is given to no other file.
                self._first = self._first or reader
            live.local.reader = reader
        return reader

    def snapshot(self) -> AbstractContextManager[sqlite3.Connection]:
        """This thread's reading connection, which sees one state of the catalogue during the block.

        Raises:
            CollectionError: the path no longer names the files that were opened.
        """
        return _Snapshot(self)

    def begin(self) -> _ThreadReader:
        """Begins a snapshot of this thread, perhaps inside another one."""
        reader: _ThreadReader | None = getattr(self._here().local, "reader", None)
        if reader is None or not reader.depth:
            with translated(self.path):
                reader = self._reader()
                version = self.files.check()
                reader.connection.execute("BEGIN DEFERRED")
                try:
                    # The snapshot begins with the first read, not with BEGIN.
                    reader.connection.execute("SELECT 1 FROM sqlite_master").fetchone()
                    self.files.check_history(reader.connection, version)
                except BaseException:
                    self._commit(reader)
                    raise
        reader.depth += 1
        return reader

    def end(self, reader: _ThreadReader) -> None:
        """Ends a snapshot; the transaction ends with the last of those inside each other, whatever their order."""
        reader.depth -= 1
        if not reader.depth:
            with translated(self.path):
                self._commit(reader)

    def _commit(self, reader: _ThreadReader) -> None:
        if not self._closed and reader.connection.in_transaction:
            reader.connection.execute("COMMIT")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The writing connection in one transaction: all changes of the block are committed, or none.

        After the block, the changes are in the files that the path names.

        Raises:
            CollectionError: the path no longer names the files that were opened.
        """
        if self.readonly:
            raise _readonly(self.path)
        live = self._here()
        with translated(self.path), live.lock:
            self.files.check()
            if live.writer is None:
                live.writer = self._connect(writing=True)
            connection = live.writer
            connection.execute("BEGIN IMMEDIATE")
            try:
                self.files.check_history(connection, self.files.check())
                before = connection.total_changes
                yield connection
                if connection.total_changes != before:
                    self.files.note(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            self.files.check()
            self._tidy(connection)

    def _tidy(self, connection: sqlite3.Connection) -> None:
        """Shrinks the file and its log by a piece after each commit; while others use them, a later commit does."""
        try:
            connection.execute("PRAGMA busy_timeout = 0")
            free = connection.execute("PRAGMA freelist_count").fetchone()[0]
            if free > max(_FREE_PAGES, connection.execute("PRAGMA page_count").fetchone()[0] // 4):
                # A script, because `execute` takes one step, which gives back one page.
                connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE});")
            if self.files.log_size() > _LOG_BYTES:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.OperationalError:
            return
        finally:  # Also after Ctrl-C: with a timeout of 0, the next write would not wait for other writers.
            connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")

    def vacuum(self) -> None:
        """Rewrites the file without free pages, and with auto_vacuum, so that `_tidy` can free later ones."""
        if self.readonly:
            raise _readonly(self.path)
        live = self._here()
        with translated(self.path), live.lock:
            with self.transaction() as connection:
                writing.merge_text_indexes(connection)
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self.files.check()

    def take_locks(self) -> None:
        """Locks the files for the child of a fork.

        SQLite counts the locks of a process in memory, and the child inherits this count but not the system's locks. So
        SQLite would take no locks for the child's connections, and another process could remove the log under them.
        """
        if sys.platform == "win32" or self._closed:
            return
        import fcntl

        try:
            self.files.check()
        except CollectionError:  # The path names another file by now.
            return

        for end, start, length in _SHARED_BYTES:
            with suppress(OSError):  # An immutable file without a log: there is nothing to lock.
                # Never closed: closing any descriptor of a file drops all of the process's locks on it.
                handle = os.open(f"{self.path}{end}", os.O_RDONLY)
                fcntl.lockf(handle, fcntl.LOCK_SH | fcntl.LOCK_NB, length, start)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

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


def is_open(path: Path) -> bool:
    """Whether this process has a catalogue's file open: it must not be opened by other means then."""
    named = identity_of(path)
    return any(
        one.files.path == path or identity_of(one.path) == named for one in list(_open) if not one.closed
    )


def _after_fork() -> None:
    for connections in list(_open):
        connections.take_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
