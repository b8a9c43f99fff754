"""Sounds in collections: files and `Audio`, windows with their times, notes, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import checkpoints
import omnivec
from known_models import known_folder
from omnivec import Audio, Collection
from omnivec.errors import UsageError
from omnivec.inputs.audio import MODALITY
from omnivec.inputs.audio.sound import Sound
from omnivec.types import Segment, Transcript
from sounds import noise, speechlike, tone

RATE = 16_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of sounds: three plain ones, a long one, and odd ones."""
    where = tmp_path / "sounds"
    where.mkdir()
    made = {
        "voice.wav": speechlike(2.0, RATE, seed=1),
        "tone.flac": tone(440, 1.0, RATE),
        "noise.ogg": noise(1.0, RATE),
        "long.wav": np.concatenate(
            [tone(300, 10.0, RATE), noise(10.0, RATE, seed=3), speechlike(5.0, RATE, seed=9)]
        ),
        "silence.wav": np.zeros(RATE, np.float32),
        "loud.wav": np.clip(3 * tone(200, 1.0, RATE, 1.0), -1, 1),
    }
    for name, samples in made.items():
        soundfile.write(where / name, samples, RATE)
    return where


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Collection]:
    with Collection(tmp_path / "notes.omni", models={"audio": "mfcc"}) as opened:
        yield opened


def test_a_folder_is_indexed_and_searched_by_a_sound(notes: Collection, folder: Path) -> None:
    report = notes.sync(folder)
    assert (report.new, report.passages, report.failed) == (6, 8, {})
    assert notes.sync(folder).unchanged == 6
    [hit] = notes.search(folder / "voice.wav", 1)
    assert (hit.id, hit.modality, hit.span, hit.span_unit) == (
        "sounds/voice.wav#0",
        "audio",
        (0, 2),
        "seconds",
    )
    facts = {key: hit.metadata[key] for key in ("seconds", "rate", "channels", "format")}
    assert facts == {"seconds": 2.0, "rate": RATE, "channels": 1, "format": "WAV"}
    assert MODALITY.measure(hit.metadata) == "2.0 s at 16 kHz"
    [hit] = notes.search(Audio(speechlike(5.0, RATE, seed=9), RATE), 1)
    assert (hit.document, hit.span) == ("sounds/long.wav", (20, 25))
    [hit] = notes.search(Audio(noise(10.0, RATE, seed=3), RATE), 1, where={"seconds": {"$gt": 20}})
    assert (hit.document, hit.span) == ("sounds/long.wav", (10, 20))


def test_sounds_are_recommended_by_those_that_one_likes(notes: Collection, folder: Path) -> None:
    soundfile.write(folder / "second voice.wav", speechlike(2.0, RATE, seed=1, pitch=150), RATE)
    notes.sync(folder)
    hits = notes.recommend(like=["sounds/voice.wav"], unlike=["sounds/tone.flac"], k=2)
    voices = {("sounds/second voice.wav", (0, 2)), ("sounds/long.wav", (20, 25))}
    assert {(hit.document, hit.span) for hit in hits} == voices


def test_what_is_odd_is_noted(notes: Collection, folder: Path) -> None:
    remarks = {Path(name).name: note for name, note in notes.sync(folder).notes.items()}
    assert set(remarks) == {"silence.wav", "loud.wav"}
    assert "silence: no sample is above the last of 16 bits" in remarks["silence.wav"]
    assert (
        "clipped: " in remarks["loud.wav"]
        and "% of the samples are in runs at full scale" in remarks["loud.wav"]
    )


def test_bad_files_are_named_and_cost_only_themselves(notes: Collection, folder: Path) -> None:
    whole = (folder / "voice.wav").read_bytes()
    nan = noise(1.0, RATE)
    nan[100] = np.nan
    soundfile.write(folder / "nan.wav", nan, RATE, subtype="FLOAT")
    bad = {
        "header.wav": whole[:30],
        "cut off.wav": whole[: len(whole) // 2],
        "text.mp3": b"no sound at all, only words",
        "empty.flac": b"",
    }
    for name, data in bad.items():
        (folder / name).write_bytes(data)
    report = notes.sync(folder)
    assert report.new == 6
    failed = {Path(name).name: why for name, why in report.failed.items()}
    left_out = {Path(name).name for name in report.left_out}
    assert {*failed, *left_out} == {"nan.wav", *bad}
    assert all("\n" not in why and name in why for name, why in failed.items())
    assert "100" in failed["nan.wav"] or "0.006" in failed["nan.wav"]
    assert "cut off" in failed["cut off.wav"]


def test_a_changed_file_is_embedded_again_and_a_copy_is_not_lost(notes: Collection, folder: Path) -> None:
    notes.sync(folder)
    soundfile.write(folder / "voice.wav", speechlike(3.0, RATE, seed=5), RATE)
    (folder / "tone.flac").unlink()
    report = notes.sync(folder)
    assert (report.changed, report.removed, report.unchanged) == (1, 1, 4)
    assert notes.search(Audio(speechlike(3.0, RATE, seed=5), RATE), 1)[0].document == "sounds/voice.wav"


def test_sound_in_memory_is_one_document(notes: Collection) -> None:
    one = Audio(speechlike(12.0, RATE, seed=2), RATE)
    added = notes.add([one, Audio(one.samples.copy(), RATE)])
    assert (added.new, added.passages) == (1, 2)
    assert added.ids[0] == added.ids[1]
    assert notes.add([Audio(one.samples, RATE // 2)]).new == 1  # another rate is another sound


def test_files_of_all_formats_of_libsndfile_are_found_in_folders(notes: Collection, tmp_path: Path) -> None:
    where = tmp_path / "formats"
    where.mkdir()
    for suffix in ("wav", "flac", "ogg", "mp3", "aiff", "caf", "au"):
        soundfile.write(where / f"a.{suffix}", tone(440, 1.0, RATE), RATE)
    report = notes.sync(where)
    assert (report.new, report.failed) == (7, {})


def test_a_folder_of_texts_images_and_sounds(tmp_path: Path, folder: Path) -> None:
    checkpoints.bert(tmp_path / "bert", width=32, layers=1)
    (folder / "words.md").write_text("The rain on the roof.\n")
    with Collection(tmp_path / "mixed.omni", models={"audio": "mfcc", "text": tmp_path / "bert"}) as notes:
        report = notes.sync(folder)
        assert report.new == 7
        assert set(notes.spaces()) == {"audio", "text"}
        assert {hit.modality for hit in notes.search("rain", 3)} == {"text"}
        assert notes.search(folder / "tone.flac", 1)[0].document.endswith("tone.flac")


def test_sounds_are_found_by_the_names_of_what_is_heard(tmp_path: Path, folder: Path) -> None:
    known_folder("yamnet")  # skips the test where it cannot be had
    with Collection(tmp_path / "heard.omni") as notes:  # YAMNet is the default model of sounds
        notes.sync(folder)
        assert notes.spaces()["audio"].model == "yamnet"
        [hit] = notes.search("speech", 1)
        assert hit.document == "sounds/voice.wav" or hit.document == "sounds/long.wav"
        [hit] = notes.search("silence", 1)
        assert (hit.document, hit.text, hit.space) == ("sounds/silence.wav", "Silence", "text search")
        assert {hit.document for hit in notes.search("white noise", 2)} >= {"sounds/noise.ogg"}


def speaker(*segments: Segment) -> omnivec.Embedder:
    """A model that hears these segments in every sound that is longer than a second."""
    model = omnivec.load("mfcc")

    def transcribe(items: list[Sound], show_progress_bar: bool | None = None) -> list[Transcript]:
        return [Transcript("", segments if one.seconds > 1 else ()) for one in items]

    vars(model)["transcribe"] = transcribe
    return model


def test_what_is_said_is_found_with_its_time(tmp_path: Path, folder: Path) -> None:
    said = speaker(Segment(0.0, 1.9, "Good morning."), Segment(12.0, 15.0, "The budget is approved."))
    path = tmp_path / "talks.omni"
    with Collection(path, models={"audio": "mfcc"}, transcriber=said) as notes:
        assert notes.sync(folder / "long.wav").passages == 5
        [hit] = notes.search("budget", 9)
        assert (hit.text, hit.span, hit.span_unit) == ("The budget is approved.", (12, 15), "seconds")
        assert hit.matches == ((4, 10),)
        assert notes.spaces()["audio"].provenance["transcriber"] == "mfcc"
        assert notes.sync(folder / "long.wav").unchanged == 1
    with Collection(path) as notes:  # a run that names no transcriber leaves the texts as they are
        assert notes.sync(folder / "long.wav").unchanged == 1
        assert [hit.text for hit in notes.search("morning", 9)] == ["Good morning."]
    with Collection(path, transcriber="") as notes:
        assert notes.sync(folder / "long.wav").changed == 1
        assert "transcriber" not in notes.get(notes.documents()[0].id)[0].how
        assert notes.search("morning", 9, mode="text") == []


def test_sounds_that_are_found_by_words_alone_are_not_searched_by_vectors_of_texts(
    tmp_path: Path, folder: Path
) -> None:
    where, said = tmp_path / "a.omni", speaker(Segment(0.0, 1.0, "a fox"))
    with Collection(where, models={"audio": "mfcc"}, transcriber=said) as notes:
        notes.sync(folder)
        for mode in (None, "text", "hybrid"):
            assert notes.search("fox", 1, mode=mode)[0].text == "a fox"
        with pytest.raises(
            UsageError, match=r"'audio' .* cannot be searched by text: its model mfcc does not read"
        ):
            notes.search("fox", mode="vector")


def test_a_model_that_cannot_write_is_refused(tmp_path: Path, folder: Path) -> None:
    with (
        Collection(tmp_path / "talks.omni", models={"audio": "mfcc"}, transcriber="mfcc") as notes,
        pytest.raises(omnivec.UsageError, match="cannot write down speech"),
    ):
        notes.sync(folder)
    with Collection(tmp_path / "talks.omni", models={"audio": "mfcc"}) as notes:  # it is not recorded
        assert notes.sync(folder).new == 6


def test_a_transcriber_that_cannot_be_loaded_is_refused_once_and_not_recorded(
    tmp_path: Path, folder: Path
) -> None:
    with (
        Collection(tmp_path / "talks.omni", models={"audio": "mfcc"}, transcriber="no such") as notes,
        pytest.raises(UsageError, match="writes down speech cannot be loaded: no model is called 'no such'"),
    ):
        notes.sync(folder)
    with Collection(tmp_path / "talks.omni", models={"audio": "mfcc"}) as notes:
        assert notes.sync(folder).new == 6


def test_the_fallback_is_said_in_one_line(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMNIVEC_CACHE", str(tmp_path / "no cache"))
    with Collection(tmp_path / "default.omni") as notes:
        assert notes.sync(folder).new == 6
        assert notes.spaces()["audio"].model == "mfcc"
        assert notes.search(folder / "tone.flac", 1)[0].document.endswith("tone.flac")
    lines = [line for line in capsys.readouterr().err.splitlines() if "mfcc" in line]
    assert len(lines) == 1 and "the default model of sounds, cannot be loaded: using mfcc instead" in lines[0]
    with Collection(tmp_path / "default.omni", create=False) as notes:
        assert notes.sync(folder).unchanged == 6
    assert omnivec.load("mfcc").name == "mfcc"
