"""Writes down speech with a head of letters: connectionist temporal classification (CTC), decoded greedily.

Graves et al. 2006, DOI 10.1145/1143844.1143891. The head scores every letter for every frame. The likeliest letters of
the frames are taken; repetitions are merged, then blanks are dropped:

    frame     0  1  2  3  4  5  6  7  8  9 10 11
    letter    h  h  .  i  .  |  .  y  o  .  o  |       "." is the blank, "|" the space between words
    text      h        i     _     y  o     o  _       "hi yoo": without the blank between them, o o would be one o
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from omnivec.errors import ModelError
from omnivec.families._hooks import TranscriberSource
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.ops.base import Input, Ops, Params, Value
from omnivec.types import Floats, Segment, Transcript
from omnivec.validation.json_files import read_json

PAUSE = 0.5
"""Seconds without letters that separate two segments."""


@dataclass(frozen=True)
class Vocabulary:
    """The letters of a model.

    Attributes:
        letters: id -> letter, or letters; without special tokens.
        blank: id of the blank.
        space: id of the space between words; None for a language without.
        is_lower: whether texts are written in lower case.
    """

    letters: Mapping[int, str]
    blank: int
    space: int | None
    is_lower: bool


@dataclass(frozen=True)
class Word:
    """A word and the frames in which its letters were recognised, the end exclusive."""

    text: str
    start: int
    end: int


def read_vocabulary(folder: Path) -> Vocabulary:
    """The vocabulary in vocab.json and tokenizer_config.json, as `Wav2Vec2CTCTokenizer` of transformers reads them.

    Raises:
        ModelError: vocab.json is missing or damaged, or has no blank.
    """
    file = folder / "vocab.json"
    settings = read_json(folder / "tokenizer_config.json", {}, dict)
    ids: Any = read_json(file, kind=dict)
    language = settings.get("target_lang")
    if language is not None or any(isinstance(value, dict) for value in ids.values()):
        if not isinstance(ids.get(language), dict):
            raise ModelError(f"{file} has no letters for target_lang {language!r} of tokenizer_config.json")
        ids = ids[language]
    if not all(isinstance(value, int) for value in ids.values()):
        raise ModelError(f"{file} does not give each letter a whole number")
    names = {"pad": "<pad>", "bos": "<s>", "eos": "</s>", "unk": "<unk>"}
    special = {kind: _token(settings.get(f"{kind}_token", name)) for kind, name in names.items()}
    space = _token(settings.get("word_delimiter_token", "|"))
    if special["pad"] not in ids:
        raise ModelError(f"{file} lacks the blank, {special['pad']!r}")
    dropped = {*special.values(), space}
    return Vocabulary(
        letters={i: letter for letter, i in ids.items() if letter not in dropped},
        blank=ids[special["pad"]],
        space=ids.get(space),
        is_lower=bool(settings.get("do_lower_case")),
    )


def _token(value: Any) -> Any:
    """The text of a token, which old files describe by a dict."""
    return value.get("content") if isinstance(value, dict) else value


def words(best: Sequence[int], vocabulary: Vocabulary) -> list[Word]:
    """The words in the likeliest ids of the frames."""
    found: list[Word] = []
    is_inside, place = False, 0
    for letter_id, run in groupby(best):
        start, place = place, place + sum(1 for _ in run)
        letter = vocabulary.letters.get(letter_id)
        if letter is None:
            is_inside = is_inside and letter_id != vocabulary.space
            continue
        letter = letter.lower() if vocabulary.is_lower else letter
        if is_inside:
            found[-1] = Word(found[-1].text + letter, found[-1].start, place)
        else:
            found.append(Word(letter, start, place))
        is_inside = True
    return found


def segments(found: Sequence[Word], seconds: float, end: float) -> tuple[Segment, ...]:
    """Words as segments, which pauses separate.

    Args:
        found: the words, in order.
        seconds: time of a frame.
        end: of the sound in seconds; the last frame of an adapter may go beyond it.
    """
    groups: list[list[Word]] = []
    for word in found:
        if groups and (word.start - groups[-1][-1].end) * seconds < PAUSE:
            groups[-1].append(word)
        else:
            groups.append([word])
    return tuple(
        Segment(group[0].start * seconds, min(group[-1].end * seconds, end), " ".join(w.text for w in group))
        for group in groups
    )


class CtcTranscriber:
    """See `families._hooks.Transcriber`.

    Attributes:
        languages: none, as a model writes the language that it was trained on.
        rows: number of sounds at a time.
    """

    languages: Sequence[str] = ()
    rows = 8

    def __init__(
        self,
        source: TranscriberSource,
        processing: SoundProcessing,
        frame: int,
        forward: Callable[[Ops, Params, Any], Value],
    ) -> None:
        """Compiles the network and its head.

        Args:
            source: of the model.
            processing: what the model reads of a sound.
            frame: samples between two frames.
            forward: (ops, weights, batch) -> the states (n, t, hidden) to which the head is applied.
        """
        self._vocabulary = read_vocabulary(source.folder)
        self._processing, self._seconds = processing, frame / processing.rate

        def program(ops: Ops, get: Callable[[str], Value], p: Params) -> dict[str, Value]:
            batch = SimpleNamespace(sound=get("sound"), lengths=get("lengths"), mask=None)
            return {"scores": ops.linear(forward(ops, p, batch), p["lm_head"])}

        inputs = [Input("sound", np.float32, (None, None)), Input("lengths", np.int32, (None,))]
        self._executable = source.compile(program, inputs)

    def transcribe(
        self, sounds: Sequence[Floats], language: str | None, timestamps: bool
    ) -> Sequence[Transcript]:
        """Writes down sounds; see `families._hooks.Transcriber`."""
        rows = [self._processing.rows_of(sound) for sound in sounds]
        lengths = np.array([len(row) for row in rows], np.int32)
        batch = np.zeros((len(rows), lengths.max(initial=0)), np.float32)
        for place, row in zip(batch, rows, strict=True):
            place[: len(row)] = row
        scores = self._executable.run({"sound": batch, "lengths": lengths})["scores"]
        states = self._processing.states or int
        return [
            self._transcript(best[: states(length)].tolist(), length / self._processing.rate, timestamps)
            for best, length in zip(scores.argmax(-1), lengths.tolist(), strict=True)
        ]

    def _transcript(self, best: Sequence[int], end: float, timestamps: bool) -> Transcript:
        found = words(best, self._vocabulary)
        text, pieces = " ".join(word.text for word in found), segments(found, self._seconds, end)
        if not timestamps and pieces:
            pieces = (Segment(pieces[0].start, pieces[-1].end, text),)
        return Transcript(text, pieces)
