"""Similarity of vectors by a metric, of all pairs or row by row. Higher is more similar; distances are negative."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.types import Floats, Metric
from omnivec.validation.arguments import choice
from omnivec.vectors.arrays import numbers
from omnivec.vectors.unit import unit

Doubles = NDArray[np.float64]

_CLOSE = 1e-6
"""Share of the squared norms below which |x|² + |y|² - 2 x·y has too few correct digits to be a squared distance."""

_NUMBERS = 1 << 22
"""Most numbers in memory at a time for distances computed from differences."""


def similarity(a: Any, b: Any, metric: Metric = "cosine") -> Floats:
    """Similarity of each vector of `a` to each of `b`.

    Args:
        a: (n, dim), or (dim,) for one vector.
        b: (m, dim), or (dim,).
        metric: "cosine", which is 0 if one vector is 0; "dot"; "euclidean", the negative distance.

    Returns:
        (n, m) float32.

    Raises:
        UsageError: an unknown metric, arguments that are not vectors, different lengths, or numbers that are not finite
            or whose similarity is not.
    """
    chosen = choice("metric", metric, get_args(Metric))
    x, y = _pair(a, b)
    if chosen == "cosine":
        return _unit(x) @ _unit(y).T
    with np.errstate(over="ignore", invalid="ignore"):  # `_rounded` raises
        nearness = x @ y.T if chosen == "dot" else 0 - np.sqrt(_squared_distances(x, y))  # not -0.0
    return _rounded(nearness)


def pairwise_similarity(a: Any, b: Any, metric: Metric = "cosine") -> Floats:
    """Similarity of each vector of `a` (n, dim) to the vector of `b` (n, dim) in the same row: (n,) float32.

    Raises:
        UsageError: as `similarity`; or different numbers of vectors.
    """
    chosen = choice("metric", metric, get_args(Metric))
    x, y = _pair(a, b)
    if len(x) != len(y):
        raise UsageError(f"a has {len(x)} vectors and b {len(y)}: pairs need the same number of both")
    if chosen == "cosine":
        x, y = (rows.astype(np.float64) for rows in (_unit(x), _unit(y)))
    with np.errstate(over="ignore", invalid="ignore"):  # `_rounded` raises
        nearness = 0 - np.sqrt(((x - y) ** 2).sum(1)) if chosen == "euclidean" else (x * y).sum(1)
    return _rounded(nearness)


def _pair(a: Any, b: Any) -> tuple[Doubles, Doubles]:
    x, y = _vectors(a, "a"), _vectors(b, "b")
    # An empty list does not tell the length of its vectors.
    x = x if x.shape[1] or len(x) else np.zeros((0, y.shape[1]))
    y = y if y.shape[1] or len(y) else np.zeros((0, x.shape[1]))
    if x.shape[1] != y.shape[1]:
        raise UsageError(
            f"vectors of a have {x.shape[1]} components and those of b {y.shape[1]}: they are of different spaces"
        )
    return x, y


def _vectors(value: Any, name: str) -> Doubles:
    """An argument as vectors (n, dim) in float64."""
    rows = numbers(name, value).astype(np.float64)
    if rows.ndim == 1:
        rows = rows.reshape(1, -1) if rows.size else np.zeros((0, 0))
    if rows.ndim != 2:
        raise UsageError(f"{name} of shape {rows.shape}: vectors are (n, dim), or (dim,) for one")
    if not np.isfinite(rows).all():
        wrong = int((~np.isfinite(rows)).sum())
        raise UsageError(f"{name}: {wrong} of {rows.size} numbers are NaN or infinite")
    return rows


def _unit(rows: Doubles) -> Floats:
    """Rows scaled to length 1; zeros stay zeros. First divided by the largest component, so that no norm overflows."""
    largest = np.abs(rows).max(axis=1, initial=0, keepdims=True)
    scaled = rows / np.where(largest > 0, largest, 1)
    return unit(scaled).astype(np.float32)


def _squared_distances(x: Doubles, y: Doubles) -> Doubles:
    """Squared distances (n, m): by products if that is accurate, else by differences."""
    sizes = (x**2).sum(1)[:, None] + (y**2).sum(1)
    squares = sizes - 2 * (x @ y.T)
    rows, columns = np.nonzero(squares <= _CLOSE * sizes)
    step = max(_NUMBERS // max(x.shape[1], 1), 1)
    for start in range(0, len(rows), step):
        here = slice(start, start + step)
        squares[rows[here], columns[here]] = ((x[rows[here]] - y[columns[here]]) ** 2).sum(1)
    distances: Doubles = squares
    return distances


def _rounded(values: Doubles) -> Floats:
    with np.errstate(over="ignore"):
        rounded: Floats = values.astype(np.float32)
    if not np.isfinite(rounded).all():
        raise UsageError(
            "a similarity is beyond the range of float32, 3.4e38: scale the vectors, or use metric='cosine'"
        )
    return rounded
