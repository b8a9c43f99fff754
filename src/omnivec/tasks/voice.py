"""Voices: enrolls speakers, and says whose voice a recording is.

Enrolled voices live in one file (`voice_profiles`), with the identity of what made their vectors: another model, or
other silence removal, is refused. What a decision rests on is part of it (`voice_decision`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from omnivec.errors import ItemErrors, UsageError
from omnivec.files import check_target
from omnivec.inputs.items import several, shown
from omnivec.tasks.voice_decision import Evidence, Verdict
from omnivec.tasks.voice_figures import figures_of
from omnivec.tasks.voice_profiles import (
    CohortVectors,
    Profiles,
    Voice,
    changing,
    check_identity,
    checked_name,
    read_profiles,
    write_profiles,
)
from omnivec.tasks.voice_reading import (
    Doubles,
    Readings,
    SpeechDetector,
    VoiceModel,
    VoiceReader,
    speech_detector,
)
from omnivec.types import Ints
from omnivec.validation.arguments import path as checked_path
from omnivec.validation.arguments import real, whole
from omnivec.vectors.agglomerative import average_link

DEFAULT_MODEL = "dvector"

LENGTHS = (1.0, 2.0, 4.0)
"""Seconds of speech to which the recordings of a cohort are also cut, as thresholds depend on the length."""


@dataclass(frozen=True, eq=False)
class Enrolled:
    """The result of `Voices.enroll`.

    Attributes:
        voice: the voice with all its recordings.
        failures: maps the index of each recording that was not enrolled to the reason, one line.
    """

    voice: Voice
    failures: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class ClusteredVoices:
    """The result of `cluster_voices` for n recordings, m of which could be read.

    Attributes:
        labels: (m,) int64, the speaker of each recording, numbered from 0.
        kept: (m,) int64, the index of the recording of each label.
        seconds: (m,) seconds of speech.
        failures: maps the index of each recording without a label to the reason, one line.
        basis: how the number of speakers was found, one line.
    """

    labels: Ints
    kept: Ints
    seconds: Doubles
    failures: Mapping[int, str]
    basis: str

    def __repr__(self) -> str:
        return f"<ClusteredVoices: {len(self.kept):,} recordings of {len(np.unique(self.labels)):,} speakers>"


class Voices:
    """The enrolled voices of a file.

    Examples:
        >>> voices = omnivec.Voices("voices.safetensors")
        >>> voices.enroll("anna", [Path("anna1.wav"), Path("anna2.wav")])
        >>> voices.verify("anna", Path("call.wav")).same
        True

    Args:
        file: path of the file; it is made by the first enrolment.
        model: a name for `omnivec.load`, or an embedder of sounds; by default the model that enrolled the voices of the
            file, or `DEFAULT_MODEL`.
        vad: whether silence is left out (voice activity detection), or a function that finds speech; by default as for
            the voices of the file, and True for a new one.
    """

    def __init__(
        self,
        file: str | Path,
        model: str | VoiceModel | None = None,
        *,
        vad: bool | SpeechDetector | None = None,
    ) -> None:
        self.file = checked_path("file", file)
        self._model, self._vad = model, vad

    def __repr__(self) -> str:
        return f"<Voices {str(self.file)!r}>"

    @property
    def profiles(self) -> Profiles | None:
        """What the file holds now; None if it does not exist."""
        return read_profiles(self.file)

    @cached_property
    def reader(self) -> VoiceReader:
        """Embeds recordings; the model is loaded when it is first needed.

        Raises:
            IdentityError: the voices of the file were made by another model.
        """
        stored, model, vad = self.profiles, self._model, self._vad
        if stored is not None:
            model = stored.model if model is None else model
            vad = stored.identity["speech"] is not None if vad is None else vad
        reader = new_reader(model, vad)
        if stored is not None:
            check_identity(self.file, stored.identity, reader.identity)
        return reader

    def evidence(self, rate: float = 0.01, normalize: bool | None = None) -> Evidence:
        """What decisions rest on; arguments as for `verify`.

        Raises:
            UsageError: the file does not exist.
        """
        share = real("rate", rate)
        if not 0 < share < 1:
            raise UsageError(f"rate={rate}: between 0 and 1, both excluded")
        return Evidence(self._existing(), share, normalize)

    def enroll(self, name: str, recordings: Any) -> Enrolled:
        """Adds recordings of a speaker, who may be enrolled already.

        A recording that was enrolled before counts once. The file is replaced as a whole once all recordings are read.

        Args:
            name: of the speaker.
            recordings: a pathlib.Path, an Audio or the bytes of a file, or several of these. Together they should have
                ten seconds of speech or more.

        Raises:
            ItemErrors: no recording could be read.
            IdentityError: the voices of the file were made by another model.
        """
        checked, listed = checked_name(name), list(several(recordings, "recordings"))
        if not listed:
            raise UsageError(f"no recordings of {checked!r}: give at least one")
        check_target(self.file)
        readings = self.reader.embed(listed)
        _refuse_none(readings)
        voice = Voice(
            checked,
            readings.vectors[0],
            tuple(readings.seconds.tolist()),
            tuple(_source(listed[i]) for i in readings.kept.tolist()),
        )
        changed = self._change(lambda profiles: profiles.with_voice(voice))
        return Enrolled(changed.voices[checked], readings.failures)

    def remove(self, name: str) -> Voice:
        """Removes a voice with all its recordings from the file; returns it.

        Raises:
            UsageError: there is no voice of this name.
        """
        checked = checked_name(name)
        removed = self._existing().named(checked)
        self._change(lambda profiles: profiles.without(checked))
        return removed

    def verify(
        self, name: str, recording: Any, *, rate: float = 0.01, normalize: bool | None = None
    ) -> Verdict:
        """Says whether a recording is of an enrolled speaker.

        Args:
            name: of the enrolled speaker.
            recording: a pathlib.Path, an Audio or the bytes of a file.
            rate: largest share of false accepts, if there is a cohort to find a threshold with.
            normalize: whether to normalise scores by the cohort; by default if it has 200 speakers.

        Raises:
            UsageError: there is no voice of this name.
            ItemError: the recording cannot be read, or has too little speech.
        """
        evidence = self.evidence(rate, normalize)
        voice = evidence.profiles.named(checked_name(name))
        vector, seconds = self.reader.embed_one(recording)
        return evidence.verdict(voice, vector, seconds)

    def identify(self, recording: Any, *, rate: float = 0.01, normalize: bool | None = None) -> list[Verdict]:
        """Compares a recording with all enrolled voices; arguments and exceptions as for `verify`.

        Returns:
            A verdict for each voice, the highest score first. With n voices, up to n times as many recordings of
            strangers are accepted as one verdict states.
        """
        evidence = self.evidence(rate, normalize)
        voices = evidence.profiles.voices
        if not voices:
            raise UsageError(f"{self.file} has no voices: enroll some first")
        vector, seconds = self.reader.embed_one(recording)
        verdicts = [evidence.verdict(voice, vector, seconds) for voice in voices.values()]
        return sorted(verdicts, key=lambda verdict: -verdict.score)

    def set_cohort(self, recordings: Any, speakers: Sequence[str]) -> tuple[CohortVectors, Mapping[int, str]]:
        """Stores recordings of other speakers, from which thresholds follow; they replace an earlier cohort.

        They should be like the recordings that are compared: language, microphone, length. A rate of false accepts of
        1 % needs 300 pairs of speakers, so at least 25 speakers.

        Args:
            recordings: as for `enroll`.
            speakers: the speaker of each.

        Returns:
            The cohort, and for each recording that could not be read its index and the reason.

        Raises:
            ItemErrors: no recording could be read.
            UsageError: not one speaker for each recording, or fewer than two.
        """
        listed = list(several(recordings, "recordings"))
        if len(speakers) != len(listed) or len(set(speakers)) < 2:
            raise UsageError(
                f"{len(listed)} recordings of {len(set(speakers))} speakers: a cohort needs two speakers or more, and "
                "one name for each recording"
            )
        check_target(self.file)
        readings = self.reader.embed(listed, (*LENGTHS, math.inf))
        _refuse_none(readings)
        cohort = CohortVectors(
            (*LENGTHS, math.inf),
            readings.vectors,
            tuple(readings.seconds.tolist()),
            tuple(speakers[i] for i in readings.kept.tolist()),
        )
        self._change(lambda profiles: replace(profiles, cohort=cohort))
        return cohort, readings.failures

    def _existing(self) -> Profiles:
        profiles = self.profiles
        if profiles is None:
            raise UsageError(f"{self.file} does not exist: enroll a voice first, or name another file")
        return profiles

    def _change(self, change: Any) -> Profiles:
        """Applies a function to the profiles of the file, and writes them; under its lock."""
        with changing(self.file):
            stored = self.profiles
            if stored is None:
                stored = Profiles(self.reader.identity, self.reader.model.name)
            elif "reader" in vars(self):
                check_identity(self.file, stored.identity, self.reader.identity)
            changed: Profiles = change(stored)
            write_profiles(self.file, changed)
        return changed


def new_reader(
    model: str | VoiceModel | None = None, vad: bool | SpeechDetector | None = None
) -> VoiceReader:
    """Makes what embeds recordings.

    Args:
        model: a name for `omnivec.load`, or an embedder of sounds; `DEFAULT_MODEL` by default.
        vad: whether silence is left out, or a function that finds speech; True by default.
    """
    if model is None or isinstance(model, str):
        from omnivec.models.loading import load

        model = load(model or DEFAULT_MODEL)
    if vad is None or isinstance(vad, bool):
        return VoiceReader(model, None if vad is False else speech_detector())
    return VoiceReader(model, vad)


def cluster_voices(
    recordings: Any,
    model: str | VoiceModel | None = None,
    *,
    speakers: int | None = None,
    threshold: float | None = None,
    vad: bool | SpeechDetector | None = None,
) -> ClusteredVoices:
    """Groups recordings by their speakers.

    Args:
        recordings: as for `Voices.enroll`; each is of one speaker.
        model: a name for `omnivec.load`, or an embedder of voices; "dvector" by default.
        speakers: number of speakers, if it is known.
        threshold: if it is not: mean cosine between two groups from which on they are of one speaker. By default what
            was measured for the model and the median length of the recordings.
        vad: whether silence is left out (voice activity detection), or a function that finds speech; True by default.

    Raises:
        ItemErrors: no recording could be read.
        UsageError: both `speakers` and `threshold`; or neither, and nothing was measured for this model.
    """
    if speakers is not None and threshold is not None:
        raise UsageError("give the number of speakers or a threshold, and not both")
    reader = new_reader(model, vad)
    readings = reader.embed(list(several(recordings, "recordings")))
    _refuse_none(readings)
    if speakers is not None:
        count, distance = min(whole("speakers", speakers), len(readings.kept)), None
        basis = "the number of speakers was given"
    else:
        if threshold is None:
            threshold, basis = _measured(reader, float(np.median(readings.seconds)))
        else:
            basis = f"groups were merged down to a cosine of {threshold:g}, as given"
        count, distance = None, 1 - real("threshold", threshold, -1, 1)
    labels = average_link(readings.vectors[0]).cut(count, distance)
    return ClusteredVoices(labels, readings.kept, readings.seconds, readings.failures, basis)


def _measured(reader: VoiceReader, seconds: float) -> tuple[float, str]:
    figures = figures_of(reader.identity)
    point = None if figures is None else figures.at(seconds, seconds)
    if figures is None or point is None:
        raise UsageError(
            f"nothing was measured for {reader.model.name} and {seconds:.1f} s of speech that tells two speakers from "
            "one: give the number of speakers, or a threshold"
        )
    return point[
        0
    ], f"groups were merged down to a cosine of {point[0]:.3f}, for {seconds:.1f} s: {figures.source}"


def _refuse_none(readings: Readings) -> None:
    if not len(readings.kept):
        raise ItemErrors(dict(readings.failures), readings)


def _source(item: Any) -> str:
    return str(item) if isinstance(item, Path) else shown(item)
