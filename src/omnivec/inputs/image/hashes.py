"""Perceptual hashes of images: 64 bits that are equal, or nearly so, for copies of any size.

The hash of Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", section 3.1.2: whether
each of the lowest frequencies of a discrete cosine transform is above their median. Resizing and recompressing hardly
change these; cropping and rotating do, so vectors are compared too. `vectors.duplicates` groups by both.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.inputs.image.pixels import decode_image, read_header
from omnivec.types import Floats

_SIDE, _KEPT = 32, 8
_LONGEST = 16384  # longest side that is not reduced first, in pixels
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's mode L
_FLAT = 1e-3
"""Smaller coefficients are rounding errors, such as all those of an image of one colour."""


def phash(pixels: NDArray[np.uint8]) -> np.uint64:
    """Computes the hash of an image in memory.

    Args:
        pixels: uint8 (h, w) or (h, w, 3).

    Returns:
        64 bits, to be compared by the number of different ones; 0 only for an image of one colour.
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
    """Computes the hash of a file, its bytes, a PIL image or an array, after the EXIF orientation is applied.

    Raises:
        ItemError: it is not an image, or damaged.
    """
    enough = (4 * _SIDE, 4 * _SIDE)  # a JPEG file is decoded at the smallest size that is not below this
    image = decode_image(read_header(item), lambda height, width: enough).image
    # The matrix of `means` for a very long side would be large, so it is reduced first, which hardly changes the means.
    shares = tuple(-(-side // _LONGEST) for side in image.size)
    return phash(np.asarray(image if shares == (1, 1) else image.reduce((shares[0], shares[1]))))


@lru_cache(maxsize=64)
def means(length: int, parts: int) -> Floats:
    """Returns the matrix (parts, length) that averages equal parts of a line; pixels on an edge count partly."""
    edges = np.arange(parts + 1) * (length / parts)
    places = np.arange(length)
    overlap = np.minimum(edges[1:, None], places + 1) - np.maximum(edges[:-1, None], places)
    shares: Floats = (np.maximum(overlap, 0) * (parts / length)).astype(np.float32)
    return shares


@lru_cache(maxsize=1)
def _cosines() -> NDArray[np.float64]:
    """Returns rows 1 to 8 of the orthonormal DCT-II (8, 32); row 0 is the brightness, which may differ in copies."""
    waves = np.arange(1, _KEPT + 1)[:, None]
    places = 2 * np.arange(_SIDE) + 1
    table: NDArray[np.float64] = np.sqrt(2 / _SIDE) * np.cos(np.pi * waves * places / (2 * _SIDE))
    return table
