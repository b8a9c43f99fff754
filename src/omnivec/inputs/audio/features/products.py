"""Matrix products that BLAS computes with one thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from omnivec.types import Floats

_LARGEST = 2**18
"""Multiplications up to which OpenBLAS uses one thread. Its others wait actively for their next share: with the short
products of front ends they spend several times the CPU seconds of the work itself."""


def multiply(a: Floats, b: Floats, out: Floats) -> None:
    """Writes the product of a (m, k) and b (k, n) to out (m, n), in pieces of a."""
    step = max(1, _LARGEST // b.size)
    whole = len(a) - len(a) % step
    if whole:
        pieces = whole // step
        np.matmul(
            a[:whole].reshape(pieces, step, -1), b, out=out[:whole].reshape(pieces, step, -1)
        )  # views: to split the first axis copies nothing
    if whole < len(a):
        np.matmul(a[whole:], b, out=out[whole:])


@dataclass(frozen=True, eq=False)
class Banded:
    """A matrix whose non-zero elements lie in a band, such as a mel filter bank, in groups of columns.

    Attributes:
        columns: number of columns.
        groups: (rows, columns, elements) of each group; all elements outside of its rows are zero.
    """

    columns: int
    groups: Sequence[tuple[slice, slice, Floats]]

    @classmethod
    def of(cls, matrix: Floats, width: int = 16) -> Banded:
        """Cuts a matrix (k, n) into groups of `width` columns."""
        groups = []
        for start in range(0, matrix.shape[1], width):
            columns = slice(start, min(start + width, matrix.shape[1]))
            [used] = np.nonzero(matrix[:, columns].any(axis=1))
            rows = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
            groups.append((rows, columns, np.ascontiguousarray(matrix[rows, columns])))
        return cls(matrix.shape[1], groups)

    def multiply(self, a: Floats, out: Floats) -> None:
        """Writes the product of a (m, k) and this matrix to out (m, n)."""
        for rows, columns, elements in self.groups:
            multiply(a[:, rows], elements, out[:, columns])
