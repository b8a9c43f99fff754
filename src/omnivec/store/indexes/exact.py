"""Exact search: every vector is compared, in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.store.indexes.base import checked
from omnivec.types import Floats, Keys, Metric

_SCORES_AT_ONCE = 1 << 23  # 32 MB of float32
_ROWS_AT_ONCE = 1 << 10
_ONE_THREAD = 1 << 24
"""Most numbers of a matrix that is multiplied with one query on a single thread. Such a product is limited by memory,
and the threads of a BLAS wait for one another: over 11,000 vectors they take 0.1 ms if cores are free and 7 ms if not,
a single thread 0.4 and 0.5 ms (benchmarks/exact_search.py)."""

Doubles = NDArray[np.float64]
Rows = NDArray[np.int64]


def _blocks(n: int, size: int = _ROWS_AT_ONCE) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def squared(vectors: Floats) -> Doubles:
    """(n, d) -> (n,) squared norms in float64, as some would overflow or vanish in float32."""
    doubles = vectors.astype(np.float64)
    norms: Doubles = np.einsum("ij,ij->i", doubles, doubles)
    return norms


def is_tame(norms: Doubles) -> bool:
    """Whether products of vectors with these norms neither overflow nor underflow in float32."""
    return bool(np.all((norms == 0) | ((norms > 1e-15) & (norms < 1e15))))


def _candidates(rank: Floats, slack: float, k: int, starts: Rows) -> Rows:
    """The rows that may be among the k best, by approximate scores with an error of at most `slack`.

    Args:
        rank: (n,) approximate scores, higher is better.
        slack: the bound of their error; infinite if there is none.
        k: number of keys to find.
        starts: the first row of each key.
    """
    best = rank if len(starts) == len(rank) else np.maximum.reduceat(rank, starts)
    if len(best) <= k:
        return np.arange(len(rank))
    floor = np.partition(best, len(best) - k)[len(best) - k]
    return np.flatnonzero(rank >= float(floor) - 2 * slack)


class ExactIndex:
    """All vectors in one matrix; a `VectorIndex` whose results are exact.

    A fast float32 product ranks all rows; all rows that could be among the k best, given its rounding error, are
    scored again in float64. So the result is that of float64 throughout, rounded to float32 at the end, and equal
    vectors have equal scores in whatever row they are. By cosine, a zero vector scores 0.
    """

    exact = True

    def __init__(
        self,
        dim: int,
        metric: Metric,
        keys: Keys | None = None,
        matrix: Floats | None = None,
        *,
        squares: Doubles | None = None,
        release: Callable[[], None] | None = None,
    ) -> None:
        """Makes an index, empty or of existing vectors, which are not copied.

        Args:
            dim: length of a vector.
            metric: by which vectors are compared.
            keys: (n,) int64, ascending.
            matrix: (n, dim) float32, finite; may be a read-only memory map.
            squares: (n,) the squared norms of the rows, if they are known.
            release: is called whenever many rows were read, to free the memory of a large map.
        """
        self.dim = dim
        self.metric: Metric = metric
        self._keys = np.zeros(0, np.int64) if keys is None else keys
        self._matrix = np.zeros((0, dim), np.float32) if matrix is None else matrix
        if self._matrix.shape != (len(self._keys), dim):
            raise UsageError(
                f"matrix is {self._matrix.shape}; {len(self._keys)} keys need ({len(self._keys)}, {dim})"
            )
        if np.any(self._keys[1:] < self._keys[:-1]):
            raise UsageError("keys are not ascending; sort keys and matrix together")
        self._norms = squares  # squared
        self._release = release

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, keys: Keys, vectors: Floats) -> None:
        """Adds vectors; the vectors that these keys had before are replaced. See `VectorIndex.add`."""
        keys, vectors = np.asarray(keys, np.int64), checked(vectors, self.dim, "vectors")
        if keys.shape != (len(vectors),) or (len(keys) and keys.min() < 0):
            raise UsageError(
                f"keys are {keys.shape}, {len(vectors)} vectors need as many keys, none negative"
            )
        keep = ~np.isin(self._keys, keys)
        merged = np.concatenate([self._keys[keep], keys])
        matrix = np.concatenate([self._matrix[keep], vectors])
        order = np.argsort(merged, kind="stable")
        self._keys, self._matrix, self._norms = merged[order], matrix[order], None

    def remove(self, keys: Keys) -> None:
        """Removes all vectors of these keys; unknown keys are ignored."""
        keep = ~np.isin(self._keys, np.asarray(keys, np.int64))
        self._keys, self._matrix, self._norms = self._keys[keep], self._matrix[keep], None

    def search(self, queries: Floats, k: int, allowed: Keys | None = None) -> tuple[Keys, Floats]:
        """Finds the k best keys for each query. See `VectorIndex.search`."""
        return self.search_alive(queries, k, allowed, None)

    def search_alive(
        self, queries: Floats, k: int, allowed: Keys | None, alive: NDArray[np.bool_] | None
    ) -> tuple[Keys, Floats]:
        """Finds the k best keys for each query, where some rows may no longer be found.

        Args:
            queries: (q, dim) float32, finite.
            k: how many, at least 1.
            allowed: (m,) int64, the keys that may be found; None for all.
            alive: (n,) whether a row may be found, the same for all rows of a key; None for all.
        """
        if k < 1:
            raise UsageError(f"k is {k}; it must be at least 1")
        queries = checked(queries, self.dim, "queries")
        rows = None if allowed is None else self._rows_of(allowed)
        if rows is not None and alive is not None:
            rows = rows[alive[rows]]
        row_keys = self._keys if rows is None else self._keys[rows]
        keys = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        if len(row_keys) == 0:
            return keys, scores
        starts = np.flatnonzero(np.concatenate([[True], row_keys[1:] != row_keys[:-1]]))
        for block in _blocks(len(queries), max(1, _SCORES_AT_ONCE // len(row_keys))):
            ranks, slacks = self._ranked(queries[block], rows)
            for i, rank, slack in zip(range(block.start, block.stop), ranks, slacks, strict=True):
                if rows is None and alive is not None:
                    rank = np.where(alive, rank, -np.inf)
                near = _candidates(rank, float(slack), k, starts)
                if rows is None and alive is not None:
                    near = near[alive[near]]
                best, values = self._best(queries[i], near if rows is None else rows[near], k)
                keys[i, : len(best)], scores[i, : len(best)] = best, values
        return keys, scores

    def _rows_of(self, allowed: Keys) -> Rows:
        """The rows of the allowed keys, ascending."""
        unique = np.unique(np.asarray(allowed, np.int64))
        first = np.searchsorted(self._keys, unique, "left")
        counts = np.searchsorted(self._keys, unique, "right") - first
        rows: Rows = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        return rows

    def _squares(self, rows: Rows | None) -> Doubles:
        """The squared norm of each row; once computed for all rows, they are cached."""
        if rows is not None and self._norms is None:
            return np.concatenate([squared(self._matrix[rows[block]]) for block in _blocks(len(rows))])
        if self._norms is None:
            norms = np.empty(len(self))
            for piece in self._pieces():
                for block in _blocks(piece.stop - piece.start):
                    place = slice(piece.start + block.start, piece.start + block.stop)
                    norms[place] = squared(self._matrix[place])
            self._norms = norms
        return self._norms if rows is None else self._norms[rows]

    def _ranked(self, queries: Floats, rows: Rows | None) -> tuple[Floats, Doubles]:
        """Approximate scores of all rows for each query, and a bound of their error for each query.

        The score is q·x for dot, q·x / |x| for cosine and q·x - |x|²/2 for euclidean. The error of a float32 product
        of vectors is at most n u / (1 - n u) |q||x|, u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms,
        2nd ed., section 3.1); a few u more cover the other steps.
        """
        squares = self._squares(rows)
        norms, sizes = np.sqrt(squares), np.sqrt(squared(queries))
        if not (is_tame(norms) and is_tame(sizes)):
            return np.zeros((len(queries), len(norms)), np.float32), np.full(len(queries), np.inf)
        ranks = self._products(queries, rows)
        unit = (self.dim + 16) * 2.0**-24 * 1.01
        if self.metric == "dot":
            return ranks, unit * sizes * norms.max()
        if self.metric == "cosine":
            ranks *= (1 / np.where(norms > 0, norms, 1)).astype(np.float32)
            return ranks, unit * sizes
        ranks -= (squares / 2).astype(np.float32)
        return ranks, unit * (sizes + norms.max()) ** 2

    def _products(self, queries: Floats, rows: Rows | None) -> Floats:
        products = np.empty((len(queries), len(self) if rows is None else len(rows)), np.float32)
        if rows is None and len(queries) == 1 and self._matrix.size <= _ONE_THREAD:
            np.einsum("ij,j->i", self._matrix, queries[0], out=products[0])
        elif rows is None:
            for piece in self._pieces():
                np.matmul(queries, self._matrix[piece].T, out=products[:, piece])
        else:
            for block in _blocks(len(rows)):
                products[:, block] = queries @ self._matrix[rows[block]].T
        return products

    def _pieces(self) -> Iterator[slice]:
        """All rows in pieces, after each of which the memory of a large map is freed; else in one piece."""
        if self._release is None:
            yield slice(0, len(self))
            return
        for piece in _blocks(len(self), _ROWS_AT_ONCE * 32):
            yield piece
            self._release()

    def _best(self, query: Floats, rows: NDArray[np.int64], k: int) -> tuple[Keys, Floats]:
        """Scores rows in float64 and returns the k best keys, each with its best part's score; ties by key."""
        blocks = [rows[block] for block in _blocks(len(rows), _ROWS_AT_ONCE)]
        scored = [_scored(query, self._matrix[block], self.metric) for block in blocks]
        scores = np.concatenate([*scored, _NOTHING])
        return _ordered(self._keys[rows], scores, k)


def nearest_of(query: Floats, keys: Keys, vectors: Floats, k: int, metric: Metric) -> tuple[Keys, Floats]:
    """Finds the k best of a few vectors, with the scores that `ExactIndex` gives them.

    Args:
        query: (dim,) float32, finite.
        keys: (n,) int64, ascending; a key may have several vectors.
        vectors: (n, dim) float32, finite.
        k: how many, at least 1.
        metric: by which vectors are compared.

    Returns:
        Keys (m,) int64 and scores (m,) float32, best first; m is at most k.
    """
    if len(keys) > 2 * k + 8:
        near = _near(query, keys, vectors, k, metric)
        keys, vectors = keys[near], vectors[near]
    blocks = [_scored(query, vectors[block], metric) for block in _blocks(len(keys))]
    return _ordered(keys, blocks[0] if len(blocks) == 1 else np.concatenate([*blocks, _NOTHING]), k)


_NOTHING = np.zeros(0, np.float32)


def _near(query: Floats, keys: Keys, vectors: Floats, k: int, metric: Metric) -> Rows:
    """The rows that may be among the k best, by a product in float32; see `ExactIndex._ranked` for its error."""
    squares, square = np.einsum("ij,ij->i", vectors, vectors), float(np.dot(query, query))
    if not (squares.min() > 1e-30 and squares.max() < 1e30 and 1e-30 < square < 1e30):
        return np.arange(len(keys))
    rank, size, largest = vectors @ query, square**0.5, float(squares.max()) ** 0.5
    unit = 4 * (len(query) + 16) * 2.0**-24  # 4, as the norms are of float32 as well
    if metric == "cosine":
        rank /= np.sqrt(squares)
        slack = unit * size
    elif metric == "euclidean":
        rank -= squares / 2
        slack = unit * (size + largest) ** 2
    else:
        slack = unit * size * largest
    single = bool((keys[1:] > keys[:-1]).all())
    starts = keys if single else np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return _candidates(rank, slack, k, starts)


def _ordered(keys: Keys, scores: Floats, k: int) -> tuple[Keys, Floats]:
    """The k best keys, each with its best score; ties by key. The keys are ascending."""
    order = np.argsort(-scores, kind="stable")
    if bool((keys[1:] > keys[:-1]).all()):
        chosen = order[:k]
    else:
        _, first = np.unique(keys[order], return_index=True)
        chosen = order[np.sort(first)[:k]]
    return keys[chosen], scores[chosen]


def _scored(query: Floats, rows: Floats, metric: Metric) -> Floats:
    vectors, q = rows.astype(np.float64), query.astype(np.float64)
    if metric == "euclidean":
        scores = 0 - np.sqrt(((vectors - q) ** 2).sum(axis=1))  # 0 - x, so that nothing scores -0.0
        return np.asarray(scores, np.float32)
    scores = (vectors * q).sum(axis=1)
    if metric == "cosine":
        norms = np.sqrt((vectors**2).sum(axis=1)) * np.sqrt((q**2).sum())
        scores = np.divide(scores, norms, out=np.zeros_like(scores), where=norms > 0)
    with np.errstate(over="ignore"):
        rounded: Floats = scores.astype(np.float32)
    return rounded


INDEX = ExactIndex
