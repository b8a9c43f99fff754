"""Google's speech embedding: a small network for spoken words and commands.

Lin et al. 2020, arXiv:2002.01322. Weights are those of the package openwakeword, read from its ONNX file; its front end
is `melspectrogram.onnx` there, a spectrogram of 32 bands like librosa's. A window of 76 frames, 0.76 s, has 96 numbers;
the vector of a sound is their mean over windows every 0.08 s. The network was made for streams, in which silence goes
before a word: half a second of silence is put before and after each sound, without which a single word of half a second
is not told from another one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from omnivec import weights
from omnivec.errors import WeightsError
from omnivec.families._classes import refuse_settings
from omnivec.inputs.audio.features.frames import Frames
from omnivec.inputs.audio.features.mel_filters import MelFilters
from omnivec.inputs.audio.features.mel_patches import cut_patches
from omnivec.inputs.audio.features.mel_spectrogram import Log, MelSpectrogram
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.ops.base import Ops, Params, Value
from omnivec.ops.maps import by_item
from omnivec.types import Floats
from omnivec.validation.typed import Between, Size
from omnivec.weights.onnx_file import read_onnx
from omnivec.weights.tensor import Tensor

CLAIMS = {
    "model_type": ["speech_embedding"],
    "files": {"embedding_model.onnx": {"model_type": "speech_embedding"}},
    "modality": "audio",
}

POOLING = "mean"

_RATE = 16_000
_FRAME = 512  # samples of a frame, in whose middle the window of 400 lies
_WINDOW = 400
_HOP = 160
_LENGTH, _STEP, _BANDS = 76, 8, 32  # of a window of frames
_EPS = 1e-3
# Convolutions of each stage, over bands (1, 3) and time (3, 1) in turn, and the maxima (time, bands) after it.
_STAGES = ((2, (2, 2)), (4, (1, 2)), (4, (2, 2)), (4, (1, 2)), (4, (2, 2)))
_LAST = 1 + sum(count for count, _ in _STAGES)
_FILE = "embedding_model.onnx"
_NAMES = (
    (re.compile(r"model/conv2d/.*Conv2D/ReadVariableOp:0"), r"conv2d_0.weight"),
    (re.compile(r"model/conv2d_(\d+)/Conv2D_weights_fused_bn"), r"conv2d_\1.weight"),
    (re.compile(r"model/conv2d_(\d+)/Conv2D_bias_fused_bn"), r"conv2d_\1.bias"),
    (re.compile(r"model/conv2d_(\d+)/Conv2D/ReadVariableOp:0"), r"conv2d_\1.weight"),
)


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the vectors depend on.

    Attributes:
        dim: length of a vector.
        margin: seconds of silence before and after each sound.
    """

    dim: Size = 96
    margin: Annotated[float, Between(0.0, 10.0)] = 0.5


@dataclass(frozen=True, kw_only=True)
class WindowsWithMargins:
    """Windows of a mel spectrogram of a sound between two stretches of silence; a front end (`Features`).

    A frame has `frame` samples, in whose middle the frame of the spectrogram lies; only whole frames are used.

    Attributes:
        mel: the spectrogram; its frames without padding.
        frame: samples of a frame.
        length: frames of a window.
        step: frames from the start of a window to the start of the next.
        margin: samples of silence before and after the sound.
    """

    mel: MelSpectrogram
    frame: int = _FRAME
    length: int = _LENGTH
    step: int = _STEP
    margin: int = 0

    @property
    def rows(self) -> tuple[int, ...]:
        """Frames of a window, and bands."""
        return (self.length, *self.mel.rows)

    @property
    def shortest(self) -> int:
        """Number of samples of a sound that has one window."""
        window = (self.length - 1) * self.mel.frames.hop + self.frame
        return max(1, window - 2 * self.margin)

    def count(self, samples: int) -> int:
        """Number of windows."""
        frames = 1 + (samples + 2 * self.margin - self.frame) // self.mel.frames.hop
        return max(0, 1 + (frames - self.length) // self.step) if samples else 0

    def __call__(self, samples: Floats) -> Floats:
        """Returns (t, length, bands) float32 for samples (n,) float32 in [-1, 1]."""
        count = self.count(len(samples))
        frames = 1 + (len(samples) + 2 * self.margin - self.frame) // self.mel.frames.hop
        if not count:
            return np.zeros((0, *self.rows), np.float32)
        padded = np.pad(samples, self.margin)
        start = (self.frame - self.mel.frames.length) // 2
        bands = self.mel(padded[start : start + self.mel.frames.needed(frames)])
        return cut_patches(bands, count, self.length, self.step)


def load_original(
    folder: Path, published: Mapping[str, Any]
) -> tuple[Mapping[str, Any], weights.Weights, None] | None:
    """Config and weights of a folder with openwakeword's ONNX file; None for any other.

    Raises:
        WeightsError: the file is damaged, or of another network.
    """
    path = folder / _FILE
    if not path.is_file():
        return None
    graph = read_onnx(path)
    tensors: dict[str, Tensor] = {}
    for name, tensor in graph.tensors.items():
        for pattern, template in _NAMES:
            if match := pattern.fullmatch(name):
                tensors[match.expand(template)] = replace(tensor, name=match.expand(template))
    norms = [node.inputs[1:5] for node in graph.nodes if node.operator == "BatchNormalization"]
    parts = ("weight", "bias", "running_mean", "running_var")
    for part, name in zip(parts, norms[0] if norms else (), strict=False):
        if name in graph.tensors:
            whole = f"batch_normalization.{part}"
            tensors[whole] = replace(graph.tensors[name], name=whole)
    expected = 2 * _LAST + 4
    if len(tensors) != expected or len(norms) != 1:
        raise WeightsError(
            f"{path} has {len(tensors)} of {expected} tensors and {len(norms)} norms: of another network"
        )
    return {**published, "model_type": "speech_embedding"}, weights.Weights(tensors, (path,)), None


def sound(config: Config, settings: Mapping[str, Any]) -> SoundProcessing:
    """32 bands from 60 to 3800 Hz in dB of 16-bit samples, at most 80 dB below the maximum, as x / 10 + 2."""
    refuse_settings(settings, "the speech embedding")
    mel = MelSpectrogram(
        frames=Frames(length=_WINDOW, hop=_HOP, fft=_FRAME, scale=32768.0),
        filters=MelFilters(rate=_RATE, bands=_BANDS, low=60.0, high=3800.0, scale="slaney", norm="area"),
        log=Log(base="dB", floor=1e-10, range=80.0),
        shift=20.0,
        divisor=10.0,
    )
    features = WindowsWithMargins(mel=mel, margin=round(config.margin * _RATE))
    return SoundProcessing(
        rate=_RATE, features=features, seconds=10.0, shortest=features.shortest, states=_same
    )


def _same(rows: int) -> int:
    """The number of states: one for each window."""
    return rows


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.sound (n, t, 76, 32) float32, windows -> (n, t, dim) float32."""
    x = ops.reshape(batch.sound, (-1, 1, _LENGTH, _BANDS))
    x = ops.relu(ops.conv(x, p["conv2d_0"], (1, 1), (0, 1)))
    x = _activated(ops, ops.batch_norm(x, p["batch_normalization"], _EPS))
    ops.state(by_item(ops, ops.mean(x, (2, 3)), batch.sound))
    number = 1
    for count, pool in _STAGES:
        for i in range(count):
            # Bands are padded, time is not.
            x = _activated(ops, ops.conv(x, p[f"conv2d_{number}"], (1, 1), (0, 1 - i % 2)))
            number += 1
        x = ops.max_pool(x, pool, pool, (0, 0))
        ops.state(by_item(ops, ops.mean(x, (2, 3)), batch.sound))
    x = ops.conv(x, p[f"conv2d_{_LAST}"], (1, 1), (0, 0))
    return ops.state(by_item(ops, ops.reshape(x, (0, -1)), batch.sound))


def _activated(ops: Ops, x: Value) -> Value:
    """Leaky ReLU of slope 0.2, at least -0.4."""
    return ops.maximum(ops.maximum(x, x * 0.2), -0.4)


SHAPES = {
    f"conv2d_{_LAST}.weight": ("dim", "", "", ""),
}

PREFIXES = ("module.",)

LAYOUTS: list[weights.Row] = []

KNOWN = {
    "speech-embedding": {
        "sources": ["pypi:openwakeword==0.4.0/openwakeword/resources/models"],
        "sha256": {
            "embedding_model.onnx": "ba754db3cd768a524c655ea90655ee5e6055a43b8dfd29366a11e93716ae9e51",
            "melspectrogram.onnx": "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f",
        },
        "licence": "Apache-2.0",
        "dim": 96,
        "length": 10.0,
        "pooling": "mean",
        "preprocessing": {},
        "example": "sound:vowel",
        "components": [-5.949643, 25.506523, 6.24823, -3.387582, 7.805283],
    },
}
