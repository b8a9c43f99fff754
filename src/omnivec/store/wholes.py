"""Documents as they are stored, with everything that belongs to them, for exports, imports and salvage.

A `Whole` holds the values of the catalogue's rows and the bytes of its vectors, so that nothing is rounded or
reformatted on its way from one collection to another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnivec.errors import CollectionError, UsageError
from omnivec.store import checksums, rows, schema
from omnivec.store.connections import damaged
from omnivec.store.opening import FILE
from omnivec.store.records import Document, Passage, SpaceRecord
from omnivec.store.sqlite import Catalogue
from omnivec.store.writing import json_text
from omnivec.types import SPARSE
from omnivec.validation.arguments import quoted

HEAD = "id, modality, how, digest, root, path, metadata, lost, size, mtime_ns, device, indexed_ns, checksum"
"""The columns of `Whole.head`."""

PASSAGE = "ordinal, start, end, line, modality, text, unit"
"""The columns of a passage in `Whole.passages`; the last is left out if it is NULL."""

_CONTENT, _STATE = 8, 12
"""Numbers of columns of HEAD: those that enter `checksums.of`, and those before the checksum."""

_DOCUMENTS, _PASSAGES = 500, 2_000
"""Largest numbers that are read together; a document is never divided."""


@dataclass(frozen=True, eq=False)
class Whole:
    """A document, its passages and vectors, as they are stored.

    Attributes:
        head: the values of the columns HEAD.
        passages: a `checksums.Stored` for each, in their order.
    """

    head: tuple[Any, ...]
    passages: Sequence[checksums.Stored]

    @property
    def id(self) -> Any:
        """The id of the document."""
        return self.head[0]

    def content(self) -> int:
        """The checksum of its content, without times and sizes."""
        return checksums.of(tuple(self.head[:_CONTENT]), self.passages)

    def checksum(self) -> int:
        """The checksum of all of it; ValueError if a time or size is not an integer."""
        state = self.head[_CONTENT:_STATE]
        if not all(type(one) is int for one in state):
            raise ValueError("a time or size is not an integer")
        return self.content() ^ checksums.of_state(self.head[0], *state)

    def document(self, spaces: Mapping[str, SpaceRecord]) -> Document:
        """The record of the document.

        Raises:
            ValueError: it holds something that no version of omnivec writes; the message says what.
        """
        name, modality, how, digest, root, path, metadata, lost, size, mtime_ns, device, indexed_ns, _ = (
            self.head
        )
        shown = (name, modality, how, digest, root, path, size, mtime_ns, device, metadata, lost)
        _refuse(rows.DOCUMENT, shown)
        if type(indexed_ns) is not int:
            raise ValueError("documents.indexed_ns is not an integer")
        passages: list[Passage] = []
        for row, vectors in self.passages:
            ordinal, start, end, line, kind, text, *unit = row
            if ordinal != len(passages):
                raise ValueError(f"its passage {len(passages)} is missing")
            _refuse(rows.PASSAGE, (1, start, end, line, text, kind, *(unit or (None,))))
            own = _arrays(vectors, spaces)
            passages.append(Passage(start, end, line, text, kind, own, *(unit or (None,))))
        return Document(*shown[:9], json.loads(metadata), lost, tuple(passages))


def _refuse(shape: rows.Shape, row: tuple[Any, ...]) -> None:
    if (fault := next(shape.faults([row]), None)) is not None:
        raise ValueError(fault)


def _arrays(vectors: Sequence[tuple[str, int, bytes]], spaces: Mapping[str, SpaceRecord]) -> dict[str, Any]:
    own: dict[str, Any] = {}
    for name in dict.fromkeys(one[0] for one in vectors):
        if name not in spaces:
            raise ValueError(f"it has a vector of the unknown space {name!r}")
        blobs, space = [one[2] for one in vectors if one[0] == name], spaces[name]
        try:
            if space.kind == SPARSE:
                [own[name]] = rows.sparse_rows(Path(FILE), blobs, space.dim, name)
            else:
                own[name] = rows.vector_rows(Path(FILE), blobs, space.dim, name)
        except CollectionError as error:
            raise ValueError(str(error).split(";")[0]) from error
    return own


def windows(catalogue: Catalogue) -> Iterator[list[Whole]]:
    """All documents in the order in which they were written, some at a time, each compared with its checksum.

    Raises:
        CollectionDamaged: a document is not what was written, or documents are missing.
    """
    after, total = -1, 0
    with catalogue.connection() as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        file = catalogue.folder / FILE
        while True:
            heads = connection.execute(
                f"SELECT key, {HEAD} FROM documents WHERE key > ? ORDER BY key LIMIT {_DOCUMENTS}", (after,)
            ).fetchall()
            if not heads:
                break
            passages = _passages(connection, [head[0] for head in heads])
            window: list[tuple[tuple[Any, ...], Any]] = []
            held = 0
            for key, *head in heads:
                own = passages.get(key, [])
                held += len(own)
                if held > _PASSAGES and window:
                    break
                window.append((tuple(head), own))
                after = key
            vectors = _vectors(connection, [one for _, own in window for one, _ in own])
            wholes = []
            for head, own in window:
                total ^= head[-1] if type(head[-1]) is int else 0
                whole = Whole(head, [(row, vectors.get(key, ())) for key, row in own])
                wholes.append(_verified(file, whole, version))
            yield wholes
        if version >= schema.CHECKED:
            stored = connection.execute("SELECT value FROM meta WHERE key = 'sum'").fetchall()
            if stored != [(total,)]:
                raise damaged(file, "documents are missing, or were added outside omnivec")


def _passages(connection: Any, keys: Sequence[int]) -> dict[int, list[tuple[int, tuple[Any, ...]]]]:
    """Key of a document -> key and row of each of its passages."""
    found: dict[int, list[tuple[int, tuple[Any, ...]]]] = {}
    for owner, key, *row in connection.execute(
        f"SELECT document, key, {PASSAGE} FROM passages WHERE document IN (SELECT value FROM json_each(?))"
        " ORDER BY document, ordinal",
        (json.dumps(list(keys)),),
    ):
        found.setdefault(owner, []).append((key, checksums.row_of(*row)))
    return found


def _vectors(connection: Any, keys: Sequence[int]) -> dict[int, list[tuple[str, int, bytes]]]:
    """Key of a passage -> its vectors."""
    found: dict[int, list[tuple[str, int, bytes]]] = {}
    for key, name, part, blob in connection.execute(
        "SELECT passage, name, part, vector FROM vectors JOIN spaces ON spaces.key = space"
        " WHERE passage IN (SELECT value FROM json_each(?)) ORDER BY passage, name, part",
        (json.dumps(list(keys)),),
    ):
        found.setdefault(key, []).append((name, part, blob))
    return found


def _verified(file: Path, whole: Whole, version: int) -> Whole:
    """The document, with metadata and checksum as this version writes them; CollectionDamaged if it was changed."""
    name, stored = whole.id, whole.head[-1]
    try:
        checksum = whole.checksum()
        expected = checksum if version >= schema.ALL_CHECKED else whole.content()
        if version >= schema.CHECKED and stored != expected:
            raise ValueError("its checksum does not fit")
        metadata = json_text(json.loads(whole.head[6]), "metadata")
    except (ValueError, TypeError, RecursionError, UsageError) as error:
        raise damaged(file, f"document {quoted(name)} is not what was written: {error}") from error
    head = list(whole.head)
    head[6], head[-1] = metadata, checksum
    written = Whole(tuple(head), whole.passages)
    if metadata != whole.head[6]:
        head[-1] = written.checksum()
        written = Whole(tuple(head), whole.passages)
    return written
