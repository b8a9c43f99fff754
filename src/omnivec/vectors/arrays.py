"""Checks arguments that are arrays of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError

VECTORS = "vectors (n, dim), such as model.encode(texts)"


def numbers(name: str, value: Any, ndim: int | None = None, expected: str = VECTORS) -> NDArray[Any]:
    """An argument as an array of numbers; an array is returned as it is, without a copy.

    Args:
        name: of the argument.
        value: an array, or nested sequences of numbers.
        ndim: the number of axes that the array must have; None if any is allowed.
        expected: what to give instead, in words.

    Raises:
        UsageError: no array of numbers, masked numbers, or another number of axes.
    """
    if np.ma.is_masked(value):
        raise UsageError(f"{name} is an array with masked numbers: fill them, or leave out their vectors")
    try:
        array: NDArray[Any] | None = np.asarray(value)
    # Lists of different lengths; tensors on a GPU or with a gradient.
    except (TypeError, ValueError, RuntimeError):
        array = None
    if array is None or array.dtype.kind not in "biuf":
        raise UsageError(
            f"{name} is a {type(value).__name__} that is not an array of numbers: give {expected}"
        )
    if ndim is not None and array.ndim != ndim:
        raise UsageError(f"{name} of shape {array.shape}: give {expected}")
    return array


def digits(vector: NDArray[np.float32]) -> list[float]:
    """The numbers (dim,) of a vector for JSON, with the nine digits that tell one float32 from all others."""
    return [float(f"{number:.9g}") for number in vector.tolist()]
