"""Window functions of the short-time Fourier transform."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from omnivec.errors import UsageError
from omnivec.types import Floats

WindowName = Literal["hann", "hann symmetric", "hamming", "hamming symmetric", "povey", "rectangular"]
WINDOWS: tuple[str, ...] = get_args(WindowName)


@lru_cache(maxsize=32)
def window_function(name: WindowName, length: int) -> Floats:
    """The weights of a window.

    With p = `length` for the periodic windows and p = `length` - 1 for the symmetric ones, at sample i:

    - "hann", "hann symmetric": 0.5 - 0.5 cos(2 pi i / p)
    - "hamming", "hamming symmetric": 0.54 - 0.46 cos(2 pi i / p)
    - "povey": the symmetric Hann window to the power of 0.85, the default of Kaldi (feat/feature-window.cc)
    - "rectangular", and any window of one sample: 1

    Args:
        name: which window. "hann" and "hamming" are periodic.
        length: number of samples, at least 1.

    Returns:
        (length,) float32, read-only.

    Raises:
        UsageError: no window has this name.
    """
    if name not in WINDOWS:
        raise UsageError(f"{name!r} is not a window function: {', '.join(WINDOWS)}")
    periodic = name in ("hann", "hamming")
    cosine = np.cos(2 * np.pi * np.arange(length) / max(length if periodic else length - 1, 1))
    if name == "rectangular" or length == 1:
        weights = np.ones(length)
    elif name.startswith("hamming"):
        weights = 0.54 - 0.46 * cosine
    else:
        weights = 0.5 - 0.5 * cosine
    if name == "povey":
        weights **= 0.85
    window = weights.astype(np.float32)
    window.setflags(write=False)
    return window
