"""`Collection.add(vectors=...)`: vectors that the user brings, with or without items, in a space without a model.

Each item becomes one passage with its vector. Its text can be searched for by words; no model embeds it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from omnivec.collection.adding import Added, Adding, Item, Ready, items_of
from omnivec.collection.requested import checked_name
from omnivec.errors import ItemError, UsageError
from omnivec.inputs import modality
from omnivec.inputs.items import shown
from omnivec.store.records import Document, Passage, SpaceRecord
from omnivec.store.sqlite import Catalogue
from omnivec.types import Floats, Metric
from omnivec.validation import arguments

PIPELINE = "own-vectors/1"
"""Recorded with the documents in place of a version of a reader."""

SPACE = "vectors"
"""Name of the space unless the caller chooses one."""

_AT_ONCE = 2_000
"""Largest number of documents in a commit."""


def matrix(vectors: Any) -> Floats:
    """Returns vectors as (n, dim) float32; numbers may be NaN or infinite.

    Raises:
        UsageError: they are not n rows of the same number of numbers.
    """
    try:
        array = np.asarray(vectors)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"vectors={shown(vectors)} are no array (n, dim): their rows differ in length"
        ) from error
    if array.ndim == 1 and array.dtype == object:
        raise UsageError(f"vectors={shown(vectors)} are no array (n, dim): their rows differ in length")
    if array.ndim != 2 or not array.shape[1] or array.dtype.kind not in "fiu":
        raise UsageError(
            f"vectors are {array.dtype} {array.shape}; they must be numbers (n, dim), one row for each item"
        )
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, np.float32)


def items_with(vectors: Floats, items: Any, ids: Any, metadata: Any) -> list[Item]:
    """Combines vectors with items, ids and metadata; UsageError if their numbers differ."""
    if items is None:
        if ids is None:
            raise UsageError(f"{len(vectors)} vectors without items need ids=, one for each")
        items = [""] * len(vectors)
    listed = items_of(items, ids, metadata)
    if len(listed) != len(vectors):
        raise UsageError(f"{len(vectors)} vectors for {len(listed)} items: give one for each")
    return listed


def own_space(catalogue: Catalogue, name: str | None, dim: int, metric: str | None) -> SpaceRecord:
    """Returns the space for vectors of this length, which is recorded if there is none of its name.

    Raises:
        UsageError: the space of this name has a model, another dim or another metric.
    """
    chosen = SPACE if name is None else checked_name(name, "space={!r}")
    asked: Metric = "cosine" if metric is None else arguments.choice("metric", metric, get_args(Metric))
    existing = catalogue.spaces().get(chosen)
    if existing is None:
        existing = catalogue.claim_space(SpaceRecord(chosen, "", dim, asked, {}, {}, ()))
    if existing.model:
        raise UsageError(
            f"the space {chosen!r} holds vectors of {existing.model}, which others are never mixed with: name another "
            "space, space='NAME'"
        )
    if existing.dim != dim or (metric is not None and existing.metric != metric):
        raise UsageError(
            f"the space {chosen!r} holds vectors of {existing.dim} components, compared by {existing.metric}; these "
            f"have {dim}, by {asked}: name another space, space='NAME'"
        )
    return existing


class AddingVectors(Adding):
    """One call of `Collection.add` with vectors."""

    allows_empty = True

    def __init__(self, *common: Any, space: SpaceRecord, vectors: Floats) -> None:
        super().__init__(*common)
        self._space, self._vectors = space, vectors

    def run(self, items: Sequence[Item]) -> Added:
        """Commits the items that are new or changed."""
        for start in range(0, len(items), _AT_ONCE):
            window = range(start, min(start + _AT_ONCE, len(items)))
            ready = {i: one for i in window if (one := self._read(i, items[i])) is not None}
            names = [one.id for one in ready.values()]
            known = {entry.id: entry for entry in self._catalogue.documents(ids=names)}
            documents = {}
            for i, one in ready.items():
                try:
                    document = self._document(one, self._vectors[i])
                except ItemError as error:
                    self.added.failures[i] = str(error)
                    continue
                self.added.kept.append(i)
                before = known.get(one.id)
                now = (document.digest, PIPELINE, document.metadata)
                if before is not None and (before.digest, before.pipeline, before.metadata) == now:
                    self.added.unchanged += 1
                elif one.id not in documents:
                    documents[one.id] = document
                    self.added.changed += before is not None
                    self.added.new += before is None
                    self.added.passages += 1
            self._catalogue.write(list(documents.values()))
            self._shown.advance(len(ready))
        return self.added

    def _document(self, one: Ready, vector: Floats) -> Document:
        """Returns the document of an item and its vector; ItemError if the vector is not finite."""
        if not np.isfinite(vector).all():
            raise ItemError(
                f"{int((~np.isfinite(vector)).sum())} of {len(vector)} numbers of its vector are NaN or infinite"
            )
        content, record = one.content, modality.get(one.content.modality)
        digest = hashlib.blake2b(content.digest + vector.tobytes(), digest_size=len(content.digest)).digest()
        extent = len(content.text) if content.modality == modality.written() else 0
        passage = Passage(
            0,
            extent,
            1 if content.text else None,
            content.text,
            content.modality,
            {self._space.name: vector[None]},
            record.span_unit,
        )
        return Document(
            id=one.id,
            modality=content.modality,
            pipeline=PIPELINE,
            digest=digest,
            root=None,
            path=one.path,
            size=one.size,
            mtime_ns=0,
            device=one.device,
            metadata=one.metadata,
            lost=0,
            passages=(passage,),
        )
