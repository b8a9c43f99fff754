"""Rows in a quarter of their size: int8 codes, and what each row's codes are multiplied by.

Scales have 17 significant bits, so that a code times its scale is exact, and rows that were rounded once are found
again bit by bit: a table that is saved, read and saved stays the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from omnivec.types import Floats

TOP = 127
_BITS = np.uint32((1 << 7) - 1)  # of float32's 24 significant bits, those left free for a code


def quantized(rows: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Codes (n, d) and scales (n,): a component differs from code times scale by half a scale at most.

    Args:
        rows: (n, d); the largest component of a row becomes 127.
    """
    largest = np.abs(rows).max(axis=1, initial=0.0).astype(np.float32)
    bits = (largest / np.float32(TOP)).view(np.uint32)
    # The least numbers there are, by 127, would be no scale at all.
    bits = np.maximum(bits, (largest > 0).astype(np.uint32))
    scales: Floats = ((bits + _BITS) & ~_BITS).view(np.float32)  # rounded up, so that no code is above 127
    codes = np.rint(
        np.divide(rows, scales[:, None], out=np.zeros(rows.shape, np.float32), where=scales[:, None] > 0)
    )
    return codes.astype(np.int8), scales


def restored(codes: NDArray[np.int8], scales: Floats) -> Floats:
    """Rows (n, d) float32."""
    rows: Floats = codes * scales[:, None]
    return rows
