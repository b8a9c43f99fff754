"""Patches of a log-mel spectrogram, for models that read a second or so at a time: VGGish, YAMNet, Resemblyzer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from omnivec.inputs.audio.features.mel_spectrogram import MelSpectrogram
from omnivec.types import Floats

Incomplete = Literal["drop", "zeros"]


@dataclass(frozen=True, kw_only=True)
class MelPatches:
    """A mel spectrogram in patches of equally many frames; a front end (`Features`).

    Attributes:
        mel: the spectrogram; its frames without padding.
        length: frames of a patch.
        hop: frames from the start of a patch to the start of the next.
        incomplete: what is done with the last patch if the sound ends within it. "drop": it is left out, so that a
            sound shorter than a patch has none. "zeros": zeros are appended to the samples to complete it.
    """

    mel: MelSpectrogram
    length: int
    hop: int
    incomplete: Incomplete = "drop"

    @property
    def rows(self) -> tuple[int, ...]:
        """Shape of one row: (frames of a patch, bands)."""
        return (self.length, *self.mel.rows)

    @property
    def shortest(self) -> int:
        """Number of samples of one patch."""
        return self.mel.frames.needed(self.length)

    def count(self, samples: int) -> int:
        """Number of patches."""
        if self.incomplete == "drop":
            return max(0, 1 + (self.mel.count(samples) - self.length) // self.hop)
        step = self.hop * self.mel.frames.hop
        return 1 + max(0, -((self.shortest - samples) // step)) if samples > 0 else 0

    def __call__(self, samples: Floats) -> Floats:
        """Returns (t, length, bands) float32 for samples (n,) float32 in [-1, 1]."""
        count = self.count(len(samples))
        frames = (count - 1) * self.hop + self.length if count else 0
        needed = self.mel.frames.needed(frames)
        bands, _ = self.mel.compute(samples[:needed], needed)
        return cut_patches(self.mel.finished(bands), count, self.length, self.hop)


@dataclass(frozen=True, kw_only=True)
class VoiceWindows:
    """Overlapping windows of a mel spectrogram, as Resemblyzer cuts an utterance; a front end (`Features`).

    The volume is raised to `volume` first, never lowered. A sound of n samples has f = ceil((n + 1) / hop of the
    frames) frames; windows start every `step` frames. Zeros are appended to complete the last window, but it is left
    out if the sound covers less than `coverage` of it, unless it is the only one. Source:
    resemblyzer/voice_encoder.py, `compute_partial_slices`, and resemblyzer/audio.py, `normalize_volume`.

    Attributes:
        mel: the spectrogram; its frames centred.
        length: frames of a window.
        step: frames from the start of a window to the start of the next.
        coverage: see above.
        volume: root mean square of the samples in dB, relative to 1, to which quieter sound is raised.
    """

    mel: MelSpectrogram
    length: int = 160
    step: int = 77
    coverage: float = 0.75
    volume: float = -30.0

    @property
    def rows(self) -> tuple[int, ...]:
        """Shape of one row: (frames of a window, bands)."""
        return (self.length, *self.mel.rows)

    def count(self, samples: int) -> int:
        """Number of windows."""
        if samples <= 0:
            return 0
        hop = self.mel.frames.hop
        frames = -(-(samples + 1) // hop)
        windows = 1 + max(0, (frames - self.length + self.step) // self.step)
        covered = (samples / hop - (windows - 1) * self.step) / self.length
        return windows - 1 if covered < self.coverage and windows > 1 else windows

    def __call__(self, samples: Floats) -> Floats:
        """Returns (windows, length, bands) float32 for samples (n,) float32 in [-1, 1]."""
        count = self.count(len(samples))
        if not count:
            return np.zeros((0, *self.rows), np.float32)
        total = ((count - 1) * self.step + self.length) * self.mel.frames.hop
        bands, _ = self.mel.compute(samples * self._gain(samples), total)
        return cut_patches(self.mel.finished(bands), count, self.length, self.step)

    def _gain(self, samples: Floats) -> np.float32:
        """The factor that raises the volume; 1 for silence, which has none."""
        power = float(np.mean(np.square(samples, dtype=np.float64)))
        wanted = 10 ** (self.volume / 20)
        return np.float32(max(wanted / power**0.5, 1) if power else 1)


def cut_patches(bands: Floats, count: int, length: int, hop: int) -> Floats:
    """Rows (t, bands) -> patches (count, length, bands), the starts of which lie `hop` rows apart; a copy."""
    starts = np.arange(count) * hop
    patches: Floats = bands[starts[:, None] + np.arange(length)]
    return patches
