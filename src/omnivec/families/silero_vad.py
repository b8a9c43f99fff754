"""Silero VAD: tells speech from everything else, 31 times a second, by a small recurrent network.

Silero Team, https://github.com/snakers4/silero-vad, release 6.2 at 16 kHz. The weights are those that the package
loads by default, from its ONNX file for whole recordings, under the names of its safetensors file, which holds another
training. Each frame of 512 samples is read with the 64 samples before it. The states are those of an LSTM, after ReLU:
a linear classifier of them is the probability of speech in each frame. The vector of a sound is their mean, which
tells how much of it is speech; for when there is speech, use `omnivec.tasks.speech`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from omnivec import weights
from omnivec.errors import WeightsError
from omnivec.families._classes import refuse_settings
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.ops.base import Ops, Params, Value
from omnivec.ops.maps import by_item
from omnivec.types import Floats
from omnivec.validation.typed import Size
from omnivec.vectors.class_scores import LinearClassifier
from omnivec.weights.bounds import brief
from omnivec.weights.onnx_file import OnnxGraph, read_onnx
from omnivec.weights.tensor import Tensor, from_array

CLAIMS = {
    "model_type": ["silero_vad"],
    "files": {
        "silero_vad_16k_sequence.onnx": {"model_type": "silero_vad"},
        "silero_vad_16k.safetensors": {"model_type": "silero_vad"},
    },
    "modality": "audio",
}

POOLING = "mean"

# Measured on 12 recordings of LibriSpeech.
FLOAT32_REASON = "bfloat16 changes this family's probabilities of speech by up to 0.02"

_FRAME, _CONTEXT = 512, 64
_BINS = 129
_STRIDES = (1, 2, 2, 1)
_SEQUENCE = "silero_vad_16k_sequence.onnx"
# Names of tensors in the ONNX file -> those of the safetensors file.
_NAMES = {
    "stft.forward_basis_buffer": "stft_conv.weight",
    **{f"encoder.{i}.{part}": f"conv{i + 1}.{part}" for i in range(4) for part in ("weight", "bias")},
    **{f"output.{part}": f"final_conv.{part}" for part in ("weight", "bias")},
}


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the forward pass depends on.

    Attributes:
        dim: width of the LSTM's states.
    """

    dim: Size = 128


def load_original(
    folder: Path, published: Mapping[str, Any]
) -> tuple[Mapping[str, Any], weights.Weights, None] | None:
    """Config and weights of a folder with the package's ONNX file; None for any other.

    Raises:
        WeightsError: the file is damaged, or of another network.
    """
    path = folder / _SEQUENCE
    if not path.is_file():
        return None
    graph = read_onnx(path)
    stored = {new: graph.tensors[old] for old, new in _NAMES.items() if old in graph.tensors}
    layers = [node for node in graph.nodes if node.operator == "LSTM"]
    if len(stored) < len(_NAMES) or len(layers) != 1:
        raise WeightsError(
            f"{path} has {len(stored)} of {len(_NAMES)} tensors and {len(layers)} LSTM: of another network"
        )
    arrays = {name: tensor.data for name, tensor in stored.items()} | _lstm(
        graph, layers[0].inputs[1:4], path
    )
    tensors = {name: replace(from_array(name, array), name=name) for name, array in arrays.items()}
    return {**published, "model_type": "silero_vad"}, weights.Weights(tensors, (path,)), None


def _lstm(graph: OnnxGraph, names: tuple[str, ...], path: Path) -> dict[str, Any]:
    """The weights of the LSTM by torch's names: ONNX has the gates as i o f c, torch as i f c o."""
    if missing := [name for name in names if name not in graph.tensors]:
        raise WeightsError(f"{path}: the LSTM's weight {brief(missing[0])} is missing: of another network")
    stored = [graph.tensors[name].data for name in names]
    if [array.ndim for array in stored] != [3, 3, 2] or any(
        array.size % 8 or not len(array) for array in stored
    ):
        raise WeightsError(f"{path}: the LSTM's weights have the shapes {brief([a.shape for a in stored])}")
    w, r, b = (array[0] for array in stored)
    halves = (w, r, *np.split(b, 2))
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    gates = [np.split(array, 4) for array in halves]
    return {
        f"lstm_cell.{kind}": np.concatenate([i, f, c, o])
        for kind, (i, o, f, c) in zip(kinds, gates, strict=True)
    }


@dataclass(frozen=True, kw_only=True)
class FramesWithContext:
    """Frames of a sound, each with the end of the one before it; a front end (`Features`).

    Zeros are put before the first frame and complete the last one.

    Attributes:
        length: samples of a frame.
        context: samples before it that are read with it.
    """

    length: int = _FRAME
    context: int = _CONTEXT

    @property
    def rows(self) -> tuple[int, ...]:
        """Samples of a frame and its context."""
        return (self.context + self.length,)

    def count(self, samples: int) -> int:
        """Number of frames."""
        return -(-samples // self.length)

    def __call__(self, samples: Floats) -> Floats:
        """Returns (t, context + length) float32 for samples (n,) float32 in [-1, 1]."""
        count = self.count(len(samples))
        padded = np.zeros(self.context + count * self.length, np.float32)
        padded[self.context : self.context + len(samples)] = samples
        if not count:
            return np.zeros((0, *self.rows), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.rows[0])
        return windows[:: self.length].copy()


def sound(config: Config, settings: Mapping[str, Any]) -> SoundProcessing:
    """Frames of 32 ms at 16 kHz."""
    refuse_settings(settings, "Silero VAD")
    return SoundProcessing(rate=16_000, features=FramesWithContext(), seconds=60.0, states=_same)


def _same(rows: int) -> int:
    """The number of states: one for each frame."""
    return rows


def labels(published: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> LinearClassifier | None:
    """The probability of speech, of a state or of a mean of states; None without the last layer."""
    weight, bias = (tensors.get(f"final_conv.{part}") for part in ("weight", "bias"))
    if weight is None or bias is None:
        return None
    return LinearClassifier(("speech",), weight.float32()[:, :, 0], bias.float32(), independent=True)


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.sound (n, t, 576) float32, frames with their contexts -> (n, t, dim) float32.

    The first hidden state is the LSTM's input, from which `omnivec.tasks.speech` goes on.
    """
    x = ops.reshape(batch.sound, (-1, 1, _CONTEXT + _FRAME))
    x = ops.conv(ops.pad(x, 0, _CONTEXT, "reflect"), p["stft_conv"], (2 * _CONTEXT,), (0,))
    real, imaginary = x[:, :_BINS], x[:, _BINS:]
    x = ops.sqrt(real * real + imaginary * imaginary)
    for number, stride in enumerate(_STRIDES, 1):
        x = ops.relu(ops.conv(x, p[f"conv{number}"], (stride,), (1,)))
    x = ops.state(by_item(ops, ops.reshape(x, (0, -1)), batch.sound))
    return ops.state(ops.relu(ops.lstm(x, p["lstm"], batch.lengths)[0]))


SHAPES = {
    "lstm.weight_hh_l0": ("", "dim"),
    "final_conv.weight": ("", "dim", ""),
}

PREFIXES = ("module.",)

LAYOUTS: list[weights.Row] = [(r"lstm_cell\.(weight|bias)_(ih|hh)", r"lstm.\1_\2_l0")]

KNOWN = {
    "silero-vad": {
        "sources": ["pypi:silero-vad==6.2.3/silero_vad/data"],
        "sha256": {
            "silero_vad_16k_sequence.onnx": "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
        },
        "licence": "MIT",
        "dim": 128,
        "length": 60.0,
        "pooling": "mean",
        "preprocessing": {},
        "example": "sound:vowel",
        "components": [0.049342, 0.481688, 0.207309, 0.056291, 0.0],
    },
}
