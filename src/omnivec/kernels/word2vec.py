"""Skip-gram and CBOW, with negative sampling or a hierarchical softmax (Mikolov et al. 2013, arXiv:1310.4546).

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

from omnivec.kernels.draws import Alias, advance, below, draw, thin
from omnivec.kernels.simd import LANES, fma, fold, inlined, lean, load, prefetch, sigmoid, splat, store
from omnivec.types import Floats

GROUP = 6
"""Targets whose products are computed together: a word and five negatives."""
LINE = 16
"""Floats in a cache line."""
WATCHED = 64
"""Of so many windows one is asked for its loss."""

Places = NDArray[np.int64]


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


class Tree(NamedTuple):
    """Paths of a binary tree with the words as leaves.

    Attributes:
        starts: (v + 1,) where each word's path begins in the others.
        nodes: inner nodes on the paths, from the leaf up: 0 to v - 2.
        labels: 1 where a path goes left at its node, 0 where it goes right.
    """

    starts: Places
    nodes: NDArray[np.int32]
    labels: Floats


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
        rate: first learning rate; it falls in a line.
        least: last learning rate.
        words: words of all epochs together.
        width: floats of a row, whole lanes.
    """

    skipgram: bool
    negative: int
    window: int
    shrink: bool
    mean: bool
    rate: float
    least: float
    words: int
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


@lean
def learn(
    text: Text, model: Model, settings: Settings, mine: Room, first: int, last: int, rate: float, seed: int
) -> tuple[float, int]:
    """Learns from sentences first <= i < last; several threads may learn the same model at once (Recht et al. 2011).

    Args:
        text: what is read.
        model: changed in place.
        settings: how.
        mine: the thread's own arrays.
        first: sentence.
        last: sentence.
        rate: learning rate.
        seed: of all that is drawn here.

    Returns:
        Losses of some windows, minus the sum of log probabilities, and predictions that they are of.
    """
    state, loss, watched = _start(seed, 0), 0.0, 0
    for s in range(first, last):
        count, state = thin(text.ids, text.starts[s], text.starts[s + 1], text.keep, state, mine.sentence)
        state, more, of = _sentence(model, settings, mine, count, state, np.float32(rate))
        loss += more
        watched += of
    return loss, watched


@inlined
def _sentence(model: Model, settings: Settings, mine: Room, count: int, state: Any, rate: Any) -> Any:
    """Learns from the first words of `mine.sentence`; returns the next state, the loss and what it is of."""
    width = settings.width
    loss, watched, ready = 0.0, 0, 0
    for p in range(-1, count):
        many, side = ready, p & 1
        if p + 1 < count:
            ready, state = _prepare(model, settings, mine, 1 - side, mine.sentence[p + 1], state)
            if p + 1 + settings.window < count:
                _fetch(model.inputs, mine.sentence[p + 1 + settings.window] * width, width)
        if p < 0:
            continue
        state = advance(state)
        reach = below(state, settings.window) + 1 if settings.shrink else settings.window
        inputs = 0
        for q in range(max(0, p - reach), min(count, p + reach + 1)):
            if q != p:
                mine.around[inputs] = np.int64(mine.sentence[q]) * width
                inputs += 1
        if inputs == 0 or many == 0:
            continue
        table, places, predicting = model.inputs, mine.around, inputs
        if not settings.skipgram:
            _gather(model.inputs, mine.around, inputs, mine.hidden, width, settings.mean)
            table, places, predicting = mine.hidden, mine.origin, 1
        _step(table, places, predicting, model.outputs, width, mine, side, many, rate)
        for i in range(inputs):
            _add(model.inputs, mine.around[i], mine.changes, i * width if settings.skipgram else 0, width)
        if (np.uint64(state) >> np.uint64(20)) % np.uint64(WATCHED) == 0:
            loss += _loss(mine, predicting, side, many, rate)
            watched += predicting
    return state, loss, watched


@inlined
def _gather(table: Floats, places: Places, inputs: int, into: Floats, width: int, mean: bool) -> None:
    """The input of CBOW: the mean or the sum of some rows."""
    scale = splat(np.float32(1.0) / np.float32(inputs) if mean else np.float32(1.0))
    for d in range(0, width, LANES):
        total = splat(np.float32(0.0))
        for i in range(inputs):
            total = total + load(table, places[i] + d)
        store(into, d, total * scale)


@inlined
def _step(
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
            _errors(table, places[i], outputs, width, mine, side, t, i * many + t, rate)
    for d in range(0, width, LANES):
        for t in range(0, many, GROUP):
            _change(table, places, inputs, outputs, width, mine, side, t, many, d)


@inlined
def _errors(
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
def _prepare(model: Model, settings: Settings, mine: Room, side: int, centre: int, state: Any) -> Any:
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
        _fetch(model.outputs, rows[side, t] * width, width)
    while many % GROUP != 0:
        rows[side, many], rates[side, many] = rows[side, 0], 0.0
        many += 1
    return many, state


@inlined
def _fetch(table: Floats, at: int, width: int) -> None:
    for d in range(0, width, LINE):
        prefetch(table, at + d)


@inlined
def _add(table: Floats, at: int, changes: Floats, place: int, width: int) -> None:
    for d in range(0, width, LANES):
        store(table, at + d, load(table, at + d) + load(changes, place + d))


@inlined
def _loss(mine: Room, inputs: int, side: int, many: int, rate: Any) -> float:
    """What the window cost before its step: minus the sum of log probabilities."""
    cost = 0.0
    for i in range(inputs):
        for t in range(many):
            if mine.rates[side, t] != 0.0:
                cost -= math.log(max(1.0 - abs(mine.errors[i * many + t]) / rate, 1e-7))
    return cost


@inlined
def _start(seed: int, chunk: int) -> Any:
    """A state of the draws for a chunk (the finaliser of splitmix64)."""
    state = np.uint64(seed) + np.uint64(chunk + 1) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (state ^ (state >> np.uint64(31))) | np.uint64(1)


def huffman_tree(counts: Places) -> Tree:
    """The tree that gives frequent words short paths (Huffman 1952)."""
    v = len(counts)
    parents, codes = np.zeros(2 * v, np.int64), np.zeros(2 * v, np.int64)
    weights = np.concatenate([np.sort(counts)[::-1], np.full(v, np.iinfo(np.int64).max)])
    order = np.argsort(-counts, kind="stable")
    _join(weights, parents, codes)
    lengths = np.zeros(v, np.int64)
    _depths(parents, lengths)
    place = np.empty(v, np.int64)
    place[order] = np.arange(v)
    starts = np.concatenate([[0], np.cumsum(lengths[place])]).astype(np.int64)
    tree = Tree(starts, np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32))
    _walk(parents, codes, place, tree)
    return tree


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


def no_tree() -> Tree:
    """What negative sampling has instead."""
    return Tree(np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros(1, np.float32))


@lean
def _join(weights: Places, parents: Places, codes: Places) -> None:
    """Joins the two lightest, v - 1 times; leaves lie by falling weight, inner nodes by rising weight behind them."""
    v = len(weights) // 2
    leaf, inner = v - 1, v
    for new in range(v, 2 * v - 1):
        total = 0
        for code in range(2):
            if leaf >= 0 and weights[leaf] <= weights[inner]:
                child, leaf = leaf, leaf - 1
            else:
                child, inner = inner, inner + 1
            total += weights[child]
            parents[child], codes[child] = new, code
        weights[new] = total


@lean
def _depths(parents: Places, lengths: Places) -> None:
    v = len(lengths)
    for leaf in range(v):
        node = leaf
        while node < 2 * v - 2:
            node = parents[node]
            lengths[leaf] += 1


@lean
def _walk(parents: Places, codes: Places, place: Places, tree: Tree) -> None:
    v = len(place)
    for word in range(v):
        node = place[word]
        for at in range(tree.starts[word], tree.starts[word + 1]):
            tree.labels[at] = 1.0 - codes[node]
            node = parents[node]
            tree.nodes[at] = node - v
