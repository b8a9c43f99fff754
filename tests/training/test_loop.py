"""The loop: schedule, clipping, interruption, faults."""

from __future__ import annotations

from dataclasses import replace
from itertools import repeat

import numpy as np
import pytest
import torch

from omnivec.errors import ModelError
from omnivec.training.loop import LoopOptions, TrainingStep, fit


def line(start: float = 1.0) -> tuple[torch.Tensor, torch.optim.Optimizer]:
    weight = torch.tensor([start], requires_grad=True)
    return weight, torch.optim.SGD([weight], lr=1.0)


def test_the_learning_rate_rises_and_falls() -> None:
    plan = LoopOptions(steps=10, warmup=0.35)
    expected = [1 / 4, 2 / 4, 3 / 4, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0]
    np.testing.assert_allclose([plan.share(i) for i in range(11)], expected)
    assert LoopOptions(steps=1, warmup=0.0).share(0) == LoopOptions(steps=1, warmup=1.0).share(0) == 1.0
    # With a slope of 1 and no clipping a weight falls by the sum of the learning rates.
    weight, optimizer = line()
    fit(lambda x: (weight * x).sum(), repeat(1.0), optimizer, replace(plan, clip=9.0))
    np.testing.assert_allclose(weight.item(), 1.0 - sum(expected), rtol=1e-6)


def test_long_gradients_are_shortened_and_reported_as_they_were() -> None:
    weight, optimizer = line()
    seen: list[TrainingStep] = []
    fit(lambda x: (weight * x).sum(), repeat(8.0), optimizer, LoopOptions(2, 0.0, clip=0.5), seen.append)
    np.testing.assert_allclose(weight.item(), 1.0 - 0.5 * (1 + 0.5), rtol=1e-5)
    assert [step.norm for step in seen] == [8.0, 8.0]
    np.testing.assert_allclose([step.loss for step in seen], [8.0, 4.0], rtol=1e-5)


def test_a_step_knows_its_pace() -> None:
    step = TrainingStep(number=5, of=20, loss=0.5, norm=1.0, seconds=10.0)
    assert (step.rate, step.left) == (0.5, 30.0)
    assert str(step) == "step 5 of 20: loss 0.5000, 0.50 steps/s, 30 s left"


def test_progress_is_on_stderr_where_it_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    weight, optimizer = line()
    fit(lambda x: (weight * x).sum(), repeat(1.0), optimizer, LoopOptions(3))
    assert capsys.readouterr() == ("", "")
    fit(lambda x: (weight * x).sum(), repeat(1.0), optimizer, LoopOptions(3, show_progress_bar=True))
    out, err = capsys.readouterr()
    assert out == ""
    assert "step 3 of 3: loss" in err


def test_interruption_keeps_what_was_learned(capsys: pytest.CaptureFixture[str]) -> None:
    weight, optimizer = line()

    def stop(step: TrainingStep) -> None:
        if step.number == 3:
            raise KeyboardInterrupt

    fit(lambda x: (weight * x).sum(), repeat(0.1), optimizer, LoopOptions(4, 0.0), stop)
    np.testing.assert_allclose(weight.item(), 1 - 0.1 * (1 + 3 / 4 + 2 / 4), rtol=1e-5)
    assert "stopped after step 3 of 4: what was learned so far is kept" in capsys.readouterr().err


def test_interruption_before_the_first_step_is_an_interruption() -> None:
    weight, optimizer = line()

    def interrupted(_: float) -> torch.Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, repeat(1.0), optimizer, LoopOptions(2))
    assert weight.item() == 1.0


def test_a_loss_that_is_not_finite_stops_before_it_spoils_the_weights() -> None:
    weight, optimizer = line()
    with pytest.raises(ModelError, match=r"step 2: loss inf, .* use a smaller lr or a longer warmup"):
        fit(lambda x: (weight * x).sum(), iter([0.5, float("inf")]), optimizer, LoopOptions(2, 0.0))
    assert weight.item() == 0.5


def test_torch_draws_as_if_nothing_had_been_trained() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    weight, optimizer = line()
    fit(lambda x: (weight * torch.rand(1)).sum(), repeat(1.0), optimizer, LoopOptions(2))
    assert torch.equal(torch.rand(3), expected)
