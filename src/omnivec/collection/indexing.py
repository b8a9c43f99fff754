"""Embeds documents together, writes them to the catalogue in one transaction, then reports them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from omnivec.collection.spaces import Writer
from omnivec.inputs import modality
from omnivec.inputs.content import Content, Cutting, Piece
from omnivec.inputs.reading import pieces_of
from omnivec.store.records import Document, Passage
from omnivec.store.sqlite import Catalogue
from omnivec.types import Encoded, Floats, Ints, ModalityName, SparseRow

PASSAGES = 512
"""Largest number of passages in a commit, and so the work that a killed process loses."""

SECONDS = 3.0
"""Target time for embedding the passages of a commit, and the longest time that a document waits for others."""

FIRST = 32
"""Number of passages in the first commit, when the speed of the model is not known."""

BYTES = 64 * 2**20
"""Size of the waiting items in bytes at which they are committed: a dozen photographs."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Draft:
    """A document that waits for its vectors; see `store.records.Document`.

    Attributes:
        content: the content that was read.
        pieces: its passages.
    """

    id: str
    content: Content
    pipeline: str
    pieces: Sequence[Piece]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    root: str | None = None
    path: str | None = None
    size: int = 0
    mtime_ns: int = 0
    device: int = 0
    derived: frozenset[str] | None = None

    @property
    def modality(self) -> ModalityName:
        """Modality of the content."""
        return self.content.modality


@dataclass(frozen=True)
class Written:
    """The result of writing a draft.

    Attributes:
        id: id of the document.
        passages: number of passages committed.
        lost: number of tokens that the model's limit cut off.
        failure: why the document was not written, one line; None if it was.
    """

    id: str
    passages: int
    lost: int
    failure: str | None = None


class Indexer:
    """Collects, embeds and commits the drafts of one main space; reports each after the commit that contains it.

    Args:
        catalogue: catalogue to write to.
        writers: the spaces into which the items are embedded and their models, the main one first.
        on_written: called with the result for each draft.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        writers: Sequence[Writer],
        on_written: Callable[[Written], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalogue, self._writers, self._on_written, self._clock = catalogue, writers, on_written, clock
        self._waiting: list[Draft] = []
        self._count = self._held = 0
        self._enough, self._since = FIRST, 0.0

    def put(self, draft: Draft) -> None:
        """Adds a draft, and commits if enough drafts are waiting."""
        self._since = self._since if self._waiting else self._clock()
        self._waiting.append(draft)
        self._count += len(draft.pieces)
        self._held += draft.content.held
        full = self._count >= min(self._enough, PASSAGES) or self._held >= BYTES
        if full or self._clock() - self._since >= SECONDS:
            self.flush()

    def flush(self) -> None:
        """Embeds and commits the waiting drafts, then reports them."""
        drafts, self._waiting, self._count, self._held = self._waiting, [], 0, 0
        if not drafts:
            return
        begun = self._clock()
        spaces = [_Embedded.of(writer, drafts) for writer in self._writers]
        documents, written, first = [], [], 0
        for draft in drafts:
            places = range(first, first + len(draft.pieces))
            first += len(draft.pieces)
            failed = next((why for one in spaces for why in one.failures(places)), None)
            if failed is not None:
                written.append(Written(draft.id, 0, 0, failed))
                continue
            lost = max(one.lost(places) for one in spaces) if modality.get(draft.modality).counts_lost else 0
            documents.append(self._document(draft, spaces, places, lost))
            written.append(Written(draft.id, len(draft.pieces), lost))
        self._catalogue.write(documents)
        pace = first / max(self._clock() - begun, 1e-9)
        self._enough = max(1, min(PASSAGES, int(pace * SECONDS)))
        for one in written:
            self._on_written(one)

    def _texts(self, draft: Draft, vectors: Sequence[Any]) -> list[str]:
        """Returns the text of each passage of a draft: its own, or a description of its vector if it has none."""
        texts = [piece.text for piece in draft.pieces]
        describe = modality.get(draft.modality).describe
        if describe is None or all(texts):
            return texts
        described = describe(self._writers[0].model, np.stack(vectors))
        return [own or other for own, other in zip(texts, described, strict=True)]

    def _document(self, draft: Draft, spaces: Sequence[_Embedded], places: range, lost: int) -> Document:
        texts = self._texts(draft, [spaces[0].row(place) for place in places])
        unit = modality.get(draft.modality).span_unit
        passages = tuple(
            Passage(
                piece.start,
                piece.end,
                piece.line,
                text,
                draft.modality,
                {one.space: _stored(one.row(place)) for one in spaces},
                unit,
            )
            for piece, text, place in zip(draft.pieces, texts, places, strict=True)
        )
        return Document(
            id=draft.id,
            modality=draft.modality,
            pipeline=draft.pipeline,
            digest=draft.content.digest,
            root=draft.root,
            path=draft.path,
            size=draft.size,
            mtime_ns=draft.mtime_ns,
            device=draft.device,
            metadata=draft.metadata,
            lost=lost,
            passages=passages,
            derived=draft.derived,
        )


@dataclass(frozen=True, eq=False)
class _Embedded:
    """The vectors of the passages of some drafts in one space; passages are counted over all drafts."""

    space: str
    encoded: Encoded
    rows: Ints

    @classmethod
    def of(cls, writer: Writer, drafts: Sequence[Draft]) -> _Embedded:
        """Embeds all passages of the drafts."""
        items = [piece.item for draft in drafts for piece in draft.pieces]
        prompted = any("prompt" in modality.get(draft.modality).encode_options for draft in drafts)
        encoded = writer.model.run(items, prompt=writer.model.task_prompt("document") if prompted else None)
        rows = np.full(len(items), -1, np.int64)
        rows[encoded.kept] = np.arange(len(encoded.kept))
        return cls(writer.space, encoded, rows)

    def failures(self, places: range) -> Iterator[str]:
        """Yields why some of these passages have no vector, one line each."""
        return (self.encoded.failures[place] for place in places if place in self.encoded.failures)

    def lost(self, places: range) -> int:
        """Returns how much of these passages was cut off, in the unit of their modality."""
        return int(self.encoded.lost[self.rows[places.start : places.stop]].sum())

    def row(self, place: int) -> Any:
        """Returns what a passage has in the space; see `Encoded.row`."""
        return self.encoded.row(int(self.rows[place]))


def _stored(row: Any) -> Floats | SparseRow:
    """Returns what a passage has in a space as a catalogue takes it: (parts, dim), or a sparse row."""
    return row if isinstance(row, SparseRow) else np.atleast_2d(row)


class Indexing:
    """Passes drafts to the indexer of their space; shared by `add` and `sync`.

    Args:
        catalogue: catalogue to write to.
        writers: returns the spaces and the models of a modality, after recording the spaces.
        further: returns the names of these spaces without the main one; called for the first of a modality.
        cutting: returns how items of a modality are split into passages; called for the first of them.
        on_written: called with the result for each draft, after the commit.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        writers: Callable[[ModalityName], Sequence[Writer]],
        further: Callable[[ModalityName], Sequence[str]],
        cutting: Callable[[ModalityName], Cutting],
        on_written: Callable[[Written], None],
    ) -> None:
        self._catalogue, self._writers, self._on_written = catalogue, writers, on_written
        self._further = functools.cache(further)
        self._cutting = functools.cache(cutting)
        self._indexers: dict[str, Indexer] = {}

    def pipeline(self, name: ModalityName) -> str:
        """Returns the version and settings by which documents of a modality are made; changed ones are made again.

        Further spaces are among them, so that a document is embedded into a space that was added since.
        """
        record = modality.get(name)
        pipeline = self._cutting(name).pipeline(record.pipeline) if record.is_cut else record.pipeline
        further = self._further(name)
        return f"{pipeline} spaces={','.join(sorted(further))}" if further else pipeline

    def pieces(self, content: Content) -> list[Piece]:
        """Splits content into passages; ItemError if there are none, or no model for the modality."""
        return pieces_of(content, self._writers(content.modality)[0].model, self._cutting)

    def put(self, draft: Draft) -> None:
        """Passes a draft to the indexer of its space."""
        writers = self._writers(draft.modality)
        spaces = "+".join(writer.space for writer in writers)
        if spaces not in self._indexers:
            self._indexers[spaces] = Indexer(self._catalogue, writers, self._on_written)
        self._indexers[spaces].put(draft)

    def flush(self) -> None:
        """Embeds and commits all waiting drafts."""
        for indexer in self._indexers.values():
            indexer.flush()
