"""ResNet34 for speakers and its deeper siblings: WeSpeaker's networks, and pyannote's copies of them.

Zeinali et al. 2019, arXiv:1910.12592: a residual network over the filter bank as an image of one channel, mean and
deviation over time, one linear map. Weights are named as WeSpeaker publishes them. A folder holds avg_model.pt and
config.yaml, or pyannote's pytorch_model.bin and config.yaml; only plain values of config.yaml are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from omnivec import weights
from omnivec.errors import ModelError, UnsupportedModel
from omnivec.families import _wespeaker
from omnivec.families._classes import refuse_settings
from omnivec.families._statistics import inside, mean_and_std
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.ops.base import Ops, Params, Value
from omnivec.validation.typed import Count, Filled, Rate, Size
from omnivec.weights.hyperparams import TAG, read_hyperparams

CLAIMS = {
    "model_type": ["speaker_resnet"],
    "files": {"config.yaml": {"model_type": "speaker_resnet"}},
    "contents": {"config.yaml": r"model: ResNet\d|WeSpeakerResNet\d"},
    "modality": "audio",
}

POOLING = "cls"

_BN_EPS = 1e-5

# Layers of each stage, and whether a layer has three convolutions (a bottleneck) or two.
_DEPTHS = {
    "ResNet18": ((2, 2, 2, 2), False),
    "ResNet34": ((3, 4, 6, 3), False),
    "ResNet50": ((3, 4, 6, 3), True),
    "ResNet101": ((3, 4, 23, 3), True),
    "ResNet152": ((3, 8, 36, 3), True),
    "ResNet221": ((6, 16, 48, 3), True),
    "ResNet293": ((10, 20, 64, 3), True),
}

# The network halves the time axis three times, and needs two frames at the end for a deviation.
_FRAMES = 9

# Arguments of pyannote's class -> the value that is covered.
_PYANNOTE = {
    "sample_rate": _wespeaker.RATE,
    "num_channels": 1,
    "frame_length": 25,
    "frame_shift": 10,
    "dither": 0,
    "window_type": "hamming",
    "use_energy": False,
    "round_to_power_of_two": True,
    "snip_edges": True,
    "fbank_centering_span": None,
}


@dataclass(frozen=True)
class Config:
    """The sizes of the network.

    Attributes:
        bands: bands of a frame.
        depths: number of layers in each stage.
        bottleneck: whether a layer is a bottleneck of three convolutions.
        dim: length of a vector.
        eps: what is added to the variance over time: WeSpeaker adds 1e-7, pyannote nothing.
    """

    bands: Size = 80
    depths: Annotated[tuple[Count, ...], Filled()] = (3, 4, 6, 3)
    bottleneck: bool = False
    dim: Size = 256
    eps: Rate = 1e-7


def load_original(
    folder: Path, published: Mapping[str, Any]
) -> tuple[Mapping[str, Any], weights.Weights, None] | None:
    """The config and weights of a folder of WeSpeaker or pyannote; None for one written by `save`."""
    if not (folder / _wespeaker.SETTINGS).is_file():
        return None
    found = _wespeaker.read_wespeaker(folder, {"pooling_func": "TSTP", "two_emb_layer": False})
    if found is None:
        return _load_pyannote(folder)
    name, arguments = found
    config = {**_architecture(folder, name), "dim": arguments.get("embed_dim", 128)}
    return config, weights.read(folder / _wespeaker.WEIGHTS), None


def _load_pyannote(folder: Path) -> tuple[Mapping[str, Any], weights.Weights, None]:
    file = folder / _wespeaker.SETTINGS
    model = read_hyperparams(file).get("model")
    if not isinstance(model, dict):
        raise ModelError(f"{file} lacks model, with the arguments of its class")
    for key, value in model.items():
        if key not in ("_target_", "num_mel_bins", TAG) and (key not in _PYANNOTE or value != _PYANNOTE[key]):
            raise UnsupportedModel(f"{file}: {key} of model is {value!r}, which is not covered")
    name = str(model.get("_target_")).rpartition(".")[2].removeprefix("WeSpeaker")
    stored = weights.read(folder)
    config = {**_architecture(folder, name), "bands": model.get("num_mel_bins", 80), "eps": 0.0}
    if (last := stored.get("resnet.seg_1.weight")) is not None:
        config["dim"] = last.shape[0]
    return config, stored, None


def _architecture(folder: Path, name: str) -> dict[str, Any]:
    if name not in _DEPTHS:
        raise UnsupportedModel(
            f"{folder / _wespeaker.SETTINGS}: model {name!r} is none of {', '.join(_DEPTHS)}"
        )
    depths, bottleneck = _DEPTHS[name]
    return {"model_type": "speaker_resnet", "depths": list(depths), "bottleneck": bottleneck}


def sound(config: Config, settings: Mapping[str, Any]) -> SoundProcessing:
    """Kaldi's filter bank of 16-bit samples, less its mean over time."""
    refuse_settings(settings, "a ResNet for speakers")
    return _wespeaker.fbank(config.bands, _FRAMES)


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.sound (n, t, bands) float32 and batch.lengths (n,) -> (n, 1, dim) float32."""
    x = ops.transpose(batch.sound, (0, 2, 1))[:, None]
    stride = 1
    x = ops.relu(_convolution(ops, p, "1", x, batch.lengths, (3, 1), stride))
    ops.state(ops.transpose(x, (0, 3, 1, 2)))
    for i, depth in enumerate(config.depths):
        for j in range(depth):
            step = 2 if i > 0 and j == 0 else 1
            x = _layer(ops, p[f"layer{i + 1}.{j}"], config, x, batch.lengths, (step, stride))
            stride *= step
        ops.state(ops.transpose(x, (0, 3, 1, 2)))
    real = inside(ops, x, 3, batch.lengths, stride)[:, None]
    # (n, channels, bands, t) -> (n, channels * bands, t)
    flat = ops.transpose(ops.reshape(ops.transpose(x, (0, 3, 1, 2)), (0, 0, -1)), (0, 2, 1))
    mean, std = mean_and_std(ops, flat, real, unbiased=True, eps=config.eps)
    return ops.linear(ops.concat([mean, std], 1), p["seg_1"])[:, None]


def _layer(ops: Ops, p: Params, config: Config, x: Value, lengths: Value, strides: tuple[int, int]) -> Value:
    """Two or three convolutions, added to their input, which is projected if the shapes differ.

    Args:
        ops: operations of an engine.
        p: weights of the layer.
        config: the config.
        x: input (n, c, bands, t).
        lengths: (n,) real frames of the sounds.
        strides: stride of the layer, and the number of frames for which one position of x stands.
    """
    step, before = strides
    steps = [(1, 1), (3, step), (1, 1)] if config.bottleneck else [(3, step), (3, 1)]
    y = x
    stride = before
    for k, (kernel, own) in enumerate(steps):
        y = _convolution(ops, p, str(k + 1), y if k == 0 else ops.relu(y), lengths, (kernel, own), stride)
        stride *= own
    if "shortcut" in p:
        y = y + ops.batch_norm(ops.conv(x, p["shortcut.0"], (step, step), (0, 0)), p["shortcut.1"], _BN_EPS)
    else:
        y = y + x
    return ops.relu(y)


def _convolution(
    ops: Ops, p: Params, name: str, x: Value, lengths: Value, how: tuple[int, int], stride: int
) -> Value:
    """A convolution without bias, of kernel and stride `how`, and a batch norm; padding of the batch is read as zeros.

    `stride` is the number of frames for which one position of x stands.
    """
    kernel, own = how
    if kernel > 1:
        x = x * inside(ops, x, 3, lengths, stride)[:, None, None]
    y = ops.conv(x, p[f"conv{name}"], (own, own), (kernel // 2, kernel // 2))
    return ops.batch_norm(y, p[f"bn{name}"], _BN_EPS)


SHAPES = {"seg_1.weight": ("dim", "")}

PREFIXES = ("module.", "resnet.")

LAYOUTS: list[weights.Row] = [
    (r".*\.num_batches_tracked", None),
    # The head for training.
    (r"projection\..*", None),
]

KNOWN: dict[str, dict[str, Any]] = {}
