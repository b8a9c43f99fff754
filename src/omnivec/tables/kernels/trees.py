"""Binary trees with words as leaves, for a hierarchical softmax (Morin and Bengio 2005; Huffman 1952).

Example, counts [5, 3, 1, 1]: words 2 and 3 are joined as node 0 (2), that and word 1 as node 1 (5), that and word 0 as
node 2, the root. From the leaf up:

    word 0      node 2                  starts [0, 1, 3, 6, 9]
    word 1      nodes 1, 2              nodes  [2, 1, 2, 0, 1, 2, 0, 1, 2]
    word 2      nodes 0, 1, 2           labels [1, 0, 0, 0, 1, 0, 1, 1, 0]
    word 3      nodes 0, 1, 2
"""

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
        starts: (v + 1,) the offset of each word's path in `nodes` and `labels`.
        nodes: inner nodes on the paths, from the leaf up, numbered 0 to v - 2; the root is v - 2.
        labels: the target at each node: 1 if the path comes from its first child, 0 if from its second.
    """

    starts: Places
    nodes: NDArray[np.int32]
    labels: Floats


def no_tree() -> Tree:
    """An empty tree, for negative sampling."""
    return Tree(np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros(1, np.float32))


def huffman_tree(counts: Places) -> Tree:
    """The Huffman tree of words with these counts (v,): frequent words have short paths."""
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
    """Joins the two lightest nodes, v - 1 times.

    Leaves are sorted by descending weight; inner nodes follow them and are made in ascending order, so the lightest
    node left is always the last free leaf or the first free inner node.
    """
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
