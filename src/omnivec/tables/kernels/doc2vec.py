"""Document vectors that predict the document's words (Le and Mikolov 2014, arXiv:1405.4053).

PV-DBOW predicts each word from the document's vector alone. PV-DM predicts it from the document's vector and the
vectors of the words around: their mean, their sum, or their concatenation. Inference is the same with word and output
vectors fixed.
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
    Scratch,
    Sentences,
    Tables,
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
"""Documents per call of the inference kernel."""


class Prediction(NamedTuple):
    """What a word is predicted from.

    Attributes:
        kind: DBOW, MEAN, SUM or CONCATENATED.
        words: whether DBOW also trains word vectors, by skip-gram.
        learn: whether word and output vectors change; False for inference.
    """

    kind: int
    words: bool
    learn: bool


class DocumentVectors(NamedTuple):
    """Documents and their vectors.

    Attributes:
        text: the documents, as sentences.
        rows: (documents,) int32, the row of each document in `vectors`.
        vectors: (rows, width), changed in place.
    """

    text: Sentences
    rows: NDArray[np.int32]
    vectors: Floats


@lean
def learn(
    documents: DocumentVectors, model: Tables, settings: WindowSettings, way: Prediction, mine: Scratch,
    first: int, last: int, rate: float, seed: int,
) -> tuple[float, int]:  # fmt: skip
    """Trains on documents first <= s < last.

    Args:
        documents: the documents; their vectors are changed in place.
        model: changed in place, by several threads without locks. With CONCATENATED the last row of `inputs` stands
            for positions beyond a document's ends. Rows of `outputs` are as wide as the hidden vector.
        settings: how to train; `width` is that of the hidden vector.
        way: what a word is predicted from.
        mine: the thread's buffers, for `width`.
        first: the first document.
        last: the end of the documents, exclusive.
        rate: learning rate.
        seed: seed of all random draws of this call.

    Returns:
        The sum of the losses of a sample of predictions, and their number.
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
    text: Sentences,
    model: Tables,
    settings: WindowSettings,
    way: Prediction,
    targets: int,
    rates: NDArray[np.float64],
    seed: int,
    threads: int,
) -> tuple[Floats, NDArray[np.int64]]:
    """Infers vectors of new documents; each depends on the document's words and the seed alone.

    Each pass subsamples frequent words as in training; where no word of a document is left, the pass uses all.

    Args:
        text: the documents, as sentences, without words that the model does not know.
        model: the trained model, which is not changed.
        settings: as in training.
        way: as in training.
        targets: most targets of a word.
        rates: (epochs,) the learning rate of each pass over a document.
        seed: seed of all random draws.
        threads: number of threads.

    Returns:
        Vectors (documents, width of the inputs) float32, zeros for a document without words; and the number of words
        (documents,) of each that were used in at least one pass.
    """
    count = len(text.starts) - 1
    vectors = np.zeros((count, model.inputs.shape[1]), np.float32)
    documents = DocumentVectors(text, np.arange(count, dtype=np.int32), vectors)
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
    documents: DocumentVectors, model: Tables, settings: WindowSettings, way: Prediction, mine: Scratch,
    first: int, last: int, rates: NDArray[np.float64], seed: int, used: NDArray[np.bool_],
) -> None:  # fmt: skip
    text = documents.text
    for s in range(first, last):
        begin, end, at = text.starts[s], text.starts[s + 1], s * documents.vectors.shape[1]
        # The draws depend on the document's words alone, whatever other documents are inferred with it.
        state = first_state(seed, 0)
        for i in range(begin, end):
            state = advance(state ^ (np.uint64(text.ids[i]) << np.uint64(20)) | np.uint64(1))
        for rate in rates:
            count, state = _subsample(text, begin, end, state, mine.sentence, used)
            _, _, state = _document(documents.vectors, at, model, settings, way, mine, count, rate, state)


@inlined
def _subsample(text: Sentences, begin: int, end: int, state: Any, kept: Any, used: NDArray[np.bool_]) -> Any:
    """`draws.thin` that keeps all words of a document if it would keep none; marks kept words in `used`."""
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
    model: Tables,
    settings: WindowSettings,
    way: Prediction,
    mine: Scratch,
    count: int,
    rate: float,
    state: Any,
) -> Any:
    """One pass over the first `count` words of `mine.sentence`; returns losses, their number and the next state."""
    width, loss, losses = vectors.shape[1], 0.0, 0
    state = draw_negatives(model, settings, mine, count, state)
    for i in range(-AHEAD, count):  # positions below 0 only prefetch
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
    model: Tables,
    settings: WindowSettings,
    way: Prediction,
    mine: Scratch,
    i: int,
    reach: int,
    count: int,
    width: int,
) -> Any:
    """Writes the flat indices of the vectors of the words around position `i`; returns their number."""
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
def _compose(
    vectors: Floats, at: int, model: Tables, way: Prediction, mine: Scratch, inputs: int, width: int
) -> Any:
    """Writes the hidden vector; returns the share of its change that each summand gets.

    As in word2vec.c, each summand of a mean is changed by the whole gradient; each summand of a sum by its share.
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
def _predict(
    model: Tables, settings: WindowSettings, way: Prediction, mine: Scratch, many: int, rate: float
) -> None:
    """Computes the change of the hidden vector into `mine.changes`, and changes the outputs if way.learn."""
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
    vectors: Floats,
    at: int,
    model: Tables,
    way: Prediction,
    mine: Scratch,
    inputs: int,
    width: int,
    share: Any,
) -> None:
    """Adds the change to the document's vector and, if way.learn, to the vectors of the words around."""
    if way.kind == SUM:
        for d in range(0, width, LANES):
            store(mine.changes, d, load(mine.changes, d) * splat(share))
    add(vectors, at, mine.changes, 0, width)
    if way.learn and way.kind != DBOW:
        for k in range(inputs):
            at_change = (1 + k) * width if way.kind == CONCATENATED else 0
            add(model.inputs, mine.around[k], mine.changes, at_change, width)
