"""Log-mel spectrograms of one length, for models that read sound of a fixed duration: Whisper, CLAP, AST."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from omnivec.inputs.audio.features.mel_spectrogram import MelSpectrogram
from omnivec.types import Floats

Fill = Literal["zeros", "repeat", "repeat whole"]


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
