"""The modality of video, measured in seconds: a file of frames, usually with a sound track."""

from __future__ import annotations

from typing import Any

from omnivec.inputs.modality import Modality


def _accepts(item: Any) -> bool:
    return False  # there are no videos in memory, only files


MODALITY = Modality(
    name="video",
    one="a video",
    plural="videos",
    given="",
    unit="seconds",
    rank=3,
    accepts=_accepts,
    suffixes=frozenset(
        [".mp4", ".m4v", ".mkv", ".webm", ".mov", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp"]
    ),
    span_unit="seconds",
)
