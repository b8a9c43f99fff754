"""fastText's quantised matrices (.ftz): restores rows from the codes of a product quantiser.

Jegou et al. 2011, "Product Quantization for Nearest Neighbor Search"; Joulin et al. 2016, arXiv:1612.03651. A row is
split into subvectors, each stored as the number of one of 256 centroids. The row's norm may be stored separately, as
another such code.

Example, 1 row of 5 dimensions, subvectors of 2 (the last has 1): codes [7, 0, 255], one byte each, restore to

    centroids_0[7] (2 numbers), centroids_1[0] (2 numbers), centroids_2[255] (1 number)
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
_MATRIX = struct.Struct("<?2qi")  # whether norms are stored separately; rows, dimensions, codes
_QUANTISER = struct.Struct("<4i")  # dimensions, subvectors, dimensions of each, dimensions of the last


EXPANDED = 4 * 16
"""Most bytes of memory per byte of the file: a one-byte code stands for up to 16 float32 numbers. Below `bounds.FLOOR`
in total, more is allowed."""


class SequentialReader:
    """Reads a memory map sequentially from an offset; each read is checked against the file's size first."""

    def __init__(self, bounds: Bounds, raw: Bytes, position: int) -> None:
        self.bounds, self._raw, self.position = bounds, raw, position

    def take(self, count: int) -> NDArray[np.uint8]:
        """The next `count` bytes; WeightsError if the file has fewer."""
        end = self.bounds.span("a quantised matrix", self.position, count)
        data: NDArray[np.uint8] = np.asarray(self._raw[self.position : end])
        self.position = end
        return data

    def numbers(self, form: struct.Struct) -> tuple[int, ...]:
        """The next numbers, unpacked by a struct."""
        return form.unpack(self.take(form.size).tobytes())

    def damaged(self, what: str) -> WeightsError:
        """An error that the file is damaged; `what` names the values that do not fit."""
        return self.bounds.error(f"{what}: damaged")


def read_quantised(bounds: Bounds, raw: Bytes, position: int) -> tuple[Floats, int]:
    """The rows (n, dim) float32 of the quantised matrix at an offset, and the offset of its end.

    Raises:
        WeightsError: the file is truncated, or its parts do not fit together.
    """
    reader = SequentialReader(bounds, raw, position)
    separate_norms, rows, dim, codes = reader.numbers(_MATRIX)
    matrix = _restored(reader, rows, dim, codes)
    if separate_norms:
        matrix *= _restored(reader, rows, 1, rows, codes=reader.take(rows))
    return matrix, reader.position


def _restored(
    reader: SequentialReader, rows: int, dim: int, count: int, codes: NDArray[np.uint8] | None = None
) -> Floats:
    """(rows, dim) float32 from the quantiser that follows `count` codes; None reads the codes first."""
    codes = reader.take(count) if codes is None else codes
    stated_dim, parts, size, last = reader.numbers(_QUANTISER)
    if rows < 0 or stated_dim != dim or min(parts, size, last) < 1 or (parts - 1) * size + last != dim:
        raise reader.damaged(f"a quantiser of {parts} parts of {size} and {last} numbers for {dim}")
    if count != rows * parts:
        raise reader.damaged(f"{count} codes for {rows} rows of {parts} parts")
    reader.bounds.spend("rows of a quantised matrix", 4 * rows * dim, times=EXPANDED)
    centroids = reader.take(4 * dim * CENTROIDS).view("<f4")
    if not np.isfinite(centroids).all():
        raise reader.damaged("centroids that are NaN or infinite")
    places = codes.reshape(rows, parts)
    matrix = np.empty((rows, dim), np.float32)
    for part in range(parts):
        begin = part * size
        width = last if part == parts - 1 else size
        part_centroids = centroids[begin * CENTROIDS : (begin + width) * CENTROIDS].reshape(CENTROIDS, width)
        matrix[:, begin : begin + width] = part_centroids[places[:, part]]
    return matrix
