"""Whisper's decoder: writes down speech by taking the likeliest token at each step.

Radford et al. 2022, arXiv:2212.04356, sections 2.3 and 4.5. A sound is encoded once; its keys and values, and those of
the tokens so far, are passed to the program of one step, which returns the scores of the next token. What may not come
next is decided here, outside of the program.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.families._hooks import TranscriberSource
from omnivec.families._whisper_features import RATE, STATE, WhisperRows
from omnivec.families._whisper_network import decode, encode, keys_and_values, padded_spectrogram
from omnivec.families._whisper_tokens import read_vocabulary
from omnivec.ops.base import Input
from omnivec.types import Floats, Transcript

_NEVER = np.float32(-1e4)
"""Added to the scores of attention where a token must not look."""

_CACHE = 64
"""Tokens that the first cache of keys and values has room for; it is doubled when it is full."""

_MOST_BYTES = 3 * 10**8
"""Bytes of the keys and values of the sounds that are transcribed at a time, at most eight sounds."""

_SILENT, _UNSURE = 0.6, -1.0
"""A sound has no speech if the token for that has at least this probability, and the mean log-probability of the text
is below the other limit (arXiv:2212.04356, section 4.5)."""

_REPETITIVE = 2.4
"""A text that zlib compresses by more than this factor repeats itself (arXiv:2212.04356, section 4.5)."""


@dataclass(frozen=True)
class Written:
    """The tokens of one sound.

    Attributes:
        tokens: ids without the prompt and the end.
        language: code of the language; None for a model of a single one.
        likelihood: mean log-probability of the tokens and the end.
        silence: probability of the token for sounds without speech.
        ended: whether the decoder came to an end by itself.
    """

    tokens: list[int]
    language: str | None
    likelihood: float
    silence: float
    ended: bool


class WhisperTranscriber:
    """See `families._hooks.Transcriber`.

    Attributes:
        languages: codes of the languages; English alone for a model of English.
        rows: number of sounds at a time.
        config: of the model, with the last hidden state of padded sounds.
        decoder: runs one step of the decoder.
    """

    def __init__(self, source: TranscriberSource) -> None:
        self.config = replace(source.config, layer=source.config.encoder_layers, fast=False)
        self._vocabulary = read_vocabulary(source.folder, source.published, self.config.vocab_size)
        config = self.config
        self.languages: Sequence[str] = list(self._vocabulary.languages) or ["en"]
        size = 2 * 4 * config.decoder_layers * config.max_source_positions * config.dim
        self.rows = max(1, min(8, _MOST_BYTES // size))
        self._features = WhisperRows(config.num_mel_bins, config.max_source_positions * STATE)
        self._names = [f"{kind}{i}" for i in range(config.decoder_layers) for kind in ("key", "value")]
        self._encoder = source.compile(self._encode, self._encoder_inputs)
        self.decoder = source.compile(self._step, self._decoder_inputs)

    @property
    def _encoder_inputs(self) -> list[Input]:
        sound = Input("sound", np.float32, (None, self.config.max_source_positions + 1, *self._features.rows))
        return [sound, Input("lengths", np.int32, (None,))]

    @property
    def _decoder_inputs(self) -> list[Input]:
        config = self.config
        h, d = config.decoder_attention_heads, config.dim // config.decoder_attention_heads
        return [
            Input("tokens", np.int32, (None, None)),
            Input("positions", np.int32, (None,)),
            Input("bias", np.float32, (None, 1, None, None)),
            *(Input(f"past {name}", np.float32, (None, h, None, d)) for name in self._names),
            *(Input(name, np.float32, (None, h, config.max_source_positions, d)) for name in self._names),
        ]

    def _encode(self, ops: Any, get: Any, p: Any) -> Mapping[str, Any]:
        """The program from sounds to the keys and values of each layer of the decoder."""
        batch, config = SimpleNamespace(sound=get("sound"), lengths=get("lengths")), self.config
        frames = padded_spectrogram(ops, batch)
        states = encode(ops, p["encoder"], config, frames, None, None, config.encoder_layers)
        pairs = keys_and_values(ops, p["decoder"], config, states)
        return dict(zip(self._names, [one for pair in pairs for one in pair], strict=True))

    def _step(self, ops: Any, get: Any, p: Any) -> Mapping[str, Any]:
        """The program of one step: the scores of the next token, and the keys and values of the tokens."""
        past, sound = (
            [(get(f"{prefix}key{i}"), get(f"{prefix}value{i}")) for i in range(self.config.decoder_layers)]
            for prefix in ("past ", "")
        )
        tokens = get("tokens"), get("positions"), get("bias")
        scores, added = decode(ops, p["decoder"], self.config, *tokens, past, sound)
        return {"scores": scores} | dict(
            zip(self._names, [one for pair in added for one in pair], strict=True)
        )

    def transcribe(
        self, sounds: Sequence[Floats], language: str | None, timestamps: bool
    ) -> list[Transcript]:
        """Writes down some sounds; see `families._hooks.Transcriber`."""
        if not sounds:
            return []
        rows = [self._features(one) for one in sounds]
        padded = np.zeros((len(rows), self.config.max_source_positions + 1, *self._features.rows), np.float32)
        for out, one in zip(padded, rows, strict=True):
            out[: len(one)] = one
        heard = self._encoder.run(
            {"sound": padded, "lengths": np.array([len(one) for one in rows], np.int32)}
        )
        written = self._greedy(heard, language, timestamps)
        return [
            self._transcript(one, len(sound) / RATE, timestamps)
            for one, sound in zip(written, sounds, strict=True)
        ]

    def _transcript(self, written: Written, seconds: float, timestamps: bool) -> Transcript:
        """The text of the tokens of one sound, with remarks about what is doubtful."""
        if written.silence > _SILENT and written.likelihood < _UNSURE:
            return Transcript("", (), written.language)
        segments = tuple(self._vocabulary.segments(written.tokens, seconds, timestamps))
        text = " ".join(segment.text for segment in segments)
        notes = []
        if (ratio := len(text.encode()) / max(len(zlib.compress(text.encode())), 1)) > _REPETITIVE:
            notes.append(f"the text repeats itself (it compresses by {ratio:.1f}), and may be invented")
        if not written.ended:
            notes.append(f"the text was cut off after {len(written.tokens)} tokens")
        return Transcript(text, segments, written.language, tuple(notes))

    def _greedy(self, heard: Mapping[str, Floats], language: str | None, timestamps: bool) -> list[Written]:
        """The tokens of each sound, given the keys and values of the encoder."""
        vocabulary, count = self._vocabulary, len(heard["key0"])
        steps = _Steps(self, heard)
        scores = steps.run(np.full((count, 1), vocabulary.start, np.int32))
        silence = np.exp(_log_softmax(scores)[:, vocabulary.silence])
        languages, prompt = vocabulary.prompt(scores, language, timestamps)
        if prompt.shape[1]:
            scores = steps.run(prompt)
        tokens: list[list[int]] = [[] for _ in range(count)]
        likelihood, ended, rows = np.zeros(count), np.zeros(count, bool), np.arange(count)
        for i in range(most := self.config.max_target_positions // 2):
            allowed = vocabulary.allowed(scores, [tokens[row] for row in rows], timestamps)
            chosen = allowed.argmax(1)
            gains = _log_softmax(allowed)[np.arange(len(rows)), chosen]
            for row, token, gain in zip(rows, chosen, gains, strict=True):
                if not ended[row]:
                    likelihood[row] += gain
                    ended[row] = token == vocabulary.end
                    tokens[row] += [] if ended[row] else [int(token)]
            going = ~ended[rows]
            if not going.any() or i == most - 1:
                break
            # Sounds that have come to an end are computed along until they are half of a batch.
            if going.mean() <= 0.5:
                steps.select(going)
                rows, chosen = rows[going], chosen[going]
            scores = steps.run(chosen[:, None].astype(np.int32))
        return [
            Written(tokens[i], languages[i], likelihood[i] / (len(tokens[i]) + 1), silence[i], bool(ended[i]))
            for i in range(count)
        ]


class _Steps:
    """The steps of the decoder for a batch, with the keys and values of the tokens so far.

    These have room for a fixed number of tokens, so that the shapes of the program's input change only when it is
    doubled; a bias keeps attention away from what is not yet filled.
    """

    def __init__(self, model: WhisperTranscriber, heard: Mapping[str, Floats]) -> None:
        self._model, self._heard, self._filled = model, dict(heard), 0
        n, h, _, d = heard["key0"].shape
        self._past = {name: np.zeros((n, h, _CACHE, d), np.float32) for name in heard}

    def run(self, tokens: NDArray[np.int32]) -> Floats:
        """Tokens (n, t) -> scores (n, vocabulary) of the token behind the last."""
        (n, t), begin = tokens.shape, self._filled
        room = self._past["key0"].shape[2]
        if begin + t > room:
            grown = ((0, 0), (0, 0), (0, room), (0, 0))
            self._past = {name: np.pad(array, grown) for name, array in self._past.items()}
            room *= 2
        bias = np.zeros((n, 1, t, room + t), np.float32)
        bias[..., begin:room] = _NEVER
        bias[..., room:] = np.triu(np.full((t, t), _NEVER), 1)
        out = self._model.decoder.run(
            {
                "tokens": tokens,
                "positions": np.arange(begin, begin + t, dtype=np.int32),
                "bias": bias,
                **{f"past {name}": array for name, array in self._past.items()},
                **self._heard,
            }
        )
        for name, array in self._past.items():
            array[:, :, begin : begin + t] = out[name]
        self._filled = begin + t
        return out["scores"]

    def select(self, going: NDArray[np.bool_]) -> None:
        """Keeps some sounds of the batch only."""
        self._past = {name: array[going] for name, array in self._past.items()}
        self._heard = {name: array[going] for name, array in self._heard.items()}


def _log_softmax(scores: Floats) -> Floats:
    """Log-probabilities (n, v) of scores (n, v), some of which may be -inf."""
    shifted = scores - scores.max(1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result
