"""Skip-gram and CBOW over means of n-gram rows, and a softmax over labels (Bojanowski et al. 2017, arXiv:1607.04606).

The mean of a word's rows is computed once, when the word enters the window, and its rows are changed once, when it
leaves. In between, the mean is in a ring buffer of 2 * window + 1 vectors, which fits the first-level cache, and a
window is trained as in word2vec. As in fastText, the gradient of a mean of n rows is added in full to each of them, so
that the mean itself changes by the gradient.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnivec.tables.kernels.draws import advance, below, first_state, thin
from omnivec.tables.kernels.simd import LANES, fma, inlined, lean, load, splat, store, total
from omnivec.tables.kernels.trees import Places
from omnivec.tables.kernels.windows import (
    AHEAD,
    WATCHED,
    Scratch,
    Sentences,
    Tables,
    TopNodes,
    WindowSettings,
    add,
    draw_negatives,
    exchange,
    fetch,
    fetch_targets,
    loss_of,
    prepare,
    room,
    step,
    step_hidden,
)
from omnivec.types import Floats


class WordRows(NamedTuple):
    """The rows of each word in the input table.

    Attributes:
        rows: rows of all words, concatenated.
        starts: (v + 1,) the offset of each word in `rows`, and the end of the last.
    """

    rows: NDArray[np.int32]
    starts: Places


class Ring(NamedTuple):
    """A ring buffer of the words in the window: position i of the sentence is at i modulo 2 * window + 1.

    Attributes:
        means: ((2 * window + 1) * width,) the mean of each word's rows.
        pending: of the same shape, the changes still to be added to each word's rows.
        mine: the thread's buffers for a window.
    """

    means: Floats
    pending: Floats
    mine: Scratch


def ring(window: int, targets: int, width: int, sentence: int, copies: TopNodes | None = None) -> Ring:
    """A thread's ring buffer; `targets` and `sentence` are the largest numbers."""
    shape = (2 * window + 1) * width
    return Ring(
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
        room(sentence, window, targets, width, copies),
    )


@lean
def learn(
    text: Sentences, subwords: WordRows, model: Tables, settings: WindowSettings, around: Ring, first: int, last: int,
    rate: float, seed: int,
) -> tuple[float, int]:  # fmt: skip
    """Trains on sentences first <= s < last.

    Args:
        text: the training text.
        subwords: the rows of each word in `model.inputs`.
        model: changed in place, by several threads without locks (Recht et al. 2011).
        settings: how to train.
        around: the thread's ring buffer.
        first: the first sentence.
        last: the end of the sentences, exclusive.
        rate: learning rate.
        seed: seed of all random draws of this call.

    Returns:
        The sum of the losses of a sample of predictions, and their number.
    """
    loss, losses = 0.0, 0
    state = first_state(seed, first)
    for s in range(first, last):
        count, state = thin(
            text.ids, text.starts[s], text.starts[s + 1], text.keep, state, around.mine.sentence
        )
        more, taken, state = _sentence(subwords, model, settings, around, count, rate, state)
        loss += more
        losses += taken
    return loss, losses


@inlined
def _sentence(
    subwords: WordRows,
    model: Tables,
    settings: WindowSettings,
    around: Ring,
    count: int,
    rate: float,
    state: Any,
) -> Any:
    """Trains on the first `count` words of the sentence; returns losses, their number and the next state."""
    mine, size, span, width = around.mine, settings.window, 2 * settings.window + 1, settings.width
    loss, losses = 0.0, 0
    state = draw_negatives(model, settings, mine, count, state)
    # Position i + size enters the ring, i is the centre, and i - size leaves; the others are skipped at either end.
    for i in range(-max(size, AHEAD), count + size):
        if 0 <= i + size < count:
            _enter(subwords, model.inputs, around, i + size, count, span, width)
        if i >= -AHEAD:
            fetch_targets(model, settings, mine, i + AHEAD, count)
        if 0 <= i < count:
            exchange(model, mine, width, i)
            many = prepare(model, settings, mine, i)
            state = advance(state)
            reach = 1 + below(state, size)
            inputs = 0
            for j in range(max(0, i - reach), min(count, i + reach + 1)):
                if j != i:
                    mine.around[inputs] = j % span * width
                    inputs += 1
            if inputs > 0 and many > 0:
                predicting = inputs if settings.skipgram else 1
                if settings.skipgram:
                    step(around.means, mine.around, inputs, model.outputs, width, mine, many, rate)
                else:
                    _mean_around(subwords, around, i, reach, count, span, width)
                    step_hidden(model.outputs, width, mine, many, rate)
                for k in range(inputs):
                    change = k * width if settings.skipgram else 0
                    add(around.means, mine.around[k], mine.changes, change, width)
                    add(around.pending, mine.around[k], mine.changes, change, width)
                if i % WATCHED == 0:
                    loss += loss_of(mine, predicting, many, rate)
                    losses += predicting
        if i - size >= 0:
            _leave(subwords, model.inputs, around, i - size, span, width)
    exchange(model, mine, width, 0)
    return loss, losses, state


@inlined
def _enter(
    subwords: WordRows, table: Floats, around: Ring, place: int, count: int, span: int, width: int
) -> None:
    """Writes the mean of a word's rows to the ring, and prefetches the rows of the next word."""
    word, at, zero = around.mine.sentence[place], place % span * width, splat(0.0)
    mean(table, width, subwords.rows, subwords.starts[word], subwords.starts[word + 1], around.means, at)
    for d in range(0, width, LANES):
        store(around.pending, at + d, zero)
    if place + 1 < count:
        word = around.mine.sentence[place + 1]
        for r in range(subwords.starts[word], subwords.starts[word + 1]):
            fetch(table, int(subwords.rows[r]) * width, width)


@inlined
def _leave(subwords: WordRows, table: Floats, around: Ring, place: int, span: int, width: int) -> None:
    """Adds to a word's rows all changes made to its mean while it was in the ring."""
    word = around.mine.sentence[place]
    for r in range(subwords.starts[word], subwords.starts[word + 1]):
        add(table, int(subwords.rows[r]) * width, around.pending, place % span * width, width)


@inlined
def _mean_around(
    subwords: WordRows, around: Ring, centre: int, reach: int, count: int, span: int, width: int
) -> None:
    """Writes the mean of all rows of the words around to `mine.hidden`, from the words' means in the ring."""
    mine, low, high = around.mine, max(0, centre - reach), min(count, centre + reach + 1)
    rows = 0
    for j in range(low, high):
        if j != centre:
            rows += subwords.starts[mine.sentence[j] + 1] - subwords.starts[mine.sentence[j]]
    for d in range(0, width, LANES):
        value = splat(0.0)
        for j in range(low, high):
            if j != centre:
                word_rows = subwords.starts[mine.sentence[j] + 1] - subwords.starts[mine.sentence[j]]
                value = fma(splat(word_rows / rows), load(around.means, j % span * width + d), value)
        store(mine.hidden, d, value)


@inlined
def mean(
    table: Floats, width: int, rows: NDArray[np.int32], begin: int, end: int, into: Floats, place: int
) -> None:
    """Writes the mean of rows[begin:end] of the table to into[place:]; zeros if there are none."""
    share = splat(1.0 / max(end - begin, 1))
    for d in range(0, width, LANES):
        value = splat(0.0)
        for r in range(begin, end):
            value = value + load(table, np.int64(rows[r]) * width + d)
        store(into, place + d, value * share)


@lean
def means(table: Floats, subwords: WordRows, into: Floats) -> None:
    """Writes the mean of each word's rows to `into` (words, width)."""
    width = table.shape[1]
    for i in range(len(subwords.starts) - 1):
        mean(table, width, subwords.rows, subwords.starts[i], subwords.starts[i + 1], into, i * width)


@lean
def classify(
    bags: WordRows, labels: NDArray[np.int32], inputs: Floats, outputs: Floats, mine: Floats, first: int, last: int,
    rate: float,
) -> tuple[float, int]:  # fmt: skip
    """Trains a classifier on texts first <= s < last: a softmax over labels of the mean of a text's rows.

    Args:
        bags: the rows of each text in `inputs`.
        labels: (texts,) the row of each text's label in `outputs`.
        inputs: (rows, width), changed in place.
        outputs: (labels, width), changed in place.
        mine: (2 * width + labels,) the thread's buffer: the mean, its change, probabilities.
        first: the first text.
        last: the end of the texts, exclusive.
        rate: learning rate.

    Returns:
        The sum of the losses, and their number.
    """
    width, loss, losses = inputs.shape[1], 0.0, 0
    probabilities = mine[2 * width :]
    for s in range(first, last):
        begin, end = bags.starts[s], bags.starts[s + 1]
        if begin == end:
            continue
        mean(inputs, width, bags.rows, begin, end, mine, 0)
        softmax(mine, outputs, probabilities)
        loss -= math.log(max(probabilities[labels[s]], 1e-7))
        losses += 1
        _descend(labels[s], outputs, mine, probabilities, rate, 1.0 / (end - begin))
        for r in range(begin, end):
            add(inputs, np.int64(bags.rows[r]) * width, mine, width, width)
    return loss, losses


@inlined
def _descend(
    label: int, outputs: Floats, mine: Floats, probabilities: Floats, rate: float, share: float
) -> None:
    """Changes the output rows; writes the change of each of the text's rows to mine[width : 2 * width]."""
    width = outputs.shape[1]
    for d in range(0, width, LANES):
        hidden, change = load(mine, d), splat(0.0)
        for k in range(len(outputs)):
            error = splat(rate * ((1.0 if k == label else 0.0) - probabilities[k]))
            output = load(outputs, k * width + d)
            change = fma(error, output, change)
            store(outputs, k * width + d, fma(error, hidden, output))
        store(mine, width + d, change * splat(share))


@inlined
def softmax(hidden: Floats, outputs: Floats, odds: Floats) -> None:
    """Writes the probability of each output row, the softmax of hidden (width,) @ outputs.T, to `odds`."""
    width, most, denominator = outputs.shape[1], -math.inf, 0.0
    for k in range(len(outputs)):
        dot = splat(0.0)
        for d in range(0, width, LANES):
            dot = fma(load(hidden, d), load(outputs, k * width + d), dot)
        odds[k] = total(dot)
        most = max(most, odds[k])
    for k in range(len(outputs)):
        odds[k] = math.exp(odds[k] - most)
        denominator += odds[k]
    for k in range(len(outputs)):
        odds[k] /= denominator
