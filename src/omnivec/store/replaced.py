"""Whether the files under a collection's path are still those that were opened, and belong together.

A handle that goes on writing to files that were removed, moved away or replaced would acknowledge what nobody finds
again. SQLite does not notice. An inode is not given to another file while a connection holds it open, so device and
inode of what the path names tell whether it still is that file.

The write-ahead log holds what the file itself does not have yet. A file that was copied or restored without its log,
or over the log of another state, would be read as a mixture of two. The file's own rows, read past the log, must be of
the same history, at least as new as what the log was begun on, and no newer than both together.
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
        return os.stat(path)  # noqa: PTH116  called for each read: no Path for each
    except OSError:
        return None


def identity_of(path: str | Path) -> Identity | None:
    """Device and inode of the file that a path names now; None where it names none."""
    status = _status(path)
    return None if status is None else (status.st_dev, status.st_ino)


def replaced(path: Path) -> CollectionError:
    """The error of a handle whose files are no longer under their path."""
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
        self._own = 0

    def opened(self, before: Identity | None) -> None:
        """Takes note of the files of a connection that has read, or compares them with those of the first one.

        Args:
            before: identity of the catalogue's file just before the connection was made.
        """
        now = [identity_of(name) for name in self._names]
        if now[0] != before:  # changed under the connection's feet: which one it has cannot be known
            raise replaced(self.path)
        if self._opened is None:
            self._opened = now
        elif now != self._opened:
            raise replaced(self.path)

    def check(self) -> Version:
        """Raises CollectionError where the path no longer names the files that were opened.

        Returns:
            When the catalogue's file itself was last written to, and its size: most writes are in its log alone.
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
        """Compares the file itself with the state that a connection sees, where it was written to since last time.

        Args:
            connection: inside a snapshot or a transaction.
            version: what `check` returned just before.

        Raises:
            CollectionError: the file was replaced in its place.
        """
        if version == self._version:
            return
        # Asked for before the file is read: another thread may see a newer one meanwhile.
        known, least = self._id, self._own
        seen, own_state = _state(connection), _own_state(self.path)
        if own_state is not None and seen is not None:
            other = known is not None and own_state["id"] != known
            if other or own_state["changes"] < least or not _belongs(own_state, seen, connection):
                raise replaced(self.path)
            self._id, self._own = own_state["id"], max(self._own, own_state["changes"])
        self._version = version

    def note(self, connection: sqlite3.Connection) -> None:
        """Writes down, in the transaction, how new the file itself is: its log can be used on no older one."""
        if self._own:
            connection.execute(
                "UPDATE meta SET value = ?1 WHERE key = 'checkpointed' AND value < ?1", (self._own,)
            )


def check_log(path: Path) -> None:
    """Raises CollectionDamaged where a file and the log beside it are not of one state.

    It is called before anything is opened for writing: who closes such a file last would move the log into it.
    """
    log = _status(f"{path}-wal")
    if log is None or not log.st_size:
        return
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            connection.execute("BEGIN")
            seen = _state(connection)
            # In this order: what is seen keeps another process from moving newer commits into the file, while a file
            # that was read first may be older than the log that process has begun since.
            own_state = _own_state(path)
            belongs = own_state is None or (seen is not None and _belongs(own_state, seen, connection))
        finally:
            connection.close()
    except sqlite3.Error:  # Whoever opens it for use will say what is wrong.
        return
    if not belongs:
        raise _mixed(path)


def _state(connection: sqlite3.Connection) -> dict[str, Any] | None:
    """What the table `meta` says; None of a schema from before it said enough, and of what is no catalogue."""
    try:
        state = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    except sqlite3.OperationalError:  # Whoever opens it for use will say what is wrong.
        return None
    known = {"id": str, "changes": int, "stamp": int, "checkpointed": int}
    return state if all(isinstance(state.get(key), value_type) for key, value_type in known.items()) else None


def _own_state(path: Path) -> dict[str, Any] | None:
    """What the file itself says, read past its log; None where it cannot be read so, or is of an older schema."""
    try:
        # SQLite keeps the locks that this process has on the file; opening it by other means would drop them.
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            return _state(connection)
        finally:
            connection.close()
    except sqlite3.Error:  # Another process is just moving its log into the file.
        return None


def _belongs(own_state: dict[str, Any], seen: dict[str, Any], connection: sqlite3.Connection) -> bool:
    """Whether the file itself is of the history that the connection sees."""
    stamps = connection.execute(
        "SELECT stamp FROM history WHERE changes = ?", (own_state["changes"],)
    ).fetchall()
    return bool(
        own_state["id"] == seen["id"]
        and seen["checkpointed"] <= own_state["changes"] <= seen["changes"]
        and stamps in ([], [(own_state["stamp"],)])
    )


def _mixed(path: Path) -> CollectionDamaged:
    return CollectionDamaged(
        f"{path} and its write-ahead log {path.name}-wal are not of one state: one of them was copied or restored "
        "without the other. Restore a backup (omnivec collection restore), or move the -wal and -shm files away and "
        f"check what {path.name} alone holds"
    )
