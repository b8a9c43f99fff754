"""How a family of networks for samples of sound is compared with torch's own statement of one, sound by sound."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from encoders import ENGINES
from omnivec import weights
from omnivec.models.model import read_config
from omnivec.ops.base import EngineSettings, Executable, Input

INPUTS = [Input("sound", np.float32, (None, None)), Input("lengths", np.int32, (None,))]

Forward = Callable[..., Any]


def waveforms(lengths: Sequence[int], seed: int = 0) -> list[np.ndarray]:
    """Sounds of these numbers of samples: tones that glide, each with a loudness of its own, and noise."""
    rng = np.random.default_rng(seed)
    sounds = []
    for length in lengths:
        time = np.arange(length) / 16000
        tones = [
            rng.uniform(0.1, 1)
            * np.sin(2 * np.pi * time * (rng.uniform(80, 3000) + rng.uniform(-300, 300) * time))
            for _ in range(5)
        ]
        sound = np.sum(tones, 0) + 0.2 * rng.standard_normal(length)
        sounds.append((rng.uniform(0.05, 0.5) * sound).astype(np.float32))
    return sounds


def discriminate(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights of standard deviation 2 / sqrt(fan-in), random norms, biases and statistics: defaults hide errors."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if "norm" in name.lower():
                p.copy_(1 + 0.3 * noise if name.endswith("weight") else 0.3 * noise)
            elif name.endswith(("original0", "gru_rel_pos_const")):
                p.copy_(1 + 0.3 * noise.abs())
            else:
                p.copy_(noise * 2 / p[0].numel() ** 0.5 if p.ndim > 1 else 0.3 * noise)
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm1d):
                part.running_mean += 0.3 * torch.randn(part.running_mean.shape, generator=generator)
                part.running_var *= 0.5 + torch.rand(part.running_var.shape, generator=generator)
    return model.eval()


@dataclasses.dataclass(frozen=True, eq=False)
class Read:
    """A family with a config and weights, as `read_model` makes them of a folder."""

    family: ModuleType
    config: Any
    tensors: Mapping[str, weights.Tensor]

    def with_config(self, **changes: Any) -> Read:
        """The same weights with another config."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, **changes))

    @functools.cache  # noqa: B019, one for each test
    def executable(self, engine: str, forward: Forward, precision: Any) -> Executable:
        """All hidden states, then what the forward returns."""

        def program(ops: Any, get: Any, p: Any) -> dict[str, Any]:
            batch = SimpleNamespace(sound=get("sound"), lengths=get("lengths"), mask=None)
            last = forward(ops, p, self.config, batch)
            return {str(i): state for i, state in enumerate([*ops.states, last])}

        return ENGINES[engine](program, INPUTS, self.tensors, EngineSettings(precision, threads=1))

    def states(
        self,
        engine: str,
        sounds: Sequence[np.ndarray],
        forward: Forward | None = None,
        precision: Any = "float32",
        padding: int = 0,
    ) -> list[np.ndarray]:
        """All hidden states of a padded batch, then what the forward returns; with padded states."""
        lengths = np.array([len(sound) for sound in sounds], np.int32)
        batch = np.zeros((len(sounds), max(lengths) + padding), np.float32)
        for row, sound in zip(batch, sounds, strict=True):
            row[: len(sound)] = sound
        run = self.executable(engine, forward or self.family.forward, precision).run
        found = run({"sound": batch, "lengths": lengths})
        return [found[str(i)] for i in range(len(found))]


def read(family: ModuleType, published: Mapping[str, Any], folder: Path) -> Read:
    """A published config, and the weights of a folder or file."""
    config = read_config(family, published, Path("folder"))
    stored = weights.strip_prefixes(weights.read(folder), family.PREFIXES)
    tensors = dict(weights.rename(stored, family.LAYOUTS))
    if hasattr(family, "adapt_weights"):
        tensors, config = family.adapt_weights(tensors, config)
    return Read(family, config, tensors)
