"""fastText's quantised matrices (.ftz): codes of a product quantiser, as the rows that they stand for.

Jegou et al. 2011, "Product Quantization for Nearest Neighbor Search"; Joulin et al. 2016, arXiv:1612.03651. A row is
cut into parts, and each part is one of 256 centroids; its length may be a code of its own.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import WeightsError
from omnivec.types import Floats
from omnivec.weights.bounds import Bounds
from omnivec.weights.tensor import Bytes

CENTROIDS = 256
_MATRIX = struct.Struct("<?2qi")  # whether lengths are apart; rows, dimensions, codes
_QUANTISER = struct.Struct("<4i")  # dimensions, parts, those of a part, those of the last


EXPANDED = 4 * 16
"""Bytes of memory for one of the file, at most: a code of one byte stands for a part of up to 16 numbers, or the rows
stay within `bounds.FLOOR`."""


class Reader:
    """What follows a place in a map of a file; every piece is checked before it is taken."""

    def __init__(self, bounds: Bounds, raw: Bytes, position: int) -> None:
        self.bounds, self._raw, self.position = bounds, raw, position

    def take(self, count: int) -> NDArray[np.uint8]:
        """So many bytes; WeightsError where the file has fewer."""
        end = self.bounds.span("a quantised matrix", self.position, count)
        found: NDArray[np.uint8] = np.asarray(self._raw[self.position : end])
        self.position = end
        return found

    def numbers(self, form: struct.Struct) -> tuple[int, ...]:
        """What a form describes."""
        return form.unpack(self.take(form.size).tobytes())

    def damaged(self, what: str) -> WeightsError:
        """An error that says what does not fit."""
        return self.bounds.error(f"{what}: damaged")


def read_quantised(bounds: Bounds, raw: Bytes, position: int) -> tuple[Floats, int]:
    """The rows of a matrix that begins at a place, and where it ends.

    Raises:
        WeightsError: the file is cut short, or its parts do not fit together.
    """
    reader = Reader(bounds, raw, position)
    lengths_apart, rows, dim, codes = reader.numbers(_MATRIX)
    found = _restored(reader, rows, dim, codes)
    if lengths_apart:
        found *= _restored(reader, rows, 1, rows, behind=reader.take(rows))
    return found, reader.position


def _restored(
    reader: Reader, rows: int, dim: int, count: int, behind: NDArray[np.uint8] | None = None
) -> Floats:
    """(rows, dim) float32 from `count` codes and the quantiser behind them."""
    codes = reader.take(count) if behind is None else behind
    said, parts, size, last = reader.numbers(_QUANTISER)
    if rows < 0 or said != dim or min(parts, size, last) < 1 or (parts - 1) * size + last != dim:
        raise reader.damaged(f"a quantiser of {parts} parts of {size} and {last} numbers for {dim}")
    if count != rows * parts:
        raise reader.damaged(f"{count} codes for {rows} rows of {parts} parts")
    reader.bounds.spend("rows of a quantised matrix", 4 * rows * dim, times=EXPANDED)
    centroids = reader.take(4 * dim * CENTROIDS).view("<f4")
    if not np.isfinite(centroids).all():
        raise reader.damaged("centroids that are NaN or infinite")
    places = codes.reshape(rows, parts)
    found = np.empty((rows, dim), np.float32)
    for part in range(parts):
        begin = part * size
        width = last if part == parts - 1 else size
        own = centroids[begin * CENTROIDS : (begin + width) * CENTROIDS].reshape(CENTROIDS, width)
        found[:, begin : begin + width] = own[places[:, part]]
    return found
