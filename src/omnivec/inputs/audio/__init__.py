"""The modality of sound, measured in seconds: an audio file, its bytes, or Audio(samples, rate)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnivec.inputs.modality import Canaries, Modality
from omnivec.types import Audio, Floats

if TYPE_CHECKING:
    from omnivec.inputs.content import Content, Cutting, Piece
    from omnivec.inputs.preparer import Preparer, PreparerSource

_PREFIX = "sound:"

CANARIES = ("vowel", "noise", "clicks")
"""A sound for each aspect in which resampling or precisions may differ: harmonics, a flat spectrum, onsets."""

TOLERANCE = 1e-2
"""Largest 1 - cosine of canaries, for bfloat16 in networks of many convolutions."""


def _accepts(item: Any) -> bool:
    from omnivec.inputs.audio.sound import Sound  # what a collection's passages of a sound are

    return isinstance(item, Audio | Sound)


def _sniff(head: bytes) -> bool:
    from omnivec.inputs.audio.sound import is_sound

    return is_sound(head)


def _read_file(path: Path) -> Content:
    from omnivec.inputs.audio.recording import content_of_file

    return content_of_file(path)


def _content(item: Any) -> Content:
    from omnivec.inputs.audio.recording import content_of_item

    return content_of_item(item)


def _passages(content: Content, model: Any, cutting: Cutting) -> list[Piece]:
    from omnivec.inputs.audio.recording import passages

    return passages(content, model, cutting)


def _describe(model: Any, vectors: Floats) -> list[str]:
    from omnivec.inputs.audio.recording import described

    return described(model, vectors)


def _part(content: Content, start: float, end: float) -> Any:
    from omnivec.inputs.audio.sound import part

    return content.item if start <= 0 and end >= content.item.seconds else part(content.item, start, end)


def _preparer(source: PreparerSource) -> Preparer:
    from omnivec.inputs.audio.preparer import SoundPreparer, front_end_settings

    settings = front_end_settings(source.root)
    return SoundPreparer(source.family.sound(source.config, settings), source.threads)


def _canary(name: str) -> Audio:
    from omnivec.inputs.audio.canary import sounded

    return sounded(name.removeprefix(_PREFIX))


def _excerpt(path: Path, start: float, end: float) -> tuple[str, bytes]:
    from omnivec.inputs.audio.excerpt import excerpt

    return excerpt(path, start, end)


def _measure(metadata: Mapping[str, Any]) -> str:
    seconds, rate = metadata.get("seconds"), metadata.get("rate")
    if not isinstance(seconds, int | float) or not isinstance(rate, int):
        return ""
    minutes, rest = divmod(seconds, 60)
    length = f"{int(minutes)}:{int(rest):02d} min" if minutes else f"{seconds:.1f} s"
    return f"{length} at {rate / 1000:g} kHz"


def _input_size(facts: Mapping[str, Any]) -> str:
    return f"{facts['length']:g} s"


MODALITY = Modality(
    name="audio",
    one="a sound",
    plural="sounds",
    given="Audio(samples, rate)",
    unit="seconds",
    rank=2,
    accepts=_accepts,
    suffixes=frozenset(
        [
            ".wav",
            ".flac",
            ".mp3",
            ".ogg",
            ".oga",
            ".opus",
            ".m4a",
            ".aac",
            ".wma",
            ".aif",
            ".aiff",
            ".caf",
            ".au",
        ]
    ),
    sniff=_sniff,
    read_file=_read_file,
    content=_content,
    pipeline="audio/1",
    is_cut=True,
    passages=_passages,
    part=_part,
    is_transcribed=True,
    describe=_describe,
    overlap=0,
    span_unit="seconds",
    counts_lost=True,
    encode_options=("truncate", "chunk"),
    preparer=_preparer,
    canaries=Canaries(tuple(_PREFIX + name for name in CANARIES), _canary, TOLERANCE, _PREFIX),
    default_model="yamnet",
    fallback_model="mfcc",
    joint_model="hf:laion/clap-htsat-unfused",
    templates=("This is a sound of {}.",),
    excerpt=_excerpt,
    measure=_measure,
    input_size=_input_size,
)
