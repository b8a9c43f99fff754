"""A window: words around a centre against its targets, one step of gradient descent (arXiv:1310.4546).

All words around a centre are told apart from the same targets: the centre and its negatives, or the nodes on its path.
So a window is two small matrix products, whose parts stay in registers, and only a few rows of a large table are
touched, all asked for one window ahead: what takes the time otherwise is waiting for memory.

Tables are float32, rows padded with zeros to whole lanes; "at" is a place in floats in a table seen as flat.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnivec.kernels.draws import Alias, advance, draw, negatives_table
from omnivec.kernels.simd import LANES, fma, fold, inlined, lean, load, prefetch, sigmoid, splat, store
from omnivec.kernels.trees import Places, Tree, huffman_tree, no_tree
from omnivec.types import Floats

GROUP = 6
"""Targets whose products are computed together: a word and five negatives."""
LINE = 16
"""Floats in a cache line."""
WATCHED = 64
"""Of so many windows one is asked for its loss."""


class Text(NamedTuple):
    """What is read.

    Attributes:
        ids: (n,) words.
        starts: (sentences + 1,) places in `ids`.
        keep: (v,) how often each word is kept, as `draws.keep_table` has it.
    """

    ids: NDArray[np.int32]
    starts: Places
    keep: NDArray[np.uint32]


class Model(NamedTuple):
    """What is learned.

    Attributes:
        inputs: (v * width,) vectors of words.
        outputs: (v * width,) of words as targets, or of the tree's nodes.
        alias: by which negatives are drawn.
        tree: paths; empty for negative sampling.
    """

    inputs: Floats
    outputs: Floats
    alias: Alias
    tree: Tree


class Settings(NamedTuple):
    """How to learn.

    Attributes:
        skipgram: whether words around predict the centre one by one; otherwise together (CBOW).
        negative: negatives for each window; 0 takes the tree.
        window: most words on either side.
        shrink: whether a window's size is drawn from 1 to `window`.
        mean: whether CBOW takes the mean of the words around, not their sum.
        width: floats of a row, whole lanes.
    """

    skipgram: bool
    negative: int
    window: int
    shrink: bool
    mean: bool
    width: int


class Room(NamedTuple):
    """A thread's own arrays, written anew for each window; two of what is prepared one window ahead.

    Attributes:
        sentence: words of a sentence that are kept.
        around: places of the vectors of the words around.
        origin: (1,) 0, the place of `hidden`.
        targets: (2, most targets) rows.
        labels: (2, most targets) 1 or 0.
        rates: (2, most targets) 1, or 0 for what is no target.
        errors: by input and target: (label - prediction) * learning rate.
        changes: (inputs, width) what is to be added to each input vector.
        hidden: (width,) the input of CBOW.
    """

    sentence: NDArray[np.int32]
    around: Places
    origin: Places
    targets: Places
    labels: Floats
    rates: Floats
    errors: Floats
    changes: Floats
    hidden: Floats


def room(sentence: int, window: int, targets: int, width: int) -> Room:
    """A thread's arrays for such sizes."""
    most = -(-targets // GROUP) * GROUP + LANES
    return Room(
        np.zeros(sentence, np.int32),
        np.zeros(2 * window + 1, np.int64),
        np.zeros(1, np.int64),
        np.zeros((2, most), np.int64),
        np.zeros((2, most), np.float32),
        np.zeros((2, most), np.float32),
        np.zeros((2 * window + 1) * most, np.float32),
        np.zeros((2 * window + 1) * width, np.float32),
        np.zeros(width, np.float32),
    )


def targets_of(counts: Places, negative: int) -> tuple[Alias, Tree, int]:
    """By what negatives are drawn, the tree that is used without negatives, and the most targets of a word."""
    tree = no_tree() if negative else huffman_tree(counts)
    most = negative + 1 if negative else int(np.diff(tree.starts).max(initial=1))
    return negatives_table(counts), tree, most


def width_of(dim: int) -> int:
    """Floats of a row: whole lanes."""
    return -(-dim // LANES) * LANES


def zeros(rows: int, dim: int) -> Floats:
    """(rows, width) in memory that begins with a cache line, as each row then does or half so.

    A row that began elsewhere would have all its vectors lie in two lines each.
    """
    width = width_of(dim)
    room = np.zeros(rows * width + LINE, np.float32)
    begin = -(room.ctypes.data // room.itemsize) % LINE
    return room[begin : begin + rows * width].reshape(rows, width)


@lean
def step(
    table: Floats,
    places: Places,
    inputs: int,
    outputs: Floats,
    width: int,
    mine: Room,
    side: int,
    many: int,
    rate: Any,
) -> None:
    """All inputs against all targets: the outputs change, the inputs' changes are left in `mine.changes`."""
    for i in range(inputs):
        for t in range(0, many, GROUP):
            errors(table, places[i], outputs, width, mine, side, t, i * many + t, rate)
    for d in range(0, width, LANES):
        for t in range(0, many, GROUP):
            _change(table, places, inputs, outputs, width, mine, side, t, many, d)


@inlined
def errors(
    table: Floats, at: int, outputs: Floats, width: int, mine: Room, side: int, t: int, place: int, rate: Any
) -> None:
    """One input against one group of targets: errors times the learning rate; what is behind them is overwritten."""
    row = mine.targets[side]
    a, b, c = row[t] * width, row[t + 1] * width, row[t + 2] * width
    d, e, f = row[t + 3] * width, row[t + 4] * width, row[t + 5] * width
    zero = splat(np.float32(0.0))
    va, vb, vc, vd, ve, vf = zero, zero, zero, zero, zero, zero
    for k in range(0, width, LANES):
        x = load(table, at + k)
        va, vb = fma(x, load(outputs, a + k), va), fma(x, load(outputs, b + k), vb)
        vc, vd = fma(x, load(outputs, c + k), vc), fma(x, load(outputs, d + k), vd)
        ve, vf = fma(x, load(outputs, e + k), ve), fma(x, load(outputs, f + k), vf)
    tail = fold(ve, vf)
    quarters = fold(fold(fold(va, vb), fold(vc, vd)), fold(tail, tail))
    products = fold(quarters, quarters)
    from_side = side * mine.labels.shape[1] + t
    factor = load(mine.rates, from_side) * splat(rate)
    store(mine.errors, place, (load(mine.labels, from_side) - sigmoid(products)) * factor)


@inlined
def _change(
    table: Floats, places: Places, inputs: int, outputs: Floats, width: int, mine: Room, side: int, t: int, many: int,
    d: int,
) -> None:  # fmt: skip
    """Sixteen columns of one group of targets, and of what all inputs change by it.

    A negative that was drawn in two groups of one window has changed already when the second looks at it.
    """
    row = mine.targets[side]
    a, b, c = row[t] * width + d, row[t + 1] * width + d, row[t + 2] * width + d
    e, f, g = row[t + 3] * width + d, row[t + 4] * width + d, row[t + 5] * width + d
    oa, ob, oc = load(outputs, a), load(outputs, b), load(outputs, c)
    oe, of, og = load(outputs, e), load(outputs, f), load(outputs, g)
    zero = splat(np.float32(0.0))
    ca, cb, cc, ce, cf, cg = zero, zero, zero, zero, zero, zero
    for i in range(inputs):
        x, place = load(table, places[i] + d), i * many + t
        ea, eb, ec = splat(mine.errors[place]), splat(mine.errors[place + 1]), splat(mine.errors[place + 2])
        ee, ef, eg = (
            splat(mine.errors[place + 3]),
            splat(mine.errors[place + 4]),
            splat(mine.errors[place + 5]),
        )
        ca, cb, cc = fma(ea, x, ca), fma(eb, x, cb), fma(ec, x, cc)
        ce, cf, cg = fma(ee, x, ce), fma(ef, x, cf), fma(eg, x, cg)
        own = zero if t == 0 else load(mine.changes, i * width + d)
        own = fma(ec, oc, fma(eb, ob, fma(ea, oa, own)))
        store(mine.changes, i * width + d, own + fma(eg, og, fma(ef, of, ee * oe)))
    # Added one after the other: the same row may be among them twice.
    store(outputs, a, load(outputs, a) + ca)
    store(outputs, b, load(outputs, b) + cb)
    store(outputs, c, load(outputs, c) + cc)
    store(outputs, e, load(outputs, e) + ce)
    store(outputs, f, load(outputs, f) + cf)
    store(outputs, g, load(outputs, g) + cg)


@inlined
def prepare(model: Model, settings: Settings, mine: Room, side: int, centre: int, state: Any) -> Any:
    """Targets of a window, in whole groups, and their rows on their way; returns their number and the state."""
    width = settings.width
    rows, labels, rates = mine.targets, mine.labels, mine.rates
    many = 0
    if settings.negative > 0:
        rows[side, 0], labels[side, 0], rates[side, 0] = centre, 1.0, 1.0
        for many in range(1, settings.negative + 1):
            state = advance(state)
            word = draw(state, model.alias.thresholds, model.alias.others)
            rows[side, many], labels[side, many] = word, 0.0
            rates[side, many] = 0.0 if word == centre else 1.0
        many = settings.negative + 1
    else:
        begin = model.tree.starts[centre]
        many = model.tree.starts[centre + 1] - begin
        for t in range(many):
            rows[side, t], labels[side, t] = model.tree.nodes[begin + t], model.tree.labels[begin + t]
            rates[side, t] = 1.0
    for t in range(many):
        fetch(model.outputs, rows[side, t] * width, width)
    while many % GROUP != 0:
        rows[side, many], rates[side, many] = rows[side, 0], 0.0
        many += 1
    return many, state


@inlined
def fetch(table: Floats, at: int, width: int) -> None:
    """Asks for a row, to be read and written soon."""
    for d in range(0, width, LINE):
        prefetch(table, at + d)


@inlined
def add(table: Floats, at: int, changes: Floats, place: int, width: int) -> None:
    """Adds a row of changes to a row of a table."""
    for d in range(0, width, LANES):
        store(table, at + d, load(table, at + d) + load(changes, place + d))


@inlined
def loss_of(mine: Room, inputs: int, side: int, many: int, rate: Any) -> float:
    """What the window cost before its step: minus the sum of log probabilities."""
    cost = 0.0
    for i in range(inputs):
        for t in range(many):
            if mine.rates[side, t] != 0.0:
                cost -= math.log(max(1.0 - abs(mine.errors[i * many + t]) / rate, 1e-7))
    return cost
