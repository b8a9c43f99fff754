"""What the speaker models of SpeechBrain share: their folder, and their filter bank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from omnivec import weights
from omnivec.errors import ModelError, UnsupportedModel
from omnivec.inputs.audio.features.settings import speechbrain_fbank
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.weights.hyperparams import TAG, read_hyperparams

RATE = 16_000
HOP = 160

SETTINGS = "hyperparams.yaml"
WEIGHTS = "embedding_model.ckpt"

# Arguments that do not change vectors; the frames of context are read with `context` only.
_FREE = (TAG, "device", "dropout", "left_frames", "right_frames")

# What else the filter bank and its normalisation may state: the value that is covered.
_FEATURES: Mapping[str, Any] = {
    "deltas": False,
    "context": False,
    "requires_grad": False,
    "sample_rate": RATE,
    "f_min": 0,
    "f_max": RATE // 2,
    "n_fft": 400,
    "win_length": 25,
    "hop_length": 10,
    "filter_shape": "triangular",
}
_NORM: Mapping[str, Any] = {"norm_type": "sentence", "std_norm": False, "mean_norm": True}
# The defaults of SpeechBrain's InputNormalization, which are not what is covered.
_NORM_DEFAULTS: Mapping[str, Any] = {"norm_type": "global", "std_norm": True}


def load_speechbrain(
    folder: Path, model_type: str, config: type[Any], bands: str, covered: Mapping[str, Any]
) -> tuple[Mapping[str, Any], weights.Weights, None] | None:
    """The config and weights of a folder in SpeechBrain's layout; None for a folder without its files.

    Args:
        folder: folder of the model.
        model_type: name of the family.
        config: the family's `Config`, whose fields are arguments of SpeechBrain's class.
        bands: the argument that is the number of bands.
        covered: further argument of the class -> the value of it that is covered.

    Raises:
        UnsupportedModel: an argument has a value that is not covered, or is unknown.
        ModelError: hyperparams.yaml cannot be read, or lacks the model.
    """
    file = folder / SETTINGS
    if not (file.is_file() and (folder / WEIGHTS).is_file()):
        return None
    settings = read_hyperparams(file)
    model = _object(settings, "embedding_model", file)
    features, norm = (_object(settings, name, file) for name in ("compute_features", "mean_var_norm"))
    known = {field.name for field in fields(config)}
    _check(file, "embedding_model", {k: v for k, v in model.items() if k not in known}, covered)
    _check(file, "compute_features", {k: v for k, v in features.items() if k != "n_mels"}, _FEATURES)
    _check(file, "mean_var_norm", {**_NORM_DEFAULTS, **norm}, _NORM)
    stated = {k: v for k, v in model.items() if k in known}
    mels = features.get("n_mels", 40)
    if mels != stated.get(bands, mels):
        raise ModelError(f"{file}: compute_features has {mels} bands, and embedding_model {stated[bands]}")
    return {"model_type": model_type, **stated, bands: mels}, weights.read(folder / WEIGHTS), None


def _object(settings: Mapping[str, Any], name: str, file: Path) -> Mapping[str, Any]:
    value = settings.get(name)
    if not isinstance(value, dict):
        raise ModelError(f"{file} lacks {name}, with the arguments of its class")
    return value


def _check(file: Path, name: str, stated: Mapping[str, Any], covered: Mapping[str, Any]) -> None:
    """Raises UnsupportedModel for an argument that is unknown, or has another value than the one that is covered."""
    for key, value in stated.items():
        if key in _FREE or (key in covered and value in (None, covered[key])):
            continue
        only = f", only {covered[key]!r} is" if key in covered else ""
        raise UnsupportedModel(f"{file}: {key} of {name} is {value!r}, which is not covered{only}")


def fbank(bands: int, frames: int) -> SoundProcessing:
    """SpeechBrain's `Fbank`, less its mean over time.

    Args:
        bands: mel bands.
        frames: smallest number of frames that the model reads.
    """
    return SoundProcessing(
        rate=RATE, features=speechbrain_fbank(bands), seconds=60.0, shortest=(frames - 1) * HOP
    )
