"""Matrices in int8: a quarter of float32's bytes, each row with a scale of its own; the arithmetic stays floating.

Symmetric and to nearest: row i is `data[i] * scale[i]`, `scale[i]` being its largest magnitude / 127. Rows are the
output channels of a linear map and the entries of a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import WeightsError
from omnivec.ops.base import Stored

LEAST = 4096
"""Values that a matrix must have: below, it weighs nothing, and such are strips of biases and the like."""

FLOATING = frozenset({"F64", "F32", "F16", "BF16"})
BLOCK = 1 << 20
"""Values that are rounded at a time, so that no float copy of a large table is made."""

SMALLEST = np.float32(127 * np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class Quantized:
    """A matrix in int8; a `Stored` whose float32 values are the rounded ones.

    Attributes:
        data: (rows, columns) int8, -127 to 127.
        scale: (rows,) float32, what a row's integers count in.
    """

    data: NDArray[np.int8]
    scale: NDArray[np.float32]
    dtype: str = "I8"

    def float32(self) -> NDArray[np.float32]:
        """The rounded values."""
        values: NDArray[np.float32] = self.data * self.scale[:, None]
        return values


class QuantizedWeights(Mapping[str, Stored]):
    """Weights whose matrices are rounded to int8 when they are first asked for; all else as it is stored."""

    def __init__(self, tensors: Mapping[str, Stored]) -> None:
        self._tensors = tensors
        self._rounded: dict[str, Quantized] = {}

    def __getitem__(self, name: str) -> Stored:
        tensor = self._tensors[name]
        if not is_matrix(tensor):
            return tensor
        if name not in self._rounded:
            self._rounded[name] = quantize(tensor)
        return self._rounded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def is_matrix(tensor: Stored) -> bool:
    """Whether int8 is for this weight: norms, biases and small tensors stay as they are."""
    shape = tensor.data.shape
    return len(shape) == 2 and prod(shape) >= LEAST and tensor.dtype in FLOATING


def quantize(tensor: Stored) -> Quantized:
    """A matrix (rows, columns) in int8; the error of a value is at most half its row's scale.

    Raises:
        WeightsError: a value is not finite.
    """
    rows, columns = tensor.data.shape
    data = np.empty((rows, columns), np.int8)
    scale = np.empty(rows, np.float32)
    step = max(1, BLOCK // columns)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        values = _float32(tensor.dtype, tensor.data[part])
        # Never 0, also where the smallest numbers are divided by 127.
        own = np.maximum(np.abs(values).max(axis=1), SMALLEST) / np.float32(127)
        if not np.isfinite(own).all():
            raise WeightsError(
                f"a matrix of {rows} x {columns} has values that are not finite: int8 cannot hold them; "
                "use precision='float32'"
            )
        scale[part] = own
        data[part] = np.rint(values / own[:, None])
    return Quantized(data, scale)


def _float32(dtype: str, data: NDArray[Any]) -> NDArray[np.float32]:
    """Part of a stored matrix as float32; BF16 is seen as uint16."""
    return (data.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else data.astype(np.float32)


def bytes_of(tensors: Mapping[str, Stored], precision: str) -> int:
    """Bytes of weights at a precision: matrices in float32, bfloat16 or int8 with scales, all else in float32."""
    width = {"float32": 4, "bfloat16": 2, "int8": 1}[precision]
    total = 0
    for tensor in tensors.values():
        size = prod(tensor.data.shape)
        scales = 4 * tensor.data.shape[0] if precision == "int8" and is_matrix(tensor) else 0
        total += size * (width if is_matrix(tensor) else 4) + scales
    return total
