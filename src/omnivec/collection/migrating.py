"""Embeds what is in a space by another model, into a second space, and then puts that one in the place of the first.

Meanwhile the first space is searched and written to. Passages are embedded in the order of their keys; when the end is
reached, those that were added since have no vector yet and are embedded by the next pass, until the transaction that
switches finds none. Nothing is stored about the progress, so a migration that was stopped goes on with what is missing.

Passages stay as they are where the new model reads them whole: what a hit shows, and what words find, does not change
with the model. A document with a passage that is too long for it is cut anew, into passages that both models read, and
embedded by both at once, since the first space is still searched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from omnivec.collection.file_names import FileNames
from omnivec.collection.indexing import Draft, Indexer, Written
from omnivec.collection.spaces import Spaces, Writer
from omnivec.errors import ItemError, OmnivecError
from omnivec.inputs import modality as modalities
from omnivec.inputs.content import MAX_BYTES, Content
from omnivec.inputs.reading import pieces_of, read
from omnivec.models.embedder import Embedder
from omnivec.progress import Counter
from omnivec.store.records import ACTIVE, Document, SpaceRecord, StoredPassage
from omnivec.store.sqlite import Catalogue
from omnivec.types import ModalityName, SparseRow
from omnivec.validation.reasons import of_item, one_line

FIRST, SECONDS, PASSAGES = 32, 3.0, 2048
"""Number of passages in the first commit; target time for those of a later one, and the largest number of them."""

SAMPLE = 256
"""Number of passages from whose time and size those of all are estimated."""


@dataclass
class Migration:
    """The result of `Collection.migrate`.

    Attributes:
        source: name of the space that was searched before.
        target: name of the space of the other model.
        model: name of that model.
        passages: number of passages that were embedded by this call.
        waiting: number of passages that have no vector of the other model yet.
        recut: number of documents that were cut into passages anew, as a passage was too long for the other model.
        lost: amount of text or sound that the other model's limit cut off all the same, in tokens or seconds.
        missing: id of each document that cannot be embedded -> the reason. It keeps its vectors in the first space.
        notes: id of each document that could not be cut anew -> the reason.
        switched: whether the other space is now the one that is searched.
        seconds: estimated time for all waiting passages, of a dry run; otherwise the time that it took.
        bytes: estimated size of the vectors of all waiting passages, of a dry run; otherwise 0.
        sampled: number of passages from which a dry run estimates.
        long: number of these that are too long for the other model.
        dry_run: whether this is only what would be done.
    """

    source: str
    target: str
    model: str
    passages: int = 0
    waiting: int = 0
    recut: int = 0
    lost: float = 0
    missing: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    switched: bool = False
    seconds: float = 0.0
    bytes: int = 0
    sampled: int = 0
    long: int = 0
    dry_run: bool = False

    def __repr__(self) -> str:
        state = "dry run" if self.dry_run else "switched" if self.switched else "not switched"
        return (
            f"<Migration of {self.source!r} to {self.target!r} by {self.model}: {self.passages:,} passages embedded, "
            f"{self.waiting:,} waiting, {self.recut:,} documents cut anew, {len(self.missing):,} missing; {state}>"
        )


class Refill:
    """Embeds the passages of one space by the model of another one.

    Args:
        catalogue: of the collection.
        names: of its files.
        spaces: of the collection.
        source: the space whose passages are embedded.
        target: the space to fill, and its model.
        report: what was done is counted here.
        shown: progress bar, in passages.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        names: FileNames,
        spaces: Spaces,
        source: SpaceRecord,
        target: Writer,
        report: Migration,
        shown: Counter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalogue, self._names, self._spaces = catalogue, names, spaces
        self._source, self._target, self.report = source, target, report
        self._shown, self._clock = shown, clock
        self._size = FIRST
        self._failed: dict[int, str] = {}
        self._whole: set[str] = set()

    @property
    def failed(self) -> Mapping[int, str]:
        """Key of each passage that cannot be embedded -> id of its document."""
        return self._failed

    def run(self) -> None:
        """Embeds all passages that have no vector yet, and those that are added meanwhile."""
        while self.once():
            pass

    def once(self) -> int:
        """Goes once through the passages that wait; returns how many got a vector or were cut anew."""
        after, done = 0, 0
        while batch := self._catalogue.waiting(
            self._source.name, self._target.space, after=after, limit=self._size
        ):
            after = batch[-1].key
            begun = self._clock()
            done += self.embed([one for one in batch if one.key not in self._failed])
            pace = len(batch) / max(self._clock() - begun, 1e-9)
            self._size = max(1, min(PASSAGES, int(pace * SECONDS)))
        return done

    def sample(self) -> tuple[int, int]:
        """Embeds some passages without storing anything; returns how many, and the bytes of their vectors."""
        waiting, made = self._catalogue.sample_of(self._source.name, SAMPLE), dict[int, Any]()
        for name in dict.fromkeys(one.modality for one in waiting):
            rows, lost = self.vectors([one for one in waiting if one.modality == name], name)
            self.report.long += sum(amount > 0 for amount in lost.values())
            made |= rows
        self.report.sampled = len(waiting)
        return len(made), sum(map(size_of, made.values()))

    def embed(self, batch: Sequence[StoredPassage]) -> int:
        """Embeds and commits some passages; returns how many got a vector, or were cut anew with their documents."""
        done, long = 0, list[str]()
        for name in dict.fromkeys(one.modality for one in batch):
            vectors, lost = self.vectors([one for one in batch if one.modality == name], name)
            cut = {key for key, amount in lost.items() if amount > 0}
            owners = {one.key: one.document for one in batch}
            long += [owners[key] for key in cut if owners[key] not in self._whole]
            fitting = {key: row for key, row in vectors.items() if owners[key] not in set(long)}
            amounts = {key: int(lost[key]) for key in cut & fitting.keys()}
            self.report.lost += sum(amounts.values())
            added = self._catalogue.add_vectors(self._target.space, fitting, amounts) if fitting else 0
            self.report.passages += added
            self._shown.advance(added)
            done += added
        return done + (self._recut(list(dict.fromkeys(long))) if long else 0)

    def vectors(
        self, batch: Sequence[StoredPassage], name: ModalityName
    ) -> tuple[dict[int, Any], dict[int, float]]:
        """Embeds passages of one modality; returns by key what each has, and how much of it was cut off."""
        items = self._items(batch, name)
        if not items:
            return {}, {}
        record, model, keys = modalities.get(name), self._target.model, list(items)
        prompt = model.task_prompt("document") if "prompt" in record.encode_options else None
        encoded = model.run(list(items.values()), prompt=prompt)
        owners = {one.key: one.document for one in batch}
        for place, why in encoded.failures.items():
            self._fail(keys[place], owners[keys[place]], why)
        rows = {keys[place]: _stored(row) for place, row in encoded}
        lost = zip(encoded.kept.tolist(), encoded.lost.tolist(), strict=True)
        return rows, {keys[place]: amount if record.counts_lost else 0 for place, amount in lost}

    def _items(self, batch: Sequence[StoredPassage], name: ModalityName) -> dict[int, Any]:
        """Returns the item of each passage by key: its text, or what is read again from the document's file."""
        if name == modalities.written():
            return {one.key: one.text for one in batch}
        items: dict[int, Any] = {}
        owned: dict[str, list[StoredPassage]] = {}
        for one in batch:
            owned.setdefault(one.document, []).append(one)
        part = modalities.get(name).part
        for document, passages in owned.items():
            try:
                content = self._content(document)
                for one in passages:
                    items[one.key] = content.item if part is None else part(content, one.start, one.end)
            except BaseException as error:
                why = of_item(error)
                for one in passages:
                    items.pop(one.key, None)
                    self._fail(one.key, document, why)
        return items

    def _content(self, document: str) -> Content:
        """Reads the file of a document again; ItemError if it is not there, or not the same any more."""
        found = self._catalogue.documents(ids=[document])
        if not found:
            raise ItemError("it was removed meanwhile")
        [entry] = found
        if entry.path is None:
            raise ItemError("it was added from memory, and its content is not stored")
        path = self._names.path(entry.path)
        content = read(path, max_bytes=max(MAX_BYTES, entry.size))
        if content.digest != entry.digest:
            raise ItemError(f"{path} has changed since it was added: run omnivec index first")
        return content

    def _fail(self, key: int, document: str, why: str) -> None:
        if key not in self._failed:
            self._failed[key] = document
            self.report.missing.setdefault(document, why)

    def _recut(self, names: Sequence[str]) -> int:
        """Cuts documents anew for both models and replaces those that have not changed meanwhile; returns how many.

        A document that cannot be cut finer is embedded as it is by the next pass, and what is cut off is counted.
        """
        with self._catalogue.snapshot():
            guarded = _Unchanged(self._catalogue, self._catalogue.checksums_of(names))
            documents = [one for one in map(self._catalogue.document, names) if one is not None]
            texts = {name: one.text for name, one in self._catalogue.records(names).items()}
        written: list[Written] = []
        indexers: dict[tuple[str, ...], Indexer] = {}
        for document in documents:
            try:
                draft, writers = self._draft(document, texts[document.id]), self._writers_of(document)
            except OmnivecError as error:
                self._keep(document.id, one_line(error))
                continue
            if [(one.start, one.end) for one in draft.pieces] == [
                (p.start, p.end) for p in document.passages
            ]:
                self._whole.add(document.id)
                continue
            spaces = tuple(one.space for one in writers)
            if spaces not in indexers:
                indexers[spaces] = Indexer(cast(Catalogue, guarded), writers, written.append)
            indexers[spaces].put(draft)
        for indexer in indexers.values():
            indexer.flush()
        for one in written:
            if one.failure is not None:
                self._keep(one.id, one.failure)
            elif one.id in guarded.done:
                self.report.recut += 1
                self.report.passages += one.passages
                self.report.lost += one.lost
        return len(names)

    def _keep(self, name: str, why: str) -> None:
        """Notes that the passages of a document stay as long as they are."""
        self._whole.add(name)
        self.report.notes[name] = why

    def _writers_of(self, document: Document) -> list[Writer]:
        """Returns the active spaces that hold a document, the source first, and the target."""
        records = self._spaces.records()
        held = {name for passage in document.passages for name in passage.vectors}
        others = [
            one for one in records if one in held and records[one].state == ACTIVE and records[one].model
        ]
        names = dict.fromkeys([self._source.name, *others])
        names.pop(self._target.space, None)
        return [*(Writer(one, self._spaces[one]) for one in names), self._target]

    def _draft(self, document: Document, text: str) -> Draft:
        """Returns a document as it is cut for the new model; the settings that are recorded with it stay the same."""
        written, model = document.modality == modalities.written(), self._target.model
        first = document.passages[0]
        content = (
            Content(
                document.modality,
                document.digest,
                text,
                text,
                None if first.line is None else _lines(document),
            )
            if written
            else self._content(document.id)
        )
        cutting = self._spaces.cutting(document.modality)
        within = limit_of(model, document.modality)
        if cutting.within:
            within = min(within, cutting.within)
        pieces = pieces_of(content, model, lambda name: replace(cutting, within=within))
        return Draft(
            id=document.id,
            content=content,
            pipeline=document.pipeline,
            pieces=pieces,
            metadata=document.metadata,
            root=document.root,
            path=document.path,
            size=document.size,
            mtime_ns=document.mtime_ns,
            device=document.device,
        )


class _Unchanged:
    """Writes documents in the place of the catalogue: those that still have the checksum with which they were read.

    Attributes:
        done: ids of the documents that were written.
    """

    def __init__(self, catalogue: Catalogue, checksums: Mapping[str, int]) -> None:
        self._catalogue, self._checksums = catalogue, checksums
        self.done: set[str] = set()

    def write(self, documents: Sequence[Document]) -> None:
        """Replaces documents; see `Catalogue.rewrite`."""
        replaced = self._catalogue.rewrite([(one, self._checksums[one.id]) for one in documents])
        self.done |= {one.id for one, done in zip(documents, replaced, strict=True) if done}


def limit_of(model: Embedder, name: ModalityName) -> float:
    """Returns the length limit of a model for a modality, in its unit."""
    encoder = model.encoder.part(name)
    return model.max_length if encoder is None else encoder.card.limit


def _lines(document: Document) -> Callable[[int], int]:
    """Returns a function from an offset in a document to the line in its source, from those of its passages."""

    def line(offset: int) -> int:
        near = [one for one in document.passages if one.start <= offset] or [document.passages[0]]
        before = near[-1].text[: max(0, offset - int(near[-1].start))]
        return (near[-1].line or 1) + before.count("\n")

    return line


def _stored(row: Any) -> Any:
    """Returns what a passage has as a catalogue takes it: (parts, dim), or a sparse row."""
    return row if isinstance(row, SparseRow) or row.ndim == 2 else row[None]


def size_of(row: Any) -> int:
    """Returns the bytes of what a passage has."""
    return 8 * len(row.indices) if isinstance(row, SparseRow) else int(row.nbytes)
