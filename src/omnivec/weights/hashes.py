"""Hashes of weights that do not depend on the file, the format, the order of tensors or the precision.

A checkpoint stored in float32 is hashed three times: as it is, and rounded to each half precision as saving it in that
precision would round it. So a half-precision copy, which has a single hash, matches its original.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

from omnivec.types import Floats
from omnivec.weights.tensor import FLOATING, Array, Tensor

Grid = Literal["float32", "float16", "bfloat16"]

# Values in each hash; they fit into the cache of a processor core. Digests depend on this number: never change it.
CHUNK = 1 << 18
MOST_EXACT_FIRST: tuple[Grid, ...] = ("float32", "float16", "bfloat16")


def content_hashes(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The identity of weights: sha256 over names, shapes and values, at each precision in which they can be compared.

    Floating values are hashed as "float32", and rounded (to nearest, ties to even) as "float16" and "bfloat16". If any
    tensor is stored in half precision, there is only the hash at that precision (bfloat16 if both occur). All other
    values are hashed as int64.

    Returns:
        Precision -> 64 hexadecimal digits.
    """
    grids = _grids({tensor.dtype for tensor in tensors.values()})
    names = sorted(tensors)
    jobs = [(tensors[name], start) for name in names for start in range(0, tensors[name].data.size, CHUNK)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = iter(list(pool.map(lambda job: _digest_chunk(job[0], job[1], grids), jobs)))
    totals = [hashlib.sha256() for _ in grids]
    for name in names:
        tensor = tensors[name]
        head = json.dumps([name, *tensor.shape]).encode()
        chunks = [next(digests) for _ in range(0, tensor.data.size, CHUNK)]
        for i, total in enumerate(totals):
            total.update(hashlib.sha256(head + b"".join(chunk[i] for chunk in chunks)).digest())
    return {grid: total.hexdigest() for grid, total in zip(grids, totals, strict=True)}


def same_weights(a: Mapping[str, str], b: Mapping[str, str]) -> bool:
    """Whether two `content_hashes` are of the same weights, compared at the most exact precision that both have."""
    for grid in MOST_EXACT_FIRST:
        if grid in a and grid in b:
            return a[grid] == b[grid]
    return False


def _grids(dtypes: set[str]) -> tuple[Grid, ...]:
    """The precisions at which a checkpoint with these element types is hashed."""
    if "BF16" in dtypes:
        return ("bfloat16",)
    if "F16" in dtypes:
        return ("float16",)
    return MOST_EXACT_FIRST


def _digest_chunk(tensor: Tensor, start: int, grids: tuple[Grid, ...]) -> list[bytes]:
    """The digest of one chunk of a tensor at each precision."""
    values = tensor.data.reshape(-1)[start : start + CHUNK]
    if tensor.dtype not in FLOATING:
        return [hashlib.sha256(values.astype("<i8").data).digest()] * len(grids)
    floats = Tensor("", tensor.dtype, values.shape, values).float32()
    return [hashlib.sha256(_round(floats, grid).data).digest() for grid in grids]


def _round(floats: Floats, grid: Grid) -> Array:
    """The bits of values rounded to a precision; all NaNs get the same bits, as saving a file again may change them."""
    if grid == "bfloat16":
        bits = _bfloat16(floats)
    elif grid == "float16":
        with np.errstate(over="ignore", under="ignore"):
            bits = floats.astype("<f2").view("<u2")
    else:
        bits = floats.view("<u4")
    nan = np.isnan(floats)
    if nan.any():
        bits = np.where(nan, np.iinfo(bits.dtype).max, bits)
    return bits


def _bfloat16(floats: Floats) -> Array:
    """float32 values rounded to bfloat16, to nearest, ties to even: (n,) uint16; undefined for NaN.

    bfloat16 is the upper half of float32. Adding 0x7FFF, plus 1 if the upper half is odd, carries into it if it has to
    be rounded up: 0x3F80_8000, a tie, has the even upper half 0x3F80 and becomes 0x3F80_FFFF, so 0x3F80; the tie
    0x3F81_8000 becomes 0x3F82_0000, so 0x3F82.
    """
    bits = floats.view(np.uint32)
    rounded = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    return rounded.astype("<u2")
