"""Diarization of recordings: who speaks where, without overlap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from omnivec.errors import ItemError, UsageError
from omnivec.tasks.voice import Voices, new_reader
from omnivec.tasks.voice_decision import Evidence, Verdict
from omnivec.tasks.voice_figures import figures_of
from omnivec.tasks.voice_reading import LEAST, Doubles, Speech, SpeechDetector, VoiceModel, VoiceReader
from omnivec.validation.arguments import whole
from omnivec.vectors.diarization import Turns, speaker_turns, windows

PAUSE = 0.5
"""Pauses in speech that are shorter, in seconds, belong to the turn that they are in."""

_HEARD = 60.0
"""Most seconds of a speaker's turns that are compared with enrolled voices."""


@dataclass(frozen=True, eq=False)
class Conversation:
    """The turns of a recording; made by `diarize`.

    Attributes:
        turns: who speaks where.
        speech: seconds of speech.
        seconds: length of the recording.
        basis: how the number of speakers was found, one line.
        names: maps the speakers that were recognised as enrolled voices to the verdicts on them.
    """

    turns: Turns
    speech: float
    seconds: float
    basis: str
    names: Mapping[int, Verdict] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Conversation: {self.turns.count} speakers, {self.speech:,.1f} of {self.seconds:,.1f} s are speech>"

    def label(self, speaker: int) -> str:
        """The name of a speaker who was recognised, else "speaker 1" for the first one, and so on."""
        return self.names[speaker].name if speaker in self.names else f"speaker {speaker + 1}"


def diarize(
    recording: Any,
    model: str | VoiceModel | None = None,
    *,
    speakers: int | None = None,
    threshold: float | None = None,
    vad: bool | SpeechDetector | None = None,
    voices: Voices | None = None,
) -> Conversation:
    """Finds who speaks where in a recording. Where two speak at once, one of them is found.

    An hour of sound takes 230 MB of memory.

    Args:
        recording: a pathlib.Path, an Audio or the bytes of a file.
        model: a name for `omnivec.load`, or an embedder of voices; "dvector" by default.
        speakers: number of speakers, if it is known; the result is better for it.
        threshold: if it is not: mean cosine from which on two clusters are of one speaker. By default what was measured
            for the model.
        vad: whether silence is left out (voice activity detection), or a function that finds speech; True by default.
            If False, silence is given to the nearest speaker.
        voices: enrolled voices, by whose names the speakers are called who are recognised; model and detector of speech
            are theirs.

    Raises:
        UsageError: both `speakers` and `threshold`; or neither, and nothing was measured for this model; or `voices`
            beside a model or `vad`.
        ItemError: the recording cannot be read, or has too little speech.

    Examples:
        >>> found = omnivec.diarize(Path("meeting.wav"), speakers=3)
        >>> found.turns.spans, found.turns.speakers
        (array([[ 0.  ,  4.1 ], [ 4.1 , 10.73], ...]), array([0, 1, ...]))
    """
    if voices is not None and (model is not None or vad is not None):
        raise UsageError("voices are compared by their own model: leave model and vad out")
    count = None if speakers is None else whole("speakers", speakers, 1)
    if count is not None and threshold is not None:
        raise UsageError("give the number of speakers or a threshold, and not both")
    reader = new_reader(model, vad) if voices is None else voices.reader
    limit, basis = _level(reader, count, threshold)
    speech = reader.read(recording)
    heard = joined(speech.spans)
    vectors, spans = reader.windows(speech, windows(heard, shortest=LEAST))
    turns = speaker_turns(vectors, spans, heard, count=count, threshold=limit)
    names = {} if voices is None else _recognised(reader, speech, turns, voices.evidence())
    return Conversation(turns, speech.seconds, speech.length, basis, names)


def joined(spans: Doubles, pause: float = PAUSE) -> Doubles:
    """Spans (n, 2) of speech in seconds, joined where the pause between two is shorter."""
    first = np.ones(len(spans), bool)
    first[1:] = spans[1:, 0] - spans[:-1, 1] >= pause
    last = np.append(first[1:], True)[: len(spans)]
    return np.stack([spans[first, 0], spans[last, 1]], axis=1)


def _level(reader: VoiceReader, count: int | None, threshold: float | None) -> tuple[float | None, str]:
    """The threshold of the clustering, None if the number is known, and how it was found."""
    if count is not None:
        return None, "the number of speakers was given"
    if threshold is not None:
        return threshold, f"clusters were merged down to a cosine of {threshold:g}, as given"
    figures = figures_of(reader.identity)
    if figures is None or figures.conversation is None:
        raise UsageError(
            f"nothing was measured for {reader.model.name} that tells two speakers from one: give the number of "
            "speakers, or a threshold"
        )
    return (
        figures.conversation,
        f"clusters were merged down to a cosine of {figures.conversation:g}: {figures.source}",
    )


def _recognised(
    reader: VoiceReader, speech: Speech, turns: Turns, evidence: Evidence
) -> Mapping[int, Verdict]:
    """The best verdict on each speaker that says it is an enrolled voice; each voice is given to one speaker."""
    found: list[tuple[int, Verdict]] = []
    for speaker in range(turns.count):
        own = replace(speech, spans=_first(turns.spans[turns.speakers == speaker]))
        encoded = reader.model.run([own.spoken()])
        if len(encoded):
            vector = encoded.vectors[0] / np.linalg.norm(encoded.vectors[0])
            verdicts = [
                evidence.verdict(voice, vector, own.seconds) for voice in evidence.profiles.voices.values()
            ]
            found += [(speaker, verdict) for verdict in verdicts if verdict.same]
    names: dict[int, Verdict] = {}
    for speaker, verdict in sorted(found, key=lambda pair: -pair[1].score):
        if speaker not in names and verdict.name not in {one.name for one in names.values()}:
            names[speaker] = verdict
    return names


def _first(spans: Any) -> Any:
    """The first spans, until they have `_HEARD` seconds together."""
    before = np.concatenate([[0.0], np.cumsum(spans[:, 1] - spans[:, 0])[:-1]])
    return spans[before < _HEARD]


def rttm(conversation: Conversation, name: str) -> list[str]:
    """The turns as lines of the Rich Transcription Time Marked format (RTTM) of NIST.

    Raises:
        ItemError: the name has blanks, which separate the fields.
    """
    if not name or any(letter.isspace() for letter in name):
        raise ItemError(f"{name!r}: the name of a recording in RTTM has no blanks")
    lines = []
    for (start, end), speaker in zip(
        conversation.turns.spans.tolist(), conversation.turns.speakers.tolist(), strict=True
    ):
        label = "_".join(conversation.label(speaker).split())
        lines.append(f"SPEAKER {name} 1 {start:.3f} {end - start:.3f} <NA> <NA> {label} <NA> <NA>")
    return lines
