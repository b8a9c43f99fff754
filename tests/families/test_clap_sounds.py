"""What CLAP reads of a sound: front end, settings, long and short sounds, and texts that find sounds."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
from transformers import ClapFeatureExtractor

import omnivec
from claps import complete, extractor
from encoders import ENGINES
from omnivec import Audio, Collection
from omnivec.errors import UnsupportedModel
from omnivec.families import clap
from omnivec.models.model import read_config
from omnivec.tasks.classify import classify
from omnivec.testing import check_close, check_family
from sounds import speechlike, tone

SETTINGS: dict[str, tuple[bool, dict[str, Any]]] = {
    "unfused": (False, {"truncation": "rand_trunc", "frequency_min": 50}),
    "fused": (True, {"truncation": "fusion", "frequency_min": 50}),
    "fused, cut at random": (True, {"truncation": "rand_trunc", "frequency_max": 16000}),
    "repeated to the end": (False, {"truncation": "rand_trunc", "padding": "repeat"}),
    "zeros behind": (True, {"padding": "pad"}),
}


def config_of(fused: bool, **more: Any) -> clap.Config:
    audio = {"enable_fusion": fused}
    config: clap.Config = read_config(
        clap, {"model_type": "clap", "audio_config": audio, **more}, Path("folder")
    )
    return config


@pytest.mark.parametrize("kind", SETTINGS)
def test_spectrograms_equal_transformers(kind: str) -> None:
    fused, settings = SETTINGS[kind]
    extractor = ClapFeatureExtractor(**settings)
    processing = clap.sound(config_of(fused), extractor.to_dict())
    assert (processing.rate, processing.seconds, processing.longest) == (48000, 10.0, 480_000)
    for count in (7, 48_000, 480_000):
        samples = recordings()[-1].samples[:count]
        right = extractor(samples, sampling_rate=48_000, return_tensors="np")["input_features"][0][0]
        rows = processing.rows_of(samples)
        assert rows.shape == right.shape == (1001, 64) and processing.features.count(count) == 1001
        np.testing.assert_allclose(rows, right, atol=2e-3)  # decibels


def test_without_settings_they_are_those_of_the_published_models() -> None:
    for fused in (True, False):
        alone = clap.sound(config_of(fused), {})
        assert (
            alone.identity
            == clap.sound(config_of(fused), ClapFeatureExtractor(**_published(fused)).to_dict()).identity
        )


def _published(fused: bool) -> dict[str, Any]:
    return {"frequency_min": 50, "truncation": "fusion" if fused else "rand_trunc"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sampling_rate": 44100}, "sampling_rate 44100"),
        ({"hop_length": 320}, "hop_length 320"),
        ({"fft_window_size": 2048}, "fft_window_size 2048"),
        ({"top_db": 80}, "top_db 80"),
        ({"padding": "mirror"}, "padding 'mirror' is none of repeatpad, repeat, pad"),
        ({"truncation": "fusion"}, "truncation 'fusion', but config.json has enable_fusion false"),
        ({"max_length_s": 7}, "frames of max_length_s 701: only 1001 is covered"),
        ({"feature_size": 80}, "feature_size 80: only 64 is covered"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedModel, match=said):
        clap.sound(config_of(False), {"truncation": "rand_trunc"} | settings)


# --- from sounds and texts to vectors -------------------------------------------------------------------------------

RATE = 48_000
TEXTS = ["rain on a roof", "a dog barks", "the quick brown fox"]


@pytest.fixture(scope="module", params=["overlapping patches", "fused"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("clap")
    return folder, complete(folder, request.param)


@functools.cache
def recordings() -> list[Audio]:
    """Up to ten seconds at CLAP's own rate, the shortest of a hundredth."""
    return [Audio(speechlike(seconds, RATE, seed=3), RATE) for seconds in (0.01, 1.5, 4.0, 10.0)]


def heard(model: Any, sounds: list[Audio]) -> np.ndarray:
    """transformers' vectors of sounds; it marks one of a batch as long, which they are not."""
    arrays = [sound.samples for sound in sounds]
    batch = extractor(model)(arrays, sampling_rate=RATE, return_tensors="pt")
    batch["is_longer"] = torch.zeros(len(sounds), 1, dtype=torch.bool)
    with torch.no_grad():
        features: np.ndarray = model.get_audio_features(**batch).pooler_output.numpy()
    return features


def test_vectors_equal_transformers(loaded: tuple[Path, Any]) -> None:
    folder, model = loaded
    right = heard(model, recordings())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        said = model.get_text_features(**tokens).pooler_output.numpy()
    for engine in ENGINES:
        ours = omnivec.load(folder, engine=engine, precision="float32")
        assert ours.modalities == ("text", "audio") and ours.dim == model.config.projection_dim
        got = ours.encode(recordings())
        check_close(got, right, engine, 1e-4)  # the front end's rounding included
        assert (got * right).sum(1).min() > 0.99999
        np.testing.assert_array_equal(ours.encode(recordings()[1]), ours.encode(recordings()[1]))
        check_close(ours.encode(TEXTS), said, engine)


def test_it_runs_within_a_memory_limit_and_in_eight_bits(loaded: tuple[Path, Any]) -> None:
    exact = omnivec.load(loaded[0], precision="float32").encode(recordings()[:2])
    limited = omnivec.load(loaded[0], max_memory="4GB", precision="float32")
    check_close(limited.encode(recordings()[:2]), exact, "with max_memory")
    half = omnivec.load(loaded[0], precision="int8").encode(recordings()[:2])
    assert (half * exact).sum(1).min() > 0.99


def test_settings_within_those_of_the_processor_are_obeyed(loaded: tuple[Path, Any], tmp_path: Path) -> None:
    """transformers 5 saves the settings of the front end within processor_config.json."""
    folder, model = loaded
    shutil.copytree(folder, tmp_path / "saved")
    (tmp_path / "saved" / "preprocessor_config.json").unlink()
    front = ClapFeatureExtractor(**_published(model.config.audio_config.enable_fusion) | {"frequency_min": 0})
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    transformers.ClapProcessor(front, tokenizer).save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "preprocessor_config.json").exists()
    moved = omnivec.load(tmp_path / "saved", precision="float32")
    facts = moved.encoder.identity["towers"]["audio"]["preprocessing"]
    assert facts["features"]["mel"]["filters"]["low"] == 0.0


def test_the_contract_of_families(loaded: tuple[Path, Any]) -> None:
    check_family(loaded[0], [*TEXTS[:2], *recordings()[1:3]])


def test_a_long_sound_is_cut_or_fused_with_a_word_or_read_in_windows(loaded: tuple[Path, Any]) -> None:
    model = omnivec.load(loaded[0], precision="float32")
    samples = speechlike(25.0, RATE, seed=3)
    long, parts = Audio(samples, RATE), [Audio(part, RATE) for part in np.split(samples, [480_000, 960_000])]
    run, windows = model.run([long]), model.encode(parts)
    if loaded[1].config.audio_config.enable_fusion:
        assert (run.seen.tolist(), run.lost.tolist()) == ([25.0], [0.0])
        assert float(run.vectors[0] @ windows[0]) < 0.999
    else:
        assert (run.seen.tolist(), run.lost.tolist()) == ([10.0], [15.0])
        check_close(run.vectors[0], windows[0], "the first ten seconds")
    for _ in range(2):
        whole = model.encode(long, chunk="pool")
        mean = np.average(windows, axis=0, weights=[10, 10, 5])  # by their seconds
        check_close(whole, mean / np.linalg.norm(mean), "the mean of its windows")


def test_labels_without_training_equal_transformers(loaded: tuple[Path, Any]) -> None:
    folder, model = loaded
    batch = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    batch |= extractor(model)([one.samples for one in recordings()], sampling_rate=RATE, return_tensors="pt")
    batch["is_longer"] = torch.zeros(len(recordings()), 1, dtype=torch.bool)
    with torch.no_grad():
        right = model(**batch).logits_per_audio.softmax(1).numpy()
    found = classify(omnivec.load(folder, precision="float32"), recordings(), TEXTS, templates=["{}"])
    np.testing.assert_allclose(found.probabilities, right, rtol=2e-3)
    assert found.kept.tolist() == [0, 1, 2, 3] and not found.failures


def test_a_text_finds_sounds_in_a_collection(loaded: tuple[Path, Any], tmp_path: Path) -> None:
    folder = loaded[0]
    model = omnivec.load(folder)
    sounds = [*recordings()[1:], Audio(tone(440, 2.0, RATE), RATE)]
    names = ["short", "middle", "long", "tone"]
    files = tmp_path / "sounds"
    files.mkdir()
    for name, sound in zip(names, sounds, strict=True):
        soundfile.write(files / f"{name}.wav", sound.samples, RATE, subtype="FLOAT")
    scores = dict(zip(names, model.encode(sounds) @ model.encode(TEXTS[0]), strict=True))
    with Collection(tmp_path / "sounds.omni", model=folder) as notes:
        report = notes.sync(files)
        assert (report.new, report.passages, report.failed) == (4, 4, {})
        hits = notes.search(TEXTS[0], 4, mode="vector")
        assert [Path(hit.document).stem for hit in hits] == sorted(names, key=lambda name: -scores[name])
        assert {(hit.modality, hit.span_unit) for hit in hits} == {("audio", "seconds")}
        for hit in hits:
            assert hit.score == pytest.approx(scores[Path(hit.document).stem], abs=2e-3)
        [found] = notes.search(files / "tone.wav", 1)
        assert found.document.endswith("tone.wav")
        long = Audio(np.concatenate([sounds[2].samples, sounds[1].samples]), RATE)
        assert notes.add([long], ids=["long"]).passages == 2
        assert [hit.span for hit in notes.search(sounds[1], 9) if hit.document == "long"] == [
            (10, 14),
            (0, 10),
        ]
