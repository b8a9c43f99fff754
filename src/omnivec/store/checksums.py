"""A checksum for each document, of what it is, its passages and its vectors, and one for each table of few rows.

SQLite's own check finds pages that do not fit together; a number inside a vector or a letter inside a text that
changed on the disk it cannot know. The times and sizes that a sync notes again are a part of their own, so that a new
checksum is had from the old one without the text.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

Stored = tuple[tuple[Any, ...], Sequence[tuple[str, int, bytes]]]
"""A passage: (ordinal, start, end, line, modality, text), and (space, part, vector) by space and part."""


TABLES: Mapping[str, str] = {
    "spaces": "SELECT key, name, model, dim, metric, identity, provenance FROM spaces ORDER BY key",
    "canaries": "SELECT space, ordinal, text, vector FROM canaries ORDER BY space, ordinal",
    "roots": "SELECT path FROM roots ORDER BY path",
}
"""Tables of few rows -> all that is in them; the checksum of each is a value in `meta` under its name."""


def of(document: tuple[Any, ...], passages: Sequence[Stored]) -> int:
    """The checksum of a document without `of_state`, 64 bits with a sign.

    Args:
        document: (id, modality, how, digest, root, path, metadata as JSON, lost).
        passages: in their order.
    """
    # The form that repr gives a tuple of texts, bytes and numbers can be of no other tuple.
    hashed = hashlib.blake2b(repr(document).encode(), digest_size=8)
    for row, vectors in passages:
        hashed.update(repr(row).encode())
        for space, part, vector in vectors:
            # What is no blob was changed: it hashes to another sum.
            raw = vector if isinstance(vector, bytes) else repr(vector).encode()
            hashed.update(repr((space, part, len(raw))).encode())
            hashed.update(raw)
    return int.from_bytes(hashed.digest(), "big", signed=True)


def of_state(name: str, size: int, mtime_ns: int, device: int, indexed_ns: int) -> int:
    """The part of a document's checksum that says when and where its file was seen; `^` adds and removes it."""
    return _hash(repr((name, size, mtime_ns, device, indexed_ns)).encode())


def of_table(connection: sqlite3.Connection, table: str) -> int:
    """The checksum of all that is in one of `TABLES`."""
    return _hash(repr(connection.execute(TABLES[table]).fetchall()).encode())


def _hash(raw: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "big", signed=True)


def fits(connection: sqlite3.Connection, table: str) -> bool:
    """Whether one of `TABLES` holds what was written."""
    noted = connection.execute("SELECT value FROM meta WHERE key = ?", (table,)).fetchone()
    return noted is not None and bool(noted[0] == of_table(connection, table))


@contextmanager
def noted(connection: sqlite3.Connection, *tables: str) -> Iterator[None]:
    """Writes down the checksums of tables that are changed inside; one that did not fit before is left so."""
    sound = [table for table in tables if fits(connection, table)]
    yield
    for table in sound:
        _note(connection, table)


def _note(connection: sqlite3.Connection, table: str) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (table, of_table(connection, table)))


def computed(connection: sqlite3.Connection, *, states: bool = True) -> Iterator[tuple[int, int]]:
    """The key of each document and the checksum of what is stored of it, `of_state` included where `states` is set."""
    documents = connection.execute(
        "SELECT key, size, mtime_ns, device, indexed_ns, id, modality, how, digest, root, path, metadata, lost"
        " FROM documents ORDER BY key"
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
            "SELECT key, ordinal, start, end, line, modality, text FROM passages WHERE document = ? ORDER BY ordinal",
            (key,),
        )
        checksum = of(tuple(document), [(tuple(row), vectors.get(passage, ())) for passage, *row in passages])
        yield key, checksum ^ (of_state(document[0], size, mtime_ns, device, indexed_ns) if states else 0)


def fill(connection: sqlite3.Connection) -> None:
    """Gives the documents of a collection from before there were checksums theirs."""
    sums = [(checksum, key) for key, checksum in computed(connection, states=False)]
    connection.executemany("UPDATE documents SET checksum = ? WHERE key = ?", sums)


def fill_states(connection: sqlite3.Connection) -> None:
    """Adds to checksums of documents alone those of their times, and gives the tables of few rows theirs."""
    rows = connection.execute("SELECT key, checksum, id, size, mtime_ns, device, indexed_ns FROM documents")
    sums = [
        ((checksum if isinstance(checksum, int) else 0) ^ of_state(*state), key)
        for key, checksum, *state in rows.fetchall()
    ]
    connection.executemany("UPDATE documents SET checksum = ? WHERE key = ?", sums)
    for table in TABLES:
        _note(connection, table)
