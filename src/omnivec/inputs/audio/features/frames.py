"""Cuts sound into windowed frames and takes their spectra: the short-time Fourier transform."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.inputs.audio.features.window_functions import WindowName, window_function
from omnivec.types import Floats

Padding = Literal["none", "end", "zeros", "reflect"]
Emphasis = Literal["frame", "signal"]

_BLOCK = 2**17
"""Samples of the frames that are transformed together, half as many in double precision: 512 KiB, whatever the length
of the sound."""


@dataclass(frozen=True)
class Block:
    """Spectra of consecutive frames.

    Attributes:
        start: index of the first of these frames.
        power: (m, bins) float32, squared magnitudes.
        energy: (m,) float32, sum of the squared samples of each frame before pre-emphasis and window; None if it was
            not asked for.
    """

    start: int
    power: Floats
    energy: Floats | None = None


@dataclass(frozen=True, kw_only=True)
class Frames:
    """How sound is cut into frames, and what is done to a frame before its spectrum is taken.

    In this order: the samples are multiplied by `scale`, the mean of the frame is subtracted, pre-emphasis
    (x[i] - a x[i-1]) and the window are applied.

    Attributes:
        length: samples of a frame.
        hop: samples from the start of a frame to the start of the next.
        fft: points of the Fourier transform, at least `length`.
        window: window function.
        padding: "none": only whole frames, so that a shorter sound has none (Kaldi's `snip_edges`). "end": zeros are
            appended to complete the last frame. "zeros" and "reflect": frame t is centred at sample t * `hop`, and
            what lies outside of the sound is zero, or is the sound mirrored at its first and last sample.
        last: whether the last of centred frames is used; Whisper leaves it out.
        scale: factor of the samples: 32768 for models that are trained on 16-bit integers.
        remove_mean: whether the mean of each frame is subtracted.
        preemphasis: coefficient a; 0 for none.
        emphasis: what pre-emphasis is applied to. "frame": each frame by itself, its first sample becoming
            x[0] (1 - a). "signal": the whole sound, whose first sample remains as it is.
        double: whether the Fourier transform is computed in double precision. In single precision its error is 140 dB
            below the strongest frequency of the frame. This matters if the floor of the logarithm is lower, or if a
            model amplifies small differences.
    """

    length: int
    hop: int
    fft: int
    window: WindowName = "hann"
    padding: Padding = "none"
    last: bool = True
    scale: float = 1.0
    remove_mean: bool = False
    preemphasis: float = 0.0
    emphasis: Emphasis = "frame"
    double: bool = False

    def __post_init__(self) -> None:
        if not (1 <= self.length <= self.fft and self.hop >= 1):
            raise UsageError(
                f"frames of {self.length} samples every {self.hop}, with a Fourier transform of {self.fft} points: "
                "give a frame of at least 1 sample, not longer than the transform, and a hop of at least 1"
            )

    @property
    def bins(self) -> int:
        """Number of frequencies of a spectrum."""
        return self.fft // 2 + 1

    def count(self, samples: int) -> int:
        """Number of frames of a sound; 0 if it has no samples."""
        if samples <= 0:
            return 0
        if self.padding == "none":
            return max(0, 1 + (samples - self.length) // self.hop)
        if self.padding == "end":
            return 1 + max(0, -((self.length - samples) // self.hop))
        centred = 1 + (samples - self.fft % 2) // self.hop
        return centred if self.last else centred - 1

    def needed(self, frames: int) -> int:
        """Smallest number of samples that has so many frames without padding."""
        return (frames - 1) * self.hop + self.length if frames > 0 else 0

    def spectra(
        self, samples: Floats, total: int = 0, energy: bool = False, bins: slice = slice(None)
    ) -> Iterator[Block]:
        """Yields the spectra of the frames, in blocks, in order.

        Frames that lie behind the samples, in the zeros up to `total`, are not yielded: their spectra are zero.

        Args:
            samples: (n,) float32.
            total: number of samples of the sound, where it is longer than `samples`: zeros follow.
            energy: whether the energy of each frame is computed.
            bins: the frequencies that are computed, contiguous.
        """
        total = max(total, len(samples))
        count = self.count(total)
        if not count or not len(samples):
            return
        offset = 0 if self.padding in ("none", "end") else self.fft // 2 - (self.fft - self.length) // 2
        mirrored = self.padding == "reflect" and total < len(samples) + self.fft
        if not mirrored:
            count = min(count, (len(samples) + offset - 1) // self.hop + 1)
        many = max(16, _BLOCK // self.fft // (2 if self.double else 1))
        work = _Work(self, min(many, count), bins)
        for start in range(0, count, many):
            stop = min(start + many, count)
            begin = start * self.hop - offset
            signal = self._read(samples, total, begin, begin + (stop - start - 1) * self.hop + self.length)
            yield work.transform(start, stop - start, signal, energy)

    def _read(self, samples: Floats, total: int, start: int, stop: int) -> Floats:
        """Samples from start to stop of the padded sound, pre-emphasised if that is done to the whole."""
        inside = samples[max(start, 0) : max(stop, 0)]
        if self.preemphasis and self.emphasis == "signal":
            before = samples[max(start - 1, 0) : max(start, 0)]  # one sample, or none at the beginning
            inside = np.concatenate((before, inside))
            inside[1:] -= np.float32(self.preemphasis) * inside[:-1]
            inside = inside[len(before) :]
        if len(inside) == stop - start:
            return inside
        n = len(samples)
        left = self._outside(samples, total, np.arange(start, min(stop, 0)))
        right = self._outside(samples, total, np.arange(max(start, n), stop))
        return np.concatenate((left, inside, right))

    def _outside(self, samples: Floats, total: int, places: NDArray[np.int64]) -> Floats:
        """Values at places before or behind the samples."""
        if self.padding != "reflect":
            return np.zeros(len(places), np.float32)
        period = max(2 * (total - 1), 1)
        places = np.abs(places) % period
        places = np.where(places >= total, period - places, places)
        values = samples[np.minimum(places, len(samples) - 1)]
        return np.where(places < len(samples), values, np.float32(0))


class _Work:
    """The arrays in which blocks of frames are transformed; one for each call, so that calls share nothing."""

    def __init__(self, settings: Frames, many: int, bins: slice) -> None:
        self.settings = settings
        self.first, self.last, _ = bins.indices(settings.bins)
        # All steps are linear: the scale, and the number by which the transform divides, are applied with the window.
        factor = settings.scale if settings.double else settings.scale * settings.fft
        # NumPy would convert the frames for a transform in double precision itself, but takes twice as long.
        dtype: type[np.floating[Any]] = np.float64 if settings.double else np.float32
        self.window = (window_function(settings.window, settings.length) * np.float32(factor)).astype(dtype)
        self.frames = np.zeros((many, settings.fft), dtype)
        self.power = np.empty((many, self.last - self.first), np.float32)

    def transform(self, start: int, count: int, signal: Floats, energy: bool) -> Block:
        """The spectra of the frames of a signal, which are valid until the next call."""
        settings = self.settings
        frames, buffer = self._cut(signal, count), self.frames[:count, : settings.length]
        a = np.float32(settings.preemphasis if settings.emphasis == "frame" else 0)
        means = frames.mean(axis=1, keepdims=True) if settings.remove_mean else None
        energies = self._energies(frames, means) if energy else None
        if a:
            # Frames overlap: the whole signal takes fewer operations. With the mean m of a frame,
            # (x[i] - m) - a (x[i-1] - m) = (x[i] - a x[i-1]) - (1 - a) m.
            emphasised = signal.copy()
            emphasised[1:] -= a * signal[:-1]
            first = frames[:, :1] * (1 - a)
            frames = self._cut(emphasised, count)
        if means is None:
            np.multiply(frames, self.window, out=buffer)
        else:
            np.subtract(frames, means * (1 - a), out=buffer)
            buffer *= self.window
        if a:
            buffer[:, :1] = (first if means is None else first - means * (1 - a)) * self.window[:1]
        return Block(start, self._power(count), energies)

    def _cut(self, signal: Floats, count: int) -> Floats:
        """Frames (count, length), a view."""
        stride = signal.strides[0]
        shape, strides = (count, self.settings.length), (self.settings.hop * stride, stride)
        return as_strided(signal, shape, strides, writeable=False)

    def _energies(self, frames: Floats, means: Floats | None) -> Floats:
        """Sum of the squared samples of each frame."""
        centred = frames if means is None else frames - means
        energies: Floats = np.einsum("ij,ij->i", centred, centred)
        energies *= np.float32(self.settings.scale) ** 2
        return energies

    def _power(self, count: int) -> Floats:
        """Squared magnitudes of the spectra of the frames in the buffer."""
        # Without a norm, NumPy 2 transforms float32 in double precision and takes 1.6 to 6 times as long, because its
        # factor of 1 is not a float32. NumPy 1 always uses double precision, and returns complex128.
        norm: Literal["backward", "forward"] = "backward" if self.settings.double else "forward"
        spectrum = np.fft.rfft(self.frames[:count], norm=norm).astype(np.complex64, copy=False)
        # Squared after the root: NumPy takes magnitudes several numbers at a time, but adds every second number slowly.
        magnitudes = np.abs(spectrum[:, self.first : self.last], out=self.power[:count])
        return np.multiply(magnitudes, magnitudes, out=magnitudes)
