"""What CLAP reads of a sound: front end, settings, long and short sounds, and texts that find sounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import ClapFeatureExtractor

from omnivec.errors import UnsupportedModel
from omnivec.families import clap
from omnivec.models.model import read_config
from sounds import speechlike

SETTINGS: dict[str, tuple[bool, dict[str, Any]]] = {
    "unfused": (False, {"truncation": "rand_trunc", "frequency_min": 50}),
    "fused": (True, {"truncation": "fusion", "frequency_min": 50}),
    "fused, cut at random": (True, {"truncation": "rand_trunc", "frequency_max": 16000}),
    "repeated to the end": (False, {"truncation": "rand_trunc", "padding": "repeat"}),
    "zeros behind": (True, {"padding": "pad"}),
}


def config_of(fused: bool, **more: Any) -> clap.Config:
    audio = {"enable_fusion": fused}
    config: clap.Config = read_config(
        clap, {"model_type": "clap", "audio_config": audio, **more}, Path("folder")
    )
    return config


@pytest.mark.parametrize("kind", SETTINGS)
def test_spectrograms_equal_transformers(kind: str) -> None:
    fused, settings = SETTINGS[kind]
    extractor = ClapFeatureExtractor(**settings)
    processing = clap.sound(config_of(fused), extractor.to_dict())
    assert (processing.rate, processing.seconds, processing.longest) == (48000, 10.0, 480_000)
    for count in (7, 48_000, 300_000, 480_000):
        samples = speechlike(10.0, 48_000, seed=count)[:count]
        right = extractor(samples, sampling_rate=48_000, return_tensors="np")["input_features"][0][0]
        rows = processing.rows_of(samples)
        assert rows.shape == right.shape == (1001, 64) and processing.features.count(count) == 1001
        np.testing.assert_allclose(rows, right, atol=2e-3)  # decibels


def test_without_settings_they_are_those_of_the_published_models() -> None:
    for fused in (True, False):
        alone = clap.sound(config_of(fused), {})
        assert (
            alone.identity
            == clap.sound(config_of(fused), ClapFeatureExtractor(**_published(fused)).to_dict()).identity
        )


def _published(fused: bool) -> dict[str, Any]:
    return {"frequency_min": 50, "truncation": "fusion" if fused else "rand_trunc"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sampling_rate": 44100}, "sampling_rate 44100"),
        ({"hop_length": 320}, "hop_length 320"),
        ({"fft_window_size": 2048}, "fft_window_size 2048"),
        ({"top_db": 80}, "top_db 80"),
        ({"padding": "mirror"}, "padding 'mirror' is none of repeatpad, repeat, pad"),
        ({"truncation": "fusion"}, "truncation 'fusion', but config.json has enable_fusion false"),
        ({"max_length_s": 7}, "frames of max_length_s 701: only 1001 is covered"),
        ({"feature_size": 80}, "feature_size 80: only 64 is covered"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedModel, match=said):
        clap.sound(config_of(False), {"truncation": "rand_trunc"} | settings)
