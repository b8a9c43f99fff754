"""The samples themselves, for models that begin with a convolution over them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omnivec.types import Floats


@dataclass(frozen=True, kw_only=True)
class Waveform:
    """The samples of a sound; a front end (`Features`) whose rows are single samples.

    Attributes:
        normalised: whether the sound gets mean 0 and variance 1: (x - mean) / sqrt(variance + 1e-7), with the
            population variance, as transformers' `Wav2Vec2FeatureExtractor` does with `do_normalize`.
        scale: factor of the samples, applied before.
    """

    normalised: bool = False
    scale: float = 1.0

    @property
    def rows(self) -> tuple[int, ...]:
        """Shape of one row: ()."""
        return ()

    def count(self, samples: int) -> int:
        """Number of rows: one for each sample."""
        return max(0, samples)

    def __call__(self, samples: Floats) -> Floats:
        """Returns (n,) float32 for samples (n,) float32 in [-1, 1]; a copy only if they change."""
        samples = np.asarray(samples, np.float32)
        if self.scale != 1:
            samples = samples * np.float32(self.scale)
        if not self.normalised or not len(samples):
            return samples
        mean = samples.mean(dtype=np.float64)
        centred = samples - np.float32(mean)
        # A constant sound rounds to a small constant here; the variance is therefore taken of what remains.
        variance = float(np.mean(np.square(centred, dtype=np.float64)))
        centred /= np.float32(np.sqrt(variance + 1e-7))
        return centred
