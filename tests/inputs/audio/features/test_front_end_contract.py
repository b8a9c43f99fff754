"""What all front ends promise: their number of rows, their shape and type, and finite values for any sound."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import sounds
from omnivec.errors import UsageError
from omnivec.inputs.audio import features
from omnivec.inputs.audio.features import settings

FRONT_ENDS = {name: getattr(features, name) for name in features.__all__ if name.isupper()} | {
    "waveform": features.Waveform(),
    "normalised": features.Waveform(normalised=True, scale=32768.0),
    "whisper cropped": settings.whisper(cropped=True),
    "whisper of 1 s": settings.whisper(seconds=1),
    "clap repeated": replace(settings.clap(fused=False, seconds=1), fill="repeat"),
    "clap fused": replace(settings.clap(fused=True), samples=12_000),
    "whole patches": replace(features.YAMNET, incomplete="zeros"),
    "librosa reflect": settings.librosa_mel(16000, length=512, hop=160, padding="reflect"),
    "librosa odd": settings.librosa_mel(16000, length=401, hop=133, padding="reflect"),
    "no c0": replace(features.KALDI_MFCC, zeroth="none"),
}
LONGEST = 40_000
VOICE = sounds.speechlike(LONGEST / 16000, seed=8)


@pytest.mark.parametrize("name", FRONT_ENDS)
@hypothesis_settings(max_examples=30, deadline=None)
@given(samples=st.integers(0, LONGEST))
@example(samples=0)
@example(samples=1)
@example(samples=2)
@example(samples=399)
@example(samples=400)
@example(samples=15_599)
@example(samples=15_600)
@example(samples=23_280)
@example(samples=23_281)
@example(samples=LONGEST)
def test_the_number_of_rows_is_count(name, samples):
    front_end = FRONT_ENDS[name]
    rows = front_end(VOICE[:samples])
    assert rows.shape == (front_end.count(samples), *front_end.rows)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("name", FRONT_ENDS)
@pytest.mark.parametrize("sound", ["silence", "constant", "impulse", "full scale", "faint"])
@pytest.mark.parametrize("samples", [1, 500, 20_000])
def test_values_are_finite(name, sound, samples):
    values = np.zeros(samples, np.float32)
    if sound == "constant":
        values[:] = 0.25
    elif sound == "impulse":
        values[samples // 2] = 1
    elif sound == "full scale":
        values[::2], values[1::2] = 1, -1
    elif sound == "faint":
        values[:] = 1e-30
    before = values.copy()
    rows = FRONT_ENDS[name](values)
    assert np.isfinite(rows).all()
    assert np.array_equal(values, before)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_settings_are_json_and_cannot_change(name):
    front_end = FRONT_ENDS[name]
    described = asdict(front_end)
    assert json.loads(json.dumps(described)) == described
    with pytest.raises(FrozenInstanceError):
        setattr(front_end, next(iter(described)), None)
    assert hash(front_end) == hash(replace(front_end))


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_samples_need_not_be_contiguous_or_writable(name):
    pairs = np.stack((VOICE, -VOICE), axis=1)
    column = pairs[:20_000, 0]
    column.flags.writeable = False
    assert np.array_equal(FRONT_ENDS[name](column), FRONT_ENDS[name](VOICE[:20_000]))


@pytest.mark.parametrize("name", ["KALDI_FBANK", "WHISPER", "PSF_FBANK", "LIBROSA_MEL", "KALDI_MFCC"])
def test_rows_do_not_depend_on_the_block_they_are_computed_in(name, monkeypatch):
    sound = sounds.speechlike(6, seed=9)
    whole = FRONT_ENDS[name](sound)
    monkeypatch.setattr("omnivec.inputs.audio.features.frames._BLOCK", 1)  # 16 frames each
    assert np.abs(FRONT_ENDS[name](sound) - whole).max() < 1e-4


def test_whisper_crops_what_follows_the_sound():
    cropped = settings.whisper(cropped=True)
    assert [cropped.count(n) for n in (0, 1, 160, 161, 480_000, 480_001)] == [0, 1, 1, 2, 3000, 3000]
    assert np.array_equal(cropped(VOICE), features.WHISPER(VOICE)[:250])


def test_impossible_settings_are_refused():
    with pytest.raises(UsageError, match="not longer than the transform"):
        replace(features.KALDI_FBANK.frames, fft=256)
    with pytest.raises(UsageError, match="between 0 and 8000 Hz"):
        settings.kaldi_fbank(high=9000.0)
    with pytest.raises(UsageError, match="24 coefficients of 23 bands"):
        settings.kaldi_mfcc(24)
    with pytest.raises(UsageError, match="no negative range"):
        features.Log(range=-1.0)
    unknown: Any = "kaiser"
    with pytest.raises(UsageError, match="is not a window function"):
        replace(features.KALDI_FBANK, frames=replace(features.KALDI_FBANK.frames, window=unknown))(VOICE)
