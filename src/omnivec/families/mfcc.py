"""MFCC: statistics over time of mel-frequency cepstral coefficients and their deltas; no weights.

The coefficients are those of librosa, of frames of 25 ms every 10 ms; the deltas are the slopes of lines through nine
frames (Davis and Mermelstein 1980; Furui 1986). The statistics are compared by their Euclidean distance, as in the
baseline of the ESC-10 data set (Piczak 2015), because the first coefficients vary most and tell most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from omnivec import weights
from omnivec.families._classes import refuse_settings
from omnivec.families._statistics import inside, mean_and_std
from omnivec.inputs.audio.features import Cepstra, regression_deltas
from omnivec.inputs.audio.features.settings import librosa_mel, librosa_mfcc
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.inputs.text.tokenizer import Tokenizer
from omnivec.ops.base import Ops, Params, Value
from omnivec.types import Floats
from omnivec.validation.typed import Size

CLAIMS = {"model_type": ["mfcc"], "modality": "audio"}

POOLING = "cls"


@dataclass(frozen=True)
class Config:
    """The front end.

    Attributes:
        coefficients: number of coefficients, that of index 0 included.
        sampling_rate: sampling rate in Hz.
        bands: number of mel bands.
        frame: samples of a frame.
        hop: samples from frame to frame.
        fft: points of the Fourier transform.
        reach: frames on each side of a delta.
        seconds: length of the windows of a longer sound.
    """

    coefficients: Size = 20
    sampling_rate: Size = 22050
    bands: Size = 64
    frame: Size = 551
    hop: Size = 220
    fft: Size = 1024
    reach: Size = 4
    seconds: float = 10.0

    @property
    def dim(self) -> int:
        """Length of the vector: mean and standard deviation of coefficients, deltas, and deltas of deltas."""
        return 6 * self.coefficients


@dataclass(frozen=True)
class _WithDeltas:
    """Coefficients, their deltas, and the deltas of these; see `Features`."""

    mfcc: Cepstra
    reach: int

    @property
    def rows(self) -> tuple[int, ...]:
        return (3 * self.mfcc.coefficients,)

    def count(self, samples: int) -> int:
        return self.mfcc.count(samples)

    def __call__(self, samples: Floats) -> Floats:
        coefficients = self.mfcc(samples)
        first = regression_deltas(coefficients, self.reach)
        return np.concatenate([coefficients, first, regression_deltas(first, self.reach)], 1)


def load_original(
    folder: Path, published: Mapping[str, Any]
) -> tuple[Mapping[str, Any], weights.Weights, Tokenizer | None]:
    """The config alone: there are no weights."""
    return {"model_type": "mfcc", **published}, weights.Weights({}), None


def sound(config: Config, settings: Mapping[str, Any]) -> SoundProcessing:
    """The rows are coefficients with their deltas; a sound shorter than a frame is padded by librosa's zeros."""
    refuse_settings(settings, "MFCC")
    mel = librosa_mel(
        config.sampling_rate, length=config.frame, hop=config.hop, fft=config.fft, bands=config.bands
    )
    features = _WithDeltas(librosa_mfcc(mel, config.coefficients), config.reach)
    return SoundProcessing(rate=config.sampling_rate, features=features, seconds=config.seconds)


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """Statistics over the frames: (n, t, 3 * coefficients) -> (n, 1, dim)."""
    rows = ops.transpose(batch.sound, (0, 2, 1))
    real = inside(ops, rows, 2, batch.lengths)[:, None]
    mean, std = mean_and_std(ops, rows, real)
    return ops.concat([mean, std], -1)[:, None]


SHAPES: Mapping[str, tuple[str, ...]] = {}
PREFIXES: tuple[str, ...] = ()
LAYOUTS: tuple[weights.Row, ...] = ()

KNOWN = {
    "mfcc": {
        "sources": ["bundled:mfcc"],
        "sha256": {},
        "licence": "Apache-2.0",
        "dim": 120,
        "length": 10.0,
        "pooling": "cls",
        "preprocessing": {},
        "example": "sound:vowel",
        "components": [-341.6401, 130.26248, 27.495453, 23.182127, 2.3233802],
    },
}
