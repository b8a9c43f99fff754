"""What the speaker models of WeSpeaker share: their folder, and Kaldi's filter bank of 16-bit samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omnivec.errors import ModelError, UnsupportedModel
from omnivec.inputs.audio.features.settings import kaldi_fbank
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.weights.hyperparams import read_hyperparams

RATE = 16_000
HOP = 160
LENGTH = 400

SETTINGS = "config.yaml"
WEIGHTS = "avg_model.pt"

# Where the settings of training state what is read: path of keys -> the value that is covered.
_COVERED = {
    ("dataset_args", "frontend"): "fbank",
    ("dataset_args", "resample_rate"): RATE,
    ("dataset_args", "fbank_args", "frame_shift"): 10,
    ("dataset_args", "fbank_args", "frame_length"): 25,
}


def read_wespeaker(
    folder: Path, covered: Mapping[str, Any], bands: int = 80
) -> tuple[str, Mapping[str, Any]] | None:
    """The name and the arguments of the network in WeSpeaker's config.yaml; None for a folder without its files.

    Args:
        folder: folder of the model.
        covered: argument of the network -> the value that is covered; further ones than these, feat_dim and embed_dim
            are refused.
        bands: the number of bands that WeSpeaker's own program computes.

    Raises:
        UnsupportedModel: a setting that changes vectors has a value that is not covered.
        ModelError: config.yaml cannot be read, or lacks the model.
    """
    file = folder / SETTINGS
    if not (file.is_file() and (folder / WEIGHTS).is_file()):
        return None
    settings = read_hyperparams(file)
    name, arguments = settings.get("model"), settings.get("model_args")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ModelError(f"{file} lacks model and model_args, the network and its arguments")
    for path, value in _COVERED.items():
        _check(file, path, _at(settings, path), value)
    mels = _at(settings, ("dataset_args", "fbank_args", "num_mel_bins"))
    _check(file, ("num_mel_bins",), mels, bands)
    _check(file, ("model_args", "feat_dim"), arguments.get("feat_dim"), bands)
    for key, value in arguments.items():
        if key not in ("feat_dim", "embed_dim"):
            _check(file, ("model_args", key), value, covered.get(key))
    return name, arguments


def _at(settings: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings


def _check(file: Path, path: tuple[str, ...], value: Any, covered: Any) -> None:
    if value is not None and value != covered:
        only = "" if covered is None else f", only {covered!r} is"
        raise UnsupportedModel(f"{file}: {'.'.join(path)} is {value!r}, which is not covered{only}")


def fbank(bands: int, frames: int) -> SoundProcessing:
    """Kaldi's logarithmic filter bank of samples in the range of 16-bit integers, less the mean over time.

    Args:
        bands: mel bands.
        frames: smallest number of frames that the model reads.
    """
    mel = kaldi_fbank(bands, window="hamming symmetric", centred=True)
    return SoundProcessing(rate=RATE, features=mel, seconds=60.0, shortest=(frames - 1) * HOP + LENGTH)
