"""Checksums: one for each document with its passages and vectors, and one for each small table.

SQLite's own check finds inconsistent pages; it cannot find a number of a vector or a letter of a text that changed on
the disk. A document's checksum is the exclusive or of two: one of its content, and one of the times and sizes that a
sync updates, so that these can change without the text being read again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

Stored = tuple[tuple[Any, ...], Sequence[tuple[str, int, bytes]]]
"""A passage: its row (ordinal, start, end, line, modality, text, unit), and its vectors (space, part, blob), sorted.

The row ends before the unit if that is NULL, as in passages of older versions.
"""

NAMED = 6
"""The version of the schema whose spaces have the columns modalities, kind, dtype and state."""


TABLES: Mapping[str, str] = {
    "spaces": "SELECT key, name, model, dim, metric, identity, provenance, modalities, kind, dtype, state FROM spaces"
    " ORDER BY key",
    "canaries": "SELECT space, ordinal, text, vector FROM canaries ORDER BY space, ordinal",
    "roots": "SELECT path FROM roots ORDER BY path",
}
"""Each small table -> a SELECT of its whole content. The table `meta` has its checksum under the table's name."""

_UNNAMED = "SELECT key, name, model, dim, metric, identity, provenance FROM spaces ORDER BY key"


def of(document: tuple[Any, ...], passages: Sequence[Stored]) -> int:
    """The checksum of a document's content, without `of_state`: a signed integer of 64 bits.

    Args:
        document: (id, modality, how, digest, root, path, metadata as JSON, lost).
        passages: in their order.
    """
    # No two different tuples of texts, bytes and numbers have the same repr.
    hashed = hashlib.blake2b(repr(document).encode(), digest_size=8)
    for row, vectors in passages:
        parts = [repr(row).encode()]
        for space, part, vector in vectors:
            # A value that is not a blob was changed outside omnivec; its repr gives another checksum.
            raw = vector if isinstance(vector, bytes) else repr(vector).encode()
            parts += (_head(space, part, len(raw)), raw)
        hashed.update(b"".join(parts))
    return int.from_bytes(hashed.digest(), "big", signed=True)


@functools.lru_cache(maxsize=1024, typed=True)
def _head(space: str, part: int, size: int) -> bytes:
    """What enters a checksum before the bytes of a vector; few are different."""
    return repr((space, part, size)).encode()


def row_of(*row: Any) -> tuple[Any, ...]:
    """The row of a passage, (ordinal, start, end, line, modality, text, unit), as it enters the checksum."""
    return row if row[-1] is not None else row[:-1]


def of_state(name: str, size: int, mtime_ns: int, device: int, indexed_ns: int) -> int:
    """The checksum of when and where a document's file was seen; `^` adds it to the document's, or removes it."""
    return _hash(repr((name, size, mtime_ns, device, indexed_ns)).encode())


def of_table(connection: sqlite3.Connection, table: str) -> int:
    """The checksum of the whole content of one of `TABLES`."""
    former = table == "spaces" and not _has_named(connection)
    return _of_rows(connection, _UNNAMED if former else TABLES[table])


def _has_named(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA user_version").fetchone()[0] >= NAMED)


def of_rows(content: Sequence[tuple[Any, ...]]) -> int:
    """The checksum of the whole content of a small table, in the order of its SELECT."""
    return _hash(repr(list(content)).encode())


def _of_rows(connection: sqlite3.Connection, select: str) -> int:
    return of_rows(connection.execute(select).fetchall())


def _hash(raw: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "big", signed=True)


def fits(connection: sqlite3.Connection, table: str) -> bool:
    """Whether the content of one of `TABLES` has the checksum that was written with it."""
    stored = connection.execute("SELECT value FROM meta WHERE key = ?", (table,)).fetchone()
    return stored is not None and bool(stored[0] == of_table(connection, table))


@contextmanager
def noted(connection: sqlite3.Connection, *tables: str) -> Iterator[None]:
    """Updates the checksums of tables that the block changes; one that was wrong before stays wrong."""
    intact = [table for table in tables if fits(connection, table)]
    yield
    for table in intact:
        _note(connection, table)


def _note(connection: sqlite3.Connection, table: str) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (table, of_table(connection, table)))


def computed(
    connection: sqlite3.Connection, *, states: bool = True, keys: Sequence[int] | None = None
) -> Iterator[tuple[int, int]]:
    """The key of each document and the checksum of its stored content, with `of_state` if `states` is set.

    `keys` are those of the documents; None for all.
    """
    among = "" if keys is None else " WHERE key IN (SELECT value FROM json_each(?))"
    unit = "unit" if _has_named(connection) else "NULL"
    documents = connection.execute(
        "SELECT key, size, mtime_ns, device, indexed_ns, id, modality, how, digest, root, path, metadata, lost"
        f" FROM documents{among} ORDER BY key",
        () if keys is None else (json.dumps(list(keys)),),
    ).fetchall()
    for key, size, mtime_ns, device, indexed_ns, *document in documents:
        vectors: dict[Any, list[tuple[str, int, bytes]]] = {}
        for passage, *vector in connection.execute(
            "SELECT passage, name, part, vector FROM passages JOIN vectors ON passage = passages.key"
            " JOIN spaces ON spaces.key = space WHERE document = ? ORDER BY passage, name, part",
            (key,),
        ):
            vectors.setdefault(passage, []).append((vector[0], vector[1], vector[2]))
        passages = connection.execute(
            f"SELECT key, ordinal, start, end, line, modality, text, {unit} FROM passages WHERE document = ?"
            " ORDER BY ordinal",
            (key,),
        )
        checksum = of(
            tuple(document), [(row_of(*row), vectors.get(passage, ())) for passage, *row in passages]
        )
        yield key, checksum ^ (of_state(document[0], size, mtime_ns, device, indexed_ns) if states else 0)


def fill(connection: sqlite3.Connection) -> None:
    """Migration to version 4: writes the checksums of all documents."""
    sums = [(checksum, key) for key, checksum in computed(connection, states=False)]
    connection.executemany("UPDATE documents SET checksum = ? WHERE key = ?", sums)


def fill_states(connection: sqlite3.Connection) -> None:
    """Migration to version 5: adds `of_state` to the checksums of documents, and writes those of the small tables."""
    rows = connection.execute("SELECT key, checksum, id, size, mtime_ns, device, indexed_ns FROM documents")
    sums = [
        ((checksum if isinstance(checksum, int) else 0) ^ of_state(*state), key)
        for key, checksum, *state in rows.fetchall()
    ]
    connection.executemany("UPDATE documents SET checksum = ? WHERE key = ?", sums)
    for table in TABLES:
        _note(connection, table)


def fill_spaces(connection: sqlite3.Connection) -> None:
    """Migration to version 6: covers the new columns of spaces; a checksum that was wrong before stays wrong."""
    if fits(connection, "spaces"):
        checksum = _of_rows(connection, TABLES["spaces"])
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('spaces', ?)", (checksum,))
