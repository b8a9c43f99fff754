"""Inserting documents with their passages and vectors: many rows in a statement, inside a transaction of the caller.

FTS5 writes what it has gathered to the file at each statement that runs a trigger, as that statement may have to be
rolled back alone. So a statement for each passage makes a segment of the full-text index for each, and merging these
takes longer than indexing the texts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from sqlite3 import Connection
from typing import Any

from omnivec.errors import UsageError
from omnivec.store import checksums
from omnivec.store.records import Document, Passage
from omnivec.store.strings import has_unspaced, searchable, storable
from omnivec.store.writing import SpaceKey, blobs, json_text

_DOCUMENT = (
    *("key", "id", "modality", "how", "digest", "root", "path", "size", "mtime_ns", "device"),
    *("metadata", "lost", "indexed_ns", "checksum"),
)
_PASSAGE = (
    *("key", "document", "ordinal", "start", "end", "line", "modality", "text"),
    *("unit", "unspaced", "searched"),
)
_VECTOR = ("space", "passage", "part", "vector")

_ROWS_AT_ONCE = 1 << 11
"""Most rows of a statement. Other numbers of rows are sums of powers of two, so that few statements are prepared."""

_PASSAGES_AT_ONCE = 1 << 12
_BYTES_AT_ONCE = 1 << 24
"""Passages, and bytes of their texts and vectors, that are copied before they are inserted."""


class Inserting:
    """Inserts documents whose ids are not in the catalogue; the keys of their passages follow the last ever used.

    Args:
        connection: in a transaction.
        spaces: see `writing.spaces`.
    """

    def __init__(self, connection: Connection, spaces: Mapping[str, SpaceKey]) -> None:
        self._connection, self._spaces = connection, spaces
        self._document = connection.execute("SELECT coalesce(max(key), 0) FROM documents").fetchone()[0]
        # What AUTOINCREMENT would take: the greater of the last key ever used and the last in the table.
        self._passage = connection.execute(
            "SELECT max(coalesce((SELECT max(CAST(seq AS INTEGER)) FROM sqlite_sequence WHERE name = 'passages'), 0),"
            " coalesce((SELECT max(key) FROM passages), 0))"
        ).fetchone()[0]
        self._documents: list[tuple[Any, ...]] = []
        self._passages: list[tuple[Any, ...]] = []
        self._vectors: list[tuple[Any, ...]] = []
        self._held = 0

    def put(self, document: Document, now: int) -> None:
        """Inserts a document with its passages and vectors, at the latest when `flush` is called.

        Args:
            document: with all its passages.
            now: nanoseconds since 1970.

        Raises:
            UsageError: a vector of an unknown space, of a wrong shape or not finite; metadata that is not JSON.
        """
        metadata = json_text(document.metadata, f"metadata of {document.id!r}")
        passages = [
            _stored(passage, ordinal, document.id, self._spaces)
            for ordinal, passage in enumerate(document.passages)
        ]
        head = (
            *(document.id, document.modality, document.pipeline, document.digest),
            *(document.root, document.path),
        )
        state = (document.size, document.mtime_ns, document.device)
        checksum = checksums.of((*head, metadata, document.lost), passages) ^ checksums.of_state(
            document.id, *state, now
        )
        self._document += 1
        self._documents.append((self._document, *head, *state, metadata, document.lost, now, checksum))
        for (row, vectors), passage in zip(passages, document.passages, strict=True):
            self._put(row, passage.unit, vectors)
        if len(self._passages) >= _PASSAGES_AT_ONCE or self._held >= _BYTES_AT_ONCE:
            self.flush()

    def _put(self, row: tuple[Any, ...], unit: str | None, vectors: Sequence[tuple[str, int, bytes]]) -> None:
        self._passage += 1
        text: str = row[5]
        searched = searchable(text)
        self._passages.append(
            (
                *(self._passage, self._document, *row[:6], unit, has_unspaced(searched)),
                None if searched == text else searched,
            )
        )
        self._vectors += [
            (self._spaces[space].key, self._passage, part, blob) for space, part, blob in vectors
        ]
        self._held += len(text) + sum(len(blob) for _, _, blob in vectors)

    def flush(self) -> None:
        """Inserts what waits."""
        for table, columns, rows in (
            ("documents", _DOCUMENT, self._documents),
            ("passages", _PASSAGE, self._passages),
            ("vectors", _VECTOR, self._vectors),
        ):
            insert_rows(self._connection, table, columns, rows)
            rows.clear()
        self._held = 0


def insert_rows(
    connection: Connection, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Inserts rows, many in a statement."""
    most = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // len(columns)
    one = f"({', '.join('?' * len(columns))})"
    start = 0
    for size in _sizes(len(rows), min(most, _ROWS_AT_ONCE)):
        connection.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([one] * size)}",
            tuple(chain.from_iterable(rows[start : start + size])),
        )
        start += size


def _sizes(n: int, most: int) -> Iterator[int]:
    """Powers of two up to `most` whose sum is n, the largest first.

    Examples:
        >>> list(_sizes(2500, 1024))
        [1024, 1024, 256, 128, 64, 4]
    """
    size = 1 << (most.bit_length() - 1)
    while n:
        while size > n:
            size >>= 1
        yield size
        n -= size


def insert(
    connection: Connection, documents: Iterable[tuple[Document, int]], spaces: Mapping[str, SpaceKey]
) -> None:
    """Inserts documents whose ids are not in the catalogue, each with the time of its writing; see `Inserting.put`."""
    inserting = Inserting(connection, spaces)
    for document, now in documents:
        inserting.put(document, now)
    inserting.flush()


def _number(number: float) -> float:
    """A number as an INTEGER column stores it, for the checksum too: without a fraction, it is an int."""
    return number if type(number) is int else int(number) if float(number).is_integer() else float(number)


def _stored(
    passage: Passage, ordinal: int, document: str, spaces: Mapping[str, SpaceKey]
) -> checksums.Stored:
    """A passage as it is stored: its row, see `checksums.row_of`, and its (space, part, blob)."""
    vectors = []
    for space in sorted(passage.vectors):
        if space not in spaces:
            raise UsageError(
                f"{document!r} has vectors of the space {space!r}; there are: {', '.join(spaces)}"
            )
        parts = blobs(passage.vectors[space], spaces[space], document, ordinal, space)
        vectors += [(space, part, blob) for part, blob in enumerate(parts)]
    span = (_number(passage.start), _number(passage.end))
    row = (ordinal, *span, passage.line, passage.modality, storable(passage.text), passage.unit)
    return checksums.row_of(*row), vectors
