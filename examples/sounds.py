"""Search a folder of sounds by a sound and by words, with YAMNet, or with MFCC where it cannot be downloaded.

python examples/sounds.py

The sounds are made here, so that the example needs no data: beeps, noise and a chirp.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import soundfile

import omnivec
from omnivec import Audio

RATE = 16_000
TIME = np.arange(3 * RATE) / RATE

SOUNDS = {
    "beep": np.sin(2 * np.pi * 1000 * TIME) * (TIME % 0.5 < 0.2),
    "hiss": np.random.default_rng(0).standard_normal(len(TIME)) / 4,
    "siren": np.sin(2 * np.pi * (800 * TIME + 60 * np.sin(2 * np.pi * TIME))),
    "nothing": np.zeros(len(TIME)),
}


def main() -> None:
    """Indexes the sounds, then asks for them."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, samples in SOUNDS.items():
            soundfile.write(folder / f"{name}.wav", 0.5 * np.clip(samples, -1, 1), RATE)
        with omnivec.Collection(folder / "sounds.omni") as sounds:
            report = sounds.sync(folder)
            print(
                f"{report.new} sounds by {sounds.spaces()['audio'].model}; {len(report.notes)} with a remark"
            )
            quiet_beep = Audio(0.1 * SOUNDS["beep"][RATE:], RATE)
            [hit] = sounds.search(quiet_beep, 1)
            print(f"most like a quiet beep: {Path(hit.document).name}; heard: {hit.text or 'not named'}")
            for words in ("beep", "noise"):
                hits = sounds.search(words, 1) if hit.text else []
                print(
                    f"{words}: {', '.join(Path(one.document).name for one in hits) or 'not found by words'}"
                )


if __name__ == "__main__":
    main()
