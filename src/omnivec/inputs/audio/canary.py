"""Synthetic sounds that show whether a model still makes the same vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from omnivec.types import Audio

RATE = 24_000
"""Sampling rate in Hz; few models use it, so that resampling is part of what is compared."""

SECONDS = 1.5

_PERIOD = 200
"""Samples of a period of the vowel, 120 Hz."""


def sounded(name: str) -> Audio:
    """Makes a sound of 1.5 s by integer arithmetic, so that it is the same on every machine.

    Args:
        name: "vowel", "noise" or "clicks".
    """
    i = np.arange(round(SECONDS * RATE), dtype=np.int64)
    if name == "vowel":  # triangles of several frequencies, as in a voice, that swell and fade
        waves = sum(_triangle(i * k, _PERIOD) // k for k in (1, 2, 3, 5, 8))
        values = waves * _triangle(i, 2 * len(i)) // 80_000
    elif name == "noise":
        mixed = (i * 2_654_435_761 ^ (i >> 3) * 40_503) & 0xFFFF_FFFF
        values = (mixed * 1_000_003 >> 16 & 16_383) - 8_192
    else:  # a decaying click, ever faster
        since = i % (6_000 - i // 8)
        values = _triangle(i, 16) * 40 // (since + 40)
    return Audio(values.astype(np.int16), RATE)


def _triangle(i: NDArray[np.int64], period: int) -> NDArray[np.int64]:
    """A triangle wave of so many samples, from -16,000 to 16,000."""
    phase = i % period
    wave: NDArray[np.int64] = 16_000 - abs(phase * 64_000 // period - 32_000)
    return wave
