"""Agglomerative clustering of vectors by average link on the cosine, in NumPy.

The distance of two clusters is 1 minus the mean cosine over all pairs of their vectors, which is the dot product of the
means of their unit vectors. Merges are found by following nearest neighbours (Murtagh 1983,
doi:10.1093/comjnl/26.4.354) in O(n²) time; n vectors need a matrix of n² float32, so that more than `MOST` are first
clustered in pieces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omnivec.errors import UsageError
from omnivec.types import Floats, Ints
from omnivec.validation.arguments import real, whole
from omnivec.vectors.verification import unit_rows

Doubles = NDArray[np.float64]

MOST = 4000
"""Largest number of vectors whose distances are computed at once: 64 MB."""

_PIECE, _SHARE = 2000, 8
"""More vectors are clustered in pieces of `_PIECE` neighbours, each into a `_SHARE`-th of its number."""


@dataclass(frozen=True, eq=False)
class Dendrogram:
    """The merges of n vectors, from single vectors to one cluster; made by `average_link`.

    Attributes:
        start: (n,) int64, the cluster that each vector is in before the first merge: its own, unless there were more
            than `MOST` vectors.
        merges: (m - 1, 2) int64 for m clusters at the start. Row i merges two clusters into the cluster m + i.
        distances: (m - 1,) float64 in ascending order, 0 to 2: 1 minus the mean cosine of the two clusters.
    """

    start: Ints
    merges: Ints
    distances: Doubles

    def cut(self, count: int | None = None, distance: float | None = None) -> Ints:
        """The clusters at one level.

        Args:
            count: number of clusters, or
            distance: clusters are merged up to this distance.

        Returns:
            (n,) int64, the cluster of each vector, numbered from 0 in the order of their first vectors.

        Raises:
            UsageError: neither or both are given, or one is out of range.
        """
        leaves = len(self.merges) + 1
        if (count is None) == (distance is None):
            raise UsageError("cut by the number of clusters or by a distance: give one of both")
        if count is not None:
            done = leaves - whole("count", count, 1, leaves)
        else:
            done = int(np.searchsorted(self.distances, real("distance", distance, 0.0), side="right"))
        parent = np.arange(leaves + done)
        parent[self.merges[:done].reshape(-1)] = np.repeat(np.arange(leaves, leaves + done), 2)
        # Each merge has a higher number than what it merges: from the last one down, all parents are roots.
        for i in range(leaves + done - 1, -1, -1):
            parent[i] = parent[parent[i]]
        return renumbered(parent[self.start])


def average_link(vectors: ArrayLike) -> Dendrogram:
    """Clusters vectors by average link on the cosine.

    Args:
        vectors: (n, dim), n at least 1; none is zero. Beyond `MOST`, neighbours in order are clustered first, so that
            vectors that are near in time should be near in order.

    Returns:
        The dendrogram; the same for the same input.

    Raises:
        UsageError: no vectors, or invalid ones.
    """
    rows = unit_rows(vectors)
    if not rows.size:
        raise UsageError("no vectors: there is nothing to cluster")
    start, sums, sizes = np.arange(len(rows)), rows, np.ones(len(rows))
    while len(sums) > MOST:
        piece = np.concatenate(
            [_reduced(sums[i : i + _PIECE], sizes[i : i + _PIECE]) for i in range(0, len(sums), _PIECE)]
        )
        offsets = np.repeat(np.arange(0, len(sums), _PIECE), _PIECE)[: len(sums)]
        label = renumbered(piece + offsets)
        start = label[start]
        sums, sizes = _added(sums, label), _added(sizes[:, None], label)[:, 0]
    return Dendrogram(start, *_merged(sums, sizes))


def renumbered(labels: Ints) -> Ints:
    """Labels numbered from 0 in the order in which they first occur."""
    _, first, place = np.unique(labels, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    numbered: Ints = order[place]
    return numbered


def _reduced(sums: Doubles, sizes: Doubles) -> Ints:
    count = max(len(sums) // _SHARE, 1)
    return Dendrogram(np.arange(len(sums)), *_merged(sums, sizes)).cut(count)


def _added(rows: Doubles, labels: Ints) -> Doubles:
    total = np.zeros((labels.max() + 1, rows.shape[1]))
    np.add.at(total, labels, rows)
    return total


def _merged(sums: Doubles, sizes: Doubles) -> tuple[Ints, Doubles]:
    """Merges and distances of clusters with the sums of their unit vectors (m, dim) and their sizes (m,).

    A chain of clusters is followed, each the nearest neighbour of the one before it, until two are each other's
    nearest: these merge at once, as average link never brings another cluster nearer than both were.
    """
    count = len(sums)
    distances = _distances(sums, sizes)
    weights = sizes.astype(np.float64)
    alive, chain = np.ones(count, bool), list[int]()
    pairs, heights = list[tuple[int, int]](), list[float]()
    for _ in range(count - 1):
        if not chain:
            chain.append(int(np.argmax(alive)))
        while True:
            one = chain[-1]
            other = int(np.argmin(distances[one]))
            # Of equally near clusters, the one before in the chain ends it; any other would make it go in a circle.
            if len(chain) > 1 and distances[one, chain[-2]] <= distances[one, other]:
                break
            chain.append(other)
        other, one = sorted((chain.pop(), chain.pop()), reverse=True)
        pairs.append((one, other))
        heights.append(float(distances[one, other]))
        total = weights[one] + weights[other]
        row = (weights[one] * distances[one] + weights[other] * distances[other]) / total
        row[one] = np.inf
        distances[one], distances[:, one] = row, row
        distances[other], distances[:, other] = np.inf, np.inf
        weights[one], alive[other] = total, False
    return _in_order(count, np.array(pairs, np.int64).reshape(-1, 2), np.array(heights, np.float64))


def _distances(sums: Doubles, sizes: Doubles) -> Floats:
    means = (sums / sizes[:, None]).astype(np.float32)
    distances = 1 - means @ means.T
    np.fill_diagonal(distances, np.inf)
    result: Floats = np.maximum(distances, 0)
    return result


def _in_order(count: int, pairs: Ints, heights: Doubles) -> tuple[Ints, Doubles]:
    """Sorts merges by distance. A cluster is named by its lowest leaf in `pairs`, by its number in the result."""
    order = np.argsort(heights, kind="stable")
    heights = np.maximum.accumulate(heights[order])
    name = np.arange(count)
    merges = np.zeros((len(pairs), 2), np.int64)
    for i, (one, other) in enumerate(pairs[order].tolist()):
        merges[i] = name[one], name[other]
        name[one] = count + i
    return merges, heights
