"""fastText's kernels against their statement in NumPy, and the softmax against torch's gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

import stated
from omnivec.tables.kernels import draws, trees, windows
from omnivec.tables.kernels import fasttext as kernels

SENTENCE = [3, 1, 4, 1, 5, 0, 2, 6, 5, 3, 8]
RATE, SEED = 0.1, 7


def subwords(random):
    """Each word has its own row and up to four of ten others, some shared."""
    rows = [
        [w, *(stated.WORDS + random.choice(10, random.integers(0, 5), replace=False))]
        for w in range(stated.WORDS)
    ]
    starts = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return rows, kernels.WordRows(np.concatenate(rows).astype(np.int32), starts)


def reference(rows, inputs, outputs, chosen, alias):
    """In float64: sums when a word enters the window, changes of its rows when it leaves."""
    inputs, outputs = inputs.astype(np.float64), outputs.astype(np.float64)
    n, size = len(SENTENCE), chosen.window
    around = {i: (reach, targets) for i, reach, targets in stated.drawn_windows(
        SENTENCE, chosen, alias, stated.begun(SEED, 0, n)
    )}  # fmt: skip
    means, pending = {}, {}
    for i in range(-size, n + size):
        if i + size < n:
            means[i + size] = inputs[rows[SENTENCE[i + size]]].mean(0)
            pending[i + size] = np.zeros(inputs.shape[1])
        if i in around:
            reach, targets = around[i]
            near = [j for j in range(max(0, i - reach), min(n, i + reach + 1)) if j != i]
            if chosen.skipgram:
                changes = stated.step(np.stack([means[j] for j in near]), outputs, targets, RATE)
            else:
                many = np.array([len(rows[SENTENCE[j]]) for j in near])
                hidden = sum(k * means[j] for k, j in zip(many, near, strict=True)) / many.sum()
                changes = np.repeat(stated.step(hidden[None], outputs, targets, RATE), len(near), 0)
            for j, change in zip(near, changes, strict=True):
                means[j] = means[j] + change
                pending[j] += change
        if i - size >= 0:
            inputs[rows[SENTENCE[i - size]]] += pending[i - size]
    return inputs, outputs


@pytest.mark.parametrize("skipgram", [True, False])
@pytest.mark.parametrize("window", [1, 3])
def test_a_sentence_changes_what_the_statement_says(skipgram, window):
    random = np.random.default_rng(0)
    rows, words = subwords(random)
    inputs, outputs = stated.table(random, stated.WORDS + 10), stated.table(random, stated.WORDS)
    chosen, alias = stated.settings(window, skipgram), draws.negatives_table(stated.COUNTS)
    expected = reference(rows, inputs, outputs, chosen, alias)
    before = inputs.copy()
    ids = np.array(SENTENCE, np.int32)
    text = windows.Sentences(ids, np.array([0, len(ids)]), draws.keep_table(stated.COUNTS, 0.0))
    model = windows.Tables(inputs, outputs, alias, trees.no_tree())
    room = kernels.ring(window, stated.NEGATIVE + 1, stated.WIDTH, len(ids))
    loss, losses = kernels.learn(text, words, model, chosen, room, 0, 1, RATE, SEED)
    assert losses >= 1 and loss / losses > 0
    assert np.abs(inputs - before).max() > 0.01
    np.testing.assert_allclose(inputs, expected[0], atol=2e-6)
    np.testing.assert_allclose(outputs, expected[1], atol=2e-6)


def test_a_softmax_descends_along_the_gradient():
    random = np.random.default_rng(1)
    inputs, outputs = stated.table(random, 12), stated.table(random, 5)
    rows, gold = [4, 4, 9, 0, 11], 3
    x, w = (torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in (inputs, outputs))
    expected = torch.nn.functional.cross_entropy((x[rows].mean(0) @ w.T)[None], torch.tensor([gold]))
    expected.backward()
    bags = kernels.WordRows(np.array(rows, np.int32), np.array([0, 5]))
    room = np.zeros(2 * stated.WIDTH + 5, np.float32)
    loss, losses = kernels.classify(bags, np.array([gold], np.int32), inputs, outputs, room, 0, 1, RATE)
    assert losses == 1 and loss == pytest.approx(expected.item(), abs=1e-6)
    np.testing.assert_allclose(inputs, (x - RATE * x.grad).detach(), atol=1e-6)
    np.testing.assert_allclose(outputs, (w - RATE * w.grad).detach(), atol=1e-6)


def test_means_of_rows():
    random = np.random.default_rng(2)
    rows, words = subwords(random)
    inputs, found = (
        stated.table(random, stated.WORDS + 10),
        np.empty((stated.WORDS, stated.WIDTH), np.float32),
    )
    kernels.means(inputs, words, found)
    np.testing.assert_allclose(found, [inputs[each].mean(0) for each in rows], atol=1e-6)


def test_words_are_kept_as_often_as_word2vec_keeps_them():
    counts = np.array([900, 90, 10], np.int64)
    shares = counts / 1000
    expected = np.minimum(np.sqrt(0.02 / shares) + 0.02 / shares, 1)
    np.testing.assert_allclose(draws.keep_table(counts, 0.02) / 2**32, expected, atol=1e-6)
    assert (draws.keep_table(counts, 0.0) == 2**32 - 1).all()
