"""GE2E d-vectors of speakers: an LSTM over windows of a mel spectrogram, in Resemblyzer's checkpoint.

Wan et al. 2018, arXiv:1710.10467. A sound is cut into windows of 1.6 s. The last state of each is projected, rectified
and normalised, and so is the mean of these. Silence is not removed, unlike in Resemblyzer's `preprocess_wav`: its voice
detector changes vectors, and can be applied before. Weights are named as published, except that the layers of the LSTM
are `lstm.0` to `lstm.2`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnivec import weights
from omnivec.families._classes import refuse_settings
from omnivec.families._statistics import inside
from omnivec.inputs.audio.features.settings import RESEMBLYZER
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.ops.base import Ops, Params, Value
from omnivec.ops.maps import by_item
from omnivec.validation.typed import Count, Size

CLAIMS = {
    "model_type": ["dvector"],
    "files": {"pretrained.pt": {"model_type": "dvector"}},
    "modality": "audio",
}

POOLING = "cls"

_FRAMES, _BANDS = RESEMBLYZER.rows


@dataclass(frozen=True)
class Config:
    """The sizes of the network; the published checkpoint has no config, and these are its own.

    Attributes:
        hidden_size: width of the LSTM.
        layers: number of its layers.
        dim: length of a vector.
    """

    hidden_size: Size = 256
    layers: Count = 3
    dim: Size = 256


def load_original(
    folder: Path, published: Mapping[str, Any]
) -> tuple[Mapping[str, Any], weights.Weights, None] | None:
    """The config and weights of a folder with Resemblyzer's pretrained.pt; None for one written by `save`."""
    if not (folder / "pretrained.pt").is_file():
        return None
    return {"model_type": "dvector", **published}, weights.read(folder / "pretrained.pt"), None


def sound(config: Config, settings: Mapping[str, Any]) -> SoundProcessing:
    """Power mel spectrogram, without logarithm, in overlapping windows; the volume is raised to -30 dB before."""
    refuse_settings(settings, "a d-vector")
    return SoundProcessing(rate=16_000, features=RESEMBLYZER, seconds=60.0)


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.sound (n, t, 160, 40) float32, mel windows, and batch.lengths (n,) -> (n, 1, dim) unit vectors."""
    x = ops.reshape(batch.sound, (-1, _FRAMES, _BANDS))
    lengths = ops.cast(ops.mean(x, (1, 2)) * 0.0 + float(_FRAMES), "int32")
    for i in range(config.layers):
        x, last = ops.lstm(x, p[f"lstm.{i}"], lengths)
    windows = ops.normalize(ops.relu(ops.linear(last, p["linear"])))
    windows = ops.state(by_item(ops, windows, batch.sound))
    real = inside(ops, batch.sound, 1, batch.lengths)[:, :, None]
    mean = ops.sum(windows * real, 1, keep=True) / ops.sum(real, 1, keep=True)
    return ops.normalize(mean)


SHAPES = {
    "lstm.0.weight_hh_l0": ("", "hidden_size"),
    "linear.weight": ("dim", "hidden_size"),
}

PREFIXES = ("module.",)

LAYOUTS: list[weights.Row] = [
    # Scale and bias of the loss.
    (r"similarity_(weight|bias)", None),
    (r"lstm\.(\w+)_l(\d+)", r"lstm.\2.\1_l0"),
]

KNOWN = {
    "dvector": {
        "sources": ["pypi:Resemblyzer==0.1.4/resemblyzer"],
        "sha256": {"pretrained.pt": "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"},
        "licence": "Apache-2.0",
        "dim": 256,
        "length": 60.0,
        "pooling": "cls",
        "preprocessing": {},
        "example": "sound:vowel",
        "components": [0.0, 0.076775, 0.0, 0.0, 0.0],
    },
}
