"""A checksum for each document: of what it is, its passages and its vectors, as they were written.

SQLite's own check finds pages that do not fit together; a number inside a vector or a letter inside a text that
changed on the disk it cannot know. The times and sizes that a sync notes again are left out.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

Stored = tuple[tuple[Any, ...], Sequence[tuple[str, int, bytes]]]
"""A passage: (ordinal, start, end, line, modality, text), and (space, part, vector) by space and part."""


def of(document: tuple[Any, ...], passages: Sequence[Stored]) -> int:
    """The checksum of a document, 64 bits with a sign.

    Args:
        document: (id, modality, how, digest, root, path, metadata as JSON, lost).
        passages: in their order.
    """
    # The form that repr gives a tuple of texts, bytes and numbers can be of no other tuple.
    hashed = hashlib.blake2b(repr(document).encode(), digest_size=8)
    for row, vectors in passages:
        hashed.update(repr(row).encode())
        for space, part, vector in vectors:
            raw = (
                vector if isinstance(vector, bytes) else repr(vector).encode()
            )  # what is no blob was changed
            hashed.update(repr((space, part, len(raw))).encode())
            hashed.update(raw)
    return int.from_bytes(hashed.digest(), "big", signed=True)


def computed(connection: sqlite3.Connection) -> Iterator[tuple[int, int]]:
    """The key of each document and the checksum of what is stored of it."""
    documents = connection.execute(
        "SELECT key, id, modality, how, digest, root, path, metadata, lost FROM documents ORDER BY key"
    ).fetchall()
    for key, *document in documents:
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
        yield key, of(tuple(document), [(tuple(row), vectors.get(passage, ())) for passage, *row in passages])


def fill(connection: sqlite3.Connection) -> None:
    """Gives the documents of a collection from before there were checksums theirs."""
    sums = [(checksum, key) for key, checksum in computed(connection)]
    connection.executemany("UPDATE documents SET checksum = ? WHERE key = ?", sums)
