"""How a family of networks for images is held against torch's own statement of one."""

from __future__ import annotations

import dataclasses
import functools
import re
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
from omnivec.testing import check_close
from omnivec.weights.tensor import from_array

PIXELS = Input("pixels", np.float32, (None, 3, None, None))
SIZES = ((2, 64, 64), (1, 75, 50), (3, 33, 97))
"""Pictures, height and width of a batch: even, odd, and neither."""

Forward = Callable[..., Any]
State = Mapping[str, torch.Tensor]


def pictures(n: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Normalised pictures (n, 3, h, w): large shapes under some noise, each with a colour of its own."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.standard_normal((n, 3, 5, 5)))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").numpy()
    noise = rng.standard_normal((n, 3, height, width))
    return (smooth + 0.3 * noise + 0.5 * rng.standard_normal((n, 3, 1, 1))).astype(np.float32)


def discriminate(model: torch.nn.Module, seed: int = 0, quiet: str = "^$") -> torch.nn.Module:
    """Weights of standard deviation 2 / sqrt(fan-in), random norms, and statistics near those of what comes in.

    The norms whose names match `quiet` end branches that add a third of what they else would: about as training leaves
    them. Deep networks of random weights otherwise blow rounding up, which no trained one does.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = {name: part for name, part in model.named_modules() if isinstance(part, torch.nn.BatchNorm2d)}
    with torch.no_grad():
        for p in model.parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(noise * 2 / p[0].numel() ** 0.5 if p.ndim > 1 else 0.3 * noise)
        for name, norm in norms.items():
            norm.weight += 1
            norm.weight *= 0.3 if re.search(quiet, name) else 1.0
            norm.momentum = None  # the plain mean of what it sees
        model.train()
        model(torch.from_numpy(pictures(12, 128, 128, seed + 1)))
        for norm in norms.values():
            norm.running_mean += 0.1 * torch.randn(norm.running_mean.shape, generator=generator)
            norm.running_var *= 0.8 + 0.4 * torch.rand(norm.running_var.shape, generator=generator)
    return model.eval()


@dataclasses.dataclass(frozen=True, eq=False)
class Read:
    """A family with a config and weights, as `read_model` makes them of a folder."""

    family: ModuleType
    config: Any
    tensors: Mapping[str, weights.Tensor]

    @functools.cache  # noqa: B019, one for each test
    def executable(self, engine: str, forward: Forward, precision: Any) -> Executable:
        """All hidden states, then what the forward returns."""

        def program(ops: Any, get: Any, p: Any) -> dict[str, Any]:
            last = forward(ops, p, self.config, SimpleNamespace(pixels=get("pixels")))
            return {str(i): state for i, state in enumerate([*ops.states, last])}

        return ENGINES[engine](program, [PIXELS], self.tensors, EngineSettings(precision, threads=1))

    def states(
        self, engine: str, batch: np.ndarray, forward: Forward | None = None, precision: Any = "float32"
    ) -> list[np.ndarray]:
        """All hidden states of pictures, then what the forward returns; of another forward where one is given."""
        found = self.executable(engine, forward or self.family.forward, precision).run({"pixels": batch})
        return [found[str(i)] for i in range(len(found))]

    def vectors(self, engine: str, batch: np.ndarray, **how: Any) -> np.ndarray:
        """The mean over all places: (n, dim)."""
        return self.states(engine, batch, **how)[-1].mean(1)


def read(family: ModuleType, published: Mapping[str, Any], source: Path | State) -> Read:
    """A published config and weights: a file or folder, or a state dict of torch."""
    if isinstance(source, Path):
        stored = weights.read(source)
    else:
        stored = weights.Weights({name: from_array(name, value.numpy()) for name, value in source.items()})
        stored = weights.Weights({name: dataclasses.replace(t, name=name) for name, t in stored.items()})
    config = read_config(family, published, Path("folder"))
    tensors = dict(weights.rename(weights.strip_prefixes(stored, family.PREFIXES), family.LAYOUTS))
    if hasattr(family, "adapt_weights"):
        tensors, config = family.adapt_weights(tensors, config)
    return Read(family, config, tensors)


def rows(x: torch.Tensor) -> np.ndarray:
    """A map (n, c, h, w) of torch as rows (n, h * w, c)."""
    return x.detach().flatten(2).transpose(1, 2).numpy()


def check_states(got: Sequence[np.ndarray], expected: Sequence[torch.Tensor], what: str) -> None:
    """Raises unless all states are near: maps of torch (n, c, h, w), or rows (n, t, d)."""
    if len(got) != len(expected):
        raise AssertionError(f"{what}: {len(got)} states, expected {len(expected)}")
    for i, (ours, theirs) in enumerate(zip(got, expected, strict=True)):
        check_close(ours, rows(theirs) if theirs.ndim == 4 else theirs.detach().numpy(), f"{what}, state {i}")


def with_operation(family: ModuleType, name: str, wrong: Callable[..., Any]) -> Forward:
    """A family's forward with one operation replaced; `wrong` gets the right one first."""

    def forward(ops: Any, p: Any, config: Any, batch: Any) -> Any:
        right = getattr(ops, name)
        setattr(ops, name, lambda *args, **said: wrong(right, *args, **said))
        return family.forward(ops, p, config, batch)

    return forward


def bfloat16_cosine(model: Read, engine: str, batch: np.ndarray) -> np.ndarray:
    """Cosine of each picture's vector in bfloat16 and in float32, both without what all pictures share."""
    exact = model.vectors(engine, batch)
    half = model.vectors(engine, batch, precision="bfloat16")
    assert np.isfinite(half).all()
    a, b = exact - exact.mean(0), half - exact.mean(0)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
