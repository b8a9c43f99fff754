"""Ranking of passages: in one space by their scores, in several spaces by how rare such scores are.

Example of `fused`, reciprocal rank fusion with the constant 60. By vector the passages are 7, 3, 9, by words 3, 5.

    passage 7:  1 / 61            = 0.01639   first by vector
    passage 3:  1 / 62 + 1 / 61   = 0.03252   second by vector, first by words
    passage 9:  1 / 63            = 0.01587   third by vector
    passage 5:           1 / 62   = 0.01613   second by words

The order is 3, 7, 5, 9. If passage 7 is an image, which words cannot find, its rank counts twice, 2 / 61 = 0.03279, and
it comes first.

Example of `_interleaved`, for spaces that are too small for a background: lists of 3 and 1 hits, k = 3. The hits are
(list 0, place 0), (list 1, place 0), (list 0, place 1), with the scores 1 / 61, 1 / 61, 1 / 62.
"""

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
"""Size of the random sample of a space's passages whose scores are the background of a query."""

CANDIDATES = 4
"""An approximate index is asked for this many times k candidates, which are then ranked by their exact scores."""

STALE = 0.1
"""Share of a space's vectors that may be added or removed before its approximate index is built again."""

RRF = 60
"""The constant of reciprocal rank fusion: Cormack, Clarke, Buettcher 2009."""


@dataclass(frozen=True)
class Ranked:
    """A passage with its score, higher is better, and its space."""

    key: int
    score: float
    space: str


@dataclass(frozen=True, eq=False)
class _Candidates:
    """An approximate index, and the keys of the vectors that it was built from."""

    index: VectorIndex
    keys: Keys

    def fits(self, record: SpaceRecord, loaded: matrix.Loaded) -> bool:
        """Whether few enough vectors were added or removed since then; added ones are all compared exactly."""
        if (self.index.dim, self.index.metric) != (record.dim, record.metric):
            return False
        changed = np.setxor1d(self.keys, loaded.keys)
        return len(changed) <= STALE * len(loaded.keys)


@dataclass(frozen=True, eq=False)
class _Searched:
    """A space in one state of the catalogue.

    Attributes:
        state: the state of the catalogue.
        loaded: all vectors of the space.
        index: searches them exactly.
        sample: keys of the sample for the background.
        candidates: the approximate index; None if all vectors are compared.
        tail: keys of vectors that were added after `candidates` was built.
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
        """Draws the sample, which is always the same for the same keys."""
        keys = np.unique(loaded.keys)
        tail = keys[:0] if candidates is None else np.setdiff1d(keys, candidates.keys)
        if len(keys) > SAMPLE:
            keys = np.sort(np.random.default_rng(0).choice(keys, SAMPLE, replace=False))
        return cls(state, loaded, index, keys, candidates, tail)

    def nearest(self, vector: Floats, k: int, allowed: Keys | None) -> tuple[Keys, Floats]:
        """Returns keys and exact scores of at most k passages, best first; of an approximate index's candidates."""
        if self.candidates is not None and k < len(self.index):
            allowed = self._proposed(self.candidates.index, vector, k, allowed)
        return self._exact(vector, k, allowed)

    def background(self, vector: Floats) -> calibration.Background:
        """Returns the distribution of the query's scores over the sample."""
        return calibration.background(self._exact(vector, len(self.sample), self.sample)[1])

    def _exact(self, vector: Floats, k: int, allowed: Keys | None) -> tuple[Keys, Floats]:
        keys, scores = self.index.search(vector[None], max(1, min(k, len(self.index))), allowed)
        valid = keys[0] >= 0
        return keys[0][valid], scores[0][valid]

    def _proposed(self, index: VectorIndex, vector: Floats, k: int, allowed: Keys | None) -> Keys | None:
        """Returns the keys to compare: candidates and the tail, or all that are allowed if these are too few."""
        most = min(CANDIDATES * k, len(index))
        if most < k or (allowed is not None and len(allowed) <= most):
            return allowed
        proposed = _among(index.search(vector[None], most, allowed)[0][0], self.loaded.keys)
        tail = self.tail
        if allowed is not None:
            proposed, tail = proposed[np.isin(proposed, allowed)], tail[np.isin(tail, allowed)]
        return allowed if len(proposed) < k else np.concatenate([proposed, tail])


def _among(keys: Keys, listed: Keys) -> Keys:
    """Returns those of some keys that are in an ascending list."""
    places = np.minimum(np.searchsorted(listed, keys), len(listed) - 1)
    members: Keys = keys[listed[places] == keys]
    return members


class Ranking:
    """Finds the nearest passages of a catalogue; keeps its spaces in memory until something is written."""

    def __init__(self, catalogue: Catalogue, folder: Path, index: IndexClass | None = None) -> None:
        """Opens nothing yet; `index` is the class of an approximate index, or None to compare all vectors."""
        self._catalogue, self._folder = catalogue, folder
        self._exact = index_class(EXACT)
        self._class = index or self._exact
        self._lock = threading.Lock()
        self._searched: dict[str, _Searched] = {}

    def nearest(self, vectors: Mapping[str, Floats], k: int, allowed: Keys | None = None) -> list[Ranked]:
        """Finds the k passages nearest to a query; the caller holds a snapshot.

        If only one space has passages, the scores are those of its metric. If several have, the score is -log10 of the
        share of random passages that score as high (`vectors.calibration`); if one of them has fewer than
        `calibration.LEAST` passages, too few for this, the hits of the spaces alternate, and their score is
        1 / (60 + rank in the space).

        Args:
            vectors: maps the name of a space to the vector (dim,) of the query in it.
            k: number of passages.
            allowed: keys of the passages that may be found; None for all.
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
            spaces, places, values = _interleaved([len(one) for one in scores], k)
        else:
            backgrounds = [searcher.background(vectors[name]) for name, searcher in asked.items()]
            spaces, places, values = calibration.rank_together(scores, backgrounds, k)
        return [
            Ranked(int(nearest[listed[space]][0][place]), value, listed[space])
            for space, place, value in zip(spaces.tolist(), places.tolist(), values.tolist(), strict=True)
        ]

    def _of(self, space: str) -> _Searched:
        """Returns a space in the state of the snapshot; it is loaded again after a write."""
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
        """Returns the approximate index of a space: the present one if little has changed, else a new one."""
        if self._class is self._exact or not len(loaded.keys):
            return None
        if known is not None and known.fits(record, loaded):
            return known
        return _Candidates(self._class(record.dim, record.metric, loaded.keys, loaded.vectors), loaded.keys)


def _interleaved(lengths: Sequence[int], k: int) -> tuple[Ints, Ints, Floats]:
    """Takes the first of each list, then the second of each, ...: list, place and score of at most k hits."""
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
    """Reciprocal rank fusion: the sum of 1 / (60 + rank) over both lists; the smaller key wins ties.

    A passage without words, such as an image, can only be in one of the lists, so its rank there counts twice:
    otherwise every text that is in both lists would come before the best image.

    Args:
        by_vector: passages found by vectors, best first.
        by_words: (key, score) of passages found by words, best first.
        space: name of the space for passages found only by words.
        wordless: keys of the passages without words.

    Returns:
        All passages of both lists, best first.
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
    """Returns a vector (dim,) near the vectors `like` (n, dim) and far from `unlike` (m, dim).

    It is mean(like) + (mean(like) - mean(unlike)), or mean(like) if `unlike` is empty.
    """
    wanted = like.mean(axis=0)
    return np.asarray(2 * wanted - unlike.mean(axis=0) if len(unlike) else wanted, np.float32)
