"""Log-mel spectrograms of one length, for models that read sound of a fixed duration: Whisper, CLAP, AST."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from omnivec.inputs.audio.features.mel_spectrogram import MelSpectrogram
from omnivec.types import Floats, Ints

Fill = Literal["zeros", "repeat", "repeat whole"]

PICTURES = 4
"""Spectrograms that `FusedMel` makes of a long sound."""


@dataclass(frozen=True, kw_only=True)
class FixedLengthMel:
    """The mel spectrogram of a sound that is first brought to a fixed number of samples; a front end (`Features`).

    A longer sound is cut off.

    Attributes:
        mel: the spectrogram.
        samples: number of samples.
        fill: how a shorter sound is extended. "zeros": with zeros. "repeat": by repeating it. "repeat whole": by
            repeating it as often as it fits, then with zeros; transformers calls this "repeatpad".
        cropped: whether the rows of the extension are removed at the end: ceil(n / hop) rows remain for n samples. The
            values of those are the same.
    """

    mel: MelSpectrogram
    samples: int
    fill: Fill = "zeros"
    cropped: bool = False

    @property
    def rows(self) -> tuple[int, ...]:
        """Shape of one row: (bands,)."""
        return self.mel.rows

    def count(self, samples: int) -> int:
        """Number of rows: the same for all sounds, except if `cropped`; 0 for no samples."""
        if samples <= 0:
            return 0
        whole = self.mel.count(self.samples)
        return min(whole, -(-samples // self.mel.frames.hop)) if self.cropped else whole

    def __call__(self, samples: Floats) -> Floats:
        """Returns (t, bands) float32 for samples (n,) float32 in [-1, 1]."""
        count = self.count(len(samples))
        filled = samples[: self.samples]
        if len(filled) and len(filled) < self.samples and self.fill != "zeros":
            times = self.samples // len(filled)
            whole = self.fill == "repeat whole"
            filled = np.tile(filled, times) if whole else np.resize(filled, self.samples)
        bands, _ = self.mel.compute(filled, self.samples if count else 0)
        return self.mel.finished(bands[:count])


@dataclass(frozen=True, kw_only=True)
class FusedMel(FixedLengthMel):
    """As `FixedLengthMel`, but a longer sound is not cut off: it gives four spectrograms, one after the other.

    These are the spectrogram of the whole sound, resized to the number of frames of `samples` by linear interpolation,
    then three parts of it, of as many frames each. transformers draws where the parts begin at random, each from a
    third of the possible places. Here the first begins at the first place of its third, the second in the middle, the
    third at the last place, so that three times `samples` are heard completely. With as many frames as `samples` has, a
    sound that is a little longer gives its spectrogram alone, as in transformers.
    """

    def count(self, samples: int) -> int:
        """Number of rows: those of `samples`, or four times as many for a longer sound; 0 for no samples."""
        return super().count(samples) * (PICTURES if self._is_longer(samples) else 1)

    def __call__(self, samples: Floats) -> Floats:
        """Returns (t, bands) float32 for samples (n,) float32 in [-1, 1]."""
        if len(samples) <= self.samples:
            return super().__call__(samples)
        whole = self.mel(samples)
        if not self._is_longer(len(samples)):
            return whole
        frames = self.mel.count(self.samples)
        parts = [whole[start : start + frames] for start in starts(len(whole), frames)]
        return np.concatenate([resized(whole, frames), *parts])

    def _is_longer(self, samples: int) -> bool:
        return self.mel.count(samples) > self.mel.count(self.samples)


def starts(total: int, frames: int) -> list[int]:
    """Returns where the three parts of `frames` frames begin in a spectrogram of `total`, which has more.

    Example: 0, 1000 and 2000 for parts of 1001 frames of 3001.
    """
    first, second, third = np.array_split(np.arange(total - frames + 1), 3)
    # Of two places the last third has none: transformers then takes the first place.
    return [int(first[0]), int(second[len(second) // 2]), int(third[-1]) if len(third) else 0]


def resized(rows: Floats, count: int) -> Floats:
    """Interpolates rows (t, bands) linearly to (count, bands), as torch does with `align_corners=False`.

    Each new row is made of two neighbours; between these, rows of a long sound are left out. The places are computed in
    float32, as in torch.
    """
    scale = np.float32(len(rows)) / np.float32(count)
    places = np.maximum(scale * (np.arange(count, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), 0)
    before: Ints = np.minimum(places.astype(np.int64), len(rows) - 1)
    after = np.minimum(before + 1, len(rows) - 1)
    share = (places - before.astype(np.float32))[:, None]
    mixed: Floats = rows[before] * (1 - share) + rows[after] * share
    return mixed


@dataclass(frozen=True, kw_only=True)
class FixedFramesMel:
    """A mel spectrogram with a fixed number of rows; a front end (`Features`).

    Zeros are appended after the logarithm and before `mel.shift` and `mel.divisor` are applied, so that the rows behind
    the sound are shift / divisor, as AST's publishers do it. A longer spectrogram is cut off.

    Attributes:
        mel: the spectrogram.
        length: number of rows.
    """

    mel: MelSpectrogram
    length: int

    @property
    def rows(self) -> tuple[int, ...]:
        """Shape of one row: (bands,)."""
        return self.mel.rows

    def count(self, samples: int) -> int:
        """`length`, or 0 for a sound that is shorter than a frame."""
        return self.length if self.mel.count(samples) else 0

    def __call__(self, samples: Floats) -> Floats:
        """Returns (length, bands) float32 for samples (n,) float32 in [-1, 1], or (0, bands)."""
        count = self.count(len(samples))
        samples = samples[: self.mel.frames.needed(self.length)]
        bands = np.zeros((count, *self.mel.rows), np.float32)
        if count:
            computed, _ = self.mel.compute(samples)
            bands[: len(computed)] = computed[:count]
        return self.mel.finished(bands)
