"""A short excerpt of a sound file, in a format that every browser plays."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from omnivec.inputs.audio.sound import part, read_sound, samples

RATE = 24_000
LONGEST = 30.0
"""Seconds that are played at most: a third of a megabyte."""

_BLOCK = 65_536


def excerpt(path: Path, start: float, end: float) -> tuple[str, bytes]:
    """Returns a part of a sound as MP3, mono.

    Args:
        path: file of the sound.
        start: start of the part in seconds.
        end: end of the part in seconds; at most `LONGEST` after the start is used.

    Returns:
        The media type, and the bytes of the excerpt.

    Raises:
        ItemError: the file is missing or damaged.
    """
    import soundfile

    whole = read_sound(path)
    decoded = samples(part(whole, start, min(end, start + LONGEST, whole.seconds)), RATE)
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", RATE, 1, format="MP3", subtype="MPEG_LAYER_III") as out:
        for first in range(0, len(decoded), _BLOCK):
            out.write(np.clip(decoded[first : first + _BLOCK], -1, 1))
    return "audio/mpeg", file.getvalue()
