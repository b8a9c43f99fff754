"""Speech that models with a head of letters write down, against transformers' tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import omnivec
from encoders import ENGINES
from omnivec.errors import ModelError, UsageError
from omnivec.families._wav2vec2_ctc import Vocabulary, Word, read_vocabulary, segments, words
from omnivec.types import Audio, Segment
from speech import published, waveforms

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAON'"]


def save(folder: Path, kind: str, letters: Any = None, **settings: Any) -> Any:
    """A model with a head of letters, its vocabulary and its extractor, as transformers publishes them."""
    model = published(folder, kind, "ForCTC", vocab_size=len(LETTERS))
    with torch.no_grad():  # every letter and the blank are as likely, and special tokens are not
        model.lm_head.bias -= model(torch.from_numpy(waveforms([50000], seed=5)[0])[None]).logits.mean((0, 1))
        model.lm_head.bias[1:4] -= 99
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(letters or {letter: i for i, letter in enumerate(LETTERS)}))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return model


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm, norms first", "wav2vec2, adapters"])
def test_texts_equal_transformers(tmp_path: Path, kind: str, engine: str) -> None:
    model = save(tmp_path, kind, do_lower_case=kind == "hubert")
    tokenizer = transformers.Wav2Vec2CTCTokenizer(
        str(tmp_path / "vocab.json"), do_lower_case=kind == "hubert"
    )
    extractor = transformers.Wav2Vec2FeatureExtractor()
    sounds = waveforms([40000, 9000, 16000, 52345])
    ours = omnivec.load(tmp_path, engine=engine, precision="float32")
    written = ours.transcribe([Audio(sound, 16000) for sound in sounds])
    for sound, transcript in zip(sounds, written, strict=True):
        with torch.no_grad():
            best = model(**extractor(sound, sampling_rate=16000, return_tensors="pt")).logits.argmax(-1)[0]
        right = " ".join(tokenizer.decode(best).split())
        assert transcript.text == right
        assert " ".join(segment.text for segment in transcript.segments) == right
        assert transcript.language is None
        assert all(0 <= one.start < one.end <= len(sound) / 16000 + 0.001 for one in transcript.segments)
    assert len({transcript.text for transcript in written}) > 2
    of_layer = omnivec.load(tmp_path, engine=engine, precision="float32", layer=1)
    assert of_layer.transcribe(Audio(sounds[0], 16000), timestamps=False)[0].text == written[0].text
    with pytest.raises(UsageError, match="it cannot be told a language"):
        ours.transcribe(Audio(sounds[0], 16000), language="en")
    saved = omnivec.load(ours.save(tmp_path / "saved"), engine=engine, precision="float32")
    assert saved.transcribe(Audio(sounds[0], 16000))[0].text == written[0].text


def test_a_folder_that_a_processor_saved(tmp_path: Path) -> None:
    model = save(tmp_path, "wav2vec2")
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=False)
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"))
    (tmp_path / "preprocessor_config.json").unlink()
    transformers.Wav2Vec2Processor(extractor, tokenizer).save_pretrained(tmp_path)
    assert (tmp_path / "processor_config.json").exists()
    [sound] = waveforms([40000])
    with torch.no_grad():
        best = model(torch.from_numpy(sound)[None]).logits.argmax(-1)[0]
    [transcript] = omnivec.load(tmp_path, precision="float32").transcribe(Audio(sound, 16000))
    assert transcript.text == " ".join(tokenizer.decode(best).split()) != ""


def test_long_sounds_are_cut(tmp_path: Path) -> None:
    """Also where the remainder is shorter than the model reads."""
    save(tmp_path, "wav2vec2")
    [sound] = waveforms([480000 + 200])
    sound[-9000:] = 0
    [transcript] = omnivec.load(tmp_path, precision="float32").transcribe(Audio(sound, 16000))
    assert 20 < transcript.segments[-1].end <= 30.02


def test_a_model_without_a_head_of_letters_does_not_transcribe(tmp_path: Path) -> None:
    published(tmp_path, "wav2vec2")
    with pytest.raises(UsageError, match="cannot write down speech"):
        omnivec.load(tmp_path).transcribe(Audio(waveforms([9000])[0], 16000))


def test_words_of_frames() -> None:
    vocabulary = Vocabulary({5: "h", 6: "i", 7: "YO"}, blank=0, space=4, is_lower=True)
    frames = [5, 5, 0, 6, 0, 4, 0, 7, 4, 4, 0, 4, 6, 3, 6, 0]
    found = words(frames, vocabulary)
    assert found == [Word("hi", 0, 4), Word("yo", 7, 8), Word("ii", 12, 15)]
    assert words([0, 4, 0], vocabulary) == []
    assert segments(found[:1], 0.5, 1.9) == (Segment(0.0, 1.9, "hi"),)
    pieces = segments(found, 0.13, 9.0)
    assert [(one.text, round(one.start, 2), round(one.end, 2)) for one in pieces] == [
        ("hi yo", 0.0, 1.04),
        ("ii", 1.56, 1.95),
    ]


def test_vocabularies(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(
        json.dumps({"eng": {"<pad>": 0, "|": 1, "a": 2}, "deu": {"<pad>": 0}})
    )
    settings: dict[str, Any] = {"target_lang": "eng", "pad_token": {"content": "<pad>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert read_vocabulary(tmp_path) == Vocabulary({2: "a"}, 0, 1, False)
    for settings, letters, words_of_error in (
        ({}, {"eng": {"<pad>": 0}}, "no letters for target_lang None"),
        ({"target_lang": "fra"}, {"eng": {"<pad>": 0}}, "no letters for target_lang 'fra'"),
        ({}, {"a": 1}, "lacks the blank, '<pad>'"),
        ({}, {"<pad>": "0"}, "does not give each letter a whole number"),
    ):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        (tmp_path / "vocab.json").write_text(json.dumps(letters))
        with pytest.raises(ModelError, match=words_of_error):
            read_vocabulary(tmp_path)
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(ModelError, match=r"vocab.json is missing"):
        read_vocabulary(tmp_path)
