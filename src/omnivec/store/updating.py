"""Changing documents in place, and finding those to change, inside a transaction of the caller."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from omnivec.store import checksums, rows
from omnivec.store.records import Document
from omnivec.store.writing import json_text


def matching(
    connection: Connection, ids: Sequence[str] | None, condition: str, parameters: list[Any]
) -> list[Any]:
    """The ids of the documents that pass a compiled filter; of those among `ids` unless it is None."""
    if ids is not None:
        condition += " AND id IN (SELECT value FROM json_each(?))"
        parameters = [*parameters, json.dumps(list(ids))]
    return [row[0] for row in connection.execute(f"SELECT id FROM documents WHERE {condition}", parameters)]


def metadata_of(connection: Connection, ids: Iterable[str]) -> list[tuple[Any, ...]]:
    """Rows of the shape METADATA of these documents."""
    return connection.execute(
        f"SELECT {rows.METADATA.sql} FROM documents WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(ids)),),
    ).fetchall()


def keeping(connection: Connection, documents: Iterable[Document]) -> dict[str, Document]:
    """Documents by id, with the metadata of their earlier versions that do not follow from their files.

    An earlier version whose metadata cannot be read is damaged and is about to be replaced: nothing of it is kept.
    """
    latest = {document.id: document for document in documents}
    derived = {name: one.derived for name, one in latest.items() if one.derived is not None}
    for row in metadata_of(connection, derived) if derived else ():
        if next(rows.METADATA.faults([row]), None) is None:
            one, before = latest[row[0]], json.loads(row[3])
            kept = {key: value for key, value in before.items() if key not in derived[row[0]]}
            latest[row[0]] = replace(one, metadata={**kept, **one.metadata})
    return latest


def update(
    path: Path,
    connection: Connection,
    given: Mapping[str, Mapping[str, Any]],
    *,
    merge: bool,
    remove: Collection[str] = (),
) -> int:
    """Changes the metadata of documents that exist; returns how many differ from before.

    What the content of a document adds to its checksum is replaced by what its new content adds, so that a checksum
    that was wrong before stays wrong.

    Args:
        path: of the catalogue's file, for messages.
        connection: in a transaction.
        given: id -> metadata.
        merge: whether the keys are added to those of a document, or replace them all.
        remove: keys of a document that are removed before others are added.

    Raises:
        UsageError: metadata that JSON cannot represent.
        CollectionDamaged: what is stored cannot be read.
    """
    changed = []
    for name, key, checksum, before in rows.METADATA.read(path, metadata_of(connection, given)):
        whose = f"metadata of {name!r}"
        kept = {key: value for key, value in before.items() if merge and key not in remove}
        text = json_text({**kept, **given[name]}, whose)
        if text != json_text(before, whose):
            changed.append((key, checksum, text))
    keys = [key for key, _, _ in changed]
    before_sums = dict(checksums.computed(connection, keys=keys))
    connection.executemany(
        "UPDATE documents SET metadata = ? WHERE key = ?", [(text, key) for key, _, text in changed]
    )
    after_sums = dict(checksums.computed(connection, keys=keys))
    connection.executemany(
        "UPDATE documents SET checksum = ? WHERE key = ?",
        [(checksum ^ before_sums[key] ^ after_sums[key], key) for key, checksum, _ in changed],
    )
    return len(changed)
