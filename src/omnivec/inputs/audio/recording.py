"""The content of a sound for a collection: hash, metadata, what is odd about it, and its windows as passages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omnivec.errors import ItemError
from omnivec.inputs.audio.preparer import SoundPreparer, windows
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.inputs.audio.sound import Findings, Sound, examine, part, read_sound
from omnivec.inputs.content import Content, Cutting, Piece
from omnivec.inputs.files.regular import open_regular
from omnivec.types import Audio, Floats, Segment
from omnivec.validation.reasons import file_name

_CLIPPED = 1e-4
"""Share of clipped samples from which on a sound is reported as clipped."""

LIKELY = 0.1
"""Smallest probability of a class whose name becomes searchable text of a sound; see docs/audio.md."""

_MOST_NAMES = 10

_PAUSE = 1.0
"""Seconds of a pause from which on it is a passage of its own."""

_SHORTEST = 0.5
"""Seconds of the shortest passage of speech."""


def content_of_file(path: Path) -> Content:
    """Returns the content of an audio file, which is decoded once to find its length and what is odd about it.

    Raises:
        ItemError: it is damaged or cut off, has no samples, or a sample is not finite.
    """
    sound = read_sound(path)
    with open_regular(path, "a sound file") as file:
        digest = hashlib.file_digest(file, hashlib.sha256).digest()
    return _of(sound, digest, file_name(path))


def content_of_item(item: Any) -> Content:
    """Returns the content of the bytes of an audio file, or of sound in memory, whose samples are hashed."""
    sound = read_sound(item)
    source = sound.source
    if isinstance(source, Audio):
        samples = np.ascontiguousarray(source.samples)
        facts = json.dumps([samples.dtype.str, samples.shape, source.rate])
        digest = hashlib.sha256(facts.encode() + samples.tobytes()).digest()
    else:
        digest = hashlib.sha256(item).digest()
    return _of(sound, digest, sound.name)


def _of(sound: Sound, digest: bytes, name: str) -> Content:
    found = examine(sound)
    facts = {
        "seconds": round(found.seconds, 3),
        "rate": sound.rate,
        "channels": sound.channels,
        "format": sound.format,
    }
    remark = _remark(found)
    note = f"{name}: {remark}" if remark else None
    return Content("audio", digest, sound, facts=facts, note=note, held=sound.held)


def _remark(found: Findings) -> str:
    """Says what is odd about a sound that can be embedded all the same; "" for nothing."""
    if found.silent:
        return "silence: no sample is above the last of 16 bits"
    if found.clipped > _CLIPPED:
        return f"clipped: {found.clipped:.2%} of the samples are in runs at full scale; record it at a lower level"
    return ""


def passages(content: Content, model: Any, cutting: Cutting) -> list[Piece]:
    """Cuts a sound into the windows that its model reads, with their times.

    Args:
        content: content of a sound.
        model: embedder of the passages.
        cutting: how it is cut; its `limit` is the model's window in seconds.

    Raises:
        ItemError: the model has no front end for sounds.
    """
    preparer = getattr(next(iter(model.encoder.part("audio").networks), None), "preparer", None)
    if not isinstance(preparer, SoundPreparer):
        raise ItemError(f"{model.name} has no network that reads sounds")
    sound: Sound = content.item
    if cutting.transcribe is None:
        spans = [(start, end, "") for start, end in windows(sound.seconds, preparer.processing)]
    else:
        spans = spoken(sound.seconds, cutting.transcribe(sound).segments, preparer.processing)
    return [
        Piece(start, end, None, text, part(sound, start, end) if len(spans) > 1 else sound)
        for start, end, text in spans
    ]


def spoken(
    seconds: float, segments: Sequence[Segment], processing: SoundProcessing
) -> list[tuple[float, float, str]]:
    """Cuts a sound into what is said, a passage for each segment, and the windows of what is between.

    Example: a sound of 30 s with the segments "Good morning." from 2.0 to 3.5 s and "Let us begin." from 4.0 to 6.0 s,
    and a model that reads 10 s: (0, 2), (2.0, 4.0, "Good morning."), (4.0, 6.0, "Let us begin."), (6, 16), (16, 26),
    (26, 30). A pause of less than a second is a part of the segment before it.

    Args:
        seconds: length of the sound.
        segments: what is said, in the order of time.
        processing: what the model reads of a sound.

    Returns:
        (start, end, text) of each passage, in seconds; without gaps.
    """
    least = max(_SHORTEST, processing.shortest / processing.rate)
    spans: list[tuple[float, float, str]] = []
    at = 0.0
    for segment in segments:
        start, text = max(at, min(segment.start, seconds - least)), segment.text.strip()
        if not text or start >= seconds:
            continue
        if start - at >= _PAUSE:
            spans += _silent(at, start, processing)
        else:
            start = _joined(spans, start, processing)
        at = min(max(segment.end, start + least), seconds)
        (_, first), *others = windows(at - start, processing)
        spans.append((start, start + first, text))
        spans += [(start + begin, start + end, "") for begin, end in others]
    if seconds - at >= _PAUSE or not spans:
        return spans + _silent(at, seconds, processing)
    _joined(spans, seconds, processing)
    return spans


def _silent(start: float, end: float, processing: SoundProcessing) -> list[tuple[float, float, str]]:
    """The windows of a part in which nothing is said."""
    return [(start + begin, start + stop, "") for begin, stop in windows(end - start, processing)]


def _joined(spans: list[tuple[float, float, str]], end: float, processing: SoundProcessing) -> float:
    """Extends the last passage over a short pause, if the model reads as much; returns where the next one begins."""
    if not spans:
        return 0.0
    start, _, text = spans[-1]
    if end - start <= processing.seconds:
        spans[-1] = (start, end, text)
    return end


def described(model: Any, vectors: Floats) -> list[str]:
    """Returns the names of what a model that was published with a classifier hears, the likeliest first.

    Args:
        model: embedder.
        vectors: (n, dim) vectors of passages.

    Returns:
        For each passage the names of the classes with a probability of at least `LIKELY`, or else the most probable
        one, separated by "; "; "" if the model has no classifier.
    """
    if not model.classes:
        return [""] * len(vectors)
    return [
        "; ".join([name for name, share in names if share >= LIKELY] or [names[0][0]])
        for names in model.describe(vectors, _MOST_NAMES)
    ]
