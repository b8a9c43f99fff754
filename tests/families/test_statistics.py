"""Statistics over time in padded batches, against torch on each row alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from encoders import ENGINES
from omnivec.families import _statistics
from omnivec.ops.base import EngineSettings, Input
from omnivec.testing import check_close

LENGTHS = np.array([7, 2, 12, 1], np.int32)


def run(engine: str, program: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """A program of (ops, x, positions that are real, lengths) on sounds of `LENGTHS`."""

    def whole(ops: Any, get: Any, p: Any) -> dict[str, Any]:
        real = _statistics.inside(ops, get("x"), 2, get("lengths"))
        return program(ops, get("x"), real[:, None], get("lengths"))

    inputs = [Input("x", np.float32, (None, None, None)), Input("lengths", np.int32, (None,))]
    return ENGINES[engine](whole, inputs, {}, EngineSettings()).run({"x": x, "lengths": LENGTHS})


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, 3, 15)).astype(np.float32) * 3 + 1


@pytest.mark.parametrize("engine", ENGINES)
def test_mean_and_std_of_real_positions(x: np.ndarray, engine: str) -> None:
    def program(ops: Any, x: Any, real: Any, lengths: Any) -> dict[str, Any]:
        mean, biased = _statistics.mean_and_std(ops, x, real)
        _, unbiased = _statistics.mean_and_std(ops, x, real, unbiased=True, eps=1e-2)
        return {"mean": mean, "biased": biased, "unbiased": unbiased}

    got = run(engine, program, x)
    for i, length in enumerate(LENGTHS):
        row = torch.from_numpy(x[i, :, :length]).double()
        check_close(got["mean"][i], row.mean(1).numpy(), "mean")
        if length > 1:
            check_close(got["biased"][i], row.std(1, correction=0).numpy(), "biased")
            check_close(got["unbiased"][i], (row.var(1) + 1e-2).sqrt().numpy(), "unbiased")
        else:  # no deviation at all, whose root is that of the floor
            assert np.abs(got["biased"][i]).max() <= 1e-6


@pytest.mark.parametrize("engine", ENGINES)
def test_attentive_statistics_ignore_padding(x: np.ndarray, engine: str) -> None:
    def program(ops: Any, x: Any, real: Any, lengths: Any) -> dict[str, Any]:
        shares = _statistics.masked_softmax(ops, x * 0.7, real)
        mean, std = _statistics.mean_and_std(ops, x, shares)
        return {"shares": shares, "mean": mean, "std": std}

    got = run(engine, program, x)
    for i, length in enumerate(LENGTHS):
        row = torch.from_numpy(x[i, :, :length]).double()
        shares = torch.softmax(row * 0.7, 1)
        mean = (shares * row).sum(1, keepdim=True)
        assert not got["shares"][i, :, length:].any()
        check_close(got["mean"][i], mean[:, 0].numpy(), "mean")
        if length > 1:
            check_close(got["std"][i], (shares * (row - mean) ** 2).sum(1).sqrt().numpy(), "std")


@pytest.mark.parametrize("engine", ENGINES)
def test_real_positions_after_strides(x: np.ndarray, engine: str) -> None:
    """As many as windows of 3 with zeros around, 2 or 4 positions apart, begin on real ones."""

    def program(ops: Any, x: Any, real: Any, lengths: Any) -> dict[str, Any]:
        return {str(step): _statistics.inside(ops, x, 2, lengths, step) for step in (2, 4)}

    for step, mask in run(engine, program, x).items():
        expected = np.arange(15) < -(-LENGTHS // int(step))[:, None]
        np.testing.assert_array_equal(mask, expected.astype(np.float32))
