"""Binary trees with words as leaves, for a hierarchical softmax (Morin and Bengio 2005; Huffman 1952)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnivec.tables.kernels.simd import lean
from omnivec.types import Floats

Places = NDArray[np.int64]


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


def no_tree() -> Tree:
    """What negative sampling has instead."""
    return Tree(np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros(1, np.float32))


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
