"""Search in a collection by vectors, by words, or by both, and making hits of the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from omnivec.collection.ranking import Ranked, Ranking, depth_of, fused, in_rounds
from omnivec.inputs.modality import modalities
from omnivec.store.connections import damaged
from omnivec.store.opening import FILE
from omnivec.store.records import StoredPassage
from omnivec.store.sqlite import Catalogue
from omnivec.types import Hit, Ints, Keys

Mode = Literal["vector", "text", "hybrid"]
BY_MEANING: Mode = "vector"
WORDS: Mode = "text"
HYBRID: Mode = "hybrid"

BY_WORDS = "text search"
"""Replaces the name of the space for passages that were found only by their words."""

EQUAL = (1.0, 1.0)
"""Weights of the lists by vectors and by words, unless others are given."""

_QUERIES_AT_ONCE = 256
_HITS_AT_ONCE = 1 << 18
"""Most passages that are ranked for the queries that are answered together."""


@dataclass(frozen=True, eq=False)
class Question:
    """A query.

    Attributes:
        text: text of the query; "" for an image or a vector.
        vectors: maps the name of each space that is searched to the query in it; see `Ranking.nearest`.
    """

    text: str
    vectors: Mapping[str, Any]


class Options(NamedTuple):
    """How the answers to questions are chosen.

    Attributes:
        mode: "vector", "text" or "hybrid"; None until the query is known.
        k: number of results.
        offset: how many better results are left out.
        allowed: keys of the passages that may be found; None for all.
        allowed_by_words: the same for those that are found by their words.
        per_document: whether to return only the best passage of each document.
        least: smallest score of a result; None for any.
        weights: of the lists by vectors and by words in hybrid mode.
        space: name of the space for passages that were found only by words in hybrid mode.
        fields: names of metadata fields by which the results are sorted, "-" before those in descending order.
    """

    mode: Mode | None
    k: int
    offset: int = 0
    allowed: Keys | None = None
    allowed_by_words: Keys | None = None
    per_document: bool = False
    least: float | None = None
    weights: tuple[float, float] = EQUAL
    space: str = BY_WORDS
    fields: tuple[str, ...] = ()


@dataclass(eq=False)
class Answers:
    """The result of `Collection.search_many` for those of its queries that did not fail.

    Attributes:
        hits: the hits of each of these queries, best first.
        kept: (m,) int64, the index of the query of each.
        failures: maps the index of each query that failed to the reason, one line.
    """

    hits: list[list[Hit]]
    kept: Ints
    failures: dict[int, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Answers: {len(self.kept):,} queries answered, {len(self.failures):,} failed>"

    def __len__(self) -> int:
        return len(self.kept)


def answers(
    catalogue: Catalogue, ranking: Ranking, questions: Sequence[Question], options: Options
) -> list[list[Hit]]:
    """Returns the hits of each question, as if it were the only one; the caller holds a snapshot."""
    found = []
    for group in _groups(questions, options.offset + options.k):
        ranked = _answered(catalogue, ranking, group, options)
        texts = [one.text for one in group] if options.mode != BY_MEANING else None
        found += hits(catalogue, ranked, texts)
    return [in_order(one, options.fields) for one in found] if options.fields else found


def _groups(questions: Sequence[Question], depth: int) -> Iterator[list[Question]]:
    """Splits questions into runs that are searched for in the same spaces, of bounded size."""
    most = max(1, min(_QUERIES_AT_ONCE, _HITS_AT_ONCE // max(1, depth)))
    group: list[Question] = []
    for one in questions:
        if group and (len(group) == most or one.vectors.keys() != group[0].vectors.keys()):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _answered(
    catalogue: Catalogue, ranking: Ranking, questions: Sequence[Question], options: Options
) -> list[list[Ranked]]:
    """Returns the results from `offset` on for questions that are searched for in the same spaces."""
    wanted = depth = options.offset + options.k
    results: dict[int, list[Ranked]] = {}
    waiting = list(range(len(questions)))
    while waiting:
        lists = _ranked(catalogue, ranking, [questions[i] for i in waiting], options, depth)
        for i, ranked in zip(waiting, lists, strict=True):
            better = (
                ranked if options.least is None else [one for one in ranked if one.score >= options.least]
            )
            best = _first_of_each_document(catalogue, better) if options.per_document else better
            if len(best) >= wanted or len(better) < depth:
                results[i] = best[options.offset : wanted]
        waiting = [i for i in waiting if i not in results]
        depth *= 4
    return [results[i] for i in range(len(questions))]


def _ranked(
    catalogue: Catalogue, ranking: Ranking, questions: Sequence[Question], options: Options, depth: int
) -> list[list[Ranked]]:
    """Returns for each question `depth` passages, or all that match, best first; fewer are the first of more."""
    if options.mode == HYBRID:
        return _hybrid(catalogue, ranking, questions, options, depth)
    if options.mode == WORDS:
        return [
            [Ranked(key, score, BY_WORDS) for key, score in by_words]
            for by_words in (
                catalogue.text_search(one.text, depth, options.allowed_by_words) for one in questions
            )
        ]
    return _nearest(ranking, questions, options, depth)


def _nearest(
    ranking: Ranking, questions: Sequence[Question], options: Options, depth: int
) -> list[list[Ranked]]:
    vectors = {name: [one.vectors[name] for one in questions] for name in questions[0].vectors}
    return ranking.nearest_to_each(vectors, depth, options.allowed) if vectors else [[] for _ in questions]


def _hybrid(
    catalogue: Catalogue, ranking: Ranking, questions: Sequence[Question], options: Options, depth: int
) -> list[list[Ranked]]:
    deep = depth_of(depth)
    by_vector = _nearest(ranking, questions, options, deep)
    fusions = []
    for one, near in zip(questions, by_vector, strict=True):
        by_words = (
            catalogue.text_search(one.text, deep, options.allowed_by_words) if options.weights[1] else []
        )
        wordless = catalogue.wordless(np.array([one.key for one in near], np.int64))

        def fuse(
            depth: int,
            near: Sequence[Ranked] = near,
            by_words: Sequence[tuple[int, float]] = by_words,
            wordless: set[int] = wordless,
        ) -> list[Ranked]:
            return fused(near[:depth], by_words[:depth], options.space, wordless, options.weights)

        fusions.append(in_rounds(depth, max(len(near), len(by_words)), fuse))
    return fusions


def _first_of_each_document(catalogue: Catalogue, ranked: list[Ranked]) -> list[Ranked]:
    owner = catalogue.documents_of(np.array([one.key for one in ranked], np.int64))
    firsts: dict[int, Ranked] = {}
    for one in ranked:
        firsts.setdefault(owner[one.key], one)
    return list(firsts.values())


def hits(
    catalogue: Catalogue, ranked: Sequence[Sequence[Ranked]], texts: Sequence[str] | None = None
) -> list[list[Hit]]:
    """Makes hits of ranked passages.

    Args:
        catalogue: the catalogue; the caller holds a snapshot.
        ranked: the passages found for each query, best first.
        texts: text of each query, whose words are located in its passages; None locates nothing.

    Raises:
        CollectionDamaged: a passage has an unknown modality or unit.
    """
    passages = catalogue.passages(
        np.array(sorted({one.key for found in ranked for one in found}), np.int64), whole=True
    )
    units = {name: record.span_unit for name, record in modalities().items()}
    if unknown := {passage.modality for passage in passages.values()} - units.keys():
        raise damaged(
            catalogue.folder / FILE,
            f"a passage has the modality {min(unknown)!r}, which no installed package provides",
        )
    foreign = {passage.unit for passage in passages.values()} - {None, "", *units.values()}
    if foreign:
        raise damaged(
            catalogue.folder / FILE,
            f"the span of a passage counts {next(iter(foreign))!r}, which no modality of an installed package does",
        )
    marked: list[Mapping[int, tuple[tuple[int, int], ...]]] = [{} for _ in ranked]
    if texts is not None:
        marked = [
            catalogue.matches(text, np.array([one.key for one in found], np.int64))
            for text, found in zip(texts, ranked, strict=True)
        ]
    return [
        [_hit(one, passages[one.key], units, matches.get(one.key, ())) for one in found]
        for found, matches in zip(ranked, marked, strict=True)
    ]


def _hit(
    ranked: Ranked, passage: StoredPassage, units: Mapping[str, str], matches: tuple[tuple[int, int], ...]
) -> Hit:
    return Hit(
        id=f"{passage.document}#{passage.ordinal}",
        document=passage.document,
        span=(passage.start, passage.end),
        line=passage.line,
        modality=passage.modality,
        space=ranked.space,
        score=ranked.score,
        text=passage.text,
        metadata=passage.metadata,
        matches=matches,
        span_unit=units[passage.modality] if passage.unit is None else passage.unit,
    )


def in_order(found: Sequence[Hit], fields: Sequence[str]) -> list[Hit]:
    """Sorts hits by metadata fields as `store.ordering` sorts documents; equal ones stay in their order.

    In both directions numbers come first, then texts, then other values, and at last hits in which the field is missing
    or null.
    """
    ordered = list(found)
    for name in reversed(fields):
        bare = name[1:] if name.startswith(("-", "+")) else name
        groups: list[list[tuple[Any, Hit]]] = [[], [], [], []]
        for hit in ordered:
            value = _value(hit.metadata, bare)
            groups[_group(value)].append((value, hit))
        for group in groups[:2]:
            group.sort(key=lambda pair: pair[0], reverse=name.startswith("-"))
        ordered = [hit for group in groups for _, hit in group]
    return ordered


def _value(metadata: Mapping[str, Any], name: str) -> Any:
    """Returns a field as filters find it: the key "a.b" if there is one, else "b" in the dict "a"."""
    if name in metadata:
        return metadata[name]
    first, dot, rest = name.partition(".")
    inner = metadata.get(first)
    return _value(inner, rest) if dot and isinstance(inner, Mapping) else None


def _group(value: Any) -> int:
    """Returns the place of a value's type in an order: a number 0, a text 1, another value 2, none 3."""
    if value is None:
        return 3
    if isinstance(value, bool):
        return 2
    return 0 if isinstance(value, int | float) else 1 if isinstance(value, str) else 2
