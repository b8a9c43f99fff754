"""The catalogue: documents, passages, metadata, full text and vectors of a collection in one SQLite file."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from omnivec.errors import UsageError
from omnivec.store import checking, inserting, updating, writing
from omnivec.store.connections import damaged
from omnivec.store.filter_facts import narrowed
from omnivec.store.filters import compile_where
from omnivec.store.opening import open_connections
from omnivec.store.records import Counts, Document, SpaceRecord, Transferred
from omnivec.store.refilling import Refilling, refuse_retired
from omnivec.validation.arguments import quoted


class Catalogue(Refilling):
    """The content of a collection, in `catalogue.sqlite` in its folder.

    One process writes at a time; any number of processes and threads read. Reads that must see the same state are put
    into one `snapshot()`. Every method raises CollectionError, or a subclass, if the file cannot be read or written.
    """

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
            refuse_retired(connection, documents)
            known = writing.spaces(connection)
            latest = updating.keeping(connection, documents)
            removed = dict.fromkeys([*latest, *remove])
            writing.delete(connection, list(removed))
            inserting.insert(connection, ((one, time.time_ns()) for one in latest.values()), known)
            writing.count_change(connection)

    def transfer(self, documents: Sequence[Transferred]) -> None:
        """Adds or replaces documents by their ids, with the times at which they were first written.

        Raises:
            UsageError: as `write`; or a document has not the checksum that it had where it comes from.
        """
        if not documents:
            return
        with self._connections.transaction() as connection:
            known = writing.spaces(connection)
            writing.delete(connection, [one.document.id for one in documents])
            inserting.insert(connection, ((one.document, one.indexed_ns) for one in documents), known)
            listed = json.dumps([one.document.id for one in documents])
            stored = dict(
                connection.execute(
                    "SELECT id, checksum FROM documents WHERE id IN (SELECT value FROM json_each(?))",
                    (listed,),
                ).fetchall()
            )
            for one in documents:
                if stored[one.document.id] != one.checksum:
                    raise UsageError(
                        f"document {quoted(one.document.id)} is not what was exported: its checksum differs"
                    )
            writing.count_change(connection)

    def checksums(self, ids: Sequence[str]) -> dict[str, int]:
        """The checksums of documents, by the ids that exist."""
        listed = json.dumps(list(ids))
        rows = self._rows(
            "SELECT id, checksum FROM documents WHERE id IN (SELECT value FROM json_each(?))", (listed,)
        )
        return dict(cast(list[tuple[str, int]], rows))

    def touch(self, states: Mapping[str, tuple[int, int, int]]) -> None:
        """Updates the (mtime_ns, size, device) of documents whose content has not changed."""
        if not states:
            return
        with self._connections.transaction() as connection:
            for name, state in states.items():
                if not writing.touch(connection, name, *state):
                    raise damaged(self._connections.path, f"the checksum of {quoted(name)} is not an integer")
            writing.count_change(connection)

    def delete(self, ids: Sequence[str] | None, where: Mapping[str, Any] | None = None) -> int:
        """Removes documents with their passages and vectors; returns how many of them existed.

        Args:
            ids: of the documents; None for all that pass the filter.
            where: a filter on metadata that they must pass as well, as they are when they are removed; None for none.

        Raises:
            FilterError: `where` is not a valid filter.
            UsageError: neither is given.
        """
        if ids is None and where is None:
            raise UsageError("delete needs ids or a filter")
        if where is not None:
            compile_where(where)  # what is no filter is refused before the transaction begins
        with self._connections.transaction() as connection:
            if where is not None:
                ids = updating.matching(connection, ids, *narrowed(connection, where))
            removed = writing.delete(connection, ids or ())
            if removed:
                writing.count_change(connection)
        return removed

    def update(
        self,
        metadata: Mapping[str, Mapping[str, Any]],
        *,
        replace: bool = False,
        remove: Sequence[str] = (),
    ) -> tuple[int, list[str]]:
        """Changes the metadata of documents; their passages and vectors stay as they are.

        Args:
            metadata: id -> keys to set.
            replace: whether the other keys of a document are removed.
            remove: keys to remove.

        Returns:
            How many documents have other metadata than before; and the ids that do not exist. If there are any of
            these, nothing is changed.

        Raises:
            UsageError: metadata that is not JSON.
        """
        path = self._connections.path
        with self._connections.transaction() as connection:
            there = {row[0] for row in updating.metadata_of(connection, metadata)}
            missing, changed = [name for name in metadata if name not in there], 0
            if not missing:
                changed = updating.update(path, connection, metadata, merge=not replace, remove=remove)
            if changed:
                writing.count_change(connection)
        return changed, missing

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

    def check(self, *, deep: bool = True) -> list[str]:
        """Checks the catalogue; returns one line for each problem, an empty list if there is none.

        Args:
            deep: whether to compare the content of all documents, passages and vectors with their checksums, and the
                text indexes with the texts.
        """
        return checking.problems(self._connections, deep=deep)

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
