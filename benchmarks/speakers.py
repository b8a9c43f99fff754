"""Recordings of speakers for the benchmarks of voices: LibriSpeech test-other, and a cohort of other speakers.

Data: librispeech_other_sub in ../shared/data or OMNIVEC_TEST_DATA: 10 speakers with 10 utterances each, and 120 others
with 4 s each, 16 kHz, CC BY 4.0.
"""

from __future__ import annotations

import io
import sys
import zipfile
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray

import machine
from omnivec.types import Audio
from omnivec.vectors.diarization import Turns

RATE = 16_000
TURNS, SHORTEST, LONGEST = 24, 1.5, 6.0
"""Turns of a made conversation, and their seconds."""


@dataclass(frozen=True)
class Conversation:
    """A made conversation: its sound, and who speaks where."""

    sound: Audio
    truth: Turns


def utterances() -> dict[str, list[Audio]]:
    """The utterances of each of the ten speakers, in the order of their names."""
    return _read("flac.zip", "/")


def cohort() -> dict[str, list[Audio]]:
    """The recording of each of the 120 other speakers."""
    return _read("cohort.zip", "-")


def _read(name: str, separator: str) -> dict[str, list[Audio]]:
    path = machine.data("librispeech_other_sub", name)
    if path is None:
        sys.exit("librispeech_other_sub is not in the data folder; OMNIVEC_TEST_DATA names another place")
    found: dict[str, list[Audio]] = {}
    with zipfile.ZipFile(path) as archive:
        for member in sorted(one for one in archive.namelist() if one.endswith(".flac")):
            samples, rate = soundfile.read(io.BytesIO(archive.read(member)), dtype="float32")
            found.setdefault(member.split(separator)[0], []).append(Audio(samples, rate))
    return found


def conversation(voices: dict[str, list[Audio]], count: int, seed: int) -> Conversation:
    """24 turns of 1.5 to 6 s by `count` speakers, without overlap or pauses; nobody has two turns in a row."""
    generator = np.random.default_rng([seed, count])
    chosen = generator.choice(sorted(voices), count, replace=False)
    pieces: list[NDArray[np.float32]] = []
    who: list[int] = []
    for _ in range(TURNS):
        speaker = int(generator.choice([one for one in range(count) if [one] != who[-1:]]))
        own = voices[str(chosen[speaker])]
        samples = own[generator.integers(len(own))].samples
        length = round(generator.uniform(SHORTEST, LONGEST) * RATE)
        start = generator.integers(max(len(samples) - length, 0) + 1)
        pieces.append(samples[start : start + length])
        who.append(speaker)
    return _joined(pieces, who)


def short_conversation(voices: dict[str, list[Audio]], count: int, seed: int) -> Conversation:
    """Two turns of 2 s by each of `count` speakers, the halves of 4 s of each: what a cohort allows."""
    generator = np.random.default_rng([seed, count, 2])
    long_enough = sorted(name for name, own in voices.items() if len(own[0].samples) >= 4 * RATE)
    chosen = [str(name) for name in generator.choice(long_enough, count, replace=False)]
    pieces, who = [], []
    for half in range(2):
        for speaker in generator.permutation(count).tolist():
            pieces.append(voices[chosen[speaker]][0].samples[2 * half * RATE : 2 * (half + 1) * RATE])
            who.append(speaker)
    return _joined(pieces, who)


def within(turns: Turns, spans: NDArray[np.float64]) -> Turns:
    """The parts of turns that lie in spans of speech."""
    found = [
        (max(start, begin), min(end, until), speaker)
        for (start, end), speaker in zip(turns.spans.tolist(), turns.speakers.tolist(), strict=True)
        for begin, until in spans.tolist()
        if max(start, begin) < min(end, until)
    ]
    return Turns(np.array([row[:2] for row in found]), np.array([row[2] for row in found], np.int64))


def _joined(pieces: list[NDArray[np.float32]], who: list[int]) -> Conversation:
    ends = np.cumsum([len(piece) for piece in pieces]) / RATE
    spans = np.stack([np.concatenate([[0.0], ends[:-1]]), ends], axis=1)
    return Conversation(Audio(np.concatenate(pieces), RATE), Turns(spans, np.array(who, np.int64)))
