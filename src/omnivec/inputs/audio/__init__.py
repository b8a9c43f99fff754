"""The modality of sound, measured in seconds: Audio(samples, rate), or an audio file."""

from __future__ import annotations

from typing import Any

from omnivec.inputs.modality import Modality
from omnivec.types import Audio


def _accepts(item: Any) -> bool:
    return isinstance(item, Audio)


MODALITY = Modality(
    name="audio",
    one="a sound",
    plural="sounds",
    given="Audio(samples, rate)",
    unit="seconds",
    rank=2,
    accepts=_accepts,
    suffixes=frozenset(
        [".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".wma", ".aif", ".aiff"]
    ),
    span_unit="seconds",
)
