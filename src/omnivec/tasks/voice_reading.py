"""Reads recordings for voice tasks: decodes them, leaves out silence, and embeds the speech."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ItemError, UsageError
from omnivec.inputs.audio import MODALITY as SOUND
from omnivec.inputs.audio.sound import read_sound, samples
from omnivec.progress import bar
from omnivec.types import Audio, Encoded, Floats, Ints
from omnivec.validation.reasons import of_item
from omnivec.vectors.unit import unit

Doubles = NDArray[np.float64]

RATE = 16_000
"""Sampling rate in Hz at which recordings are read."""

LEAST = 0.4
"""Smallest number of seconds of speech that a recording must have."""

_WINDOWS = 1024
"""Number of windows that are embedded at a time."""


class VoiceModel(Protocol):
    """What voice tasks need of an embedder."""

    @property
    def name(self) -> str:
        """Name of the model."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Identity of the model; see `Embedder.identity`."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that it reads."""

    def run(self, items: Any, /) -> Encoded:
        """Embeds items; see `Embedder.run`."""


class SpeechDetector(Protocol):
    """A function that finds speech."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What determines its result: a name under "detector", and its settings."""

    def __call__(self, samples: Floats) -> Doubles:
        """Samples (n,) at `RATE` -> spans (m, 2) of speech in seconds, ascending and without overlap."""


@dataclass(frozen=True, eq=False)
class Speech:
    """A recording and where someone speaks in it.

    Attributes:
        name: of the recording.
        samples: (n,) float32 at `RATE`.
        spans: (m, 2) float64, speech in seconds.
    """

    name: str
    samples: Floats
    spans: Doubles

    def __repr__(self) -> str:
        return f"<Speech {self.name!r}: {self.seconds:.1f} of {self.length:.1f} s>"

    @property
    def length(self) -> float:
        """Seconds of the whole recording."""
        return len(self.samples) / RATE

    @property
    def seconds(self) -> float:
        """Seconds of speech."""
        return float((self.spans[:, 1] - self.spans[:, 0]).sum())

    def cut(self, start: float, end: float) -> Audio:
        """The sound from `start` to `end`, in seconds."""
        return Audio(self.samples[round(start * RATE) : round(end * RATE)], RATE)

    def spoken(self, most: float = math.inf) -> Audio:
        """The speech alone, its first so many seconds."""
        pieces = [self.cut(start, end).samples for start, end in self.spans.tolist()]
        joined = np.concatenate(pieces) if len(pieces) != 1 else pieces[0]
        return Audio(joined[: len(joined) if math.isinf(most) else round(most * RATE)], RATE)


@dataclass(frozen=True, eq=False)
class Readings:
    """The vectors of n recordings, m of which could be embedded.

    Attributes:
        vectors: (l, m, dim) float32 of length 1, for each of l lengths to which the speech was cut.
        seconds: (m,) seconds of speech.
        kept: (m,) index of the recording of each.
        failures: maps the index of each recording without a vector to the reason, one line.
    """

    vectors: Floats
    seconds: Doubles
    kept: Ints
    failures: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class VoiceReader:
    """Embeds the speech of recordings.

    Attributes:
        model: embeds voices.
        detector: finds speech; None to take recordings whole.
    """

    model: VoiceModel
    detector: SpeechDetector | None

    def __post_init__(self) -> None:
        if SOUND.name not in self.model.modalities:
            raise UsageError(
                f"{self.model.name} reads {' and '.join(self.model.modalities)}, not {SOUND.plural}: use a model of "
                "voices, such as dvector"
            )

    @property
    def identity(self) -> dict[str, Any]:
        """What determines a vector: the identities of the model and of the detector, in JSON types."""
        from omnivec.collection.identity import json_of

        speech = None if self.detector is None else json_of(self.detector.identity)
        return {"model": json_of(self.model.identity), "speech": speech}

    def read(self, item: Any, least: float = LEAST) -> Speech:
        """Decodes a recording and finds its speech.

        Args:
            item: a pathlib.Path, the bytes of a file, or an Audio.
            least: smallest number of seconds of speech.

        Raises:
            ItemError: it cannot be read, or has too little speech.
        """
        sound = read_sound(item)
        decoded = samples(sound, RATE)
        whole = np.array([[0.0, len(decoded) / RATE]])
        speech = Speech(sound.name, decoded, whole if self.detector is None else self.detector(decoded))
        if speech.seconds < least:
            found = f"{speech.seconds:.2f} s long"
            if self.detector is not None:
                found = f"{speech.seconds:.2f} s of speech in {speech.length:.2f} s"
            raise ItemError(f"{sound.name}: {found}, and at least {least:g} s are needed")
        return speech

    def embed(self, items: Iterable[Any], lengths: Sequence[float] = (math.inf,)) -> Readings:
        """Embeds recordings, the speech of each cut to several lengths.

        Args:
            items: recordings, as for `read`.
            lengths: seconds of speech, infinite for all of it. Less speech is not made longer.
        """
        listed = list(items)
        rows: list[Floats] = []
        seconds, kept, failures = [], [], {}
        with bar("reading voices", len(listed), "recordings") as progress:
            for i, item in enumerate(listed):
                try:
                    speech = self.read(item)
                    rows.append(self._vectors([speech.spoken(length) for length in lengths], speech.name))
                    seconds.append(speech.seconds)
                    kept.append(i)
                except BaseException as error:
                    failures[i] = of_item(error)
                progress.advance(1)
        vectors = np.stack(rows, axis=1) if rows else np.zeros((len(lengths), 0, 0), np.float32)
        return Readings(vectors, np.array(seconds), np.array(kept, np.int64), failures)

    def embed_one(self, item: Any) -> tuple[Floats, float]:
        """Embeds one recording: its vector (dim,) of length 1, and its seconds of speech.

        Raises:
            ItemError: it cannot be read or embedded, or has too little speech.
        """
        readings = self.embed([item])
        if readings.failures:
            raise ItemError(readings.failures[0])
        return readings.vectors[0, 0], float(readings.seconds[0])

    def windows(self, speech: Speech, spans: Doubles) -> tuple[Floats, Doubles]:
        """Embeds windows (n, 2) of a recording: the vectors (m, dim) and spans of those that the model can embed."""
        found, kept = [], []
        with bar("embedding", len(spans), "windows") as progress:
            for start in range(0, len(spans), _WINDOWS):
                some = spans[start : start + _WINDOWS]
                encoded = self.model.run([speech.cut(*span) for span in some.tolist()])
                if len(encoded):
                    found.append(unit(encoded.vectors))
                    kept.append(some[encoded.kept])
                progress.advance(len(some))
        if not found:
            raise ItemError(f"{speech.name}: none of its {len(spans)} windows could be embedded")
        return np.concatenate(found), np.concatenate(kept)

    def _vectors(self, sounds: Sequence[Audio], name: str) -> Floats:
        """Vectors (n, dim) of length 1 of all the sounds; ItemError if one of them fails."""
        encoded = self.model.run(list(sounds))
        if encoded.failures:
            raise ItemError(f"{name}: {next(iter(encoded.failures.values()))}")
        if not np.isfinite(encoded.vectors).all() or not encoded.vectors.any(axis=1).all():
            raise ItemError(f"{name}: its vector has no direction: it may be silent")
        return unit(encoded.vectors)


def speech_detector() -> SpeechDetector:
    """The default detector of speech, Silero VAD.

    Raises:
        ModelNotFound: its weights are neither on this disk nor can be downloaded.
    """
    from omnivec.tasks.speech import SpeechFinder

    return SpeechFinder()
