"""Sounds for tests, made by themselves: tones, noise, melodies, what resembles speech, and files of every format."""

from __future__ import annotations

import io
import math

import numpy as np
import soundfile
from numpy.typing import NDArray

from omnivec.types import Floats

KINDS = ("WAV", "FLAC", "OGG", "MP3", "Opus", "AIFF")
"""Formats that `encoded` makes, as `Sound.format` names them."""

# Frequencies and bandwidths in Hz of the first three formants of some vowels (Peterson and Barney 1952, men).
VOWELS = {
    "a": ((730, 90), (1090, 110), (2440, 170)),
    "i": ((270, 60), (2290, 140), (3010, 200)),
    "u": ((300, 60), (870, 100), (2240, 170)),
    "e": ((530, 80), (1840, 130), (2480, 180)),
}


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


def tone(frequency: float, seconds: float, rate: int = 16000, amplitude: float = 0.5) -> Floats:
    """A sine (n,) float32 that begins at phase 0."""
    times = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * frequency * times)).astype(np.float32)


def noise(seconds: float, rate: int = 16000, seed: int = 0, amplitude: float = 0.1) -> Floats:
    """White normal noise (n,) float32 with a standard deviation of `amplitude`, clipped to [-1, 1]."""
    samples = amplitude * np.random.default_rng(seed).standard_normal(round(seconds * rate))
    return np.clip(samples, -1, 1).astype(np.float32)


def speechlike(seconds: float, rate: int = 16000, seed: int = 0, pitch: float = 0.0) -> Floats:
    """A signal (n,) float32 that resembles speech: vowels, fricatives and pauses over faint noise, the peak at 0.5.

    Args:
        seconds: duration.
        rate: sampling rate in Hz.
        seed: equal seeds give equal voices and syllables.
        pitch: fundamental frequency in Hz; 0 for one that depends on the seed.
    """
    random = np.random.default_rng(seed)
    count = round(seconds * rate)
    base = pitch or float(random.uniform(90, 240))
    tract = float(random.uniform(0.9, 1.2))  # shorter vocal tracts have higher formants
    samples = np.zeros(count)
    start = round(0.05 * rate)
    while start < count:
        kind = random.choice(["vowel", "vowel", "fricative", "pause"])
        length = min(round(float(random.uniform(0.06, 0.25)) * rate), count - start)
        if kind == "vowel":
            name = str(random.choice(list(VOWELS)))
            piece = _vowel(VOWELS[name], base * float(random.uniform(0.85, 1.2)), tract, length, rate)
        elif kind == "fricative":
            piece = 0.15 * np.diff(random.standard_normal(length + 1))
        else:
            piece = np.zeros(length)
        samples[start : start + length] = piece * np.hanning(length + 2)[1:-1] ** 0.5
        start += length
    samples *= 0.5 / max(float(np.abs(samples).max(initial=0.0)), 1e-3)
    return (samples + 1e-3 * random.standard_normal(count)).astype(np.float32)


def _vowel(
    formants: tuple[tuple[int, int], ...], pitch: float, tract: float, length: int, rate: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The harmonics of a falling pitch, each as strong as the resonances of the formants make it."""
    times = np.arange(length) / rate
    phase = 2 * np.pi * (pitch * times - 0.1 * pitch * times**2 / max(length / rate, 1e-3))
    total = np.zeros(length)
    for harmonic in range(1, math.floor(0.45 * rate / pitch) + 1):
        frequency = harmonic * pitch
        gain = sum(width**2 / (width**2 + (frequency - tract * middle) ** 2) for middle, width in formants)
        total += gain / harmonic**0.5 * np.sin(harmonic * phase)
    return total
