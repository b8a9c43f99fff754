"""Figures of voice models: those that were measured, and that they hold for real voices with real weights."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

import omnivec
from known_models import known_folder
from omnivec.tasks.voice_figures import FIGURES, figures_of
from omnivec.types import Audio
from omnivec.vectors.diarization import Turns, diarization_error

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
WHOLE = "whole, 4 s or more"


def rows(name):
    with (RESULTS / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("figures", FIGURES, ids=lambda one: f"{one.weights}-{one.speech}")
def test_figures_are_those_of_the_benchmarks(figures):
    measured = [
        row
        for row in rows("voice_thresholds.csv")
        if row["weights"].startswith(figures.weights) and row["vad"] == str(figures.speech)
    ]
    cuts = [row["cut"] for row in measured if row["other"] == "whole" and row["cut"] != "whole"]
    assert cuts == ["1 s", "2 s", "4 s", WHOLE]
    by_cut = {(row["cut"], row["other"]): row for row in measured}
    for i, cut in enumerate(cuts):
        one, both = by_cut[cut, "whole"], by_cut[cut, "whole" if cut == WHOLE else "cut"]
        assert figures.seconds[i] == float(one["seconds"])
        assert (figures.thresholds[i], figures.rates[i]) == pytest.approx(
            (float(one["threshold"]), float(one["stated"]) / 100)
        )
        assert figures.both[i] == pytest.approx((float(both["threshold"]), float(both["stated"]) / 100))
    chosen = {
        float(row["threshold"])
        for row in rows("diarize.csv")
        if row["model"] == measured[0]["model"] and row["vad"] == str(figures.speech) and row["threshold"]
    }
    assert chosen == {figures.conversation}


def test_figures_are_found_by_weights_and_silence_removal():
    identity = {"model": {"weights": {"float32": FIGURES[0].weights + "0" * 48}}, "speech": {"detector": "x"}}
    assert figures_of(identity) is FIGURES[0]
    assert figures_of({**identity, "speech": None}) is FIGURES[1]
    assert figures_of({"model": {"weights": {"float32": "0" * 64}}, "speech": None}) is None
    assert figures_of({"model": {}, "speech": None}) is None


def test_rates_fall_with_length():
    for figures in FIGURES:
        assert figures.at(0.9, 10) is None
        long = [point[1] for point in (figures.at(seconds, 10) for seconds in (1.0, 2.0, 4.0)) if point]
        assert long == sorted(long, reverse=True) and long[0] > 0.02
        short = figures.at(1.0, 1.5)
        assert short is not None and short[1] > long[0]
        assert figures.at(50, 60) == figures.at(figures.seconds[-1], 60)


@pytest.fixture(scope="module")
def speakers(data_folder):
    """Four utterances of each of three speakers."""
    path = data_folder / "librispeech_other_sub" / "flac.zip"
    if not path.exists():
        pytest.skip("librispeech_other_sub is not in the data folder")
    known_folder("dvector")
    known_folder("silero-vad")
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name in sorted(one for one in archive.namelist() if one.endswith(".flac")):
            own = found.setdefault(name.split("/")[0], [])
            if len(found) <= 3 and len(own) < 4:
                samples, rate = soundfile.read(io.BytesIO(archive.read(name)), dtype="float32")
                own.append(Audio(samples, rate))
    return {name: own for name, own in found.items() if own}


def test_real_voices_are_verified(speakers, tmp_path):
    voices = omnivec.Voices(tmp_path / "voices.safetensors")
    for name, own in speakers.items():
        voices.enroll(name, own[:2])
    for name, own in speakers.items():
        for sound in own[2:]:
            verdicts = voices.identify(sound)
            assert [verdict.name for verdict in verdicts if verdict.same] == [name]
            assert "LibriSpeech" in verdicts[0].basis
            assert 0 < verdicts[0].tested < len(sound.samples) / sound.rate
    found = omnivec.cluster_voices([sound for own in speakers.values() for sound in own])
    assert found.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("options", [{"speakers": 2}, {}])
def test_real_turns_are_found(speakers, options):
    own = list(speakers.values())[:2]
    parts = [own[i % 2][i // 2].samples[:64_000] for i in range(6)]
    ends = np.cumsum([len(part) for part in parts]) / 16_000
    truth = Turns(np.stack([np.append(0, ends[:-1]), ends], axis=1), np.array([0, 1] * 3))
    found = omnivec.diarize(Audio(np.concatenate(parts), 16_000), **options)
    assert found.turns.count == 2
    assert diarization_error(truth, found.turns, collar=0.25).confusion < 1
