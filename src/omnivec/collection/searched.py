"""One space in one state of the catalogue: its nearest passages, and the scores of a random sample of them.

A space of up to `matrix.EXACT_ROWS` vectors, and one that holds several or sparse vectors per passage, is one matrix,
all of which is compared with a query, unless an index in memory proposes what to compare (`SmallSpace`). A larger space
(`LargeSpace`) has its vectors in a mapped file and, those that were added later, in memory. An index that another
process built proposes candidates; these are compared exactly, and so are the vectors that were added after it was
built. So scores do not depend on the index, and what was deleted is never found.

Example. The index was built when the last key was 900. The mapped file has the keys up to 1,000, and 1,001 to 1,010
were added since. For k = 10 the index proposes 100 keys up to 900, of which two were deleted; the other 98 and the 110
vectors from 901 on are compared, and the 10 best of these are returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from omnivec.store import matrix
from omnivec.store.indexes.base import ApproximateIndex, VectorIndex
from omnivec.store.indexes.exact import ExactIndex, nearest_of
from omnivec.store.matrix_file import Block
from omnivec.store.maxsim import MaxSimIndex
from omnivec.store.records import SpaceRecord
from omnivec.store.space_rows import Part, Rows
from omnivec.store.sparse import SparseIndex
from omnivec.types import Floats, Keys, Metric
from omnivec.vectors import calibration

SAMPLE = 2_000
"""Size of the random sample of a space's passages whose scores are the background of a query."""

CANDIDATES = 4
"""An index in memory is asked for this many times k candidates, which are then ranked by their exact scores."""

STALE = 0.1
"""Share of a space's vectors that may be missing in its index before this is extended, or added or removed before an
index in memory is built again."""

FEW = 2_000
"""Number of allowed passages that are always compared exactly."""
FEW_SHARE = 0.02
"""Share of the passages that, if allowed, are compared exactly: an index would have to read most of its vectors."""
FEW_AT_MOST = 100_000
"""Largest number of vectors that are copied out of a mapped file for one query."""

Scored = tuple[Keys, Floats]
"""Keys of passages and their scores, best first."""

State = tuple[int, int]


class SearchedSpace(Protocol):
    """What a ranking asks of a space, however it is searched."""

    @property
    def state(self) -> State:
        """The state of the catalogue."""
        ...

    @property
    def passages(self) -> Keys:
        """Keys of the passages that have vectors, ascending, each once."""
        ...

    @property
    def sample(self) -> Keys:
        """Keys of the sample for the background; always the same for the same keys."""
        ...

    def __len__(self) -> int:
        """The number of vectors."""
        ...

    def unchanged(self) -> bool:
        """Whether the mapped file was not written to since it was mapped."""
        ...

    def nearest(self, queries: Sequence[Any], k: int, allowed: Keys | None) -> list[Scored]:
        """Returns for each query the keys and exact scores of at most k passages, best first."""
        ...

    def backgrounds(self, queries: Sequence[Any]) -> list[calibration.Background]:
        """Returns for each query the distribution of its scores over the sample."""
        ...

    def holds(self, keys: Keys) -> NDArray[np.bool_]:
        """Returns for each of some keys whether the space has a vector of this passage."""
        ...


def _drawn(keys: Keys) -> Keys:
    return keys if len(keys) <= SAMPLE else np.sort(np.random.default_rng(0).choice(keys, SAMPLE, False))


def _ascending(keys: Keys) -> Keys:
    """Some keys in ascending order, each once."""
    return keys if bool((keys[1:] > keys[:-1]).all()) else np.unique(keys)


@dataclass(frozen=True, eq=False)
class Candidates:
    """An approximate index in memory, and the keys of the vectors that it was built from."""

    index: VectorIndex
    keys: Keys

    def fits(self, record: SpaceRecord, loaded: matrix.Loaded) -> bool:
        """Whether few enough vectors were added or removed since then; added ones are all compared exactly."""
        if (self.index.dim, self.index.metric) != (record.dim, record.metric):
            return False
        changed = np.setxor1d(self.keys, loaded.keys)
        return len(changed) <= STALE * len(loaded.keys)


@dataclass(frozen=True, eq=False)
class SmallSpace:
    """A space whose vectors are in one matrix.

    Attributes:
        state: the state of the catalogue.
        loaded: all vectors of the space.
        index: searches them exactly; which one depends on the kind of the space.
        candidates: the approximate index; None if all vectors are compared.
    """

    state: State
    loaded: matrix.Loaded
    index: VectorIndex | MaxSimIndex | SparseIndex
    candidates: Candidates | None = None

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def passages(self) -> Keys:
        """Keys of the passages that have vectors, ascending, each once."""
        return _ascending(self.loaded.keys)

    @cached_property
    def sample(self) -> Keys:
        """Keys of the sample for the background; always the same for the same keys."""
        return _drawn(self.passages)

    @cached_property
    def _tail(self) -> Keys:
        """Keys of vectors that were added after `candidates` was built."""
        none = self.passages[:0]
        return none if self.candidates is None else np.setdiff1d(self.passages, self.candidates.keys)

    def unchanged(self) -> bool:
        """Whether the mapped file was not written to since it was mapped."""
        return self.loaded.unchanged()

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
        return _listed(*self.index.search(np.stack(queries), k, allowed))

    def _proposed(self, index: VectorIndex, vector: Floats, k: int, allowed: Keys | None) -> Keys | None:
        """Returns the keys to compare: candidates and the tail, or all that are allowed if these are too few."""
        most = min(CANDIDATES * k, len(index))
        if most < k or (allowed is not None and len(allowed) <= most):
            return allowed
        proposed = _among(index.search(vector[None], most, allowed)[0][0], self.loaded.keys)
        tail = self._tail
        if allowed is not None:
            proposed, tail = proposed[np.isin(proposed, allowed)], tail[np.isin(tail, allowed)]
        return allowed if len(proposed) < k else np.concatenate([proposed, tail])


@dataclass(frozen=True, eq=False)
class Proposing:
    """An approximate index of a large space.

    Attributes:
        index: proposes candidates.
        last: the largest key in it.
        state: the state of the catalogue that it was built from.
    """

    index: ApproximateIndex
    last: int
    state: State


@dataclass(frozen=True, eq=False)
class LargeSpace:
    """A space whose vectors are in a mapped file and, those that were added later, in memory.

    Attributes:
        rows: the vectors; they may be those of a file that turns out to be damaged, see `matrix_file.MatrixDamaged`.
        metric: by which vectors are compared.
        base: compares all rows of the file; it serves later states too.
        proposing: the approximate index; None while there is none.
    """

    rows: Rows
    metric: Metric
    base: ExactIndex
    proposing: Proposing | None

    @classmethod
    def of(
        cls, rows: Rows, metric: Metric, known: LargeSpace | None, proposing: Proposing | None
    ) -> LargeSpace:
        """Makes a space, with what can be kept of an earlier state of it."""
        if known is not None and known.rows.base.keys is rows.base.keys:
            return cls(rows, metric, known.base, proposing)
        file, plain = rows.base.file, rows.base.vectors.view(np.ndarray)
        release = file.release if file is not None and file.large else None
        return cls(
            rows, metric, ExactIndex(rows.dim, metric, rows.base.keys, plain, release=release), proposing
        )

    @property
    def state(self) -> State:
        """The state of the catalogue."""
        return self.rows.state

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def passages(self) -> Keys:
        """Keys of the passages that have vectors, ascending, each once."""
        return _ascending(self.rows.keys())

    @cached_property
    def sample(self) -> Keys:
        """Keys of the sample for the background; always the same for the same keys."""
        return _drawn(self.passages)

    def unchanged(self) -> bool:
        """Whether the mapped file was not written to since it was mapped."""
        return self.rows.base.unchanged()

    def holds(self, keys: Keys) -> NDArray[np.bool_]:
        """Returns for each of some keys whether the space has a vector of this passage."""
        return self.rows.holds(keys)

    def backgrounds(self, queries: Sequence[Any]) -> list[calibration.Background]:
        """Returns for each query the distribution of its scores over the sample."""
        scored = self._of_few(queries, len(self.sample), self.sample)
        return [calibration.background(scores) for _, scores in scored]

    def nearest(self, queries: Sequence[Any], k: int, allowed: Keys | None) -> list[Scored]:
        """Returns for each query the keys and exact scores of at most k passages, best first.

        If there is an index, they are the best of its candidates and of all vectors that were added after it was built.
        """
        n = len(self.rows)
        if allowed is not None and len(allowed) <= min(FEW_AT_MOST, max(FEW, int(FEW_SHARE * n))):
            return self._of_few(queries, k, _ascending(allowed))
        if self.proposing is None:
            return self._exact(queries, k, allowed)
        index, last = self.proposing.index, self.proposing.last
        wanted = index.candidates(k) * len(self.rows.base.keys) // max(1, len(self.rows.base))
        reach = n if allowed is None else len(allowed)
        if wanted > reach // 4:
            return self._exact(queries, k, allowed)
        proposed = index.search(np.stack(queries), wanted, allowed)[0]
        later = self._later(queries, k, allowed, last)
        found = []
        for i, query in enumerate(queries):
            keys, vectors = self._alive(query, proposed[i], index.candidates(k), allowed)
            one = nearest_of(query, keys, vectors, k, self.metric) if len(keys) else (keys, _NOTHING)
            for part in later:
                one = _merged(one, part[i], k)
            if len(one[0]) < min(k, reach):
                [one] = self._exact([query], k, allowed)
            found.append(one)
        return found

    def _alive(self, query: Floats, proposed: Keys, needed: int, allowed: Keys | None) -> Block:
        """The vectors of the proposed passages; more are proposed if too few of them still exist.

        The passages of a document that was replaced may all be near the query, and leave no room for others.
        """
        index, most = cast(Proposing, self.proposing).index, len(proposed)
        while True:
            keys, vectors = self.rows.take(_ascending(np.sort(proposed[proposed >= 0])))
            complete = most >= len(index) or bool((proposed < 0).any())
            if complete or len(_ascending(keys)) >= needed:
                return keys, vectors
            most = min(4 * most, len(index))
            proposed = index.search(query[None], most, allowed)[0][0]

    def unproposed(self) -> int:
        """The number of vectors that were added after the index was built, which are all compared."""
        after = -1 if self.proposing is None else self.proposing.last
        parts = (self.rows.base.keys, self.rows.tail.keys)
        return sum(len(keys) - int(np.searchsorted(keys, after, "right")) for keys in parts)

    def _of_few(self, queries: Sequence[Any], k: int, keys: Keys) -> list[Scored]:
        """Compares the vectors of some passages, given in ascending order."""
        found, vectors = self.rows.take(keys)
        if not len(found):
            return [(found, _NOTHING) for _ in queries]
        return [nearest_of(query, found, vectors, max(1, k), self.metric) for query in queries]

    def _later(self, queries: Sequence[Any], k: int, allowed: Keys | None, last: int) -> list[list[Scored]]:
        """Searches the vectors with keys above one: those of the file, and those in memory."""
        parts = []
        base = self.rows.base
        start = int(np.searchsorted(base.keys, last, "right"))
        if start < len(base.keys):
            if base.file is not None:
                base.file.verify(start)
            alive = None if base.alive is None else base.alive[start:]
            plain = base.vectors.view(np.ndarray)[start:]
            index = ExactIndex(self.rows.dim, self.metric, base.keys[start:], plain)
            parts.append(_listed(*index.search_alive(np.stack(queries), k, allowed, alive)))
        parts += self._in_memory(queries, k, allowed, last)
        return parts

    def _in_memory(
        self, queries: Sequence[Any], k: int, allowed: Keys | None, last: int = -1
    ) -> list[list[Scored]]:
        tail = self.rows.tail
        if not len(tail.keys) or tail.keys[-1] <= last:
            return []
        start = int(np.searchsorted(tail.keys, last, "right"))
        return [
            _listed(
                *_index_of(tail, start, self.metric).search_alive(
                    np.stack(queries), k, allowed, None if tail.alive is None else tail.alive[start:]
                )
            )
        ]

    def _exact(self, queries: Sequence[Any], k: int, allowed: Keys | None) -> list[Scored]:
        """Compares all vectors."""
        k = max(1, min(k, len(self.rows)))
        base = self.rows.base
        if base.file is not None:
            base.file.verify()
        found = _listed(*self.base.search_alive(np.stack(queries), k, allowed, base.alive))
        for part in self._in_memory(queries, k, allowed):
            found = [_merged(one, other, k) for one, other in zip(found, part, strict=True)]
        return found


_NOTHING = np.zeros(0, np.float32)


def _index_of(part: Part, start: int, metric: Metric) -> ExactIndex:
    squares = None if part.squares is None else part.squares[start:]
    return ExactIndex(part.vectors.shape[1], metric, part.keys[start:], part.vectors[start:], squares=squares)


def _merged(one: Scored, other: Scored, k: int) -> Scored:
    """The k best of two lists without a common key; ties by key."""
    if not len(other[0]):
        return one
    keys, scores = np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]])
    best = np.lexsort((keys, -scores))[:k]
    return keys[best], scores[best]


def _listed(keys: Keys, scores: Floats) -> list[Scored]:
    """The rows of what an index found, without the places where it found too little."""
    return [(one[one >= 0], own[one >= 0]) for one, own in zip(keys, scores, strict=True)]


def _among(keys: Keys, listed: Keys) -> Keys:
    """Returns those of some keys that are in an ascending list."""
    places = np.minimum(np.searchsorted(listed, keys), len(listed) - 1)
    members: Keys = keys[listed[places] == keys]
    return members
