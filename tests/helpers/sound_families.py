"""How a family of networks for sounds is held against torch's own statement of one."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

import pictures
from encoders import ENGINES
from omnivec import weights
from omnivec.ops.base import EngineSettings, Executable, Input
from omnivec.testing import check_close
from omnivec.types import Floats

Forward = Callable[..., Any]


def sounds(lengths: Sequence[int], *rows: int, seed: int = 0) -> list[Floats]:
    """Features (t, *rows) of sounds of these lengths: slow changes under some noise."""
    rng = np.random.default_rng(seed)
    made = []
    for length in lengths:
        coarse = rng.standard_normal((length // 7 + 2, *rows))
        slow = np.repeat(coarse, 7, axis=0)[:length]
        made.append((slow + 0.5 * rng.standard_normal((length, *rows))).astype(np.float32))
    return made


@dataclasses.dataclass(frozen=True, eq=False)
class Read:
    """A family with a config and weights, as `read_model` makes them of a folder."""

    family: ModuleType
    config: Any
    tensors: Mapping[str, weights.Tensor]
    rows: tuple[int, ...]

    @functools.cache  # noqa: B019, one for each test
    def executable(self, engine: str, forward: Forward, precision: Any) -> Executable:
        """All hidden states, then what the forward returns."""

        def program(ops: Any, get: Any, p: Any) -> dict[str, Any]:
            batch = SimpleNamespace(sound=get("sound"), lengths=get("lengths"))
            last = forward(ops, p, self.config, batch)
            return {str(i): state for i, state in enumerate([*ops.states, last])}

        inputs = [
            Input("sound", np.float32, (None, None, *self.rows)),
            Input("lengths", np.int32, (None,)),
        ]
        return ENGINES[engine](program, inputs, self.tensors, EngineSettings(precision, threads=1))

    def states(
        self,
        engine: str,
        listed: Sequence[Floats],
        forward: Forward | None = None,
        precision: Any = "float32",
        padding: int = 0,
    ) -> list[np.ndarray]:
        """All hidden states of sounds in one batch, padded to the longest and further, then the vectors."""
        lengths = np.array([len(sound) for sound in listed], np.int32)
        batch = np.zeros((len(listed), int(lengths.max()) + padding, *self.rows), np.float32)
        for row, sound in zip(batch, listed, strict=True):
            row[: len(sound)] = sound
        run = self.executable(engine, forward or self.family.forward, precision).run
        found = run({"sound": batch, "lengths": lengths})
        return [found[str(i)] for i in range(len(found))]

    def vectors(self, engine: str, listed: Sequence[Floats], **how: Any) -> np.ndarray:
        """What the forward returns of sounds in one batch: (n, t, dim)."""
        return self.states(engine, listed, **how)[-1]


def read(
    family: ModuleType,
    published: Mapping[str, Any],
    source: Path | Mapping[str, torch.Tensor],
    rows: Sequence[int],
) -> Read:
    """A published config and weights: a file or folder, or a state dict of torch; `rows`: shape of one row."""
    found = pictures.read(family, published, source)
    return Read(family, found.config, found.tensors, tuple(rows))


def loaded(family: ModuleType, folder: Path, rows: Sequence[int]) -> Read:
    """The model in a folder in its publisher's own layout."""
    from omnivec.models import registry
    from omnivec.models.folder import read_folder
    from omnivec.models.model import known_keys

    files = read_folder(folder)
    assert registry.family_of_config(files.published, folder).load() is family
    published, stored, _ = family.load_original(folder, known_keys(family, files.published, folder))
    state = {name: torch.from_numpy(tensor.float32().copy()) for name, tensor in stored.items()}
    return read(family, published, state, rows)


def check_against(
    model: Read, reference: Callable[[torch.Tensor], Sequence[torch.Tensor]], listed: Sequence[Floats]
) -> None:
    """Raises unless all states of sounds in padded batches are those of the reference, which reads each sound alone.

    The reference: features (t, *rows) float64 -> all states (t', d) and last the vector, or vectors, (s, dim).
    """
    with torch.no_grad():
        expected = [[x.numpy() for x in reference(torch.from_numpy(s).double())] for s in listed]
    for engine in ENGINES:
        for padding in (0, 5):
            got = model.states(engine, listed, padding=padding)
            for i, states in enumerate(expected):
                if len(got) != len(states):
                    raise AssertionError(f"{engine}: {len(got)} states, expected {len(states)}")
                for k, (ours, theirs) in enumerate(zip(got, states, strict=True)):
                    where = f"{engine}, sound {i} of {len(listed[i])} rows, padded by {padding}, state {k}"
                    check_close(ours[i, : len(theirs)].reshape(theirs.shape), theirs, where)


def discriminate(network: torch.nn.Module, see: Callable[[], Any], seed: int = 0) -> torch.nn.Module:
    """Weights of standard deviation 2 / sqrt(fan-in), random norms, and statistics near those of what comes in.

    Args:
        network: the network, whose batch norms are called with what `see` runs through it.
        see: runs sounds through the network.
        seed: of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for p in network.parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(noise * 2 / p[0].numel() ** 0.5 if p.ndim > 1 else 0.3 * noise)
        for norm in norms:
            norm.weight += 1
            norm.momentum = 0.5
            norm.register_forward_pre_hook(_measure)
        network.eval()
        see()
        for norm in norms:
            norm._forward_pre_hooks.clear()
            norm.running_mean += 0.1 * torch.randn(norm.running_mean.shape, generator=generator)
            norm.running_var *= 0.8 + 0.4 * torch.rand(norm.running_var.shape, generator=generator)
    return network


def _measure(norm: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
    """Sets the statistics of a batch norm to those of what it is called with, unless it is a single position."""
    x = given[0].transpose(0, 1).flatten(1)
    norm.running_mean.copy_(x.mean(1))
    norm.running_var.copy_(x.var(1) + 0.1 if x.shape[1] > 1 else torch.ones(len(x)))
