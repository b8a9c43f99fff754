"""`Collection.add`: reads items, skips unchanged ones, and passes the others on to be embedded and committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from omnivec.collection.file_names import FileNames
from omnivec.collection.indexing import BYTES, Draft, Indexing, Written
from omnivec.collection.spaces import Spaces
from omnivec.errors import ItemError, UsageError
from omnivec.inputs.content import Content
from omnivec.inputs.items import has_columns, several, shown, texts
from omnivec.inputs.reading import content_of
from omnivec.progress import Bar
from omnivec.store.records import DocumentEntry
from omnivec.store.sqlite import Catalogue
from omnivec.store.strings import storable
from omnivec.store.writing import as_read
from omnivec.validation.reasons import of_item, of_system

WINDOW = 512
"""Number of items that are compared with the collection together."""


@dataclass
class Added:
    """The result of `Collection.add`.

    Attributes:
        ids: ids of the items, in their order; "" for an item that failed before it had an id.
        kept: indices of the items that are in the collection.
        failures: maps the index of each item that is not in the collection to the reason.
        notes: maps the index of an item to what was left out of it, such as later frames of an animation.
        new: number of new documents.
        changed: number of documents whose content or metadata was replaced.
        unchanged: number of items that were in the collection unchanged.
        passages: number of passages written.
        lost: number of tokens that the model's limit cut off.
    """

    ids: list[str] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    notes: dict[int, str] = field(default_factory=dict)
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    passages: int = 0
    lost: int = 0

    def __repr__(self) -> str:
        return (
            f"<Added: {self.new:,} new, {self.changed:,} changed, {self.unchanged:,} unchanged, "
            f"{len(self.failures):,} failed; {self.passages:,} passages, {self.lost:,} tokens cut off>"
        )


class Item(NamedTuple):
    """One item to add, with its id (None for the default) and metadata."""

    content: Any
    id: str | None
    metadata: Mapping[str, Any]


def items_of(
    items: Any,
    ids: Any,
    metadata: Any,
) -> list[Item]:
    """Combines items with their ids and metadata; UsageError if their numbers differ or an id is invalid."""
    listed = list(several(items))
    names: list[str] | list[None] = [None] * len(listed) if ids is None else texts(ids, "ids")
    one_for_all = {} if metadata is None else metadata
    facts = [one_for_all] * len(listed) if isinstance(one_for_all, Mapping) else _rows(metadata)
    for what, values in (("ids", names), ("metadata", facts)):
        if len(values) != len(listed):
            raise UsageError(f"{len(values)} {what} for {len(listed)} items: give one for each")
    for i, fact in enumerate(facts):
        if not isinstance(fact, Mapping):
            raise UsageError(
                f"metadata {i} is a {type(fact).__name__}: give a dict for each item, or one for all"
            )
    seen: set[str] = set()
    for i, name in enumerate(names):
        if name is None:
            continue
        if not name or name != storable(name):
            raise UsageError(
                f"id {i} is {name!r}: an id must have at least one character, and be valid UTF-8"
            )
        if name in seen:
            raise UsageError(f"the id {name!r} is given twice")
        seen.add(name)
    return [Item(*parts) for parts in zip(listed, names, facts, strict=True)]


def _rows(metadata: Any) -> list[Any]:
    """Returns the metadata of several items as a list."""
    if has_columns(metadata):
        ways = {"to_pylist": "to_pylist()", "to_dicts": "to_dicts()", "to_dict": "to_dict('records')"}
        way = next(
            (f", metadata.{call}" for name, call in ways.items() if hasattr(metadata, name)), ", as dicts"
        )
        raise UsageError(f"metadata is {shown(metadata)}, a table: give its rows{way}")
    return list(several(metadata, "metadata", "a dict"))


class Ready(NamedTuple):
    """An item that was read: the fields of a `Draft` without its passages."""

    id: str
    content: Content
    metadata: Mapping[str, Any]
    path: str | None
    size: int
    device: int


class Adding:
    """One call of `Collection.add`; `shown` is its progress bar.

    Attributes:
        allows_empty: whether a text may be empty, as that of an item that brings its own vector.
    """

    allows_empty = False

    def __init__(self, catalogue: Catalogue, names: FileNames, spaces: Spaces, shown: Bar) -> None:
        self._catalogue, self._names, self._shown = catalogue, names, shown
        self._indexing = Indexing(catalogue, spaces.writers, spaces.further, spaces.cutting, self._done)
        self._known: dict[str, DocumentEntry] = {}
        self._places: dict[str, list[int]] = {}
        self._written: dict[str, Written] = {}
        self._firsts: dict[str, tuple[bytes, Mapping[str, Any]]] = {}
        self.added = Added()

    def run(self, items: Sequence[Item]) -> Added:
        """Embeds and commits the items that are new or changed."""
        waiting: list[Ready | None] = []
        held = 0
        for i, item in enumerate(items):
            waiting.append(self._read(i, item))
            held += waiting[-1].content.held if waiting[-1] is not None else 0
            if len(waiting) == WINDOW or held >= BYTES or i == len(items) - 1:
                self._window(i + 1 - len(waiting), waiting)
                waiting, held = [], 0
        self._indexing.flush()
        for name, places in self._places.items():
            why = self._written[name].failure
            if why is None:
                self.added.kept.extend(places)
            else:
                self.added.failures.update(dict.fromkeys(places, why))
                self.added.notes.pop(places[0], None)
        self.added.kept.sort()
        return self.added

    def _read(self, i: int, item: Item) -> Ready | None:
        """Reads an item; returns None if it fails."""
        try:
            ready = self._ready(item)
        except BaseException as error:
            self.added.failures[i] = of_item(error)
            self._shown.advance(1)
            self.added.ids.append(item.id or "")
            return None
        self.added.ids.append(ready.id)
        return ready

    def _window(self, first: int, ready: Sequence[Ready | None]) -> None:
        """Compares a window of items with the collection, and passes on those that are new or changed."""
        names = [one.id for one in ready if one is not None and one.id not in self._places]
        known = {entry.id: entry for entry in self._catalogue.documents(ids=names)}
        self._known.update(known)
        for i, one in enumerate(ready, first):
            if one is not None:
                self._take(i, one, known.get(one.id))

    def _take(self, i: int, one: Ready, before: DocumentEntry | None) -> None:
        if one.id in self._places:  # equal content is embedded only once
            self._places[one.id].append(i)
            self._shown.advance(1)
            return
        content, pipeline = one.content, self._indexing.pipeline(one.content.modality)
        now = (content.digest, pipeline, one.metadata)
        if before is not None and (before.digest, before.pipeline, before.metadata) == now:
            self._shown.advance(1)
            self.added.unchanged += 1
            self.added.kept.append(i)
            return
        try:
            pieces = self._indexing.pieces(content)
        except ItemError as error:
            self._shown.advance(1)
            self.added.failures[i] = str(error)
            return
        self._places[one.id] = [i]
        if content.note is not None:
            self.added.notes[i] = content.note
        self._indexing.put(
            Draft(
                id=one.id,
                content=content,
                pipeline=pipeline,
                pieces=pieces,
                metadata=one.metadata,
                path=one.path,
                size=one.size,
                device=one.device,
            )
        )

    def _done(self, written: Written) -> None:
        self._shown.advance(1)
        self._written[written.id] = written
        if written.failure is not None:
            return
        self.added.passages += written.passages
        self.added.lost += written.lost
        if written.id in self._known:
            self.added.changed += 1
        else:
            self.added.new += 1

    def _ready(self, item: Item) -> Ready:
        """Reads an item and determines its id, metadata and file; ItemError if one of these is invalid."""
        content = content_of(item.content)
        if isinstance(content.item, str) and not content.item.strip() and not self.allows_empty:
            raise ItemError("an empty text cannot be searched for")
        try:
            own = item.metadata
            facts = as_read(
                {**content.facts, **own} if content.facts or type(own) is dict else own, "metadata"
            )
        except UsageError as error:
            raise ItemError(str(error)) from error
        path = self._names.of(item.content) if isinstance(item.content, Path) else None
        if path is not None and path != storable(path):
            raise ItemError("its name is not valid UTF-8; rename it")
        name = item.id or path or content.digest.hex()[:16]
        self._refuse_double(name, content.digest, facts)
        return Ready(name, content, facts, path, *_place_of(item.content))

    def _refuse_double(self, name: str, digest: bytes, facts: Mapping[str, Any]) -> None:
        """Raises ItemError if an earlier item of the call has the same id with other content or metadata."""
        first = self._firsts.setdefault(name, (digest, facts))
        if first != (digest, facts):
            what = "metadata" if first[0] == digest else "content"
            raise ItemError(f"its id {name!r} is also that of an earlier item with other {what}: give ids")


def _place_of(item: Any) -> tuple[int, int]:
    """Returns the size and the device of a file; a sync needs the device to tell a lost file from a lost disk."""
    try:
        status = item.stat() if isinstance(item, Path) else None
    except OSError as error:
        raise ItemError(f"{item}: {of_system(error)}") from error
    return (0, 0) if status is None else (status.st_size, status.st_dev)
