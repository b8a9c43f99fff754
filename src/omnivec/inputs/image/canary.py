"""Synthetic pictures that show whether a model still makes the same vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CELL = 24


def drawn(name: str, height: int, width: int) -> NDArray[np.uint8]:
    """Makes a picture (h, w, 3) by integer arithmetic, so that it is the same on every machine.

    Args:
        name: "colours", "noise", "stripes" or "checks".
        height: height in pixels.
        width: width in pixels.
    """
    y, x, channel = np.ogrid[:height, :width, :3]
    values: NDArray[np.int64]
    if name == "colours":  # random colours on a coarse grid, interpolated
        (top, down), (left, right) = divmod(y, _CELL), divmod(x, _CELL)
        upper, lower = (
            _scattered(row, left, channel) * (_CELL - right) + _scattered(row, left + 1, channel) * right
            for row in (top, top + 1)
        )
        values = (upper * (_CELL - down) + lower * down) // _CELL**2
    elif name == "noise":
        values = _scattered(y, x, channel)
    elif name == "stripes":  # lines of a page, each broken into words
        values = 255 - 235 * ((y // 7 % 2 == 1) & ((x * 5 + y // 14 * 37) % 61 < 47)) + 0 * channel
    else:
        values = 200 * ((y // 15 + x // 25) % 2) + 25 * channel
    pixels: NDArray[np.uint8] = values.astype(np.uint8)
    return pixels


def _scattered(y: NDArray[np.int64], x: NDArray[np.int64], channel: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns pseudo-random numbers from 0 to 255: the middle bits of a product."""
    mixed: NDArray[np.int64] = (y * 73_856_093 ^ x * 19_349_663 ^ channel * 83_492_791) & 0xFFFF_FFFF
    return (mixed * 2_654_435_761 >> 16) & 255
