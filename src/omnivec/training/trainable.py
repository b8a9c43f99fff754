"""A model under torch with trainable weights; its computation is that of inference, with dropout enabled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch

from omnivec.errors import UsageError
from omnivec.inputs.preparer import ReadOptions
from omnivec.models.model import Model
from omnivec.ops.base import EngineSettings, Params
from omnivec.ops.torch import TorchOps, device_of, parameters
from omnivec.weights.tensor import FLOATING, from_array

# Statistics that batch normalisation updates itself.
BUFFERS = ("running_mean", "running_var")


class Trainable:
    """A model's weights as float32 parameters on a device.

    Attributes:
        weights: the parameters, by the family's names.
        seen: number of texts processed so far.
        cut: number of those that were longer than the limit.
        limit: most tokens of a text, special tokens included.
    """

    def __init__(
        self, model: Model, device: str = "cpu", dropout: float | None = None, max_length: int | None = None
    ) -> None:
        """Copies the weights.

        Args:
            model: the model to train; it is not changed.
            device: "cpu", "cuda", "cuda:1", ...
            dropout: rate of every dropout layer; None for the model's rates.
            max_length: most tokens of a text; None for the model's limit.

        Raises:
            UsageError: `max_length` is above the model's limit, or leaves no room for a token.
        """
        self._original, self._device = model, device_of(device)
        self.limit = _limit(model, max_length)
        self._model = replace(
            model,
            config=_with_dropout(model.config, dropout),
            preparer=replace(model.texts, limit=self.limit),
        )
        floating = {name: t for name, t in model.tensors.items() if t.dtype in FLOATING}
        self.weights = parameters(floating, EngineSettings(device=device))
        for name, value in self.weights.items():
            value.requires_grad_(not name.endswith(BUFFERS))
        self._params = Params(self.weights, self.weights.__getitem__)
        self.seen = self.cut = 0

    def vectors(self, texts: Sequence[str], prompt: str = "", training: bool = True) -> torch.Tensor:
        """Vectors (n, dim) of texts, with gradients.

        Args:
            texts: a batch.
            prompt: text put before each.
            training: whether dropout is applied and batch statistics are used.
        """
        model = self._model
        reading = ReadOptions(prompt, model.head.include_prompt)
        rows = model.texts.rows(texts, reading)
        self.seen += len(rows)
        self.cut += sum(row.lost > 0 for row in rows)
        batch = model.preparer.collate(rows, model.head.include_prompt)
        inputs = {name: torch.from_numpy(array).to(self._device) for name, array in batch.items()}
        ops = TorchOps(training, self._device)
        out = model.body(ops, inputs.__getitem__, self._params)["vectors"]
        if model.head.has_products:
            out = model.tail(ops, {"pooled": out}.__getitem__, self._params)["vectors"]
        return out

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Parameter groups for an optimiser: matrices and tables with weight decay, biases and norms without."""
        learning = [value for value in self.weights.values() if value.requires_grad]
        return [
            {"params": [value for value in learning if value.ndim > 1], "weight_decay": weight_decay},
            {"params": [value for value in learning if value.ndim <= 1], "weight_decay": 0.0},
        ]

    def trained(self) -> Model:
        """The model with a copy of the current weights."""
        learned = {
            name: from_array(name, np.array(value.detach().cpu().numpy()))
            for name, value in self.weights.items()
        }
        return replace(self._original, tensors={**self._original.tensors, **learned}, stored=False)


def _with_dropout(config: Any, rate: float | None) -> Any:
    names = [f.name for f in fields(config) if "dropout" in f.name]
    return config if rate is None else replace(config, **dict.fromkeys(names, rate))


def _limit(model: Model, max_length: int | None) -> int:
    most, least = model.texts.limit, model.texts.tokenizer.special_count + 1
    if max_length is not None and not least <= max_length <= most:
        raise UsageError(f"max_length={max_length}: this model takes {least} to {most} tokens")
    return most if max_length is None else max_length
