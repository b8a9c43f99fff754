"""Duplicates: groups of nearly equal rows, by 64-bit hashes or by vectors.

Groups are transitive: if a is near b and b near c, all three are one group. All pairs are compared, n^2 / 2 of them, in
blocks, which takes a minute for 100,000 rows. Callers that examine candidates further get pairs instead of groups,
block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.types import Floats, Ints
from omnivec.vectors.unit import unit_table

Hashes = NDArray[np.uint64]
Pairs = NDArray[np.int64]
"""(m, 2) rows, the lower first."""

_PAIRS = 1 << 22  # compared at a time


def by_hash(hashes: Hashes, distance: int = 8) -> list[Ints]:
    """Groups of equal or nearly equal hashes.

    Of 64 bits, unrelated images differ in about 32, with a standard deviation of about 4 or a little more; resized and
    recompressed copies in 0 to 6. 8 lies between, six deviations below chance; 0 takes only equal hashes.

    Args:
        hashes: (n,) uint64. A hash of 0, that of an image without any structure, is in no group.
        distance: the most bits in which the hashes of neighbours differ.

    Returns:
        Groups of two or more rows, each ascending, ordered by their first.

    Raises:
        UsageError: hashes of another dtype or shape, or a distance out of range.
    """
    _check_hashes(hashes, distance)
    values, group = np.unique(hashes, return_inverse=True)
    start = int(len(values) > 0 and values[0] == 0)
    labels = _labels(len(values), _near_hashes(values, distance), start)[group]
    labels[hashes == 0] = -1
    return _groups(labels)


def hash_pairs(hashes: Hashes, distance: int = 8) -> Iterator[Pairs]:
    """Pairs of equal or nearly equal hashes, each once; see `by_hash`.

    Args:
        hashes: (n,) uint64; a hash of 0 is in no pair.
        distance: the most bits in which the two differ.

    Raises:
        UsageError: as `by_hash`.
    """
    _check_hashes(hashes, distance)
    rows = np.flatnonzero(hashes)
    near = _near_hashes(hashes[rows], distance)
    for some, others in _blocks(0, len(rows)):
        one, other = np.nonzero(near(some, others))
        one, other = one + some.start, other + others.start
        above = one < other
        yield np.stack([rows[one[above]], rows[other[above]]], axis=1)


def vector_pairs(vectors: Floats, cosine: float, most: int) -> Iterator[Pairs]:
    """Pairs of rows of which one is among the other's nearest neighbours; the nearest pairs of a block come first.

    Args:
        vectors: (n, dim); a row of zeros is in no pair.
        cosine: the least cosine of a pair.
        most: number of nearest neighbours of each row. A pair may be returned twice, once for either row.

    Raises:
        UsageError: vectors that are not a matrix, a cosine out of range, or less than one neighbour.
    """
    _check_vectors(vectors, cosine)
    if most < 1:
        raise UsageError(f"most={most}: at least 1")
    drawn = np.flatnonzero(vectors.any(axis=1))
    rows = unit_table(vectors[drawn])
    side, count = max(_PAIRS // max(len(rows), 1), 1), min(most, len(rows))
    for start in range(0, len(rows), side):
        scores = rows[start : start + side] @ rows.T
        diagonal = np.arange(len(scores))
        scores[diagonal, diagonal + start] = -2.0
        nearest = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        best = np.take_along_axis(scores, nearest, axis=1)
        one, place = np.nonzero(best >= cosine - 1e-6)
        order = np.argsort(-best[one, place], kind="stable")
        pairs = np.stack([drawn[one + start], drawn[nearest[one, place]]], axis=1)[order]
        yield np.sort(pairs, axis=1)


def joined(count: int, pairs: Pairs) -> list[Ints]:
    """The groups that pairs (m, 2) of `count` rows form, ordered as by `by_hash`."""
    parent = np.arange(count)
    _join(parent, pairs[:, 0], pairs[:, 1])
    return _groups(parent)


def by_vector(vectors: Floats, cosine: float = 0.9) -> list[Ints]:
    """Groups of vectors that are nearly parallel.

    Which cosine separates copies from similar images depends on the model. With EfficientNet-Lite0 and 23 photographs,
    different ones have up to 0.53, copies cropped to 90 % of each side 0.91 and more, to 80 % 0.81, to 70 % 0.67;
    models trained on pairs of images and texts have higher cosines throughout. 0.9 is for copies and light crops; for
    heavier crops lower it, after looking at the pairs near the threshold.

    Args:
        vectors: (n, dim); a row of zeros is in no group.
        cosine: the least cosine between neighbours.

    Returns:
        Groups of two or more rows, each ascending, ordered by their first.

    Raises:
        UsageError: vectors that are not a matrix, or a cosine out of range.
    """
    _check_vectors(vectors, cosine)
    # A row of zeros has a cosine of 0 with all rows, and would join them if `cosine` is 0 or less.
    drawn = np.flatnonzero(vectors.any(axis=1))
    rows = unit_table(vectors[drawn])
    least = cosine - 1e-6  # equal vectors have a cosine of 1, less rounding

    def near(some: slice, others: slice) -> NDArray[np.bool_]:
        return (rows[some] @ rows[others].T) >= least

    return [drawn[group] for group in _groups(_labels(len(rows), near))]


def _check_hashes(hashes: Hashes, distance: int) -> None:
    if hashes.dtype != np.uint64 or hashes.ndim != 1:
        raise UsageError(f"hashes {hashes.dtype} {hashes.shape}: must be (n,) uint64")
    if not 0 <= distance <= 64:
        raise UsageError(f"distance={distance}: 0 to 64 bits")


def _check_vectors(vectors: Floats, cosine: float) -> None:
    if vectors.ndim != 2:
        raise UsageError(f"vectors {vectors.shape}: must be (n, dim)")
    if not -1 <= cosine <= 1:
        raise UsageError(f"cosine={cosine}: -1 to 1")


def _near_hashes(hashes: Hashes, distance: int) -> Callable[[slice, slice], NDArray[np.bool_]]:
    """A function that compares two slices of rows: which of their pairs differ in at most `distance` bits?"""
    counts = _bit_counts()
    parts = np.ascontiguousarray(hashes).view(np.uint16).reshape(-1, 4)

    def near(rows: slice, others: slice) -> NDArray[np.bool_]:
        bits = np.zeros((rows.stop - rows.start, others.stop - others.start), np.uint8)
        for part in range(4):
            bits += counts[parts[rows, part, None] ^ parts[None, others, part]]
        return bits <= distance

    return near


@lru_cache(maxsize=1)
def _bit_counts() -> NDArray[np.uint8]:
    """How many bits are set in each number of 16 bits."""
    counts = np.zeros(1, np.uint8)
    for _ in range(16):
        counts = np.concatenate([counts, counts + np.uint8(1)])
    return counts


def _labels(count: int, near: Callable[[slice, slice], NDArray[np.bool_]], start: int = 0) -> Ints:
    """For each of `count` rows the smallest row of its group, which is itself for a row without neighbours."""
    parent = np.arange(count)
    for rows, others in _blocks(start, count):
        one, other = np.nonzero(near(rows, others))
        _join(parent, one + rows.start, other + others.start)
    return parent


def _blocks(start: int, count: int) -> Iterator[tuple[slice, slice]]:
    """Pairs of blocks that cover each pair of rows."""
    side = int(_PAIRS**0.5)
    for i in range(start, count, side):
        for j in range(i, count, side):
            yield slice(i, min(i + side, count)), slice(j, min(j + side, count))


def _join(parent: Ints, one: Ints, other: Ints) -> None:
    """Joins the groups of rows pairwise, in place: `parent` has the smallest row of each row's group.

    With parent 0 1 2 3 and the pairs (1, 0) and (2, 1), the first round sets parent to 0 0 1 3, then path compression
    to 0 0 0 3; in the second round, all pairs are in one group.
    """
    while True:
        first, second = parent[one], parent[other]
        apart = first != second
        if not apart.any():
            return
        one, other, first, second = one[apart], other[apart], first[apart], second[apart]
        np.minimum.at(parent, np.maximum(first, second), np.minimum(first, second))
        while not np.array_equal(above := parent[parent], parent):
            parent[:] = above


def _groups(labels: Ints) -> list[Ints]:
    """Groups of two or more rows with equal labels; rows with label -1 are in no group."""
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] >= 0]
    edges = np.flatnonzero(np.diff(labels[order])) + 1
    groups = [group for group in np.split(order, edges) if len(group) > 1]
    return sorted(groups, key=lambda group: int(group[0]))
