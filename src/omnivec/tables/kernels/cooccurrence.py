"""Counts how often words occur near each other, by an inverted index, one dense row at a time.

For each word, the words around all of its positions are added into one dense row, which stays in the CPU's cache. The
columns used are listed, so that writing the sparse row and clearing the dense one take time proportional to its
entries. There is no hash table, sorting or merging. Each row is summed by one thread in the order of the corpus, so
the sums are the same for any number of threads.

Example, sentences [0, 1, 0] and [2], Windows(size=2):

    index of 0      positions 0, 2; before 0, 2; behind 2, 0       words of the window on either side
    row of 0        around position 0: 1 at distance 1, 0 at distance 2; around position 2: the same
                    column 1 is 1 + 1 = 2.0, column 0 is 1/2 + 1/2 = 1.0
    row of 1        around position 1: 0 at distance 1, twice: column 0 is 2.0
    row of 2        empty
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
"""Most entries in a chunk of rows, unless a single row has more."""
AHEAD = 8
"""Positions between prefetching the text around one and reading it: positions of a rare word are far apart."""
LINE, FETCHED = 16, 64
"""Tokens in a cache line, and how far around a position to prefetch; the hardware prefetcher does the rest."""
SHARES = 64
"""The words of a chunk make up at most 1 / SHARES of the text, unless a single word is more frequent."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Which words count as near, and with what weight.

    Attributes:
        size: largest distance in tokens, at least 1.
        symmetric: whether words on both sides count; otherwise only words before.
        distance_weighting: whether a word at distance d adds 1/d; otherwise it adds 1.
    """

    size: int
    symmetric: bool = True
    distance_weighting: bool = True

    def weights(self) -> NDArray[np.float64]:
        """What a word adds at each distance (size + 1,); 0 at distance 0."""
        distances = np.arange(self.size + 1, dtype=np.float64)
        added = 1.0 / np.maximum(distances, 1.0) if self.distance_weighting else np.ones_like(distances)
        return np.where(distances > 0, added, 0.0)


@dataclass(frozen=True, eq=False)
class Cooccurrence:
    """A sparse matrix in CSR format: a row per word, a column per word near it; columns are not sorted.

    Attributes:
        indptr: (v + 1,) int64, the offset of each row, and the end of the last.
        columns: (entries,) int32.
        values: (entries,) float32, above 0.
    """

    indptr: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.columns)


class Places(NamedTuple):
    """An inverted index: the positions of each word.

    Attributes:
        indptr: (v + 1,) int64, the offset of each word's entries below, and the end of the last.
        positions: (n,) positions in the corpus, ascending for each word.
        before: (n,) the number of tokens of its sentence and window before each position.
        behind: (n,) the number of those after it.
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
    """Counts pairs of words that occur in the same window; windows do not cross sentences.

    Memory: 8 bytes per entry, an index of 6 to 10 bytes per token, and for each thread a row of 8 bytes per word and
    one chunk of entries.

    Args:
        ids: (n,) the corpus, each id below `words`.
        starts: (sentences + 1,) the offset of each sentence in `ids`, from 0 to n.
        words: size of the vocabulary.
        windows: which words count as near.
        threads: number of threads; the result does not depend on it.
        on_tokens: called after each chunk with the number of tokens counted in it.

    Returns:
        (words, words) sums, taken in float64 in the order of the corpus and rounded once to float32.
    """
    places = index(ids, starts, words, windows)
    weights, chunks = windows.weights(), _chunks(places.indptr, windows)
    room = max((chunk.room for chunk in chunks), default=0)
    idle = SimpleQueue[_Scratch]()
    for _ in range(threads):
        idle.put(_Scratch.of(words, room))

    def work(chunk: _Chunk) -> _ChunkRows:
        scratch = idle.get()
        sizes = np.empty(chunk.last - chunk.first, np.int64)
        entries = _count_rows(chunk.first, chunk.last, ids, places, weights, scratch, sizes)
        counted = _ChunkRows(sizes, scratch.columns[:entries].copy(), scratch.values[:entries].copy())
        idle.put(scratch)
        return counted

    sizes, columns, values = _GrowingArray(np.int64), _GrowingArray(np.int32), _GrowingArray(np.float32)
    sizes.add(np.zeros(1, np.int64))
    for chunk, counted in zip(chunks, in_order(work, chunks, threads), strict=True):
        sizes.add(counted.sizes)
        columns.add(counted.columns)
        values.add(counted.values)
        if on_tokens is not None:
            on_tokens(int(places.indptr[chunk.last] - places.indptr[chunk.first]))
    return Cooccurrence(np.cumsum(sizes.whole()), columns.whole(), values.whole())


def index(ids: NDArray[np.int32], starts: NDArray[np.int64], words: int, windows: Windows) -> Places:
    """Makes the inverted index of a corpus; the arguments are those of `count`."""
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
    """Rows first <= i < last, which have at most `room` entries."""

    first: int
    last: int
    room: int


class _ChunkRows(NamedTuple):
    """The rows of one chunk: the number of entries of each, columns, values."""

    sizes: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]


class _Scratch(NamedTuple):
    """A thread's buffers: a dense row, which is zero between rows; its used columns; the entries of a chunk."""

    row: NDArray[np.float64]
    touched: NDArray[np.int32]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]

    @classmethod
    def of(cls, words: int, room: int) -> _Scratch:
        # One more than there are words, because the next column is written before it is known to be new.
        touched = np.empty(words + 1, np.int32)
        return cls(np.zeros(words), touched, np.empty(room, np.int32), np.empty(room, np.float32))


def _chunks(indptr: NDArray[np.int64], windows: Windows) -> list[_Chunk]:
    """All rows, in order, in chunks that fit a thread's buffers and keep all threads busy."""
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


class _GrowingArray:
    """An array to which parts are appended; it grows by an eighth at a time, by realloc, mostly without copying."""

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
    """Adds the number of occurrences of each id to `counts`."""
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
    """Writes each position to its word's next free entry, with the numbers of tokens in its window on either side."""
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
    """Counts rows first <= i < last into scratch.columns and scratch.values; returns the number of entries."""
    row, touched = scratch.row, scratch.touched
    reach, last_place = min(len(weights) - 1, FETCHED), len(places.positions) - 1
    entries = 0
    for word in range(first, last):
        distinct = 0
        for place in range(places.indptr[word], places.indptr[word + 1]):
            next_position = np.int64(places.positions[min(place + AHEAD, last_place)])
            for line in range(next_position - reach, next_position + reach + LINE, LINE):
                prefetch(ids, line)
            position = np.int64(places.positions[place])
            for distance in range(np.int64(places.before[place]), 0, -1):
                column = ids[position - distance]
                touched[distinct] = column
                distinct += row[column] == 0.0  # without a branch, since it would be unpredictable
                row[column] += weights[distance]
            for distance in range(1, np.int64(places.behind[place]) + 1):
                column = ids[position + distance]
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
