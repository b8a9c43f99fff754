"""Salvaging a damaged collection: what can be read and fits its checksum goes into a new one.

A document is taken as a whole or not at all: its checksum covers its text, metadata, times and vectors together, so
that none of them can be trusted if it does not fit. What can be read of other documents is handed to the caller, who
may show it to the user.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from omnivec.errors import CollectionError
from omnivec.files import synced
from omnivec.store import checksums, copies, rows, schema
from omnivec.store.connections import is_open
from omnivec.store.opening import FILE
from omnivec.store.records import ACTIVE, FLOAT32, SpaceRecord, Transferred
from omnivec.store.remains import Remains, Row
from omnivec.store.sqlite import Catalogue
from omnivec.store.wholes import HEAD, PASSAGE, Whole
from omnivec.types import DENSE, Keys

_AT_ONCE = 500
_VECTORS_AT_ONCE = 8_000

_SPACE = "key, name, model, dim, metric, identity, provenance, modalities, kind, dtype, state"


@dataclass(frozen=True)
class Unverified:
    """What can be read of a document that is not taken.

    Attributes:
        id: its id; "" if it cannot be read.
        key: its key in the damaged catalogue.
        why: what is wrong with it.
        texts: (start, text) of its passages that can be read.
        metadata: None if it cannot be read.
        modality: "" if it cannot be read.
        path: of its file; None if it came from memory or cannot be read.
    """

    id: str
    key: int
    why: str
    texts: tuple[tuple[float, str], ...] = ()
    metadata: Mapping[str, Any] | None = None
    modality: str = ""
    path: str | None = None


@dataclass
class Salvaged:
    """What came out of a damaged collection.

    Attributes:
        documents: number of documents taken, each equal to what was written.
        passages: number of their passages.
        vectors: number of their vectors.
        without_checksum: how many of them could not be verified, because an old version wrote no checksums.
        spaces: names of the spaces taken.
        damaged: why a document was left out, by its id.
        nameless: number of documents left out whose ids cannot be read.
        complete: whether the documents taken and damaged are all that there were; None if that cannot be known.
        notes: what else is known of the damage, one line each.
        unverified: the file with what can be read of the documents left out; None if there are none.
    """

    documents: int = 0
    passages: int = 0
    vectors: int = 0
    without_checksum: int = 0
    spaces: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    nameless: int = 0
    complete: bool | None = None
    notes: list[str] = field(default_factory=list)
    unverified: Path | None = None


def salvage(source: Path, target: Path, left_out: Callable[[Unverified], None]) -> Salvaged:
    """Makes a new collection of what can be read of a damaged one, which is only read.

    Args:
        source: folder of the damaged collection; no program may have it open.
        target: folder of the new collection, which must not exist.
        left_out: called for each document that is not taken.

    Raises:
        CollectionError: the source cannot be read, the target exists or cannot be written, or nothing was readable.
        SchemaError: the source is no collection, or nothing of it can be recognised.
    """
    target = target.absolute()
    copies.refuse_existing(target, "what is salvaged needs a new folder; choose another name")
    copies.refuse_inside(source, target, "what is salvaged")
    file = source / FILE
    if not file.is_file():
        raise CollectionError(f"no collection in {source}: it has no file {FILE}")
    if is_open(file):
        raise CollectionError(f"{source} is open in this program: close it first")
    with copies.made(target) as draft:
        with TemporaryDirectory(dir=draft.parent, prefix=".salvage-") as scratch:
            remains = Remains(file, Path(scratch))
            try:
                with Catalogue.open(draft, create=True) as catalogue:
                    report = _Salvage(remains, catalogue, left_out).run()
            finally:
                remains.close()
        problems = copies.checked(draft)
        if problems:
            raise CollectionError(f"what was salvaged of {source} is not sound: {problems[0]}")
        synced(draft / FILE)
    return report


class _Salvage:
    """One call of `salvage`."""

    def __init__(
        self, remains: Remains, catalogue: Catalogue, left_out: Callable[[Unverified], None]
    ) -> None:
        self._remains, self._catalogue, self._left_out = remains, catalogue, left_out
        self._names: dict[int, SpaceRecord] = {}
        self._seen: set[str] = set()
        self.report = Salvaged(notes=remains.notes)

    def run(self) -> Salvaged:
        stored, _ = self._remains.small("meta", "key, value")
        self._meta = {row[0]: row[1] for row in stored}
        self._take_spaces()
        self._take_roots()
        keys = sorted(row[0] for row in self._remains.rows("documents", "checksum"))
        passages = _Grouped.of(self._remains.rows("passages", "document"))
        vectors = _Grouped.of(self._remains.rows("vectors", "passage"))
        sums = 0
        for window in self._windows(keys, passages, vectors):
            sums ^= self._take(window, passages, vectors)
        self._lost_heads(sorted(set(passages.owners()) - set(keys)), passages)
        self._note_holes()
        if type(self._meta.get("sum")) is int:
            self.report.complete = sums == self._meta["sum"] and not self._remains.holes.get("documents")
        return self.report

    def _take_spaces(self) -> None:
        """Takes the spaces whose records can be read, and the canaries if they are what was written."""
        stored = [_completed(row, self._remains.version) for row in self._remains.small("spaces", _SPACE)[0]]
        stored.sort(key=lambda row: row[0] if type(row[0]) is int else 0)
        canaries = self._remains.small("canaries", "space, ordinal, text, vector")[0]
        same = self._is_written("spaces", stored)
        with_canaries = self._is_written("canaries", sorted(canaries, key=_place_of))
        if not same:
            self.report.notes.append(
                "the records of the spaces are not what was written, as far as can be known: compare model, metric and "
                "dim with what you know (omnivec collection status)"
            )
        if not with_canaries:
            self.report.notes.append(
                "canaries are left out, since they are not what was written: whether a model still makes the same "
                "vectors is not checked"
            )
        for row in stored:
            key, name, model, dim, metric, identity, provenance, *more = row
            fault = next(
                rows.SPACE.faults([(name, key, model, dim, metric, identity, provenance, *more)]), None
            )
            if fault is not None:
                self.report.notes.append(f"a space is lost, with its vectors: {fault}")
                continue
            pairs = [(one[2], one[3]) for one in canaries if one[0] == key] if with_canaries else []
            record = SpaceRecord(
                *(name, model, dim, metric, json.loads(identity), json.loads(provenance)),
                canaries=tuple((text, np.frombuffer(blob, "<f4")) for text, blob in pairs),
                modalities=tuple(json.loads(more[0])),
                **dict(zip(("kind", "dtype", "state"), more[1:], strict=True)),
            )
            self._catalogue.put_space(record)
            self._names[key] = record
            self.report.spaces.append(name)

    def _take_roots(self) -> None:
        stored = sorted(self._remains.small("roots", "path")[0], key=str)
        if self._is_written("roots", stored):
            for (path,) in stored:
                self._catalogue.add_root(path)
            return
        named = ", ".join(str(row[0]) for row in stored) or "none can be read"
        self.report.notes.append(
            f"the list of synced folders is not what was written and is left out ({named}): index them again"
        )

    def _is_written(self, table: str, stored: Sequence[Row]) -> bool:
        """Whether a small table has the checksum that was written with it."""
        if 0 < self._remains.version < schema.ALL_CHECKED:
            return True
        cut = [row[:7] for row in stored] if table == "spaces" else list(stored)
        sums = (checksums.of_rows(list(stored)), checksums.of_rows(cut))
        wanted = self._meta.get(table)
        return wanted in (sums if 0 < self._remains.version < schema.NAMED else sums[:1])

    def _windows(self, keys: Sequence[int], passages: _Grouped, vectors: _Grouped) -> Iterator[list[int]]:
        """Documents that are read together: so many that neither they nor their vectors are too many."""
        window: list[int] = []
        held = 0
        for key in keys:
            window.append(key)
            held += sum(vectors.count(passage) for passage in passages.of_owner(key))
            if len(window) >= _AT_ONCE or held >= _VECTORS_AT_ONCE:
                yield window
                window, held = [], 0
        if window:
            yield window

    def _take(self, window: Sequence[int], passages: _Grouped, vectors: _Grouped) -> int:
        """Takes the documents that are whole; returns the exclusive or of the checksums of all."""
        heads = self._remains.get("documents", HEAD, window)
        pieces = [key for owner in window for key in passages.of_owner(owner)]
        found = self._remains.get("passages", PASSAGE, pieces)
        blobs = self._remains.get(
            "vectors",
            "passage, space, part, vector",
            [one for key in pieces for one in vectors.of_owner(key)],
        )
        parts: dict[int, list[Row]] = {}
        for passage, space, part, blob in blobs.values():
            parts.setdefault(passage, []).append((space, part, blob))
        taken, sums = [], 0
        for key in window:
            head, own = heads.get(key), passages.of_owner(key)
            bodies = [(found[one], parts.get(one, [])) for one in own if one in found]
            if head is None:
                self._leave(key, None, bodies, "its row cannot be read")
                continue
            sums ^= head[-1] if type(head[-1]) is int else 0
            lost = len(own) - len(bodies)
            document = None if lost else self._whole(head, bodies)
            if document is None or head[0] in self._seen:
                self._leave(key, head, bodies, self._reason(head, bodies, lost))
                continue
            self._seen.add(head[0])
            taken.append(document)
            self.report.vectors += sum(len(vectors_) for _, vectors_ in bodies)
        self._catalogue.transfer(taken)
        self.report.documents += len(taken)
        self.report.passages += sum(len(one.document.passages) for one in taken)
        return sums

    def _whole(self, head: Row, bodies: Sequence[tuple[Row, list[Row]]]) -> Transferred | None:
        """The document, if its checksum fits."""
        stored: list[checksums.Stored] = []
        for row, vectors in bodies:
            if any(space not in self._names or type(part) is not int for space, part, _ in vectors):
                return None
            named = sorted((self._names[space].name, part, blob) for space, part, blob in vectors)
            stored.append((checksums.row_of(*row), named))
        whole = Whole(head, stored)
        unchecked = 0 < self._remains.version < schema.CHECKED
        try:
            checksum = whole.checksum()
            if head[-1] not in (checksum, whole.content()) and not unchecked:
                return None
            document = whole.document({one.name: one for one in self._names.values()})
        except (ValueError, TypeError):
            return None
        self.report.without_checksum += unchecked
        return Transferred(document, head[11], checksum)

    def _reason(self, head: Row, bodies: Sequence[tuple[Row, list[Row]]], lost: int) -> str:
        if head[0] in self._seen:
            return "another document has its id"
        if lost:
            return f"{lost} of its {lost + len(bodies)} passages cannot be read"
        bare = sum(not vectors for _, vectors in bodies)
        if not bodies:
            return "its passages are lost"
        if bare and self._names:
            return f"{bare} of its {len(bodies)} passages have lost their vectors, so that its checksum does not fit"
        return (
            "its checksum does not fit: its text, metadata, times or vectors were changed, or some are lost"
        )

    def _leave(self, key: int, head: Row | None, bodies: Sequence[tuple[Row, list[Row]]], why: str) -> None:
        """Reports a document that is not taken."""
        name = head[0] if head is not None and isinstance(head[0], str) else ""
        if name:
            self.report.damaged.setdefault(name, why)
        else:
            self.report.nameless += 1
        texts = tuple(
            (row[1], row[5])
            for row, _ in bodies
            if isinstance(row[5], str) and isinstance(row[1], int | float)
        )
        facts: list[Any] = ["", None, None]
        if head is not None:
            facts[0] = head[1] if isinstance(head[1], str) else ""
            facts[1] = head[5] if isinstance(head[5], str) else None
            facts[2] = _parsed(head[6])
        self._left_out(Unverified(name, key, why, texts, facts[2], facts[0], facts[1]))

    def _lost_heads(self, keys: Sequence[int], passages: _Grouped) -> None:
        """Reports documents of which only passages are left."""
        for key in keys:
            found = self._remains.get("passages", PASSAGE, passages.of_owner(key))
            self._leave(key, None, [(row, []) for row in found.values()], "its id and metadata are lost")

    def _note_holes(self) -> None:
        for table, holes in self._remains.holes.items():
            if holes:
                named = ", ".join(f"{low}" if low == high else f"{low} to {high}" for low, high in holes[:3])
                more = f" and {len(holes) - 3} more ranges" if len(holes) > 3 else ""
                self.report.notes.append(f"rows of {table} cannot be read: keys {named}{more}")


class _Grouped:
    """Keys of rows by the keys of those that own them."""

    def __init__(self, owners: Keys, keys: Keys) -> None:
        self._owners, self._keys = owners, keys

    @classmethod
    def of(cls, pairs: Iterable[Row]) -> _Grouped:
        """Of rows (key, owner); an owner that is not an integer is damage, and the row is left out."""
        whole = np.array([row for row in pairs if type(row[1]) is int], np.int64)
        whole = whole.reshape(-1, 2)
        order = np.lexsort((whole[:, 0], whole[:, 1]))
        return cls(whole[order, 1], whole[order, 0])

    def of_owner(self, owner: int) -> list[int]:
        """Keys in ascending order."""
        low, high = np.searchsorted(self._owners, [owner, owner + 1])
        return list(self._keys[low:high].tolist())

    def count(self, owner: int) -> int:
        """How many keys an owner has."""
        low, high = np.searchsorted(self._owners, [owner, owner + 1])
        return int(high - low)

    def owners(self) -> list[int]:
        """All owners."""
        return list(np.unique(self._owners).tolist())


def _place_of(canary: Row) -> list[str]:
    """Space and number of a canary, for sorting; what is damaged may be of any type."""
    return [str(one).zfill(20) for one in canary[:2]]


def _completed(row: Row, version: int) -> Row:
    """A record of a space with what an older version of the schema did not have."""
    head, more = row[:7], list(row[7:])
    if 0 < version < schema.NAMED and isinstance(row[1], str):
        more[0] = json.dumps(row[1].split("+"), separators=(",", ":"))
    defaults = ("[]", DENSE, FLOAT32, ACTIVE)
    return (*head, *(default if one is None else one for one, default in zip(more, defaults, strict=True)))


def _parsed(text: Any) -> Mapping[str, Any] | None:
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
