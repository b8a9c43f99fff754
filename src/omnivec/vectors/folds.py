"""Folds of cross-validation that keep the shares of the classes and never divide a group.

Clips of one recording, or of one speaker, resemble each other more than they resemble what will come later. If some of
them are learned from and others asked, the estimate is too high. Rows that are equal are therefore one group too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.types import Ints


@dataclass(frozen=True, eq=False)
class Folds:
    """Which rows are asked in which fold, the others being learned from.

    Attributes:
        of_row: (n,) int64, the fold in which a row is asked; -1 for a row that is always learned from.
        count: number of folds that are carried out.
        classes: (n,) int64, index of the class of each row.
    """

    of_row: Ints
    count: int
    classes: Ints

    @property
    def asked(self) -> int:
        """Number of rows that are asked, in all folds together."""
        return sum(len(asked) for _, asked in self)

    def __iter__(self) -> Iterator[tuple[Ints, Ints]]:
        """Yields the indices of the rows to learn from and of those to ask, whose classes all occur in the former."""
        for fold in range(self.count):
            known = np.flatnonzero(self.of_row != fold)
            asked = np.flatnonzero(self.of_row == fold)
            asked = asked[np.isin(self.classes[asked], self.classes[known])]
            if len(asked):
                yield known, asked


def folds_of(classes: Ints, groups: Ints, most: int, seed: int) -> Folds | None:
    """Divides rows into folds.

    The groups, in random order and the largest first, each go to the fold in which their classes are rarest. A class
    that lies in one group only cannot be asked, as nothing of it could be learned: its group is always learned from.

    Args:
        classes: (n,) index of the class of each row.
        groups: (n,) index of the group of each row.
        most: largest number of folds; fewer if no class lies in so many groups.
        seed: of the order.

    Returns:
        The folds; None if fewer than two classes lie in two groups or more.
    """
    pairs = np.unique(np.column_stack([classes, groups]), axis=0)
    groups_of_class = np.bincount(pairs[:, 0])
    count = min(most, int(groups_of_class.max(initial=0)))
    if count < 2 or (groups_of_class > 1).sum() < 2:
        return None
    single = np.flatnonzero(groups_of_class == 1)
    fixed = np.isin(groups, pairs[np.isin(pairs[:, 0], single), 1])
    of_row = np.full(len(classes), -1, np.int64)
    totals = np.bincount(classes)
    held = np.zeros((count, len(totals)))
    for rows in _groups(groups, fixed, seed):
        labels, numbers = np.unique(classes[rows], return_counts=True)
        cost = (held[:, labels] / totals[labels] * numbers).sum(axis=1)
        best = int(np.lexsort((held.sum(axis=1), cost))[0])
        held[best, labels] += numbers
        of_row[rows] = best
    return Folds(of_row, count, classes)


def _groups(groups: Ints, fixed: NDArray[np.bool_], seed: int) -> list[Ints]:
    """The rows of each group that is not fixed, in random order and the largest first."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    parts = [rows for rows in np.split(order, starts[1:]) if len(rows) and not fixed[rows[0]]]
    shuffled = np.random.default_rng(seed).permutation(len(parts)).tolist()
    return sorted((parts[i] for i in shuffled), key=len, reverse=True)


def merged_groups(vectors: NDArray[Any], groups: Ints) -> Ints:
    """The groups (n,), of which those that share an equal vector (n, dim) are one; numbered from 0."""
    parent = list(range(int(groups.max(initial=-1)) + 1))

    def root(group: int) -> int:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    first: dict[bytes, int] = {}
    for row, group in zip(np.ascontiguousarray(vectors), groups.tolist(), strict=True):
        other = first.setdefault(row.tobytes(), group)
        if other != group:
            one, two = sorted((root(group), root(other)))
            parent[two] = one
    return np.unique([root(group) for group in groups.tolist()], return_inverse=True)[1].astype(np.int64)
