"""How often words stand near each other: counting by an inverted index, one dense row at a time.

For each word its own positions are walked and what stands around them is added into ONE dense row, which stays in
the CPU's cache; the columns that were touched are listed, so that a row is emitted and cleared in time proportional
to its entries. No hash table, no sorting, no merging; each row is summed in the order of the corpus by one thread, so
the sums are the same for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnivec.tables.kernels.parallel import in_order
from omnivec.tables.kernels.simd import compiled, prefetch

CHUNK = 1 << 21
"""Entries that a chunk of rows may have at most, unless one row alone has more."""
AHEAD = 8
"""Places whose surroundings are asked for before their turn: a rare word's lie anywhere in the text."""
LINE, FETCHED = 16, 64
"""Tokens in a cache line, and how far from a place they are asked for; the CPU foresees what is farther."""
SHARES = 64
"""A chunk's words make up one of so many parts of the text, unless one word alone is more frequent."""


@dataclass(frozen=True, eq=False)
class Windows:
    """What counts as near.

    Attributes:
        size: farthest distance in tokens, at least 1.
        symmetric: whether both sides count; otherwise only what stands before a word.
        distance_weighting: whether a word at distance d adds 1/d; otherwise 1.
    """

    size: int
    symmetric: bool = True
    distance_weighting: bool = True

    def weights(self) -> NDArray[np.float64]:
        """(size + 1,) what a word adds at each distance; none at 0."""
        distances = np.arange(self.size + 1, dtype=np.float64)
        added = 1.0 / np.maximum(distances, 1.0) if self.distance_weighting else np.ones_like(distances)
        return np.where(distances > 0, added, 0.0)


@dataclass(frozen=True, eq=False)
class Cooccurrence:
    """A sparse matrix by rows: row = word, column = a word near it; columns stand in no particular order.

    Attributes:
        indptr: (v + 1,) int64, where each row begins.
        columns: (entries,) int32.
        values: (entries,) float32, above 0.
    """

    indptr: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.columns)


class Places(NamedTuple):
    """Where each word stands: an inverted index.

    Attributes:
        indptr: (v + 1,) int64, where each word's places begin.
        positions: (n,) in the corpus, rising for each word.
        before: (n,) how many tokens of the window lie before it in its sentence.
        behind: (n,) how many behind it.
    """

    indptr: NDArray[np.int64]
    positions: NDArray[Any]
    before: NDArray[Any]
    behind: NDArray[Any]


def count(
    ids: NDArray[np.int32],
    starts: NDArray[np.int64],
    words: int,
    windows: Windows,
    threads: int = 1,
    on_tokens: Callable[[int], None] | None = None,
) -> Cooccurrence:
    """Counts the pairs of words that stand in one window; windows never cross sentences.

    Memory: the entries (8 bytes each), an index of 6 to 10 bytes a token, and for each thread a row of 8 bytes a word
    and one chunk of entries.

    Args:
        ids: (n,) the corpus, each id below `words`.
        starts: (sentences + 1,) where sentences begin in `ids`; rising from 0 to n.
        words: size of the vocabulary.
        windows: what counts as near.
        threads: how many work; the result does not depend on it.
        on_tokens: called with the number of tokens whose surroundings were counted, again and again.

    Returns:
        (words, words) sums, taken in float64 in the order of the corpus and rounded once to float32.
    """
    places = index(ids, starts, words, windows)
    weights, chunks = windows.weights(), _chunks(places.indptr, windows)
    room = max((chunk.room for chunk in chunks), default=0)
    idle = SimpleQueue[_Scratch]()
    for _ in range(threads):
        idle.put(_Scratch.of(words, room))

    def work(chunk: _Chunk) -> _Rows:
        scratch = idle.get()
        sizes = np.empty(chunk.last - chunk.first, np.int64)
        entries = _count_rows(chunk.first, chunk.last, ids, places, weights, scratch, sizes)
        counted = _Rows(sizes, scratch.columns[:entries].copy(), scratch.values[:entries].copy())
        idle.put(scratch)
        return counted

    sizes, columns, values = _Growing(np.int64), _Growing(np.int32), _Growing(np.float32)
    sizes.add(np.zeros(1, np.int64))
    for chunk, counted in zip(chunks, in_order(work, chunks, threads), strict=True):
        sizes.add(counted.sizes)
        columns.add(counted.columns)
        values.add(counted.values)
        if on_tokens is not None:
            on_tokens(int(places.indptr[chunk.last] - places.indptr[chunk.first]))
    return Cooccurrence(np.cumsum(sizes.whole()), columns.whole(), values.whole())


def index(ids: NDArray[np.int32], starts: NDArray[np.int64], words: int, windows: Windows) -> Places:
    """The inverted index of a corpus, as `count` takes it."""
    indptr = np.zeros(words + 1, np.int64)
    _tally(ids, indptr[1:])
    np.cumsum(indptr, out=indptr)
    near = np.min_scalar_type(windows.size)
    positions = np.empty(len(ids), np.uint32 if len(ids) < 1 << 32 else np.uint64)
    places = Places(indptr, positions, np.empty(len(ids), near), np.empty(len(ids), near))
    behind = windows.size if windows.symmetric else 0
    _fill_index(ids, starts, windows.size, behind, indptr[:-1].copy(), places)
    return places


class _Chunk(NamedTuple):
    """Rows from first to before last, which have at most `room` entries."""

    first: int
    last: int
    room: int


class _Rows(NamedTuple):
    """Rows of one chunk: entries in each, columns, values."""

    sizes: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]


class _Scratch(NamedTuple):
    """What a thread works with: a dense row, all zeros between rows; its touched columns; a chunk's entries."""

    row: NDArray[np.float64]
    touched: NDArray[np.int32]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]

    @classmethod
    def of(cls, words: int, room: int) -> _Scratch:
        # One more than there are words: the list is written one place ahead.
        touched = np.empty(words + 1, np.int32)
        return cls(np.zeros(words), touched, np.empty(room, np.int32), np.empty(room, np.float32))


def _chunks(indptr: NDArray[np.int64], windows: Windows) -> list[_Chunk]:
    """All rows, in order, in chunks that a thread's scratch can hold and that keep all threads busy."""
    words, share = len(indptr) - 1, int(indptr[-1]) // SHARES
    near = windows.size * (2 if windows.symmetric else 1)
    sizes = np.diff(indptr)
    bounds = np.minimum(sizes * near, words)
    chunks, first, room, tokens = [], 0, 0, 0
    for row, (bound, size) in enumerate(zip(bounds.tolist(), sizes.tolist(), strict=True)):
        if row > first and (room + bound > CHUNK or tokens + size > share):
            chunks.append(_Chunk(first, row, room))
            first, room, tokens = row, 0, 0
        room += bound
        tokens += size
    return [*chunks, _Chunk(first, words, room)] if words else []


class _Growing:
    """One array made of parts as they come; its memory grows by an eighth at a time and is mostly moved, not copied."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._array = np.empty(CHUNK, dtype)
        self._used = 0

    def add(self, part: NDArray[Any]) -> None:
        end = self._used + len(part)
        if end > len(self._array):
            self._array.resize(end + end // 8, refcheck=False)
        self._array[self._used : end] = part
        self._used = end

    def whole(self) -> NDArray[Any]:
        self._array.resize(self._used, refcheck=False)
        return self._array


@compiled
def _tally(ids: NDArray[np.int32], counts: NDArray[np.int64]) -> None:
    for word in ids:
        counts[word] += 1


@compiled
def _fill_index(
    ids: NDArray[np.int32],
    starts: NDArray[np.int64],
    before: int,
    behind: int,
    free: NDArray[np.int64],
    places: Places,
) -> None:
    """Writes each position to its word's next free place, with the width of its window to both sides."""
    for sentence in range(len(starts) - 1):
        begin, end = starts[sentence], starts[sentence + 1]
        for position in range(begin, end):
            place = free[ids[position]]
            free[ids[position]] = place + 1
            places.positions[place] = position
            places.before[place] = min(before, position - begin)
            places.behind[place] = min(behind, end - 1 - position)


@compiled
def _count_rows(
    first: int,
    last: int,
    ids: NDArray[np.int32],
    places: Places,
    weights: NDArray[np.float64],
    scratch: _Scratch,
    sizes: NDArray[np.int64],
) -> int:
    """Counts rows first <= i < last into the scratch's columns and values; returns the number of entries."""
    row, touched = scratch.row, scratch.touched
    reach, last_place = min(len(weights) - 1, FETCHED), len(places.positions) - 1
    entries = 0
    for word in range(first, last):
        distinct = 0
        for place in range(places.indptr[word], places.indptr[word + 1]):
            coming = np.int64(places.positions[min(place + AHEAD, last_place)])
            for line in range(coming - reach, coming + reach + LINE, LINE):
                prefetch(ids, line)
            here = np.int64(places.positions[place])
            for distance in range(np.int64(places.before[place]), 0, -1):
                column = ids[here - distance]
                touched[distinct] = column
                distinct += row[column] == 0.0  # without a branch: whether a column is new cannot be foreseen
                row[column] += weights[distance]
            for distance in range(1, np.int64(places.behind[place]) + 1):
                column = ids[here + distance]
                touched[distinct] = column
                distinct += row[column] == 0.0
                row[column] += weights[distance]
        for i in range(distinct):
            scratch.columns[entries + i] = touched[i]
            scratch.values[entries + i] = row[touched[i]]
            row[touched[i]] = 0.0
        sizes[word - first] = distinct
        entries += distinct
    return entries
