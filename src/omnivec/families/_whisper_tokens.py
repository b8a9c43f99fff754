"""The tokens of Whisper: its prompts, which token may come next, and the text of tokens.

Radford et al. 2022, arXiv:2212.04356, section 2.3. The vocabulary of a multilingual model, by id:

    0 - 50256      text
    50257          <|endoftext|>
    50258          <|startoftranscript|>
    50259 - 50357  languages: <|en|>, <|zh|>, ...
    50358 - 50362  <|translate|>, <|transcribe|>, <|startoflm|>, <|startofprev|>, <|nospeech|>
    50363          <|notimestamps|>
    50364 - 51864  timestamps: <|0.00|>, <|0.02|>, ... <|30.00|>

A transcript is "<|startoftranscript|><|en|><|transcribe|>", the prompt, followed by segments, each between two
timestamps, and "<|endoftext|>". With "<|notimestamps|>" at the end of the prompt it is text alone. A model of English
has a prompt without language and task.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from omnivec.errors import ModelError, UnsupportedModel
from omnivec.types import Floats, Segment
from omnivec.validation import typed
from omnivec.validation.json_files import read_json
from omnivec.validation.reasons import one_line

_LATEST_START = 1.0
"""Seconds before which the first segment has to begin."""

STEP = 0.02
"""Seconds from one timestamp to the next."""

_MULTILINGUAL = 51865
"""Rows of the embeddings from which on a model has languages."""


@dataclass(frozen=True)
class Generation:
    """The keys of generation_config.json, or of config.json in older folders, that are obeyed."""

    suppress_tokens: tuple[int, ...] | None = None
    begin_suppress_tokens: tuple[int, ...] | None = None
    is_multilingual: bool | None = None
    max_initial_timestamp_index: int | None = None


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of one model.

    Attributes:
        tokenizer: makes text of tokens.
        languages: maps the code of each language to its token; empty for a model of English.
        start: token that begins every transcript.
        end: token that ends it; those before it are text.
        task: token of the task, to write down what is said.
        silence: token whose probability tells that there is no speech.
        plain: token of a transcript without timestamps; the one behind it is the timestamp 0.
        never: tokens that are never written.
        first: further tokens that are not written at the beginning.
        latest: largest first timestamp, counted from 0.
    """

    tokenizer: tokenizers.Tokenizer
    languages: Mapping[str, int]
    start: int
    end: int
    task: int
    silence: int
    plain: int
    never: Sequence[int]
    first: Sequence[int]
    latest: int

    @property
    def zero(self) -> int:
        """The token of the timestamp 0."""
        return self.plain + 1

    def prompt(
        self, scores: Floats, language: str | None, timestamps: bool
    ) -> tuple[list[str | None], NDArray[np.int32]]:
        """The language of each sound, and the tokens between the first and the transcript.

        Args:
            scores: (n, vocabulary) of the token behind the first.
            language: code of the language of all sounds; None to recognise it.
            timestamps: whether the transcripts have timestamps.

        Returns:
            The codes, and tokens (n, t) int32.
        """
        count, columns = len(scores), []
        codes: list[str | None] = ["en"] * count
        if self.languages:
            names, ids = list(self.languages), np.array(list(self.languages.values()))
            best = scores[:, ids].argmax(1) if language is None else np.full(count, names.index(language))
            codes = [names[i] for i in best]
            columns += [ids[best], np.full(count, self.task)]
        if not timestamps:
            columns.append(np.full(count, self.plain))
        return codes, np.array(columns, np.int32).reshape(len(columns), count).T

    def allowed(self, scores: Floats, written: Sequence[Sequence[int]], timestamps: bool) -> Floats:
        """The scores (n, vocabulary) of the tokens that may come next; those of others are -inf.

        Args:
            scores: (n, vocabulary).
            written: the tokens of each transcript so far.
            timestamps: whether the transcripts have timestamps.
        """
        scores = scores.copy()
        scores[:, self.never] = -np.inf
        for row, tokens in zip(scores, written, strict=True):
            if not tokens:
                row[self.first] = -np.inf
            if timestamps:
                self._time(row, tokens)
        return scores

    def _time(self, row: Floats, tokens: Sequence[int]) -> None:
        """Removes what timestamps forbid: they come in pairs, except at the end, and never go back."""
        zero = self.zero
        times = [token for token in tokens if token >= zero]
        last_is_time = bool(tokens) and tokens[-1] >= zero
        is_pair = len(tokens) < 2 or tokens[-2] >= zero
        if last_is_time and is_pair:
            row[zero:] = -np.inf
        elif last_is_time:
            row[: self.end] = -np.inf
        if times:
            # A segment is longer than nothing; the next one may begin where it ends.
            row[zero : times[-1] + (0 if last_is_time and not is_pair else 1)] = -np.inf
        if not tokens:
            row[:zero] = -np.inf
            row[zero + self.latest + 1 :] = -np.inf
        # If timestamps together are likelier than any other token, one of them comes next.
        highest = row.max()
        with np.errstate(divide="ignore"):
            together = np.log(np.exp(row[zero:] - highest).sum()) + highest
        if together > row[:zero].max():
            row[:zero] = -np.inf

    def segments(self, tokens: Sequence[int], seconds: float, timestamps: bool) -> list[Segment]:
        """The segments of a transcript of a sound of some seconds; those without text are left out."""
        if not timestamps:
            return [Segment(0.0, seconds, text)] if (text := self.text(tokens)) else []
        segments, start, begin = [], 0.0, 0
        for i, token in enumerate([*tokens, self.zero + round(seconds / STEP)]):
            if token >= self.zero:
                time = max(start, min((token - self.zero) * STEP, seconds))
                if text := self.text(tokens[begin:i]):
                    segments.append(Segment(round(start, 3), round(time, 3), text))
                start, begin = time, i + 1
        return segments

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without those that are no text."""
        return self.tokenizer.decode([token for token in tokens if token < self.end]).strip()


def read_vocabulary(folder: Path, published: Mapping[str, Any], size: int) -> Vocabulary:
    """Reads the tokens of the model in a folder.

    Args:
        folder: with tokenizer.json, and perhaps generation_config.json.
        published: config.json, whose keys older folders have in place of generation_config.json.
        size: number of rows of the embeddings.

    Raises:
        ModelError: a file is missing or damaged.
        UnsupportedModel: the tokenizer has not the tokens of Whisper.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ModelError(f"{file} is missing: without the tokenizer the model cannot write text")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:
        raise ModelError(f"{file} cannot be read ({one_line(error)}): fetch the model again") from error
    settings = folder / "generation_config.json"
    stated = {**published, **read_json(settings, {}, dict)}
    known = typed.read(Generation, stated, settings if settings.is_file() else folder / "config.json")
    end, start, translate, task, plain = (
        _token(tokenizer, f"<|{name}|>", size, file)
        for name in ("endoftext", "startoftranscript", "translate", "transcribe", "notimestamps")
    )
    is_multilingual = size >= _MULTILINGUAL if known.is_multilingual is None else known.is_multilingual
    codes = {
        match[1]: i
        for i in range(start + 1, translate)
        if (match := re.fullmatch(r"<\|(\w+)\|>", tokenizer.id_to_token(i) or ""))
    }
    latest = known.max_initial_timestamp_index
    return Vocabulary(
        tokenizer=tokenizer,
        languages=codes if is_multilingual else {},
        start=start,
        end=end,
        task=task,
        silence=plain - 1,
        plain=plain,
        # Of tokens that are neither text nor timestamps, only the end is written.
        never=sorted({*_inside(known.suppress_tokens, size), *range(end + 1, plain + 1)} - {end}),
        first=_inside(known.begin_suppress_tokens, size),
        latest=round(_LATEST_START / STEP) if latest is None else latest,
    )


def _token(tokenizer: tokenizers.Tokenizer, name: str, size: int, file: Path) -> int:
    token: int | None = tokenizer.token_to_id(name)
    if token is None or token >= size:
        raise UnsupportedModel(
            f"{file}: token {name!r} is missing, or has no row in the embeddings ({size:,} rows)"
        )
    return token


def _inside(ids: Sequence[int] | None, size: int) -> list[int]:
    return [i for i in ids or () if 0 <= i < size]
