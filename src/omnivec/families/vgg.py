"""VGG: plain stacks of 3x3 convolutions for images, 11 to 19 layers, with and without batch norm.

Simonyan and Zisserman 2014, arXiv:1409.1556, table 1. Weights are named as torchvision saves them; timm's names are
read too. For a state dict, a config.json of `{"architecture": "vgg16"}` is enough; a file with torchvision's file name
needs none. The vector is the output of the last hidden layer, 4096 numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from omnivec import weights
from omnivec.inputs.image.published import IMAGENET, Plain
from omnivec.ops.base import Ops, Params, Value
from omnivec.ops.maps import rows
from omnivec.validation.typed import Count, Rate, Size

# fmt: off
CLAIMS = {
    "where": {
        "architecture": [
            "vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn",
        ]
    },
    "files": {
        "vgg11-8a719046.pth": {"architecture": "vgg11"},
        "vgg13-19584684.pth": {"architecture": "vgg13"},
        "vgg16-397923af.pth": {"architecture": "vgg16"},
        "vgg19-dcbb9e9d.pth": {"architecture": "vgg19"},
        "vgg11_bn-6002323d.pth": {"architecture": "vgg11_bn"},
        "vgg13_bn-abd245e5.pth": {"architecture": "vgg13_bn"},
        "vgg16_bn-6c64b313.pth": {"architecture": "vgg16_bn"},
        "vgg19_bn-c79401a0.pth": {"architecture": "vgg19_bn"},
    },
    "modality": "image",
}
# fmt: on

# The output has a single position, so the mean changes nothing.
POOLING = "mean"

# The preprocessing of images for folders that do not specify it.
PREPROCESSING = {**IMAGENET, "interpolation": "bilinear"}

# Convolutions in each stage: columns A, B, D and E of the paper's table.
_DEPTHS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}

_EPS = 1e-5

# Height and width of the feature map that the first hidden layer takes.
_SIDE = 7


@dataclass(frozen=True)
class Config:
    """The configuration, which follows from the architecture's name.

    Attributes:
        depths: number of convolutions in each stage.
        batch_norm: whether each convolution is followed by a batch norm.
        num_features: width of the hidden layers.
        drop_rate: of the hidden layers, in training.
    """

    depths: tuple[Count, ...]
    batch_norm: bool
    num_features: Size = 4096
    drop_rate: Rate = 0.5

    @property
    def dim(self) -> int:
        """Width of the vector."""
        return self.num_features


@dataclass(frozen=True)
class Published:
    """Further keys of config.json that are read."""

    architecture: str
    model_args: Plain | None = None


def canonical(published: Mapping[str, Any]) -> Mapping[str, Any]:
    """The published config with the fields of `Config` that the architecture's name implies."""
    name, _, norm = published["architecture"].partition("_")
    return {**published, "depths": _DEPTHS[name], "batch_norm": norm == "bn"}


def adapt_weights(
    tensors: Mapping[str, weights.Tensor], config: Config
) -> tuple[dict[str, weights.Tensor], Config]:
    """The weights with timm's hidden layers, convolutions over the whole map, reshaped to matrices."""
    flat = dict(tensors)
    for name in ("classifier.0.weight", "classifier.3.weight"):
        if name in tensors:
            matrix = tensors[name].data.reshape(len(tensors[name].data), -1)
            flat[name] = replace(tensors[name], shape=matrix.shape, data=matrix)
    return flat, config


def forward(ops: Ops, p: Params, config: Config, batch: Any) -> Value:
    """batch.pixels (n, 3, h, w) float32, normalised -> (n, 1, num_features) float32.

    For images of 224 x 224 pixels the last map is 7 x 7; for other sizes it is averaged to 7 x 7, as in torchvision.
    """
    x, module = batch.pixels, 0  # the number of a module in torchvision's nn.Sequential
    for depth in config.depths:
        for _ in range(depth):
            x = ops.conv(x, p[f"features.{module}"], (1, 1), (1, 1))
            if config.batch_norm:
                x = ops.batch_norm(x, p[f"features.{module + 1}"], _EPS)
            x = ops.relu(x)
            module += 3 if config.batch_norm else 2
        x = ops.max_pool(x, (2, 2), (2, 2), (0, 0))
        module += 1
        ops.state(rows(ops, x))
    x = ops.reshape(ops.adaptive_mean(x, (_SIDE, _SIDE)), (0, 1, -1))
    x = ops.state(ops.relu(ops.linear(x, p["classifier.0"])))
    x = ops.dropout(x, config.drop_rate)
    return ops.state(ops.relu(ops.linear(x, p["classifier.3"])))


SHAPES = {
    "classifier.0.weight": ("num_features", ""),
    "classifier.3.weight": ("num_features", "num_features"),
}

PREFIXES = ("timm_model.", "backbone.", "model.", "module.")

LAYOUTS = [
    (r".*\.num_batches_tracked", None),
    # Heads that embeddings do not need.
    (r"(classifier\.6|head)\..*", None),
    # timm's names.
    (r"pre_logits\.fc1\.(.*)", r"classifier.0.\1"),
    (r"pre_logits\.fc2\.(.*)", r"classifier.3.\1"),
]

KNOWN: dict[str, dict[str, Any]] = {}
