"""The kernel of documents against its statement in NumPy, in all its ways."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("numba")

import stated
from omnivec.tables.kernels import doc2vec as kernels
from omnivec.tables.kernels import draws, trees, windows

SENTENCE = [3, 1, 4, 1, 5, 0, 2, 6, 5]
RATE, SEED, WINDOW = 0.1, 5, 2
WAYS = {
    "dbow": kernels.Prediction(kernels.DBOW, False, True),
    "dbow and words": kernels.Prediction(kernels.DBOW, True, True),
    "mean": kernels.Prediction(kernels.MEAN, False, True),
    "sum": kernels.Prediction(kernels.SUM, False, True),
    "concatenated": kernels.Prediction(kernels.CONCATENATED, False, True),
}


def made(way):
    random = np.random.default_rng(3)
    wide = way.kind == kernels.CONCATENATED
    width = stated.WIDTH * (1 + 2 * WINDOW if wide else 1)
    outputs = stated.table(random, stated.WORDS, width)
    vectors, inputs = stated.table(random, 2), stated.table(random, stated.WORDS + 1)
    return vectors, inputs, outputs, stated.settings(WINDOW, width=width)


def reference(way, vectors, inputs, outputs, chosen, alias):
    vectors, inputs, outputs = (each.astype(np.float64) for each in (vectors, inputs, outputs))
    n, document = len(SENTENCE), vectors[1]
    drawn = way.kind != kernels.CONCATENATED and (way.kind != kernels.DBOW or way.words)
    for i, reach, targets in stated.drawn_windows(SENTENCE, chosen, alias, stated.begun(SEED, 0, n), drawn):
        near = [j for j in range(max(0, i - reach), min(n, i + reach + 1)) if j != i]
        words = [SENTENCE[j] for j in near]
        if way.kind == kernels.DBOW:
            if way.words:
                np.add.at(inputs, words, stated.step(inputs[words], outputs, targets, RATE))
            document += stated.step(document[None], outputs, targets, RATE)[0]
        elif way.kind == kernels.CONCATENATED:
            places = [j for j in range(i - WINDOW, i + WINDOW + 1) if j != i]
            words = [SENTENCE[j] if 0 <= j < n else stated.WORDS for j in places]
            hidden = np.concatenate([document, *inputs[words]])
            change = stated.step(hidden[None], outputs, targets, RATE)[0].reshape(-1, stated.WIDTH)
            document += change[0]
            np.add.at(inputs, words, change[1:])
        else:
            share = 1 / (1 + len(words))
            mean = way.kind == kernels.MEAN
            hidden = (document + inputs[words].sum(0)) * (share if mean else 1)
            change = stated.step(hidden[None], outputs, targets, RATE)[0] * (1 if mean else share)
            document += change
            np.add.at(inputs, words, change)
    return vectors, inputs, outputs


@pytest.mark.parametrize("name", WAYS)
def test_a_document_changes_what_the_statement_says(name):
    way = WAYS[name]
    vectors, inputs, outputs, chosen = made(way)
    alias = draws.negatives_table(stated.COUNTS)
    expected = reference(way, vectors, inputs, outputs, chosen, alias)
    ids = np.array(SENTENCE, np.int32)
    text = windows.Sentences(ids, np.array([0, len(ids)]), draws.keep_table(stated.COUNTS, 0.0))
    model = windows.Tables(inputs, outputs, alias, trees.no_tree())
    documents = kernels.DocumentVectors(text, np.array([1], np.int32), vectors)
    room = windows.room(len(ids), WINDOW, stated.NEGATIVE + 1, chosen.width)
    before = vectors.copy()
    loss, losses = kernels.learn(documents, model, chosen, way, room, 0, 1, RATE, SEED)
    assert losses >= 1 and loss > 0
    assert (vectors[0] == before[0]).all() and np.abs(vectors[1] - before[1]).max() > 0.01
    for found, right in zip((vectors, inputs, outputs), expected, strict=True):
        np.testing.assert_allclose(found, right, atol=2e-6)


@pytest.mark.parametrize("name", WAYS)
def test_inference_changes_nothing_but_its_vectors_and_knows_no_neighbours(name):
    way = WAYS[name]
    _, inputs, outputs, chosen = made(way)
    before = inputs.copy(), outputs.copy()
    alias = draws.negatives_table(stated.COUNTS)
    keep = draws.keep_table(stated.COUNTS, 0.0)
    model = windows.Tables(inputs, outputs, alias, trees.no_tree())

    def infer(sentences, seed=1, threads=1):
        ids = np.fromiter(itertools.chain.from_iterable(sentences), np.int32)
        text = windows.Sentences(ids, np.cumsum([0, *map(len, sentences)]).astype(np.int64), keep)
        found, seen = kernels.infer(
            text, model, chosen, way, stated.NEGATIVE + 1, np.linspace(0.1, 0.05, 5), seed, threads
        )
        assert seen.tolist() == list(map(len, sentences))
        return found

    many = [SENTENCE, [], [2], *([i % 9, 3, 4] for i in range(100)), SENTENCE[::-1]]
    together = infer(many, threads=2)
    assert (inputs == before[0]).all() and (outputs == before[1]).all()
    assert not together[1].any()
    assert (together[[0]] == infer(many[:1])).all() and (together[[-1]] == infer(many[-1:])).all()
    assert not (together[0] == together[-1]).all()
    assert not (infer(many[:1], seed=2) == together[0]).all()


def test_a_document_of_frequent_words_is_inferred_from_what_was_left_in():
    way = WAYS["dbow"]
    _, inputs, outputs, chosen = made(way)
    counts = np.array([10**9, *[1] * (len(stated.COUNTS) - 1)])
    keep = draws.keep_table(counts, 1e-8)  # the first word is left out but for 1 pass in 10,000
    model = windows.Tables(inputs, outputs, draws.negatives_table(stated.COUNTS), trees.no_tree())
    documents = [[0], [0, 0, 0], [0, 3], [3]]
    ids = np.fromiter(itertools.chain.from_iterable(documents), np.int32)
    text = windows.Sentences(ids, np.cumsum([0, *map(len, documents)]).astype(np.int64), keep)
    found, seen = kernels.infer(
        text, model, chosen, way, stated.NEGATIVE + 1, np.linspace(0.1, 0.05, 5), 1, 1
    )
    assert found.any(axis=1).all()
    assert seen.tolist() == [1, 3, 1, 1]
