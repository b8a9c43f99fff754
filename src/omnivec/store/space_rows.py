"""The vectors of a large space, where they are: the base in a mapped file, and the tail, which came later, in memory.

Example. The base has the keys 1, 2, 5 and 9. Then the passage 2 is deleted, and 10 and 12 are added: the base is as
before with one row that is not alive, and the tail has two rows. Nothing of the base is copied, whatever happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from omnivec.store.matrix_file import Block, MatrixFile
from omnivec.types import Floats, Ints, Keys

_ROWS_AT_ONCE = 1 << 12
_LEAST = 256
"""Rows for which a buffer has space at least."""

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Part:
    """Vectors in the order of their keys, some of which may not be alive: their passages were deleted.

    Attributes:
        keys: (n,) int64, ascending.
        vectors: (n, dim) float32; a map that is not verified, if there is a file.
        file: the mapped file; None if the vectors are in memory.
        alive: (n,) whether the passage of a row still exists; None if all do.
        squares: (n,) squared norms in float64; None if they are not known.
        single: whether no key has several rows.
    """

    keys: Keys
    vectors: Floats
    file: MatrixFile | None = None
    alive: Mask | None = None
    squares: Doubles | None = None
    single: bool = True

    @classmethod
    def of(cls, keys: Keys, vectors: Floats, file: MatrixFile | None = None) -> Part:
        """Makes a part of which all rows are alive."""
        return cls(keys, vectors, file, single=bool(np.all(keys[1:] > keys[:-1])))

    def __len__(self) -> int:
        """The number of rows that are alive."""
        return len(self.keys) if self.alive is None else int(np.count_nonzero(self.alive))

    @property
    def gone(self) -> int:
        """The number of rows that are not alive."""
        return 0 if self.alive is None else len(self.keys) - int(np.count_nonzero(self.alive))

    def unchanged(self) -> bool:
        """Whether the file, if there is one, was not written to since it was mapped."""
        return self.file is None or self.file.unchanged()

    def rows_of(self, keys: Keys) -> Ints:
        """The rows of some keys that are alive, ascending.

        Args:
            keys: (m,) int64, ascending, each once; those that are not here are left out.
        """
        if not len(self.keys) or not len(keys):
            return np.zeros(0, np.int64)
        first, last = int(self.keys[0]), int(self.keys[-1])
        if self.single and last - first + 1 == len(self.keys):
            rows = keys - first
            rows = rows[(rows >= 0) & (rows < len(self.keys))]
        else:
            rows = np.searchsorted(self.keys, keys)
            rows = rows[self.keys[np.minimum(rows, len(self.keys) - 1)] == keys]
            if not self.single:
                ends = np.searchsorted(self.keys, self.keys[rows], "right")
                counts = ends - rows
                rows = np.repeat(ends - np.cumsum(counts), counts) + np.arange(counts.sum())
        return rows if self.alive is None else rows[self.alive[rows]]

    def take(self, rows: Ints) -> Floats:
        """Returns a copy of some rows, (m, dim) float32, verified.

        Raises:
            MatrixDamaged: the file is not what was written.
        """
        return self.vectors[rows] if self.file is None else self.file.take(rows)

    def without(self, keys: Keys) -> Part:
        """This part when the rows of some keys, ascending, are no longer alive."""
        rows = self.rows_of(keys)
        if not len(rows):
            return self
        alive = np.ones(len(self.keys), np.bool_) if self.alive is None else self.alive.copy()
        alive[rows] = False
        return replace(self, alive=alive)

    def blocks(self) -> Iterator[Block]:
        """The rows that are alive, in blocks of bounded size; all rows of a key are in one block.

        Raises:
            MatrixDamaged: the file is not what was written.
        """
        start = 0
        while start < len(self.keys):
            end = min(start + _ROWS_AT_ONCE, len(self.keys))
            end = int(np.searchsorted(self.keys, self.keys[end - 1], "right"))
            rows = np.arange(start, end)
            if self.alive is not None:
                rows = rows[self.alive[start:end]]
            if len(rows):
                yield self.keys[rows], self.take(rows)
            start = end


class _Buffer:
    """Rows in memory with space for more, so that adding a few costs a few."""

    def __init__(self, dim: int, size: int) -> None:
        self.keys, self.vectors = np.empty(size, np.int64), np.empty((size, dim), np.float32)
        self.squares, self.used = np.empty(size, np.float64), 0

    def extended(self, count: int, keys: Keys, vectors: Floats) -> _Buffer:
        """A buffer with these rows after its first `count`: this one, if nobody else has added to it since."""
        size = count + len(keys)
        into = self
        if self.used != count or size > len(self.keys):
            into = _Buffer(self.vectors.shape[1], max(_LEAST, 2 * size))
            into.keys[:count], into.vectors[:count] = self.keys[:count], self.vectors[:count]
            into.squares[:count] = self.squares[:count]
        doubles = vectors.astype(np.float64)
        into.keys[count:size], into.vectors[count:size] = keys, vectors
        into.squares[count:size] = np.einsum("ij,ij->i", doubles, doubles)
        into.used = size
        return into


@dataclass(frozen=True, eq=False)
class Rows:
    """The vectors of a space in one state of the catalogue.

    Attributes:
        state: the state of the catalogue.
        dim: length of a vector.
        base: the rows of the matrix file, or all rows if there is none.
        tail: rows with greater keys, in memory.
        last: no passage up to this key will get vectors that are not here.
        space: key of the space's row in the catalogue.
    """

    state: tuple[int, int]
    dim: int
    base: Part
    tail: Part
    last: int
    space: int
    _buffer: _Buffer = field(repr=False)

    @classmethod
    def of(cls, state: tuple[int, int], base: Part, space: int) -> Rows:
        """Rows without a tail."""
        dim = base.vectors.shape[1]
        buffer = _Buffer(dim, 0)
        tail = Part(buffer.keys, buffer.vectors, squares=buffer.squares)
        return cls(state, dim, base, tail, int(base.keys[-1]) if len(base.keys) else 0, space, buffer)

    def __len__(self) -> int:
        """The number of vectors that are alive."""
        return len(self.base) + len(self.tail)

    @property
    def stale(self) -> int:
        """The number of rows by which the base differs from what is alive."""
        return self.base.gone + len(self.tail.keys)

    def advanced(self, state: tuple[int, int], removed: Keys, keys: Keys, vectors: Floats) -> Rows:
        """These rows in a later state.

        Args:
            state: the later state.
            removed: keys of the passages that were deleted meanwhile, ascending.
            keys: (n,) int64, ascending: those of vectors that were added.
            vectors: (n, dim) float32.
        """
        base, tail, buffer = self.base, self.tail, self._buffer
        if len(removed):
            base, tail = base.without(removed), tail.without(removed)
        if len(keys):
            count = len(tail.keys)
            buffer, size = buffer.extended(count, keys, vectors), count + len(keys)
            alive = tail.alive
            if alive is not None:
                alive = np.concatenate([alive, np.ones(len(keys), np.bool_)])
            single = tail.single and bool(np.all(keys[1:] > keys[:-1]))
            tail = Part(buffer.keys[:size], buffer.vectors[:size], None, alive, buffer.squares[:size], single)
        last = max(self.last, int(keys[-1])) if len(keys) else self.last
        return Rows(state, self.dim, base, tail, last, self.space, buffer)

    def take(self, keys: Keys) -> Block:
        """The vectors of some passages that are alive.

        Args:
            keys: (m,) int64, ascending, each once; those that have no vector here are left out.

        Returns:
            keys (n,) int64, ascending, one for each vector, and vectors (n, dim) float32, verified.

        Raises:
            MatrixDamaged: the file is not what was written.
        """
        rows = self.base.rows_of(keys)
        found, vectors = self.base.keys[rows], self.base.take(rows)
        if not len(self.tail.keys):
            return found, vectors
        later = self.tail.rows_of(keys)
        if not len(later):
            return found, vectors
        return (
            np.concatenate([found, self.tail.keys[later]]),
            np.concatenate([vectors, self.tail.take(later)]),
        )

    def keys(self) -> Keys:
        """(n,) int64: the key of each vector that is alive, ascending."""
        parts = [
            part.keys if part.alive is None else part.keys[part.alive] for part in (self.base, self.tail)
        ]
        return np.concatenate(parts) if len(parts[1]) else parts[0]

    def holds(self, keys: Keys) -> Mask:
        """(m,) whether each of some keys has a vector that is alive."""
        ascending = np.unique(keys)
        here = [part.keys[part.rows_of(ascending)] for part in (self.base, self.tail)]
        return np.isin(keys, np.concatenate(here))

    def blocks(self) -> Iterator[Block]:
        """All vectors that are alive, ascending by key, in blocks of bounded size; all parts of a key are in one block.

        Raises:
            MatrixDamaged: the file is not what was written.
        """
        yield from self.base.blocks()
        yield from self.tail.blocks()
