"""ResNet: residual networks of 18 to 152 layers for images, v1 and v1.5.

He et al. 2015, arXiv:1512.03385; v1.5 strides in a bottleneck's 3x3 convolution instead of its first 1x1. Weights are
named as transformers' `ResNetModel` saves them; timm's and torchvision's names are read too. For a state dict, a
config.json of `{"architecture": "resnet50"}` is enough; a file with torchvision's file name needs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from omnivec.errors import ModelError
from omnivec.inputs.image.published import IMAGENET, Colours, Plain
from omnivec.ops.activations import ACTIVATIONS, Activation
from omnivec.ops.base import Ops, Params, Value
from omnivec.ops.maps import rows
from omnivec.validation.typed import Among, Count, Filled, Length, Size
from omnivec.weights import Tensor

CLAIMS = {
    "model_type": ["resnet"],
    "where": {"architecture": ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]},
    "files": {
        "resnet18-f37072fd.pth": {"architecture": "resnet18"},
        "resnet34-b627a593.pth": {"architecture": "resnet34"},
        "resnet50-0676ba61.pth": {"architecture": "resnet50"},
        "resnet101-63fe2227.pth": {"architecture": "resnet101"},
        "resnet152-394f9c45.pth": {"architecture": "resnet152"},
        # torchvision's second weights, evaluated on images whose shorter side has 232 pixels.
        "resnet50-11ad3fa6.pth": {"architecture": "resnet50", "pretrained_cfg": {"crop_pct": 0.9655}},
        "resnet101-cd907fc2.pth": {"architecture": "resnet101", "pretrained_cfg": {"crop_pct": 0.9655}},
        "resnet152-f82ba261.pth": {"architecture": "resnet152", "pretrained_cfg": {"crop_pct": 0.9655}},
    },
    "modality": "image",
}

POOLING = "mean"

# The preprocessing of images for folders that do not specify it.
PREPROCESSING = {**IMAGENET, "interpolation": "bilinear"}

# Architectures of timm and torchvision: number of layers in each stage, and their type.
_ARCHITECTURES = {
    "resnet18": ((2, 2, 2, 2), "basic"),
    "resnet34": ((3, 4, 6, 3), "basic"),
    "resnet50": ((3, 4, 6, 3), "bottleneck"),
    "resnet101": ((3, 4, 23, 3), "bottleneck"),
    "resnet152": ((3, 8, 36, 3), "bottleneck"),
}
_WIDTHS = {"basic": (64, 128, 256, 512), "bottleneck": (256, 512, 1024, 2048)}

# Index of the last convolution in a layer, whose channels are those of the stage.
_LAST = {"basic": 1, "bottleneck": 2}

_EPS = 1e-5


@dataclass(frozen=True)
class Config:
    """The keys of config.json that the forward pass depends on."""

    depths: Annotated[tuple[Count, ...], Filled()]
    hidden_sizes: Annotated[tuple[Size, ...], Length("depths")]
    layer_type: Annotated[str, Among(_WIDTHS)] = "bottleneck"
    hidden_act: Activation = "relu"
    downsample_in_first_stage: bool = False
    downsample_in_bottleneck: bool = False

    @property
    def dim(self) -> int:
        """Channels of the last map."""
        return self.hidden_sizes[-1]


@dataclass(frozen=True)
class Published:
    """Further keys of config.json that are read."""

    architecture: str = ""
    num_channels: Colours = 3
    model_args: Plain | None = None


def canonical(published: Mapping[str, Any]) -> Mapping[str, Any]:
    """A published config with transformers' keys; of timm's, only the architecture's name is used."""
    depths, layer_type = _ARCHITECTURES.get(published.get("architecture") or "", ((), ""))
    config = (
        {"depths": depths, "layer_type": layer_type, "hidden_sizes": _WIDTHS[layer_type]}
        if depths
        else published
    )
    return config


def adapt_weights(tensors: dict[str, Tensor], config: Config) -> tuple[dict[str, Tensor], Config]:
    """Weights and config unchanged; ModelError if the config's last width is not that of the weights."""
    last = f"encoder.stages.{len(config.depths) - 1}.layers.0.layer.{_LAST[config.layer_type]}.convolution.weight"
    rows = tensors[last].shape[0] if last in tensors else config.dim
    if rows != config.dim:
        raise ModelError(
            f"config.json: hidden_sizes ends with {config.dim}, but {last} of the weights has {rows}"
        )
    return tensors, config


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.pixels (n, 3, h, w) float32, normalised -> (n, h / 32 * w / 32, dim) float32, sizes rounded up."""
    x = ACTIVATIONS[config.hidden_act](ops, _convolution(ops, p["embedder.embedder"], batch.pixels, 7, 2))
    x = ops.max_pool(x, (3, 3), (2, 2), (1, 1))
    last = ops.state(rows(ops, x))
    for i, depth in enumerate(config.depths):
        for j in range(depth):
            stride = 2 if j == 0 and (i > 0 or config.downsample_in_first_stage) else 1
            x = _layer(ops, p[f"encoder.stages.{i}.layers.{j}"], config, x, stride)
        last = ops.state(rows(ops, x))
    return last


def _layer(ops: Ops, p: Params, config: Config, x: Value, stride: int) -> Value:
    """Two or three convolutions, added to their input, which is projected if the shapes differ."""
    steps = [(3, stride), (3, 1)]
    if config.layer_type == "bottleneck":
        early, late = (stride, 1) if config.downsample_in_bottleneck else (1, stride)
        steps = [(1, early), (3, late), (1, 1)]
    y = x
    for k, (kernel, step) in enumerate(steps):
        y = _convolution(ops, p[f"layer.{k}"], y if k == 0 else ops.relu(y), kernel, step)
    if "shortcut" in p:
        x = _convolution(ops, p["shortcut"], x, 1, stride)
    return ACTIVATIONS[config.hidden_act](ops, x + y)


def _convolution(ops: Ops, p: Params, x: Value, kernel: int, stride: int) -> Value:
    """A convolution without bias, followed by a batch norm."""
    y = ops.conv(x, p["convolution"], (stride, stride), (kernel // 2, kernel // 2))
    return ops.batch_norm(y, p["normalization"], _EPS)


PREFIXES = ("resnet.", "timm_model.", "backbone.", "model.", "module.")

LAYOUTS = [
    (r".*\.num_batches_tracked", None),
    # Heads that embeddings do not need.
    (r"(fc|classifier)\..*", None),
    # timm's and torchvision's names.
    (r"conv1\.(.*)", r"embedder.embedder.convolution.\1"),
    (r"bn1\.(.*)", r"embedder.embedder.normalization.\1"),
    *[
        (rf"layer{i + 1}\.(\d+)\.{name}\.(.*)", rf"encoder.stages.{i}.layers.\1.{place}.\2")
        for i in range(4)
        for name, place in (
            *((f"conv{k + 1}", f"layer.{k}.convolution") for k in range(3)),
            *((f"bn{k + 1}", f"layer.{k}.normalization") for k in range(3)),
            (r"downsample\.0", "shortcut.convolution"),
            (r"downsample\.1", "shortcut.normalization"),
        )
    ],
]

KNOWN: dict[str, dict[str, Any]] = {}
