"""Voices by stand-ins: enrolment, decisions and what they rest on, the cohort, groups of recordings."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from omnivec.errors import IdentityError, ItemError, ItemErrors, UsageError
from omnivec.tasks import voice_decision, voice_figures
from omnivec.tasks.voice import Voices, cluster_voices
from omnivec.tasks.voice_decision import Evidence, facts
from omnivec.tasks.voice_figures import Figures
from omnivec.tasks.voice_profiles import read_profiles
from omnivec.types import Audio
from voices import LoudDetector, SpectrumModel, hum


def opened(folder, **options):
    return Voices(
        folder / "voices.safetensors", options.pop("model", SpectrumModel()), vad=LoudDetector(), **options
    )


def cohort_of(count, seconds=5.0):
    return [hum(1000 + i, seconds) for i in range(count)], [f"speaker {i}" for i in range(count)]


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory):
    """Three voices and a cohort of 30 speakers."""
    voices = opened(tmp_path_factory.mktemp("voices"))
    for number, name in enumerate(["anna", "ben", "cleo"]):
        voices.enroll(name, [hum(number, 5, take) for take in range(4)])
    voices.set_cohort(*cohort_of(30))
    return voices


@pytest.fixture
def measured(monkeypatch):
    """Figures of the stand-in."""
    both = ((0.5, 0.1), (0.8, 0.01))
    figures = Figures("spectrum", True, (1.0, 4.0), (0.6, 0.8), (0.04, 0.01), both, 0.7, "made up for a test")
    monkeypatch.setattr(voice_figures, "FIGURES", (figures,))
    return figures


def test_a_voice_is_recognised_and_another_is_not(enrolled):
    assert enrolled.verify("anna", hum(0, 5, 9)).same is True
    assert enrolled.verify("anna", hum(1, 5, 9)).same is False
    ranked = enrolled.identify(hum(2, 5, 9))
    assert ranked[0].name == "cleo"
    assert [one.same for one in ranked] == [True, False, False]
    assert not any(one.same for one in enrolled.identify(hum(500, 5)))


def test_the_threshold_is_that_of_the_cohort_cut_to_the_length_compared(enrolled):
    stored = enrolled.profiles.cohort
    assert stored.lengths == (1.0, 2.0, 4.0, math.inf)
    for seconds, row in ((1.5, 0), (3.0, 1), (5.0, 2)):
        verdict = enrolled.verify("anna", hum(0, seconds, 9))
        # The enrolled side has 20 s, so that whole recordings are compared with cut ones.
        cut = stored.vectors[row].astype(float)
        scores = (stored.vectors[3] @ cut.T)[np.triu_indices(30, 1)]
        assert (scores > verdict.threshold + 1e-9).sum() == 4  # of 435
        assert verdict.false_accepts == 0.01
        assert f"435 scores of 30 speakers of the cohort cut to {stored.lengths[row]:g} s" in verdict.basis
    verdict = enrolled.verify("anna", hum(0, 9, 9))
    assert "435 scores of 30 speakers of the cohort" in verdict.basis
    assert "cut" not in verdict.basis.split(";")[0]


def test_the_stated_rate_holds_for_strangers(enrolled):
    """Strangers of the same kind as the cohort: 10 % stated, within what 120 trials can show."""
    evidence = enrolled.evidence(rate=0.1)
    accepted = [
        evidence.verdict(voice, *enrolled.reader.embed_one(hum(3000 + i, 5))).same
        for i in range(40)
        for voice in evidence.profiles.voices.values()
    ]
    assert 0.03 < np.mean(accepted) < 0.2


def test_rates_need_enough_speakers(tmp_path):
    voices = opened(tmp_path)
    voices.enroll("anna", hum(0, 5))
    voices.set_cohort(*cohort_of(20))
    verdict = voices.verify("anna", hum(0, 9, 1))
    assert verdict.same is None
    assert verdict.threshold is None
    assert "nothing supports a threshold for this model" in verdict.basis
    assert "there are 190 scores of 20 speakers of the cohort cut to 4 s, and 300 are needed" in verdict.basis
    assert voices.verify("anna", hum(0, 9, 1), rate=0.02).same is True  # needs 150


def test_without_cohort_and_figures_there_is_a_score_and_no_verdict(tmp_path):
    voices = opened(tmp_path)
    voices.enroll("anna", hum(0, 5))
    verdict = voices.verify("anna", hum(0, 5, 1))
    assert verdict.score > 0.5
    assert (verdict.same, verdict.threshold, verdict.false_accepts, verdict.false_rejects) == (None,) * 4
    assert verdict.basis == "no verdict: nothing supports a threshold for this model"


def test_published_figures_are_taken_at_the_length_compared(tmp_path, measured):
    voices = opened(tmp_path)
    voices.enroll("anna", hum(0, 2))
    verdict = voices.verify("anna", hum(0, 8, 1))
    assert verdict.threshold == pytest.approx(0.7, abs=1e-3)  # 2 s is half way from 1 to 4 s in its logarithm
    assert (verdict.false_accepts, verdict.false_rejects) == pytest.approx((0.025, 0.025), abs=1e-3)
    assert verdict.basis == "made up for a test"
    both_short = voices.verify("anna", hum(0, 2, 1))
    assert (both_short.threshold, both_short.false_accepts) == pytest.approx((0.65, 0.055), abs=1e-3)
    voices.enroll("anna", hum(0, 9, 2))
    assert voices.verify("anna", hum(0, 8, 1)).threshold == pytest.approx(0.8)
    short = voices.verify("anna", hum(0, 0.7, 1))
    assert short.same is None
    assert "0.7 s of speech are compared, and the model's figures begin at 1 s" in short.basis


def test_figures_are_of_one_model_with_the_same_treatment_of_silence(tmp_path, measured):
    other = opened(tmp_path, model=SpectrumModel("another"))
    other.enroll("anna", hum(0, 5))
    assert other.verify("anna", hum(0, 5, 1)).same is None
    whole = Voices(tmp_path / "whole.safetensors", SpectrumModel(), vad=False)
    whole.enroll("anna", hum(0, 5))
    assert whole.verify("anna", hum(0, 5, 1)).same is None


def test_probabilities_need_ten_recordings(enrolled, tmp_path):
    same, other = (enrolled.verify("anna", hum(who, 5, 9)).probability for who in (0, 1))
    assert same > 0.9
    assert other < 0.1
    voices = opened(tmp_path)
    for number, name in enumerate(["anna", "ben"]):
        voices.enroll(name, [hum(number, 5, take) for take in range(4)])
    assert voices.verify("anna", hum(0, 5, 9)).probability is None


def test_enrolled_recordings_say_how_many_are_rejected(enrolled):
    verdict = enrolled.verify("anna", hum(0, 5, 9))
    assert verdict.false_rejects == 0
    assert "0 of the 12 enrolled recordings score less against the others of their speaker" in verdict.basis


def test_scores_are_normalised_by_a_large_cohort_or_on_request(enrolled, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="a cohort of 30 speakers: at least 100 are needed"):
        enrolled.verify("anna", hum(0, 5, 9), normalize=True)
    voices = opened(tmp_path)
    voices.enroll("anna", [hum(0, 5, take) for take in range(2)])
    with pytest.raises(UsageError, match="there is no cohort to normalise scores by"):
        voices.verify("anna", hum(0, 5, 9), normalize=True)
    voices.set_cohort(*cohort_of(110))
    plain = voices.verify("anna", hum(0, 5, 9))
    verdict = voices.verify("anna", hum(0, 5, 9), normalize=True)
    assert (plain.normalized, verdict.normalized) == (False, True)
    assert verdict.score > 1.5
    assert verdict.same is True
    assert voices.verify("anna", hum(7, 5, 9), normalize=True).same is False
    monkeypatch.setattr(voice_decision, "NORMALIZED", 110)
    assert voices.verify("anna", hum(0, 5, 9)).normalized
    assert not voices.verify("anna", hum(0, 5, 9), normalize=False).normalized


def test_figures_of_cosines_are_no_thresholds_for_normalised_scores(enrolled, measured):
    cohort = enrolled.profiles.cohort
    few = dataclasses.replace(enrolled.profiles, cohort=cohort)
    evidence = Evidence(few, rate=1e-6, normalize=False)
    vector, seconds = enrolled.reader.embed_one(hum(0, 5, 9))
    assert evidence.verdict(few.voices["anna"], vector, seconds).threshold == pytest.approx(0.8)


def test_silence_is_left_out_and_counts_for_nothing(tmp_path):
    voices = opened(tmp_path)
    voices.enroll("anna", hum(0, 5))
    assert voices.profiles.voices["anna"].seconds == pytest.approx((5.0,))
    quiet = voices.verify("anna", hum(0, 5, silence=7.0))
    assert quiet.tested == pytest.approx(5.0)
    assert quiet.score == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(ItemError, match=r"0\.30 s of speech in 4\.30 s, and at least 0\.4 s are needed"):
        voices.verify("anna", hum(0, 0.3, silence=4.0))


def test_one_bad_recording_costs_only_itself(tmp_path):
    voices = opened(tmp_path)
    made = voices.enroll("anna", [hum(0, 5), tmp_path / "missing.wav", hum(0, 5, 1)])
    assert len(made.voice.sources) == 2
    assert list(made.failures) == [1]
    assert "missing.wav" in made.failures[1]
    with pytest.raises(ItemErrors, match="1 of 1 items failed"):
        voices.enroll("ben", tmp_path / "missing.wav")
    assert list(voices.profiles.voices) == ["anna"]


def test_a_recording_counts_once_and_others_are_added(tmp_path):
    voices = opened(tmp_path)
    voices.enroll("anna", [hum(0, 5), hum(0, 4, 1)])
    voices.enroll(" anna ", [hum(0, 5), hum(0, 3, 2)])
    voice = voices.profiles.voices["anna"]
    assert sorted(round(one) for one in voice.seconds) == [3, 4, 5]
    assert voice.vector == pytest.approx(voice.vectors.mean(0) / np.linalg.norm(voice.vectors.mean(0)))
    assert repr(voice) == "<Voice 'anna': 3 recordings, 12.0 s of speech>"


def test_voices_are_removed(tmp_path):
    voices = opened(tmp_path)
    voices.enroll("anna", hum(0, 5))
    voices.enroll("ben", hum(1, 5))
    assert voices.remove("anna").name == "anna"
    assert list(voices.profiles.voices) == ["ben"]
    with pytest.raises(UsageError, match="no voice 'anna' is enrolled; enrolled: ben"):
        voices.verify("anna", hum(0, 5))
    # Nothing of the voice is left in the file.
    assert b"anna" not in voices.file.read_bytes()


def test_another_model_is_refused_with_both_identities(tmp_path):
    opened(tmp_path).enroll("anna", hum(0, 5))
    before = (tmp_path / "voices.safetensors").read_bytes()
    other = opened(tmp_path, model=SpectrumModel("another"))
    for call in (lambda: other.verify("anna", hum(0, 5)), lambda: other.enroll("ben", hum(1, 5))):
        with pytest.raises(
            IdentityError, match=r"weights, family differ.*Recorded: spectrum.*Current: another"
        ):
            call()
    whole = Voices(tmp_path / "voices.safetensors", SpectrumModel(), vad=False)
    with pytest.raises(IdentityError, match=r"speech detection differ.*speech by loudness.*whole recordings"):
        whole.verify("anna", hum(0, 5))
    assert (tmp_path / "voices.safetensors").read_bytes() == before


def test_a_model_of_other_items_is_refused(tmp_path):
    model = SpectrumModel()
    model.modalities = ("text",)
    with pytest.raises(UsageError, match="spectrum reads text, not sounds"):
        opened(tmp_path, model=model).enroll("anna", hum(0, 5))


def test_a_cohort_needs_names_of_several_speakers(tmp_path):
    voices = opened(tmp_path)
    with pytest.raises(UsageError, match="2 recordings of 1 speakers"):
        voices.set_cohort([hum(0, 5), hum(1, 5)], ["a", "a"])
    cohort, failures = voices.set_cohort(
        [hum(0, 5), Audio(np.zeros(16_000, np.float32), 16_000), hum(1, 5)], "abc"
    )
    assert list(failures) == [1]
    assert cohort.speakers == ("a", "c")
    # Recordings of one speaker are no impostors of each other.
    voices.set_cohort([hum(i // 2, 5, i) for i in range(60)], [str(i // 2) for i in range(60)])
    voices.enroll("anna", hum(900, 5))
    verdict = voices.verify("anna", hum(900, 9))
    assert f"{30 * 58:,} scores of 30 speakers" in verdict.basis


def test_facts_are_json(enrolled):
    found = facts(enrolled.verify("anna", hum(0, 5, 9)))
    assert found["same"] is True
    assert found["tested"] == 5.0
    assert set(found) == {field.name for field in dataclasses.fields(voice_decision.Verdict)}


def test_recordings_are_grouped_by_speaker(measured):
    sounds = [hum(speaker, 4, take) for take in range(3) for speaker in range(4)]
    for options in ({"speakers": 4}, {"threshold": 0.6}, {}):
        found = cluster_voices(sounds, SpectrumModel(), vad=LoudDetector(), **options)
        assert found.labels.tolist() == [0, 1, 2, 3] * 3
        assert found.seconds == pytest.approx(np.full(12, 4.0))
    assert found.basis.startswith("groups were merged down to a cosine of 0.800, for 4.0 s: made up")
    assert repr(found) == "<ClusteredVoices: 12 recordings of 4 speakers>"
    with pytest.raises(UsageError, match="and not both"):
        cluster_voices(sounds, SpectrumModel(), speakers=2, threshold=0.5)
    with pytest.raises(UsageError, match=r"nothing was measured for another and 4\.0 s"):
        cluster_voices(sounds, SpectrumModel("another"), vad=LoudDetector())


def test_a_loaded_model_of_sounds_can_be_used(tmp_path):
    """MFCC statistics, which need no weights and are no voice model: scores, and no verdict."""
    voices = Voices(tmp_path / "voices.safetensors", "mfcc", vad=False)
    voices.enroll("anna", [hum(0, 3), hum(0, 3, 1)])
    verdict = Voices(tmp_path / "voices.safetensors").verify("anna", hum(0, 3, 2))
    assert (verdict.same, verdict.threshold) == (None, None)
    assert verdict.score > Voices(tmp_path / "voices.safetensors").verify("anna", hum(5, 3)).score
    with pytest.raises(IdentityError, match="Recorded: mfcc"):
        Voices(tmp_path / "voices.safetensors", SpectrumModel(), vad=False).verify("anna", hum(0, 3))


def test_names_are_checked(tmp_path):
    voices = opened(tmp_path)
    for name in ("", " ", "a\nb", "x" * 201):
        with pytest.raises(UsageError, match="printable characters"):
            voices.enroll(name, hum(0, 5))
    with pytest.raises(UsageError, match="no recordings of 'anna'"):
        voices.enroll("anna", [])
    with pytest.raises(UsageError, match="does not exist: enroll a voice first"):
        voices.verify("anna", hum(0, 5))
    with pytest.raises(UsageError, match="rate=1"):
        voices.verify("anna", hum(0, 5), rate=1)
    assert read_profiles(tmp_path / "voices.safetensors") is None
