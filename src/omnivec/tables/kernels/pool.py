"""Sums the table rows of each text, which is what a static model does after tokenisation."""

from __future__ import annotations

from typing import Any

from omnivec.tables.kernels.simd import lean


@lean
def add_rows(table: Any, ids: Any, offsets: Any, out: Any) -> None:
    """Adds the rows of each text to its sum, in order; four rows per pass, to read and write the sum less often.

    Args:
        table: (v, d) float32 or int8, contiguous.
        ids: (total,) int32, all below v.
        offsets: (n + 1,) int64, the offset of each text in `ids`, and the end of the last.
        out: (n, d) float32, contiguous; added to.
    """
    dim = table.shape[1]
    for t in range(len(offsets) - 1):
        i, end = offsets[t], offsets[t + 1]
        while i + 4 <= end:
            a, b, c, d = ids[i], ids[i + 1], ids[i + 2], ids[i + 3]
            for k in range(dim):
                out[t, k] = out[t, k] + table[a, k] + table[b, k] + table[c, k] + table[d, k]
            i += 4
        while i < end:
            for k in range(dim):
                out[t, k] += table[ids[i], k]
            i += 1


@lean
def add_weighted_rows(table: Any, weights: Any, ids: Any, offsets: Any, out: Any) -> None:
    """`add_rows` with each row multiplied by its weight; `weights` is (v,) float32."""
    dim = table.shape[1]
    for t in range(len(offsets) - 1):
        for i in range(offsets[t], offsets[t + 1]):
            row = ids[i]
            weight = weights[row]
            for k in range(dim):
                out[t, k] += weight * table[row, k]
