"""Activations by the names that published configs give them (`hidden_act`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

from omnivec.ops.base import Ops, Value
from omnivec.validation.typed import Among

ACTIVATIONS: Mapping[str, Callable[[Ops, Value], Value]] = {
    "gelu": lambda ops, x: ops.gelu(x),
    "gelu_new": lambda ops, x: ops.gelu(x, "tanh"),
    "gelu_pytorch_tanh": lambda ops, x: ops.gelu(x, "tanh"),
    "quick_gelu": lambda ops, x: x * ops.sigmoid(x * 1.702),
    "relu": lambda ops, x: ops.relu(x),
    "silu": lambda ops, x: ops.silu(x),
    "swish": lambda ops, x: ops.silu(x),
}

Activation = Annotated[str, Among(ACTIVATIONS)]
"""The type of a config's field that names an activation."""
