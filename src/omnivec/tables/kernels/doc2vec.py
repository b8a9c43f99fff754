"""Vectors of documents that foretell their words (Le and Mikolov 2014, arXiv:1405.4053).

PV-DBOW: a document's vector alone against each of its words. PV-DM: together with the vectors of the words around,
their mean, their sum, or one behind the other. Inference is the same with words and outputs left as they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnivec.tables.kernels.draws import FULL, advance, below, first_state, thin
from omnivec.tables.kernels.parallel import in_order
from omnivec.tables.kernels.simd import LANES, fma, inlined, lean, load, splat, store
from omnivec.tables.kernels.windows import (
    AHEAD,
    GROUP,
    WATCHED,
    Model,
    Room,
    Text,
    WindowSettings,
    add,
    draw_negatives,
    errors,
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

DBOW, MEAN, SUM, CONCATENATED = range(4)
BLOCK = 64
"""Documents that are inferred in one call."""


class Way(NamedTuple):
    """What foretells a word.

    Attributes:
        kind: DBOW, MEAN, SUM or CONCATENATED.
        words: whether words learn too in DBOW, by skip-gram.
        learn: whether words and outputs change.
    """

    kind: int
    words: bool
    learn: bool


class Documents(NamedTuple):
    """What is read and whose vectors are learned.

    Attributes:
        text: its sentences are the documents.
        rows: (documents,) of each in `vectors`.
        vectors: (rows, width), changed in place.
    """

    text: Text
    rows: NDArray[np.int32]
    vectors: Floats


@lean
def learn(
    documents: Documents, model: Model, settings: WindowSettings, way: Way, mine: Room, first: int, last: int,
    rate: float, seed: int,
) -> tuple[float, int]:  # fmt: skip
    """Learns from documents first <= s < last.

    Args:
        documents: what is read; their vectors are changed in place.
        model: changed in place, by several threads at once, without locks. Of `inputs` the last row stands beyond a
            document's ends where CONCATENATED; `outputs` are as wide as the hidden vector.
        settings: how; `width` is that of the hidden vector.
        way: what foretells a word.
        mine: this thread's arrays, for `width`.
        first: document.
        last: behind the last one.
        rate: learning rate.
        seed: of what is drawn.

    Returns:
        The sum of the losses taken, and their number.
    """
    text, loss, losses = documents.text, 0.0, 0
    state = first_state(seed, first)
    for s in range(first, last):
        count, state = thin(text.ids, text.starts[s], text.starts[s + 1], text.keep, state, mine.sentence)
        at = np.int64(documents.rows[s]) * documents.vectors.shape[1]
        more, taken, state = _document(documents.vectors, at, model, settings, way, mine, count, rate, state)
        loss += more
        losses += taken
    return loss, losses


def infer(
    text: Text,
    model: Model,
    settings: WindowSettings,
    way: Way,
    targets: int,
    rates: NDArray[np.float64],
    seed: int,
    threads: int,
) -> tuple[Floats, NDArray[np.int64]]:
    """Vectors of documents that were not trained; each depends on its own words and the seed alone.

    Each pass leaves out frequent words as training does; one that would leave out all of a document leaves out none.

    Args:
        text: its sentences are the documents; words that the model lacks are left out.
        model: as learned.
        settings: as in training.
        way: as in training; nothing but the documents' vectors is changed.
        targets: most targets of a word.
        rates: the learning rate of each pass over a document.
        seed: of all that is drawn.
        threads: that work at a time.

    Returns:
        (documents, width of the inputs) float32, zero where a document has no words; and how many words of each took
        part in one pass or more.
    """
    count = len(text.starts) - 1
    vectors = np.zeros((count, model.inputs.shape[1]), np.float32)
    documents = Documents(text, np.arange(count, dtype=np.int32), vectors)
    way = way._replace(learn=False)
    used = np.zeros(len(text.ids), np.bool_)

    def work(first: int) -> None:
        last = min(first + BLOCK, count)
        longest = int(np.diff(text.starts[first : last + 1]).max())
        mine = room(longest, settings.window, targets, settings.width)
        _infer(documents, model, settings, way, mine, first, last, rates, seed, used)

    for _ in in_order(work, range(0, count, BLOCK), threads):
        pass
    return vectors, np.diff(np.append(0, np.cumsum(used))[text.starts])


@lean
def _infer(
    documents: Documents, model: Model, settings: WindowSettings, way: Way, mine: Room, first: int, last: int,
    rates: NDArray[np.float64], seed: int, used: NDArray[np.bool_],
) -> None:  # fmt: skip
    text = documents.text
    for s in range(first, last):
        begin, end, at = text.starts[s], text.starts[s + 1], s * documents.vectors.shape[1]
        state = first_state(seed, 0)
        for i in range(begin, end):
            state = advance(state ^ (np.uint64(text.ids[i]) << np.uint64(20)) | np.uint64(1))
        for rate in rates:
            count, state = _thinned(text, begin, end, state, mine.sentence, used)
            _, _, state = _document(documents.vectors, at, model, settings, way, mine, count, rate, state)


@inlined
def _thinned(text: Text, begin: int, end: int, state: Any, kept: Any, used: NDArray[np.bool_]) -> Any:
    """`draws.thin` of a document of which at least one word is kept; marks those that are."""
    count = 0
    for i in range(begin, end):
        state = advance(state)
        kept[count] = text.ids[i]
        if below(state, FULL) <= text.keep[text.ids[i]]:
            used[i] = True
            count += 1
    if count == 0:
        for i in range(begin, end):
            kept[i - begin] = text.ids[i]
            used[i] = True
        count = end - begin
    return count, state


@inlined
def _document(
    vectors: Floats,
    at: int,
    model: Model,
    settings: WindowSettings,
    way: Way,
    mine: Room,
    count: int,
    rate: float,
    state: Any,
) -> Any:
    """One pass over the first words of `mine.sentence`; returns losses, their number and the next state."""
    width, loss, losses = vectors.shape[1], 0.0, 0
    state = draw_negatives(model, settings, mine, count, state)
    for i in range(-AHEAD, count):
        fetch_targets(model, settings, mine, i + AHEAD, count)
        if way.kind != DBOW and i + AHEAD + settings.window < count:
            fetch(model.inputs, int(mine.sentence[i + AHEAD + settings.window]) * width, width)
        if i < 0:
            continue
        exchange(model, mine, settings.width, i)
        many = prepare(model, settings, mine, i)
        if many == 0:
            continue
        reach = settings.window
        if way.kind != CONCATENATED and (way.kind != DBOW or way.words):
            state = advance(state)
            reach = 1 + below(state, settings.window)
        inputs = _around(model, settings, way, mine, i, reach, count, width)
        if way.kind == DBOW and way.learn and inputs > 0:
            step(model.inputs, mine.around, inputs, model.outputs, width, mine, many, rate)
            for k in range(inputs):
                add(model.inputs, mine.around[k], mine.changes, k * width, width)
        share = _compose(vectors, at, model, way, mine, inputs, width)
        _predict(model, settings, way, mine, many, rate)
        _spread(vectors, at, model, way, mine, inputs, width, share)
        if i % WATCHED == 0:
            loss += loss_of(mine, 1, many, rate)
            losses += 1
    exchange(model, mine, settings.width, 0)
    return loss, losses, state


@inlined
def _around(
    model: Model, settings: WindowSettings, way: Way, mine: Room, i: int, reach: int, count: int, width: int
) -> Any:
    """Writes the places of the words around that take part; returns their number."""
    inputs = 0
    if way.kind == DBOW and not way.words:
        return inputs
    beyond = np.int64(len(model.inputs) - 1)
    for j in range(i - reach, i + reach + 1):
        inside = 0 <= j < count
        if j != i and (inside or way.kind == CONCATENATED):
            word = np.int64(mine.sentence[j]) if inside else beyond
            mine.around[inputs] = word * width
            inputs += 1
    return inputs


@inlined
def _compose(vectors: Floats, at: int, model: Model, way: Way, mine: Room, inputs: int, width: int) -> Any:
    """Writes the hidden vector; returns the share of its change that each of its parts gets.

    As in word2vec.c, each part of a mean is changed by the whole gradient; of a sum by its share.
    """
    share = np.float32(1.0) / np.float32(1 + inputs)
    if way.kind == CONCATENATED:
        for d in range(0, width, LANES):
            store(mine.hidden, d, load(vectors, at + d))
        for k in range(inputs):
            for d in range(0, width, LANES):
                store(mine.hidden, (1 + k) * width + d, load(model.inputs, mine.around[k] + d))
    else:
        words = 0 if way.kind == DBOW else inputs
        scale = splat(share if way.kind == MEAN else np.float32(1.0))
        for d in range(0, width, LANES):
            value = load(vectors, at + d)
            for k in range(words):
                value = value + load(model.inputs, mine.around[k] + d)
            store(mine.hidden, d, value * scale)
    return share if way.kind == SUM else np.float32(1.0)


@inlined
def _predict(model: Model, settings: WindowSettings, way: Way, mine: Room, many: int, rate: float) -> None:
    """The hidden vector against its targets; its change is left in `mine.changes`, the outputs change where told."""
    width, outputs = settings.width, model.outputs
    if way.learn:
        step_hidden(outputs, width, mine, many, rate)
        return
    for t in range(0, many, GROUP):
        errors(mine.hidden, 0, outputs, width, mine, t, t, rate)
    for d in range(0, width, LANES):
        change = splat(0.0)
        for t in range(many):
            change = fma(splat(mine.errors[t]), load(outputs, mine.targets[t] + d), change)
        store(mine.changes, d, change)


@inlined
def _spread(
    vectors: Floats, at: int, model: Model, way: Way, mine: Room, inputs: int, width: int, share: Any
) -> None:
    """Changes the document's vector, and the words' where told."""
    if way.kind == SUM:
        for d in range(0, width, LANES):
            store(mine.changes, d, load(mine.changes, d) * splat(share))
    add(vectors, at, mine.changes, 0, width)
    if way.learn and way.kind != DBOW:
        for k in range(inputs):
            place = (1 + k) * width if way.kind == CONCATENATED else 0
            add(model.inputs, mine.around[k], mine.changes, place, width)
