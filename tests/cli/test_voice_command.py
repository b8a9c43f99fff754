"""`omnivec voice` with stand-ins for the model and the detector of speech."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import forked
from voices import RATE, hum
from workbench import CommandLine, Done

STAND_INS = f"""
import sys
sys.path.insert(0, {str(Path(forked.__file__).parent)!r})
import voices
import omnivec.models.loading
import omnivec.tasks.voice
import omnivec.tasks.voice_figures as figures
omnivec.models.loading.load = lambda name: voices.SpectrumModel(name)
omnivec.tasks.voice.speech_detector = voices.LoudDetector
figures.FIGURES = (
    figures.Figures(
        "measured", True, (1.0, 4.0), (0.6, 0.7), (0.04, 0.01), ((0.6, 0.04), (0.7, 0.01)), 0.6, "12 made-up speakers"
    ),
)
"""


def save(folder: Path, name: str, *sounds: Any) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.concatenate([sound.samples for sound in sounds]), RATE, subtype="PCM_16")
    return name


@pytest.fixture
def place(omni: CommandLine) -> CommandLine:
    for number, name in enumerate(["anna", "ben"]):
        for take in range(2):
            save(omni.folder, f"{name}{take}.wav", hum(number, 5, take))
        save(omni.folder, f"new/{name}.wav", hum(number, 5, 8))
    return omni


def voice(place: CommandLine, *arguments: str) -> Done:
    run = place.forked if forked.POSSIBLE else place
    return run("voice", *arguments, before=STAND_INS)


def enrolled(place: CommandLine, model: str = "plain") -> None:
    for name in ("anna", "ben"):
        done = voice(place, "enroll", name, f"{name}0.wav", f"{name}1.wav", "--model", model)
        assert done.code == 0, done.err


def test_a_score_without_a_verdict_says_so(place: CommandLine) -> None:
    enrolled(place)
    done = voice(place, "verify", "anna", "new/anna.wav")
    assert done.code == 0, done.err
    first, second, third = done.out.splitlines()
    assert first.startswith("anna: no verdict; score 0.")
    assert second == "  5.0 s of speech against 10.0 s enrolled"
    assert third == "  no verdict: nothing supports a threshold for this model"


def test_a_verdict_states_its_rates_and_what_they_rest_on(place: CommandLine) -> None:
    enrolled(place, "measured")
    done = voice(place, "verify", "anna", "new/anna.wav")
    first, second, third = done.out.splitlines()
    assert first.startswith("anna: same speaker; score 0.") and first.endswith("threshold 0.700")
    assert second.startswith(
        "  expected false accepts 1 %, false rejects 1 %; 5.0 s of speech against 10.0 s"
    )
    assert third == "  12 made-up speakers"
    [row] = voice(place, "verify", "anna", "new/ben.wav", "--json").rows
    assert (row["name"], row["same"], row["threshold"], row["basis"]) == (
        "anna",
        False,
        0.7,
        "12 made-up speakers",
    )


def test_the_best_voice_comes_first(place: CommandLine) -> None:
    enrolled(place, "measured")
    done = voice(place, "identify", "new/ben.wav")
    assert [line.split(";")[0] for line in done.out.splitlines() if line[0] != " "] == [
        "ben: same speaker",
        "anna: not the same speaker",
    ]
    assert done.errors == ["omnivec: 2 voices compared: it is ben"]
    save(place.folder, "stranger.wav", hum(77, 5))
    assert "it is none of them" in voice(place, "identify", "stranger.wav").err
    assert len(voice(place, "identify", "new/ben.wav", "--top", "1", "--json").rows) == 1


def test_a_cohort_gives_thresholds(place: CommandLine) -> None:
    enrolled(place)
    for i in range(26):
        save(place.folder, f"others/speaker{i}/one.wav" if i % 2 else f"others/s{i}-1.wav", hum(1000 + i, 5))
    done = voice(place, "cohort", "others")
    assert (done.code, done.out) == (0, "cohort: 26 recordings of 26 speakers\n"), done.err
    [row] = voice(place, "verify", "anna", "new/anna.wav", "--json").rows
    assert row["same"] is True and row["false_accepts"] == 0.01
    assert "325 scores of 26 speakers of the cohort" in row["basis"]
    assert "a cohort of 26 speakers" in voice(place, "list").err
    done = voice(place, "verify", "anna", "new/anna.wav", "--normalize")
    assert done.code == 2 and "a cohort of 26 speakers: at least 100 are needed" in done.err
    done = voice(place, "verify", "anna", "new/anna.wav", "--false-accepts", "0.001")
    assert "325 scores of 26 speakers of the cohort cut to 4 s, and 3,000 are needed" in done.out
    (place.folder / "one").mkdir()
    assert voice(place, "cohort", "one").code == 2


def test_voices_are_listed_and_removed(place: CommandLine) -> None:
    enrolled(place)
    assert voice(place, "list", "--json").rows == [
        {"voice": "anna", "recordings": 2, "seconds": 10.0},
        {"voice": "ben", "recordings": 2, "seconds": 10.0},
    ]
    assert voice(place, "remove", "anna").out == "anna removed: 2 recordings\n"
    assert [row["voice"] for row in voice(place, "list", "--json").rows] == ["ben"]
    assert voice(place, "list").errors == ["omnivec: 1 voice by plain, silence left out; no cohort"]
    done = voice(place, "remove", "anna")
    assert done.code == 2 and "no voice 'anna' is enrolled; enrolled: ben" in done.err


def test_recordings_that_fail_are_named(place: CommandLine) -> None:
    (place.folder / "bad.wav").write_bytes(b"RIFF....WAVE no more")
    done = voice(place, "enroll", "anna", "bad.wav", "anna0.wav", "--json")
    assert done.code == 3
    assert done.rows == [{"voice": "anna", "recordings": 1, "seconds": 5.0, "added": 1, "failed": 1}]
    assert len(done.errors) == 1 and "bad.wav" in done.err
    done = voice(place, "enroll", "ben", "bad.wav")
    assert done.code == 1 and "bad.wav" in done.err
    done = voice(place, "verify", "anna", "bad.wav")
    assert done.code == 1 and "bad.wav" in done.err


def test_the_file_is_found_in_a_parent_or_named(place: CommandLine) -> None:
    enrolled(place)
    (place.folder / "deep").mkdir()
    run = place.forked if forked.POSSIBLE else place
    assert len(run("voice", "list", "--json", before=STAND_INS, cwd=place.folder / "deep").rows) == 2
    done = voice(place, "list", "--profiles", "elsewhere.safetensors")
    assert done.code == 2 and "elsewhere.safetensors does not exist" in done.err
    voice(place, "enroll", "cleo", "anna0.wav", "-p", "elsewhere.safetensors")
    assert [row["voice"] for row in voice(place, "list", "-p", "elsewhere.safetensors", "--json").rows] == [
        "cleo"
    ]


def test_another_model_or_other_silence_is_refused(place: CommandLine) -> None:
    enrolled(place)
    done = voice(place, "verify", "anna", "new/anna.wav", "--model", "other")
    assert done.code == 1 and "Recorded: plain" in done.err and "Current: other" in done.err
    done = voice(place, "enroll", "anna", "new/anna.wav", "--no-vad")
    assert done.code == 1 and "speech detection differ" in done.err


def test_recordings_are_clustered(place: CommandLine) -> None:
    done = voice(place, "cluster", ".", "--speakers", "2", "--json")
    assert done.code == 0, done.err
    groups: dict[int, set[str]] = {}
    for row in done.rows:
        groups.setdefault(row["speaker"], set()).add(row["file"])
    assert [len(files) for files in groups.values()] == [3, 3]
    assert {"anna0.wav", "anna1.wav", "new/anna.wav"} in groups.values()
    done = voice(place, "cluster", ".", "--model", "measured")
    assert "6 recordings of 2 speakers; groups were merged down to a cosine of 0.700, for 5.0 s" in done.err
    assert voice(place, "cluster", ".", "--speakers", "2", "--threshold", "0.5").code == 2
    assert "nothing was measured for other" in voice(place, "cluster", ".", "--model", "other").err


def test_turns_are_found_and_named(place: CommandLine) -> None:
    order = [0, 1, 0, 1]
    save(place.folder, "talk.wav", *[hum(speaker, 4, i) for i, speaker in enumerate(order)])
    rows = voice(place, "diarize", "talk.wav", "--speakers", "2", "--json").rows
    assert [row["speaker"] for row in rows] == ["speaker 1", "speaker 2"] * 2
    assert [row["start"] for row in rows] == pytest.approx([0, 4, 8, 12], abs=0.3)
    assert rows[-1]["end"] == pytest.approx(16, abs=0.1)
    enrolled(place, "measured")
    done = voice(place, "diarize", "talk.wav", "--names")
    assert [line.split()[-1] for line in done.out.splitlines()[1:]] == ["anna", "ben"] * 2
    assert (
        "2 speakers in 16.0 s of speech of 16.0 s; clusters were merged down to a cosine of 0.6" in done.err
    )
    lines = voice(place, "diarize", "talk.wav", "-n", "2", "--rttm").out.splitlines()
    assert lines[0].split()[:3] == ["SPEAKER", "talk", "1"] and len(lines) == 4
    assert lines[0].split()[7] == "speaker_1"
    assert "nothing was measured for dvector" in voice(place, "diarize", "talk.wav").err


def test_json_of_verdicts_parses(place: CommandLine) -> None:
    enrolled(place)
    done = voice(place, "verify", "anna", "new/anna.wav", "--json")
    assert json.loads(done.out)["threshold"] is None


def test_what_is_missing_is_named(place: CommandLine) -> None:
    done = voice(place, "cohort", "nowhere")
    assert (done.code, done.out) == (1, "") and "nowhere: does not exist" in done.err
    done = voice(place, "cluster", "nowhere", "new", "--speakers", "2")
    assert done.code == 3 and done.err.count("nowhere: does not exist") == 1
    (place.folder / "bad.wav").write_bytes(b"RIFF")
    done = voice(place, "cluster", "nowhere", "bad.wav", "--speakers", "2")
    assert done.code == 1 and "nowhere: does not exist" in done.err and "bad.wav" in done.err


def test_a_place_that_cannot_be_written_is_told_before_recordings_are_read(place: CommandLine) -> None:
    for arguments in (("enroll", "anna", "nothing.wav"), ("cohort", "new")):
        done = voice(place, *arguments, "--profiles", "nowhere/voices.safetensors")
        assert done.code == 2 and "in a folder that does not exist" in done.err, done.err
