"""Mel filter banks: triangular filters whose centres are equally spaced on a mel scale."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.types import Floats

Scale = Literal["htk", "slaney"]
Triangles = Literal["hertz", "mel", "bins", "left width"]
Norm = Literal["none", "area"]

# Slaney, Auditory Toolbox (1998): linear up to 1 kHz, logarithmic above it, 27 mel for a factor of 6.4.
_LINEAR = 200 / 3  # Hz in one mel
_KNEE = 1000.0
_STEP = np.log(6.4) / 27


def to_mel(hertz: NDArray[Any] | float, scale: Scale = "htk") -> NDArray[np.float64]:
    """Converts frequencies to mel.

    - "htk": 2595 log10(1 + f / 700) (O'Shaughnessy 1987). Kaldi's and HTK's 1127 ln(1 + f / 700) differs from it by a
      factor, which does not change a filter bank.
    - "slaney": 3 f / 200 up to 1 kHz, then 15 + 27 ln(f / 1000) / ln 6.4 (Slaney 1998).

    Args:
        hertz: frequencies in Hz.
        scale: which scale.
    """
    f = np.asarray(hertz, np.float64)
    if scale == "htk":
        return np.asarray(2595 * np.log10(1 + f / 700))
    above = _KNEE / _LINEAR + np.log(np.maximum(f, _KNEE) / _KNEE) / _STEP
    return np.where(f < _KNEE, f / _LINEAR, above)


def to_hertz(mel: NDArray[Any] | float, scale: Scale = "htk") -> NDArray[np.float64]:
    """Converts mel to frequencies in Hz: the inverse of `to_mel`."""
    m = np.asarray(mel, np.float64)
    if scale == "htk":
        return np.asarray(700 * (10 ** (m / 2595) - 1))
    knee = _KNEE / _LINEAR
    return np.where(m < knee, m * _LINEAR, _KNEE * np.exp(_STEP * (np.maximum(m, knee) - knee)))


@dataclass(frozen=True, kw_only=True)
class MelFilters:
    """A bank of triangular filters.

    The `bands` + 2 edges are equally spaced in mel from `low` to `high`. Filter i rises from edge i to edge i + 1 and
    falls to edge i + 2; its peak is 1 before `norm` is applied.

    Attributes:
        rate: sampling rate in Hz.
        bands: number of filters.
        low: lower edge of the first filter in Hz.
        high: upper edge of the last filter in Hz; 0 for half the sampling rate.
        scale: mel scale of the edges, "htk" or "slaney" (`to_mel`).
        triangles: what the slopes are linear in. "hertz": frequency, as in librosa. "mel": as in Kaldi and HTK.
            "bins": edges are rounded down to FFT bins, as in python_speech_features. "left width": frequency, but both
            slopes have the width of the left one, as in SpeechBrain.
        norm: "none", or "area" for filters of equal area in Hz (2 / their width), which librosa calls "slaney".
    """

    rate: int
    bands: int
    low: float = 0.0
    high: float = 0.0
    scale: Scale = "htk"
    triangles: Triangles = "hertz"
    norm: Norm = "none"

    def __post_init__(self) -> None:
        if self.bands < 1 or not 0 <= self.low < self.top <= self.rate / 2:
            raise UsageError(
                f"{self.bands} filters from {self.low:g} to {self.top:g} Hz at a sampling rate of {self.rate:,} Hz: "
                f"give at least one, between 0 and {self.rate / 2:g} Hz"
            )

    @property
    def top(self) -> float:
        """Upper edge of the last filter in Hz."""
        return self.high or self.rate / 2

    def matrix(self, fft: int) -> Floats:
        """The weights of FFT bins in each filter.

        Args:
            fft: number of points of the Fourier transform.

        Returns:
            (fft // 2 + 1, bands) float32, read-only.
        """
        return _matrix(self, fft)


@lru_cache(maxsize=64)
def _matrix(filters: MelFilters, fft: int) -> Floats:
    scale = filters.scale
    mels = np.linspace(to_mel(filters.low, scale), to_mel(filters.top, scale), filters.bands + 2)
    edges = to_hertz(mels, scale)
    bins = np.arange(fft // 2 + 1) * (filters.rate / fft)
    if filters.triangles == "mel":
        points, bins = mels, to_mel(bins, scale)
    elif filters.triangles == "bins":
        # Edges may fall on one bin, so that a slope is empty.
        points, bins = np.floor((fft + 1) * edges / filters.rate), np.arange(fft // 2 + 1.0)
    else:
        points = edges
    left, centre, right = points[:-2], points[1:-1], points[2:]
    if filters.triangles == "left width":
        right = 2 * centre - left
    x = bins[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        rising, falling = (x - left) / (centre - left), (right - x) / (right - centre)
    weights = np.where(x < centre, rising, falling)
    weights = np.where((x == centre) & (right > centre), 1.0, weights)
    inside = (x >= left) & (x < right)
    weights = np.where(inside, weights, 0.0)
    if filters.norm == "area":
        weights *= 2 / (edges[2:] - edges[:-2])
    matrix = np.ascontiguousarray(weights, np.float32)
    matrix.setflags(write=False)
    return matrix
