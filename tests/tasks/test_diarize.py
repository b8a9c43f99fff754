"""Diarization of recordings by stand-ins: speech only, known and unknown numbers, names, RTTM."""

from __future__ import annotations

import numpy as np
import pytest

from omnivec.errors import ItemError, UsageError
from omnivec.tasks import voice_figures
from omnivec.tasks.diarize import diarize, joined, rttm
from omnivec.tasks.voice import Voices
from omnivec.tasks.voice_figures import Figures
from omnivec.tasks.voice_reading import VoiceReader
from omnivec.types import Audio
from omnivec.vectors.diarization import Turns, diarization_error
from voices import RATE, LoudDetector, SpectrumModel, hum


def found_in(sound, **options):
    return diarize(sound, SpectrumModel(), vad=LoudDetector(), **options)


def talk(speakers, seconds=4.0, pause=0.0):
    """A recording of turns, and its reference."""
    pieces, rows, at = [], [], 0.0
    for i, speaker in enumerate(speakers):
        pieces += [hum(speaker, seconds, i).samples, np.zeros(round(pause * RATE), np.float32)]
        rows.append((at, at + seconds))
        at += seconds + pause
    numbers = {speaker: i for i, speaker in enumerate(dict.fromkeys(speakers))}
    turns = Turns(np.array(rows), np.array([numbers[one] for one in speakers]))
    return Audio(np.concatenate(pieces), RATE), turns


@pytest.mark.parametrize("options", [{"speakers": 3}, {"threshold": 0.6}])
@pytest.mark.parametrize("pause", [0.0, 1.5])
def test_turns_are_found(options, pause):
    sound, truth = talk([0, 1, 2, 1, 0, 2, 1], pause=pause)
    found = found_in(sound, **options)
    assert found.turns.count == 3
    error = diarization_error(truth, found.turns)
    assert error.rate < 0.08
    assert error.missed + error.false_alarm < 0.5  # pauses are no one's
    assert found.speech == pytest.approx(28, abs=0.2)
    assert found.seconds == pytest.approx(7 * (4 + pause))


def test_without_a_detector_all_of_the_time_is_given_to_speakers():
    sound, _ = talk([0, 1, 0], pause=1.0)
    found = diarize(sound, SpectrumModel(), vad=False, threshold=0.6)
    assert found.turns.spans[0, 0] == 0
    assert found.turns.spans[-1, 1] == pytest.approx(15)
    assert (found.turns.spans[1:, 0] == found.turns.spans[:-1, 1]).all()


def test_many_windows_are_embedded_in_parts(monkeypatch):
    monkeypatch.setattr("omnivec.tasks.voice_reading._WINDOWS", 10)
    sound, truth = talk([0, 1, 0, 1])
    model = SpectrumModel()
    found = diarize(sound, model, vad=LoudDetector(), speakers=2)
    assert diarization_error(truth, found.turns).rate < 0.08
    assert max(model.calls) == 10
    assert sum(model.calls) == len(range(16 * 4 - 6)) + 1  # every 0.25 s, and one that ends at the end


def test_the_number_of_speakers_comes_from_somewhere(monkeypatch):
    sound, _ = talk([0, 1])
    with pytest.raises(
        UsageError, match="nothing was measured for spectrum that tells two speakers from one"
    ):
        found_in(sound)
    with pytest.raises(UsageError, match="and not both"):
        found_in(sound, speakers=2, threshold=0.5)
    figures = Figures("spectrum", True, (1.0,), (0.6,), (0.04,), ((0.6, 0.04),), 0.6, "made up for a test")
    monkeypatch.setattr(voice_figures, "FIGURES", (figures,))
    found = found_in(sound)
    assert found.turns.count == 2
    assert found.basis == "clusters were merged down to a cosine of 0.6: made up for a test"


def test_speakers_are_recognised(tmp_path, monkeypatch):
    figures = Figures("spectrum", True, (1.0,), (0.6,), (0.04,), ((0.6, 0.04),), 0.6, "made up for a test")
    monkeypatch.setattr(voice_figures, "FIGURES", (figures,))
    voices = Voices(tmp_path / "voices.safetensors", SpectrumModel(), vad=LoudDetector())
    voices.enroll("anna", hum(0, 6, 50))
    voices.enroll("cleo", hum(2, 6, 50))
    sound, _ = talk([2, 1, 0, 1, 2])
    found = diarize(sound, voices=voices)
    assert [found.label(speaker) for speaker in range(3)] == ["cleo", "speaker 2", "anna"]
    assert found.names[0].same is True
    with pytest.raises(UsageError, match="leave model and vad out"):
        diarize(sound, SpectrumModel(), voices=voices)
    assert repr(found) == "<Conversation: 3 speakers, 20.0 of 20.0 s are speech>"


def test_short_pauses_belong_to_turns():
    spans = np.array([[0, 1], [1.2, 2], [2.6, 3], [3.4, 4]])
    assert joined(spans).tolist() == [[0, 2], [2.6, 4]]
    assert joined(spans, 0.1).tolist() == spans.tolist()
    assert joined(spans[:0]).shape == (0, 2)
    sound, _ = talk([0, 0, 1, 1], seconds=3.0, pause=0.3)
    assert len(found_in(sound, speakers=2).turns) == 2


def test_rttm_lines():
    sound, _ = talk([0, 1], pause=1.0)
    lines = rttm(found_in(sound, speakers=2), "meeting")
    assert lines == [
        "SPEAKER meeting 1 0.000 4.000 <NA> <NA> speaker_1 <NA> <NA>",
        "SPEAKER meeting 1 5.000 4.000 <NA> <NA> speaker_2 <NA> <NA>",
    ]
    with pytest.raises(ItemError, match="has no blanks"):
        rttm(found_in(sound, speakers=2), "a meeting")


def test_too_little_speech_is_named():
    with pytest.raises(ItemError, match=r"0\.00 s of speech in 3\.00 s"):
        found_in(Audio(np.zeros(3 * RATE, np.float32), RATE), speakers=2)
    found = found_in(hum(0, 0.5), speakers=2)
    assert found.turns.spans.round(2).tolist() == [[0, 0.5]]


def test_rates_are_converted():
    """Voices are read at 16 kHz, whatever the rate of the recording."""
    rates = []

    class Watching(SpectrumModel):
        def run(self, items):
            rates.extend(item.rate for item in items)
            return super().run(items)

    reader = VoiceReader(Watching(), None)
    slow = hum(0, 3)
    reader.embed([Audio(np.repeat(slow.samples, 3), 48_000), slow])
    assert rates == [RATE, RATE]
