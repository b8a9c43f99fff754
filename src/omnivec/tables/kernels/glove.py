"""GloVe: the logarithms of co-occurrences, factorised by AdaGrad.

Pennington et al. 2014, "GloVe: Global Vectors for Word Representation", section 3. With x an entry of the matrix, w and
v the word's and the context's vector, b and c their biases:

    error  = w . v + b + c - log(x)              weight = min(1, (x / x_max) ** alpha)
    cost   = weight * error ** 2 / 2             a step = lr * weight * error * v, limited to CLIP before lr

Each number has a sum of the squares of its steps, from 1 on, and moves by step / sqrt(sum). Biases take their steps
with a rate of 1 and unlimited, as the authors' program does.
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
"""Entries of one row that are learned one after the other: its vector stays in the nearest cache meanwhile."""
PIECE = 1 << 12
"""Blocks that a thread takes at a time."""
AHEAD = 4
"""Entries whose context is asked for before its turn, since it lies anywhere in memory."""
CLIP = 100.0
"""Largest component of a gradient, as in the authors' program."""


class Tables(NamedTuple):
    """What is learned, and the sums of squares of the steps beside it.

    Attributes:
        words: (v, 2, width) float32: of each word its vector, padded with zeros to whole registers, and its sums.
        contexts: (v, 2, width) float32, the same of the words as contexts.
        word_biases: (v, 2) float32: of each word its bias, and its sum.
        context_biases: (v, 2) float32.
        dim: components of a vector that are meant.
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
        """(v, dim) float32: each word's vector; with `contexts` the one as a context is added."""
        vectors = self.words[:, 0, : self.dim].copy()
        return vectors + self.contexts[:, 0, : self.dim] if contexts else vectors


@dataclass(frozen=True)
class Factorisation:
    """How a matrix is learned.

    Attributes:
        x_max: entries from here on have full weight.
        alpha: how weights fall below it.
        lr: learning rate.
        threads: that work at a time on the same tables, without locks. One gives the same bits for the same seed.
        seed: of the order of the entries.
    """

    x_max: float
    alpha: float
    lr: float
    threads: int
    seed: int


class _Pace(NamedTuple):
    """What a kernel needs of a Factorisation: log(x_max), alpha, lr, in float32."""

    full: np.float32
    alpha: np.float32
    lr: np.float32


class Logarithms(NamedTuple):
    """A matrix in the form that is learned: its rows cut into blocks, logarithms for values.

    Attributes:
        indptr: (v + 1,) int64, where each row begins.
        columns: (entries,) int32.
        logs: (entries,) float32.
        rows: (blocks,) int32, the row that each block is of.
        starts: (blocks + 1,) int64, where each block begins.
    """

    indptr: NDArray[np.int64]
    columns: NDArray[np.int32]
    logs: Floats
    rows: NDArray[np.int32]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, counts: Cooccurrence) -> Logarithms:
        """Takes the matrix over: its values become logarithms where they stand, its entries change places."""
        np.log(counts.values, out=counts.values)
        blocks = -(-np.diff(counts.indptr) // BLOCK)
        rows = np.repeat(np.arange(len(blocks), dtype=np.int32), blocks)
        first = np.cumsum(blocks) - blocks
        starts = counts.indptr[rows] + BLOCK * (np.arange(len(rows)) - first[rows])
        starts = np.append(starts, counts.indptr[-1])
        return cls(counts.indptr, counts.columns, counts.values, rows, starts)


def epoch(tables: Tables, matrix: Logarithms, how: Factorisation, number: int) -> Iterator[tuple[float, int]]:
    """Learns from every entry once, in an order of this epoch's own; changes the tables in place.

    The entries of each row change places; then blocks of a row are taken in any order.

    Yields:
        Cost (a sum) and number of the entries of some blocks that were just learned.
    """
    inside, between = np.random.SeedSequence([how.seed, number]).spawn(2)
    _shuffle(matrix, int(inside.generate_state(1, np.uint64)[0]), how.threads)
    order = np.random.default_rng(between).permutation(len(matrix.rows))
    pieces = [order[i : i + PIECE] for i in range(0, len(order), PIECE)]
    pace = _Pace(np.float32(math.log(how.x_max)), np.float32(how.alpha), np.float32(how.lr))

    def work(blocks: NDArray[np.int64]) -> tuple[float, int]:
        cost = _learn(tables, matrix, blocks, pace)
        return float(cost), int((matrix.starts[blocks + 1] - matrix.starts[blocks]).sum())

    return in_order(work, pieces, how.threads)


def _shuffle(matrix: Logarithms, seed: int, threads: int) -> None:
    """Entries of each row change places; the order does not depend on the threads."""
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

    The exponent is halved by shifting bits, and two steps of Newton's method follow: a few multiplications, where a
    root and a division take several times as long; the same bits on every CPU.
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
    """Sixteen floats, each brought within -limit to limit."""

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, high = arguments
        low = builder.fneg(high)
        x = builder.select(builder.fcmp_ordered("<", x, high), x, high)
        return builder.select(builder.fcmp_ordered(">", x, low), x, low)

    return f32x16(f32x16, f32x16), emit


@compiled
def _shuffle_rows(first: int, last: int, matrix: Logarithms, seed: np.uint64) -> None:
    """Fisher and Yates in each row, with numbers of SplitMix64 that begin anew with each."""
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
def _learn(tables: Tables, matrix: Logarithms, blocks: NDArray[np.int64], pace: _Pace) -> float:
    """Learns the entries of some blocks, in order; returns the sum of their costs."""
    stride = tables.words.size // len(tables.words)
    cost = 0.0
    for i in range(len(blocks)):
        following = blocks[min(i + 1, len(blocks) - 1)]
        coming = matrix.starts[following]
        _ask_for_block(tables, matrix, following, stride)
        begin, end = matrix.starts[blocks[i]], matrix.starts[blocks[i] + 1]
        for entry in range(begin, end):
            ahead = entry + AHEAD
            if ahead >= end:
                ahead = min(ahead - end + coming, len(matrix.columns) - 1)
            context = np.int64(matrix.columns[ahead]) * stride
            for k in range(0, stride, LANES):
                prefetch(tables.contexts, context + k)
            cost += _learn_entry(
                tables,
                np.int64(matrix.rows[blocks[i]]),
                np.int64(matrix.columns[entry]),
                matrix.logs[entry],
                pace,
            )
    return cost


@compiled
def _ask_for_block(tables: Tables, matrix: Logarithms, block: int, stride: int) -> None:
    """Asks for what a block needs first: its row's vector and its entries."""
    word, entries = np.int64(matrix.rows[block]) * stride, matrix.starts[block]
    for k in range(0, stride, LANES):
        prefetch(tables.words, word + k)
    for k in range(0, BLOCK, LANES):
        prefetch(matrix.columns, entries + k)
        prefetch(matrix.logs, entries + k)


@compiled
def _learn_entry(tables: Tables, row: np.int64, column: np.int64, log: np.float32, pace: _Pace) -> float:
    """One step of the two vectors and biases of an entry; returns its cost before."""
    words, contexts, b, c = tables.words, tables.contexts, tables.word_biases, tables.context_biases
    width = words.shape[2]
    word, context = row * 2 * width, column * 2 * width
    product = splat(np.float32(0.0))
    for k in range(0, width, LANES):
        product = fma(load(words, word + k), load(contexts, context + k), product)
    error = total(product) + b[row, 0] + c[column, 0] - log
    slope = error
    if log < pace.full:
        slope = error * np.float32(math.exp(pace.alpha * (log - pace.full)))
    pull, rate, clip = splat(slope), splat(pace.lr), splat(np.float32(CLIP))
    for k in range(0, width, LANES):
        w, v = load(words, word + k), load(contexts, context + k)
        w_sums, v_sums = load(words, word + width + k), load(contexts, context + width + k)
        w_step, v_step = limited(pull * v, clip) * rate, limited(pull * w, clip) * rate
        store(words, word + k, w - w_step * inverse_root(w_sums))
        store(contexts, context + k, v - v_step * inverse_root(v_sums))
        store(words, word + width + k, fma(w_step, w_step, w_sums))
        store(contexts, context + width + k, fma(v_step, v_step, v_sums))
    b[row, 0] -= slope / math.sqrt(b[row, 1])
    c[column, 0] -= slope / math.sqrt(c[column, 1])
    b[row, 1] += slope * slope
    c[column, 1] += slope * slope
    return float(0.5 * slope * error)
