"""Spearman's rank correlation, with ties."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omnivec.errors import UsageError
from omnivec.vectors.arrays import numbers

VALUES = "a list of numbers"


def ranks(values: ArrayLike) -> NDArray[np.float64]:
    """The rank of each value, from 1; equal values have the mean of their ranks."""
    array = numbers("values", values, expected=VALUES).astype(np.float64)
    _, group, sizes = np.unique(array, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    mean_place: NDArray[np.float64] = (last - (sizes - 1) / 2)[group]
    return mean_place


def spearman(one: ArrayLike, other: ArrayLike) -> float:
    """Correlation of the ranks of two lists of values, -1 to 1; NaN if all values of one are equal.

    Raises:
        UsageError: lists of different lengths, or of fewer than two values.
    """
    first, second = ranks(one), ranks(other)
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise UsageError(
            f"spearman of {first.shape} and {second.shape} values: both need the same number, at least 2"
        )
    first -= first.mean()
    second -= second.mean()
    spread = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / spread if spread else math.nan
