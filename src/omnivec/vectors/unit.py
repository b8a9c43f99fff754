"""Vectors scaled to length 1."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from omnivec.types import Floats

Real = TypeVar("Real", np.float32, np.float64)


def unit(vectors: NDArray[Real]) -> NDArray[Real]:
    """Vectors (n, dim) scaled to length 1, in their dtype; zeros stay zeros.

    In float32, a length below 1e-12 counts as 1e-12, as in `torch.nn.functional.normalize`.
    """
    dtype = vectors.dtype.type
    least = 1e-12 if dtype is np.float32 else np.finfo(np.float64).smallest_subnormal
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: NDArray[Real] = vectors / np.maximum(norms, dtype(least))
    return scaled


def unit_table(vectors: Floats) -> Floats:
    """`unit` for a table of millions of rows: it needs no second table for the squares.

    Sums are rounded in a different order, so that components may differ from those of `unit` in the last bit.
    """
    rows = np.asarray(vectors, np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float32))
    scaled = rows / np.where(norms > 0, norms, np.float32(1))[:, None]
    return scaled.astype(np.float32, copy=False)
