"""Documents on their way into a catalogue: embedded together, written in one transaction, then reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from omnivec.embedder import Embedder
from omnivec.passages import Cut
from omnivec.store.records import Document, Passage
from omnivec.store.sqlite import Catalogue
from omnivec.types import Encoded, Keys, Modality

PASSAGES = 512
"""Passages that are embedded and committed together: what a killed run may have to do again."""


@dataclass(frozen=True, eq=False)
class Draft:
    """A document that waits for its vectors; see `store.records.Document`."""

    id: str
    digest: bytes
    how: str
    cuts: Sequence[Cut]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    root: str | None = None
    path: str | None = None
    size: int = 0
    mtime_ns: int = 0
    device: int = 0
    modality: Modality = "text"


@dataclass(frozen=True)
class Written:
    """What became of a draft.

    Attributes:
        id: of the document.
        passages: how many were committed.
        lost: tokens that the model's limit cut off.
        failure: why it is not in, one line; None where it is.
    """

    id: str
    passages: int
    lost: int
    failure: str | None = None


class Indexer:
    """Takes drafts; reports each after the commit that holds it, never before."""

    def __init__(
        self, catalogue: Catalogue, model: Embedder, space: str, report: Callable[[Written], None]
    ) -> None:
        self._catalogue, self._model, self._space, self._report = catalogue, model, space, report
        self._waiting: list[Draft] = []
        self._count = 0

    def put(self, draft: Draft) -> None:
        """Takes a draft, and commits when enough have come together."""
        self._waiting.append(draft)
        self._count += len(draft.cuts)
        if self._count >= PASSAGES:
            self.flush()

    def flush(self) -> None:
        """Embeds and commits what is waiting, then reports it."""
        drafts, self._waiting, self._count = self._waiting, [], 0
        if not drafts:
            return
        texts = [cut.text for draft in drafts for cut in draft.cuts]
        encoded = self._model.run(texts, prompt=self._model.task_prompt("document"))
        rows = np.full(len(texts), -1, np.int64)
        rows[encoded.kept] = np.arange(len(encoded.kept))
        documents, written, first = [], [], 0
        for draft in drafts:
            places = range(first, first + len(draft.cuts))
            first += len(draft.cuts)
            failed = next((encoded.failures[i] for i in places if i in encoded.failures), None)
            if failed is not None:
                written.append(Written(draft.id, 0, 0, failed))
                continue
            lost = int(encoded.lost[rows[places.start : places.stop]].sum())
            documents.append(self._document(draft, encoded, rows[places.start : places.stop], lost))
            written.append(Written(draft.id, len(draft.cuts), lost))
        self._catalogue.write(documents)
        for one in written:
            self._report(one)

    def _document(self, draft: Draft, encoded: Encoded, rows: Keys, lost: int) -> Document:
        passages = tuple(
            Passage(
                cut.start,
                cut.end,
                cut.line,
                cut.text,
                draft.modality,
                {self._space: encoded.vectors[row : row + 1]},
            )
            for cut, row in zip(draft.cuts, rows, strict=True)
        )
        return Document(
            id=draft.id,
            modality=draft.modality,
            how=draft.how,
            digest=draft.digest,
            root=draft.root,
            path=draft.path,
            size=draft.size,
            mtime_ns=draft.mtime_ns,
            device=draft.device,
            metadata=draft.metadata,
            lost=lost,
            passages=passages,
        )
