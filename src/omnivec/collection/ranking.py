"""Ranking of passages: in one space by their scores, in several spaces by how rare such scores are.

Example of `fused`, reciprocal rank fusion with the constant 60. By vector the passages are 7, 3, 9, by words 3, 5.

    passage 7:  1 / 61            = 0.01639   first by vector
    passage 3:  1 / 62 + 1 / 61   = 0.03252   second by vector, first by words
    passage 9:  1 / 63            = 0.01587   third by vector
    passage 5:           1 / 62   = 0.01613   second by words

The order is 3, 7, 5, 9. If passage 7 is an image, which words cannot find, its rank counts twice, 2 / 61 = 0.03279, and
it comes first.

With the weights (2, 1) the ranks by vector count twice, 2 / 61 and so on; with (1, 0) the order is that of the vectors.

Example of `in_rounds`. Fusing longer lists may move a hit forward that is far down in both, so that the second page of
a search would repeat hits of the first. Therefore hits are taken in rounds, and later ones do not change earlier hits:

    hits 1 to 12      from the fusion of the first 50 of each list
    hits 13 to 50     the best others from the fusion of the first 200
    hits 51 to 200    the best others from the fusion of the first 800, ...

Example of `_interleaved`, for spaces that are too small for a background: lists of 3 and 1 hits, k = 3. The hits are
(list 0, place 0), (list 1, place 0), (list 0, place 1), with the scores 1 / 61, 1 / 61, 1 / 62.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.store import matrix
from omnivec.store.index_registry import EXACT, IndexClass, index_class
from omnivec.store.indexes.base import VectorIndex
from omnivec.store.maxsim import MaxSimIndex
from omnivec.store.records import SpaceRecord
from omnivec.store.sparse import SparseIndex
from omnivec.store.sqlite import Catalogue
from omnivec.types import MULTI, SPARSE, Floats, Ints, Keys
from omnivec.vectors import calibration

SAMPLE = 2_000
"""Size of the random sample of a space's passages whose scores are the background of a query."""

CANDIDATES = 4
"""An approximate index is asked for this many times k candidates, which are then ranked by their exact scores."""

STALE = 0.1
"""Share of a space's vectors that may be added or removed before its approximate index is built again."""

RRF = 60
"""The constant of reciprocal rank fusion: Cormack, Clarke, Buettcher 2009."""

FIRST_DEPTH = 50
"""Length of the lists that are fused in the first round."""

DEEPER = 4
"""The lists of a round are this many times as long as the hits that are taken by its end, and as the lists before."""

Scored = tuple[Keys, Floats]
"""Keys of passages and their scores, best first."""


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
        index: searches them exactly; which one hangs on the kind of the space.
        passages: keys of the passages that have vectors, ascending, each once.
        sample: keys of the sample for the background.
        candidates: the approximate index; None if all vectors are compared.
        tail: keys of vectors that were added after `candidates` was built.
    """

    state: tuple[int, int]
    loaded: matrix.Loaded
    index: VectorIndex | MaxSimIndex | SparseIndex
    passages: Keys
    sample: Keys
    candidates: _Candidates | None
    tail: Keys

    @classmethod
    def of(
        cls,
        state: tuple[int, int],
        loaded: matrix.Loaded,
        index: VectorIndex | MaxSimIndex | SparseIndex,
        candidates: _Candidates | None,
    ) -> _Searched:
        """Draws the sample, which is always the same for the same keys."""
        keys = np.unique(loaded.keys)
        tail = keys[:0] if candidates is None else np.setdiff1d(keys, candidates.keys)
        sample = keys
        if len(keys) > SAMPLE:
            sample = np.sort(np.random.default_rng(0).choice(keys, SAMPLE, replace=False))
        return cls(state, loaded, index, keys, sample, candidates, tail)

    def nearest(self, queries: Sequence[Any], k: int, allowed: Keys | None) -> list[Scored]:
        """Returns for each query the keys and exact scores of at most k passages, best first.

        If there is an approximate index, they are the best of its candidates.
        """
        if self.candidates is None or k >= len(self.index):
            return self._exact(queries, k, allowed)
        index = self.candidates.index
        return [
            one
            for query in queries
            for one in self._exact(query[None], k, self._proposed(index, query, k, allowed))
        ]

    def backgrounds(self, queries: Sequence[Any]) -> list[calibration.Background]:
        """Returns for each query the distribution of its scores over the sample."""
        scored = self._exact(queries, len(self.sample), self.sample)
        # Sparse vectors without a common term are not found: they score 0.
        missing = [np.zeros(len(self.sample) - len(scores), np.float32) for _, scores in scored]
        return [
            calibration.background(np.concatenate([scores, zeros]))
            for (_, scores), zeros in zip(scored, missing, strict=True)
        ]

    def holds(self, keys: Keys) -> NDArray[np.bool_]:
        """Returns for each of some keys whether the space has a vector of this passage."""
        return np.isin(keys, self.passages)

    def _exact(self, queries: Sequence[Any], k: int, allowed: Keys | None) -> list[Scored]:
        k = max(1, min(k, len(self.index)))
        if isinstance(self.index, MaxSimIndex):
            return [self.index.search(query, k, allowed) for query in queries]
        if isinstance(self.index, SparseIndex):
            return [self.index.search((query.indices, query.weights), k, allowed) for query in queries]
        found = self.index.search(np.stack(queries), k, allowed)
        return [(keys[keys >= 0], scores[keys >= 0]) for keys, scores in zip(*found, strict=True)]

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
        self._overlaps: dict[tuple[str, str], tuple[tuple[int, int] | None, bool]] = {}

    def nearest(self, vectors: Mapping[str, Any], k: int, allowed: Keys | None = None) -> list[Ranked]:
        """Finds the k passages nearest to one query; see `nearest_to_each`.

        Args:
            vectors: maps the name of a space to the query in it: a vector (dim,), of kind "multi" (parts, dim), of kind
                "sparse" a `SparseRow`.
            k: number of passages.
            allowed: keys of the passages that may be found; None for all.
        """
        listed = {name: [vector] for name, vector in vectors.items()}
        return self.nearest_to_each(listed, k, allowed)[0] if listed else []

    def nearest_to_each(
        self, vectors: Mapping[str, Sequence[Any]], k: int, allowed: Keys | None = None
    ) -> list[list[Ranked]]:
        """Finds the k passages nearest to each of q queries; the caller holds a snapshot.

        If only one space has passages, the scores are those of its metric. If several have, the score is -log10 of the
        share of random passages that score as high (`vectors.calibration`); if one of them has fewer than
        `calibration.LEAST` passages, too few for this, the hits of the spaces alternate, and their score is
        1 / (60 + rank in the space). If a passage has vectors in more than one of them, their ranks are fused.

        Args:
            vectors: maps the name of a space to the q queries in it, each as for `nearest`; at least one space.
            k: number of passages.
            allowed: keys of the passages that may be found; None for all.

        Returns:
            For each query the passages, best first. The first of them are those of a search for fewer.
        """
        count = len(next(iter(vectors.values())))
        searched = {name: self._of(name) for name in vectors}
        asked = {name: searcher for name, searcher in searched.items() if len(searcher.index)}
        if not asked:
            return [[] for _ in range(count)]
        if len(asked) > 1 and self._overlap(asked):
            return self._fused_spaces(vectors, asked, k, allowed)
        found = {name: one.nearest(vectors[name], k, allowed) for name, one in asked.items()}
        if len(asked) == 1:
            [(name, lists)] = found.items()
            return [_in_space(name, *scored) for scored in lists]
        listed = list(asked)
        small = min(len(searcher.sample) for searcher in asked.values()) < calibration.LEAST
        backgrounds = [] if small else [one.backgrounds(vectors[name]) for name, one in asked.items()]
        every = []
        for i in range(count):
            lists = [found[name][i] for name in listed]
            if small:
                spaces, places, values = _interleaved([len(keys) for keys, _ in lists], k)
            else:
                scores, own = [scores for _, scores in lists], [one[i] for one in backgrounds]
                spaces, places, values = calibration.rank_together(scores, own, k)
            rows = zip(spaces.tolist(), places.tolist(), values.tolist(), strict=True)
            every.append(
                [Ranked(int(lists[space][0][place]), value, listed[space]) for space, place, value in rows]
            )
        return every

    def scored(self, space: str, queries: Floats, k: int, allowed: Keys | None = None) -> list[Scored]:
        """Finds for each of n queries (n, dim) the keys and scores of at most k passages of a space, best first."""
        searched = self._of(space)
        empty = np.zeros(0, np.int64), np.zeros(0, np.float32)
        return searched.nearest(list(queries), k, allowed) if len(searched.index) else [empty] * len(queries)

    def passages(self, spaces: Iterable[str]) -> Keys:
        """Returns the keys of the passages that have a vector in one of some spaces, ascending."""
        return np.unique(np.concatenate([np.zeros(0, np.int64), *(self._of(one).passages for one in spaces)]))

    def _overlap(self, asked: Mapping[str, _Searched]) -> bool:
        """Whether a passage has vectors in more than one of some spaces."""
        for pair in combinations(asked.items(), 2):
            names = (pair[0][0], pair[1][0])
            state, overlap = self._overlaps.get(names, (None, False))
            if state != pair[0][1].state:
                state, (one, other) = pair[0][1].state, (searched.passages for _, searched in pair)
                overlap = bool(np.isin(one, other, assume_unique=True).any())
                self._overlaps[names] = state, overlap
            if overlap:
                return True
        return False

    def _fused_spaces(
        self,
        vectors: Mapping[str, Sequence[Any]],
        asked: Mapping[str, _Searched],
        k: int,
        allowed: Keys | None,
    ) -> list[list[Ranked]]:
        """Ranks the passages of spaces that share some by the fusion of their ranks, each passage once."""
        depth = depth_of(k)
        found = {name: one.nearest(vectors[name], depth, allowed) for name, one in asked.items()}
        every = []
        for i in range(len(next(iter(vectors.values())))):
            lists = {name: lists[i][0] for name, lists in found.items()}
            keys = np.unique(np.concatenate(list(lists.values())))
            held = np.sum([one.holds(keys) for one in asked.values()], axis=0)
            times = dict(zip(keys.tolist(), (len(asked) / np.maximum(held, 1)).tolist(), strict=True))

            def fuse(
                depth: int, lists: Mapping[str, Keys] = lists, times: Mapping[int, float] = times
            ) -> list[Ranked]:
                return _rank_fused({name: keys[:depth].tolist() for name, keys in lists.items()}, times)

            every.append(in_rounds(k, max(map(len, lists.values())), fuse))
        return every

    def _of(self, space: str) -> _Searched:
        """Returns a space in the state of the snapshot; it is loaded again after a write."""
        with self._lock:
            state, known = self._catalogue.changes(), self._searched.get(space)
            if known is None or known.state != state or not known.loaded.unchanged():
                record = self._catalogue.spaces()[space]
                known = self._made(record, state, None if known is None else known.candidates)
                self._searched[space] = known
            return known

    def _made(self, record: SpaceRecord, state: tuple[int, int], known: _Candidates | None) -> _Searched:
        """Loads a space; its kind decides how it is searched."""
        if record.kind == SPARSE:
            keys, rows = self._catalogue.sparse_vectors(record.name)
            without = matrix.Loaded(keys, np.zeros((len(keys), 0), np.float32))
            index = SparseIndex(keys, rows.offsets, rows.indices, rows.weights)
            return _Searched.of(state, without, index, None)
        loaded = matrix.load(self._catalogue, self._folder, record.name)
        if record.kind == MULTI:
            parts = MaxSimIndex(record.dim, record.metric, loaded.keys, loaded.vectors)
            return _Searched.of(state, loaded, parts, None)
        exact = self._exact(record.dim, record.metric, loaded.keys, loaded.vectors)
        return _Searched.of(state, loaded, exact, self._candidates(record, loaded, known))

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


def _in_space(space: str, keys: Keys, scores: Floats) -> list[Ranked]:
    return [Ranked(key, score, space) for key, score in zip(keys.tolist(), scores.tolist(), strict=True)]


def depth_of(count: int) -> int:
    """Returns the length of the lists of the round in which hit number `count` is taken; see `in_rounds`."""
    depth = FIRST_DEPTH
    while depth // DEEPER < count:
        depth *= DEEPER
    return depth


def in_rounds(count: int, longest: int, fuse: Callable[[int], list[Ranked]]) -> list[Ranked]:
    """Takes hits from the fusion of longer and longer lists, so that fewer hits are the first of more.

    Args:
        count: number of hits.
        longest: length of the longest list, of which no more than `depth_of(count)` hits were looked for.
        fuse: returns the fusion of the first hits of each list, best first, given their number.

    Returns:
        At most `count` hits. No score is above that of the hit before.
    """
    taken: dict[int, Ranked] = {}
    depth, score = FIRST_DEPTH, np.inf
    while True:
        complete = longest < depth
        upto = count if complete else min(count, depth // DEEPER)
        for one in fuse(depth):
            if len(taken) >= upto:
                break
            if one.key not in taken:
                score = min(score, one.score)
                taken[one.key] = one if one.score == score else replace(one, score=score)
        if complete or len(taken) >= count:
            return list(taken.values())
        depth *= DEEPER


def _rank_fused(lists: Mapping[str, Sequence[int]], times: Mapping[int, float]) -> list[Ranked]:
    """Reciprocal rank fusion of the keys of several spaces, of which each passage is in some.

    Args:
        lists: maps the name of a space to keys, best first.
        times: how often the ranks of a key count: the number of spaces divided by that of the spaces that hold it.

    Returns:
        Each key once, best first, with the space in which its rank is best; the smaller key wins ties.
    """
    scores: dict[int, float] = {}
    best: dict[int, tuple[int, str]] = {}
    for name, keys in lists.items():
        for rank, key in enumerate(keys, 1):
            scores[key] = scores.get(key, 0.0) + times[key] / (RRF + rank)
            if key not in best or rank < best[key][0]:
                best[key] = rank, name
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [Ranked(key, score, best[key][1]) for key, score in ranked]


def fused(
    by_vector: Sequence[Ranked],
    by_words: Sequence[tuple[int, float]],
    space: str,
    wordless: Container[int] = (),
    weights: tuple[float, float] = (1.0, 1.0),
) -> list[Ranked]:
    """Weighted reciprocal rank fusion: the sum of weight / (60 + rank) over both lists; the smaller key wins ties.

    A passage without words, such as an image, can only be in one of the lists, so its rank there counts for both:
    otherwise every text that is in both lists would come before the best image.

    Args:
        by_vector: passages found by vectors, best first.
        by_words: (key, score) of passages found by words, best first.
        space: name of the space for passages found only by words.
        wordless: keys of the passages without words.
        weights: of the two lists.

    Returns:
        All passages of both lists, best first; of a list with the weight 0, none.
    """
    near, in_words = weights
    scores: dict[int, float] = {}
    for rank, one in enumerate(by_vector if near else (), 1):
        scores[one.key] = (near + in_words if one.key in wordless else near) / (RRF + rank)
    for rank, (key, _) in enumerate(by_words if in_words else (), 1):
        scores[key] = scores.get(key, 0.0) + in_words / (RRF + rank)
    spaces = {one.key: one.space for one in by_vector}
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    return [Ranked(key, score, spaces.get(key, space)) for key, score in ranked]


def target(like: Floats, unlike: Floats) -> Floats:
    """Returns a vector (dim,) near the vectors `like` (n, dim) and far from `unlike` (m, dim).

    It is mean(like) + (mean(like) - mean(unlike)), or mean(like) if `unlike` is empty.
    """
    wanted = like.mean(axis=0)
    return np.asarray(2 * wanted - unlike.mean(axis=0) if len(unlike) else wanted, np.float32)
