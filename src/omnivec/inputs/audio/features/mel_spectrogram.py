"""Mel spectrograms and log-mel spectrograms: the front end of most models of sound."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from omnivec.errors import UsageError
from omnivec.inputs.audio.features.frames import Frames
from omnivec.inputs.audio.features.mel_filters import MelFilters
from omnivec.inputs.audio.features.products import Banded
from omnivec.types import Floats

Base = Literal["none", "ln", "log10", "dB"]
Floor = Literal["least", "zero", "added"]
Energy = Literal["none", "frame", "spectrum"]

_FACTORS = {"ln": 1.0, "log10": 1 / np.log(10), "dB": 10 / np.log(10)}


@dataclass(frozen=True, kw_only=True)
class Log:
    """The logarithm of a spectrum.

    Attributes:
        base: "ln", "log10", "dB" (10 log10), or "none" for no logarithm.
        floor: a small positive number that keeps the logarithm finite.
        by: what is done with it. "least": smaller values become the floor. "zero": only zeros do. "added": it is added
            to all values.
        range: largest difference to the maximum of the whole sound, in units of the result: smaller values are raised
            to it. 0 for no limit.
    """

    base: Base = "ln"
    floor: float = float(np.finfo(np.float32).eps)
    by: Floor = "least"
    range: float = 0.0

    def __post_init__(self) -> None:
        if self.floor <= 0 or self.range < 0:
            raise UsageError(
                f"floor={self.floor}, range={self.range}: give a positive floor and no negative range"
            )

    def apply(self, values: Floats) -> None:
        """Takes the logarithm of values (...) float32, in place; `range` is left to `limit`."""
        if self.base == "none":
            return
        floor = np.float32(self.floor)
        if self.by == "least":
            np.maximum(values, floor, out=values)
        elif self.by == "added":
            values += floor
        else:
            values[values == 0] = floor
        np.log(values, out=values)
        if self.base != "ln":
            values *= np.float32(_FACTORS[self.base])

    def limit(self, values: Floats) -> None:
        """Raises values (t, bands) that lie more than `range` below their maximum, in place."""
        if self.range and values.size:
            np.maximum(values, values.max() - np.float32(self.range), out=values)


@dataclass(frozen=True, kw_only=True)
class MelSpectrogram:
    """Mel spectrogram of a sound: frames, spectra, mel filters, logarithm; a front end (`Features`).

    Row t is log(sum over k of |X_t[k]|^2 W[k, band]), where X_t is the Fourier transform of frame t and W are the
    filters. Afterwards the mean over time is subtracted, if `centred`, and the result is (x + shift) / divisor.

    Attributes:
        frames: how the sound is cut and transformed.
        filters: the mel filters.
        log: the logarithm; `Log(base="none")` for none.
        magnitude: whether |X_t[k]| is filtered in place of its square.
        factor: factor of the filtered spectrum, before the logarithm.
        centred: whether the mean over time of each band is subtracted, over the rows of this sound.
        shift: see above.
        divisor: see above.
    """

    frames: Frames
    filters: MelFilters
    log: Log
    magnitude: bool = False
    factor: float = 1.0
    centred: bool = False
    shift: float = 0.0
    divisor: float = 1.0

    @property
    def rows(self) -> tuple[int, ...]:
        """Shape of one row: (bands,)."""
        return (self.filters.bands,)

    def count(self, samples: int) -> int:
        """Number of frames of so many samples."""
        return self.frames.count(samples)

    def __call__(self, samples: Floats) -> Floats:
        """Returns (t, bands) float32 for samples (n,) float32 in [-1, 1]."""
        return self.finished(self.compute(samples)[0])

    def compute(self, samples: Floats, total: int = 0, energy: Energy = "none") -> tuple[Floats, Floats]:
        """The logarithms, before they are centred and scaled.

        Args:
            samples: (n,) float32.
            total: number of samples of the sound, where it is longer than `samples`: zeros follow.
            energy: which energy of each frame is computed beside: "frame", the sum of the squared samples before
                pre-emphasis and window; "spectrum", the sum over all frequencies of the power spectrum times `factor`.

        Returns:
            (t, bands) and (t,) float32, zeros where no energy was asked for.
        """
        samples = np.asarray(samples, np.float32)
        bins, matrix = _filters(self.filters, self.frames.fft, self.factor, energy == "spectrum")
        count = self.count(max(total, len(samples)))
        bands, energies = np.zeros((count, self.filters.bands), np.float32), np.zeros(count, np.float32)
        done = 0
        for block in self.frames.spectra(samples, total, energy == "frame", bins):
            done = block.start + len(block.power)
            part = slice(block.start, done)
            if block.energy is not None:
                energies[part] = block.energy
            elif energy == "spectrum":
                energies[part] = block.power.sum(axis=1) * np.float32(self.factor)
            spectrum = np.sqrt(block.power, out=block.power) if self.magnitude else block.power
            matrix.multiply(spectrum, bands[part])
            self.log.apply(bands[part])
        if done < count:  # frames in the zeros behind the samples are all alike
            silence = np.zeros((1, 1), np.float32)
            self.log.apply(silence)
            bands[done:] = silence
        self.log.limit(bands)
        return bands, energies

    def finished(self, bands: Floats) -> Floats:
        """Centres and scales logarithms (t, bands), in place, and returns them."""
        if self.centred and len(bands):
            bands -= bands.mean(axis=0, dtype=np.float64).astype(np.float32)
        if self.shift:
            bands += np.float32(self.shift)
        if self.divisor != 1:
            bands /= np.float32(self.divisor)
        return bands


@lru_cache(maxsize=64)
def _filters(filters: MelFilters, fft: int, factor: float, all_bins: bool) -> tuple[slice, Banded]:
    """The frequencies that some filter lets pass, or all, and the weights of these times a factor."""
    matrix = filters.matrix(fft) * np.float32(factor)
    [used] = np.nonzero(matrix.any(axis=1))
    if all_bins or not len(used):
        return slice(0, len(matrix)), Banded.of(matrix)
    bins = slice(int(used[0]), int(used[-1]) + 1)
    return bins, Banded.of(matrix[bins])
