"""The part of `Collection` that searches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex, get_args

import numpy as np

from omnivec.collection import queries as vector_queries
from omnivec.collection.opened import Opened
from omnivec.collection.ranking import target
from omnivec.collection.searching import (
    BY_MEANING,
    BY_WORDS,
    EQUAL,
    HYBRID,
    WORDS,
    Answers,
    Mode,
    Options,
    Question,
    answers,
    hits,
)
from omnivec.collection.space_facts import current, reads
from omnivec.errors import ItemError, ItemErrors, UsageError
from omnivec.inputs import modality as modalities
from omnivec.inputs.content import Content
from omnivec.inputs.items import texts
from omnivec.inputs.reading import content_of
from omnivec.store.records import ACTIVE
from omnivec.types import DENSE, Floats, Hit, Keys, ModalityName
from omnivec.validation import arguments
from omnivec.validation.reasons import one_line

_MOST = 2**40
"""Largest k; more passages than a collection can have, and a number that SQLite can hold."""


class Querying(Opened):
    """Searches in a collection."""

    def search(  # noqa: PLR0913 - independent options, keyword-only
        self,
        query: Any,
        k: SupportsIndex = 10,
        where: Mapping[str, Any] | None = None,
        mode: Mode | None = None,
        *,
        under: str | Path | None = None,
        per_document: bool = False,
        space: str | Sequence[str] | None = None,
        offset: SupportsIndex = 0,
        min_score: float | None = None,
        order_by: str | Sequence[str] | None = None,
        weights: Sequence[float] = EQUAL,
    ) -> list[Hit]:
        """Finds the passages that match a query best.

        Args:
            query: a str is a text, a pathlib.Path a file, a PIL image or uint8 (h, w, 3) an image; an array (dim,) or a
                list of finite numbers is a vector. For a vector of zeros every passage scores 0 by cosine.
            k: largest number of results.
            where: a filter on metadata, such as {"year": {"$gte": 2024}}; see docs/collection.md.
            mode: "vector" searches by meaning, "text" by words (BM25), "hybrid" by both (reciprocal rank fusion); None
                is "hybrid" for a text, "text" for one that no model reads, and otherwise "vector".
            under: only documents from this file, or from files in this folder.
            per_document: whether to return only the best passage of each document.
            space: name of the space to search, or several names; None searches for an item in the main space of each
                modality whose model reads it, and for a vector in the only space of its dim.
            offset: how many better results are left out; pages of k results repeat and omit nothing.
            min_score: smallest score of a result: a similarity in one space, BM25 in the mode "text".
            order_by: a metadata field, "-year" for descending order, or several: the k results are sorted by it, those
                without it last.
            weights: in the mode "hybrid", how much the ranks by vectors and by words count; a list of weight 0 is not
                used.

        Returns:
            At most k hits, best first.

        Raises:
            ItemError: the query cannot be read.
            FilterError: `where` cannot be parsed.
            UsageError: no space has a model that reads the query, an image is searched for by words, or another option
                does not fit the query.

        Examples:
            >>> [hit.document for hit in notes.search("plans for money", k=3, where={"year": {"$gte": 2025}})]
            ['budget 2026']
        """
        chosen = self._options(k, mode, per_document, offset, min_score, order_by, weights)
        named = self._named(space)
        vector = vector_queries.vector_of(query)
        if vector is not None:
            return self._near(vector, named, _by_meaning(chosen, "a vector"), where, under)
        asked = content_of(query)
        with self._catalogue.snapshot():  # not one with the search: a model may be loaded in between
            spaces, chosen = self._item_options(asked.modality, named, chosen)
        question = Question(asked.text, {name: self._encoded(name, asked.item) for name in spaces})
        return self._found([question], chosen, where, under, named)[0]

    def search_many(  # noqa: PLR0913 - those of `search`
        self,
        queries: Any,
        k: SupportsIndex = 10,
        where: Mapping[str, Any] | None = None,
        mode: Mode | None = None,
        *,
        under: str | Path | None = None,
        per_document: bool = False,
        space: str | Sequence[str] | None = None,
        offset: SupportsIndex = 0,
        min_score: float | None = None,
        order_by: str | Sequence[str] | None = None,
        weights: Sequence[float] = EQUAL,
    ) -> list[list[Hit]]:
        """Finds for each of several queries what `search` finds, in one state of the collection and much faster.

        `queries` is an iterable of queries of one kind: texts, files, images, or vectors; an array (n, dim) is n
        vectors. They are embedded in batches and compared with all passages at once. The other arguments are those of
        `search`.

        Returns:
            For each query at most k hits, best first.

        Raises:
            ItemErrors: some queries failed; .failures has the reasons, .partial the `Answers` of the others.
            UsageError: queries of different kinds, or as for `search`.

        Examples:
            >>> [[hit.document for hit in found] for found in notes.search_many(["money", "a kitten"], k=1)]
            [['budget 2026'], ['cat']]
        """
        chosen = self._options(k, mode, per_document, offset, min_score, order_by, weights)
        named, failures = self._named(space), dict[int, str]()
        listed = vector_queries.listed(queries)
        vectors = _each(dict(enumerate(listed)), vector_queries.vector_of, failures)
        items = {i: listed[i] for i, vector in vectors.items() if vector is None}
        if items and len(items) < len(vectors):
            raise UsageError(
                f"{len(vectors) - len(items):,} of {len(vectors):,} queries are vectors: search for one kind at a time"
            )
        if items:
            contents = _each(items, content_of, failures)
            questions, chosen = self._item_questions(contents, named, chosen, failures)
        else:
            questions = self._vector_questions(
                {i: v for i, v in vectors.items() if v is not None}, named, failures
            )
            chosen = _by_meaning(chosen, "vectors") if questions else chosen
        found = self._found(list(questions.values()), chosen, where, under, named)
        if failures:
            partial = Answers(found, np.array(list(questions), np.int64), failures)
            raise ItemErrors(
                failures, partial, "The hits of the others are in .partial.hits, in the order of .kept."
            )
        return found

    def _options(
        self,
        k: SupportsIndex,
        mode: Mode | None,
        per_document: bool,
        offset: SupportsIndex,
        min_score: float | None,
        order_by: str | Sequence[str] | None,
        weights: Sequence[float],
    ) -> Options:
        """Checks the options; the mode stays None, "hybrid" in effect, until the query is known."""
        if mode is not None:
            mode = arguments.choice("mode", mode, get_args(Mode))
        fields = () if order_by is None else tuple(texts(order_by, "order_by"))
        if any(name.lstrip("+-")[:1] in ("", "$") for name in fields):
            raise UsageError(
                f"order_by={order_by!r}: name a field of the metadata, such as 'year' or '-year'"
            )
        return Options(
            mode,
            min(arguments.whole("k", k), _MOST),
            offset=min(arguments.whole("offset", offset, 0), _MOST),
            per_document=arguments.flag("per_document", per_document),
            least=None if min_score is None else arguments.real("min_score", min_score),
            weights=_weights(weights),
            fields=fields,
        )

    def _named(self, space: str | Sequence[str] | None) -> list[str]:
        """Returns the names of the spaces that the caller chose; an empty list for none."""
        if space is None:
            return []
        known = self._spaces.records()
        named = list(dict.fromkeys(current(known, name) for name in texts(space, "space")))
        if not named:
            raise UsageError("space=[]: name a space, or leave it out")
        for name in named:
            if name not in known:
                raise UsageError(
                    f"no space {name!r} in {self.folder}; there are: {', '.join(known) or 'none'}"
                )
            if known[name].state != ACTIVE:
                raise UsageError(f"space={name!r}: this space is {known[name].state}; search another one")
        return named

    def _vector_question(self, vector: Floats, named: Sequence[str]) -> Question:
        spaces = {name: one for name, one in self._spaces.records().items() if one.state == ACTIVE}
        if not spaces:
            return Question("", {})
        space = vector_queries.space_of(vector, spaces, named, self.folder)
        return Question("", {space: vector_queries.in_space(vector, spaces[space])})

    def _vector_questions(
        self, vectors: Mapping[int, Floats], named: Sequence[str], failures: dict[int, str]
    ) -> dict[int, Question]:
        if len({len(vector) for vector in vectors.values()}) == 1:  # what is wrong is wrong with all of them
            self._vector_question(next(iter(vectors.values())), named)
        return _each(vectors, lambda vector: self._vector_question(vector, named), failures)

    def _item_questions(
        self,
        contents: Mapping[int, Content],
        named: Sequence[str],
        chosen: Options,
        failures: dict[int, str],
    ) -> tuple[dict[int, Question], Options]:
        """Embeds queries of one modality in each space; those that fail are added to `failures`."""
        kinds = list(dict.fromkeys(one.modality for one in contents.values()))
        if len(kinds) > 1:
            raise UsageError(f"queries are {modalities.plural(kinds)}: search for one kind at a time")
        if not kinds:
            return {}, chosen
        spaces, chosen = self._item_options(kinds[0], named, chosen)
        found: dict[str, dict[int, Any]] = {}
        for name in spaces:
            indices = [i for i in contents if i not in failures]
            rows, failed = vector_queries.encoded(self._spaces[name], [contents[i].item for i in indices])
            found[name] = {indices[place]: row for place, row in rows.items()}
            failures.update({indices[place]: why for place, why in failed.items()})
        questions = {
            i: Question(one.text, {name: found[name][i] for name in spaces})
            for i, one in contents.items()
            if i not in failures
        }
        return questions, chosen

    def _item_options(
        self, modality: ModalityName, named: Sequence[str], chosen: Options
    ) -> tuple[list[str], Options]:
        """Returns the spaces in which an item is searched for, and the options with its mode."""
        in_words = modality == modalities.written()
        if not in_words:
            chosen = _by_meaning(chosen, modalities.get(modality).one)
        elif chosen.mode is None:
            chosen = chosen._replace(mode=self._usual_mode(modality, named))
        spaces = self._searched(modality, named, chosen.mode)
        if chosen.mode != HYBRID and chosen.weights != EQUAL:
            raise UsageError(
                f"weights={chosen.weights} are those of mode='hybrid', but the mode is {chosen.mode!r}"
            )
        if chosen.least is not None:
            _check_least(chosen, spaces)
        if chosen.mode == HYBRID and not chosen.weights[0]:
            spaces = []
        return spaces, chosen

    def _encoded(self, space: str, item: Any) -> Any:
        model = self._spaces[space]
        if model.kind == DENSE:
            return model.encode_query(item)
        rows, failures = vector_queries.encoded(model, [item])
        if failures:
            raise ItemError(failures[0])
        return rows[0]

    def _searched(self, modality: ModalityName, named: Sequence[str], mode: Mode | None) -> list[str]:
        """Returns the names of the spaces in which a query of a modality is compared with vectors."""
        if mode == WORDS:
            return []
        records = self._spaces.records()
        for name in named:
            if modality not in reads(records[name]):
                model = records[name].model
                whose = (
                    f"its model, {model}, does not read"
                    if model
                    else "it holds vectors of your own, and no model reads"
                )
                raise UsageError(f"space={name!r}: {whose} {modalities.get(modality).plural}")
        spaces = list(named) or self._spaces.spaces_for_query(modality)
        by_words = mode != BY_MEANING
        closed = () if spaces else self._spaces.unsearchable_spaces(modality, by_words=by_words)
        if closed:
            raise UsageError(f"{self.folder}: {'; '.join(closed)}")
        if not spaces and not by_words and any(not one.model for one in records.values()):
            raise UsageError(
                f"{self.folder} holds vectors of your own alone, and no model reads {modalities.get(modality).plural}: "
                "search with a vector, or for words, mode='text'"
            )
        return spaces

    def _near(
        self,
        vector: Floats,
        named: Sequence[str],
        chosen: Options,
        where: Mapping[str, Any] | None,
        under: str | Path | None,
    ) -> list[Hit]:
        with self._catalogue.snapshot():  # one for all that is read
            return self._found([self._vector_question(vector, named)], chosen, where, under, named)[0]

    def _found(
        self,
        questions: Sequence[Question],
        chosen: Options,
        where: Mapping[str, Any] | None,
        under: str | Path | None,
        named: Sequence[str],
    ) -> list[list[Hit]]:
        """Answers questions in one state of the collection."""
        with self._catalogue.snapshot():
            recorded = self._spaces.recorded(modalities.written()) if chosen.mode == HYBRID else None
            allowed = by_words = self._allowed(where, under)
            if named and chosen.mode != BY_MEANING:
                inside = self._ranking.passages(named)
                by_words = inside if allowed is None else np.intersect1d(allowed, inside, assume_unique=True)
            options = chosen._replace(
                allowed=allowed,
                allowed_by_words=by_words,
                space=recorded.name if recorded else BY_WORDS,
            )
            return answers(self._catalogue, self._ranking, questions, options)

    def _usual_mode(self, modality: ModalityName, named: Sequence[str]) -> Mode:
        """Returns the mode for queries of words: by words alone if no model reads them, as for sounds."""
        if not self._catalogue.has_words():
            return BY_MEANING
        return HYBRID if named or self._spaces.spaces_for_query(modality) else WORDS

    def _allowed(self, where: Mapping[str, Any] | None, under: str | Path | None) -> Keys | None:
        """Returns the keys of the passages that may be found; None for all."""
        allowed = None if where is None else self._catalogue.passage_keys(where)
        if under is None:
            return allowed
        below = self._catalogue.keys_under(self._names.of(arguments.path("under", under)))
        if not len(below):
            indexed = ", ".join(self._catalogue.roots()) or "none"
            raise UsageError(f"no document of {self.folder} is a file in {under}; indexed paths: {indexed}")
        return below if allowed is None else np.intersect1d(allowed, below, assume_unique=True)

    def unreached(self, modality: ModalityName) -> tuple[str, ...]:
        """Describes the spaces that queries of a modality cannot search, because their model does not read it."""
        return self._spaces.unsearchable_spaces(arguments.choice("modality", modality, modalities.names()))

    def recommend(
        self,
        like: str | Sequence[str],
        unlike: str | Sequence[str] = (),
        k: SupportsIndex = 10,
        where: Mapping[str, Any] | None = None,
    ) -> list[Hit]:
        """Finds passages that are similar to some documents and dissimilar to others, which are not among the results.

        In each main space that contains a liked document, the query is mean(like) + (mean(like) - mean(unlike)).

        Args:
            like: ids of documents to be similar to, at least one.
            unlike: ids of documents to be dissimilar to.
            k: largest number of results.
            where: a filter on metadata, as for `search`.

        Returns:
            At most k hits, best first.

        Raises:
            UsageError: an id is not in the collection, `like` is empty, or its documents have vectors only in spaces of
                several vectors or of sparse ones.
        """
        k = min(arguments.whole("k", k), _MOST)
        wanted, unwanted = texts(like, "like"), texts(unlike, "unlike")
        if not wanted:
            raise UsageError("recommend needs at least one id in `like`")
        with self._catalogue.snapshot():
            liked, disliked = self._keys_of(wanted), self._keys_of(unwanted)
            targets = self._targets(liked, disliked)
            shown = {*liked.tolist(), *disliked.tolist()}
            allowed = None if where is None else self._catalogue.passage_keys(where)
            ranked = self._ranking.nearest(targets, k + len(shown), allowed)
            return hits(self._catalogue, [[one for one in ranked if one.key not in shown][:k]])[0]

    def _targets(self, liked: Keys, disliked: Keys) -> dict[str, Floats]:
        """Maps the name of each space to a query for it; further spaces count for passages that the main ones lack."""
        records, targets, covered = self._spaces.records(), dict[str, Floats](), np.zeros(0, np.int64)
        main = [one.name for one in map(self._spaces.recorded, modalities.readable()) if one is not None]
        for space in dict.fromkeys([*main, *records]):
            if records[space].kind != DENSE or records[space].state != ACTIVE:
                continue
            keys, near = self._catalogue.vectors(space, liked)
            if len(np.setdiff1d(keys, covered)):
                targets[space] = target(near, self._catalogue.vectors(space, disliked)[1])
                covered = np.union1d(covered, keys)
        if not targets and len(liked):
            self._catalogue.refuse_strays()  # their vectors may have been there
            raise UsageError(
                f"the documents in `like` have no single vectors that could be averaged; spaces: "
                f"{', '.join(f'{name} ({one.kind})' for name, one in records.items())}"
            )
        return targets

    def _keys_of(self, names: Sequence[str]) -> Keys:
        missing = [name for name in names if not len(self._catalogue.keys_of([name]))]
        if missing:
            raise UsageError(f"no document {missing[0]!r} in {self.folder}")
        return self._catalogue.keys_of(names)


def _weights(weights: Any) -> tuple[float, float]:
    """The weights of hybrid's two lists; UsageError unless they are two numbers, not negative, and not both 0."""
    values = weights.tolist() if isinstance(weights, np.ndarray) else weights
    if not isinstance(values, list | tuple) or len(values) != 2:
        raise UsageError(
            f"weights={arguments.said(weights)}: two numbers, of the ranks by vectors and by words"
        )
    near, in_words = (arguments.real("weights", one, 0) for one in values)
    if not near and not in_words:
        raise UsageError("weights=(0, 0) would find nothing: at least one must be above 0")
    return near, in_words


def _by_meaning(chosen: Options, what: str) -> Options:
    """The options for a query that has no words."""
    if chosen.mode not in (None, BY_MEANING):
        raise UsageError(
            f"mode={chosen.mode!r} searches by words, but the query is {what}: use mode='vector'"
        )
    if chosen.weights != EQUAL:
        raise UsageError(f"weights={chosen.weights} are those of mode='hybrid', but the query is {what}")
    return chosen._replace(mode=BY_MEANING)


def _check_least(chosen: Options, spaces: Sequence[str]) -> None:
    """Refuses a least score where scores are not those of one metric."""
    if chosen.mode == HYBRID:
        raise UsageError(
            f"min_score={chosen.least:g}: in the mode 'hybrid' scores are sums of reciprocal ranks, which do not say "
            "how similar a hit is; use mode='vector' (similarity) or mode='text' (BM25)"
        )
    if len(spaces) > 1:
        raise UsageError(
            f"min_score={chosen.least:g}: scores over {len(spaces)} spaces ({', '.join(spaces)}) are no similarities; "
            "name one of them with space="
        )


def _each(values: Mapping[int, Any], read: Callable[[Any], Any], failures: dict[int, str]) -> dict[int, Any]:
    """Applies a function to each query; those for which it raises are added to `failures`."""
    done = {}
    for i, value in values.items():
        try:
            done[i] = read(value)
        except (ItemError, UsageError) as error:
            failures[i] = one_line(error)
    return done
