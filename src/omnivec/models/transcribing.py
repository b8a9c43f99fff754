"""`Embedder.transcribe`: writes down the speech in sounds, in windows that are cut where the speaker pauses."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from omnivec import progress
from omnivec.errors import ItemErrors, UsageError
from omnivec.families._hooks import Transcriber, TranscriberSource
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.inputs.audio.sound import Sound, blocks
from omnivec.inputs.items import is_one, several
from omnivec.models.encoder import Encoder
from omnivec.models.network import Network
from omnivec.types import Floats, Ints, Segment, Transcript
from omnivec.validation import arguments
from omnivec.validation.reasons import of_item

_SILENCE = 1 / 32768
"""Largest absolute sample of a window that is not transcribed: the last bit of 16."""

_PAUSE = 0.2
"""Seconds of the pauses that are looked for."""

_FRAME = 0.02
"""Seconds in which the loudness is measured."""


@dataclass(frozen=True, eq=False)
class Transcribed:
    """The transcripts of the items that did not fail; `ItemErrors.partial` of `Embedder.transcribe`.

    Attributes:
        transcripts: of each of these items.
        kept: (m,) int64, the index of the item of each transcript.
    """

    transcripts: list[Transcript]
    kept: Ints


@dataclass(frozen=True, eq=False)
class _Window:
    """A part of a sound: where it begins, and its length, in seconds, and its samples (n,)."""

    start: float
    seconds: float
    samples: Floats


class Transcribing:
    """The methods of an `Embedder` that write down speech."""

    encoder: Encoder
    name: str
    _transcriber: tuple[Transcriber, Network, SoundProcessing] | None = None
    _lock = threading.Lock()

    def transcribe(
        self,
        items: Any,
        *,
        language: str | None = None,
        timestamps: bool = True,
        show_progress_bar: bool | None = None,
    ) -> list[Transcript]:
        """Writes down the speech in sounds; for models that can, such as Whisper.

        A sound that is longer than the model reads is cut into windows, in the longest pause of the last third of each.

        Args:
            items: one sound or an iterable of sounds: a pathlib.Path of a file, or an `Audio`.
            language: code of the language of all sounds, such as "en". None recognises it, in each window.
            timestamps: whether segments are sentences or parts of them, with their own times; False makes one segment
                of each window, and is a little faster.
            show_progress_bar: as for `encode`.

        Returns:
            The transcript of each sound, in their order.

        Raises:
            ItemErrors: some items failed; .failures has the reasons, .partial the transcripts of the others.
            UsageError: the model does not transcribe, or not in this language.

        Examples:
            >>> for transcript in omnivec.load("whisper-tiny.en").transcribe([Path("talk.mp3")]):
            ...     print(transcript.text)
        """
        transcriber, network, processing = self._make_transcriber()
        arguments.flag("timestamps", timestamps)
        if language is not None and arguments.text("language", language) not in transcriber.languages:
            told = ", ".join(transcriber.languages) or "it cannot be told a language"
            raise UsageError(f"language={language!r} is none of the languages of {self.name}: {told}")
        listed = [items] if is_one(items) else list(several(items))
        with progress.bar("transcribing", len(listed), "items", show_progress_bar) as bar:
            done = _transcribe(
                listed,
                lambda item: _windows(item, network.preparer.decode, processing),
                transcriber.rows,
                lambda sounds: transcriber.transcribe(sounds, language, timestamps),
                bar.advance,
            )
        failures = {i: one for i, one in enumerate(done) if isinstance(one, str)}
        transcripts = [one for one in done if isinstance(one, Transcript)]
        if failures:
            kept = np.array([i for i in range(len(done)) if i not in failures], np.int64)
            others = "The others are in .partial.transcripts, their indices in .partial.kept."
            raise ItemErrors(failures, Transcribed(transcripts, kept), others)
        return transcripts

    def _make_transcriber(self) -> tuple[Transcriber, Network, SoundProcessing]:
        """Returns what transcribes, its network, and what that reads of a sound; made at the first call.

        Raises:
            UsageError: the model cannot transcribe.
        """
        with self._lock:
            if self._transcriber is None:
                self._transcriber = next(filter(None, map(_transcriber, self.encoder.networks)), None)
        if self._transcriber is None:
            raise UsageError(
                f"{self.name} makes vectors, but cannot write down speech: load a model that can, such as whisper-base"
            )
        return self._transcriber


def _transcriber(network: Network) -> tuple[Transcriber, Network, SoundProcessing] | None:
    """What transcribes with a network, the network, and what it reads of a sound; None if it cannot."""
    model, processing = network.model, getattr(network.preparer, "processing", None)
    if not isinstance(processing, SoundProcessing):
        return None
    source = TranscriberSource(model.folder, model.published, model.config, model.tensors, network.compile)
    transcriber = model.hooks.transcriber(source)
    return None if transcriber is None else (transcriber, network, processing)


def _transcribe(
    items: Sequence[Any],
    windows: Callable[[Any], Iterator[_Window]],
    rows: int,
    transcribe: Callable[[Sequence[Floats]], Sequence[Transcript]],
    advance: Callable[[int], None],
) -> list[Transcript | str]:
    """Transcribes items, `rows` windows at a time, over the borders of items.

    Returns:
        For each item its transcript, or why it failed.
    """
    failures: dict[int, str] = {}
    parts: list[list[tuple[_Window, Transcript]]] = [[] for _ in items]
    waiting: list[tuple[int, _Window]] = []

    def flush() -> None:
        done = transcribe([window.samples for _, window in waiting]) if waiting else ()
        for (i, window), transcript in zip(waiting, done, strict=True):
            # The samples are not needed any more.
            parts[i].append((replace(window, samples=window.samples[:0]), transcript))
        waiting.clear()

    for i, item in enumerate(items):
        found = windows(item)
        while True:
            try:
                window = next(found, None)
            except BaseException as error:
                failures[i] = of_item(error)
                break
            if window is None:
                break
            if np.abs(window.samples).max(initial=0.0) > _SILENCE:
                waiting.append((i, window))
            if len(waiting) == rows:
                flush()
        advance(1)
    flush()
    return [failures.get(i) or _joined(one) for i, one in enumerate(parts)]


def _windows(item: Any, decode: Callable[[Any], Sound], processing: SoundProcessing) -> Iterator[_Window]:
    """Yields the windows of an item, with memory for two of them; ItemError if it is not a sound, or damaged."""
    rate, longest = processing.rate, processing.longest
    start, rest = 0, np.zeros(0, np.float32)
    for block in blocks(decode(item), rate, processing.seconds):
        rest = np.concatenate([rest, block])
        while len(rest) > longest:
            cut = pause(rest[:longest], rate)
            yield _Window(start / rate, cut / rate, rest[:cut])
            start, rest = start + cut, rest[cut:]
    # What remains of a long sound may be less than the model reads.
    if len(rest) >= (processing.shortest if start else 1):
        yield _Window(start / rate, len(rest) / rate, processing.filled(rest))


def pause(samples: Floats, rate: int) -> int:
    """The sample at which to cut a sound: the middle of the quietest fifth of a second in its last third.

    Args:
        samples: (n,) float32.
        rate: sampling rate in Hz.

    Returns:
        A number from 2 n / 3 to n.
    """
    size, begin = max(1, round(_FRAME * rate)), len(samples) * 2 // 3
    frames = samples[begin : begin + (len(samples) - begin) // size * size].reshape(-1, size)
    width = round(_PAUSE / _FRAME)
    if len(frames) < width:
        return len(samples)
    sums = np.concatenate([[0.0], np.cumsum(np.square(frames, dtype=np.float64).mean(1))])
    return begin + (int(np.argmin(sums[width:] - sums[:-width])) + width // 2) * size


def _joined(parts: Sequence[tuple[_Window, Transcript]]) -> Transcript:
    """The transcript of a sound from those of its windows."""
    segments = tuple(
        Segment(round(window.start + one.start, 3), round(window.start + one.end, 3), one.text)
        for window, transcript in parts
        for one in transcript.segments
    )
    seconds: Counter[str | None] = Counter()
    for window, transcript in parts:
        if transcript.text:
            seconds[transcript.language] += round(1000 * window.seconds)
    languages = seconds.most_common(1)
    notes = tuple(
        f"{window.start:.1f} to {window.start + window.seconds:.1f} s: {note}"
        for window, transcript in parts
        for note in transcript.notes
    )
    text = " ".join(transcript.text for _, transcript in parts if transcript.text)
    return Transcript(text, segments, languages[0][0] if languages else None, notes)
