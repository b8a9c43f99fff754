"""Front ends of models of sound, in NumPy: from samples to the rows of a model's input.

All take samples (n,) float32 in [-1, 1] at the rate they are made for, and are frozen dataclasses of JSON types
(`omnivec.inputs.audio.processing.Features`). `settings` names those of published libraries and models.
"""

from __future__ import annotations

from omnivec.inputs.audio.features.cepstra import Cepstra
from omnivec.inputs.audio.features.deltas import regression_deltas, savitzky_golay_deltas
from omnivec.inputs.audio.features.fixed_length import FixedFramesMel, FixedLengthMel, FusedMel
from omnivec.inputs.audio.features.frames import Frames
from omnivec.inputs.audio.features.mel_filters import MelFilters
from omnivec.inputs.audio.features.mel_patches import MelPatches, VoiceWindows
from omnivec.inputs.audio.features.mel_spectrogram import Log, MelSpectrogram
from omnivec.inputs.audio.features.settings import (
    AST,
    BEATS,
    CLAP,
    CLAP_FUSED,
    HTK_MFCC,
    KALDI_FBANK,
    KALDI_MFCC,
    LIBROSA_MEL,
    LIBROSA_MFCC,
    PSF_FBANK,
    PSF_MFCC,
    RESEMBLYZER,
    SPEECHBRAIN_ECAPA,
    SPEECHBRAIN_XVECTOR,
    THREE_D_SPEAKER,
    VGGISH,
    WESPEAKER,
    WHISPER,
    WHISPER_128,
    YAMNET,
)
from omnivec.inputs.audio.features.waveform import Waveform

__all__ = [
    "AST",
    "BEATS",
    "CLAP",
    "CLAP_FUSED",
    "HTK_MFCC",
    "KALDI_FBANK",
    "KALDI_MFCC",
    "LIBROSA_MEL",
    "LIBROSA_MFCC",
    "PSF_FBANK",
    "PSF_MFCC",
    "RESEMBLYZER",
    "SPEECHBRAIN_ECAPA",
    "SPEECHBRAIN_XVECTOR",
    "THREE_D_SPEAKER",
    "VGGISH",
    "WESPEAKER",
    "WHISPER",
    "WHISPER_128",
    "YAMNET",
    "Cepstra",
    "FixedFramesMel",
    "FixedLengthMel",
    "Frames",
    "FusedMel",
    "Log",
    "MelFilters",
    "MelPatches",
    "MelSpectrogram",
    "VoiceWindows",
    "Waveform",
    "regression_deltas",
    "savitzky_golay_deltas",
]
