"""ECAPA-TDNN for speakers: Res2Net blocks and attentive statistics; SpeechBrain's and WeSpeaker's.

Desplanques et al. 2020, arXiv:2005.07143. The two publishers' networks differ in details, which `layout` names:

                        speechbrain                          wespeaker
around the sound        mirrored at its ends                 zeros
Res2Net                 the first piece is passed on         the last piece is passed on
context of attention    biased deviation                     unbiased deviation
attention               ReLU, batch norm, tanh               tanh
after the aggregation   ReLU, batch norm                     ReLU
features                SpeechBrain's filter bank, in dB     Kaldi's, of 16-bit samples

Weights are named as SpeechBrain publishes them. A folder holds embedding_model.ckpt and hyperparams.yaml, or
WeSpeaker's avg_model.pt and config.yaml; only plain values of the YAML files are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from omnivec import weights
from omnivec.errors import UnsupportedModel
from omnivec.families import _speechbrain, _wespeaker
from omnivec.families._classes import refuse_settings
from omnivec.families._statistics import inside, masked_softmax, mean_and_std
from omnivec.inputs.audio.processing import SoundProcessing
from omnivec.ops.base import Ops, Params, Value
from omnivec.validation.typed import Among, Count, Filled, Length, Size
from omnivec.weights import Tensor

CLAIMS = {
    "model_type": ["ecapa"],
    "files": {
        "hyperparams.yaml": {"model_type": "ecapa"},
        "config.yaml": {"model_type": "ecapa", "layout": "wespeaker"},
    },
    "contents": {
        "hyperparams.yaml": "lobes.models.ECAPA_TDNN.ECAPA_TDNN",
        "config.yaml": "model: ECAPA_TDNN",
    },
    "modality": "audio",
}

POOLING = "cls"

_EPS = 1e-5
_LAYOUTS = ("speechbrain", "wespeaker")


@dataclass(frozen=True)
class Config:
    """The arguments of SpeechBrain's class that the forward pass depends on, and its defaults.

    Attributes:
        input_size: mel bands of a frame.
        channels: channels of the first convolution, of each Res2Net block, and of their aggregation.
        kernel_sizes: sizes of their kernels in time.
        dilations: steps between the frames that a kernel reads.
        attention_channels: width of the attention.
        res2net_scale: number of pieces that the channels of a Res2Net block are split into.
        se_channels: width of squeeze and excitation.
        global_context: whether attention reads mean and deviation of the whole sound.
        lin_neurons: length of a vector.
        layout: publisher whose details are computed; see the module's docstring.
    """

    input_size: Size = 80
    channels: Annotated[tuple[Size, ...], Filled()] = (512, 512, 512, 512, 1536)
    kernel_sizes: Annotated[tuple[Count, ...], Length("channels")] = (5, 3, 3, 3, 1)
    dilations: Annotated[tuple[Count, ...], Length("channels")] = (1, 2, 3, 4, 1)
    attention_channels: Size = 128
    res2net_scale: Count = 8
    se_channels: Size = 128
    global_context: bool = True
    lin_neurons: Size = 192
    layout: Annotated[str, Among(_LAYOUTS)] = "speechbrain"

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.lin_neurons

    @property
    def reach(self) -> int:
        """Largest number of frames that a convolution reads beyond the ends of a sound."""
        return max(d * (k - 1) // 2 for k, d in zip(self.kernel_sizes, self.dilations, strict=True))

    @property
    def mirrors(self) -> bool:
        """Whether a sound is mirrored at its ends; else zeros surround it."""
        return self.layout == "speechbrain"


def load_original(
    folder: Path, published: Mapping[str, Any]
) -> tuple[Mapping[str, Any], weights.Weights, None] | None:
    """The config and weights of a folder of SpeechBrain or WeSpeaker; None for one written by `save`."""
    if published.get("layout") != "wespeaker":
        groups = [1] * len(Config.channels)
        covered = {"groups": groups, "activation": {"!": "name:torch.nn.ReLU"}}
        return _speechbrain.load_speechbrain(folder, "ecapa", Config, "input_size", covered)
    found = _wespeaker.read_wespeaker(folder, {"pooling_func": "ASTP", "emb_bn": False})
    if found is None:
        return None
    name, arguments = found
    match = re.fullmatch(r"ECAPA_TDNN_(GLOB_)?c(\d+)", name)
    if match is None:
        raise UnsupportedModel(f"{folder / _wespeaker.SETTINGS}: model {name!r} is not covered")
    stored = weights.read(folder / _wespeaker.WEIGHTS)
    # Later versions aggregate to 1,536 channels, earlier ones to as many as the blocks have together.
    aggregated = stored["conv.weight"].shape[0] if "conv.weight" in stored else 1536
    config = {
        "channels": [int(match[2])] * 4 + [aggregated],
        "global_context": match[1] is not None,
        "lin_neurons": arguments.get("embed_dim", 192),
    }
    return {"model_type": "ecapa", "layout": "wespeaker", **config}, stored, None


def adapt_weights(tensors: dict[str, Tensor], config: Config) -> tuple[dict[str, Tensor], Config]:
    """Weights with those of WeSpeaker's linear maps as convolutions of size 1, which SpeechBrain has in their place."""
    for name in [n for n in tensors if n.endswith(".conv.weight") and len(tensors[n].shape) == 2]:
        matrix = tensors[name]
        tensors[name] = replace(matrix, shape=(*matrix.shape, 1), data=matrix.data[:, :, None])
    return tensors, config


def sound(config: Config, settings: Mapping[str, Any]) -> SoundProcessing:
    """The publisher's filter bank; a sound that is mirrored needs more frames than are mirrored."""
    refuse_settings(settings, "ECAPA-TDNN")
    if config.mirrors:
        return _speechbrain.fbank(config.input_size, config.reach + 1)
    return _wespeaker.fbank(config.input_size, 2)


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.sound (n, t, input_size) float32 and batch.lengths (n,) -> (n, 1, dim) float32."""
    x = ops.transpose(batch.sound, (0, 2, 1))
    time = _Time(ops, config, batch.lengths, inside(ops, x, 2, batch.lengths)[:, None])
    x = _tdnn(ops, p["blocks.0"], time, x, 0)
    ops.state(ops.transpose(x, (0, 2, 1)))
    blocks = []
    for i in range(1, len(config.channels) - 1):
        x = _block(ops, p[f"blocks.{i}"], time, x, i)
        ops.state(ops.transpose(x, (0, 2, 1)))
        blocks.append(x)
    x = _tdnn(ops, p["mfa"], time, ops.concat(blocks, 1), len(config.channels) - 1)
    ops.state(ops.transpose(x, (0, 2, 1)))
    pooled = ops.batch_norm(_attentive_statistics(ops, p["asp"], time, x), p["asp_bn.norm"], _EPS)
    return ops.transpose(time.conv(p["fc.conv"], pooled[:, :, None]), (0, 2, 1))


@dataclass(frozen=True)
class _Time:
    """The time axis of a batch: config, real lengths (n,), and where sounds are real (n, 1, t)."""

    ops: Ops
    config: Config
    lengths: Value
    real: Value

    def conv(self, p: Params, x: Value, kernel: int = 1, dilation: int = 1) -> Value:
        """A convolution that reads nothing but each sound's own frames, and what the publisher puts around them."""
        reach = dilation * (kernel - 1) // 2
        if reach and self.config.mirrors:
            x, reach = self.ops.pad(x, reach, reach, "reflect", self.lengths), 0
        elif reach:
            x = x * self.real
        return self.ops.conv(x, p, (1,), (reach,), (dilation,))


def _tdnn(ops: Ops, p: Params, time: _Time, x: Value, layer: int) -> Value:
    """Convolution, ReLU, batch norm, in this order; without the norm if the checkpoint has none."""
    kernel, dilation = time.config.kernel_sizes[layer], time.config.dilations[layer]
    return _activated(ops, p, time.conv(p["conv.conv"], x, kernel, dilation))


def _activated(ops: Ops, p: Params, x: Value) -> Value:
    x = ops.relu(x)
    return ops.batch_norm(x, p["norm.norm"], _EPS) if "norm" in p else x


def _block(ops: Ops, p: Params, time: _Time, x: Value, layer: int) -> Value:
    """A Res2Net block between two pointwise layers, then squeeze and excitation, added to the input."""
    residual = time.conv(p["shortcut.conv"], x) if "shortcut" in p else x
    x = _activated(ops, p["tdnn1"], time.conv(p["tdnn1.conv.conv"], x))
    x = _res2net(ops, p["res2net_block"], time, x, layer)
    x = _activated(ops, p["tdnn2"], time.conv(p["tdnn2.conv.conv"], x))
    mean = ops.sum(x * time.real, 2, keep=True) / ops.sum(time.real, 2, keep=True)
    gate = ops.relu(time.conv(p["se_block.conv1.conv"], mean))
    return x * ops.sigmoid(time.conv(p["se_block.conv2.conv"], gate)) + residual


def _res2net(ops: Ops, p: Params, time: _Time, x: Value, layer: int) -> Value:
    """Pieces of the channels, each convolved after the result of the one before is added; one is passed on as it is."""
    config = time.config
    width = config.channels[layer] // config.res2net_scale
    pieces = [x[:, i * width : (i + 1) * width] for i in range(config.res2net_scale)]
    passed = pieces.pop(0 if config.layout == "speechbrain" else -1)
    convolved: list[Value] = []
    for i, piece in enumerate(pieces):
        inner = piece + convolved[-1] if convolved else piece
        convolved.append(_tdnn(ops, p[f"blocks.{i}"], time, inner, layer))
    joined = [passed, *convolved] if config.layout == "speechbrain" else [*convolved, passed]
    return ops.concat(joined, 1)


def _attentive_statistics(ops: Ops, p: Params, time: _Time, x: Value) -> Value:
    """Mean and deviation over time (n, 2 * c), weighted by an attention of each channel."""
    whole = time.config.layout == "wespeaker"
    scores = x
    if time.config.global_context:
        mean, std = mean_and_std(ops, x, time.real, unbiased=whole, eps=1e-7 if whole else 0.0)
        scores = ops.concat([x, x * 0.0 + mean[:, :, None], x * 0.0 + std[:, :, None]], 1)
    scores = time.conv(p["tdnn.conv.conv"], scores)
    scores = ops.tanh(scores if whole else _activated(ops, p["tdnn"], scores))
    shares = masked_softmax(ops, time.conv(p["conv.conv"], scores), time.real)
    return ops.concat(mean_and_std(ops, x, shares, floor=1e-7 if whole else 1e-12), 1)


SHAPES = {
    "blocks.0.conv.conv.weight": ("", "input_size", ""),
    "fc.conv.weight": ("lin_neurons", "", ""),
}

PREFIXES = ("module.",)

LAYOUTS: list[weights.Row] = [
    (r".*\.num_batches_tracked", None),
    # WeSpeaker's head for training, and its names.
    (r"projection\..*", None),
    (r"layer1\.conv\.(.*)", r"blocks.0.conv.conv.\1"),
    (r"layer1\.bn\.(.*)", r"blocks.0.norm.norm.\1"),
    *[
        (rf"layer{i + 1}\.se_res2block\.{name}\.(.*)", rf"blocks.{i}.{place}")
        for i in range(1, 4)
        for name, place in (
            (r"0\.conv", r"tdnn1.conv.conv.\1"),
            (r"0\.bn", r"tdnn1.norm.norm.\1"),
            (r"1\.convs\.(\d+)", r"res2net_block.blocks.\1.conv.conv.\2"),
            (r"1\.bns\.(\d+)", r"res2net_block.blocks.\1.norm.norm.\2"),
            (r"2\.conv", r"tdnn2.conv.conv.\1"),
            (r"2\.bn", r"tdnn2.norm.norm.\1"),
            (r"3\.linear1", r"se_block.conv1.conv.\1"),
            (r"3\.linear2", r"se_block.conv2.conv.\1"),
        )
    ],
    (r"conv\.(.*)", r"mfa.conv.conv.\1"),
    (r"pool\.linear1\.(.*)", r"asp.tdnn.conv.conv.\1"),
    (r"pool\.linear2\.(.*)", r"asp.conv.conv.\1"),
    (r"bn\.(.*)", r"asp_bn.norm.\1"),
    (r"linear\.(.*)", r"fc.conv.\1"),
]

KNOWN: dict[str, dict[str, Any]] = {}
