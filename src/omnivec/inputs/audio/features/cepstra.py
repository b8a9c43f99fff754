"""Mel-frequency cepstral coefficients (MFCC): the discrete cosine transform of log-mel spectrograms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from omnivec.errors import UsageError
from omnivec.inputs.audio.features.mel_spectrogram import Energy, MelSpectrogram
from omnivec.inputs.audio.features.products import multiply
from omnivec.types import Floats

Zeroth = Literal["cepstrum", "energy", "spectrum energy", "none"]

_ENERGIES: dict[Zeroth, Energy] = {"energy": "frame", "spectrum energy": "spectrum"}


@dataclass(frozen=True, kw_only=True)
class Cepstra:
    """Cepstral coefficients of a log-mel spectrogram; a front end (`Features`).

    Coefficient i of a frame with N logarithms m_j is, with the orthonormal cosine transform of type II,

        c_i = sqrt(2 / N) sum over j of m_j cos(pi i (j + 1/2) / N),   c_0 = sqrt(1 / N) sum over j of m_j

    and is then multiplied by 1 + L/2 sin(pi (i + `lifter_offset`) / L) for a lifter of length L.

    Attributes:
        mel: the log-mel spectrogram.
        coefficients: number of coefficients, the one of index 0 included.
        lifter: L; 0 for none.
        lifter_offset: 1 for librosa, whose lifter begins with i = 1 at c_0; 0 for all others.
        zeroth: what stands at index 0. "cepstrum": c_0. "energy": the sum of the squared samples of the frame, before
            pre-emphasis and window (Kaldi's raw energy). "spectrum energy": the sum of the power spectrum
            (python_speech_features). "none": nothing, so that rows begin with c_1. Of both energies the logarithm is
            taken, as `mel.log` says, without its range.
        zeroth_factor: factor of c_0; sqrt(2) for HTK, whose cosine transform is not orthonormal there.
        zeroth_last: whether index 0 is moved to the end of a row, as in HTK.
    """

    mel: MelSpectrogram
    coefficients: int
    lifter: float = 0.0
    lifter_offset: int = 0
    zeroth: Zeroth = "cepstrum"
    zeroth_factor: float = 1.0
    zeroth_last: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.coefficients <= self.mel.filters.bands:
            raise UsageError(
                f"{self.coefficients} coefficients of {self.mel.filters.bands} bands: give 1 to the number of bands"
            )

    @property
    def rows(self) -> tuple[int, ...]:
        """(coefficients,), without index 0 if `zeroth` is "none"."""
        return (self.coefficients - (self.zeroth == "none"),)

    def count(self, samples: int) -> int:
        """Number of frames of so many samples."""
        return self.mel.count(samples)

    def __call__(self, samples: Floats) -> Floats:
        """Returns (t, coefficients) float32 for samples (n,) float32 in [-1, 1]."""
        bands, energies = self.mel.compute(samples, energy=_ENERGIES.get(self.zeroth, "none"))
        matrix = _transform(self.mel.filters.bands, self.coefficients, self.lifter, self.lifter_offset)
        cepstra = np.empty((len(bands), self.coefficients), np.float32)
        multiply(self.mel.finished(bands), matrix, cepstra)
        if self.zeroth == "none":
            return np.ascontiguousarray(cepstra[:, 1:])
        if self.zeroth != "cepstrum":
            self.mel.log.apply(energies)
            cepstra[:, 0] = energies
        elif self.zeroth_factor != 1:
            cepstra[:, 0] *= np.float32(self.zeroth_factor)
        return np.roll(cepstra, -1, axis=1) if self.zeroth_last else cepstra


@lru_cache(maxsize=32)
def _transform(bands: int, coefficients: int, lifter: float, offset: int) -> Floats:
    """The cosine transform and the lifter, as one matrix (bands, coefficients)."""
    i, j = np.arange(coefficients), np.arange(bands)
    matrix = np.sqrt(2 / bands) * np.cos(np.pi / bands * np.outer(j + 0.5, i))
    matrix[:, 0] = np.sqrt(1 / bands)
    if lifter:
        matrix *= 1 + lifter / 2 * np.sin(np.pi * (i + offset) / lifter)
    result: Floats = matrix.astype(np.float32)
    return result
