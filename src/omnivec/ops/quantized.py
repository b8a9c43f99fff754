"""Matrices in int8: a quarter of float32's bytes, one scale for each row; arithmetic stays in floating point.

Quantization is symmetric and rounds to nearest: row i is `data[i] * scale[i]`, where `scale[i]` is its largest
magnitude / 127. Rows are the output channels of a linear map and the entries of a table.
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
"""Fewest values of a matrix that is quantized: smaller ones, such as tables of biases, save next to nothing."""

FLOATING = frozenset({"F64", "F32", "F16", "BF16"})
BLOCK = 1 << 20
"""Values that are rounded at a time, so that no float copy of a whole table is made."""

SMALLEST = np.float32(127 * np.finfo(np.float32).tiny)
"""Smallest magnitude that a row's scale is computed from, so that no scale is 0 or denormal."""


@dataclass(frozen=True, eq=False)
class Quantized:
    """A matrix in int8; a `Stored` whose float32 values are the rounded ones.

    Attributes:
        data: (rows, columns) int8, -127 to 127.
        scale: (rows,) float32, by which a row's integers are multiplied.
    """

    data: NDArray[np.int8]
    scale: NDArray[np.float32]
    dtype: str = "I8"

    def float32(self) -> NDArray[np.float32]:
        """The rounded values."""
        values: NDArray[np.float32] = self.data * self.scale[:, None]
        return values


class QuantizedWeights(Mapping[str, Stored]):
    """Weights whose matrices are rounded to int8 at their first access; all others are as stored."""

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
    """Whether this weight is quantized: norms, biases and small tensors are not."""
    shape = tensor.data.shape
    return len(shape) == 2 and prod(shape) >= LEAST and tensor.dtype in FLOATING


def quantize(tensor: Stored) -> Quantized:
    """A matrix (rows, columns) in int8; the error of a value is at most half of its row's scale.

    Raises:
        WeightsError: a value is not finite.
    """
    rows, columns = tensor.data.shape
    data = np.empty((rows, columns), np.int8)
    scale = np.empty(rows, np.float32)
    step = max(1, BLOCK // columns)
    for start in range(0, rows, step):
        block = slice(start, start + step)
        values = _float32(tensor.dtype, tensor.data[block])
        block_scale = np.maximum(np.abs(values).max(axis=1), SMALLEST) / np.float32(127)
        if not np.isfinite(block_scale).all():
            raise WeightsError(
                f"a matrix of {rows} x {columns} has values that are not finite: int8 cannot hold them; "
                "use precision='float32'"
            )
        scale[block] = block_scale
        data[block] = np.rint(values / block_scale[:, None])
    return Quantized(data, scale)


def _float32(dtype: str, data: NDArray[Any]) -> NDArray[np.float32]:
    """Rows of a stored matrix as float32; BF16 is stored as uint16."""
    return (data.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else data.astype(np.float32)


def bytes_of(tensors: Mapping[str, Stored], precision: str) -> int:
    """Bytes of weights at a precision: matrices in float32, bfloat16 or int8 with scales, all others in float32."""
    width = {"float32": 4, "bfloat16": 2, "int8": 1}[precision]
    total = 0
    for tensor in tensors.values():
        size = prod(tensor.data.shape)
        scales = 4 * tensor.data.shape[0] if precision == "int8" and is_matrix(tensor) else 0
        total += size * (width if is_matrix(tensor) else 4) + scales
    return total
