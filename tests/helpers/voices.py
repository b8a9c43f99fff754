"""Stand-ins for voices: speakers that hum, a model of their spectrum, and a detector of loudness."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.types import Audio, Encoded

RATE = 16_000
BANDS = 32


def hum(speaker: int, seconds: float, take: int = 0, silence: float = 0.0) -> Audio:
    """Seconds of a speaker's noise, whose spectrum is the speaker's own; after a second of silence, if any."""
    generator = np.random.default_rng([speaker, take])
    shape = np.random.default_rng(speaker).uniform(-2, 2, BANDS)
    # Each take has another colour, much weaker than the speaker's.
    shape = np.exp(shape + generator.normal(0, 0.4, BANDS))
    count = round(seconds * RATE)
    spectrum = np.fft.rfft(generator.normal(size=count))
    spectrum *= np.interp(np.arange(len(spectrum)), np.linspace(0, len(spectrum), BANDS), shape)
    samples = np.fft.irfft(spectrum, count)
    samples = 0.1 * samples / np.abs(samples).max() * 5
    quiet = np.zeros(round(silence * RATE))
    return Audio(np.concatenate([quiet, np.clip(samples, -1, 1)]).astype(np.float32), RATE)


class SpectrumModel:
    """Embeds a sound as the logarithm of its energy in bands, centred; a sound shorter than 0.3 s fails."""

    modalities = ("audio",)
    dim = BANDS

    def __init__(self, name: str = "spectrum") -> None:
        self.name = name
        self.calls: list[int] = []

    @property
    def identity(self) -> dict[str, Any]:
        return {"family": self.name, "dim": BANDS, "metric": "cosine", "weights": {"float32": self.name}}

    def run(self, items: Any) -> Encoded:
        self.calls.append(len(items))
        vectors, kept, failures = [], [], {}
        for i, item in enumerate(items):
            if len(item.samples) < 0.3 * item.rate:
                failures[i] = f"lasts {len(item.samples) / item.rate:.2f} s: too short"
                continue
            power = np.abs(np.fft.rfft(item.samples)) ** 2
            energies = np.array([part.mean() for part in np.array_split(power, BANDS)])
            logs = np.log(energies + 1e-9)
            vectors.append(logs - logs.mean())
            kept.append(i)
        rows = np.array(vectors, np.float32).reshape(-1, BANDS)
        return Encoded(rows, np.array(kept, np.int64), failures)


class LoudDetector:
    """Finds what is not silent, in steps of 0.1 s."""

    def __init__(self, name: str = "loudness") -> None:
        self.identity = {"detector": name}

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float64]:
        step = RATE // 10
        loud = [bool(np.abs(samples[i : i + step]).max() > 1e-3) for i in range(0, len(samples), step)]
        edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]])))
        return np.minimum(edges.reshape(-1, 2) * 0.1, len(samples) / RATE)
