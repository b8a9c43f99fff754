"""What is nearest to a query: in one space by its own scores, in several by how surprising their scores are."""

from __future__ import annotations

import threading
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnivec.store import matrix
from omnivec.store.indexes.exact import ExactIndex
from omnivec.store.sqlite import Catalogue
from omnivec.types import Floats, Keys
from omnivec.vectors import calibration

SAMPLE = 2_000
"""Passages of a space, drawn once for each of its states, whose scores are a query's background there."""

RRF = 60
"""The constant of reciprocal rank fusion: Cormack, Clarke, Buettcher 2009."""


@dataclass(frozen=True)
class Ranked:
    """A passage that was found: its key, its score, higher is better, and the space."""

    key: int
    score: float
    space: str


@dataclass(frozen=True, eq=False)
class _Searched:
    """A space in one state of the catalogue: its index, and the keys of the background."""

    state: tuple[int, int]
    loaded: matrix.Loaded
    index: ExactIndex
    sample: Keys

    @classmethod
    def of(cls, state: tuple[int, int], loaded: matrix.Loaded, index: ExactIndex) -> _Searched:
        """The same passages for the same keys, whoever asks."""
        own = np.unique(loaded.keys)
        if len(own) > SAMPLE:
            own = np.sort(np.random.default_rng(0).choice(own, SAMPLE, replace=False))
        return cls(state, loaded, index, own)

    def nearest(self, vector: Floats, k: int, allowed: Keys | None) -> tuple[Keys, Floats]:
        """Keys and scores of at most k passages, best first."""
        keys, scores = self.index.search(vector[None], max(1, min(k, len(self.index))), allowed)
        found = keys[0] >= 0
        return keys[0][found], scores[0][found]

    def background(self, vector: Floats) -> calibration.Background:
        """How this query scores here against things at random."""
        return calibration.background(self.nearest(vector, len(self.sample), self.sample)[1])


class Ranking:
    """The nearest passages of a catalogue, its spaces held in memory while nothing is written."""

    def __init__(self, catalogue: Catalogue, folder: Path) -> None:
        self._catalogue, self._folder = catalogue, folder
        self._lock = threading.Lock()
        self._searched: dict[str, _Searched] = {}

    def nearest(self, vectors: Mapping[str, Floats], k: int, allowed: Keys | None = None) -> list[Ranked]:
        """The k passages nearest to a query; the caller holds a snapshot.

        Where one space has passages, scores are its own. Of several, each hit's score is its surprise
        (`vectors.calibration`); where one of them has fewer than `calibration.LEAST` passages, which make no
        background, hits are taken in turns, and their score is 1 / (60 + rank in their space).

        Args:
            vectors: name of a space -> the query's vector (dim,) in it.
            k: how many.
            allowed: the only keys that may be found; None means all.
        """
        searched = {name: self._of(name) for name in vectors}
        asked = {name: own for name, own in searched.items() if len(own.index)}
        found = {name: own.nearest(vectors[name], k, allowed) for name, own in asked.items()}
        if len(asked) <= 1:
            return [
                Ranked(key, score, name)
                for name, (keys, scores) in found.items()
                for key, score in zip(keys.tolist(), scores.tolist(), strict=True)
            ]
        listed = list(asked)
        scores = [found[name][1] for name in listed]
        if min(len(own.sample) for own in asked.values()) < calibration.LEAST:
            spaces, places, values = _in_turns([len(own) for own in scores], k)
        else:
            backgrounds = [own.background(vectors[name]) for name, own in asked.items()]
            spaces, places, values = calibration.rank_together(scores, backgrounds, k)
        return [
            Ranked(int(found[listed[space]][0][place]), value, listed[space])
            for space, place, value in zip(spaces.tolist(), places.tolist(), values.tolist(), strict=True)
        ]

    def _of(self, space: str) -> _Searched:
        """A space in the state that the snapshot sees; made again after a write."""
        with self._lock:
            state, known = self._catalogue.changes(), self._searched.get(space)
            if known is None or known.state != state or not known.loaded.unchanged():
                record = self._catalogue.spaces()[space]
                loaded = matrix.load(self._catalogue, self._folder, space)
                index = ExactIndex(record.dim, record.metric, loaded.keys, loaded.vectors)
                known = _Searched.of(state, loaded, index)
                self._searched[space] = known
            return known


def _in_turns(lengths: Sequence[int], k: int) -> tuple[Keys, Keys, Floats]:
    """The first of each list, the second of each, ...: list, place in it and score of at most k."""
    lists = np.repeat(np.arange(len(lengths)), lengths)
    places = np.concatenate([np.arange(n) for n in lengths])
    order = np.lexsort((lists, places))[:k]
    return lists[order], places[order], (1 / (RRF + 1 + places[order])).astype(np.float32)


def fused(
    by_vector: Sequence[Ranked],
    by_words: Sequence[tuple[int, float]],
    space: str,
    wordless: Container[int] = (),
) -> list[Ranked]:
    """Reciprocal rank fusion: the sum of 1 / (60 + rank) over both lists; ties to the smaller key.

    A passage without words, such as an image, can only be in one of the lists, where its rank counts for both:
    otherwise any text that is in both would stand above the best image.

    Args:
        by_vector: best first.
        by_words: (key, score), best first.
        space: of passages that only words have found.
        wordless: keys of the passages that words cannot find.
    """
    scores: dict[int, float] = {}
    for rank, one in enumerate(by_vector, 1):
        scores[one.key] = (2 if one.key in wordless else 1) / (RRF + rank)
    for rank, (key, _) in enumerate(by_words, 1):
        scores[key] = scores.get(key, 0.0) + 1 / (RRF + rank)
    spaces = {one.key: one.space for one in by_vector}
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [Ranked(key, score, spaces.get(key, space)) for key, score in ranked]


def target(like: Floats, unlike: Floats) -> Floats:
    """What is near vectors (n, dim) that one likes and far from those (m, dim) that one does not: (dim,).

    mean(like) + (mean(like) - mean(unlike)), or mean(like) where there is nothing unlike.
    """
    wanted = like.mean(axis=0)
    return np.asarray(2 * wanted - unlike.mean(axis=0) if len(unlike) else wanted, np.float32)
