"""The preparer of sounds: the `Path` of a file or its bytes, or `Audio(samples, rate)`.

Only the header of a sound is read at first; it is decoded just before it is embedded, to save memory. A sound longer
than the model reads is cut off, or read in windows whose vectors are averaged (`chunk="pool"`). A model whose front end
reads a long sound at once, such as CLAP with feature fusion, gets it whole up to `whole` seconds. Of a long recording,
each window is decoded when its batch is computed, so that hours of sound take the memory of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ItemError
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.inputs.audio.sound import Sound, part, read_sound, samples
from omnivec.inputs.preparer import PLAIN, ReadOptions
from omnivec.ops.base import Input, Ops, Value
from omnivec.ops.process import MemoryReservation
from omnivec.types import Floats, ModalityName, Prepared
from omnivec.validation import typed
from omnivec.validation.json_files import read_json
from omnivec.validation.reasons import of_item

UNIT = "seconds"

_BATCH = 60.0
"""Seconds of sound in a batch; more would gain no speed, and take more memory."""

_AT_ONCE = 4
"""Number of windows of one sound up to which all are decoded together."""


@dataclass(frozen=True)
class _Processors:
    """The keys of processor_config.json that are read."""

    feature_extractor: Mapping[str, Any] | None = None
    audio_processor: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class SoundPreparer:
    """Makes the input of one model from sounds; may be called from several threads.

    Attributes:
        processing: what the model reads of a sound.
        threads: number of sounds to decode at the same time.
        room: memory reservation for decoding.
    """

    processing: SoundProcessing
    threads: int = 1
    room: MemoryReservation = field(default_factory=MemoryReservation, repr=False)

    unit = UNIT
    is_counted = False
    modality: ModalityName = "audio"
    chunk = 32

    @property
    def limit(self) -> float:
        """Seconds of the longest sound of one vector; of a window, if longer sounds can be read whole."""
        return self.processing.seconds

    @property
    def largest(self) -> int:
        """Largest cost of a sound: the rows of the longest sound of one vector."""
        return self._rows(max(self.processing.longest, round(self.processing.whole * self.processing.rate)))

    @property
    def budget(self) -> int:
        """Largest cost of a batch: as many of the longest sounds of one vector as last a minute, but at least one.

        The rows of a sound of a minute would be too few: some front ends give the same number for every sound. With
        `SoundProcessing.batch` it is the cost of as many seconds; a longer sound is a batch of its own.
        """
        if self.processing.batch:
            return round(self.largest * self.processing.batch / self.processing.seconds)
        return self.largest * max(1, round(_BATCH / self.processing.seconds))

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that determines its arrays."""
        return {"preprocessing": self.processing.identity}

    @property
    def provenance(self) -> dict[str, str]:
        """Settings that may change the last digits of a vector: none."""
        return {}

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The arrays that `collate` makes: sound (n, t, *rows), lengths (n,), and mask (n, s) if there are states."""
        fixed, states = self.fixed, self.processing.states
        sound = Input("sound", np.float32, (None, fixed, *self.processing.features.rows))
        lengths = Input("lengths", np.int32, (None,))
        if states is None:
            return sound, lengths
        return sound, lengths, Input("mask", np.int32, (None, None if fixed is None else states(fixed)))

    @property
    def fixed(self) -> int | None:
        """The number of rows of every sound, padding included; None if it depends on the sound."""
        return self.largest if self._rows(self.processing.shortest) == self.largest else None

    def batch(self, ops: Ops, get: Callable[[str], Value]) -> SimpleNamespace:
        """Makes the input of a family's forward function; see `NetworkHooks.forward`."""
        mask = None if self.processing.states is None else get("mask")
        return SimpleNamespace(sound=get("sound"), lengths=get("lengths"), mask=mask)

    def decode(self, item: Any) -> Sound:
        """Reads the header of a sound; ItemError if it is not a sound, or cannot be read."""
        return read_sound(item)

    def size(self, decoded: Sound) -> int:
        """Estimates the cost of a sound, for sorting."""
        return self._rows(min(round(decoded.seconds * self.processing.rate), self.processing.longest))

    def key(self, decoded: Sound) -> Hashable:
        """Returns a key that is equal for the same file or bytes; None for samples in memory."""
        return decoded.key

    def prepare(
        self, decoded: Sequence[Sound], reading: ReadOptions = PLAIN
    ) -> list[tuple[Prepared, ...] | ItemError]:
        """Makes the rows of each sound, in one part, or in one for each window with `chunk="pool"`.

        Returns:
            The parts of each sound; an ItemError for one that is too short, too long with `truncate="error"`, or
            damaged.
        """

        def prepared(sound: Sound) -> tuple[Prepared, ...] | ItemError:
            try:
                return self._parts(sound, reading)
            except BaseException as error:
                return ItemError(of_item(error))

        if self.threads == 1 or len(decoded) < 2:
            return [prepared(sound) for sound in decoded]
        with ThreadPoolExecutor(min(self.threads, len(decoded))) as pool:
            return list(pool.map(prepared, decoded))

    def sample(self) -> dict[str, NDArray[Any]]:
        """Makes a batch of typical size, for measurements: noise of up to ten seconds, twice."""
        count = max(min(self.processing.longest, 10 * self.processing.rate), self.processing.shortest)
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, count).astype(np.float32)
        return self.collate([self._prepared(noise, 0.0)] * 2)

    def collate(self, rows: Sequence[Prepared], pool_prompt: bool = True) -> dict[str, NDArray[Any]]:
        """Pads and stacks rows to the arrays of one batch; see `inputs`."""
        sounds = [row.arrays["sound"] for row in rows]  # a window of a long sound is decoded here
        counts = [len(sound) for sound in sounds]
        longest = max(*counts, self.processing.padded)
        stacked = np.zeros((len(rows), longest, *self.processing.features.rows), np.float32)
        for out, sound in zip(stacked, sounds, strict=True):
            out[: len(sound)] = sound
        arrays: dict[str, NDArray[Any]] = {"sound": stacked, "lengths": np.array(counts, np.int32)}
        if self.processing.states is not None:
            states = [self.processing.states(count) for count in counts]
            width = np.arange(self.processing.states(longest))
            arrays["mask"] = (width < np.array(states)[:, None]).astype(np.int32)
        return arrays

    def _rows(self, count: int) -> int:
        """Number of rows of so many samples, padding included."""
        filled = max(count, self.processing.shortest)
        return max(self.processing.features.count(filled), self.processing.padded, 1)

    def _parts(self, sound: Sound, reading: ReadOptions) -> tuple[Prepared, ...]:
        processing = self.processing
        extents = windows(sound.seconds, processing)
        if len(extents) == 1:
            return (self._whole(sound),)
        most = processing.seconds if reading.chunk else max(processing.seconds, processing.whole)
        if sound.seconds <= most + 0.5 / processing.rate:
            return (self._whole(sound, most=most),)
        if reading.truncate == "error":
            raise ItemError(
                f"lasts {sound.seconds:,.3f} s, over the model's limit of {most:g} s: leave truncate out "
                'to cut it off, or give chunk="pool" to embed it whole'
            )
        if reading.chunk == "pool":
            parts = [part(sound, start, end) for start, end in extents]
            if len(parts) <= _AT_ONCE:
                return tuple(self._whole(one) for one in parts)
            return tuple(self._later(one) for one in parts)
        lost = sound.seconds - most
        start = lost if reading.truncate == "head" else 0.0
        return (self._whole(part(sound, start, start + most), lost, most),)

    def _whole(self, sound: Sound, lost: float = 0.0, most: float = 0.0) -> Prepared:
        longest = round(most * self.processing.rate) or self.processing.longest
        with self.room.entry() as take:
            take(8 * round(sound.seconds * max(sound.rate * sound.channels, self.processing.rate)))
            return self._prepared(samples(sound, self.processing.rate)[:longest], lost)

    def _prepared(self, decoded: Floats, lost: float) -> Prepared:
        rows = self.processing.rows_of(decoded)
        cost = max(len(rows), self.processing.padded, 1)
        return Prepared({"sound": rows}, cost, len(decoded) / self.processing.rate, lost)

    def _later(self, sound: Sound) -> Prepared:
        """Prepares a window of a long sound, which is decoded when it is collated."""
        cost = self._rows(round(sound.seconds * self.processing.rate))
        return Prepared(_Undecoded(lambda: self._whole(sound).arrays["sound"]), cost, sound.seconds, 0)


class _Undecoded(Mapping[str, NDArray[Any]]):
    """The array "sound" of a window, decoded each time it is read."""

    def __init__(self, decode: Callable[[], NDArray[Any]]) -> None:
        self._decode = decode

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name != "sound":
            raise KeyError(name)
        return self._decode()

    def __iter__(self) -> Iterator[str]:
        return iter(("sound",))

    def __len__(self) -> int:
        return 1


def front_end_settings(folder: Path) -> Mapping[str, Any]:
    """Returns the settings of the front end in a model's folder, as transformers finds them; {} if there are none.

    They are the part "feature_extractor" or "audio_processor" of processor_config.json, or preprocessor_config.json.

    Raises:
        ModelError: a file is damaged.
    """
    whole = typed.table(_Processors, folder / "processor_config.json", {})
    nested = [whole[key] for key in ("feature_extractor", "audio_processor") if whole.get(key) is not None]
    settings: Mapping[str, Any] = (
        nested[0] if nested else read_json(folder / "preprocessor_config.json", {}, dict)
    )
    return settings


def windows(seconds: float, processing: SoundProcessing) -> list[tuple[float, float]]:
    """Returns the start and end in seconds of the windows that a sound is read in.

    Example: windows of 10 s of a sound of 34 s: (0, 10), (10, 20), (20, 30), (30, 34); of one of 30.4 s: (0, 10),
    (10, 20), (20, 30), (20.4, 30.4), because a rest of less than a tenth of a window is too little to be heard alone.

    Args:
        seconds: length of the sound.
        processing: what the model reads of a sound.
    """
    length = processing.seconds
    # Half a sample more is no reason for a second window.
    if seconds <= length + 0.5 / processing.rate:
        return [(0.0, seconds)]
    extents = [(i * length, (i + 1) * length) for i in range(int(seconds // length))]
    rest = seconds - extents[-1][1]
    if rest > 0.5 / processing.rate:
        is_short = rest < max(length / 10, processing.shortest / processing.rate)
        extents.append((seconds - length if is_short else extents[-1][1], seconds))
    return extents
