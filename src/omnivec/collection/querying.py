"""The part of `Collection` that searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex, get_args

import numpy as np

from omnivec.collection.opened import Opened
from omnivec.collection.ranking import target
from omnivec.collection.searching import BY_MEANING, HYBRID, WORDS, Mode, Question, answer, hits
from omnivec.errors import UsageError
from omnivec.inputs import modality as modalities
from omnivec.inputs.content import Content
from omnivec.inputs.items import texts
from omnivec.inputs.reading import content_of
from omnivec.types import Floats, Hit, Keys, ModalityName
from omnivec.validation import arguments

_MOST = 2**40
"""Largest k; more passages than a collection can have, and a number that SQLite can hold."""


class Querying(Opened):
    """Searches in a collection."""

    def search(
        self,
        query: Any,
        k: SupportsIndex = 10,
        where: Mapping[str, Any] | None = None,
        mode: Mode | None = None,
        *,
        under: str | Path | None = None,
        per_document: bool = False,
    ) -> list[Hit]:
        """Finds the passages that match a query best, in all spaces whose model reads it.

        Args:
            query: a str is a text, a pathlib.Path a file, a PIL image or a uint8 array (h, w, 3) an image.
            k: largest number of results.
            where: a filter on metadata, such as {"year": {"$gte": 2024}}; see docs/collection.md.
            mode: "vector" searches by meaning, "text" by words (BM25), "hybrid" by both (reciprocal rank fusion); None
                is "hybrid" for a text, "text" for one that no model reads, and otherwise "vector".
            under: only documents from this file, or from files in this folder.
            per_document: whether to return only the best passage of each document.

        Returns:
            At most k hits, best first.

        Raises:
            ItemError: the query cannot be read.
            FilterError: `where` cannot be parsed.
            UsageError: no space has a model that reads the query, or an image is searched for by words.

        Examples:
            >>> [hit.document for hit in notes.search("plans for money", k=3, where={"year": {"$gte": 2025}})]
            ['budget 2026']
        """
        if mode is not None:
            mode = arguments.choice("mode", mode, get_args(Mode))
        k = min(arguments.whole("k", k), _MOST)
        asked = content_of(query)
        in_words = asked.modality == modalities.written()
        if mode is None:
            mode = self._usual_mode(asked.modality) if in_words else BY_MEANING
        if not in_words and mode != BY_MEANING:
            one = modalities.get(asked.modality).one
            raise UsageError(f"mode={mode!r} searches by words, but the query is {one}: use mode='vector'")
        vectors = self._query_vectors(asked, mode) if mode != WORDS else {}
        with self._catalogue.snapshot():
            recorded = self._spaces.recorded(modalities.written())
            question = Question(
                asked.text,
                vectors,
                mode,
                k,
                self._allowed(where, under),
                arguments.flag("per_document", per_document),
                recorded.name if recorded else modalities.written(),
            )
            ranked = answer(self._catalogue, self._ranking, question)
            return hits(self._catalogue, ranked, None if mode == BY_MEANING else asked.text)

    def _usual_mode(self, modality: ModalityName) -> Mode:
        """Returns the mode for queries of words: by words alone if no model reads them, as for sounds."""
        if not self._catalogue.has_words():
            return BY_MEANING
        return HYBRID if self._spaces.spaces_for_query(modality) else WORDS

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

        In each space that contains a liked document, the query is mean(like) + (mean(like) - mean(unlike)).

        Args:
            like: ids of documents to be similar to, at least one.
            unlike: ids of documents to be dissimilar to.
            k: largest number of results.
            where: a filter on metadata, as for `search`.

        Returns:
            At most k hits, best first.

        Raises:
            UsageError: an id is not in the collection, or `like` is empty.
        """
        k = min(arguments.whole("k", k), _MOST)
        wanted, unwanted = texts(like, "like"), texts(unlike, "unlike")
        if not wanted:
            raise UsageError("recommend needs at least one id in `like`")
        with self._catalogue.snapshot():
            liked, disliked = self._keys_of(wanted), self._keys_of(unwanted)
            targets = {}
            for space in self._catalogue.spaces():
                near, far = (self._catalogue.vectors(space, keys)[1] for keys in (liked, disliked))
                if len(near):
                    targets[space] = target(near, far)
            shown = {*liked.tolist(), *disliked.tolist()}
            allowed = None if where is None else self._catalogue.passage_keys(where)
            ranked = self._ranking.nearest(targets, k + len(shown), allowed)
            return hits(self._catalogue, [one for one in ranked if one.key not in shown][:k])

    def _keys_of(self, names: Sequence[str]) -> Keys:
        missing = [name for name in names if not len(self._catalogue.keys_of([name]))]
        if missing:
            raise UsageError(f"no document {missing[0]!r} in {self.folder}")
        return self._catalogue.keys_of(names)

    def _query_vectors(self, asked: Content, mode: Mode) -> dict[str, Floats]:
        """Maps the name of each space whose model reads the query to the vector (dim,) of the query in it."""
        spaces = self._spaces.spaces_for_query(asked.modality)
        by_words = mode != BY_MEANING
        closed = () if spaces else self._spaces.unsearchable_spaces(asked.modality, by_words=by_words)
        if closed:
            raise UsageError(f"{self.folder}: {'; '.join(closed)}")
        return {name: self._spaces[name].encode_query(asked.item) for name in spaces}
