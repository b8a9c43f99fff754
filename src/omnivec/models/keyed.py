"""An embedder that knows keys: words, nodes, products, documents; what is near them, and what they add up to."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args, overload

import numpy as np

from omnivec.errors import UnknownKey, UsageError
from omnivec.families._hooks import Labels
from omnivec.inputs.items import is_one, several, shown, text
from omnivec.inputs.items import texts as listed_texts
from omnivec.inputs.modality import written
from omnivec.models.embedder import Embedder
from omnivec.models.table import TableModel, table_model
from omnivec.tables.checks import first_rows
from omnivec.tables.io import write_table
from omnivec.tables.record import Table
from omnivec.types import Floats
from omnivec.validation.arguments import choice, real, said, whole
from omnivec.validation.arguments import path as arguments_path
from omnivec.vectors.analogies import Method, most_similar, odd_one_out
from omnivec.weights.card import card_of

Weighting = Literal["mean", "sif", "idf"]

UNKNOWN_SHOWN = 3
NEAR = 50_000
"""The first so many keys, the most frequent, are looked through for near spellings."""

SIF = 1e-3
"""Arora et al. 2017, section 3: a word's weight is a / (a + its share of the corpus)."""


class KeyedEmbedder(Embedder):
    """A loaded table; made by `omnivec.load` and by the recipes that train tables."""

    encoder: TableModel

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.name!r}: {len(self):,} keys, {self.dim} components, {self.metric}>"
        )

    @property
    def table(self) -> Table:
        """Keys, vectors and what belongs to them."""
        return self.encoder.table

    @property
    def keys(self) -> list[str]:
        """The keys, in the order of `vectors`; words by falling count where they were trained here."""
        return list(self.table.keys)

    @cached_property
    def vectors(self) -> Floats:
        """The vector of each key: (n, dim) float32."""
        rows = self.encoder.lookup.rows()
        return rows if rows.shape[1] == self.dim else np.ascontiguousarray(rows[:, : self.dim])

    def __len__(self) -> int:
        """How many keys there are."""
        return len(self.table)

    def __iter__(self) -> Iterator[str]:
        """The keys, in the order of `vectors`."""
        return iter(self.table.keys)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in self._places

    def __getitem__(self, keys: Any) -> Floats:
        """The vector (dim,) of a key, or those (n, dim) of several; see `vector`."""
        if isinstance(keys, str) or (isinstance(keys, np.ndarray) and not keys.ndim):
            return self.vector(text(keys, "keys"))
        rows = [self.vector(key) for key in listed_texts(keys, "keys")]
        return np.array(rows, np.float32).reshape(-1, self.dim)

    def vector(self, key: str) -> Floats:
        """The vector (dim,) of a key, or of a word that its subwords make up.

        Raises:
            UnknownKey: the table does not have it; the message names the nearest spellings.
        """
        key = text(key, "key")
        row = self.encoder.lookup.row(key)
        if row is None:
            raise self._unknown([key])
        return np.asarray(row, np.float32)[: self.dim]

    def spelled(self, key: str) -> str:
        """A key as the table has it: as given, or the first that differs in capitals alone, "King" for "king".

        Raises:
            UnknownKey: there is neither.
        """
        key = text(key, "key")
        if self.encoder.lookup.row(key) is not None:
            return key
        spelling = self._in_other_case(key)
        if spelling is None:
            raise self._unknown([key])
        return spelling

    def similarity(self, a: Any, b: Any) -> Floats:
        """Cosines of vectors, or of keys: n and m of them -> (n, m) float32; see `Embedder.similarity`."""
        return super().similarity(self._vectors_of(a), self._vectors_of(b))

    def similarity_pairwise(self, a: Any, b: Any) -> Floats:
        """Cosines of vectors, or of keys, in the same place: (n,) float32."""
        return super().similarity_pairwise(self._vectors_of(a), self._vectors_of(b))

    def most_similar(
        self,
        positive: Any = (),
        negative: Any = (),
        k: int | None = None,
        method: Method = "add",
        *,
        topn: int | None = None,
    ) -> list[tuple[str, float]]:
        """The keys that are most like some and unlike others, best first, with their scores.

        king - man + woman is `most_similar(["king", "woman"], ["man"])`. The keys given are never among the answers.

        Args:
            positive: what to be like: a key, a vector (dim,), or several of them; words that only subwords know may be
                among the keys.
            negative: what to be unlike, likewise.
            k: how many; 10 where it is not given.
            method: "add": the cosine to the sum of unit vectors (3CosAdd, Mikolov et al. 2013, arXiv:1301.3781); "mul":
                the product of similarities by that of dissimilarities (3CosMul, Levy and Goldberg 2014, W14-1618).
            topn: k, by gensim's name.

        Raises:
            UnknownKey: a key that the table does not have.
            UsageError: nothing to be like or unlike, a vector of another length, or k below 1.
        """
        if k is not None and topn is not None:
            raise UsageError(f"k={said(k)} and topn={said(topn)} mean the same: give one of them")
        count = whole("k", 10 if k is None else k) if topn is None else whole("topn", topn)
        wanted, unwanted = self._terms(positive, "positive"), self._terms(negative, "negative")
        rows, scores = most_similar(self.vectors, wanted, unwanted, count, method)
        keys = self.table.keys
        return [(keys[row], float(score)) for row, score in zip(rows.tolist(), scores, strict=True)]

    def odd_one_out(self, keys: Sequence[str]) -> str:
        """The key that is least like the others.

        Raises:
            UnknownKey: a key that the table does not have.
            UsageError: fewer than two keys.
        """
        listed = listed_texts(keys, "keys")
        if len(listed) < 2:
            raise UsageError(f"odd_one_out of {len(listed)} keys: give at least 2")
        return listed[odd_one_out(self[listed])]

    @overload  # a str is a sequence of str, and one text
    def predict(  # type: ignore[overload-overlap]
        self, texts: str, k: int = 1, threshold: float = 0.0
    ) -> list[tuple[str, float]]: ...

    @overload
    def predict(
        self, texts: Sequence[str], k: int = 1, threshold: float = 0.0
    ) -> list[list[tuple[str, float]]]: ...

    def predict(self, texts: Any, k: int = 1, threshold: float = 0.0) -> Any:
        """The most probable labels of each text, best first, with their probabilities.

        Args:
            texts: to be labelled, one or several.
            k: labels for each, at most as many as there are.
            threshold: labels that are less probable are left out; a text may have none left.

        Returns:
            (label, probability) pairs: a list for one text, a list of lists for several.

        Raises:
            UsageError: a table that was not trained on labels, something that is no text, k below 1, or a threshold
                that is no number from 0 to 1.
        """
        lookup = self.encoder.lookup
        if not isinstance(lookup, Labels):
            raise UsageError(f"{self.name} knows no labels: train one with the recipe fasttext_supervised")
        count, least = whole("k", k), real("threshold", threshold, 0, 1)
        labels = self.table.settings["labels"]
        probable = lookup.probabilities(listed_texts(texts, "texts"))
        best = np.argsort(-probable, axis=1, kind="stable")[:, :count]
        rows = [
            [(labels[i], float(row[i])) for i in order if row[i] >= least]
            for row, order in zip(probable, best.tolist(), strict=True)
        ]
        return rows[0] if is_one(texts, "texts") else rows

    def weighted(self, weighting: Weighting, texts: Any = None) -> KeyedEmbedder:
        """The same table whose texts are weighted means of their words.

        Args:
            weighting: "mean" for none; "sif" by how frequent a word is (Arora et al. 2017, section 3); "idf" by how
                many of `texts` have it.
            texts: what "idf" counts.

        Raises:
            UsageError: "sif" for a table without counts, "idf" without texts; a table that reads no texts.
        """
        choice("weighting", weighting, get_args(Weighting))
        if written() not in self.modalities:
            raise UsageError(f"weighting={weighting!r} is for the words of texts, and {self.name} reads none")
        weights = None
        if weighting == "sif":
            weights = self._sif()
        elif weighting == "idf":
            weights = self._idf(texts)
        table = replace(self.table, weights=weights)
        model = table_model(table, self.encoder.card.folder, stored=False)
        return KeyedEmbedder(model, self.name, self.source, self.dim)

    def export(self, path: str | Path, format: str) -> Path:
        """Writes the table in a published form: "word2vec-text", "word2vec-binary", "glove", "fasttext-bin", ...

        Raises:
            UsageError: a form that there is not, or that cannot hold the table; the message lists those there are.
            WeightsError: the disk refused.
        """
        place = arguments_path("path", path)
        card = self.encoder.card
        write_table(
            place, self.table, text(format, "format"), card_of(card.folder, card.stored, self.training)
        )
        return place

    @cached_property
    def _places(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self.table.keys)}

    def _terms(self, terms: Any, what: str) -> list[int | Floats]:
        """The rows of keys, and vectors: of keys that only subwords know, and those given."""
        if isinstance(terms, np.ndarray) and terms.dtype.kind in "fiu":
            listed = [terms] if terms.ndim == 1 else list(terms)
        else:
            listed = list(several(terms, what))
        unknown = [one for one in listed if isinstance(one, str) and self.encoder.lookup.row(one) is None]
        if unknown:
            raise self._unknown(unknown)
        return [self._term(one, f"{what} {i}") for i, one in enumerate(listed)]

    def _term(self, one: Any, what: str) -> int | Floats:
        if isinstance(one, str):
            row = self._places.get(one)
            return self.vector(one) if row is None else row
        if not isinstance(one, np.ndarray) or one.dtype.kind not in "fiu":
            raise UsageError(f"{what} is {shown(one)}: give a key, or a vector ({self.dim},) as an array")
        if one.shape != (self.dim,) or not np.isfinite(one).all():
            raise UsageError(f"{what} is {shown(one)}: vectors are ({self.dim},), of finite numbers")
        return one.astype(np.float32)

    def _vectors_of(self, values: Any) -> Any:
        """Keys as their vectors; vectors as they are."""
        column = values
        if isinstance(values, np.ndarray) or hasattr(values, "to_numpy"):
            array = np.asarray(values)
            column = array.tolist() if array.dtype.kind in "UTO" else values
        if isinstance(column, str):
            return self.vector(column)
        listed = isinstance(column, list | tuple) and column
        return self[column] if listed and all(isinstance(one, str) for one in column) else values

    def _unknown(self, keys: Sequence[str]) -> UnknownKey:
        return UnknownKey(lambda: self._missing(keys))

    def _missing(self, keys: Sequence[str]) -> str:
        named = ", ".join(repr(key) for key in keys[:UNKNOWN_SHOWN])
        first = self._in_other_case(keys[0])
        length = len(keys[0])
        # What differs more in length is no near spelling, and most of a table's keys do.
        some = [key for key in self.table.keys[:NEAR] if abs(len(key) - length) <= max(1, length // 2)]
        near = difflib.get_close_matches(keys[0], some, 3)
        if first is not None:
            near = [first, *(key for key in near if key != first)][:3]
        meant = f"; near {keys[0]!r} are {', '.join(map(repr, near))}" if near else ""
        return f"{named}: not among the table's {len(self.table):,} keys{meant}"

    def _in_other_case(self, key: str) -> str | None:
        """The first key that differs in capitals alone."""
        folded = key.casefold()
        return next((one for one in self.table.keys if one.casefold() == folded), None)

    def _sif(self) -> Floats:
        counts = self.table.counts
        if counts is None:
            raise UsageError(
                "weighting='sif' needs the words' counts, and this table has none: give 'idf' and texts"
            )
        weights: Floats = (SIF / (SIF + counts / counts.sum())).astype(np.float32)
        return weights

    def _idf(self, texts: Any) -> Floats:
        if texts is None:
            raise UsageError("weighting='idf' needs texts=: what words are counted in")
        frequencies, number = np.zeros(len(self.table), np.int64), 0
        for one in several(texts, "texts"):
            words = self.encoder.lookup.words(text(one, f"text {number}"))
            number += 1
            frequencies[[self._places[word] for word in set(words) & self._places.keys()]] += 1
        if not number:
            raise UsageError("weighting='idf': texts holds nothing")
        weights: Floats = np.log((1 + number) / (1 + frequencies)).astype(np.float32)
        return weights


def keyed(model: Any, otherwise: str) -> KeyedEmbedder:
    """A model as one of keys; UsageError, with the message `otherwise`, where it is none."""
    if not isinstance(model, KeyedEmbedder):
        raise UsageError(otherwise)
    return model


def trained(table: Table, recipe: str) -> KeyedEmbedder:
    """An embedder of a table that a recipe has made."""
    return KeyedEmbedder(table_model(table, Path(), stored=False), recipe, "trained here")


def key_table(keys: Sequence[str], vectors: Floats, counts: Sequence[int] | None = None) -> KeyedEmbedder:
    """An embedder of names that are known by their vectors alone: nodes of a graph, products, users.

    It embeds `Key(name)`; a str is a text, and fails.

    Args:
        keys: (n,) names, each once.
        vectors: (n, dim) numbers, finite.
        counts: (n,) how often each was seen in training; None where nothing says so.

    Raises:
        UsageError: names, vectors and counts that are not as many, a name twice, or numbers that are not finite.
    """
    listed, matrix = listed_texts(keys, "keys"), np.asarray(vectors, np.float32)
    if matrix.ndim != 2 or len(matrix) != len(listed) or not matrix.size:
        raise UsageError(f"vectors are {matrix.shape}; {len(listed)} keys need ({len(listed)}, dim)")
    if not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise UsageError(f"the vector of {listed[row]!r} holds NaN or infinity")
    if (rows := first_rows(listed)) is not None:
        twice = sorted(set(range(len(listed))) - set(rows))[0]
        raise UsageError(f"keys holds {listed[twice]!r} twice")
    seen = None if counts is None else np.asarray(counts, np.int64)
    if seen is not None and seen.shape != (len(listed),):
        raise UsageError(f"counts are {seen.shape}; {len(listed)} keys need as many")
    return trained(Table(listed, matrix, seen, kind="keys"), "keys")
