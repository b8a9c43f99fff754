"""Windows of sounds, their transcripts joined, and what `Embedder.transcribe` refuses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import omnivec
import small_models
from omnivec import Audio
from omnivec.errors import UsageError
from omnivec.inputs.audio.features import Waveform
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.inputs.audio.sound import read_sound
from omnivec.models import transcribing
from omnivec.types import Floats, Segment, Transcript

RATE = 1000
PROCESSING = SoundProcessing(rate=RATE, features=Waveform(), seconds=3.0)


def windows(item: Any) -> Any:
    return transcribing._windows(item, read_sound, PROCESSING)


def speech(*seconds: float, loud: float = 0.5) -> Audio:
    """Noise of these lengths, with a pause of 0.3 s after each."""
    rng = np.random.default_rng(0)
    parts = [
        part
        for length in seconds
        for part in (loud * rng.uniform(-1, 1, round(length * RATE)), np.zeros(round(0.3 * RATE)))
    ]
    return Audio(np.concatenate(parts).astype(np.float32), RATE)


def test_sounds_are_cut_in_pauses() -> None:
    sound = speech(2.4, 2.0, 0.5, 1.0)
    found = list(windows(sound))
    assert np.array_equal(np.concatenate([one.samples for one in found]), sound.samples)
    starts = [one.start for one in found]
    assert starts[0] == 0.0 and 2.4 < starts[1] < 2.7 and 4.7 < starts[2] < 5.0
    assert all(one.seconds <= 3.0 and one.seconds == len(one.samples) / RATE for one in found)


def test_a_sound_of_the_longest_length_is_one_window() -> None:
    for samples, count in ((3000, 1), (2999, 1), (1, 1), (3001, 2)):
        assert len(list(windows(Audio(np.full(samples, 0.1, np.float32), RATE)))) == count


def test_a_sound_without_pauses_is_cut_in_its_last_third() -> None:
    samples = np.full(3000, 0.1, np.float32)
    assert 2000 < transcribing.pause(samples, RATE) <= 3000
    assert transcribing.pause(np.ones(30, np.float32), RATE) == 30


class Counting:
    """Writes down how long each window is, and which batches it was given."""

    languages: Sequence[str] = ("en", "de")
    rows = 2

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def transcribe(self, sounds: Sequence[Floats]) -> list[Transcript]:
        self.batches.append([len(one) for one in sounds])
        made = []
        for one in sounds:
            seconds = len(one) / RATE
            text = f"{seconds:.1f} s"
            notes = ("odd",) if seconds < 1.2 else ()
            made.append(
                Transcript(text, (Segment(0.0, seconds, text),), "en" if seconds > 1.2 else "de", notes)
            )
        return made


def run(items: Sequence[Any]) -> tuple[list[Transcript | str], Counting]:
    counting, done = Counting(), []
    got = transcribing._transcribe(items, windows, counting.rows, counting.transcribe, done.append)
    assert done == [1] * len(items)
    return got, counting


def test_windows_of_several_sounds_share_batches_and_are_joined() -> None:
    long, short = speech(2.4, 2.0, 0.5), speech(1.0)
    got, counting = run([long, short, short])
    assert [len(batch) for batch in counting.batches] == [2, 2, 1]
    first = got[0]
    assert isinstance(first, Transcript) and len(first.segments) == 3 and first.language == "en"
    assert first.text == " ".join(one.text for one in first.segments)
    assert first.segments[0].start == 0.0
    for before, after in zip(first.segments, first.segments[1:], strict=False):
        assert before.end == pytest.approx(after.start, abs=2e-3)
    assert first.segments[-1].end == pytest.approx(len(long.samples) / RATE, abs=2e-3)
    assert len(first.notes) == 1 and first.notes[0].endswith(" s: odd") and "4." in first.notes[0]
    assert got[1] == got[2] == run([short])[0][0]


def test_silence_has_no_text_and_a_bad_item_costs_only_itself() -> None:
    silence = Audio(np.zeros(4000, np.float32), RATE)
    got, counting = run(
        [speech(1.0), Path("missing.wav"), silence, Audio(np.full(9, np.nan, np.float32), RATE)]
    )
    assert isinstance(got[0], Transcript) and got[0].text == "1.3 s"
    assert isinstance(got[1], str) and "missing.wav" in got[1] and "\n" not in got[1]
    assert got[2] == Transcript("", ()) and counting.batches == [[1300]]
    assert isinstance(got[3], str)


def test_a_model_of_texts_cannot_transcribe(tmp_path: Path) -> None:
    model = omnivec.load(small_models.of_texts(tmp_path))
    with pytest.raises(UsageError, match="makes vectors, but cannot write down speech"):
        model.transcribe(Path("talk.wav"))
