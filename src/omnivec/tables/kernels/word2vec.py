"""Skip-gram and CBOW, with negative sampling or a hierarchical softmax (Mikolov et al. 2013, arXiv:1310.4546)."""

from __future__ import annotations

from typing import Any

import numpy as np

from omnivec.tables.kernels.draws import advance, below, first_state, thin
from omnivec.tables.kernels.simd import LANES, inlined, lean, load, splat, store
from omnivec.tables.kernels.trees import Places
from omnivec.tables.kernels.windows import (
    AHEAD,
    WATCHED,
    Scratch,
    Sentences,
    Tables,
    WindowSettings,
    add,
    draw_negatives,
    exchange,
    fetch,
    fetch_targets,
    loss_of,
    prepare,
    step,
    step_hidden,
)
from omnivec.types import Floats


@lean
def learn(
    text: Sentences,
    model: Tables,
    settings: WindowSettings,
    mine: Scratch,
    first: int,
    last: int,
    rate: float,
    seed: int,
) -> tuple[float, int]:
    """Trains on sentences first <= s < last; several threads may train one model without locks (Recht et al. 2011).

    Args:
        text: the training text.
        model: changed in place.
        settings: how to train.
        mine: the thread's buffers.
        first: the first sentence.
        last: the end of the sentences, exclusive.
        rate: learning rate.
        seed: seed of all random draws of this call.

    Returns:
        The sum of the losses of a sample of windows, and the number of predictions in it.
    """
    state, loss, watched = first_state(seed, 0), 0.0, 0
    for s in range(first, last):
        count, state = thin(text.ids, text.starts[s], text.starts[s + 1], text.keep, state, mine.sentence)
        state, more, of = _sentence(model, settings, mine, count, state, np.float32(rate))
        loss += more
        watched += of
    return loss, watched


@inlined
def _sentence(
    model: Tables, settings: WindowSettings, mine: Scratch, count: int, state: Any, rate: Any
) -> Any:
    """Trains on the first `count` words of `mine.sentence`; returns the next state, the loss and its predictions."""
    width = settings.width
    loss, watched = 0.0, 0
    state = draw_negatives(model, settings, mine, count, state)
    for p in range(-AHEAD, count):  # positions below 0 only prefetch
        fetch_targets(model, settings, mine, p + AHEAD, count)
        if p + AHEAD + settings.window < count:
            fetch(model.inputs, int(mine.sentence[p + AHEAD + settings.window]) * width, width)
        if p < 0:
            continue
        exchange(model, mine, width, p)
        state = advance(state)
        reach = below(state, settings.window) + 1 if settings.shrink else settings.window
        inputs = 0
        for q in range(max(0, p - reach), min(count, p + reach + 1)):
            if q != p:
                mine.around[inputs] = np.int64(mine.sentence[q]) * width
                inputs += 1
        many = prepare(model, settings, mine, p)
        if inputs == 0 or many == 0:
            continue
        predicting = inputs if settings.skipgram else 1
        if settings.skipgram:
            step(model.inputs, mine.around, inputs, model.outputs, width, mine, many, rate)
        else:
            _gather(model.inputs, mine.around, inputs, mine.hidden, width, settings.mean)
            step_hidden(model.outputs, width, mine, many, rate)
        for i in range(inputs):
            add(model.inputs, mine.around[i], mine.changes, i * width if settings.skipgram else 0, width)
        # Windows are sampled at random, by bits of the state, and not at regular positions of a sentence.
        if (np.uint64(state) >> np.uint64(20)) % np.uint64(WATCHED) == 0:
            loss += loss_of(mine, predicting, many, rate)
            watched += predicting
    exchange(model, mine, width, 0)
    return state, loss, watched


@inlined
def _gather(table: Floats, places: Places, inputs: int, into: Floats, width: int, mean: bool) -> None:
    """Writes the input of CBOW: the mean or the sum of rows."""
    scale = splat(np.float32(1.0) / np.float32(inputs) if mean else np.float32(1.0))
    for d in range(0, width, LANES):
        total = splat(np.float32(0.0))
        for i in range(inputs):
            total = total + load(table, places[i] + d)
        store(into, d, total * scale)
