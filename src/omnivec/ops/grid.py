"""Positions of patches on a grid: learned tables resampled to other grids, and rotary angles in two dimensions.

What depends on sizes alone is computed by NumPy in float32, in the order of operations of the published models.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.ops.base import Ops, Value

Floats = NDArray[np.float32]
Grid = tuple[int, int]

# The parameter a of the bicubic kernel: torch's value without antialiasing, and the one with it, which is Pillow's.
PLAIN, ANTIALIASED = -0.75, -0.5


def resampled(ops: Ops, table: Value, old: Grid, new: Grid, antialias: bool = False) -> Value:
    """A learned table of positions (1, h * w, d), row by row, resampled bicubically to another grid of (h, w) patches.

    It equals torch's `interpolate(size=..., mode="bicubic", align_corners=False)`. Rows and columns are resampled one
    after the other, each by a matrix; as both are constant, the compiled graph holds the resulting table only.
    """
    if old == new:
        return table
    x = ops.reshape(table, (1, old[0], -1))
    x = ops.reshape(ops.mix_tokens(x, bicubic(old[0], new[0], antialias)), (new[0], old[1], -1))
    return ops.reshape(ops.mix_tokens(x, bicubic(old[1], new[1], antialias)), (1, new[0] * new[1], -1))


@functools.lru_cache(maxsize=32)
def bicubic(old: int, new: int, antialias: bool) -> Floats:
    """The matrix that resamples `old` positions to `new`: (new, old) float32, each row summing to 1.

    With antialiasing, the kernel is as much wider as the new grid is coarser. Without it, each new position is
    interpolated from its four neighbours, and the outermost positions are repeated beyond the edge.
    """
    scale = np.float32(old) / np.float32(new)
    centre = scale * (np.arange(new, dtype=np.float32) + np.float32(0.5))[:, None]
    if antialias:
        places = np.arange(old, dtype=np.float32) + np.float32(0.5)
        wide = _kernel((places - centre) / np.maximum(scale, np.float32(1)), ANTIALIASED)
        return np.asarray(wide / wide.sum(1, keepdims=True))
    return _interpolated(centre - np.float32(0.5), old)


@functools.lru_cache(maxsize=8)
def aligned(old: int, new: int) -> Floats:
    """As `bicubic` without antialiasing, but the first and the last position stay where they are (align_corners)."""
    scale = np.float32(old - 1) / np.float32(max(new - 1, 1))
    places = scale * np.arange(new, dtype=np.float32)[:, None]
    return _interpolated(
        places.astype(np.float64), old
    )  # the places as published, the weights without rounding


def _interpolated(places: NDArray[np.floating[Any]], old: int) -> Floats:
    """The matrix that interpolates `old` positions at other places (new, 1), each from its four neighbours."""
    neighbours = np.floor(places) + np.arange(-1, 3, dtype=places.dtype)
    weights = np.zeros((len(places), old), np.float32)
    inside = np.clip(neighbours, 0, old - 1).astype(np.int64)
    np.add.at(weights, (np.arange(len(places))[:, None], inside), _kernel(neighbours - places, PLAIN))
    return weights


def _kernel(distance: NDArray[np.floating[Any]], sharpness: float) -> Floats:
    """Keys 1981, "Cubic convolution interpolation for digital image processing", equation 15."""
    a, x = np.float32(sharpness), np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, np.float32(0))).astype(np.float32)


@functools.lru_cache(maxsize=8)
def rotation(grid: Grid, prefix: int, theta: float, width: int) -> tuple[Floats, Floats]:
    """Cosines and sines (prefix + h * w, width) float32 for `Ops.rotary`; the `prefix` first tokens are not rotated.

    A patch's angles are those of its centre, whose coordinates run from -1 to 1 on both axes: half of the pairs are
    rotated by the height, half by the width. Siméoni et al. 2025, arXiv:2508.10104, section 3.2.
    """
    exponent = np.arange(0, 1, 4 / width, dtype=np.float32)
    frequency = np.float32(1) / np.power(np.float32(theta), exponent)
    centres = [np.float32(2) * (np.arange(0.5, size, dtype=np.float32) / size) - 1 for size in grid]
    places = np.stack(np.meshgrid(*centres, indexing="ij"), -1).reshape(-1, 2, 1)
    angles = (np.float32(2 * math.pi) * places * frequency).reshape(len(places), -1)
    angles = np.pad(np.tile(angles, 2), ((prefix, 0), (0, 0)))
    return np.cos(angles), np.sin(angles)
