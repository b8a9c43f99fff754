"""One step of gradient descent on a window: the words around a centre against its targets (arXiv:1310.4546).

The targets are the centre and its negative samples, or the nodes on its path in the tree. All words around a centre
share them, so a window is two small matrix products whose operands stay in registers, and only a few rows of large
tables are touched. The rest of the time goes to memory latency: so all negatives of a sentence are drawn together,
which lets their table lookups overlap, and rows are prefetched AHEAD windows before they are used.

Tables are float32, with rows padded with zeros to whole SIMD values; `at` and `places` are flat indices in floats.

Example: "the cat sat", skip-gram, centre "cat", window=1, negative=2, negatives "dog" and "the", learning rate 0.1.
The first component of each vector is shown, the others are 0:

    inputs      the 1, sat 2
    targets     cat     dog     the     3 of padding (GROUP = 6; their rate is 0)
    outputs     1       -1      0
    labels      1       0       0
    errors      (label - sigmoid(input * output)) * 0.1
        the     0.0269  -0.0269 -0.05
        sat     0.0119  -0.0119 -0.05
    changes     of "the" 0.0269 * 1 - 0.0269 * -1 - 0.05 * 0 = 0.0538, of "sat" 0.0238; the caller adds them
    outputs     cat 1 + 0.0269 * 1 + 0.0119 * 2 = 1.0507, dog -1.0507, the -0.15
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnivec.tables.kernels.draws import Alias, advance, draw, negatives_table
from omnivec.tables.kernels.simd import (
    LANES,
    fma,
    fold,
    inlined,
    lean,
    load,
    prefetch,
    shared,
    sigmoid,
    splat,
    store,
)
from omnivec.tables.kernels.trees import Places, Tree, huffman_tree, no_tree
from omnivec.types import Floats

GROUP = 6
"""Targets whose products are computed together: a word and five negatives."""
AHEAD = 2
"""Windows between prefetching rows and using them."""
CROWN = 31
"""Nodes nearest to a tree's root that each of several threads keeps copies of."""
EXCHANGED = 16
"""Windows between merging these copies into the shared nodes."""
LINE = 16
"""Floats in a cache line."""
WATCHED = 64
"""One in this many windows has its loss computed."""


class Sentences(NamedTuple):
    """The sentences of the training text.

    Attributes:
        ids: (n,) words of all sentences, as rows of the vocabulary.
        starts: (sentences + 1,) the offset of each sentence in `ids`, and the end of the last.
        keep: (v,) thresholds for subsampling, from `draws.keep_table`.
    """

    ids: NDArray[np.int32]
    starts: Places
    keep: NDArray[np.uint32]


class Tables(NamedTuple):
    """The tables that are trained, and the distribution of targets.

    Attributes:
        inputs: (v * width,) input vectors of words.
        outputs: (v * width,) output vectors of words, or of the tree's nodes.
        alias: alias table from which negatives are drawn.
        tree: paths of the words; empty for negative sampling.
    """

    inputs: Floats
    outputs: Floats
    alias: Alias
    tree: Tree


class WindowSettings(NamedTuple):
    """How to train.

    Attributes:
        skipgram: whether the words around predict the centre one by one; otherwise together (CBOW).
        negative: negatives per window; 0 for a hierarchical softmax on the tree.
        window: most words on either side.
        shrink: whether the size of each window is drawn from 1 to `window`.
        mean: whether CBOW's input is the mean of the words around, not their sum.
        width: floats per row, a multiple of LANES.
    """

    skipgram: bool
    negative: int
    window: int
    shrink: bool
    mean: bool
    width: int


class TopNodes(NamedTuple):
    """A thread's copies of the nodes nearest to the root, which are on nearly all paths.

    If all threads wrote these rows in every window, each write would have to fetch the cache line from another core,
    which takes longer than many windows. So each thread trains its own copies, and every EXCHANGED windows adds their
    changes to the shared rows (`exchange`).

    Attributes:
        first: the first of these nodes, which are the last ones of the tree.
        nodes: number of nodes; 0 for no copies.
        at: row of the outputs where the copies begin, after all shared nodes.
        before: (nodes * width,) values of the copies at the last exchange.
    """

    first: int
    nodes: int
    at: int
    before: Floats


class Scratch(NamedTuple):
    """A thread's buffers, overwritten for each sentence or window.

    Attributes:
        sentence: the words of a sentence that subsampling keeps.
        drawn: the negatives of all its windows.
        around: flat indices of the input vectors of the words around the centre.
        targets: (most targets,) flat indices of the targets' rows.
        labels: (most targets,) 1 or 0.
        rates: (most targets,) 1, or 0 for padding and for a negative equal to the centre.
        errors: by input and target, (label - prediction) * learning rate.
        changes: (inputs, width) the changes to be added to the input vectors.
        hidden: (width,) the input of CBOW.
        crown: the thread's copies of nodes.
    """

    sentence: NDArray[np.int32]
    drawn: NDArray[np.int32]
    around: Places
    targets: Places
    labels: Floats
    rates: Floats
    errors: Floats
    changes: Floats
    hidden: Floats
    crown: TopNodes


def copied(tree: Tree, threads: int) -> int:
    """The number of rows that must be appended to the outputs for the copies of all threads."""
    return threads * _crown_size(tree, threads)


def crowns(tree: Tree, words: int, width: int, threads: int) -> Callable[[int], TopNodes]:
    """A function from a thread's number, from 0, to its copies of nodes; `words` is the number of leaves."""
    count = _crown_size(tree, threads)
    return lambda thread: TopNodes(
        words - 1 - count, count, words + thread * count, np.zeros(count * width, np.float32)
    )


def _crown_size(tree: Tree, threads: int) -> int:
    """The number of nodes that each thread copies; 0 without a tree, or with one thread."""
    return min(CROWN, len(tree.starts) - 2) if len(tree.starts) > 2 and threads > 1 else 0


def room(sentence: int, window: int, targets: int, width: int, copies: TopNodes | None = None) -> Scratch:
    """A thread's buffers; `sentence` and `targets` are the largest numbers. Without copies it trains shared nodes."""
    most = -(-targets // GROUP) * GROUP + LANES
    return Scratch(
        np.zeros(sentence, np.int32),
        np.zeros(sentence * (targets - 1), np.int32),
        np.zeros(2 * window + 1, np.int64),
        np.zeros(most, np.int64),
        np.zeros(most, np.float32),
        np.zeros(most, np.float32),
        np.zeros((2 * window + 1) * most, np.float32),
        np.zeros((2 * window + 1) * width, np.float32),
        np.zeros(width, np.float32),
        copies or TopNodes(0, 0, 0, np.zeros(0, np.float32)),
    )


def targets_of(counts: Places, negative: int) -> tuple[Alias, Tree, int]:
    """The alias table of negatives, the tree (empty if `negative` is not 0), and the most targets of a word."""
    tree = no_tree() if negative else huffman_tree(counts)
    most = negative + 1 if negative else int(np.diff(tree.starts).max(initial=1))
    return negatives_table(counts), tree, most


def width_of(dim: int) -> int:
    """Floats per row: `dim` rounded up to a multiple of LANES."""
    return -(-dim // LANES) * LANES


def zeros(rows: int, dim: int) -> Floats:
    """Zeros (rows, width), aligned to a cache line, so that a load of sixteen floats never crosses two lines."""
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
    mine: Scratch,
    many: int,
    rate: Any,
) -> None:
    """Trains all inputs against all targets: changes the outputs, and writes the inputs' changes to `mine.changes`."""
    for i in range(inputs):
        for t in range(0, many, GROUP):
            errors(table, places[i], outputs, width, mine, t, i * many + t, rate)
    for d in range(0, width, LANES):
        for t in range(0, many, GROUP):
            _change(table, places, inputs, outputs, width, mine, t, many, d)


@shared
def step_hidden(outputs: Floats, width: int, mine: Scratch, many: int, rate: Any) -> None:
    """`step` for a single input, `mine.hidden`: a group's errors stay in registers for all columns."""
    hidden, changes, wrong = mine.hidden, mine.changes, mine.errors
    for t in range(0, many, GROUP):
        errors(hidden, 0, outputs, width, mine, t, t, rate)
        row = mine.targets
        a, b, c, d, e, f = row[t], row[t + 1], row[t + 2], row[t + 3], row[t + 4], row[t + 5]
        ea, eb, ec = splat(wrong[t]), splat(wrong[t + 1]), splat(wrong[t + 2])
        ed, ee, ef = splat(wrong[t + 3]), splat(wrong[t + 4]), splat(wrong[t + 5])
        for k in range(0, width, LANES):
            x = load(hidden, k)
            one = splat(np.float32(0.0)) if t == 0 else load(changes, k)
            one = fma(eb, load(outputs, b + k), fma(ea, load(outputs, a + k), one))
            two = fma(ed, load(outputs, d + k), ec * load(outputs, c + k))
            three = fma(ef, load(outputs, f + k), ee * load(outputs, e + k))
            store(changes, k, one + two + three)
            # Loaded again, one by one: two of the rows may be the same.
            store(outputs, a + k, fma(ea, x, load(outputs, a + k)))
            store(outputs, b + k, fma(eb, x, load(outputs, b + k)))
            store(outputs, c + k, fma(ec, x, load(outputs, c + k)))
            store(outputs, d + k, fma(ed, x, load(outputs, d + k)))
            store(outputs, e + k, fma(ee, x, load(outputs, e + k)))
            store(outputs, f + k, fma(ef, x, load(outputs, f + k)))


@shared
def errors(
    table: Floats, at: int, outputs: Floats, width: int, mine: Scratch, t: int, place: int, rate: Any
) -> None:
    """Writes the errors of one input for one group of targets, times the learning rate, to `mine.errors[place:]`.

    A whole SIMD value is written, so entries after the group are overwritten.
    """
    row = mine.targets
    a, b, c, d, e, f = row[t], row[t + 1], row[t + 2], row[t + 3], row[t + 4], row[t + 5]
    zero = splat(np.float32(0.0))
    va, vb, vc, vd, ve, vf = zero, zero, zero, zero, zero, zero
    for k in range(0, width, LANES):
        x = load(table, at + k)
        va, vb = fma(x, load(outputs, a + k), va), fma(x, load(outputs, b + k), vb)
        vc, vd = fma(x, load(outputs, c + k), vc), fma(x, load(outputs, d + k), vd)
        ve, vf = fma(x, load(outputs, e + k), ve), fma(x, load(outputs, f + k), vf)
    # Lanes 0 to 5 of `products` are the six dot products; the other lanes repeat some of them.
    tail = fold(ve, vf)
    quarters = fold(fold(fold(va, vb), fold(vc, vd)), fold(tail, tail))
    products = fold(quarters, quarters)
    factor = load(mine.rates, t) * splat(rate)
    store(mine.errors, place, (load(mine.labels, t) - sigmoid(products)) * factor)


@inlined
def _change(
    table: Floats,
    places: Places,
    inputs: int,
    outputs: Floats,
    width: int,
    mine: Scratch,
    t: int,
    many: int,
    k: int,
) -> None:
    """Changes sixteen columns of one group of targets, and adds the group's share to all inputs' changes.

    If a negative was drawn in two groups of a window, the second group reads the row that the first has changed.
    """
    row = mine.targets
    a, b, c = row[t] + k, row[t + 1] + k, row[t + 2] + k
    d, e, f = row[t + 3] + k, row[t + 4] + k, row[t + 5] + k
    oa, ob, oc = load(outputs, a), load(outputs, b), load(outputs, c)
    od, oe, of = load(outputs, d), load(outputs, e), load(outputs, f)
    zero = splat(np.float32(0.0))
    ca, cb, cc, cd, ce, cf = zero, zero, zero, zero, zero, zero
    for i in range(inputs):
        x, place = load(table, places[i] + k), i * many + t
        ea, eb, ec = splat(mine.errors[place]), splat(mine.errors[place + 1]), splat(mine.errors[place + 2])
        ed, ee, ef = (
            splat(mine.errors[place + 3]),
            splat(mine.errors[place + 4]),
            splat(mine.errors[place + 5]),
        )
        ca, cb, cc = fma(ea, x, ca), fma(eb, x, cb), fma(ec, x, cc)
        cd, ce, cf = fma(ed, x, cd), fma(ee, x, ce), fma(ef, x, cf)
        change = zero if t == 0 else load(mine.changes, i * width + k)
        change = fma(ec, oc, fma(eb, ob, fma(ea, oa, change)))
        store(mine.changes, i * width + k, change + fma(ef, of, fma(ee, oe, ed * od)))
    # Added one by one: two of the rows may be the same.
    store(outputs, a, load(outputs, a) + ca)
    store(outputs, b, load(outputs, b) + cb)
    store(outputs, c, load(outputs, c) + cc)
    store(outputs, d, load(outputs, d) + cd)
    store(outputs, e, load(outputs, e) + ce)
    store(outputs, f, load(outputs, f) + cf)


@shared
def draw_negatives(model: Tables, settings: WindowSettings, mine: Scratch, count: int, state: Any) -> Any:
    """Draws the negatives of all windows of a sentence of `count` words; returns the next state."""
    for i in range(count * settings.negative):
        state = advance(state)
        mine.drawn[i] = draw(state, model.alias)
    return state


@shared
def fetch_targets(model: Tables, settings: WindowSettings, mine: Scratch, place: int, count: int) -> None:
    """Prefetches the rows of a window's targets; nothing if `place` is past the sentence's end."""
    if place >= count:
        return
    width, centre = settings.width, mine.sentence[place]
    if settings.negative > 0:
        fetch(model.outputs, int(centre) * width, width)
        for i in range(place * settings.negative, (place + 1) * settings.negative):
            fetch(model.outputs, int(mine.drawn[i]) * width, width)
    else:
        for i in range(model.tree.starts[centre], model.tree.starts[centre + 1]):
            fetch(model.outputs, _row(mine.crown, model.tree.nodes[i]) * width, width)


@shared
def prepare(model: Tables, settings: WindowSettings, mine: Scratch, place: int) -> Any:
    """Writes the targets of a window, padded to whole groups; returns their number."""
    centre, width = mine.sentence[place], settings.width
    places, labels, rates = mine.targets, mine.labels, mine.rates
    many = 0
    if settings.negative > 0:
        places[0], labels[0], rates[0] = np.int64(centre) * width, 1.0, 1.0
        for many in range(1, settings.negative + 1):
            word = mine.drawn[place * settings.negative + many - 1]
            places[many], labels[many] = np.int64(word) * width, 0.0
            rates[many] = 0.0 if word == centre else 1.0  # the centre cannot be its own negative
        many = settings.negative + 1
    else:
        begin = model.tree.starts[centre]
        many = model.tree.starts[centre + 1] - begin
        for t in range(many):
            places[t] = _row(mine.crown, model.tree.nodes[begin + t]) * width
            labels[t], rates[t] = model.tree.labels[begin + t], 1.0
    while many % GROUP != 0:  # pad the last group with a valid row and rate 0
        places[many], rates[many] = places[0], 0.0
        many += 1
    return many


@shared
def _row(crown: TopNodes, node: Any) -> Any:
    """The row of a node: the thread's copy if there is one."""
    inside = crown.nodes > 0 and node >= crown.first
    return np.int64(node) + (crown.at - crown.first if inside else 0)


@shared
def exchange(model: Tables, mine: Scratch, width: int, place: int) -> None:
    """Every EXCHANGED windows, adds the changes of a thread's copies to the shared nodes, and copies these again."""
    if place % EXCHANGED == 0:
        root, copy = mine.crown.first * width, mine.crown.at * width
        for d in range(0, mine.crown.nodes * width, LANES):
            now = load(model.outputs, copy + d) + (load(model.outputs, root + d) - load(mine.crown.before, d))
            store(model.outputs, root + d, now)
            store(model.outputs, copy + d, now)
            store(mine.crown.before, d, now)


@shared
def fetch(table: Floats, at: int, width: int) -> None:
    """Prefetches a row, for reading and writing."""
    for d in range(0, width, LINE):
        prefetch(table, at + d)


@shared
def add(table: Floats, at: int, changes: Floats, place: int, width: int) -> None:
    """Adds a row of changes to a row of a table."""
    for d in range(0, width, LANES):
        store(table, at + d, load(table, at + d) + load(changes, place + d))


@shared
def loss_of(mine: Scratch, inputs: int, many: int, rate: Any) -> float:
    """The loss of a window before its step: minus the sum of log probabilities, from `mine.errors`."""
    cost = 0.0
    for i in range(inputs):
        for t in range(many):
            if mine.rates[t] != 0.0:
                cost -= math.log(max(1.0 - abs(mine.errors[i * many + t]) / rate, 1e-7))
    return cost
