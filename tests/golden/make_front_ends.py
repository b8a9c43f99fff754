"""Writes front_ends.npz: what front ends that do not install beside ours give for sounds of tests/helpers/sounds.py.

Run with speechbrain 1.1.2, Resemblyzer 0.1.4 and torchvggish 0.2 beside torch and librosa:

    pip install --no-deps speechbrain hyperpyyaml ruamel.yaml Resemblyzer torchvggish
    python tests/golden/make_front_ends.py

They import torchaudio, webrtcvad and resampy, which their front ends do not use: empty modules stand in for these.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "helpers"))

LENGTHS = np.arange(1, 130_000, 131)


def stand_in(name: str, **attributes: Any) -> None:
    """Puts a module of that name in the place of the real one."""
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__dict__.update(attributes)
    sys.modules[name] = module


def speechbrain(samples: Any) -> dict[str, Any]:
    """Fbank with 80 and 24 bands, before and after the mean over time is subtracted."""
    import torch

    stand_in("torchaudio", __version__="2.8.0", transforms=None, functional=None)
    lobes, processing = (import_module(f"speechbrain.{room}.features") for room in ("lobes", "processing"))
    arrays = {}
    for bands in (80, 24):
        rows = lobes.Fbank(n_mels=bands)(torch.from_numpy(samples)[None])
        normalised = processing.InputNormalization(norm_type="sentence", std_norm=False)(rows, torch.ones(1))
        arrays[f"speechbrain {bands}"] = rows[0].numpy()[::3]
        arrays[f"speechbrain {bands} centred"] = normalised[0].numpy()[::3]
    return arrays


def resemblyzer(samples: Any) -> dict[str, Any]:
    """Windows of a sound, and their number for sounds of many lengths."""
    from scipy.ndimage import binary_dilation

    stand_in("webrtcvad")
    stand_in("scipy.ndimage.morphology", binary_dilation=binary_dilation)
    package, audio = import_module("resemblyzer"), import_module("resemblyzer.audio")
    arrays: dict[str, Any] = {}
    for name, volume in (("quiet", 0.01), ("loud", 1.0)):
        wav = audio.normalize_volume(samples * np.float32(volume), -30, increase_only=True)
        wav_slices, mel_slices = package.VoiceEncoder.compute_partial_slices(len(wav), 1.3, 0.75)
        wav = np.pad(wav, (0, max(0, wav_slices[-1].stop - len(wav))))
        mel = audio.wav_to_mel_spectrogram(wav)
        arrays[f"resemblyzer {name}"] = np.array([mel[part] for part in mel_slices])[:, ::5]
    counts = [len(package.VoiceEncoder.compute_partial_slices(int(n), 1.3, 0.75)[0]) for n in LENGTHS]
    arrays["resemblyzer lengths"], arrays["resemblyzer counts"] = LENGTHS, np.array(counts, np.int16)
    return arrays


def vggish(samples: Any) -> dict[str, Any]:
    """Patches of VGGish, and of YAMNet by the same functions with its offset and hop."""
    stand_in("resampy")
    mel_features, vggish_input = (
        import_module(f"torchvggish.{name}") for name in ("mel_features", "vggish_input")
    )
    patches = vggish_input.waveform_to_examples(samples, 16000, return_tensor=False)
    rows = mel_features.log_mel_spectrogram(
        samples,
        audio_sample_rate=16000,
        log_offset=0.001,
        num_mel_bins=64,
        lower_edge_hertz=125,
        upper_edge_hertz=7500,
    )
    yamnet = mel_features.frame(rows, 96, 48)
    return {"vggish": patches[:, ::5].astype(np.float32), "yamnet": yamnet[:, ::5].astype(np.float32)}


def main() -> None:
    import sounds

    voice = sounds.speechlike(2.3, seed=22)
    arrays = speechbrain(sounds.speechlike(1.2, seed=21)) | resemblyzer(voice) | vggish(voice)
    np.savez_compressed(HERE / "front_ends.npz", **arrays)
    for name, array in arrays.items():
        print(name, array.shape)


if __name__ == "__main__":
    main()
