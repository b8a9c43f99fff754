"""Frames at the ends of a sound, and windows, against NumPy and librosa."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import sounds
from omnivec.inputs.audio.features import Frames
from omnivec.inputs.audio.features.window_functions import WINDOWS, window_function

FRAMES = Frames(length=400, hop=160, fft=512, window="hamming")


def spectra(frames: Frames, samples, total: int = 0):
    blocks = list(frames.spectra(samples, total))
    assert [block.start for block in blocks] == [0, *np.cumsum([len(block.power) for block in blocks])[:-1]]
    return np.concatenate([np.zeros((0, frames.bins), np.float32), *(block.power.copy() for block in blocks)])


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("padding, mode", [("zeros", "constant"), ("reflect", "reflect")])
@pytest.mark.parametrize("samples", [1, 2, 3, 50, 255, 256, 257, 511, 700, 5000])
def test_centred_frames_are_those_of_the_padded_sound(double, padding, mode, samples):
    sound = sounds.noise(1, seed=1)[:samples]
    centred = spectra(replace(FRAMES, padding=padding, double=double), sound)
    padded = np.pad(sound, 256, mode=mode)
    starts = np.arange(1 + samples // 160) * 160
    window = np.zeros(512)
    window[56:456] = window_function("hamming", 400)
    expected = np.abs(np.fft.rfft(np.stack([padded[s : s + 512] for s in starts]) * window)) ** 2
    assert centred.shape == expected.shape
    assert np.abs(centred - expected).max() < 1e-5 * expected.max()


@pytest.mark.parametrize("padding", ["none", "end", "zeros", "reflect"])
@pytest.mark.parametrize("samples, total", [(300, 900), (1000, 1100), (1000, 5000), (2000, 2000)])
def test_zeros_that_follow_are_as_good_as_zeros_that_are_given(padding, samples, total):
    frames = replace(FRAMES, padding=padding, preemphasis=0.9, emphasis="frame")
    sound = sounds.noise(1, seed=2)[:samples]
    short, whole = spectra(frames, sound, total), spectra(frames, np.pad(sound, (0, total - samples)))
    assert len(whole) == frames.count(total) and len(short) <= len(whole)
    assert np.abs(short - whole[: len(short)]).max() < 1e-5 * whole.max()
    assert not whole[len(short) :].any()


def test_the_energy_is_that_of_the_frame_before_emphasis_and_window():
    frames = replace(FRAMES, scale=2.0, remove_mean=True, preemphasis=0.9)
    sound = sounds.noise(0.1, seed=3) + np.float32(0.3)
    [block] = frames.spectra(sound, energy=True)
    first = 2 * sound[:400].astype(np.float64)
    assert block.energy is not None
    assert block.energy[0] == pytest.approx(((first - first.mean()) ** 2).sum(), rel=1e-4)


def test_some_frequencies_are_those_of_all():
    sound = sounds.noise(0.2, seed=4)
    [whole], [part] = FRAMES.spectra(sound), FRAMES.spectra(sound, bins=slice(10, 20))
    assert np.array_equal(part.power, whole.power[:, 10:20])


@pytest.mark.parametrize("name, peer", [("hann", "hann"), ("hamming", "hamming"), ("rectangular", "boxcar")])
def test_periodic_windows(name, peer):
    scipy = pytest.importorskip("scipy.signal")
    for length in (1, 2, 399, 400):
        assert np.allclose(window_function(name, length), scipy.get_window(peer, length), atol=1e-7), length


def test_symmetric_windows():
    assert np.allclose(window_function("hann symmetric", 401), np.hanning(401), atol=1e-7)
    assert np.allclose(window_function("hamming symmetric", 400), np.hamming(400), atol=1e-7)
    assert np.allclose(window_function("povey", 400), np.hanning(400) ** 0.85, atol=1e-7)


def test_windows_cannot_be_changed():
    for name in WINDOWS:
        assert not window_function(name, 8).flags.writeable
