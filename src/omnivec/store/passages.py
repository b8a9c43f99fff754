"""Reading a catalogue: its passages, their vectors, and the search for words."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from sqlite3 import Connection
from typing import Any, cast

import numpy as np

from omnivec.errors import UsageError
from omnivec.store import checking, fulltext, matches, rows
from omnivec.store.connections import damaged
from omnivec.store.filter_facts import passing
from omnivec.store.gathering import by_document, text_of
from omnivec.store.reader import Reader
from omnivec.store.records import Record, StoredPassage
from omnivec.types import SPARSE, Floats, Keys, SparseRows

_BLOBS_AT_ONCE = 1024

# Documents first, so that the condition is computed once for each of them, not for each passage.
_OF_DOCUMENTS = "SELECT key FROM passages WHERE document IN ({}) ORDER BY key"

_OWNED = (
    "FROM passages JOIN documents ON documents.key = document"
    " WHERE passages.key IN (SELECT value FROM json_each(?))"
)


def _listed(keys: Keys) -> str:
    """Keys as a JSON list: one bound parameter, however many there are."""
    return str(np.asarray(keys, np.int64).tolist())  # Python writes a list of integers as JSON does


class PassageReader(Reader):
    """Reads the passages and vectors of a catalogue as well."""

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
        passages = {row[0]: StoredPassage._make(row) for row in listed}
        wanted = np.asarray(keys).tolist()
        if whole:
            self._refuse_lost(wanted, passages)
        return {key: passages[key] for key in wanted if key in passages}

    def records(self, ids: Sequence[str], *, vectors: bool = False) -> dict[str, Record]:
        """The documents with these ids that exist, by id, with their passages and, if asked for, their vectors."""
        names = json.dumps(list(ids))
        with self.snapshot():
            entries = self.documents(ids=ids)
            facts = {entry.id: entry.metadata for entry in entries}
            listed = self._read(
                rows.PIECE,
                "FROM passages JOIN documents ON documents.key = document"
                " WHERE id IN (SELECT value FROM json_each(?)) ORDER BY document, ordinal",
                (names,),
            )
            pieces: dict[str, list[StoredPassage]] = {entry.id: [] for entry in entries}
            for row in listed:
                pieces[row[2]].append(StoredPassage(*[*row, facts[row[2]]]))
            keys = np.array([row[0] for row in listed], np.int64)
            found: dict[str, tuple[Keys, Floats | SparseRows]] = {}
            for name, space in self.spaces().items() if vectors else ():
                found[name] = (
                    self.sparse_vectors(name, keys) if space.kind == SPARSE else self.vectors(name, keys)
                )
        own = by_document({row[0]: row[2] for row in listed}, found)
        return {
            entry.id: Record(
                **vars(entry),
                text=text_of(pieces[entry.id]),
                pieces=tuple(pieces[entry.id]),
                vectors=own.get(entry.id, {}),
            )
            for entry in entries
        }

    def _refuse_lost(self, keys: Sequence[int], found: Container[int]) -> None:
        """Raises CollectionDamaged if a key that a search returned is not that of a document's passage."""
        for key in keys:
            if key not in found:
                raise damaged(self._connections.path, f"passage {key} is missing, or belongs to no document")

    def passage_keys(self, where: Mapping[str, Any]) -> Keys:
        """(n,) keys of the passages of all documents whose metadata matches, ascending.

        Raises:
            FilterError: `where` is not a valid filter.
        """
        with self._connections.snapshot() as connection:
            documents, parameters = passing(connection, where)
            return self._keys(_OF_DOCUMENTS.format(documents), parameters)

    def removed_since(self, changes: int) -> Keys | None:
        """(n,) keys of the passages that were deleted after a state, ascending; None if the collection cannot say.

        Args:
            changes: the number of writes in that state, which must be a state of this collection: see `history`.

        Returns:
            None for a state that is no longer in the history, for one before the schema was migrated to version 7, for
            one that is yet to come, and for a collection of an older schema.
        """
        with self._connections.snapshot() as connection:
            known = connection.execute("SELECT value FROM meta WHERE key = 'recorded'").fetchone()
            oldest, newest = connection.execute("SELECT min(changes), max(changes) FROM history").fetchone()
            if known is None or newest is None or not max(known[0], oldest) <= changes <= newest:
                return None
            return self._keys("SELECT passage FROM removed WHERE changes >= ? ORDER BY passage", (changes,))

    def refuse_strays(self) -> None:
        """Raises CollectionDamaged if there are vectors that belong to no passage or to no space; reads all of them."""
        with self._connections.snapshot() as connection:
            checking.refuse_strays(connection, self._connections.path)

    def keys_of(self, ids: Sequence[str]) -> Keys:
        """(n,) keys of the passages of these documents, ascending."""
        return self._keys(
            "SELECT passages.key FROM passages JOIN documents ON documents.key = document"
            " WHERE id IN (SELECT value FROM json_each(?)) ORDER BY passages.key",
            (json.dumps(list(ids)),),
        )

    def ids_of(self, keys: Keys) -> dict[int, str]:
        """Key of each of these passages that exists -> id of its document."""
        return {row[0]: row[1] for row in self._read(rows.OWNER, _OWNED, (_listed(keys),))}

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
            UsageError: no such space, or it is sparse.
        """
        condition = "space = ? AND passage > ?"
        with self._connections.snapshot() as connection:
            record = self._read(rows.SPACE, "FROM spaces WHERE name = ?", (space,))
            if not record:
                raise UsageError(
                    f"no space {space!r} in {self.folder}; there are: {', '.join(self.spaces()) or 'none'}"
                )
            if keys is None and not after:  # keys that are given are those of passages
                checking.refuse_strays(connection, self._connections.path)
            if record[0][8] == SPARSE:
                raise UsageError(f"the space {space!r} is sparse: `sparse_vectors` reads it")
            parameters: list[Any] = [record[0][1], after]
            if keys is not None:
                condition += " AND passage IN (SELECT value FROM json_each(?))"
                parameters.append(_listed(keys))
            return self._matrix(connection, condition, parameters, record[0][3], space)

    def space_key(self, space: str) -> int:
        """The key of a space's row; 0 if there is no such space. A space that is renamed keeps it."""
        found = self._rows("SELECT key FROM spaces WHERE name = ?", (space,))
        return int(found[0][0]) if found else 0

    def vector_count(self, space: str) -> int:
        """The number of vectors of a space; their index is read as a whole."""
        return int(
            self._rows(
                "SELECT count(*) FROM vectors WHERE space = (SELECT key FROM spaces WHERE name = ?)", (space,)
            )[0][0]
        )

    def vector_blocks(self, space: str) -> Iterator[tuple[Keys, Floats]]:
        """The vectors of a dense or multi space as `vectors` returns them, in blocks of about 1,024 rows.

        The caller holds a snapshot until the last block is read. All parts of a passage are in one block.
        """
        path, dim = self._connections.path, self.spaces()[space].dim
        with self._connections.snapshot() as connection:
            checking.refuse_strays(connection, path)
            cursor = connection.execute(
                "SELECT passage, vector FROM vectors WHERE space = ? ORDER BY passage, part",
                (self.space_key(space),),
            )
            waiting: list[tuple[Any, Any]] = []
            while read := cursor.fetchmany(_BLOBS_AT_ONCE):
                waiting += read
                end = len(waiting)
                while end and waiting[end - 1][0] == waiting[-1][0]:
                    end -= 1
                if end:
                    yield self._block(waiting[:end], dim, space)
                    waiting = waiting[end:]
            if waiting:
                yield self._block(waiting, dim, space)

    def _block(self, read: list[tuple[Any, Any]], dim: int, space: str) -> tuple[Keys, Floats]:
        path = self._connections.path
        keys = rows.passage_keys(path, [row[0] for row in read])
        return keys, rows.vector_rows(path, [row[1] for row in read], dim, space)

    def sparse_vectors(self, space: str, keys: Keys | None = None) -> tuple[Keys, SparseRows]:
        """The vectors of a sparse space, ascending by passage key; for those of some passages, or of all.

        Returns:
            keys (n,) int64 and n rows.

        Raises:
            UsageError: no such space, or it is not sparse.
        """
        with self._connections.snapshot() as connection:
            record = self.spaces().get(space)
            if record is None or record.kind != SPARSE:
                raise UsageError(f"{self.folder} has no sparse space {space!r}")
            if keys is None:
                checking.refuse_strays(connection, self._connections.path)
            condition, parameters = "space = (SELECT key FROM spaces WHERE name = ?)", [space]
            if keys is not None:
                condition += " AND passage IN (SELECT value FROM json_each(?))"
                parameters.append(_listed(keys))
            stored = connection.execute(
                f"SELECT passage, vector FROM vectors WHERE {condition} ORDER BY passage", parameters
            ).fetchall()
        path = self._connections.path
        passages = rows.passage_keys(path, [row[0] for row in stored])
        return passages, SparseRows.of(rows.sparse_rows(path, [row[1] for row in stored], record.dim, space))

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
        self._refuse_lost(np.asarray(keys).tolist(), owner_of)
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
        return self._keys(_OF_DOCUMENTS.format(f"SELECT key FROM documents WHERE {condition}"), parameters)

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
