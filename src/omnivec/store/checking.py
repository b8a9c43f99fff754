"""The catalogue's check: SQLite's own, the text indexes against the texts, and what no constraint can say."""

from __future__ import annotations

import sqlite3

from omnivec.errors import CollectionDamaged
from omnivec.store.connections import Connections

# (what is wrong, SQL that counts it)
_MUST_BE_ZERO: tuple[tuple[str, str], ...] = (
    (
        "passages without a document",
        "SELECT count(*) FROM passages WHERE document NOT IN (SELECT key FROM documents)",
    ),
    (
        "vectors without a passage",
        "SELECT count(*) FROM vectors WHERE passage NOT IN (SELECT key FROM passages)",
    ),
    (
        "vectors without a space",
        "SELECT count(*) FROM vectors WHERE space NOT IN (SELECT key FROM spaces)",
    ),
    (
        "vectors of a wrong length",
        "SELECT count(*) FROM vectors JOIN spaces ON spaces.key = space WHERE length(vector) <> 4 * dim",
    ),
    (
        "states missing from the history",
        "SELECT count(*) FROM meta WHERE key = 'changes' AND value <> (SELECT max(changes) FROM history)",
    ),
)
_TEXT_INDEXES = ("passages_words", "passages_trigrams")


def problems(connections: Connections) -> list[str]:
    """Reads everything; returns one line for each thing that is wrong."""
    found: list[str] = []
    try:
        with connections.snapshot() as connection:
            rows = [row[0] for row in connection.execute("PRAGMA integrity_check(20)")]
            found += [f"file: {' '.join(row.split())}" for row in rows if row != "ok"]
            for what, sql in _MUST_BE_ZERO:
                count = connection.execute(sql).fetchone()[0]
                if count:
                    found.append(f"{count} {what}")
        # The text indexes are checked by a command that has the form of a write.
        if not connections.readonly:
            for table in _TEXT_INDEXES:
                found += _check_text_index(connections, table)
    except CollectionDamaged as exc:
        found.append(str(exc))
    return found


def _check_text_index(connections: Connections, table: str) -> list[str]:
    with connections.transaction() as connection:
        try:
            connection.execute(f"INSERT INTO {table} ({table}, rank) VALUES ('integrity-check', 1)")
        except sqlite3.DatabaseError as exc:
            return [f"text index {table} does not fit the passages: {exc}"]
    return []
