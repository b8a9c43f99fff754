"""Trains a small network for each side of pairs, so that partners are nearest in a common space (InfoNCE).

Each network is linear, ReLU, dropout, linear, and is applied to vectors that were computed once: only these heads are
trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from omnivec.training.data import batches, per_epoch
from omnivec.training.loop import LoopOptions, TrainingStep, fit
from omnivec.training.recipes.contrastive import false_negatives, info_nce
from omnivec.types import Floats
from omnivec.vectors.alignment import Aligned, Projection
from omnivec.vectors.unit import unit


@dataclass(frozen=True)
class ContrastiveOptions:
    """The shape and training of the heads; the fields are those of `align.Options`."""

    dim: int
    hidden: int
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    dropout: float
    scale: float
    seed: int
    show_progress_bar: bool | None = None
    on_step: Callable[[TrainingStep], None] | None = None


class SideNetwork:
    """The network of one side, on vectors that are centred and divided by their standard deviation.

    Attributes:
        layers: the two linear layers.
    """

    def __init__(self, vectors: Floats, settings: ContrastiveOptions) -> None:
        rows = unit(np.asarray(vectors, np.float64))
        self._mean = rows.mean(0)
        self._scale = 1.0 / max(float((rows - self._mean).std()), 1e-12)
        self._rows = torch.from_numpy(((rows - self._mean) * self._scale).astype(np.float32))
        self._dropout = settings.dropout
        widths = (rows.shape[1], settings.hidden, settings.dim)
        self.layers = [torch.nn.Linear(a, b) for a, b in pairwise(widths)]

    def parameters(self) -> list[torch.Tensor]:
        """The trained parameters."""
        return [value for layer in self.layers for value in layer.parameters()]

    def __call__(self, index: NDArray[np.int64]) -> torch.Tensor:
        """The outputs (n, dim) for the vectors with these row numbers (n,), with dropout."""
        first, last = self.layers
        x = F.dropout(torch.relu(first(self._rows[torch.from_numpy(index)])), self._dropout)
        out: torch.Tensor = last(x)
        return out

    def head(self) -> Projection:
        """The trained network, with centring and scaling merged into the first layer."""
        (weight, bias), last = (
            (layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy())
            for layer in self.layers
        )
        weight = weight * self._scale
        shifted = bias - weight @ self._mean
        return Projection(((weight.astype(np.float32), shifted.astype(np.float32)), last))


def contrastive(left: Floats, right: Floats, settings: ContrastiveOptions) -> Aligned:
    """Trains the heads of both sides on pairs.

    Args:
        left: (n, a) vectors.
        right: (n, b), the vectors of their partners.
        settings: shape and training of the heads.
    """
    names = [tags(left, "left"), tags(right, "right")]
    with torch.random.fork_rng([]):
        torch.manual_seed(settings.seed)
        sides = [SideNetwork(left, settings), SideNetwork(right, settings)]

    def loss(index: NDArray[np.int64]) -> torch.Tensor:
        hidden = false_negatives([[column[i] for i in index] for column in names])
        a, b = (side(index) for side in sides)
        return info_nce(a, b, torch.from_numpy(hidden), settings.scale, symmetric=True)

    count = len(left)
    fit(
        loss,
        batches(count, settings.batch_size, settings.seed),
        torch.optim.AdamW(
            [value for side in sides for value in side.parameters()],
            settings.lr,
            weight_decay=settings.weight_decay,
        ),
        LoopOptions(
            settings.epochs * per_epoch(count, settings.batch_size),
            seed=settings.seed,
            show_progress_bar=settings.show_progress_bar,
        ),
        settings.on_step,
    )
    return Aligned(sides[0].head(), sides[1].head())


def tags(vectors: Floats, side: str) -> list[str]:
    """A name for each vector (n, dim), the same for equal vectors, so that an item is never a negative of itself."""
    _, group = np.unique(np.asarray(vectors), axis=0, return_inverse=True)
    return [f"{side} {number}" for number in group.reshape(-1)]
