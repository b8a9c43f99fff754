"""Sounds on the command line: indexed, searched by a sound, shown with their times, and played in a page."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sounds import noise, speechlike, tone
from workbench import CommandLine


@pytest.fixture
def recordings(omni: CommandLine) -> CommandLine:
    """A folder with a collection of two short sounds and a long one."""
    folder = omni.folder / "heard"
    folder.mkdir()
    soundfile.write(folder / "voice.wav", speechlike(2.0, seed=1), 16_000)
    soundfile.write(folder / "tone.flac", tone(440, 1.0), 16_000)
    soundfile.write(folder / "long.wav", np.concatenate([tone(300, 80.0), noise(10.0, seed=3)]), 16_000)
    done = omni("index", "heard", "--model", "audio=mfcc")
    assert done.code == 0 and "3 new" in done.out and "11 passages" in done.out
    return omni


def test_a_sound_is_found_with_its_time(recordings: CommandLine) -> None:
    soundfile.write(recordings.folder / "query.wav", noise(10.0, seed=3), 16_000)
    done = recordings("search", "--audio", "query.wav", "-k", "1")
    assert re.fullmatch(
        r" 1  -?0\.\d{3}  heard/long\.wav  1:20-1:30  1:30 min at 16 kHz", done.out.strip("\n")
    )
    done = recordings("search", "--audio", "query.wav", "-k", "1", "--json")
    row = json.loads(done.out)
    assert (row["span"], row["span_unit"], row["modality"]) == ([80, 90], "seconds", "audio")
    done = recordings("search", "--file", "heard/voice.wav", "-k", "1")
    assert "heard/voice.wav  2.0 s at 16 kHz" in done.out


def test_a_page_plays_what_was_found(recordings: CommandLine) -> None:
    soundfile.write(recordings.folder / "query.wav", noise(10.0, seed=3), 16_000)
    assert recordings("search", "--audio", "query.wav", "-k", "2", "--html", "found.html").code == 0
    page = (recordings.folder / "found.html").read_text()
    players = re.findall(r'<audio controls preload="metadata" src="data:audio/mpeg;base64,([^"]+)"', page)
    assert (
        len(players) == 3 and "media-src data:" in page and "1:20-1:30" in page
    )  # the query, and two results
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(players[1])))
    assert len(samples) / rate == pytest.approx(10.0, abs=0.2)
    (recordings.folder / "heard" / "long.wav").unlink()
    recordings("search", "--audio", "query.wav", "-k", "1", "--html", "found.html")
    page = (recordings.folder / "found.html").read_text()
    assert page.count("<audio ") == 1 and "does not exist" in page


def test_what_is_no_sound_is_refused(recordings: CommandLine) -> None:
    (recordings.folder / "words.txt").write_text("the quick brown fox")
    done = recordings("search", "--audio", "words.txt")
    assert done.code == 1 and done.errors[-1].startswith("omnivec: words.txt: not a sound")
    done = recordings("search", "--audio", "gone.wav")
    assert done.code == 1 and len(done.errors) == 1
    done = recordings("search", "fox", "--audio", "words.txt")
    assert done.code == 2 and "more than one is given" in done.errors[-1]


def test_sounds_are_embedded_one_by_one(recordings: CommandLine) -> None:
    (recordings.folder / "heard" / "broken.wav").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    files = sorted((recordings.folder / "heard").iterdir())
    done = recordings("embed", *files, "--model", "mfcc")
    assert done.code == 3
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [len(row["vector"]) for row in rows if "vector" in row] == [120] * 3
    assert [Path(row["item"]).name for row in rows if "lost" in row] == ["long.wav"]
    assert [row["lost"] for row in rows if "lost" in row] == [80.0]
    assert "1 item longer than the model's 10 seconds: truncated" in done.errors[-1]
