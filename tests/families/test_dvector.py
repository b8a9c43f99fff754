"""d-vectors against torch's LSTM and the published rules, from a checkpoint as Resemblyzer publishes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders import ENGINES, changed
from omnivec.families import dvector
from omnivec.testing import check_close, check_rejected
from pictures import with_operation
from sound_families import Read, check_against, loaded, sounds

ROWS = (160, 40)


class Reference(torch.nn.Module):
    """The network as its paper tells it, with the published names."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = torch.nn.Linear(256, 256)

    def forward(self, windows: torch.Tensor) -> Sequence[torch.Tensor]:
        """Windows (t, 160, 40) of one sound -> vectors of windows (t, 256), and that of the sound (1, 256)."""
        state = self.lstm(windows)[0][:, -1]
        rectified = self.linear(state).clamp(min=0)
        partial = rectified / rectified.norm(dim=1, keepdim=True)
        mean = partial.mean(0)
        return [partial, (mean / mean.norm())[None]]


def published(folder: Path, seed: int = 0) -> Reference:
    """A random checkpoint as Resemblyzer's is stored: in the old format, beside an optimizer's state."""
    torch.manual_seed(seed)
    network = Reference()
    with torch.no_grad():
        for name, p in network.named_parameters():
            p.copy_(torch.randn(p.shape) * (0.3 if "bias" in name else 2 / p.shape[-1] ** 0.5))
    state = {"similarity_weight": torch.ones(1), "similarity_bias": -torch.ones(1), **network.state_dict()}
    checkpoint = {"step": 7, "model_state": state, "optimizer_state": {"state": {0: torch.ones(3)}}}
    torch.save(checkpoint, folder / "pretrained.pt", _use_new_zipfile_serialization=False)
    return network.eval()


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any) -> tuple[Read, Reference]:
    folder = tmp_path_factory.mktemp("dvector")
    network = published(folder)
    return loaded(dvector, folder, ROWS), network


def test_windows_and_vector_equal_torch(made: tuple[Read, Reference]) -> None:
    ours, network = made
    assert not [name for name in ours.tensors if name.startswith("similarity")]
    check_against(ours, network.double(), sounds((1, 4, 2), *ROWS))


def not_normalised(right: Any, x: Any, *how: Any) -> Any:
    return x if x.ndim == 2 else right(x, *how)


VARIANTS = {
    "no rectifier": with_operation(dvector, "relu", lambda right, x: x),
    "the mean over the states": with_operation(
        dvector, "lstm", lambda right, *given: (right(*given)[0], right(*given)[0].mean(1))
    ),
    "two layers": changed(dvector, layers=2),
    "windows that are not normalised": with_operation(dvector, "normalize", not_normalised),
    "the batch's padding averaged too": with_operation(
        dvector, "clip", lambda right, x, *limits: right(x, *limits) * 0 + 1
    ),
    "time backwards": with_operation(
        dvector, "lstm", lambda right, x, p, lengths: right(x.flip(1), p, lengths)
    ),
    "log mel": lambda ops, p, config, batch: dvector.forward(
        ops, p, config, type(batch)(sound=(batch.sound.abs() + 1e-3).log(), lengths=batch.lengths)
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_wrong_variants_are_told_apart(made: tuple[Read, Reference], variant: str) -> None:
    ours, network = made
    listed = sounds((1, 3), *ROWS, seed=1)
    with torch.no_grad():
        expected = [network.double()(torch.from_numpy(s).double())[-1].numpy() for s in listed]
    check_close(ours.vectors("torch", listed), np.stack(expected), "the right one")
    check_rejected(ours.vectors("torch", listed, forward=VARIANTS[variant]), np.stack(expected), variant)


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_stays_near(made: tuple[Read, Reference], engine: str) -> None:
    listed = sounds((3, 1, 2), *ROWS, seed=2)
    exact = made[0].vectors(engine, listed)[:, 0]
    half = made[0].vectors(engine, listed, precision="bfloat16")[:, 0]
    assert (exact * half).sum(1).min() > 0.999


def test_what_it_reads_of_a_sound() -> None:
    reads = dvector.sound(dvector.Config(), {})
    assert (reads.rate, reads.features.rows) == (16_000, ROWS)
    # One window up to 1.6 s and what covers three quarters of a second one.
    counts = {1: 1, 16_000: 1, 25_600: 1, 40_000: 2, 160_000: 12}
    assert {n: reads.features.count(n) for n in counts} == counts
