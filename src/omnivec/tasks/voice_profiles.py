"""The file of enrolled voices: the vectors of each speaker's recordings, and the cohort, in one safetensors file.

The tensors are `voice.0`, `voice.1`, ... (recordings, dim) float32 and, if there is a cohort, `cohort` (lengths,
recordings, dim). The metadata entry "omnivec" is a JSON object with the version of the format, the identity of what
made the vectors, and for each voice its name, the seconds of speech and the names of its recordings.

A change is made under a lock: the file is read again, changed, and replaced atomically.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from omnivec import weights
from omnivec.errors import IdentityError, OmnivecError, UsageError
from omnivec.files import locked, written
from omnivec.types import Floats
from omnivec.validation.arguments import quoted
from omnivec.validation.reasons import of_system
from omnivec.weights.safetensors import read_safetensors

FORMAT, VERSION = "omnivec voices", 1

LONGEST_NAME = 200

_SAME = 1e-5
"""Largest 1 - cosine of two vectors that are of the same recording."""


@dataclass(frozen=True, eq=False)
class Voice:
    """An enrolled speaker.

    Attributes:
        name: of the speaker.
        vectors: (n, dim) float32 of length 1, one for each recording.
        seconds: (n,) speech in each recording.
        sources: (n,) name of each recording.
    """

    name: str
    vectors: Floats
    seconds: tuple[float, ...]
    sources: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Voice {self.name!r}: {len(self.sources)} recordings, {sum(self.seconds):.1f} s of speech>"

    @property
    def vector(self) -> Floats:
        """(dim,) mean of the vectors, of length 1."""
        mean = self.vectors.mean(axis=0, dtype=np.float64)
        unit: Floats = (mean / np.linalg.norm(mean)).astype(np.float32)
        return unit

    def without_repetitions(self) -> Voice:
        """This voice with only the last of those recordings whose vectors are the same."""
        same = np.triu(self.vectors @ self.vectors.T >= 1 - _SAME, 1).any(axis=1)
        kept = np.flatnonzero(~same).tolist()
        return replace(
            self,
            vectors=self.vectors[kept],
            seconds=tuple(self.seconds[i] for i in kept),
            sources=tuple(self.sources[i] for i in kept),
        )


@dataclass(frozen=True, eq=False)
class CohortVectors:
    """Recordings of other speakers, which scores are compared with.

    Attributes:
        lengths: (l,) seconds of speech to which the recordings were cut, ascending; the last one is infinite.
        vectors: (l, n, dim) float32 of length 1.
        seconds: (n,) speech in each recording.
        speakers: (n,) name of the speaker of each recording.
    """

    lengths: tuple[float, ...]
    vectors: Floats
    seconds: tuple[float, ...]
    speakers: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<CohortVectors: {len(self.seconds):,} recordings of {self.count:,} speakers>"

    @property
    def count(self) -> int:
        """Number of speakers."""
        return len(set(self.speakers))


@dataclass(frozen=True, eq=False)
class Profiles:
    """The content of a file of voices.

    Attributes:
        identity: identity of the model, and of what finds the speech.
        model: name of the model.
        voices: maps names to voices, in the order of their enrolment.
        cohort: the cohort; None if there is none.
    """

    identity: Mapping[str, Any]
    model: str
    voices: Mapping[str, Voice] = field(default_factory=dict)
    cohort: CohortVectors | None = None

    def __repr__(self) -> str:
        return f"<Profiles: {len(self.voices)} voices by {self.model!r}>"

    def with_voice(self, voice: Voice) -> Profiles:
        """These profiles and one more voice, or more recordings of one of them.

        A recording whose vector is there already replaces it, so that none counts twice.
        """
        known, voice = self.voices.get(voice.name), voice.without_repetitions()
        if known is not None:
            nearest = (known.vectors @ voice.vectors.T).max(axis=1)
            kept = np.flatnonzero(nearest < 1 - _SAME).tolist()
            voice = Voice(
                voice.name,
                np.concatenate([known.vectors[kept], voice.vectors]),
                (*(known.seconds[i] for i in kept), *voice.seconds),
                (*(known.sources[i] for i in kept), *voice.sources),
            )
        return replace(self, voices={**self.voices, voice.name: voice})

    def without(self, name: str) -> Profiles:
        """These profiles without a voice; UsageError if there is none of this name."""
        self.named(name)
        return replace(self, voices={key: voice for key, voice in self.voices.items() if key != name})

    def named(self, name: str) -> Voice:
        """The voice of this name; UsageError with the names if there is none."""
        if name not in self.voices:
            known = ", ".join(sorted(self.voices)[:10]) or "none yet"
            more = f" and {len(self.voices) - 10:,} more" if len(self.voices) > 10 else ""
            raise UsageError(f"no voice {quoted(name)} is enrolled; enrolled: {known}{more}")
        return self.voices[name]


def read_profiles(path: Path) -> Profiles | None:
    """Reads a file of voices; None if it does not exist.

    Raises:
        OmnivecError: the file is damaged, of a later version, or no file of voices.
    """
    if not path.exists():
        return None
    stored = read_safetensors(path)
    try:
        record = json.loads(stored.metadata.get("omnivec", "null"))
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise OmnivecError(f"{path} is not a file of voices: name another with --profiles, or move it away")
    if record.get("version") != VERSION:
        raise OmnivecError(
            f"{path} has version {record.get('version')} of the format, and this omnivec reads version {VERSION}: "
            "use the omnivec that wrote it, or a later one"
        )
    # Copies: the file is replaced by the next writer while this process may still use them.
    arrays = {name: np.array(tensor.float32()) for name, tensor in stored.items()}
    try:
        return _profiles(record, arrays)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise OmnivecError(
            f"{path} is damaged: its header and its {len(arrays)} tensors do not fit together; restore a copy, or "
            "enroll again in another file"
        ) from error


def _profiles(record: Mapping[str, Any], arrays: Mapping[str, Floats]) -> Profiles:
    """The content of a file; KeyError, TypeError, ValueError or AttributeError if it does not fit together."""
    voices = {}
    for i, row in enumerate(record["voices"]):
        voice = Voice(
            str(row["name"]),
            arrays[f"voice.{i}"],
            tuple(float(one) for one in row["seconds"]),
            tuple(str(one) for one in row["sources"]),
        )
        if voice.vectors.ndim != 2 or not len(voice.vectors) == len(voice.seconds) == len(voice.sources) > 0:
            raise ValueError(voice.name)
        if voice.name in voices:
            raise ValueError(f"{voice.name} twice")
        voices[voice.name] = voice
    cohort = None
    if (row := record["cohort"]) is not None:
        lengths = (*(float(one) for one in row["lengths"]), float("inf"))
        cohort = CohortVectors(
            lengths, arrays["cohort"], tuple(map(float, row["seconds"])), tuple(map(str, row["speakers"]))
        )
        if cohort.vectors.ndim != 3 or cohort.vectors.shape[:2] != (len(lengths), len(cohort.seconds)):
            raise ValueError("cohort")
        if len(cohort.speakers) != len(cohort.seconds) or not all(one > 0 for one in lengths):
            raise ValueError("cohort")
    found = Profiles(_identity(record["identity"]), str(record["model"]), voices, cohort)
    _check_values(found)
    return found


def _identity(recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    model, speech = recorded["model"], recorded["speech"]
    if not isinstance(model, dict) or not isinstance(model.get("weights", {}), dict):
        raise TypeError("identity of the model")
    if not isinstance(speech, dict | None):
        raise TypeError("identity of the detector of speech")
    return dict(recorded)


def _check_values(profiles: Profiles) -> None:
    """ValueError if vectors have no direction or not the size of the others and the model, or seconds are no length."""
    parts: list[Voice | CohortVectors] = [*profiles.voices.values()]
    if profiles.cohort is not None:
        parts.append(profiles.cohort)
    sizes = {part.vectors.shape[-1] for part in parts}
    dim = profiles.identity["model"].get("dim")
    if len(sizes) > 1 or (dim is not None and sizes - {dim}):
        raise ValueError("vectors of another size")
    for part in parts:
        norms = np.linalg.norm(part.vectors, axis=-1)
        if not (np.isfinite(norms) & (norms > 0)).all():
            raise ValueError("vectors without a direction")
        if not all(0 < one < float("inf") for one in part.seconds):
            raise ValueError("seconds")


def write_profiles(path: Path, profiles: Profiles) -> None:
    """Writes a file of voices atomically.

    Raises:
        OmnivecError: the file cannot be written.
    """
    from safetensors.numpy import save

    cohort = profiles.cohort
    record = {
        "format": FORMAT,
        "version": VERSION,
        "model": profiles.model,
        "identity": dict(profiles.identity),
        "voices": [
            {"name": voice.name, "seconds": voice.seconds, "sources": voice.sources}
            for voice in profiles.voices.values()
        ],
        "cohort": cohort
        and {"lengths": cohort.lengths[:-1], "seconds": cohort.seconds, "speakers": cohort.speakers},
    }
    arrays = {f"voice.{i}": voice.vectors for i, voice in enumerate(profiles.voices.values())}
    if cohort is not None:
        arrays["cohort"] = cohort.vectors
    content = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
    with written(path) as scratch:
        scratch.write_bytes(save(content, {"omnivec": json.dumps(record, ensure_ascii=False)}))


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Holds the lock of a file of voices, a hidden file beside it, so that no change of another process is lost.

    A link and its target have the same lock.

    Raises:
        OmnivecError: the lock cannot be made.
    """
    target = Path(os.path.realpath(path))
    try:
        with locked(target.with_name(f".{target.name}.lock"), create=True):
            yield
    except OSError as error:
        raise OmnivecError(f"{path} cannot be locked: {of_system(error)}") from error


def check_identity(path: Path, recorded: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raises IdentityError, with both identities, if the voices of a file were made by something else."""
    before, now = dict(recorded["model"]), dict(current["model"])
    different = [key for key in sorted({*before, *now} - {"weights"}) if before.get(key) != now.get(key)]
    if not weights.same_weights(before.get("weights", {}), now.get("weights", {})):
        different.insert(0, "weights")
    if recorded["speech"] != current["speech"]:
        different.append("speech detection")
    if different:
        verb = "differs" if len(different) == 1 and different != ["weights"] else "differ"
        raise IdentityError(
            f"{path}: its voices were enrolled in another way: {', '.join(different)} {verb}. "
            f"Recorded: {_described(recorded)}. Current: {_described(current)}. Use what enrolled them, or name "
            "another file with --profiles and enroll there"
        )


def _described(identity: Mapping[str, Any]) -> str:
    from omnivec.collection.identity import describe

    speech = identity["speech"]
    if speech is None:
        return f"{describe(identity['model'])}, whole recordings"
    settings = ", ".join(f"{key} {value}" for key, value in speech.items() if isinstance(value, int | float))
    found = f"speech by {speech.get('detector', 'a detector')}{f' ({settings})' if settings else ''}"
    return f"{describe(identity['model'])}, {found}"


def checked_name(name: Any) -> str:
    """The name of a voice without blanks around it; UsageError if it cannot be one."""
    stripped = name.strip() if isinstance(name, str) else ""
    if not stripped or len(stripped) > LONGEST_NAME or not stripped.isprintable():
        raise UsageError(
            f"name {quoted(name)}: give 1 to {LONGEST_NAME} printable characters, such as 'Anna Berg'"
        )
    return stripped
