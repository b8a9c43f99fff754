"""Checks that a collection's path still names the files that were opened, and that these files belong together.

A handle that writes to files that were removed, moved away or replaced would acknowledge writes that nobody can read.
SQLite does not notice. While a connection holds a file open, no other file gets its inode, so device and inode tell
whether a path still names that file.

The write-ahead log holds what the file itself does not have yet. A file that was copied or restored without its log,
or beside the log of another state, would be read as a mixture of two states. So the file itself, read without its log,
must be of the same history, not older than the state on which the log was begun, and not newer than both together.

A worked example: the table `meta` in the file itself says changes = 40; read with its log, changes = 45, and
checkpointed = 40: the log was begun when the file had 40 changes. 40 <= 40 <= 45, so the two belong together. If a
backup of the file from change 38 is copied over it, 40 <= 38 fails, and the collection is refused.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from omnivec.errors import CollectionDamaged, CollectionError

_ENDS = ("", "-wal", "-shm")

Identity = tuple[int, int]
Version = tuple[int, int]


def _status(path: str | Path) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116  called for each read, where making a Path would take longer
    except OSError:
        return None


def identity_of(path: str | Path) -> Identity | None:
    """Device and inode of the file that a path names; None if there is no file."""
    status = _status(path)
    return None if status is None else (status.st_dev, status.st_ino)


def replaced(path: Path) -> CollectionError:
    """The error of a handle whose path no longer names the files that it opened."""
    return CollectionError(
        f"{path.parent} was removed or replaced since it was opened; open it again (nothing was written to what is "
        "there now)"
    )


class Files:
    """The catalogue's file, its write-ahead log and the log's index, as they were opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._names = [f"{path}{end}" for end in _ENDS]
        self._opened: list[Identity | None] | None = None
        self._version: Version | None = None
        self._id: str | None = None
        self._changes = 0  # of the file itself, without its log

    def opened(self, before: Identity | None) -> None:
        """Records the files of the first connection, and compares those of later ones with them.

        Args:
            before: identity of the catalogue's file just before the connection was made.
        """
        now = [identity_of(name) for name in self._names]
        if now[0] != before:  # The file was replaced meanwhile: which one the connection opened is unknown.
            raise replaced(self.path)
        if self._opened is None:
            self._opened = now
        elif now != self._opened:
            raise replaced(self.path)

    def check(self) -> Version:
        """Raises CollectionError if the path no longer names the files that were opened.

        Returns:
            mtime and size of the catalogue's file itself; most writes change its log only.
        """
        statuses = [_status(name) for name in self._names]
        now = [None if one is None else (one.st_dev, one.st_ino) for one in statuses]
        if statuses[0] is None or (self._opened is not None and now != self._opened):
            raise replaced(self.path)
        return statuses[0].st_mtime_ns, statuses[0].st_size

    def log_size(self) -> int:
        """Bytes of the write-ahead log."""
        status = _status(self._names[1])
        return 0 if status is None else status.st_size

    def check_history(self, connection: sqlite3.Connection, version: Version) -> None:
        """Compares the file itself with the state that a connection sees, if the file was written to since last time.

        Args:
            connection: inside a snapshot or a transaction.
            version: what `check` returned just before.

        Raises:
            CollectionError: the content of the file was replaced.
        """
        if version == self._version:
            return
        # Read before the file is: meanwhile, another thread may see a newer state and store it.
        known_id, known_changes = self._id, self._changes
        seen, in_file = _state(connection), _state_in_file(self.path)
        if in_file is not None and seen is not None:
            other = known_id is not None and in_file["id"] != known_id
            if other or in_file["changes"] < known_changes or not _belongs(in_file, seen, connection):
                raise replaced(self.path)
            self._id, self._changes = in_file["id"], max(self._changes, in_file["changes"])
        self._version = version

    def note(self, connection: sqlite3.Connection) -> None:
        """Records, in the transaction, the number of changes in the file itself: the log fits no older file."""
        if self._changes:
            connection.execute(
                "UPDATE meta SET value = ?1 WHERE key = 'checkpointed' AND value < ?1", (self._changes,)
            )


def check_log(path: Path) -> None:
    """Raises CollectionDamaged if a file and the log beside it are not of one state.

    It must be called before the file is opened for writing: closing the last connection moves the log into the file.
    """
    log = _status(f"{path}-wal")
    if log is None or not log.st_size:
        return
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            connection.execute("BEGIN")
            seen = _state(connection)
            # In this order: while the snapshot is open, no other process moves newer commits into the file. If the file
            # were read first, it could be older than a log that another process has begun since.
            in_file = _state_in_file(path)
            belongs = in_file is None or (seen is not None and _belongs(in_file, seen, connection))
        finally:
            connection.close()
    except sqlite3.Error:  # Reported when the catalogue is opened.
        return
    if not belongs:
        raise _mixed(path)


def _state(connection: sqlite3.Connection) -> dict[str, Any] | None:
    """The content of the table `meta`; None if the file is not a catalogue, or its schema has too little in it."""
    try:
        state = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    except sqlite3.OperationalError:  # Reported when the catalogue is opened.
        return None
    types = {"id": str, "changes": int, "stamp": int, "checkpointed": int}
    return state if all(isinstance(state.get(key), needed) for key, needed in types.items()) else None


def _state_in_file(path: Path) -> dict[str, Any] | None:
    """The state of the file itself, read without its log; None if it cannot be read, or has an older schema."""
    try:
        # Read by SQLite, which keeps this process's locks on the file; closing it after `open` would drop them.
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            return _state(connection)
        finally:
            connection.close()
    except sqlite3.Error:  # Another process is moving the log into the file.
        return None


def _belongs(in_file: dict[str, Any], seen: dict[str, Any], connection: sqlite3.Connection) -> bool:
    """Whether the file itself is an earlier state in the history that the connection sees."""
    stamps = connection.execute(
        "SELECT stamp FROM history WHERE changes = ?", (in_file["changes"],)
    ).fetchall()
    return bool(
        in_file["id"] == seen["id"]
        and seen["checkpointed"] <= in_file["changes"] <= seen["changes"]
        and stamps in ([], [(in_file["stamp"],)])
    )


def _mixed(path: Path) -> CollectionDamaged:
    return CollectionDamaged(
        f"{path} and its write-ahead log {path.name}-wal do not belong together: one of them was copied or restored "
        "without the other. Restore a backup (omnivec collection restore), or move the -wal and -shm files away and "
        f"check what {path.name} alone holds"
    )
