"""Search in a collection by vectors, by words, or by both, and making hits of the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from omnivec.collection.ranking import Ranked, Ranking, fused
from omnivec.inputs.modality import modalities
from omnivec.store.connections import damaged
from omnivec.store.opening import FILE
from omnivec.store.sqlite import Catalogue
from omnivec.types import Floats, Hit, Keys

Mode = Literal["vector", "text", "hybrid"]
BY_MEANING: Mode = "vector"
WORDS: Mode = "text"
HYBRID: Mode = "hybrid"

BY_WORDS = "text search"
"""Replaces the name of the space for passages that were found only by their words."""

_DEEP = 50
"""Smallest number of passages in each of the lists that a hybrid search fuses."""


@dataclass(frozen=True, eq=False)
class Question:
    """A query with its options.

    Attributes:
        text: text of the query; "" for an image.
        vectors: maps the name of each space whose model reads the query to its vector (dim,) in it.
        mode: "vector", "text" or "hybrid".
        k: number of results.
        allowed: keys of the passages that may be found; None for all.
        per_document: whether to return only the best passage of each document.
        space: name of the space for passages that were found only by words in hybrid mode.
    """

    text: str
    vectors: Mapping[str, Floats]
    mode: Mode
    k: int
    allowed: Keys | None = None
    per_document: bool = False
    space: str = BY_WORDS


def answer(catalogue: Catalogue, ranking: Ranking, question: Question) -> list[Ranked]:
    """Returns the k passages that match best; the caller holds a snapshot."""
    depth = question.k
    while True:
        ranked = _ranked(catalogue, ranking, question, depth)
        if not question.per_document:
            return ranked[: question.k]
        best = _first_of_each_document(catalogue, ranked)
        if len(best) >= question.k or len(ranked) < depth:
            return best[: question.k]
        depth *= 4


def _ranked(catalogue: Catalogue, ranking: Ranking, question: Question, depth: int) -> list[Ranked]:
    """Returns at least `depth` passages, or all that match, best first."""
    if question.mode == HYBRID:
        deep = max(_DEEP, 4 * depth)
        near = ranking.nearest(question.vectors, deep, question.allowed)
        by_words = catalogue.text_search(question.text, deep, question.allowed)
        wordless = catalogue.wordless(np.array([one.key for one in near], np.int64))
        return fused(near, by_words, question.space, wordless)
    if question.mode == WORDS:
        by_words = catalogue.text_search(question.text, depth, question.allowed)
        return [Ranked(key, score, BY_WORDS) for key, score in by_words]
    return ranking.nearest(question.vectors, depth, question.allowed)


def _first_of_each_document(catalogue: Catalogue, ranked: list[Ranked]) -> list[Ranked]:
    owner = catalogue.documents_of(np.array([one.key for one in ranked], np.int64))
    firsts: dict[int, Ranked] = {}
    for one in ranked:
        firsts.setdefault(owner[one.key], one)
    return list(firsts.values())


def hits(catalogue: Catalogue, ranked: list[Ranked], words: str | None = None) -> list[Hit]:
    """Makes hits of ranked passages.

    Args:
        catalogue: the catalogue; the caller holds a snapshot.
        ranked: the passages, best first.
        words: text of the query, whose words are located in the passages; None locates nothing.

    Raises:
        CollectionDamaged: a passage has an unknown modality.
    """
    keys = np.array([one.key for one in ranked], np.int64)
    passages = catalogue.passages(keys, whole=True)
    units = {name: record.span_unit for name, record in modalities().items()}
    if unknown := {passage.modality for passage in passages.values() if passage.unit is None} - units.keys():
        raise damaged(
            catalogue.folder / FILE,
            f"a passage has the modality {min(unknown)!r}, which no installed package provides",
        )
    marked = {} if words is None else catalogue.matches(words, keys)
    return [
        Hit(
            id=f"{passage.document}#{passage.ordinal}",
            document=passage.document,
            span=(passage.start, passage.end),
            line=passage.line,
            modality=passage.modality,
            space=one.space,
            score=one.score,
            text=passage.text,
            metadata=passage.metadata,
            matches=marked.get(one.key, ()),
            span_unit=units[passage.modality] if passage.unit is None else passage.unit,
        )
        for one in ranked
        if (passage := passages.get(one.key)) is not None
    ]
