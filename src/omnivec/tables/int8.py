"""Quantises float32 rows to int8 codes, with one float32 scale per row.

Scales are rounded to 17 significant bits, so that code * scale is exact in float32 and quantising a restored row gives
the same codes and scale: a table does not change when it is saved, read and saved again.

    quantized([[0.5, -1.0, 0.25]])    scale 0.00787413 (1 / 127, rounded up to 17 bits), codes [63, -127, 32]
    restored(codes, scale)            [0.4960703, -1.0000147, 0.2519722]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from omnivec.types import Floats

TOP = 127
_BITS = np.uint32((1 << 7) - 1)  # the 7 of float32's 24 significant bits that a scale leaves to its codes


def quantized(rows: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Codes (n, d) int8 and scales (n,) float32, where code * scale is within half a scale of each component.

    Args:
        rows: (n, d) float32; the component of largest magnitude in each row becomes 127 or -127.
    """
    largest = np.abs(rows).max(axis=1, initial=0.0).astype(np.float32)
    bits = (largest / np.float32(TOP)).view(np.uint32)
    # Subnormal numbers divided by 127 would round to a scale of zero.
    bits = np.maximum(bits, (largest > 0).astype(np.uint32))
    scales: Floats = ((bits + _BITS) & ~_BITS).view(np.float32)  # rounded up, so that no code is above 127
    codes = np.rint(
        np.divide(rows, scales[:, None], out=np.zeros(rows.shape, np.float32), where=scales[:, None] > 0)
    )
    return codes.astype(np.int8), scales


def restored(codes: NDArray[np.int8], scales: Floats) -> Floats:
    """Rows (n, d) float32 from codes (n, d) and scales (n,)."""
    rows: Floats = codes * scales[:, None]
    return rows
