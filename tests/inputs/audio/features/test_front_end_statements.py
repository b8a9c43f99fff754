"""Front ends against stored rows of their libraries (tests/golden/make_front_ends.py), and HTK against its formulas."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sounds
from omnivec.inputs.audio import features
from omnivec.inputs.audio.features import settings

GOLDEN = Path(__file__).parents[3] / "golden" / "front_ends.npz"
VOICE = sounds.speechlike(2.3, seed=22)
SHORT = sounds.speechlike(1.2, seed=21)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def difference(ours, reference) -> float:
    assert ours.shape == reference.shape
    return float(np.abs(ours.astype(np.float64) - reference).max())


@pytest.mark.parametrize("bands", [80, 24])
def test_speechbrain(golden, bands):
    plain = settings.speechbrain_fbank(bands, centred=False)
    centred = {80: features.SPEECHBRAIN_ECAPA, 24: features.SPEECHBRAIN_XVECTOR}[bands]
    assert difference(plain(SHORT)[::3], golden[f"speechbrain {bands}"]) < 1e-3
    assert difference(centred(SHORT)[::3], golden[f"speechbrain {bands} centred"]) < 1e-3


@pytest.mark.parametrize(
    "part, changes",
    [
        ("frames", {"window": "hamming symmetric"}),
        ("frames", {"padding": "reflect"}),
        ("frames", {"fft": 512}),
        ("filters", {"triangles": "hertz"}),
        ("filters", {"scale": "slaney"}),
        ("log", {"range": 0.0}),
    ],
)
def test_wrong_variants_of_speechbrain_are_rejected(golden, part, changes):
    mel = settings.speechbrain_fbank(80, centred=False)
    changed = replace(mel, **{part: replace(getattr(mel, part), **changes)})
    # The floor of the whole sound only matters where there is a pause.
    quiet = np.concatenate((SHORT[:9600], SHORT[9600:] * np.float32(1e-4)))
    assert difference(changed(SHORT)[::3], golden["speechbrain 80"]) > 1e-2 or part == "log"
    assert difference(changed(quiet), mel(quiet)) > 1e-2


@pytest.mark.parametrize("name, volume", [("quiet", 0.01), ("loud", 1.0)])
def test_resemblyzer(golden, name, volume):
    reference = golden[f"resemblyzer {name}"]
    windows = features.RESEMBLYZER(VOICE * np.float32(volume))
    assert difference(windows[:, ::5], reference) < 1e-5 * reference.max()


def test_windows_of_resemblyzer_for_sounds_of_any_length(golden):
    counts = [features.RESEMBLYZER.count(int(samples)) for samples in golden["resemblyzer lengths"]]
    assert counts == golden["resemblyzer counts"].tolist()


def test_resemblyzer_raises_the_volume_only():
    rms = float(np.sqrt(np.mean(np.square(VOICE, dtype=np.float64))))
    quieter = features.RESEMBLYZER(VOICE * np.float32(1e-3))
    at_target = features.RESEMBLYZER(VOICE * np.float32(10 ** (-30 / 20) / rms))
    assert np.allclose(quieter, at_target, rtol=1e-4)
    loud = features.RESEMBLYZER(VOICE)
    assert np.allclose(features.RESEMBLYZER(VOICE * np.float32(0.5)), loud / 4, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", ["vggish", "yamnet"])
def test_patches_of_vggish_and_yamnet(golden, name):
    patches = getattr(features, name.upper())(VOICE)
    assert difference(patches[:, ::5], golden[name]) < 1e-4


def test_offset_and_hop_tell_yamnet_from_vggish(golden):
    assert golden["vggish"].shape[0] == 2 and golden["yamnet"].shape[0] == 3
    patches = settings.audioset_patches(hop=48, offset=0.01)(VOICE)
    assert difference(patches[:, ::5], golden["yamnet"]) > 0.1


def test_yamnet_completes_the_last_patch_with_zeros():
    whole = replace(features.YAMNET, incomplete="zeros")
    # Google's pad_waveform: at least 15,600 samples, then whole hops of 7,680.
    for samples, patches in ((1, 1), (15_600, 1), (15_601, 2), (23_280, 2), (23_281, 3)):
        padded = 15_600 + (patches - 1) * 7680
        sound = VOICE[:samples]
        filled = np.pad(sound, (0, padded - samples))
        assert difference(whole(sound), features.YAMNET(filled)) < 1e-5, samples
        assert whole.count(samples) == patches


# HTK, stated from the formulas of The HTK Book, sections 5.2 to 5.6


def htk_mfcc(
    samples, magnitude: bool = True, floor: float = 1.0, first: float = 1 - 0.97, orthonormal: bool = False
):
    signal = samples.astype(np.float64) * 32768
    rows = []
    for start in range(0, len(signal) - 400 + 1, 160):
        frame = signal[start : start + 400]
        emphasised = np.concatenate((frame[:1] * first, frame[1:] - 0.97 * frame[:-1]))
        n = np.arange(400)
        windowed = emphasised * (0.54 - 0.46 * np.cos(2 * np.pi * n / 399))
        spectrum = np.abs(np.fft.rfft(windowed, 512))
        bands = htk_filters() @ (spectrum if magnitude else spectrum**2)
        logs = np.log(np.maximum(bands, floor))
        c = [_cepstrum(logs, i) * (1 + 11 * np.sin(np.pi * i / 22)) for i in range(1, 13)]
        zeroth = np.sqrt(2 / 26) * logs.sum() / (np.sqrt(2) if orthonormal else 1)
        rows.append([*c, zeroth])
    return np.array(rows)


def _cepstrum(logs: Any, i: int) -> float:
    """Equation 5.14; bands are counted from 1."""
    bands = np.arange(1, len(logs) + 1)
    return float(np.sqrt(2 / len(logs)) * (logs * np.cos(np.pi * i / len(logs) * (bands - 0.5))).sum())


@lru_cache(maxsize=1)
def htk_filters() -> Any:
    """26 triangles in mel, from 0 Hz to half the rate; loops, as a second statement."""
    mel = [1127 * np.log(1 + k * 16000 / 512 / 700) for k in range(257)]
    step = mel[256] / 27
    weights = np.zeros((26, 257))
    for band in range(26):
        for k in range(257):
            distance = abs(mel[k] - (band + 1) * step) / step
            weights[band, k] = max(0.0, 1 - distance)
    return weights


def test_htk():
    assert difference(features.HTK_MFCC(VOICE), htk_mfcc(VOICE)) < 1e-2


@pytest.mark.parametrize(
    "wrong", [{"magnitude": False}, {"floor": 3000.0}, {"first": 1.0}, {"orthonormal": True}], ids=str
)
def test_wrong_variants_of_htk_are_rejected(wrong):
    assert difference(features.HTK_MFCC(VOICE), htk_mfcc(VOICE, **wrong)) > 2e-2
