"""Reading a catalogue: its state, its spaces and its documents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from omnivec.store import rows
from omnivec.store.connections import Connections, damaged
from omnivec.store.filter_facts import narrowed
from omnivec.store.filters import compared, compile_where
from omnivec.store.ordering import compile_order
from omnivec.store.records import Document, DocumentEntry, Passage, Signature, SpaceRecord
from omnivec.types import SPARSE, Keys, ModalityName

_NAMED = 20
_FIELDS = "SELECT DISTINCT field.key FROM documents, json_each(metadata) AS field ORDER BY field.key"


class Reader:
    """Reads the state, spaces and documents of a catalogue."""

    def __init__(self, folder: Path, connections: Connections) -> None:
        self.folder = folder
        self.readonly = connections.readonly
        self._connections = connections
        # A pair that is replaced as a whole, so that threads need no lock.
        self._known_spaces: tuple[tuple[int, int], dict[str, SpaceRecord]] | None = None

    def snapshot(self) -> AbstractContextManager[object]:
        """Makes all reads of this thread inside the block see one state of the catalogue."""
        return self._connections.snapshot()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """This thread's reading connection, inside a snapshot; for SQLite's backup function."""
        with self._connections.snapshot() as connection:
            yield connection

    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._connections.snapshot() as connection:
            return connection.execute(sql, parameters).fetchall()

    def _read(self, shape: rows.Shape, rest: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Selects rows of a shape and checks their values; `rest` is the statement from FROM on."""
        return shape.read(self._connections.path, self._rows(f"SELECT {shape.sql} {rest}", parameters))

    def _keys(self, rest: str, parameters: Sequence[Any] = ()) -> Keys:
        with self._connections.snapshot() as connection:
            keys = [row[0] for row in connection.execute(rest, parameters)]
        return rows.passage_keys(self._connections.path, keys)

    def changes(self) -> tuple[int, int]:
        """The number of writes so far and the random stamp of the last one, which together identify a state."""
        states = self._read(rows.STATE, "FROM history ORDER BY changes DESC LIMIT 1")
        if not states:
            raise damaged(self._connections.path, "its history is empty")
        return states[0][0], states[0][1]

    def id(self) -> str:
        """A random id that this collection shares with its copies only; "" if its schema is too old to have one."""
        stored = self._rows("SELECT value FROM meta WHERE key = 'id'")
        if stored and type(stored[0][0]) is not str:
            raise damaged(self._connections.path, "its id is not a text")
        return stored[0][0] if stored else ""

    def stamp(self, changes: int) -> int | None:
        """The stamp of the state after so many writes; None if it is not one of the recent states."""
        stored = self._read(rows.STATE, "FROM history WHERE changes = ?", (changes,))
        return stored[0][1] if stored else None

    def history(self) -> dict[int, int]:
        """The stamps of the most recent states, by their number of writes."""
        return {row[0]: row[1] for row in self._read(rows.STATE, "FROM history")}

    def roots(self) -> tuple[str, ...]:
        """The folders that are kept in sync, sorted."""
        return tuple(row[0] for row in self._read(rows.ROOT, "FROM roots ORDER BY path"))

    def spaces(self) -> dict[str, SpaceRecord]:
        """The spaces by name, in the order in which they were added; read again when the state has changed."""
        with self.snapshot():
            state, known = self.changes(), self._known_spaces
            if known is None or known[0] != state:
                known = self._known_spaces = state, self._read_spaces()
        return dict(known[1])

    def _read_spaces(self) -> dict[str, SpaceRecord]:
        spaces = self._read(rows.SPACE, "FROM spaces ORDER BY key")
        canaries = self._read(rows.CANARY, "FROM canaries ORDER BY space, ordinal")
        path = self._connections.path
        records = {}
        for name, key, model, dim, metric, identity, provenance, *more in spaces:
            stored = [(text, blob) for space, text, blob in canaries if space == key]
            vectors = rows.vector_rows(path, [blob for _, blob in stored], dim, name)
            pairs = tuple((text, vector) for (text, _), vector in zip(stored, vectors, strict=True))
            records[name] = SpaceRecord(name, model, dim, metric, identity, provenance, pairs, *more)
        return records

    def documents(
        self,
        where: Mapping[str, Any] | None = None,
        ids: Sequence[str] | None = None,
        *,
        after: str | None = None,
        order_by: Sequence[str] = (),
        offset: int = 0,
        limit: int | None = None,
    ) -> list[DocumentEntry]:
        """The documents whose metadata matches, without their passages, sorted by id unless another order is given.

        Args:
            where: a filter on metadata; None matches all.
            ids: of the documents to look among; None for all.
            after: only documents with greater ids than this one; None for all.
            order_by: fields to sort by, see `ordering`.
            offset: how many to leave out at the beginning.
            limit: the largest number of documents; None for all.

        Raises:
            FilterError: `where` is not a valid filter.
            UsageError: `order_by` is not a valid order.
        """
        order, fields = compile_order(order_by)
        wanted = None if limit is None or order_by else limit + offset
        with self._connections.snapshot() as connection:
            condition, parameters = narrowed(connection, {} if where is None else where, wanted)
            if ids is not None:
                condition += " AND id IN (SELECT value FROM json_each(?))"
                parameters = [*parameters, json.dumps(list(ids))]
            if after is not None:
                condition, parameters = f"{condition} AND id > ?", [*parameters, after]
            entries = self._read(
                rows.ENTRY,
                f"FROM documents WHERE {condition} ORDER BY {order} LIMIT ? OFFSET ?",
                [*parameters, *fields, -1 if limit is None else limit, offset],
            )
        return [DocumentEntry(*row) for row in entries]

    def unmatched(self, where: Mapping[str, Any]) -> tuple[str, ...]:
        """Why a filter can match nothing: fields that no document has, or has with values of another type only."""
        import difflib

        compile_where(where)
        lines = []
        with self.snapshot():
            for name, value, kind, least in compared(where):
                if not self._any({name: {"$exists": True}}):
                    known = self._fields()
                    close = difflib.get_close_matches(name, known, 3)
                    named = ", ".join([*close, *(one for one in known if one not in close)][:_NAMED])
                    lines.append(f"no document has the field {name!r}; there are: {named or 'none'}")
                    continue
                if kind and not self._any({name: {"$gte": least}}):
                    what = f"a {kind}, and no document has a {kind} there"
                    lines.append(f"{name!r} is compared with {value!r}, {what}")
        return tuple(dict.fromkeys(lines)) if self._any({}) else ()

    def _fields(self) -> list[str]:
        """The keys of the documents' metadata, sorted."""
        keys = [row[0] for row in self._rows(_FIELDS)]
        if any(type(key) is not str for key in keys):
            raise damaged(self._connections.path, "the metadata of a document is not a JSON object")
        return keys

    def has_vectors(self, modality: ModalityName, names: Sequence[str]) -> bool:
        """Whether a passage of a modality has a vector in one of some spaces."""
        return bool(names) and bool(
            self._rows(
                "SELECT 1 FROM passages WHERE modality = ? AND EXISTS (SELECT 1 FROM vectors JOIN spaces ON"
                " spaces.key = space WHERE passage = passages.key AND name IN (SELECT value FROM json_each(?)))"
                " LIMIT 1",
                (modality, json.dumps(list(names))),
            )
        )

    def _any(self, where: Mapping[str, Any]) -> bool:
        with self._connections.snapshot() as connection:
            condition, parameters = narrowed(connection, where, 1)
            return bool(self._rows(f"SELECT 1 FROM documents WHERE {condition} LIMIT 1", parameters))

    def document(self, name: str) -> Document | None:
        """A document with its passages and vectors; None if there is none of this id."""
        with self.snapshot():
            stored = self._read(rows.DOCUMENT, "FROM documents WHERE id = ?", (name,))
            if not stored:
                return None
            passages = self._read(
                rows.PASSAGE,
                "FROM passages WHERE document = (SELECT key FROM documents WHERE id = ?) ORDER BY ordinal",
                (name,),
            )
            spaces = self.spaces()
            with_vectors = tuple(
                Passage(*[*row[:-1], self._vectors_of(key, spaces), row[-1]]) for key, *row in passages
            )
        return Document(*[*stored[0], with_vectors])

    def _vectors_of(self, passage: int, spaces: Mapping[str, SpaceRecord]) -> dict[str, Any]:
        stored = self._rows(
            "SELECT name, vector FROM vectors JOIN spaces ON spaces.key = space WHERE passage = ? ORDER BY space, part",
            (passage,),
        )
        path, vectors = self._connections.path, dict[str, Any]()
        for name in dict.fromkeys(row[0] for row in stored):
            blobs, dim = [blob for space, blob in stored if space == name], spaces[name].dim
            sparse = spaces[name].kind == SPARSE
            vectors[name] = (
                rows.sparse_rows(path, blobs, dim, name)[0]
                if sparse
                else rows.vector_rows(path, blobs, dim, name)
            )
        return vectors

    def signatures(self, root: str | None = None) -> dict[str, Signature]:
        """The signatures of documents by id, of all or of those found under one root."""
        signatures = self._read(
            rows.SIGNATURE,
            "FROM documents" + (" WHERE root = ?" if root is not None else ""),
            () if root is None else (root,),
        )
        return {row[0]: Signature(*row[1:]) for row in signatures}
