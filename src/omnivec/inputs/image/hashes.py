"""Images to 64 bits that say how they look, whatever their size in pixels: equal or nearly so for copies.

The hash of Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", section 3.1.2: the signs
of the lowest frequencies of a discrete cosine transform about their median. Resizing and recompressing leave these as
they are; cropping and turning do not, for which vectors are compared. `vectors.duplicates` groups both.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.inputs.image.pixels import decode_image, read_header
from omnivec.types import Floats

_SIDE, _KEPT = 32, 8
_LONGEST = 16384  # pixels of a side that is taken as it is
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's mode L
_FLAT = 1e-3
"""Coefficients below this, of pixels of 0 to 255, are rounding: an image of one colour has no others."""


def phash(pixels: NDArray[np.uint8]) -> np.uint64:
    """The hash of an image in memory.

    Args:
        pixels: uint8 (h, w) or (h, w, 3).

    Returns:
        64 bits, of which those that differ are counted; 0 for an image of one colour, and for no other.
    """
    grey = pixels.astype(np.float32)
    if grey.ndim == 3:
        grey = grey @ _LUMA
    height, width = grey.shape
    small = (means(height, _SIDE) @ grey @ means(width, _SIDE).T).astype(np.float64)
    cosines = _cosines()
    waves = (cosines @ small @ cosines.T).ravel()
    waves[np.abs(waves) < _FLAT] = 0.0
    bits = np.packbits(waves > np.median(waves))
    return np.uint64(int.from_bytes(bits.tobytes(), "big"))


def image_hash(item: Any) -> np.uint64:
    """The hash of a file, its bytes, a PIL image or an array, as it is seen upright.

    Raises:
        ItemError: it is no image, or a damaged one.
    """
    enough = (4 * _SIDE, 4 * _SIDE)  # a JPEG file is decoded no larger than that asks for
    image = decode_image(read_header(item), lambda height, width: enough).image
    # The means of a long side's parts would take memory by the square; of so many pixels a few more or less are alike.
    shares = tuple(-(-side // _LONGEST) for side in image.size)
    return phash(np.asarray(image if shares == (1, 1) else image.reduce((shares[0], shares[1]))))


@lru_cache(maxsize=64)
def means(length: int, parts: int) -> Floats:
    """(parts, length): takes the mean of each of the equal parts of a line, pixels on an edge by their share."""
    edges = np.arange(parts + 1) * (length / parts)
    places = np.arange(length)
    overlap = np.minimum(edges[1:, None], places + 1) - np.maximum(edges[:-1, None], places)
    shares: Floats = (np.maximum(overlap, 0) * (parts / length)).astype(np.float32)
    return shares


@lru_cache(maxsize=1)
def _cosines() -> NDArray[np.float64]:
    """(8, 32): the second to ninth row of the orthonormal DCT-II. The first is the brightness, which copies change."""
    waves = np.arange(1, _KEPT + 1)[:, None]
    places = 2 * np.arange(_SIDE) + 1
    table: NDArray[np.float64] = np.sqrt(2 / _SIDE) * np.cos(np.pi * waves * places / (2 * _SIDE))
    return table
