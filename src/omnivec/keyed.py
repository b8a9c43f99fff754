"""An embedder that knows keys: words, nodes, products, documents; what is near them, and what they add up to."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import numpy as np

from omnivec.embedder import Embedder
from omnivec.errors import UsageError
from omnivec.lookup import Labels, TableModel, table_model
from omnivec.tasks.keys import Method, most_similar, odd_one_out
from omnivec.types import Floats
from omnivec.weights.card import card_of
from omnivec.weights.tables.formats import write_table
from omnivec.weights.tables.record import Table

Weighting = Literal["mean", "sif", "idf"]

UNKNOWN_SHOWN = 3
SPELLINGS = 50_000
"""Keys, the most frequent, among which the nearest spellings of an unknown one are looked for."""
SIF = 1e-3
"""Arora et al. 2017, section 3: a word's weight is a / (a + its share of the corpus)."""


class KeyedEmbedder(Embedder):
    """A loaded table; made by `omnivec.load` and by the recipes that train tables."""

    @property
    def table(self) -> Table:
        """Keys, vectors and what belongs to them."""
        return self._table_model.table

    @property
    def keys(self) -> list[str]:
        """The keys, in the order of `vectors`; words by falling count where they were trained here."""
        return list(self.table.keys)

    @cached_property
    def vectors(self) -> Floats:
        """The vector of each key: (n, dim) float32."""
        return self._table_model.encoder.rows()

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in self._places

    def vector(self, key: str) -> Floats:
        """The vector (dim,) of a key, or of a word that its subwords make up.

        Raises:
            UsageError: the table does not have it; the message names the nearest spellings.
        """
        found = self._table_model.encoder.row(key)
        if found is None:
            raise UsageError(_Missing((key,), self.table.keys))
        return np.asarray(found, np.float32)[: self.dim]

    def most_similar(
        self,
        positive: str | Sequence[str] = (),
        negative: str | Sequence[str] = (),
        k: int = 10,
        method: Method = "add",
    ) -> list[tuple[str, float]]:
        """The keys that are most like some and unlike others, best first, with their scores.

        king - man + woman is `most_similar(["king", "woman"], ["man"])`. The keys given are never among the answers.

        Args:
            positive: keys to be like; words that only subwords know may be among them.
            negative: keys to be unlike.
            k: how many.
            method: "add": the cosine to the sum of unit vectors (3CosAdd, Mikolov et al. 2013, arXiv:1301.3781); "mul":
                the product of similarities by that of dissimilarities (3CosMul, Levy and Goldberg 2014, W14-1618).

        Raises:
            UsageError: no key, an unknown one, or k below 1.
        """
        if k < 1:
            raise UsageError(f"k={k}: at least 1")
        wanted, unwanted = _listed(positive), _listed(negative)
        vectors, rows, exclude = self._with(wanted + unwanted)
        found, scores = most_similar(
            vectors, rows[: len(wanted)], rows[len(wanted) :], k, method, exclude=exclude
        )
        keys = self.table.keys
        return [(keys[row], float(score)) for row, score in zip(found.tolist(), scores, strict=True)]

    def odd_one_out(self, keys: Sequence[str]) -> str:
        """The key that is least like the others.

        Raises:
            UsageError: fewer than two keys, or an unknown one.
        """
        listed = _listed(keys)
        if len(listed) < 2:
            raise UsageError(f"odd_one_out of {len(listed)} keys: give at least 2")
        return listed[odd_one_out(np.stack([self.vector(key) for key in listed]))]

    def predict(self, texts: Sequence[str], k: int = 1) -> list[list[tuple[str, float]]]:
        """The most probable labels of each text, best first, with their probabilities.

        Args:
            texts: to be labelled.
            k: labels for each, at most as many as there are.

        Raises:
            UsageError: a table that was not trained on labels, or k below 1.
        """
        encoder = self._table_model.encoder
        if not isinstance(encoder, Labels):
            raise UsageError(f"{self.name} knows no labels: train one with the recipe fasttext_supervised")
        if k < 1:
            raise UsageError(f"k={k}: at least 1")
        labels = self.table.settings["labels"]
        probable = encoder.probabilities(list(texts))
        best = np.argsort(-probable, axis=1, kind="stable")[:, :k]
        return [
            [(labels[i], float(row[i])) for i in order]
            for row, order in zip(probable, best.tolist(), strict=True)
        ]

    def weighted(self, weighting: Weighting, texts: Iterable[str] | None = None) -> KeyedEmbedder:
        """The same table whose texts are weighted means of their words.

        Args:
            weighting: "mean" for none; "sif" by how frequent a word is (Arora et al. 2017, section 3); "idf" by how
                many of `texts` have it.
            texts: what "idf" counts.

        Raises:
            UsageError: "sif" for a table without counts, "idf" without texts.
        """
        weights = None
        if weighting == "sif":
            weights = self._sif()
        elif weighting == "idf":
            weights = self._idf(texts)
        elif weighting != "mean":
            raise UsageError(f"weighting={weighting!r} is none of 'mean', 'sif', 'idf'")
        table = replace(self.table, weights=weights)
        model = table_model(table, self._table_model.folder, stored=False)
        return KeyedEmbedder(model, self.name, self.source, self.dim)

    def save(self, folder: str | Path) -> Path:
        """Writes the table as a folder that `omnivec.load` reads whole and maps."""
        return self.export(folder, "omnivec")

    def export(self, path: str | Path, format: str) -> Path:
        """Writes the table in a published form: "word2vec-text", "word2vec-binary", "glove", "fasttext-bin", ...

        Raises:
            UsageError: a form that there is not, or that cannot hold the table; the message lists those there are.
            WeightsError: the disk refused.
        """
        place = Path(path).expanduser()
        model = self._table_model
        write_table(place, self.table, format, card_of(model.folder, model.stored, self.training))
        return place

    @property
    def _table_model(self) -> TableModel:
        return cast(TableModel, self._compiled)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self.table.keys)}

    def _with(self, keys: Sequence[str]) -> tuple[Floats, list[int], list[int]]:
        """The vectors, with those of keys that only subwords know behind them; rows of the keys; rows not wanted."""
        missing = [key for key in keys if self._table_model.encoder.row(key) is None]
        if missing:
            raise UsageError(_Missing(tuple(missing), self.table.keys))
        count = len(self.table)
        unseen = [key for key in dict.fromkeys(keys) if key not in self._places]
        rows = [self._places[key] if key in self._places else count + unseen.index(key) for key in keys]
        if not unseen:
            return self.vectors, rows, []
        more = np.stack([self.vector(key) for key in unseen])
        return np.concatenate([self.vectors, more]), rows, list(range(count, count + len(unseen)))

    def _sif(self) -> Floats:
        counts = self.table.counts
        if counts is None:
            raise UsageError(
                "weighting='sif' needs the words' counts, and this table has none: give 'idf' and texts"
            )
        weights: Floats = (SIF / (SIF + counts / counts.sum())).astype(np.float32)
        return weights

    def _idf(self, texts: Iterable[str] | None) -> Floats:
        if texts is None:
            raise UsageError("weighting='idf' needs texts=: what words are counted in")
        found, number = np.zeros(len(self.table), np.int64), 0
        for text in texts:
            number += 1
            rows = {self._places.get(word) for word in self._table_model.encoder.words(text)} - {None}
            found[[row for row in rows if row is not None]] += 1
        if not number:
            raise UsageError("weighting='idf': texts holds nothing")
        weights: Floats = np.log((1 + number) / (1 + found)).astype(np.float32)
        return weights


@dataclass(frozen=True)
class _Missing:
    """The message about keys that a table lacks, made when it is shown: the nearest spellings take 70 ms to find."""

    missing: tuple[str, ...]
    keys: Sequence[str]

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return repr(self._text)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (self._text,)

    @cached_property
    def _text(self) -> str:
        first = self.missing[0]
        shown = ", ".join(repr(key) for key in self.missing[:UNKNOWN_SHOWN])
        near = difflib.get_close_matches(first, self.keys[:SPELLINGS], 3)
        meant = f"; near {first!r} are {', '.join(map(repr, near))}" if near else ""
        return f"{shown}: not among the table's {len(self.keys):,} keys{meant}"


def _listed(keys: str | Sequence[str]) -> list[str]:
    return [keys] if isinstance(keys, str) else list(keys)


def trained(table: Table, recipe: str) -> KeyedEmbedder:
    """An embedder of a table that a recipe has made."""
    return KeyedEmbedder(table_model(table, Path(), stored=False), recipe, "trained here")
