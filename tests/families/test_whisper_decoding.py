"""Whisper's decoder: greedy decoding against transformers' model and its rules of timestamps, token by token."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

from encoders import ENGINES
from omnivec.errors import ModelError, UnsupportedModel
from omnivec.families import _whisper_decoding, whisper
from omnivec.families._hooks import TranscriberSource
from omnivec.families._whisper_tokens import Vocabulary, read_vocabulary
from omnivec.ops.base import EngineSettings
from omnivec.types import Segment
from omnivec.validation.json_files import read_json
from whispers import checkpoint, extractor, read, sounds, speaker

END, START, EN, TRANSCRIBE, PLAIN = 256, 257, 258, 262, 266
ZERO = PLAIN + 1


def transcriber(folder: Path, engine: str, **changes: Any) -> Any:
    ours, published = read(folder), read_json(folder / "config.json") | changes

    def compiled(program: Any, inputs: Any) -> Any:
        return ENGINES[engine](program, inputs, ours.tensors, EngineSettings(threads=1))

    return whisper.transcriber(TranscriberSource(folder, published, ours.config, ours.tensors, compiled))


def greedy(model: Any, sound: np.ndarray, prompt: list[int], timestamps: bool, most: int = 20) -> list[int]:
    """transformers' likeliest tokens, computed from the beginning at each step, without a cache."""
    features = extractor(model.config)(sound, sampling_rate=16000, return_tensors="pt").input_features
    rules = WhisperTimeStampLogitsProcessor(
        SimpleNamespace(
            no_timestamps_token_id=PLAIN, eos_token_id=END, bos_token_id=END, max_initial_timestamp_index=50
        ),
        begin_index=len(prompt),
    )
    ids = torch.tensor([prompt])
    with torch.no_grad():
        heard = model.model.encoder(features)
        while ids.shape[1] < len(prompt) + most:
            scores = model(encoder_outputs=heard, decoder_input_ids=ids).logits[:, -1]
            scores[:, [5, 6, *range(START, ZERO)]] = -torch.inf
            if ids.shape[1] == len(prompt):
                scores[:, [7, END]] = -torch.inf
            scores = rules(ids, scores) if timestamps else scores
            ids = torch.cat([ids, scores.argmax(-1, keepdim=True)], 1)
            if ids[0, -1] == END:
                return ids[0, len(prompt) : -1].tolist()
    return ids[0, len(prompt) :].tolist()


def written(ours: Any, samples: Sequence[np.ndarray], language: str | None, timestamps: bool) -> list[Any]:
    """The tokens that our decoder writes, before they become text."""
    seen: list[Any] = []
    make = ours._transcript
    ours._transcript = lambda one, *rest: seen.append(one) or make(one, *rest)
    try:
        ours.transcribe(samples, language, timestamps)
    finally:
        ours._transcript = make
    return seen


@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
def test_greedy_tokens_are_those_of_transformers(tmp_path: Path, engine: str, timestamps: bool) -> None:
    """Texts of different lengths in one batch: of random weights, some end early and some never."""
    model = speaker(tmp_path, ending=3.0)
    ours, samples = transcriber(tmp_path, engine), sounds()
    got = written(ours, samples, "de", timestamps)
    prompt = [START, EN + 1, TRANSCRIBE] + [PLAIN] * (not timestamps)
    expected = [greedy(model, one, prompt, timestamps) for one in samples]
    assert [one.tokens for one in got] == expected
    assert [one.ended for one in got] == [len(one) < 20 for one in expected]
    assert len({len(one) for one in expected}) > 1 and {one.language for one in got} == {"de"}


def test_more_tokens_than_the_first_cache_holds(tmp_path: Path) -> None:
    most = _whisper_decoding._CACHE + 16
    model = speaker(tmp_path, max_target_positions=2 * most)
    ours, samples = transcriber(tmp_path, "openvino"), sounds()[:2]
    expected = [greedy(model, one, [START, EN, TRANSCRIBE, PLAIN], False, most) for one in samples]
    assert [one.tokens for one in written(ours, samples, "en", False)] == expected
    assert {len(one) for one in expected} == {most}


def test_a_model_of_english_has_no_language_in_its_prompt(tmp_path: Path) -> None:
    model = speaker(tmp_path, ending=3.0, english=True)
    ours, samples = transcriber(tmp_path, "openvino"), sounds()
    expected = [greedy(model, one, [START, PLAIN], False) for one in samples]
    assert [one.tokens for one in written(ours, samples, None, False)] == expected
    assert list(ours.languages) == ["en"]


def test_the_language_is_the_likeliest_one(tmp_path: Path) -> None:
    model = speaker(tmp_path, seed=3)
    ours, samples = transcriber(tmp_path, "openvino"), sounds()
    features = extractor(model.config)(samples, sampling_rate=16000, return_tensors="pt").input_features
    with torch.no_grad():
        scores = model(features, decoder_input_ids=torch.full((len(samples), 1), START)).logits[:, 0]
    expected = [["en", "de", "fr"][i] for i in scores[:, EN : EN + 3].argmax(1).tolist()]
    assert list(ours.languages) == ["en", "de", "fr"] and len(set(expected)) > 1
    assert [one.language for one in ours.transcribe(samples, None, True)] == expected
    assert [one.language for one in ours.transcribe(samples, "fr", True)] == ["fr"] * len(samples)


def test_a_sound_has_the_same_text_in_any_batch(tmp_path: Path) -> None:
    speaker(tmp_path, ending=3.0)
    ours, samples = transcriber(tmp_path, "openvino"), sounds()
    whole = ours.transcribe(samples, None, True)
    assert [ours.transcribe([one], None, True)[0] for one in samples] == whole
    assert ours.transcribe([], None, True) == []


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    folder = tmp_path_factory.mktemp("speaker")
    speaker(folder)
    return read_vocabulary(folder, {}, 318)


def letters(vocabulary: Vocabulary, text: str) -> list[int]:
    return vocabulary.tokenizer.encode(text, add_special_tokens=False).ids


def test_segments_lie_between_timestamps(vocabulary: Vocabulary) -> None:
    one, two, three = (letters(vocabulary, text) for text in ("one", " two", " three"))
    times = {0.1: ZERO + 5, 0.5: ZERO + 25, 0.62: ZERO + 31}
    tokens = [times[0.1], *one, times[0.5], times[0.5], *two, times[0.62], times[0.62], *three]
    assert vocabulary.segments(tokens, 0.9, True) == [
        Segment(0.1, 0.5, "one"),
        Segment(0.5, 0.62, "two"),
        Segment(0.62, 0.9, "three"),
    ]
    assert vocabulary.segments(tokens, 0.55, True)[1] == Segment(0.5, 0.55, "two")
    assert vocabulary.segments([*one, *two], 0.9, False) == [Segment(0.0, 0.9, "one two")]
    assert (
        vocabulary.segments([times[0.1], times[0.5]], 0.9, True) == vocabulary.segments([], 0.9, False) == []
    )


def test_timestamps_obey_the_rules_of_transformers(vocabulary: Vocabulary) -> None:
    """Random scores after all kinds of beginnings, with timestamps that are likely and unlikely."""
    settings = SimpleNamespace(
        no_timestamps_token_id=PLAIN, eos_token_id=END, bos_token_id=END, max_initial_timestamp_index=50
    )
    rules = WhisperTimeStampLogitsProcessor(settings, begin_index=1)
    rng = np.random.default_rng(0)
    beginnings = [
        [],
        [ZERO],
        [ZERO, 3],
        [ZERO, 3, ZERO + 9],
        [ZERO, 3, ZERO + 9, ZERO + 9],
        [3, 4],
        [ZERO, ZERO],
    ]
    seen = set()
    for beginning in beginnings:
        for shift in (-9, 0, 3):
            scores = rng.standard_normal((1, 318)).astype(np.float32)
            scores[:, ZERO:] += shift
            ours = vocabulary.allowed(scores, [beginning], True)
            theirs = scores.copy()
            theirs[:, [5, 6, *range(START, ZERO)]] = -np.inf
            if not beginning:
                theirs[:, [7, END]] = -np.inf
            theirs = rules(torch.tensor([[START, *beginning]]), torch.from_numpy(theirs)).numpy()
            np.testing.assert_array_equal(ours, theirs, f"after {beginning}, shift {shift}")
            seen.add(np.isfinite(ours).tobytes())
    assert len(seen) >= 7


def made(tokens: list[int], **changes: Any) -> _whisper_decoding.Written:
    facts: dict[str, Any] = {"language": "en", "likelihood": -0.3, "silence": 0.1, "ended": True}
    return _whisper_decoding.Written(tokens, **(facts | changes))


def test_doubtful_texts_are_noted(tmp_path: Path) -> None:
    speaker(tmp_path)
    ours = transcriber(tmp_path, "openvino")
    words = letters(ours._vocabulary, "one two three")
    assert ours._transcript(made(words), 1.0, False).notes == ()
    again = ours._transcript(made(words * 20), 1.0, False)
    assert "repeats itself" in again.notes[0] and again.text.count("three") == 20
    assert "cut off after 13 tokens" in ours._transcript(made(words, ended=False), 1.0, False).notes[0]
    # Without speech there is no text, unless the decoder is sure of it.
    assert ours._transcript(made(words, silence=0.9, likelihood=-1.5), 1.0, False).text == ""
    assert ours._transcript(made(words, silence=0.9), 1.0, False).text == "one two three"


def test_the_tokenizer_has_to_be_whispers(tmp_path: Path) -> None:
    speaker(tmp_path)
    with pytest.raises(UnsupportedModel, match=r"'<\|endoftext\|>' is missing, or has no row"):
        read_vocabulary(tmp_path, {}, 200)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read"):
        read_vocabulary(tmp_path, {}, 318)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        read_vocabulary(tmp_path, {}, 318)


def test_an_encoder_alone_writes_nothing(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    ours = read(tmp_path)
    tensors = {name: one for name, one in ours.tensors.items() if name.startswith("encoder.")}
    compiled = functools.partial(pytest.fail, "nothing is compiled")
    assert whisper.transcriber(TranscriberSource(tmp_path, {}, ours.config, tensors, compiled)) is None
