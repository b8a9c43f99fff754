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
from omnivec.validation.reasons import one_line

PIPELINE = "own-vectors/1"
"""Recorded with the documents, before the name of their space, in place of a version of a reader."""

SPACE = "vectors"
"""Name of the space unless the caller chooses one."""

_AT_ONCE = 2_048
"""Largest number of documents in a commit."""


def matrix(vectors: Any) -> Floats:
    """Returns vectors as (n, dim) float32; numbers may be NaN or infinite, as masked ones become; [] is (0, 0).

    Raises:
        UsageError: they are not n rows of the same number of numbers.
    """
    try:
        array = np.ma.asarray(vectors) if np.ma.isMaskedArray(vectors) else np.asarray(vectors)
        if array.ndim == 1 and array.dtype == object:  # a column whose values are lists, as of pandas
            array = np.asarray([np.asarray(row) for row in array])
    except Exception as error:  # what calls itself an array may raise anything, such as a tensor of torch
        uneven = "inhomogeneous" in str(error)
        why = "their rows differ in length" if uneven else one_line(error)
        raise UsageError(f"vectors={shown(vectors)} are no array (n, dim): {why}") from error
    if array.ndim == 0:
        raise UsageError(f"vectors={shown(vectors)} are no array of numbers (n, dim), one row for each item")
    if array.shape == (0,):
        return np.zeros((0, 0), np.float32)
    if array.ndim != 2 or not array.shape[1] or array.dtype.kind not in "fiu":
        raise UsageError(
            f"vectors are {array.dtype} {array.shape}; they must be numbers (n, dim), one row for each item"
        )
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float32)
    return np.ascontiguousarray(numbers.filled(np.nan) if np.ma.isMaskedArray(numbers) else numbers)


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
    """Returns the space for vectors of a length, 0 for no vectors; a new one is recorded with the first of them.

    Raises:
        UsageError: the space of this name has a model, another dim or another metric.
    """
    chosen = SPACE if name is None else checked_name(name, "space={!r}")
    asked: Metric = "cosine" if metric is None else arguments.choice("metric", metric, get_args(Metric))
    existing = catalogue.spaces().get(chosen)
    if existing is None:
        return SpaceRecord(chosen, "", dim, asked, {}, {}, ())
    _check_fit(existing, dim, asked if metric is not None else existing.metric)
    return existing


def _check_fit(existing: SpaceRecord, dim: int, metric: Metric) -> None:
    """Raises UsageError unless vectors of a length, 0 for none, and a metric may be stored in a recorded space."""
    chosen = existing.name
    if existing.model:
        raise UsageError(
            f"the space {chosen!r} holds vectors of {existing.model}, which others are never mixed with: name another "
            "space, space='NAME'"
        )
    if existing.dim != (dim or existing.dim) or existing.metric != metric:
        raise UsageError(
            f"the space {chosen!r} holds vectors of {existing.dim} components, compared by {existing.metric}; these "
            f"have {dim}, by {metric}: name another space, space='NAME'"
        )


class AddingVectors(Adding):
    """One call of `Collection.add` with vectors."""

    allows_empty = True

    def __init__(self, *common: Any, space: SpaceRecord, vectors: Floats) -> None:
        super().__init__(*common)
        self._space, self._vectors = space, vectors
        self._pipeline = f"{PIPELINE} space={space.name}"
        self._first_vectors: dict[str, bytes] = {}
        self._text_name = modality.written()
        self._recorded = False

    def run(self, items: Sequence[Item]) -> Added:
        """Commits the items that are new or changed."""
        for start in range(0, len(items), _AT_ONCE):
            window = range(start, min(start + _AT_ONCE, len(items)))
            ready = {i: one for i in window if (one := self._read(i, items[i])) is not None}
            names = [one.id for one in ready.values()]
            known = {entry.id: entry for entry in self._catalogue.documents(ids=names)}
            documents = {}
            finite = np.all(np.isfinite(self._vectors[start : window.stop]), axis=1)
            for i, one in ready.items():
                try:
                    document = self._document(
                        one, self._vectors[i : i + 1], is_finite=bool(finite[i - start])
                    )
                    self._refuse_other_vector(document)
                except ItemError as error:
                    self.added.failures[i] = str(error)
                    continue
                self.added.kept.append(i)
                before = known.get(one.id)
                now = (document.digest, document.pipeline, document.metadata)
                if before is not None and (before.digest, before.pipeline, before.metadata) == now:
                    self.added.unchanged += 1
                elif one.id not in documents:
                    documents[one.id] = document
                    self.added.changed += before is not None
                    self.added.new += before is None
                    self.added.passages += 1
            if documents:
                self._record_space()
            self._catalogue.write(list(documents.values()))
            self._shown.advance(len(ready))
        return self.added

    def _record_space(self) -> None:
        """Records the space unless it is; UsageError if another process has just done so for other vectors."""
        if not self._recorded:
            _check_fit(self._catalogue.claim_space(self._space), self._space.dim, self._space.metric)
            self._recorded = True

    def _refuse_other_vector(self, document: Document) -> None:
        """Raises ItemError if an earlier item of the call, of equal content, has the same id and another vector."""
        if self._first_vectors.setdefault(document.id, document.digest) != document.digest:
            raise ItemError(
                f"its id {document.id!r} is also that of an earlier item with another vector: give ids"
            )

    def _document(self, one: Ready, vector: Floats, *, is_finite: bool) -> Document:
        """Returns the document of an item and its vector, (1, dim); ItemError if the vector is not finite."""
        if not is_finite:
            raise ItemError(
                f"{int((~np.isfinite(vector)).sum())} of {vector.size} numbers of its vector are NaN or infinite"
            )
        content = one.content
        digest = hashlib.blake2b(content.digest + vector.tobytes(), digest_size=len(content.digest)).digest()
        extent = len(content.text) if content.modality == self._text_name else 0
        passage = Passage(
            0,
            extent,
            1 if content.text else None,
            content.text,
            content.modality,
            {self._space.name: vector},
            modality.get(content.modality).span_unit,
        )
        return Document(
            id=one.id,
            modality=content.modality,
            pipeline=self._pipeline,
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
