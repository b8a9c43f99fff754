"""Front ends against the libraries that published them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soundfile

import sounds
from omnivec.inputs.audio import features
from omnivec.inputs.audio.features import settings
from omnivec.inputs.audio.features.mel_spectrogram import MelSpectrogram

MOST, MEAN = 1e-2, 1e-4
"""Largest and mean absolute difference, in nats, decibels or coefficients."""

VOICE = sounds.speechlike(5, seed=3)
VOICE_22 = sounds.speechlike(3, rate=22050, seed=4)
VOICE_48 = sounds.speechlike(4, rate=48000, seed=5)


def agrees(ours, reference) -> bool:
    assert ours.dtype == np.float32
    if ours.shape != reference.shape:
        return False
    differences = np.abs(ours.astype(np.float64) - reference)
    return bool(differences.max() < MOST and differences.mean() < MEAN)


def kaldi(samples, scale: float = 32768.0, mfcc: bool = False, rate: int = 16000, **options) -> Any:
    """Rows of kaldi-native-fbank; options are those of its groups: `frame_opts=dict(window_type="hamming")`."""
    knf = pytest.importorskip("kaldi_native_fbank")
    chosen = knf.MfccOptions() if mfcc else knf.FbankOptions()
    chosen.frame_opts.dither, chosen.frame_opts.samp_freq = 0, rate
    for group, values in options.items():
        if isinstance(values, dict):
            for name, value in values.items():
                setattr(getattr(chosen, group), name, value)
        else:
            setattr(chosen, group, values)
    computer = (knf.OnlineMfcc if mfcc else knf.OnlineFbank)(chosen)
    computer.accept_waveform(rate, samples * np.float32(scale))
    computer.input_finished()
    return np.array([computer.get_frame(i) for i in range(computer.num_frames_ready)])


def centred(rows: Any) -> Any:
    return rows - rows.mean(axis=0)


# librosa


def librosa_mfcc(samples, rate: int, **options):
    librosa = pytest.importorskip("librosa")
    return librosa.feature.mfcc(y=samples, sr=rate, **options).T


def test_librosa_mfcc_with_its_defaults():
    assert agrees(features.LIBROSA_MFCC(VOICE_22), librosa_mfcc(VOICE_22, 22050))


def test_librosa_log_mel():
    librosa = pytest.importorskip("librosa")
    reference = librosa.power_to_db(librosa.feature.melspectrogram(y=VOICE_22, sr=22050)).T
    assert agrees(features.LIBROSA_MEL(VOICE_22), reference)


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_librosa_mfcc_with_a_window_shorter_than_the_transform(padding):
    mel = settings.librosa_mel(
        16000, length=400, hop=160, fft=512, bands=40, low=20.0, high=7600.0, padding=padding
    )
    mode = "constant" if padding == "zeros" else padding
    reference = librosa_mfcc(
        VOICE,
        16000,
        n_mfcc=13,
        lifter=22,
        n_fft=512,
        win_length=400,
        hop_length=160,
        n_mels=40,
        fmin=20,
        fmax=7600,
        pad_mode=mode,
    )
    assert agrees(settings.librosa_mfcc(mel, 13, lifter=22.0)(VOICE), reference)


def test_librosa_with_transforms_of_odd_length():
    mel = settings.librosa_mel(16000, length=401, hop=160, bands=40)
    reference = librosa_mfcc(VOICE[:8005], 16000, n_mfcc=20, n_fft=401, hop_length=160, n_mels=40)
    assert agrees(settings.librosa_mfcc(mel)(VOICE[:8005]), reference)


# Kaldi


@pytest.mark.parametrize(
    "window, name",
    [
        ("povey", "povey"),
        ("hamming symmetric", "hamming"),
        ("hann symmetric", "hanning"),
        ("rectangular", "rectangular"),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 32768.0])
@pytest.mark.parametrize("bands", [23, 80])
def test_kaldi_filter_banks(window, name, scale, bands):
    ours = settings.kaldi_fbank(bands, window=window, scale=scale)(VOICE)
    assert agrees(ours, kaldi(VOICE, scale, frame_opts={"window_type": name}, mel_opts={"num_bins": bands}))


def test_kaldi_at_another_rate_and_with_other_edges():
    ours = settings.kaldi_fbank(40, rate=22050, low=64.0, high=9000.0)(VOICE_22)
    edges = {"num_bins": 40, "low_freq": 64, "high_freq": 9000}
    assert agrees(ours, kaldi(VOICE_22, rate=22050, mel_opts=edges))


@pytest.mark.parametrize("energy", [True, False])
def test_kaldi_mfcc(energy):
    assert agrees(settings.kaldi_mfcc(energy=energy)(VOICE), kaldi(VOICE, mfcc=True, use_energy=energy))


def test_wespeaker_and_3d_speaker():
    bands = {"num_bins": 80}
    wespeaker = kaldi(VOICE, frame_opts={"window_type": "hamming"}, mel_opts=bands)
    assert agrees(features.WESPEAKER(VOICE), centred(wespeaker))
    assert agrees(features.THREE_D_SPEAKER(VOICE), centred(kaldi(VOICE, 1.0, mel_opts=bands)))


@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")  # so it is published
@pytest.mark.parametrize("samples", [80_000, 163_839, 163_840, 163_920, 200_000])
def test_ast(samples):
    transformers = pytest.importorskip("transformers")
    sound = sounds.speechlike(samples / 16000, seed=6)
    inputs = transformers.ASTFeatureExtractor()(sound, sampling_rate=16000, return_tensors="np")
    assert agrees(features.AST(sound), inputs["input_values"][0])


# python_speech_features


def test_python_speech_features():
    psf = pytest.importorskip("python_speech_features")
    scaled = VOICE * 32768.0
    assert agrees(features.PSF_MFCC(VOICE), psf.mfcc(scaled))
    assert agrees(features.PSF_FBANK(VOICE), psf.logfbank(scaled))
    wide = settings.psf_fbank(40, rate=22050, fft=1024)
    assert agrees(wide(VOICE_22), psf.logfbank(VOICE_22 * 32768.0, 22050, nfilt=40, nfft=1024))


@pytest.mark.parametrize("samples", [1, 399, 400, 401, 559, 560, 561, 1000])
def test_python_speech_features_of_short_sounds(samples):
    psf = pytest.importorskip("python_speech_features")
    assert agrees(features.PSF_FBANK(VOICE[:samples]), psf.logfbank(VOICE[:samples] * 32768.0))


def test_energies_of_nearly_silent_frames():
    psf = pytest.importorskip("python_speech_features")
    faint = np.concatenate((VOICE[:8000], VOICE[:8000] * np.float32(1e-13), np.zeros(4000, np.float32)))
    assert agrees(features.PSF_MFCC(faint), psf.mfcc(faint * 32768.0))


# Whisper and CLAP, as transformers prepares them


@pytest.mark.parametrize("bands", [80, 128])
@pytest.mark.parametrize("samples", [150, 16_001, 80_000])
def test_whisper(bands, samples):
    transformers = pytest.importorskip("transformers")
    extractor = transformers.WhisperFeatureExtractor(feature_size=bands)
    reference = extractor(VOICE[:samples], sampling_rate=16000, return_tensors="np")["input_features"][0].T
    assert agrees(settings.whisper(bands)(VOICE[:samples]), reference)
    cropped = settings.whisper(bands, cropped=True)(VOICE[:samples])
    assert agrees(cropped, reference[: -(-samples // 160)])


@pytest.mark.parametrize("samples", [479_700, 479_900, 480_000, 500_000])
def test_whisper_of_thirty_seconds(samples):
    transformers = pytest.importorskip("transformers")
    sound = np.resize(VOICE, samples)
    extractor = transformers.WhisperFeatureExtractor()
    reference = extractor(sound, sampling_rate=16000, return_tensors="np")["input_features"][0].T
    assert agrees(features.WHISPER(sound), reference)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("samples", [1000, 191_999, 192_000, 300_000, 480_000])
def test_clap(fused, samples):
    transformers = pytest.importorskip("transformers")
    extractor = transformers.ClapFeatureExtractor(
        truncation="fusion" if fused else "rand_trunc", frequency_min=50
    )
    sound = np.resize(VOICE_48, samples)
    reference = extractor(sound, sampling_rate=48000, return_tensors="np")["input_features"][0, 0]
    assert agrees(settings.clap(fused=fused)(sound), reference)


def test_normalised_waveforms():
    transformers = pytest.importorskip("transformers")
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    reference = extractor(VOICE, sampling_rate=16000, return_tensors="np")["input_values"][0]
    ours = features.Waveform(normalised=True)(VOICE)
    assert np.abs(ours - reference).max() < 1e-5
    assert features.Waveform()(VOICE) is VOICE


# What the tolerance must not let pass


def wrong(mel: MelSpectrogram, **changes) -> MelSpectrogram:
    """The front end with some fields of `frames`, `filters` or `log` changed: frames=dict(window="hann")."""
    parts = {name: replace(getattr(mel, name), **values) for name, values in changes.items()}
    return replace(mel, **parts)


WRONG: dict[str, dict[str, dict[str, Any]]] = {
    "another window": {"frames": {"window": "hamming symmetric"}},
    "the mean kept": {"frames": {"remove_mean": False}},
    "pre-emphasis of the whole": {"frames": {"emphasis": "signal"}},
    "the scale of -1 to 1": {"frames": {"scale": 1.0}},
    "slopes linear in Hz": {"filters": {"triangles": "hertz"}},
    "filters from 0 Hz": {"filters": {"low": 0.0}},
    "Slaney's scale": {"filters": {"scale": "slaney"}},
    "decibels": {"log": {"base": "dB"}},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_wrong_variants_of_kaldi_are_rejected(changes):
    reference = kaldi(VOICE, mel_opts={"num_bins": 80})
    right = settings.kaldi_fbank(80)
    assert agrees(right(VOICE), reference)
    assert not agrees(wrong(right, **changes)(VOICE), reference)


WRONG_WHISPER: dict[str, Callable[[], features.FixedLengthMel]] = {
    "zeros around": lambda: _whisper(frames={"padding": "zeros"}),
    "a symmetric window": lambda: _whisper(frames={"window": "hann symmetric"}),
    "HTK's scale": lambda: _whisper(filters={"scale": "htk"}),
    "filters without norm": lambda: _whisper(filters={"norm": "none"}),
    "no floor": lambda: _whisper(log={"range": 0.0}),
    "natural logarithm": lambda: _whisper(log={"base": "ln"}),
}


def _whisper(**changes: dict[str, Any]) -> features.FixedLengthMel:
    return replace(features.WHISPER, mel=wrong(features.WHISPER.mel, **changes))


@pytest.mark.parametrize("make", WRONG_WHISPER.values(), ids=WRONG_WHISPER)
def test_wrong_variants_of_whisper_are_rejected(make):
    transformers = pytest.importorskip("transformers")
    extractor = transformers.WhisperFeatureExtractor()
    reference = extractor(VOICE, sampling_rate=16000, return_tensors="np")["input_features"][0].T
    assert not agrees(make()(VOICE), reference)


# Real sound


@pytest.mark.parametrize(
    "archive, every",
    [("librispeech_other_sub/flac.zip", 25), ("esc10/audio.zip", 100)],
    ids=["speech", "sounds"],
)
def test_recordings(data_folder, archive, every):
    soxr = pytest.importorskip("soxr")
    psf = pytest.importorskip("python_speech_features")
    transformers = pytest.importorskip("transformers")
    path = data_folder / archive
    if not path.exists():
        pytest.skip(f"no {archive} in the data folder")
    with zipfile.ZipFile(path) as files:
        names = [name for name in files.namelist() if name.endswith((".flac", ".wav", ".ogg"))]
        for name in names[::every]:
            stored, rate = soundfile.read(io.BytesIO(files.read(name)), dtype="float32")
            sound = soxr.resample(stored, rate, 16000)
            assert agrees(features.LIBROSA_MFCC(sound), librosa_mfcc(sound, 22050)), name
            assert agrees(features.PSF_MFCC(sound), psf.mfcc(sound * 32768.0)), name
            assert agrees(
                settings.kaldi_fbank(80, scale=1.0)(sound), kaldi(sound, 1.0, mel_opts={"num_bins": 80})
            )
            assert agrees(features.KALDI_MFCC(sound), kaldi(sound, mfcc=True)), name
            extractor = transformers.WhisperFeatureExtractor()
            whisper = extractor(sound, sampling_rate=16000, return_tensors="np")["input_features"][0].T
            assert agrees(features.WHISPER(sound), whisper), name
