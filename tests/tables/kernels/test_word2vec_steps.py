"""What a sentence changes: the loss's gradient as torch finds it, for both models and both ways of telling apart."""

from __future__ import annotations

import heapq
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba")

from omnivec.tables.kernels import draws, trees, windows
from omnivec.tables.kernels import word2vec as kernels

RATE, DIM, WORDS, DRAWN = 0.3, 20, 12, 4
# Words twice in a window, the negative as a centre and beside itself, windows cut at both ends.
SENTENCE = [0, 1, 0, 2, DRAWN, 0, 3, 3, 11, 5]


def settings(**given):
    chosen = {"skipgram": True, "negative": 5, "window": 2, "shrink": False, "mean": True, **given}
    return windows.WindowSettings(**chosen, width=windows.width_of(DIM))


def tables(seed=0) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    inputs, outputs = windows.zeros(WORDS, DIM), windows.zeros(WORDS, DIM)
    for table in (inputs, outputs):
        table[:, :DIM] = random.standard_normal((WORDS, DIM)) * 0.3
    return inputs, outputs


def learn(inputs, outputs, chosen, tree, sentence=SENTENCE, weights=None, seed=1):
    weights = np.eye(WORDS)[DRAWN] if weights is None else weights
    ids = np.array(sentence, np.int32)
    text = windows.Sentences(ids, np.array([0, len(ids)]), draws.keep_table(np.ones(WORDS, np.int64), 0.0))
    model = windows.Tables(inputs.reshape(-1), outputs.reshape(-1), draws.alias_table(weights + 1e-300), tree)
    most = chosen.negative + 1 if chosen.negative else int(np.diff(tree.starts).max())
    room = windows.room(len(ids), chosen.window, most, chosen.width)
    return kernels.learn(text, model, chosen, room, 0, 1, RATE, seed)


def reference(inputs, outputs, chosen, targets_of):
    """The same in float64, window by window, by automatic differentiation."""
    tensors = [
        torch.tensor(table[:, :DIM], dtype=torch.float64, requires_grad=True) for table in (inputs, outputs)
    ]
    words, nodes = tensors
    for p, centre in enumerate(SENTENCE):
        around = SENTENCE[max(0, p - chosen.window) : p] + SENTENCE[p + 1 : p + 1 + chosen.window]
        hidden = words[around]
        if not chosen.skipgram:
            hidden = hidden.mean(0, keepdim=True) if chosen.mean else hidden.sum(0, keepdim=True)
        rows, labels = targets_of(centre)
        signs = torch.tensor(labels, dtype=torch.float64) * 2 - 1
        loss = -torch.nn.functional.logsigmoid(hidden @ nodes[rows].T * signs).sum()
        gradients = torch.autograd.grad(loss, tensors)
        # word2vec's programs do not divide the change of a mean among its words.
        scale = len(around) if not chosen.skipgram and chosen.mean else 1
        with torch.no_grad():
            words -= RATE * gradients[0] * scale
            nodes -= RATE * gradients[1]
    return [tensor.detach().numpy() for tensor in tensors]


@pytest.mark.parametrize("negative", [1, 4, 5])
@pytest.mark.parametrize("given", [{}, {"skipgram": False}, {"skipgram": False, "mean": False}])
def test_negative_sampling_follows_the_gradient(given, negative):
    chosen, (inputs, outputs) = settings(negative=negative, **given), tables()

    def targets_of(centre):
        drawn = [] if centre == DRAWN else [DRAWN] * negative
        return [centre, *drawn], [1] + [0] * len(drawn)

    expected = reference(inputs, outputs, chosen, targets_of)
    learn(inputs, outputs, chosen, trees.no_tree())
    np.testing.assert_allclose(inputs[:, :DIM], expected[0], atol=3e-6)
    np.testing.assert_allclose(outputs[:, :DIM], expected[1], atol=3e-6)
    assert not inputs[:, DIM:].any() and not outputs[:, DIM:].any()


@pytest.mark.parametrize("given", [{}, {"skipgram": False}, {"skipgram": False, "mean": False}])
def test_the_hierarchical_softmax_follows_the_gradient(given):
    chosen, (inputs, outputs) = settings(negative=0, **given), tables()
    tree = trees.huffman_tree(2 ** np.arange(WORDS)[::-1])
    assert np.diff(tree.starts).max() == WORDS - 1  # two groups of targets

    def targets_of(centre):
        path = slice(tree.starts[centre], tree.starts[centre + 1])
        return tree.nodes[path].tolist(), tree.labels[path].tolist()

    expected = reference(inputs, outputs, chosen, targets_of)
    learn(inputs, outputs, chosen, tree)
    np.testing.assert_allclose(inputs[:, :DIM], expected[0], atol=3e-6)
    np.testing.assert_allclose(outputs[:, :DIM], expected[1], atol=3e-6)


def test_a_drawn_window_is_smaller_and_the_seed_draws_it():
    def changed(seed, **given):
        inputs, outputs = tables()
        learn(inputs, outputs, settings(**given), trees.no_tree(), seed=seed)
        return inputs

    assert np.array_equal(changed(1, shrink=True), changed(1, shrink=True))
    assert not np.array_equal(changed(1, shrink=True), changed(2, shrink=True))
    assert np.array_equal(changed(1, shrink=False), changed(2, shrink=False))  # nothing else is drawn here


def test_the_loss_is_that_of_telling_a_word_from_its_negatives():
    inputs, outputs = tables()
    outputs[:] = 0  # every product is 0: six targets, one bit each
    loss, count = learn(inputs, outputs, settings(), trees.no_tree(), [0, 1] * 4000, np.eye(WORDS)[3])
    assert count > 50
    assert 0 < loss / count < 6 * np.log(2)
    inputs[:] = 0
    outputs[:] = 0  # nothing is learned from zeros
    loss, count = learn(inputs, outputs, settings(), trees.no_tree(), [0, 1] * 4000, np.eye(WORDS)[3])
    assert loss / count == pytest.approx(6 * np.log(2), rel=1e-5)


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=60))
def test_the_tree_is_huffmans(counts):
    counts = np.array(counts)
    tree = trees.huffman_tree(counts)
    heap = list(map(int, counts))
    heapq.heapify(heap)
    cost = 0
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        cost += joined
        heapq.heappush(heap, joined)
    lengths = np.diff(tree.starts)
    assert int((lengths * counts).sum()) == cost
    assert sum(2.0**-length for length in lengths) == 1.0
    paths = [
        tuple(zip(tree.nodes[a:b].tolist(), tree.labels[a:b].tolist(), strict=True))[::-1]
        for a, b in pairwise(tree.starts)
    ]
    assert {path[0][0] for path in paths} == {len(counts) - 2}  # the root
    after = {}
    for path in paths:
        for (node, label), (following, _) in pairwise(path):
            assert (
                after.setdefault((node, label), following) == following
            )  # the same turn leads to the same node
    assert len({tuple(path) for path in paths}) == len(counts)


@given(st.lists(st.just(0.0) | st.floats(0.01, 1000), min_size=1, max_size=50).filter(any))
def test_an_alias_table_gives_each_row_its_share(weights):
    weights = np.array(weights)
    table = draws.alias_table(weights)
    own = (table >> np.uint64(32)) / 2**32
    others = (table & np.uint64(2**32 - 1)).astype(int)
    shares = own + np.bincount(others, 1 - own, len(weights))
    np.testing.assert_allclose(shares / len(weights), weights / weights.sum(), atol=1e-6)


def test_negatives_are_drawn_by_their_share():
    table = draws.negatives_table(np.array([1000, 100, 10, 1]))
    state, seen = np.uint64(12345), np.zeros(4)
    for _ in range(20_000):
        state = np.uint64(draws.advance(state))
        seen[draws.draw(state, table)] += 1
    expected = np.array([1000, 100, 10, 1]) ** 0.75
    np.testing.assert_allclose(seen / seen.sum(), expected / expected.sum(), atol=0.01)


def test_frequent_words_are_thinned_as_word2vec_does():
    counts = np.array([90_000, 9_000, 900, 100])
    ids = np.repeat(np.arange(4, dtype=np.int32), counts)
    left = np.empty(len(ids), np.int32)
    count, _ = draws.thin(ids, 0, len(ids), draws.keep_table(counts, 1e-2), 99, left)
    share = counts / counts.sum()
    expected = np.minimum(np.sqrt(1e-2 / share) + 1e-2 / share, 1)
    np.testing.assert_allclose(np.bincount(left[:count], minlength=4) / counts, expected, atol=0.02)


@pytest.mark.parametrize("skipgram", [True, False])
def test_threads_that_learn_on_copies_of_the_root_learn_what_one_does(skipgram):
    chosen, tree = settings(negative=0, skipgram=skipgram), trees.huffman_tree(2 ** np.arange(WORDS)[::-1])
    sentences = [SENTENCE * 4, SENTENCE[::-1] * 3, SENTENCE]  # longer than the windows between two exchanges
    alone, together = tables(), tables()
    for sentence in sentences:
        learn(*alone, chosen, tree, sentence)
    rows = WORDS + windows.copied(tree, 3)
    assert rows == WORDS + 3 * (WORDS - 1)
    outputs = windows.zeros(rows, DIM)
    outputs[:WORDS] = together[1]
    copies = windows.crowns(tree, WORDS, chosen.width, 3)
    text_of = draws.keep_table(np.ones(WORDS, np.int64), 0.0)
    model = windows.Tables(
        together[0].reshape(-1), outputs.reshape(-1), draws.alias_table(np.eye(WORDS)[DRAWN] + 1e-300), tree
    )
    for thread, sentence in enumerate(sentences):
        ids = np.array(sentence, np.int32)
        most = int(np.diff(tree.starts).max())
        room = windows.room(len(ids), chosen.window, most, chosen.width, copies(thread))
        text = windows.Sentences(ids, np.array([0, len(ids)]), text_of)
        kernels.learn(text, model, chosen, room, 0, 1, RATE, 1)
        assert np.array_equal(outputs[: WORDS - 1], outputs[copies(thread).at :][: WORDS - 1])
    np.testing.assert_allclose(together[0], alone[0], atol=1e-5)
    np.testing.assert_allclose(outputs[:WORDS], alone[1], atol=1e-5)
