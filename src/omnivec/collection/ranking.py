"""What is nearest to a query: in one space by its own scores, in several by how surprising their scores are."""

from __future__ import annotations

import threading
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnivec.store import matrix
from omnivec.store.index_registry import EXACT, IndexClass, index_class
from omnivec.store.indexes.base import VectorIndex
from omnivec.store.records import SpaceRecord
from omnivec.store.sqlite import Catalogue
from omnivec.types import Floats, Ints, Keys
from omnivec.vectors import calibration

SAMPLE = 2_000
"""Passages of a space, drawn once for each of its states, whose scores are a query's background there."""

CANDIDATES = 4
"""How many times the hits that are wanted an approximate index is asked for; their exact scores choose among them."""

STALE = 0.1
"""Of the vectors of a space, how many may have come or gone since an approximate index was built of it."""

RRF = 60
"""The constant of reciprocal rank fusion: Cormack, Clarke, Buettcher 2009."""


@dataclass(frozen=True)
class Ranked:
    """A passage that was found: its key, its score, higher is better, and the space."""

    key: int
    score: float
    space: str


@dataclass(frozen=True, eq=False)
class _Candidates:
    """An approximate index, and the keys of the state of its space that it was built from."""

    index: VectorIndex
    keys: Keys

    def fits(self, record: SpaceRecord, loaded: matrix.Loaded) -> bool:
        """Whether few enough vectors came or went since; those that came are all compared."""
        if (self.index.dim, self.index.metric) != (record.dim, record.metric):
            return False
        changed = np.setxor1d(self.keys, loaded.keys)
        return len(changed) <= STALE * len(loaded.keys)


@dataclass(frozen=True, eq=False)
class _Searched:
    """A space in one state of the catalogue.

    Attributes:
        state: of the catalogue.
        loaded: all its vectors.
        index: searches them exactly.
        sample: keys of the background.
        candidates: proposes what is searched; None where all is.
        tail: keys that came after `candidates` was built.
    """

    state: tuple[int, int]
    loaded: matrix.Loaded
    index: VectorIndex
    sample: Keys
    candidates: _Candidates | None
    tail: Keys

    @classmethod
    def of(
        cls, state: tuple[int, int], loaded: matrix.Loaded, index: VectorIndex, candidates: _Candidates | None
    ) -> _Searched:
        """The same passages for the same keys, whoever asks."""
        keys = np.unique(loaded.keys)
        tail = keys[:0] if candidates is None else np.setdiff1d(keys, candidates.keys)
        if len(keys) > SAMPLE:
            keys = np.sort(np.random.default_rng(0).choice(keys, SAMPLE, replace=False))
        return cls(state, loaded, index, keys, candidates, tail)

    def nearest(self, vector: Floats, k: int, allowed: Keys | None) -> tuple[Keys, Floats]:
        """Keys and scores of at most k passages, best first; of an approximate index the best of its candidates."""
        if self.candidates is not None and k < len(self.index):
            allowed = self._proposed(self.candidates.index, vector, k, allowed)
        return self._exact(vector, k, allowed)

    def background(self, vector: Floats) -> calibration.Background:
        """How this query scores here against things at random."""
        return calibration.background(self._exact(vector, len(self.sample), self.sample)[1])

    def _exact(self, vector: Floats, k: int, allowed: Keys | None) -> tuple[Keys, Floats]:
        keys, scores = self.index.search(vector[None], max(1, min(k, len(self.index))), allowed)
        valid = keys[0] >= 0
        return keys[0][valid], scores[0][valid]

    def _proposed(self, index: VectorIndex, vector: Floats, k: int, allowed: Keys | None) -> Keys | None:
        """The only keys that are compared: candidates and the tail; all that are allowed where these are too few."""
        most = min(CANDIDATES * k, len(index))
        if most < k or (allowed is not None and len(allowed) <= most):
            return allowed
        proposed = _among(index.search(vector[None], most, allowed)[0][0], self.loaded.keys)
        tail = self.tail
        if allowed is not None:
            proposed, tail = proposed[np.isin(proposed, allowed)], tail[np.isin(tail, allowed)]
        return allowed if len(proposed) < k else np.concatenate([proposed, tail])


def _among(keys: Keys, listed: Keys) -> Keys:
    """Those of some keys that are in an ascending list."""
    places = np.minimum(np.searchsorted(listed, keys), len(listed) - 1)
    members: Keys = keys[listed[places] == keys]
    return members


class Ranking:
    """The nearest passages of a catalogue, its spaces held in memory while nothing is written."""

    def __init__(self, catalogue: Catalogue, folder: Path, index: IndexClass | None = None) -> None:
        """Ranks by the candidates of an index; None compares all vectors."""
        self._catalogue, self._folder = catalogue, folder
        self._exact = index_class(EXACT)
        self._class = index or self._exact
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
        asked = {name: searcher for name, searcher in searched.items() if len(searcher.index)}
        nearest = {name: searcher.nearest(vectors[name], k, allowed) for name, searcher in asked.items()}
        if len(asked) <= 1:
            return [
                Ranked(key, score, name)
                for name, (keys, scores) in nearest.items()
                for key, score in zip(keys.tolist(), scores.tolist(), strict=True)
            ]
        listed = list(asked)
        scores = [nearest[name][1] for name in listed]
        if min(len(searcher.sample) for searcher in asked.values()) < calibration.LEAST:
            spaces, places, values = _in_turns([len(one) for one in scores], k)
        else:
            backgrounds = [searcher.background(vectors[name]) for name, searcher in asked.items()]
            spaces, places, values = calibration.rank_together(scores, backgrounds, k)
        return [
            Ranked(int(nearest[listed[space]][0][place]), value, listed[space])
            for space, place, value in zip(spaces.tolist(), places.tolist(), values.tolist(), strict=True)
        ]

    def _of(self, space: str) -> _Searched:
        """A space in the state that the snapshot sees; made again after a write."""
        with self._lock:
            state, known = self._catalogue.changes(), self._searched.get(space)
            if known is None or known.state != state or not known.loaded.unchanged():
                record = self._catalogue.spaces()[space]
                loaded = matrix.load(self._catalogue, self._folder, space)
                index = self._exact(record.dim, record.metric, loaded.keys, loaded.vectors)
                candidates = self._candidates(record, loaded, None if known is None else known.candidates)
                known = _Searched.of(state, loaded, index, candidates)
                self._searched[space] = known
            return known

    def _candidates(
        self, record: SpaceRecord, loaded: matrix.Loaded, known: _Candidates | None
    ) -> _Candidates | None:
        """What proposes candidates in a space: as it was while little has changed, else built anew."""
        if self._class is self._exact or not len(loaded.keys):
            return None
        if known is not None and known.fits(record, loaded):
            return known
        return _Candidates(self._class(record.dim, record.metric, loaded.keys, loaded.vectors), loaded.keys)


def _in_turns(lengths: Sequence[int], k: int) -> tuple[Ints, Ints, Floats]:
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
