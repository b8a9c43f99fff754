"""The folder of a joint model: two models, each with the head that maps its vectors into a common space.

    config.json         {"model_type": "joint", "dim": ..., "metric": "cosine", "scale": ...,
                         "left": {"name": ..., "layers": 1}, "right": {...}, "training": {...}}
    heads.safetensors   left.0.weight (out, in), left.0.bias (out,), left.1.weight, ..., right.0.weight, ...
    left/, right/       the folders of the two models

The vector of the left or right model is scaled to length 1, passed through the linear layers of its head with a ReLU
between each two, and scaled to length 1 again. A cosine between the two sides times the scale is a logit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from omnivec.errors import ModelError, WeightsError
from omnivec.types import Floats
from omnivec.validation import typed
from omnivec.validation.json_files import read_json, write_json
from omnivec.validation.reasons import of_system
from omnivec.validation.typed import Between, Count
from omnivec.weights.safetensors import read_safetensors, save
from omnivec.weights.tensor import Weights

MODEL_TYPE = "joint"
SIDES = ("left", "right")
HEADS = "heads.safetensors"


@dataclass(frozen=True)
class _SideConfig:
    """The entry of a side in config.json."""

    name: str
    layers: Count


@dataclass(frozen=True)
class _Config:
    """The keys of config.json that are read."""

    left: _SideConfig
    right: _SideConfig
    scale: Annotated[float, Between(1e-30, 1e30)]
    training: Mapping[str, Any] | None = None


Layers = tuple[tuple[Floats, Floats], ...]
"""For each layer its weight (out, in) and bias (out,)."""


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two models.

    Attributes:
        name: name that the model was loaded by when the head was trained.
        layers: the layers of its head.
    """

    name: str
    layers: Layers


@dataclass(frozen=True, eq=False)
class Joint:
    """The content of a joint model's folder, without the two models.

    Attributes:
        left: the left side.
        right: the right side.
        scale: factor of the cosines between the two sides in a softmax.
        training: how it was trained: method, number of pairs, recall on held-out pairs.
    """

    left: Side
    right: Side
    scale: float
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sides(self) -> dict[str, Side]:
        """Both sides by their names, "left" and "right"."""
        return {"left": self.left, "right": self.right}

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.left.layers[-1][0].shape[0])


def is_joint(folder: Path) -> bool:
    """Whether a folder is that of a joint model, according to its config.json."""
    return bool(read_json(folder / "config.json", {}, dict).get("model_type") == MODEL_TYPE)


def write_joint(joint: Joint, folder: Path) -> None:
    """Writes the config and the heads of a joint model into its folder, which already contains the models.

    Raises:
        WeightsError: the heads cannot be written.
        ModelError: the config cannot be written.
    """
    config: dict[str, Any] = {
        "model_type": MODEL_TYPE,
        "dim": joint.dim,
        "metric": "cosine",
        "scale": joint.scale,
    }
    tensors: dict[str, Floats] = {}
    for name, side in joint.sides.items():
        config[name] = {"name": side.name, "layers": len(side.layers)}
        for i, (weight, bias) in enumerate(side.layers):
            tensors |= {f"{name}.{i}.weight": weight, f"{name}.{i}.bias": bias}
    save(folder / HEADS, {name: np.asarray(value, np.float32) for name, value in tensors.items()})
    try:
        write_json(folder / "config.json", {**config, "training": dict(joint.training)})
    except OSError as error:
        raise ModelError(f"{folder}/config.json cannot be written: {of_system(error)}") from error


def read_joint(folder: Path) -> Joint:
    """Reads the config and the heads of a joint model.

    Raises:
        ModelError: config.json is missing or invalid.
        WeightsError: a head is incomplete, or its layers do not fit together.
    """
    config = typed.read_file(_Config, folder / "config.json")
    tensors = read_safetensors(folder / HEADS)
    left, right = (
        Side(side.name, _layers(tensors, name, side.layers, folder))
        for name, side in zip(SIDES, (config.left, config.right), strict=True)
    )
    joint = Joint(left, right, config.scale, dict(config.training or {}))
    if right.layers[-1][0].shape[0] != joint.dim:
        raise WeightsError(
            f"{folder}/{HEADS}: the left head makes {joint.dim} components, the right one "
            f"{right.layers[-1][0].shape[0]}: they must be equal"
        )
    return joint


def _layers(tensors: Weights, side: str, count: int, folder: Path) -> Layers:
    layers: list[tuple[Floats, Floats]] = []
    for i in range(count):
        names = (f"{side}.{i}.weight", f"{side}.{i}.bias")
        if lacking := [name for name in names if name not in tensors]:
            raise WeightsError(f"{folder}/{HEADS} lacks {lacking[0]!r}: it is incomplete")
        weight, bias = (tensors[name].float32() for name in names)
        if (
            weight.ndim != 2
            or bias.shape != weight.shape[:1]
            or (layers and layers[-1][0].shape[0] != weight.shape[1])
        ):
            raise WeightsError(
                f"{folder}/{HEADS}: layer {i} of {side}: weight {weight.shape} and bias {bias.shape} do not fit"
            )
        layers.append((weight, bias))
    if not layers:
        raise WeightsError(f"{folder}/config.json: the head of {side} has no layers")
    return tuple(layers)
