"""The front end of Whisper: a logarithmic mel spectrogram, with two frames for each state of the encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from omnivec.inputs.audio.features.settings import whisper
from omnivec.types import Floats

RATE = 16000
HOP = 160
FFT = 400
STATE = 2 * HOP
"""Samples of one state of the encoder, 20 ms."""


@dataclass(frozen=True)
class WhisperRows:
    """Frames of 25 ms every 10 ms, in pairs, of a sound that is padded with zeros to `longest`.

    There is a row for each state of the sound, and one more, since frames overlap its end. A worked example, 700
    samples: the states begin at samples 0, 320 and 640, and the rows have the frames around the samples 0 and 160, 320
    and 480, 640 and 800, 960 and 1120. All rows behind these would be equal: they have the spectrogram of silence.

    Attributes:
        bands: number of mel bands.
        longest: number of samples of the longest sound.
    """

    bands: int
    longest: int

    @property
    def rows(self) -> tuple[int, ...]:
        """Shape of one row: two frames of `bands` values."""
        return 2, self.bands

    def count(self, samples: int) -> int:
        """Number of states of a sound, and one more."""
        return -(-samples // STATE) + 1

    def __call__(self, samples: Floats) -> Floats:
        """Samples (n,) -> rows (t, 2, bands) float32: log10 of the power, at most 8 below its maximum, then scaled."""
        mel = whisper(self.bands).mel
        filters = mel.filters.matrix(FFT)
        rows = np.full((2 * self.count(len(samples)), self.bands), -10.0, np.float32)
        for block in mel.frames.spectra(samples, self.longest):
            stop = block.start + len(block.power)
            rows[block.start : stop] = np.log10(np.maximum(block.power @ filters, np.float32(1e-10)))
        scaled: Floats = (np.maximum(rows, rows.max() - 8) + 4) / 4
        return scaled.reshape(-1, 2, self.bands)
