"""`KeyedEmbedder`: an embedder of a table of keys (words, nodes, products), with neighbours, analogies and labels."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, SupportsIndex, get_args, overload

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
"""Number of leading keys, the most frequent ones, that are searched for similar spellings."""

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
        """The table: keys, vectors, subwords and settings."""
        return self.encoder.table

    @property
    def keys(self) -> list[str]:
        """The keys, in the order of `vectors`; for tables trained by omnivec, the most frequent first."""
        return list(self.table.keys)

    @cached_property
    def vectors(self) -> Floats:
        """The vectors of the keys: (n, dim) float32."""
        rows = self.encoder.lookup.rows()
        return rows if rows.shape[1] == self.dim else np.ascontiguousarray(rows[:, : self.dim])

    def __len__(self) -> int:
        """Number of keys."""
        return len(self.table)

    def __iter__(self) -> Iterator[str]:
        """The keys, in the order of `vectors`."""
        return iter(self.table.keys)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in self._places

    def __getitem__(self, keys: Any) -> Floats:
        """Returns the vector (dim,) of a key, or the vectors (n, dim) of several; see `vector`."""
        if isinstance(keys, str) or (isinstance(keys, np.ndarray) and not keys.ndim):
            return self.vector(text(keys, "keys"))
        rows = [self.vector(key) for key in listed_texts(keys, "keys")]
        return np.array(rows, np.float32).reshape(-1, self.dim)

    def vector(self, key: str) -> Floats:
        """Returns the vector (dim,) float32 of a key, or of a word that is made up of known subwords.

        Raises:
            UnknownKey: the table does not have the key; the message lists those with the most similar spelling.
        """
        key = text(key, "key")
        row = self.encoder.lookup.row(key)
        if row is None:
            raise self._unknown([key])
        return np.asarray(row, np.float32)[: self.dim]

    def spelled(self, key: str) -> str:
        """Returns a key as the table spells it: unchanged, or the first that differs only in case, "King" for "king".

        Raises:
            UnknownKey: the table has neither.
        """
        key = text(key, "key")
        if self.encoder.lookup.row(key) is not None:
            return key
        spelling = self._in_other_case(key)
        if spelling is None:
            raise self._unknown([key])
        return spelling

    def similarity(self, a: Any, b: Any) -> Floats:
        """Cosines of n and m vectors or keys: (n, m) float32; see `Embedder.similarity`."""
        return super().similarity(self._vectors_of(a), self._vectors_of(b))

    def similarity_pairwise(self, a: Any, b: Any) -> Floats:
        """Cosines of pairs of vectors or keys: (n,) float32; see `Embedder.similarity_pairwise`."""
        return super().similarity_pairwise(self._vectors_of(a), self._vectors_of(b))

    def most_similar(
        self,
        positive: Any = (),
        negative: Any = (),
        k: SupportsIndex | None = None,
        method: Method = "add",
        *,
        topn: SupportsIndex | None = None,
    ) -> list[tuple[str, float]]:
        """Finds the keys that are most similar to some keys and least similar to others.

        king - man + woman is `most_similar(["king", "woman"], ["man"])`. The arguments are never among the results.

        Args:
            positive: a key, a vector (dim,), or several of them, to be similar to; a key may be a word that is made up
                of known subwords.
            negative: the same, to be dissimilar to.
            k: number of keys; 10 by default.
            method: "add" ranks by the cosine to the sum of unit vectors (3CosAdd, Mikolov et al. 2013,
                arXiv:1301.3781), "mul" by the product of the similarities divided by that of the dissimilarities
                (3CosMul, Levy and Goldberg 2014, W14-1618).
            topn: the same as k, by its name in gensim.

        Returns:
            Pairs (key, score), best first.

        Raises:
            UnknownKey: a key is not in the table.
            UsageError: there are neither positive nor negative arguments, a vector has another length, or k is below 1.

        Examples:
            >>> model = omnivec.load("words.vec")
            >>> model.most_similar(["king", "woman"], ["man"], k=3)
        """
        if k is not None and topn is not None:
            raise UsageError(f"k={said(k)} and topn={said(topn)} are the same option: give one of them")
        count = whole("k", 10 if k is None else k) if topn is None else whole("topn", topn)
        wanted, unwanted = self._terms(positive, "positive"), self._terms(negative, "negative")
        rows, scores = most_similar(self.vectors, wanted, unwanted, count, method)
        keys = self.table.keys
        return [(keys[row], float(score)) for row, score in zip(rows.tolist(), scores, strict=True)]

    def odd_one_out(self, keys: Sequence[str]) -> str:
        """Returns the key that is least similar to the others.

        Raises:
            UnknownKey: a key is not in the table.
            UsageError: there are fewer than two keys.
        """
        listed = listed_texts(keys, "keys")
        if len(listed) < 2:
            raise UsageError(f"odd_one_out of {len(listed)} keys: give at least 2")
        return listed[odd_one_out(self[listed])]

    @overload  # a str is one text, although it is a sequence of str
    def predict(  # type: ignore[overload-overlap]
        self, texts: str, k: SupportsIndex = 1, threshold: float = 0.0
    ) -> list[tuple[str, float]]: ...

    @overload
    def predict(
        self, texts: Sequence[str], k: SupportsIndex = 1, threshold: float = 0.0
    ) -> list[list[tuple[str, float]]]: ...

    def predict(self, texts: Any, k: SupportsIndex = 1, threshold: float = 0.0) -> Any:
        """Predicts the most probable labels of each text.

        Args:
            texts: one text or several.
            k: largest number of labels for each text.
            threshold: smallest probability; a text may have no label that reaches it.

        Returns:
            Pairs (label, probability), best first: a list for one text, a list of lists for several.

        Raises:
            UsageError: the table was not trained on labels, an item is not a text, k is below 1, or the threshold is
                not a number from 0 to 1.
        """
        lookup = self.encoder.lookup
        if not isinstance(lookup, Labels):
            raise UsageError(f"{self.name} has no labels: train a model with the recipe fasttext_supervised")
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
        """Returns the same table, with the vectors of texts as weighted means of the vectors of their words.

        Args:
            weighting: "mean" for equal weights, "sif" for weights by the frequency of a word (Arora et al. 2017,
                section 3), "idf" for weights by the number of `texts` that contain it.
            texts: the texts for "idf".

        Raises:
            UsageError: "sif" for a table without counts, "idf" without texts, or a table that does not embed texts.
        """
        choice("weighting", weighting, get_args(Weighting))
        if written() not in self.modalities:
            raise UsageError(
                f"weighting={weighting!r} is for the words of texts, which {self.name} does not read"
            )
        weights = None
        if weighting == "sif":
            weights = self._sif()
        elif weighting == "idf":
            weights = self._idf(texts)
        table = replace(self.table, weights=weights)
        model = table_model(table, self.encoder.card.folder, stored=False)
        return KeyedEmbedder(model, self.name, self.source, self.dim)

    def export(self, path: str | Path, format: str) -> Path:
        """Writes the table to a file in a published format.

        Args:
            path: path of the file.
            format: "word2vec-text", "word2vec-binary", "glove", "fasttext-bin", or another that the message of the
                error lists.

        Returns:
            The path of the file.

        Raises:
            UsageError: the format is unknown, or cannot hold the table.
            WeightsError: the file cannot be written.
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
        """Returns the rows of keys that the table has, and vectors of keys made up of subwords and of vectors."""
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
            raise UsageError(f"{what} is {shown(one)}: vectors must be ({self.dim},), of finite numbers")
        return one.astype(np.float32)

    def _vectors_of(self, values: Any) -> Any:
        """Replaces keys by their vectors; returns vectors unchanged."""
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
        # Comparing keys is slow; most of them differ so much in length that they cannot be similar.
        some = [key for key in self.table.keys[:NEAR] if abs(len(key) - length) <= max(1, length // 2)]
        near = difflib.get_close_matches(keys[0], some, 3)
        if first is not None:
            near = [first, *(key for key in near if key != first)][:3]
        meant = f"; similar to {keys[0]!r}: {', '.join(map(repr, near))}" if near else ""
        return f"{named}: not among the table's {len(self.table):,} keys{meant}"

    def _in_other_case(self, key: str) -> str | None:
        """Returns the first key that differs only in case; None if there is none."""
        folded = key.casefold()
        return next((one for one in self.table.keys if one.casefold() == folded), None)

    def _sif(self) -> Floats:
        counts = self.table.counts
        if counts is None:
            raise UsageError(
                "weighting='sif' needs the counts of words, which this table does not have: use 'idf' with texts"
            )
        weights: Floats = (SIF / (SIF + counts / counts.sum())).astype(np.float32)
        return weights

    def _idf(self, texts: Any) -> Floats:
        if texts is None:
            raise UsageError("weighting='idf' needs texts=, in which words are counted")
        frequencies, number = np.zeros(len(self.table), np.int64), 0
        for one in several(texts, "texts"):
            words = self.encoder.lookup.words(text(one, f"text {number}"))
            number += 1
            frequencies[[self._places[word] for word in set(words) & self._places.keys()]] += 1
        if not number:
            raise UsageError("weighting='idf': texts is empty")
        weights: Floats = np.log((1 + number) / (1 + frequencies)).astype(np.float32)
        return weights


def keyed(model: Any, otherwise: str) -> KeyedEmbedder:
    """Returns `model` if it is a KeyedEmbedder; else raises UsageError with the message `otherwise`."""
    if not isinstance(model, KeyedEmbedder):
        raise UsageError(otherwise)
    return model


def trained(table: Table, recipe: str) -> KeyedEmbedder:
    """Makes an embedder of a table that a recipe has trained."""
    return KeyedEmbedder(table_model(table, Path(), stored=False), recipe, "trained here")


def key_table(keys: Sequence[str], vectors: Floats, counts: Sequence[int] | None = None) -> KeyedEmbedder:
    """Makes an embedder of names that have vectors but no content: nodes of a graph, products, users.

    It embeds `Key(name)`; a str is a text, and fails.

    Args:
        keys: (n,) different names.
        vectors: (n, dim) finite numbers.
        counts: (n,) how often each name was seen in training; None if unknown.

    Raises:
        UsageError: the arguments differ in length, a name occurs twice, or a number is not finite.
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
