"""Sounds for tests, made by themselves: melodies with noise, and files of every format that libsndfile writes."""

from __future__ import annotations

import io

import numpy as np
import soundfile
from numpy.typing import NDArray

KINDS = ("WAV", "FLAC", "OGG", "MP3", "Opus", "AIFF")
"""Formats that `encoded` makes, as `Sound.format` names them."""


def rate_of(kind: str) -> int:
    """A rate in Hz that the format can have."""
    return 48000 if kind == "Opus" else 44100


def melody(seconds: float, rate: int, channels: int = 2, seed: int = 0) -> NDArray[np.float32]:
    """Samples (n, channels): other tones in each channel, which rise, under noise."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal((len(time), channels))
    tones = [np.sin(2 * np.pi * (200 + 90 * channel + 40 * time) * time) for channel in range(channels)]
    return (0.3 * np.stack(tones, 1) + 0.03 * noise).astype(np.float32)


def encoded(samples: NDArray[np.float32], rate: int, kind: str = "WAV", subtype: str | None = None) -> bytes:
    """The bytes of a file with samples (n,) or (n, channels)."""
    file = io.BytesIO()
    container, codec = ("OGG", "OPUS") if kind == "Opus" else (kind, subtype)
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(file, "w", rate, channels, codec, format=container) as handle:
        # libsndfile 1.2.2 crashes when it writes minutes of Vorbis in one call.
        for start in range(0, len(samples), 8192):
            handle.write(samples[start : start + 8192])
    return file.getvalue()
