"""Finds weights that are NaN, which OpenVINO may turn into finite numbers: its ReLU and its LSTM do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import WeightsError
from omnivec.ops.base import Stored
from omnivec.ops.quantized import Quantized

_BLOCK = 2**18
"""Number of values that are looked at, and copied, at a time."""

_NAN_ABOVE = {"BF16": 0x7F80, "F16": 0x7C00}
"""The bits of infinity without its sign: larger ones are NaN."""


def refuse_nan(name: str, tensor: Stored) -> None:
    """WeightsError, with the name and the number of values, if a weight has values that are NaN."""
    if isinstance(tensor, Quantized):  # `quantize` refuses them
        return
    count = sum(_count(tensor.dtype, block) for block in _blocks(tensor.data))
    if count:
        raise WeightsError(
            f"weight {name!r}: {count:,} of {tensor.data.size:,} values are NaN: the file is damaged, or its training "
            "diverged"
        )


def _blocks(data: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    flat = data.reshape(-1)
    return [flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK)]


def _count(dtype: str, values: NDArray[np.generic]) -> int:
    if dtype in _NAN_ABOVE:
        return int(np.count_nonzero((values.view(np.uint16) & 0x7FFF) > _NAN_ABOVE[dtype]))
    return int(np.count_nonzero(values != values)) if values.dtype.kind == "f" else 0
