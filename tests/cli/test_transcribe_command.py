"""`omnivec transcribe`: blocks and JSON lines, and files that fail."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

import omnivec
from whispers import sounds, speaker
from workbench import CommandLine


@pytest.fixture
def recordings(omni: CommandLine) -> CommandLine:
    speaker(omni.folder / "model", ending=3.0)
    (omni.folder / "talks").mkdir()
    for i, one in enumerate(sounds((16000, 30000))):
        soundfile.write(omni.folder / "talks" / f"{i}.wav", one, 16000, subtype="FLOAT")
    (omni.folder / "talks" / "bad.wav").write_bytes(b"RIFF    WAVE no more")
    (omni.folder / "talks" / "notes.txt").write_text("a text")
    return omni


def test_json_lines_and_blocks_are_what_the_model_writes(recordings: CommandLine) -> None:
    files = [recordings.folder / "talks" / f"{i}.wav" for i in (0, 1)]
    model = omnivec.load(recordings.folder / "model", precision="float32")
    expected = model.transcribe(files, language="de")
    (recordings.folder / "talks" / "bad.wav").unlink()
    done = recordings("transcribe", "talks", "-m", "model", "--language", "de", "--json")
    assert done.code == 0, done.err
    assert [row["file"] for row in done.rows] == ["talks/0.wav", "talks/1.wav"]
    for row, transcript in zip(done.rows, expected, strict=True):
        assert (row["text"], row["language"]) == (transcript.text, transcript.language)
        segments = [(one.start, one.end, one.text) for one in transcript.segments]
        assert [tuple(one.values()) for one in row["segments"]] == segments and segments
        assert row["notes"] == list(transcript.notes)
    blocks = recordings("transcribe", "talks/0.wav", "-m", "model", "--language", "de").out.splitlines()
    assert blocks[0] == "talks/0.wav  (de)"
    assert len([line for line in blocks[1:] if line]) == len(expected[0].segments)
    first = expected[0].segments[0]
    assert [float(number) for number in blocks[1].split()[:2]] == [round(first.start, 2), round(first.end, 2)]


def test_a_bad_file_costs_only_itself(recordings: CommandLine) -> None:
    done = recordings("transcribe", "talks", "-m", "model", "--json")
    assert done.code == 3 and len(done.rows) == 2
    assert sum("talks/bad.wav" in line for line in done.errors) == 1
    assert "2 files written down, 1 failed" in done.err and "no audio by their names: 1 .txt" in done.err


def test_a_model_that_cannot(recordings: CommandLine, tiny: Path) -> None:
    done = recordings("transcribe", "talks", "-m", tiny)
    assert (done.code, done.out) == (2, "") and "cannot write down speech" in done.err
    wrong = recordings("transcribe", "talks", "-m", "model", "--language", "klingon")
    assert wrong.code == 2 and "none of the languages" in wrong.err


def test_a_missing_file_is_counted(recordings: CommandLine) -> None:
    done = recordings("transcribe", "talks/0.wav", "nowhere.wav", "-m", "model", "--json")
    assert done.code == 3 and len(done.rows) == 1
    assert "nowhere.wav: does not exist" in done.err and "1 file written down, 1 failed" in done.err
