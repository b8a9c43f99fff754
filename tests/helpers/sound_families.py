"""How a family of networks for sounds is held against torch's own statement of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from encoders import ENGINES
from omnivec.models import registry
from omnivec.models.folder import read_folder
from omnivec.testing import check_close
from omnivec.types import Audio, Floats
from sound_models import SoundModel, read_sound_model
from sounds import speechlike


def sounds(lengths: Sequence[int], *rows: int, seed: int = 0) -> list[Floats]:
    """Features (t, *rows) of sounds of these lengths: slow changes under some noise."""
    rng = np.random.default_rng(seed)
    made = []
    for length in lengths:
        coarse = rng.standard_normal((length // 7 + 2, *rows))
        slow = np.repeat(coarse, 7, axis=0)[:length]
        made.append((slow + 0.5 * rng.standard_normal((length, *rows))).astype(np.float32))
    return made


def voices(*seconds: float) -> list[Audio]:
    """Sounds of these lengths that resemble speech, each of another voice."""
    return [Audio(speechlike(length, seed=i), 16000) for i, length in enumerate(seconds)]


def loaded(family: ModuleType, folder: Path) -> SoundModel:
    """The model in a folder in its publisher's own layout, which must be told to be of the family."""
    published = read_folder(folder).published
    assert registry.family_of_config(published, folder).load() is family
    return read_sound_model(family, published, folder)


def check_against(
    model: SoundModel, reference: Callable[[torch.Tensor], Sequence[torch.Tensor]], listed: Sequence[Floats]
) -> None:
    """Raises unless all states of sounds in padded batches are those of the reference, which reads each sound alone.

    The reference: features (t, *rows) float64 -> all states (t', d) and last the vector, or vectors, (s, dim).
    """
    with torch.no_grad():
        expected = [[x.numpy() for x in reference(torch.from_numpy(s).double())] for s in listed]
    for engine in ENGINES:
        for padding in (0, 5):
            got = model.states(engine, list(listed), padding=padding)
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
