"""The catalogue: documents, passages, metadata, full text and vectors of a collection in one SQLite file."""

from __future__ import annotations

import json
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection
from types import TracebackType
from typing import Any, cast

import numpy as np

from omnivec.errors import UsageError
from omnivec.store import checking, fulltext, matches, rows, writing
from omnivec.store.connections import Connections, damaged
from omnivec.store.filters import compared, compile_where
from omnivec.store.opening import open_connections
from omnivec.store.records import (
    Counts,
    Document,
    DocumentEntry,
    Passage,
    Signature,
    SpaceRecord,
    StoredPassage,
)
from omnivec.types import Floats, Keys
from omnivec.validation.arguments import plain, quoted

_BLOBS_AT_ONCE = 1024
_NAMED = 20
_FIELDS = "SELECT DISTINCT field.key FROM documents, json_each(metadata) AS field ORDER BY field.key"


def _listed(keys: Keys) -> str:
    """Keys as a JSON list: one bound parameter, however many there are."""
    return json.dumps(np.asarray(keys, np.int64).tolist())


class Catalogue:
    """The content of a collection, in `catalogue.sqlite` in its folder.

    One process writes at a time; any number of processes and threads read. Reads that must see the same state are put
    into one `snapshot()`. Every method raises CollectionError, or a subclass, if the file cannot be read or written.
    """

    def __init__(self, folder: Path, connections: Connections) -> None:
        self.folder = folder
        self.readonly = connections.readonly
        self._connections = connections

    @classmethod
    def open(cls, folder: Path, *, create: bool, readonly: bool = False) -> Catalogue:
        """Opens the catalogue in a folder.

        Args:
            folder: of the collection.
            create: whether to make the collection if there is none.
            readonly: whether every change is refused; then the folder need not be writable.

        Raises:
            CollectionError: there is none, or it cannot be written, or it lies on a network disk.
            SchemaError: the folder holds something else, or a schema of another version.
            CollectionDamaged: the file is cut off or damaged.
        """
        folder = folder.absolute()  # threads connect later, perhaps after a change of directory
        return cls(folder, open_connections(folder, create=create, readonly=readonly))

    def close(self) -> None:
        """Closes the file; safe to call twice."""
        self._connections.close()

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Makes all reads of this thread inside the block see one state of the catalogue."""
        with self._connections.snapshot():
            yield

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """This thread's reading connection, inside a snapshot; for SQLite's backup function."""
        with self._connections.snapshot() as connection:
            yield connection

    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._connections.snapshot() as connection:
            return connection.execute(sql, parameters).fetchall()

    def _read(self, shape: rows.Shape, rest: str, parameters: Sequence[Any] = ()) -> list[list[Any]]:
        """Selects rows of a shape and checks their values; `rest` is the statement from FROM on."""
        return shape.read(self._connections.path, self._rows(f"SELECT {shape.sql} {rest}", parameters))

    def _keys(self, rest: str, parameters: Sequence[Any] = ()) -> Keys:
        with self._connections.snapshot() as connection:
            keys = [row[0] for row in connection.execute(rest, parameters)]
        return rows.passage_keys(self._connections.path, keys)

    # Writing: each call is one transaction.

    def write(self, documents: Sequence[Document], remove: Sequence[str] = ()) -> None:
        """Adds or replaces documents by their ids, and removes others, in one transaction.

        The passages of a replaced document get new keys; keys are never used twice. Of two documents with the same id,
        the later is stored. When this returns, the write is on disk.

        Raises:
            UsageError: a vector of an unknown space, of a wrong shape or not finite; metadata that is not JSON.
        """
        if not documents and not remove:
            return
        with self._connections.transaction() as connection:
            known = {
                row[0]: (row[1], row[2]) for row in connection.execute("SELECT name, key, dim FROM spaces")
            }
            latest = {document.id: document for document in documents}
            removed = dict.fromkeys([*latest, *remove])
            writing.delete(connection, list(removed))
            for document in latest.values():
                writing.insert(connection, document, known, time.time_ns())
            writing.count_change(connection)

    def touch(self, states: Mapping[str, tuple[int, int, int]]) -> None:
        """Updates the (mtime_ns, size, device) of documents whose content has not changed."""
        if not states:
            return
        with self._connections.transaction() as connection:
            for name, state in states.items():
                if not writing.touch(connection, name, *state):
                    raise damaged(self._connections.path, f"the checksum of {quoted(name)} is not an integer")
            writing.count_change(connection)

    def delete(self, ids: Sequence[str]) -> int:
        """Removes documents with their passages and vectors; returns how many of them existed."""
        with self._connections.transaction() as connection:
            removed = writing.delete(connection, ids)
            if removed:
                writing.count_change(connection)
        return removed

    def add_root(self, path: str) -> None:
        """Adds a folder to those that are kept in sync."""
        with self._connections.transaction() as connection:
            writing.put_root(connection, path)
            writing.count_change(connection)

    def put_space(self, space: SpaceRecord) -> None:
        """Adds a space, or replaces its record.

        Raises:
            UsageError: its dim or metric differs from that of vectors already stored in it.
        """
        with self._connections.transaction() as connection:
            writing.put_space(connection, space)
            writing.count_change(connection)

    def claim_space(self, space: SpaceRecord, rivals: Sequence[str] = ()) -> SpaceRecord:
        """Adds a space unless a space of its name or of a rival's exists; returns the one that exists afterwards.

        If two writers claim a space at the same time, both get the record of the one that came first.
        """
        names = [space.name, *rivals]
        with self._connections.transaction() as connection:
            existing = connection.execute(
                "SELECT name FROM spaces WHERE name IN (SELECT value FROM json_each(?)) ORDER BY key LIMIT 1",
                (json.dumps(names),),
            ).fetchone()
            if existing is None:
                writing.put_space(connection, space)
                writing.count_change(connection)
        return self.spaces()[space.name if existing is None else existing[0]]

    # Reading.

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

    def history(self) -> dict[int, int]:
        """The stamps of the most recent states, by their number of writes."""
        return {row[0]: row[1] for row in self._read(rows.STATE, "FROM history")}

    def roots(self) -> tuple[str, ...]:
        """The folders that are kept in sync, sorted."""
        return tuple(row[0] for row in self._read(rows.ROOT, "FROM roots ORDER BY path"))

    def spaces(self) -> dict[str, SpaceRecord]:
        """The spaces by name, in the order in which they were added."""
        with self.snapshot():
            spaces = self._read(rows.SPACE, "FROM spaces ORDER BY key")
            canaries = self._read(rows.CANARY, "FROM canaries ORDER BY space, ordinal")
        path = self._connections.path
        records = {}
        for name, key, model, dim, metric, identity, provenance in spaces:
            stored = [(text, blob) for space, text, blob in canaries if space == key]
            vectors = rows.vector_rows(path, [blob for _, blob in stored], dim, name)
            pairs = tuple((text, vector) for (text, _), vector in zip(stored, vectors, strict=True))
            records[name] = SpaceRecord(name, model, dim, metric, identity, provenance, pairs)
        return records

    def documents(
        self, where: Mapping[str, Any] | None = None, ids: Sequence[str] | None = None
    ) -> list[DocumentEntry]:
        """The documents whose metadata matches, without their passages, sorted by id.

        Args:
            where: a filter on metadata; None matches all.
            ids: of the documents to look among; None for all.

        Raises:
            FilterError: `where` is not a valid filter.
        """
        condition, parameters = compile_where({} if where is None else where)
        if ids is not None:
            condition += " AND id IN (SELECT value FROM json_each(?))"
            parameters = [*parameters, json.dumps(list(ids))]
        entries = self._read(rows.ENTRY, f"FROM documents WHERE {condition} ORDER BY id", parameters)
        return [DocumentEntry(*row) for row in entries]

    def unmatched(self, where: Mapping[str, Any]) -> tuple[str, ...]:
        """Why a filter can match nothing: fields that no document has, or has with values of another type only."""
        import difflib

        compile_where(where)
        lines = []
        with self.snapshot():
            for name, value in compared(where):
                if not self._any({name: {"$exists": True}}):
                    known = self._fields()
                    close = difflib.get_close_matches(name, known, 3)
                    named = ", ".join([*close, *(one for one in known if one not in close)][:_NAMED])
                    lines.append(f"no document has the field {name!r}; there are: {named or 'none'}")
                    continue
                value = plain(value)
                type_name, least = ("text", "") if isinstance(value, str) else ("number", -1.7e308)
                ordered = isinstance(value, str | int | float) and not isinstance(value, bool)
                if ordered and not self._any({name: {"$gte": least}}):
                    what = f"a {type_name}, and no document has a {type_name} there"
                    lines.append(f"{name!r} is compared with {value!r}, {what}")
        return tuple(dict.fromkeys(lines)) if self._any({}) else ()

    def _fields(self) -> list[str]:
        """The keys of the documents' metadata, sorted."""
        keys = [row[0] for row in self._rows(_FIELDS)]
        if any(type(key) is not str for key in keys):
            raise damaged(self._connections.path, "the metadata of a document is not a JSON object")
        return keys

    def _any(self, where: Mapping[str, Any]) -> bool:
        condition, parameters = compile_where(where)
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
            dims = {space.name: space.dim for space in self.spaces().values()}
            with_vectors = tuple(Passage(*[*row, self._vectors_of(key, dims)]) for key, *row in passages)
        return Document(*[*stored[0], with_vectors])

    def _vectors_of(self, passage: int, dims: Mapping[str, int]) -> dict[str, Floats]:
        stored = self._rows(
            "SELECT name, vector FROM vectors JOIN spaces ON spaces.key = space WHERE passage = ? ORDER BY space, part",
            (passage,),
        )
        names = dict.fromkeys(row[0] for row in stored)
        return {
            name: rows.vector_rows(
                self._connections.path, [blob for space, blob in stored if space == name], dims[name], name
            )
            for name in names
        }

    def signatures(self, root: str | None = None) -> dict[str, Signature]:
        """The signatures of documents by id, of all or of those found under one root."""
        signatures = self._read(
            rows.SIGNATURE,
            "FROM documents" + (" WHERE root = ?" if root is not None else ""),
            () if root is None else (root,),
        )
        return {row[0]: Signature(*row[1:]) for row in signatures}

    def passages(self, keys: Keys, *, whole: bool = False) -> dict[int, StoredPassage]:
        """The passages with these keys, in the order of the keys; unknown keys are left out.

        Raises:
            CollectionDamaged: `whole` is set and a passage does not exist, or belongs to no document.
        """
        listed = self._read(
            rows.FOUND,
            "FROM passages JOIN documents ON documents.key = document"
            " WHERE passages.key IN (SELECT value FROM json_each(?))",
            (_listed(keys),),
        )
        passages = {row[0]: StoredPassage(*row) for row in listed}
        if whole:
            self._refuse_lost(keys, passages)
        return {key: passages[key] for key in np.asarray(keys).tolist() if key in passages}

    def _refuse_lost(self, keys: Keys, found: Container[int]) -> None:
        """Raises CollectionDamaged if a key that a search returned is not that of a document's passage."""
        for key in np.asarray(keys).tolist():
            if key not in found:
                raise damaged(self._connections.path, f"passage {key} is missing, or belongs to no document")

    def passage_keys(self, where: Mapping[str, Any]) -> Keys:
        """(n,) keys of the passages of all documents whose metadata matches, ascending.

        Raises:
            FilterError: `where` is not a valid filter.
        """
        condition, parameters = compile_where(where)
        return self._keys(
            "SELECT passages.key FROM passages JOIN documents ON documents.key = document"
            f" WHERE {condition} ORDER BY passages.key",
            parameters,
        )

    def keys_of(self, ids: Sequence[str]) -> Keys:
        """(n,) keys of the passages of these documents, ascending."""
        return self._keys(
            "SELECT passages.key FROM passages JOIN documents ON documents.key = document"
            " WHERE id IN (SELECT value FROM json_each(?)) ORDER BY passages.key",
            (json.dumps(list(ids)),),
        )

    def vector_keys(self, space: str) -> Keys:
        """(n,) passage key of each vector of a space, ascending; a passage of several parts has several."""
        return self._keys(
            "SELECT passage FROM vectors WHERE space = (SELECT key FROM spaces WHERE name = ?) ORDER BY passage",
            (space,),
        )

    def vectors(self, space: str, keys: Keys | None = None, *, after: int = 0) -> tuple[Keys, Floats]:
        """The vectors of a space, ascending by passage key and part.

        Args:
            space: its name.
            keys: of the passages; None for all.
            after: passages up to this key are left out.

        Returns:
            keys (n,) int64 and matrix (n, dim) float32; a passage of several parts has several rows.

        Raises:
            UsageError: no such space.
        """
        condition = "space = ? AND passage > ?"
        with self._connections.snapshot() as connection:
            record = self._read(rows.SPACE, "FROM spaces WHERE name = ?", (space,))
            if not record:
                raise UsageError(
                    f"no space {space!r} in {self.folder}; there are: {', '.join(self.spaces()) or 'none'}"
                )
            if not after:
                checking.refuse_strays(connection, self._connections.path)
            parameters: list[Any] = [record[0][1], after]
            if keys is not None:
                condition += " AND passage IN (SELECT value FROM json_each(?))"
                parameters.append(_listed(keys))
            return self._matrix(connection, condition, parameters, record[0][3], space)

    def _matrix(
        self, connection: Connection, condition: str, parameters: list[Any], dim: int, space: str
    ) -> tuple[Keys, Floats]:
        """Reads vectors into one array, without a list of all blobs in memory."""
        n = connection.execute(f"SELECT count(*) FROM vectors WHERE {condition}", parameters).fetchone()[0]
        keys, matrix = np.empty(n, np.int64), np.empty((n, dim), np.float32)
        cursor = connection.execute(
            f"SELECT passage, vector FROM vectors WHERE {condition} ORDER BY passage, part", parameters
        )
        start = 0
        while read := cursor.fetchmany(_BLOBS_AT_ONCE):
            end = start + len(read)
            keys[start:end] = rows.passage_keys(self._connections.path, [row[0] for row in read])
            matrix[start:end] = rows.vector_rows(self._connections.path, [row[1] for row in read], dim, space)
            start = end
        return keys, matrix

    def text_search(self, query: str, k: int, allowed: Keys | None = None) -> list[tuple[int, float]]:
        """The k passages that match a query best; see `fulltext.search`."""
        with self._connections.snapshot() as connection:
            return fulltext.search(connection, query, k, None if allowed is None else _listed(allowed))

    def matches(self, query: str, keys: Keys) -> dict[int, tuple[tuple[int, int], ...]]:
        """The spans of these passages that match words of a query; see `matches.matches`."""
        with self._connections.snapshot() as connection:
            return matches.matches(connection, query, np.asarray(keys, np.int64).tolist())

    def documents_of(self, keys: Keys) -> dict[int, int]:
        """Key of each of these passages -> key of its document.

        Raises:
            CollectionDamaged: a passage does not exist, or belongs to no document.
        """
        owners = self._rows(
            "SELECT passages.key, document FROM passages JOIN documents ON documents.key = document"
            " WHERE passages.key IN (SELECT value FROM json_each(?))",
            (_listed(keys),),
        )
        owner_of = dict(cast(list[tuple[int, int]], owners))
        self._refuse_lost(keys, owner_of)
        return owner_of

    def keys_under(self, folder: str) -> Keys:
        """(n,) keys of the passages of all files in a folder, or of one file, ascending.

        Args:
            folder: as paths of documents are stored: absolute, or relative to the collection's parent, which is ".".
        """
        inside = f"{folder.rstrip('/')}/"
        condition, parameters = "path = ? OR substr(path, 1, ?) = ?", [folder, len(inside), inside]
        parent = self.folder.parent
        if folder == "." or any(base.is_relative_to(folder) for base in (parent, parent.resolve())):
            condition += " OR substr(path, 1, 1) <> '/'"
        return self._keys(
            "SELECT passages.key FROM passages JOIN documents ON documents.key = document"
            f" WHERE {condition} ORDER BY passages.key",
            parameters,
        )

    def wordless(self, keys: Keys) -> set[int]:
        """The keys among these whose passages have no text, such as images, and cannot be found by text search."""
        textless = self._rows(
            "SELECT key FROM passages WHERE text = '' AND key IN (SELECT value FROM json_each(?))",
            (_listed(keys),),
        )
        return {row[0] for row in textless}

    def has_words(self, modality: str = "%") -> bool:
        """Whether any passage, of one modality or of all, has text for a text search to find."""
        return bool(self._rows(rows.WORDED, (modality,)))

    def counts(self) -> Counts:
        """The sizes of the collection: documents, passages, vectors and bytes."""
        with self.snapshot():
            documents, lost = self._rows("SELECT count(*), coalesce(sum(lost), 0) FROM documents")[0]
            passages = self._rows("SELECT count(*) FROM passages")[0][0]
            vectors = self._rows(
                "SELECT name, (SELECT count(*) FROM vectors WHERE space = spaces.key) FROM spaces ORDER BY key"
            )
            free = self._rows("PRAGMA freelist_count")[0][0] * self._rows("PRAGMA page_size")[0][0]
        named = dict(cast(list[tuple[str, int]], vectors))
        return Counts(documents, passages, named, _size(self.folder), lost, free)

    def vacuum(self) -> int:
        """Rewrites the file without unused space; returns the number of bytes freed."""
        with self.snapshot():  # raises CollectionError if the folder was removed
            before = _size(self.folder)
        self._connections.vacuum()
        return max(0, before - _size(self.folder))

    def check(self) -> list[str]:
        """Reads the whole catalogue and returns one line for each problem; an empty list if there is none."""
        return checking.problems(self._connections)

    def unverified(self) -> list[str]:
        """Lines that name the data that `check` cannot verify, since an earlier version wrote no checksum for it."""
        with self._connections.snapshot() as connection:
            return checking.unverified(connection)


def _size(folder: Path) -> int:
    """Bytes of all files in a folder; a file that is removed meanwhile is not counted."""
    total = 0
    for file in folder.iterdir():
        try:
            total += file.stat().st_size
        except FileNotFoundError:
            continue
    return total
