"""Mel scales and filter banks against librosa, transformers and python_speech_features."""

from __future__ import annotations

import numpy as np
import pytest

from omnivec.errors import UsageError
from omnivec.inputs.audio.features import MelFilters
from omnivec.inputs.audio.features.mel_filters import to_hertz, to_mel


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_scales_have_inverses(scale):
    hertz = np.linspace(0, 24_000, 97)
    assert np.allclose(to_hertz(to_mel(hertz, scale), scale), hertz)
    assert np.all(np.diff(to_mel(hertz, scale)) > 0)


def test_known_points_of_the_scales():
    assert to_mel(1000.0, "htk") == pytest.approx(1000, abs=0.02)
    assert to_mel(1000.0, "slaney") == pytest.approx(15)
    assert to_mel(6400.0, "slaney") == pytest.approx(42)


@pytest.mark.parametrize("htk", [False, True])
@pytest.mark.parametrize("norm", [None, "slaney"])
@pytest.mark.parametrize(
    "rate, fft, bands, low, high", [(22050, 2048, 128, 0, None), (16000, 512, 40, 60, 7600)]
)
def test_filters_of_librosa(htk, norm, rate, fft, bands, low, high):
    librosa = pytest.importorskip("librosa")
    reference = librosa.filters.mel(sr=rate, n_fft=fft, n_mels=bands, fmin=low, fmax=high, htk=htk, norm=norm)
    ours = MelFilters(
        rate=rate,
        bands=bands,
        low=low,
        high=high or 0.0,
        scale="htk" if htk else "slaney",
        norm="area" if norm else "none",
    ).matrix(fft)
    assert ours.dtype == np.float32 and not ours.flags.writeable
    assert np.abs(ours.T - reference).max() < 1e-6


def test_filters_of_python_speech_features():
    psf = pytest.importorskip("python_speech_features")
    for bands, fft in ((26, 512), (60, 512), (20, 1024)):  # with 60 bands, several edges fall on one bin
        reference = psf.get_filterbanks(bands, fft, 16000, 0, 8000)
        ours = MelFilters(rate=16000, bands=bands, triangles="bins").matrix(fft)
        assert np.abs(ours.T - reference).max() < 1e-6


def test_filters_of_kaldi_as_transformers_states_them():
    audio_utils = pytest.importorskip("transformers.audio_utils")
    reference = audio_utils.mel_filter_bank(
        257, 80, 20.0, 8000.0, 16000, mel_scale="kaldi", triangularize_in_mel_space=True
    )
    ours = MelFilters(rate=16000, bands=80, low=20.0, triangles="mel").matrix(512)
    assert np.abs(ours - reference).max() < 1e-5


def test_impossible_filters_are_refused():
    with pytest.raises(UsageError, match="0 filters"):
        MelFilters(rate=16000, bands=0)
    with pytest.raises(UsageError, match="from 9000 to 8000 Hz"):
        MelFilters(rate=16000, bands=4, low=9000.0)
