"""Vectors of a second space for passages that exist: filling it, taking the place of the first, and dropping one.

A migration to another model fills a space while another one is searched. What is still to be done is not stored: it is
the passages that have a vector in the first space and none in the second, so a migration that was stopped at any
moment goes on from the catalogue alone.

A worked example. The space "text" has vectors of the passages 1, 2 and 3; "text-2" is filling and has one of passage 1.

    waiting("text", "text-2", after=0, limit=10)   the passages 2 and 3
    add_vectors("text-2", {2: v, 3: w})            adds both; of a passage that was deleted meanwhile, nothing
    switch("text", "text-2")                       unless passages were added to "text" meanwhile

The documents' checksums cover vectors with the names of their spaces, so each change here computes the checksums of the
documents that it touches before and after; one that was wrong before stays wrong.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from sqlite3 import Connection
from typing import Any

import numpy as np

from omnivec.errors import CollectionError, UsageError
from omnivec.store import checksums, inserting, rows, writing
from omnivec.store.passages import PassageReader
from omnivec.store.records import ACTIVE, RETIRED, Document, StoredPassage

_WAITING = (
    "FROM vectors AS given WHERE given.space = (SELECT key FROM spaces WHERE name = ?) AND given.part = 0"
    " AND NOT EXISTS (SELECT 1 FROM vectors AS made WHERE made.passage = given.passage AND made.space ="
    " (SELECT key FROM spaces WHERE name = ?))"
)
"""Passages that have a vector in one space and none in another; parameters: the names of both."""


class Refilling(PassageReader):
    """The operations of a migration on a catalogue; each is one transaction."""

    def waiting(self, source: str, target: str, *, after: int = 0, limit: int) -> list[StoredPassage]:
        """The next passages that have a vector in the space `source` and none in `target`, ascending by key.

        Args:
            source: name of a space.
            target: name of another one.
            after: only passages with greater keys.
            limit: the largest number of passages.
        """
        keys = self._keys(
            f"SELECT given.passage {_WAITING} AND given.passage > ? ORDER BY given.passage LIMIT ?",
            (source, target, after, limit),
        )
        return sorted(self.passages(keys).values(), key=lambda one: one.key)

    def count_waiting(self, source: str, target: str) -> int:
        """How many passages have a vector in the space `source` and none in `target`."""
        return int(self._rows(f"SELECT count(*) {_WAITING}", (source, target))[0][0])

    def sample_of(self, space: str, count: int) -> list[StoredPassage]:
        """Up to `count` passages that have a vector in a space, evenly spread over their keys."""
        keys = self._keys(
            "SELECT passage FROM vectors WHERE space = (SELECT key FROM spaces WHERE name = ?) AND part = 0"
            " ORDER BY passage",
            (space,),
        )
        places = np.unique(np.linspace(0, len(keys) - 1, min(count, len(keys))).astype(np.int64))
        return list(self.passages(keys[places]).values())

    def checksums_of(self, ids: Sequence[str]) -> dict[str, int]:
        """The stored checksums of documents by id: they change with everything that a document holds."""
        stored = self._read(
            rows.METADATA, "FROM documents WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(ids),)
        )
        return {row[0]: row[2] for row in stored}

    def add_vectors(self, space: str, vectors: Mapping[int, Any], lost: Mapping[int, int]) -> int:
        """Adds vectors of passages that exist and have none in the space; returns how many passages got some.

        Args:
            space: name of the space.
            vectors: key of a passage -> (parts, dim) float32; in a sparse space, a `SparseRow`.
            lost: key of a passage -> how much of it the model's limit cut off, which its document counts.

        Raises:
            UsageError: there is no such space, or vectors do not fit it.
        """
        with self._connections.transaction() as connection:
            known = writing.spaces(connection).get(space)
            if known is None:
                raise UsageError(f"{self.folder} has no space {space!r}")
            listed = json.dumps(list(vectors))
            found = connection.execute(
                "SELECT passages.key, document, id, ordinal FROM passages JOIN documents ON documents.key = document"
                " WHERE passages.key IN (SELECT value FROM json_each(?))"
                " AND NOT EXISTS (SELECT 1 FROM vectors WHERE passage = passages.key AND space = ?)",
                (listed, known.key),
            ).fetchall()
            if not found:
                return 0
            cut: dict[int, int] = {}
            with _summed(connection, sorted({row[1] for row in found})):
                for key, document, name, ordinal in found:
                    blobs = writing.blobs(vectors[key], known, name, ordinal, space)
                    connection.executemany(
                        "INSERT INTO vectors (space, passage, part, vector) VALUES (?, ?, ?, ?)",
                        [(known.key, key, part, blob) for part, blob in enumerate(blobs)],
                    )
                    cut[document] = cut.get(document, 0) + lost.get(key, 0)
                connection.executemany(
                    "UPDATE documents SET lost = lost + ? WHERE key = ?",
                    [(amount, document) for document, amount in cut.items() if amount],
                )
            writing.count_change(connection)
            _forget_states(connection, space)
        return len(found)

    def rewrite(self, documents: Sequence[tuple[Document, int]]) -> list[bool]:
        """Replaces documents that are still as they were read; returns for each whether it was.

        Args:
            documents: each with the checksum that it had when it was read.
        """
        done = []
        with self._connections.transaction() as connection:
            known = writing.spaces(connection)
            for document, checksum in documents:
                stored = connection.execute(
                    "SELECT checksum FROM documents WHERE id = ?", (document.id,)
                ).fetchone()
                done.append(stored is not None and stored[0] == checksum)
                if done[-1]:
                    writing.delete(connection, [document.id])
                    inserting.insert(connection, [(document, time.time_ns())], known)
            if any(done):
                writing.count_change(connection)
        return done

    def switch(self, source: str, target: str, *, allowed: Collection[int] = ()) -> int:
        """Makes the space `target` active and `source` retired, unless passages are waiting.

        Files beside the catalogue that were made of the vectors of a space are not used any more: passages older than
        the newest one in such a file may have got a vector since.

        Args:
            source: name of the active space.
            target: name of the space that takes its place.
            allowed: keys of passages that may stay without a vector in `target`.

        Returns:
            How many other passages lack a vector in `target`; 0 if the states were changed.
        """
        with self._connections.transaction() as connection:
            waiting = connection.execute(
                f"SELECT count(*) {_WAITING} AND given.passage NOT IN (SELECT value FROM json_each(?))",
                (source, target, json.dumps(list(allowed))),
            ).fetchone()[0]
            if waiting:
                return int(waiting)
            with checksums.noted(connection, "spaces"):
                connection.executemany(
                    "UPDATE spaces SET state = ? WHERE name = ?", [(RETIRED, source), (ACTIVE, target)]
                )
            writing.count_change(connection)
            _forget_states(connection, target)
        return 0

    def drop_vectors(self, space: str, *, after: int = 0, documents: int) -> int | None:
        """Removes the vectors of some documents in a space that is not active.

        Args:
            space: name of the space.
            after: only documents with greater keys.
            documents: the largest number of documents.

        Returns:
            The key of the last of these documents; None if no document is left that has vectors in the space, in which
            case the space itself is removed.
        """
        with self._connections.transaction() as connection:
            key, state = connection.execute(
                "SELECT key, state FROM spaces WHERE name = ?", (space,)
            ).fetchone() or (None, ACTIVE)
            if state == ACTIVE:
                raise UsageError(f"the space {space!r} of {self.folder} is in use: its vectors stay")
            owners = [
                row[0]
                for row in connection.execute(
                    "SELECT key FROM documents WHERE key > ? AND EXISTS (SELECT 1 FROM passages JOIN vectors ON"
                    " passage = passages.key WHERE document = documents.key AND space = ?) ORDER BY key LIMIT ?",
                    (after, key, documents),
                )
            ]
            if owners:
                with _summed(connection, owners):
                    connection.execute(
                        "DELETE FROM vectors WHERE space = ? AND passage IN (SELECT key FROM passages WHERE document IN"
                        " (SELECT value FROM json_each(?)))",
                        (key, json.dumps(owners)),
                    )
            elif not after:
                with checksums.noted(connection, "spaces", "canaries"):
                    connection.execute("DELETE FROM canaries WHERE space = ?", (key,))
                    connection.execute("DELETE FROM spaces WHERE key = ?", (key,))
            writing.count_change(connection)
        return owners[-1] if owners else None


def refuse_retired(connection: Connection, documents: Sequence[Document]) -> None:
    """Raises CollectionError if documents have vectors of a space that another one has replaced.

    Their writer does not know of the change, so the vectors of the new space would be missing.
    """
    retired = {row[0] for row in connection.execute("SELECT name FROM spaces WHERE state = ?", (RETIRED,))}
    if not retired:
        return
    for document in documents:
        for passage in document.passages:
            if not retired.isdisjoint(passage.vectors):
                name = min(retired & passage.vectors.keys())
                raise CollectionError(
                    f"the space {name!r} was replaced by that of another model while this process had the collection "
                    "open: nothing of this batch was written; open the collection again"
                )


@contextmanager
def _summed(connection: Connection, documents: Sequence[int]) -> Iterator[None]:
    """Updates the checksums of documents, given by their keys, that the block changes."""
    before = dict(checksums.computed(connection, keys=documents))
    yield
    after = dict(checksums.computed(connection, keys=documents))
    stored = connection.execute(
        "SELECT key, checksum FROM documents WHERE key IN (SELECT value FROM json_each(?))",
        (json.dumps(list(documents)),),
    ).fetchall()
    connection.executemany(
        "UPDATE documents SET checksum = ? WHERE key = ?",
        [(checksum ^ before[key] ^ after[key], key) for key, checksum in stored],
    )


def _forget_states(connection: Connection, space: str) -> None:
    """Forgets all states but the last one if a space is active, so that no file made from them is used.

    Such a file is brought up to date by the passages that are newer than its last one; older ones have now changed.
    """
    state = connection.execute("SELECT state FROM spaces WHERE name = ?", (space,)).fetchone()
    if state is not None and state[0] == ACTIVE:
        connection.execute("DELETE FROM history WHERE changes < (SELECT max(changes) FROM history)")
