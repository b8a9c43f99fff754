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
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from omnivec.collection.searched import (
    STALE,
    Candidates,
    LargeSpace,
    Proposing,
    Scored,
    SearchedSpace,
    SmallSpace,
)
from omnivec.store import index_files, matrix
from omnivec.store.index_builder import Builder
from omnivec.store.index_registry import AUTOMATIC, EXACT, IndexClass, index_class
from omnivec.store.matrix_file import MatrixDamaged
from omnivec.store.maxsim import MaxSimIndex
from omnivec.store.records import FILLING, SpaceRecord
from omnivec.store.space_rows import Rows
from omnivec.store.sparse import SparseIndex
from omnivec.store.sqlite import Catalogue
from omnivec.types import MULTI, SPARSE, Floats, Ints, Keys
from omnivec.vectors import calibration

LOOK_SECONDS = 1.0
"""After how long a ranking looks for a newer index file again."""

RRF = 60
"""The constant of reciprocal rank fusion: Cormack, Clarke, Buettcher 2009."""

FIRST_DEPTH = 50
"""Length of the lists that are fused in the first round."""

DEEPER = 4
"""The lists of a round are this many times as long as the hits that are taken by its end, and as the lists before."""


@dataclass(frozen=True)
class Ranked:
    """A passage with its score, higher is better, and its space."""

    key: int
    score: float
    space: str


class Ranking:
    """Finds the nearest passages of a catalogue; keeps its spaces in memory until something is written."""

    def __init__(
        self, catalogue: Catalogue, folder: Path, index: IndexClass | None = None, name: str = AUTOMATIC
    ) -> None:
        """Opens nothing yet.

        Args:
            catalogue: of the collection.
            folder: of the collection.
            index: the class of an index, by which dense spaces are searched; None for all vectors in small spaces and
                the index `name` in larger ones. An index that is not stored in files is built in memory.
            name: of an index that is stored in files.
        """
        self._catalogue, self._folder = catalogue, folder
        self._exact = index_class(EXACT)
        self._class = self._exact if index is None else index
        self._name = name if index is None or hasattr(index, "load") else ""
        self._in_memory = index is not None and index is not self._exact and not self._name
        self._lock = threading.Lock()
        self._searched: dict[str, SearchedSpace] = {}
        self._overlaps: dict[tuple[str, str], tuple[tuple[int, int] | None, bool]] = {}
        self._builders: dict[str, Builder] = {}
        self._looked: dict[str, float] = {}

    def close(self) -> None:
        """Stops builds in the background; a search later starts them again."""
        with self._lock:
            for builder in self._builders.values():
                builder.stop()

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
        try:
            return self._nearest_to_each(vectors, k, allowed)
        except MatrixDamaged:
            self._reopen(vectors)
            return self._nearest_to_each(vectors, k, allowed)

    def _nearest_to_each(
        self, vectors: Mapping[str, Sequence[Any]], k: int, allowed: Keys | None
    ) -> list[list[Ranked]]:
        count = len(next(iter(vectors.values())))
        searched = {name: self._of(name) for name in vectors}
        asked = {name: searcher for name, searcher in searched.items() if len(searcher)}
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
        if not len(searched):
            return [(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(queries)
        try:
            return searched.nearest(list(queries), k, allowed)
        except MatrixDamaged:
            self._reopen([space])
            return self._of(space).nearest(list(queries), k, allowed)

    def passages(self, spaces: Iterable[str]) -> Keys:
        """Returns the keys of the passages that have a vector in one of some spaces, ascending."""
        every = [self._of(one).passages for one in spaces]
        if len(every) == 1:
            return every[0]
        return np.unique(np.concatenate([np.zeros(0, np.int64), *every]))

    def _overlap(self, asked: Mapping[str, SearchedSpace]) -> bool:
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
        asked: Mapping[str, SearchedSpace],
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

    def _of(self, space: str) -> SearchedSpace:
        """Returns a space in the state of the snapshot; after a write, what changed is read."""
        with self._lock:
            state, known = self._catalogue.changes(), self._searched.get(space)
            if known is None or known.state != state or not known.unchanged():
                known = self._made(self._catalogue.spaces()[space], known)
                self._searched[space] = known
            if self._name and isinstance(known, LargeSpace) and time.monotonic() > self._looked.get(space, 0):
                known = self._searched[space] = self._with_index(space, known)
            return known

    def _reopen(self, spaces: Iterable[str]) -> None:
        """Opens spaces anew, without files that are damaged: the catalogue has what they should have."""
        with self._lock:
            for name in spaces:
                self._searched[name] = self._made(self._catalogue.spaces()[name], None, verified=True)

    def _made(
        self, record: SpaceRecord, known: SearchedSpace | None, *, verified: bool = False
    ) -> SearchedSpace:
        """Loads a space; its kind and its size decide how it is searched."""
        state = self._catalogue.changes()
        if record.kind == SPARSE:
            keys, rows = self._catalogue.sparse_vectors(record.name)
            without = matrix.Loaded(keys, np.zeros((len(keys), 0), np.float32))
            return SmallSpace(state, without, SparseIndex(keys, rows.offsets, rows.indices, rows.weights))
        if isinstance(known, LargeSpace) and record.state != FILLING and not verified:
            later = matrix.advanced(self._catalogue, record.name, known.rows)
            if later is not None and len(later) > matrix.EXACT_ROWS:
                return LargeSpace.of(later, record.metric, known, known.proposing)
        now = matrix.open_rows(self._catalogue, self._folder, record.name, verified=verified)
        if record.kind != MULTI and not self._in_memory and len(now) > matrix.EXACT_ROWS:
            return LargeSpace.of(now, record.metric, None, self._kept(known, now))
        try:
            loaded = matrix.whole(now)
        except MatrixDamaged:
            loaded = matrix.whole(matrix.open_rows(self._catalogue, self._folder, record.name, verified=True))
        if record.kind == MULTI:
            parts = MaxSimIndex(record.dim, record.metric, loaded.keys, loaded.vectors)
            return SmallSpace(state, loaded, parts)
        exact = self._exact(record.dim, record.metric, loaded.keys, loaded.vectors)
        before = known.candidates if isinstance(known, SmallSpace) else None
        return SmallSpace(state, loaded, exact, self._candidates(record, loaded, before))

    def _kept(self, known: SearchedSpace | None, now: Rows) -> Proposing | None:
        """Returns the index that an earlier state of a space had, if that state is one of its history."""
        if not isinstance(known, LargeSpace) or known.proposing is None or known.rows.space != now.space:
            return None
        state = known.proposing.state
        return known.proposing if self._catalogue.stamp(state[0]) == state[1] else None

    def _candidates(
        self, record: SpaceRecord, loaded: matrix.Loaded, known: Candidates | None
    ) -> Candidates | None:
        """Returns the index of a space in memory: the present one if little has changed, else a new one."""
        if self._class is self._exact or not len(loaded.keys):
            return None
        if known is not None and known.fits(record, loaded):
            return known
        return Candidates(self._class(record.dim, record.metric, loaded.keys, loaded.vectors), loaded.keys)

    def _with_index(self, space: str, known: LargeSpace) -> LargeSpace:
        """Takes the newest index file of a space; has one built in the background where it is worth it."""
        self._looked[space] = time.monotonic() + LOOK_SECONDS
        newest = index_files.newest_state(self._catalogue, self._folder, space, self._name)
        proposing = known.proposing
        if newest is not None and (proposing is None or newest[0] > proposing.state[0]):
            stored = index_files.newest(self._catalogue, self._folder, space, self._name)
            if stored is not None:
                proposing = Proposing(stored.index, stored.header.last, stored.header.state)
                known = replace(known, proposing=proposing)
        if not self._catalogue.readonly and known.unproposed() > STALE * len(known):
            builder = self._builders.setdefault(space, Builder(self._folder, space, self._name))
            builder.start()
        return known


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
