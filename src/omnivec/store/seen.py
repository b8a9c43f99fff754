"""What was met in a long stream, kept in a temporary file so that memory stays flat."""

from __future__ import annotations

import sqlite3
from types import TracebackType
from typing import Self

from omnivec.errors import OmnivecError


class Seen:
    """Remembers a value for each key, the first that is given; a context manager.

    The entries lie in a temporary database of SQLite, which keeps 2 MB of it in memory and removes it at the end.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE seen (key BLOB PRIMARY KEY, value BLOB, place TEXT) WITHOUT ROWID"
        )
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def first(self, key: bytes, value: bytes, place: str) -> tuple[bytes, str] | None:
        """Returns the value and place that a key was first given with; None if this is the first time.

        Raises:
            OmnivecError: the temporary file cannot be written.
        """
        try:
            new = self._database.execute(
                "INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (key, value, place)
            ).rowcount
            if new:
                return None
            found = self._database.execute("SELECT value, place FROM seen WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise OmnivecError(
                f"the temporary file of the rows read so far cannot be used: {error}"
            ) from error
        return bytes(found[0]), str(found[1])
