"""Pools table rows into one vector per text, which is all that a static model computes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ModelError
from omnivec.types import Floats

How = Literal["mean", "weighted mean", "sum"]
AT_ONCE = 1 << 14
"""Ids per thread, at least; fewer are not worth starting one."""

Add = Callable[[NDArray[Any], Floats | None, NDArray[np.int32], NDArray[np.int64], Floats], None]


def pooled(
    table: NDArray[Any],
    ids: NDArray[np.int32],
    offsets: NDArray[np.int64],
    how: How = "mean",
    weights: Floats | None = None,
    *,
    threads: int = 1,
) -> Floats:
    """Vectors (n, d) float32 of n texts; zeros for a text without ids.

    Args:
        table: (v, d) float32, float16 or int8.
        ids: (total,) int32 row numbers of all texts, concatenated, as in `FlatIds`.
        offsets: (n + 1,) int64, the offset of each text in `ids`, and the end of the last.
        how: "sum"; "mean", the sum divided by the number of ids; "weighted mean", divided by the sum of their weights.
        weights: (v,) float32, the factor of each row, with any `how`; None for 1.
        threads: number of threads.

    Raises:
        ModelError: an id is negative or not below v.
    """
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < len(table):
        raise ModelError(
            f"token ids {ids.min()} to {ids.max()} are not all rows of a table of {len(table)}: tokenizer and "
            "weights do not belong together."
        )
    if weights is not None:
        weights = np.ascontiguousarray(weights, np.float32)
    divisors = _divisors(ids, offsets, how, weights)
    table, weights, ids = _summable(table, weights, ids)
    sums = np.zeros((len(offsets) - 1, table.shape[1]), np.float32)
    _add_all(table, weights, ids, offsets, sums, threads)
    if divisors is not None:
        np.divide(sums, divisors[:, None], out=sums, where=divisors[:, None] != 0)
    return sums


def _divisors(
    ids: NDArray[np.int32], offsets: NDArray[np.int64], how: How, weights: Floats | None
) -> Floats | None:
    if how == "sum":
        return None
    if how == "mean" or weights is None:
        counts: Floats = np.diff(offsets).astype(np.float32)
        return counts
    cumulative = np.concatenate([[0.0], np.cumsum(weights[ids], dtype=np.float64)])
    totals: Floats = (cumulative[offsets[1:]] - cumulative[offsets[:-1]]).astype(np.float32)
    return totals


def _summable(
    table: NDArray[Any], weights: Floats | None, ids: NDArray[np.int32]
) -> tuple[NDArray[Any], Floats | None, NDArray[np.int32]]:
    """The same arguments in a dtype that the kernels take: of a float16 table only the used rows are converted."""
    if table.dtype in (np.float32, np.int8):
        return np.ascontiguousarray(table), weights, ids
    used = np.zeros(len(table), np.bool_)
    used[ids] = True
    rows = np.flatnonzero(used)
    places = np.cumsum(used, dtype=np.int32) - 1
    return table[rows].astype(np.float32), weights[rows] if weights is not None else None, places[ids]


def _add_all(
    table: NDArray[Any],
    weights: Floats | None,
    ids: NDArray[np.int32],
    offsets: NDArray[np.int64],
    sums: Floats,
    threads: int,
) -> None:
    add = _kernel()
    parts = min(threads, len(ids) // AT_ONCE)
    if parts < 2:
        add(table, weights, ids, offsets, sums)
        return
    cuts = np.searchsorted(offsets, np.linspace(0, offsets[-1], parts + 1)[1:-1])
    bounds = [0, *cuts.tolist(), len(sums)]
    with ThreadPoolExecutor(parts) as pool:
        list(
            pool.map(
                lambda first, last: add(table, weights, ids, offsets[first : last + 1], sums[first:last]),
                bounds[:-1],
                bounds[1:],
            )
        )


def _kernel() -> Add:
    try:
        from omnivec.tables.kernels import pool
    except ImportError:
        return _add_by_numpy

    def add(
        table: NDArray[Any],
        weights: Floats | None,
        ids: NDArray[np.int32],
        offsets: NDArray[np.int64],
        sums: Floats,
    ) -> None:
        if weights is None:
            pool.add_rows(table, ids, offsets, sums)
        else:
            pool.add_weighted_rows(table, weights, ids, offsets, sums)

    return add


def _add_by_numpy(
    table: NDArray[Any],
    weights: Floats | None,
    ids: NDArray[np.int32],
    offsets: NDArray[np.int64],
    sums: Floats,
) -> None:
    # One matrix product per text; np.add.reduceat takes ten times as long.
    for t, (begin, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        rows = ids[begin:end]
        factors = np.ones(len(rows), np.float32) if weights is None else weights[rows]
        sums[t] = factors @ table[rows].astype(np.float32, copy=False)
