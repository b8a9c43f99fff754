"""GloVe: factorises the logarithms of co-occurrence counts by AdaGrad.

Pennington et al. 2014, "GloVe: Global Vectors for Word Representation", section 3. For an entry x of the matrix, with w
and v the vectors of the word and the context, and b and c their biases:

    error  = w . v + b + c - log(x)              weight = min(1, (x / x_max) ** alpha)
    cost   = weight * error ** 2 / 2             step of w = lr * clip(weight * error * v), to -CLIP ... CLIP

AdaGrad keeps the sum of squared steps of each parameter, starting at 1, and moves it by step / sqrt(sum). As in the
authors' program, steps of biases use a learning rate of 1 and are not clipped.

Example, one component, x = e, w = 2, v = 1, b = c = 0, x_max = 10, alpha = 0.75, lr = 0.05, all sums 1:

    error  = 2 * 1 - 1 = 1                       weight = 0.2718 ** 0.75 = 0.3765        cost = 0.1882
    w      = 2 - 0.05 * 0.3765 * 1 = 1.9812      v      = 1 - 0.05 * 0.3765 * 2 = 0.9624
    b = c  = -0.3765                             sums   = 1 + step ** 2
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from omnivec.tables.kernels.cooccurrence import Cooccurrence
from omnivec.tables.kernels.parallel import in_order
from omnivec.tables.kernels.simd import (
    INTEGERS,
    LANES,
    VECTOR,
    compiled,
    f32x16,
    fma,
    intrinsic,
    load,
    prefetch,
    splat,
    store,
    total,
)
from omnivec.types import Floats

BLOCK = 64
"""Entries of one row that are trained in succession, so that its vector stays in the first-level cache."""
PIECE = 1 << 12
"""Blocks that a thread takes at a time."""
AHEAD = 4
"""Entries between prefetching a context's vector and using it."""
CLIP = 100.0
"""Largest magnitude of a gradient's component, as in the authors' program."""


class Tables(NamedTuple):
    """The parameters, and beside each the sum of its squared steps.

    Attributes:
        words: (v, 2, width) float32: each word's vector, padded with zeros to whole SIMD values, and its sums.
        contexts: (v, 2, width) float32: the same for words as contexts.
        word_biases: (v, 2) float32: each word's bias and its sum.
        context_biases: (v, 2) float32: the same for words as contexts.
        dim: components of a vector, without padding.
    """

    words: Floats
    contexts: Floats
    word_biases: Floats
    context_biases: Floats
    dim: int

    @classmethod
    def drawn(cls, count: int, dim: int, seed: int) -> Tables:
        """Vectors and biases of `count` words, uniform in -0.5 / dim to 0.5 / dim."""
        random = np.random.default_rng(seed)

        def table(width: int, padded: int) -> Floats:
            rows = np.zeros((count, 2, padded), np.float32)
            rows[:, 0, :width] = (random.random((count, width), np.float32) - 0.5) / dim
            rows[:, 1] = 1.0
            return rows

        width = -(-dim // LANES) * LANES
        words, contexts = table(dim, width), table(dim, width)
        return cls(words, contexts, table(1, 1)[:, :, 0].copy(), table(1, 1)[:, :, 0].copy(), dim)

    def vectors(self, contexts: bool = True) -> Floats:
        """Each word's vector (v, dim) float32; with `contexts`, the sum of its word and context vectors."""
        words = self.words[:, 0, : self.dim].copy()
        return words + self.contexts[:, 0, : self.dim] if contexts else words


@dataclass(frozen=True)
class Factorisation:
    """How a matrix is factorised.

    Attributes:
        x_max: entries of at least x_max have weight 1.
        alpha: exponent of the weights of smaller entries.
        lr: learning rate.
        threads: number of threads, which share the tables without locks. With one, the result is the same, bit for
            bit, for the same seed.
        seed: seed of the order of the entries.
    """

    x_max: float
    alpha: float
    lr: float
    threads: int
    seed: int


class _Parameters(NamedTuple):
    """The parameters of the kernel: log(x_max), alpha and lr in float32."""

    full: np.float32
    alpha: np.float32
    lr: np.float32


class Logarithms(NamedTuple):
    """A matrix in the form that is factorised: rows are divided into blocks, and values are logarithms.

    Attributes:
        indptr: (v + 1,) int64, the offset of each row, and the end of the last.
        columns: (entries,) int32.
        logs: (entries,) float32.
        rows: (blocks,) int32, the row of each block.
        starts: (blocks + 1,) int64, the offset of each block, and the end of the last.
    """

    indptr: NDArray[np.int64]
    columns: NDArray[np.int32]
    logs: Floats
    rows: NDArray[np.int32]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, counts: Cooccurrence) -> Logarithms:
        """Takes over a matrix: its values become logarithms in place, and training reorders its entries."""
        np.log(counts.values, out=counts.values)
        blocks = -(-np.diff(counts.indptr) // BLOCK)
        rows = np.repeat(np.arange(len(blocks), dtype=np.int32), blocks)
        first = np.cumsum(blocks) - blocks
        starts = counts.indptr[rows] + BLOCK * (np.arange(len(rows)) - first[rows])
        starts = np.append(starts, counts.indptr[-1])
        return cls(counts.indptr, counts.columns, counts.values, rows, starts)


def epoch(tables: Tables, matrix: Logarithms, how: Factorisation, number: int) -> Iterator[tuple[float, int]]:
    """Trains on every entry once, in a random order that depends on seed and epoch; changes the tables in place.

    The entries of each row are shuffled; then the blocks of all rows are taken in random order.

    Yields:
        The sum of the costs, and the number, of the entries of each piece that was trained on.
    """
    inside, between = np.random.SeedSequence([how.seed, number]).spawn(2)
    _shuffle(matrix, int(inside.generate_state(1, np.uint64)[0]), how.threads)
    order = np.random.default_rng(between).permutation(len(matrix.rows))
    pieces = [order[i : i + PIECE] for i in range(0, len(order), PIECE)]
    parameters = _Parameters(np.float32(math.log(how.x_max)), np.float32(how.alpha), np.float32(how.lr))

    def work(blocks: NDArray[np.int64]) -> tuple[float, int]:
        cost = _learn(tables, matrix, blocks, parameters)
        return float(cost), int((matrix.starts[blocks + 1] - matrix.starts[blocks]).sum())

    return in_order(work, pieces, how.threads)


def _shuffle(matrix: Logarithms, seed: int, threads: int) -> None:
    """Shuffles the entries of each row; the order does not depend on the number of threads."""
    edges = np.linspace(0, matrix.indptr[-1], 16 * threads + 1)
    edges = np.unique(np.searchsorted(matrix.indptr, edges[1:])).tolist()
    ranges = zip([0, *edges], edges, strict=False)

    def work(rows: tuple[int, int]) -> None:
        _shuffle_rows(*rows, matrix, np.uint64(seed))

    for _ in in_order(work, ranges, threads):
        pass


@intrinsic
def inverse_root(context: Any, value: Any) -> Any:
    """1 / sqrt(x) of sixteen floats above 0, to a relative error of 5e-6.

    A first guess comes from halving the exponent by a bit shift; two steps of Newton's method refine it. This takes a
    few multiplications, several times less than a square root and a division, with the same bits on every CPU.
    """

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (x,) = arguments

        def splatted(kind: Any, number: Any) -> Any:
            return ir.Constant(kind, [number] * LANES)

        bits = builder.lshr(builder.bitcast(x, INTEGERS), splatted(INTEGERS, 1))
        y = builder.bitcast(builder.sub(splatted(INTEGERS, 0x5F3759DF), bits), VECTOR)
        half = builder.fmul(x, splatted(VECTOR, -0.5))
        for _ in range(2):
            rest = builder.fadd(builder.fmul(builder.fmul(half, y), y), splatted(VECTOR, 1.5))
            y = builder.fmul(y, rest)
        return y

    return f32x16(f32x16), emit


@intrinsic
def limited(context: Any, value: Any, limit: Any) -> Any:
    """Sixteen floats, each clipped to -limit ... limit."""

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, high = arguments
        low = builder.fneg(high)
        x = builder.select(builder.fcmp_ordered("<", x, high), x, high)
        return builder.select(builder.fcmp_ordered(">", x, low), x, low)

    return f32x16(f32x16, f32x16), emit


@compiled
def _shuffle_rows(first: int, last: int, matrix: Logarithms, seed: np.uint64) -> None:
    """Fisher-Yates shuffle of each row, by SplitMix64 with a seed per row."""
    columns, logs = matrix.columns, matrix.logs
    for row in range(first, last):
        begin, size = matrix.indptr[row], matrix.indptr[row + 1] - matrix.indptr[row]
        state = seed + np.uint64(row) * np.uint64(0xD1342543DE82EF95)
        for left in range(size, 1, -1):
            state += np.uint64(0x9E3779B97F4A7C15)
            mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            other = begin + np.int64(((mixed >> np.uint64(32)) * np.uint64(left)) >> np.uint64(32))
            place = begin + left - 1
            columns[place], columns[other] = columns[other], columns[place]
            logs[place], logs[other] = logs[other], logs[place]


@compiled
def _learn(tables: Tables, matrix: Logarithms, blocks: NDArray[np.int64], parameters: _Parameters) -> float:
    """Trains on the entries of these blocks, in order; returns the sum of their costs."""
    stride = tables.words.size // len(tables.words)
    cost = 0.0
    for i in range(len(blocks)):
        following = blocks[min(i + 1, len(blocks) - 1)]
        next_start = matrix.starts[following]
        _prefetch_block(tables, matrix, following, stride)
        begin, end = matrix.starts[blocks[i]], matrix.starts[blocks[i] + 1]
        for entry in range(begin, end):
            ahead = entry + AHEAD
            if ahead >= end:  # continue in the next block
                ahead = min(ahead - end + next_start, len(matrix.columns) - 1)
            context = np.int64(matrix.columns[ahead]) * stride
            for k in range(0, stride, LANES):
                prefetch(tables.contexts, context + k)
            cost += _learn_entry(
                tables,
                np.int64(matrix.rows[blocks[i]]),
                np.int64(matrix.columns[entry]),
                matrix.logs[entry],
                parameters,
            )
    return cost


@compiled
def _prefetch_block(tables: Tables, matrix: Logarithms, block: int, stride: int) -> None:
    """Prefetches the vector of a block's row, and its entries."""
    word, entries = np.int64(matrix.rows[block]) * stride, matrix.starts[block]
    for k in range(0, stride, LANES):
        prefetch(tables.words, word + k)
    for k in range(0, BLOCK, LANES):
        prefetch(matrix.columns, entries + k)
        prefetch(matrix.logs, entries + k)


@compiled
def _learn_entry(
    tables: Tables, row: np.int64, column: np.int64, log: np.float32, parameters: _Parameters
) -> float:
    """One step of the two vectors and biases of an entry; returns its cost before the step."""
    words, contexts, b, c = tables.words, tables.contexts, tables.word_biases, tables.context_biases
    width = words.shape[2]
    word, context = row * 2 * width, column * 2 * width
    product = splat(np.float32(0.0))
    for k in range(0, width, LANES):
        product = fma(load(words, word + k), load(contexts, context + k), product)
    error = total(product) + b[row, 0] + c[column, 0] - log
    gradient = error
    if log < parameters.full:
        gradient = error * np.float32(math.exp(parameters.alpha * (log - parameters.full)))
    factor, rate, clip = splat(gradient), splat(parameters.lr), splat(np.float32(CLIP))
    for k in range(0, width, LANES):
        w, v = load(words, word + k), load(contexts, context + k)
        w_sums, v_sums = load(words, word + width + k), load(contexts, context + width + k)
        w_step, v_step = limited(factor * v, clip) * rate, limited(factor * w, clip) * rate
        store(words, word + k, w - w_step * inverse_root(w_sums))
        store(contexts, context + k, v - v_step * inverse_root(v_sums))
        store(words, word + width + k, fma(w_step, w_step, w_sums))
        store(contexts, context + width + k, fma(v_step, v_step, v_sums))
    b[row, 0] -= gradient / math.sqrt(b[row, 1])
    c[column, 0] -= gradient / math.sqrt(c[column, 1])
    b[row, 1] += gradient * gradient
    c[column, 1] += gradient * gradient
    return float(0.5 * gradient * error)
