"""Whisper with its real weights, and whole models by `omnivec.load`."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import omnivec
from encoders import cosines
from known_models import known_folder
from omnivec import Audio
from omnivec.errors import ItemErrors, UsageError
from omnivec.inputs.audio.canary import sounded
from omnivec.models import registry
from omnivec.testing import check_close, check_family
from whispers import expected, extractor, published, read, sounds, speaker

TINY = "whisper-tiny.en"
DATA = Path(os.environ.get("OMNIVEC_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


def items() -> list[Audio]:
    return [Audio(one, 16000) for one in sounds((5000, 16000, 160))]


@pytest.mark.parametrize("options", [{}, {"layer": 1}, {"layer": 3, "fast": True}])
def test_a_model_fulfils_the_contract_of_families(tmp_path: Path, options: dict[str, Any]) -> None:
    speaker(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | options))
    check_family(tmp_path, items())


def test_variants_are_other_models(tmp_path: Path) -> None:
    speaker(tmp_path)
    models = [omnivec.load(tmp_path, layer=layer, fast=fast) for layer in (1, 2) for fast in (False, True)]
    default = omnivec.load(tmp_path)
    assert len({json.dumps(model.identity, default=str) for model in models}) == 4
    vectors = [model.encode(items()[0]) for model in models]
    assert all(np.abs(vectors[i] - vectors[j]).max() > 1e-3 for i in range(4) for j in range(i))
    check_close(default.encode(items()[0]), vectors[2], "the last but one of three layers")


def test_transcribe(tmp_path: Path) -> None:
    """Files and sounds in memory, one or several; a bad one costs only itself; the saved model writes the same."""
    speaker(tmp_path / "model", ending=3.0)
    model = omnivec.load(tmp_path / "model", precision="float32")
    soundfile.write(tmp_path / "one.wav", items()[0].samples, 16000, subtype="FLOAT")
    whole = model.transcribe([tmp_path / "one.wav", *items()])
    assert whole[0] == whole[1] == model.transcribe(tmp_path / "one.wav")[0] and len(whole) == 4
    assert all(one.language in ("en", "de", "fr") for one in whole)
    assert any(one.text for one in whole)
    plain = model.transcribe(items(), language="de", timestamps=False)
    assert all(len(one.segments) <= 1 and one.language in ("de", None) for one in plain)
    with pytest.raises(ItemErrors) as caught:
        model.transcribe([*items(), tmp_path / "missing.wav"])
    assert list(caught.value.failures) == [3] and caught.value.partial.transcripts == whole[1:]
    again = omnivec.load(model.save(tmp_path / "saved"), precision="float32")
    assert again.transcribe(items()) == whole[1:]
    with pytest.raises(UsageError, match="language='klingon' is none of the languages"):
        model.transcribe(items(), language="klingon")


def test_a_long_sound_is_written_down_in_windows(tmp_path: Path) -> None:
    speaker(tmp_path, ending=3.0)
    model = omnivec.load(tmp_path, precision="float32")
    long = Audio(np.concatenate([*sounds(), *sounds(seed=1)]), 16000)
    [written] = model.transcribe(long)
    seconds = len(long.samples) / 16000
    assert written.segments and all(0 <= one.start <= one.end <= seconds for one in written.segments)
    assert [one.start for one in written.segments] == sorted(one.start for one in written.segments)
    assert written.segments[-1].start > 1.0  # the small model reads one second


@pytest.fixture(scope="module")
def tiny() -> Path:
    return known_folder(TINY)


@pytest.fixture(scope="module")
def speech() -> list[np.ndarray]:
    """Four utterances of LibriSpeech."""
    archive = DATA / "librispeech_other_sub" / "flac.zip"
    if not archive.is_file():
        pytest.skip(f"{archive} is missing")
    with zipfile.ZipFile(archive) as files:
        names = sorted(name for name in files.namelist() if name.endswith(".flac"))[:40:10]
        return [soundfile.read(files.open(name), dtype="float32")[0] for name in names]


@pytest.mark.parametrize("name", [TINY, "whisper-base"])
def test_a_known_model_is_what_its_facts_say(name: str) -> None:
    folder, facts = known_folder(name), registry.known()[name]
    model = omnivec.load(name, precision="float32")
    assert (model.dim, model.max_length, model.card["licence"]) == (facts["dim"], facts["length"], "MIT")
    assert model.folder == folder
    np.testing.assert_allclose(model.encode(sounded("vowel"))[:5], facts["components"], atol=2e-5)


def test_real_states_are_those_of_transformers(tiny: Path, speech: list[np.ndarray]) -> None:
    model, ours = published(tiny), read(tiny, layer=4)
    for i, (got, theirs) in enumerate(
        zip(ours.states("openvino", ours.batch(speech)), expected(model, speech), strict=True)
    ):
        means = [
            np.stack([state[j, : -(-len(one) // 320)].mean(0) for j, one in enumerate(speech)])
            for state in (got, theirs)
        ]
        assert cosines(*means).min() > 0.99999, f"state {i}"


def test_real_transcripts_are_those_of_transformers(tiny: Path, speech: list[np.ndarray]) -> None:
    """Token by token, as transformers' own greedy decoding with the model's settings writes them."""
    model, loaded = published(tiny), omnivec.load(TINY, precision="float32")
    settings = json.loads((tiny / "config.json").read_text())
    features = extractor(model.config)(speech, sampling_rate=16000, return_tensors="pt").input_features
    with torch.no_grad():
        ids = model.generate(
            features,
            decoder_input_ids=torch.tensor([[50257, 50362]] * len(speech)),
            suppress_tokens=settings["suppress_ids"],
            begin_suppress_tokens=settings["suppress_ids_begin"],
            max_new_tokens=200,
            num_beams=1,
            do_sample=False,
        )
    [transcriber, *_] = loaded._make_transcriber()
    theirs = [transcriber._vocabulary.text(row.tolist()) for row in ids]  # type: ignore[attr-defined]
    ours = loaded.transcribe([Audio(one, 16000) for one in speech], timestamps=False)
    assert [one.text for one in ours] == theirs
    assert all(len(text.split()) > 3 for text in theirs)
