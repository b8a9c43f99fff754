"""Embeds documents together, writes them to the catalogue in one transaction, then reports them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from omnivec.collection.spaces import Writer
from omnivec.inputs import modality
from omnivec.inputs.content import Content, Cutting, Piece
from omnivec.inputs.reading import pieces_of
from omnivec.store.records import Document, Passage
from omnivec.store.sqlite import Catalogue
from omnivec.types import Encoded, Floats, Ints, ModalityName

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
    """Collects, embeds and commits the drafts of one space; reports each after the commit that contains it.

    Args:
        catalogue: catalogue to write to.
        writer: the space and its model.
        on_written: called with the result for each draft.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        writer: Writer,
        on_written: Callable[[Written], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalogue, self._writer, self._on_written, self._clock = catalogue, writer, on_written, clock
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
        model = self._writer.model
        items = [piece.item for draft in drafts for piece in draft.pieces]
        prompted = any("prompt" in modality.get(draft.modality).encode_options for draft in drafts)
        encoded = model.run(items, prompt=model.task_prompt("document") if prompted else None)
        rows = np.full(len(items), -1, np.int64)
        rows[encoded.kept] = np.arange(len(encoded.kept))
        documents, written, first = [], [], 0
        for draft in drafts:
            places = range(first, first + len(draft.pieces))
            first += len(draft.pieces)
            failed = next((encoded.failures[i] for i in places if i in encoded.failures), None)
            if failed is not None:
                written.append(Written(draft.id, 0, 0, failed))
                continue
            kept_rows = rows[places.start : places.stop]
            lost = int(encoded.lost[kept_rows].sum()) if modality.get(draft.modality).counts_lost else 0
            documents.append(self._document(draft, encoded, kept_rows, lost))
            written.append(Written(draft.id, len(draft.pieces), lost))
        self._catalogue.write(documents)
        pace = len(items) / max(self._clock() - begun, 1e-9)
        self._enough = max(1, min(PASSAGES, int(pace * SECONDS)))
        for one in written:
            self._on_written(one)

    def _texts(self, draft: Draft, vectors: Floats) -> list[str]:
        """Returns the text of each passage of a draft: its own, or a description of its vector if it has none."""
        texts = [piece.text for piece in draft.pieces]
        describe = modality.get(draft.modality).describe
        if describe is None or all(texts):
            return texts
        described = describe(self._writer.model, vectors)
        return [own or other for own, other in zip(texts, described, strict=True)]

    def _document(self, draft: Draft, encoded: Encoded, rows: Ints, lost: int) -> Document:
        texts = self._texts(draft, encoded.vectors[rows])
        passages = tuple(
            Passage(
                piece.start,
                piece.end,
                piece.line,
                text,
                draft.modality,
                {self._writer.space: encoded.vectors[row : row + 1]},
            )
            for piece, text, row in zip(draft.pieces, texts, rows, strict=True)
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
        )


class Indexing:
    """Passes drafts to the indexer of their space; shared by `add` and `sync`.

    Args:
        catalogue: catalogue to write to.
        writer: returns the space and the model of a modality, after recording the space.
        cutting: returns how items of a modality are split into passages; called for the first of them.
        on_written: called with the result for each draft, after the commit.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        writer: Callable[[ModalityName], Writer],
        cutting: Callable[[ModalityName], Cutting],
        on_written: Callable[[Written], None],
    ) -> None:
        self._catalogue, self._writer, self._on_written = catalogue, writer, on_written
        self._cutting = functools.cache(cutting)
        self._indexers: dict[str, Indexer] = {}

    def pipeline(self, name: ModalityName) -> str:
        """Returns the version and settings by which documents of a modality are made; changed ones are made again."""
        record = modality.get(name)
        return self._cutting(name).pipeline(record.pipeline) if record.is_cut else record.pipeline

    def pieces(self, content: Content) -> list[Piece]:
        """Splits content into passages; ItemError if there are none, or no model for the modality."""
        return pieces_of(content, self._writer(content.modality).model, self._cutting)

    def put(self, draft: Draft) -> None:
        """Passes a draft to the indexer of its space."""
        writer = self._writer(draft.modality)
        if writer.space not in self._indexers:
            self._indexers[writer.space] = Indexer(self._catalogue, writer, self._on_written)
        self._indexers[writer.space].put(draft)

    def flush(self) -> None:
        """Embeds and commits all waiting drafts."""
        for indexer in self._indexers.values():
            indexer.flush()
