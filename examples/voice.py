"""Enroll two voices, verify a recording, and find who speaks where. The voices are made by a program.

python examples/voice.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import omnivec

RATE = 16_000
# Pitch in Hz, and how far the resonances of the throat lie from those of an average man.
VOICES = {"anna": (210.0, 1.2), "ben": (105.0, 0.95)}
VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))


def speak(name: str, seconds: float, seed: int) -> omnivec.Audio:
    """Makes a sound of vowels, four a second: pulses of the voice through three resonances each."""
    generator = np.random.default_rng(seed)
    pitch, size = VOICES[name]
    pieces = []
    for _ in range(round(4 * seconds)):
        time = np.arange(RATE // 4) / RATE
        tones = pitch * np.arange(1, int(7000 / pitch)) * generator.normal(1, 0.03)
        levels = np.zeros(len(tones))
        for formant in VOWELS[generator.integers(len(VOWELS))]:
            levels += 1 / (1 + ((tones - size * formant) / (60 + 0.03 * formant)) ** 2)
        sound = (levels / np.sqrt(tones / pitch)) @ np.sin(2 * np.pi * tones[:, None] * time)
        pieces.append(sound * np.hanning(len(time)) ** 0.3)
    samples = np.concatenate(pieces) + generator.normal(0, 0.003, len(pieces) * (RATE // 4))
    return omnivec.Audio((0.3 * samples / np.abs(samples).max()).astype(np.float32), RATE)


def main() -> None:
    """Prints two verdicts, and the turns of a conversation."""
    with tempfile.TemporaryDirectory() as folder:
        # Made voices are no speech to a detector of speech, so recordings are taken whole.
        voices = omnivec.Voices(Path(folder) / "voices.safetensors", "dvector", vad=False)
        for name in VOICES:
            voices.enroll(name, [speak(name, 8, seed) for seed in range(2)])
        for name in VOICES:
            verdict = voices.verify("anna", speak(name, 6, 9))
            print(
                f"{name} is {'' if verdict.same else 'not '}anna: score {verdict.score:.2f}; {verdict.basis}"
            )
        parts = [speak(name, 5, seed) for seed, name in enumerate(["anna", "ben", "anna", "ben"], 20)]
        talk = omnivec.Audio(np.concatenate([part.samples for part in parts]), RATE)
        found = omnivec.diarize(talk, speakers=2, voices=voices)
        for (start, end), speaker in zip(found.turns.spans, found.turns.speakers, strict=True):
            print(f"{start:5.1f} to {end:4.1f} s: {found.label(speaker)}")


if __name__ == "__main__":
    main()
