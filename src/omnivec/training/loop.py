"""The training loop of networks under torch: forward, backward, clip, step, report.

It is independent of recipes: the loss is a function of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch

from omnivec import progress
from omnivec.errors import ModelError

T = TypeVar("T")


@dataclass(frozen=True)
class LoopOptions:
    """The length of training, its learning rate schedule and its seed.

    Attributes:
        steps: number of batches.
        warmup: share of the steps in which the learning rate rises to its peak; after them it falls to zero.
        clip: largest norm of the whole gradient; a longer gradient is scaled down to it.
        seed: seed of dropout and torch's other random draws.
        show_progress_bar: whether to show progress on stderr; None: on a terminal or in a notebook.
    """

    steps: int
    warmup: float = 0.1
    clip: float = 1.0
    seed: int = 0
    show_progress_bar: bool | None = None

    def share(self, done: int) -> float:
        """The learning rate of the next step, as a share of the peak, after `done` steps."""
        rising = math.ceil(self.warmup * self.steps)
        if done < rising:
            return (done + 1) / rising
        return (self.steps - done) / max(self.steps - rising, 1)


@dataclass(frozen=True)
class TrainingStep:
    """The record of one step.

    Attributes:
        number: number of the step, from 1.
        of: number of all steps.
        loss: loss of its batch, before the step.
        norm: norm of the gradient, before clipping.
        seconds: time since the first step began.
    """

    number: int
    of: int
    loss: float
    norm: float
    seconds: float

    @property
    def rate(self) -> float:
        """Steps per second."""
        return self.number / max(self.seconds, 1e-9)

    @property
    def left(self) -> float:
        """Estimated seconds to the end of the last step."""
        return (self.of - self.number) / self.rate

    def __str__(self) -> str:
        return f"step {self.number} of {self.of}: loss {self.loss:.4f}, {self.rate:.2f} steps/s, {self.left:.0f} s left"


def fit(
    loss: Callable[[T], torch.Tensor],
    batches: Iterable[T],
    optimizer: torch.optim.Optimizer,
    plan: LoopOptions,
    on_step: Callable[[TrainingStep], None] | None = None,
) -> None:
    """Minimises a loss over the optimiser's parameters, in place.

    Ctrl-C ends training early: the weights keep what was learned so far, and a line on stderr says so.

    Args:
        loss: function from a batch to a scalar with its gradient.
        batches: at least `plan.steps` batches.
        optimizer: the optimiser, with peak learning rates.
        plan: length and schedule.
        on_step: called after each step.

    Raises:
        ModelError: the loss, its gradient or a weight is not finite.
    """
    weights = [value for group in optimizer.param_groups for value in group["params"]]
    gpus = sorted({value.device.index or 0 for value in weights if value.device.type == "cuda"})
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, plan.share)
    report = progress.Report(plan.show_progress_bar)
    with (
        torch.random.fork_rng(gpus),
        progress.bar("training", plan.steps, "steps", plan.show_progress_bar) as bar,
    ):
        torch.manual_seed(plan.seed)
        step: TrainingStep | None = None
        try:
            for number, batch in enumerate(islice(batches, plan.steps), 1):
                value, norm = _descend(loss, batch, weights, optimizer, plan.clip, number)
                schedule.step()
                step = TrainingStep(number, plan.steps, value, norm, report.elapsed())
                bar.advance(1)
                report.tell(str(step), last=number == plan.steps)
                if on_step is not None:
                    on_step(step)
        except KeyboardInterrupt:
            if step is None:
                raise
            progress.say(f"stopped after step {step.number} of {step.of}: what was learned so far is kept")
    bad = sum(not bool(torch.isfinite(value).all()) for value in weights)
    if bad and step is not None:
        rates = ", ".join(
            f"{rate:.1e}" for rate in sorted({group["initial_lr"] for group in optimizer.param_groups})
        )
        raise ModelError(
            f"step {step.number}: {bad} of {len(weights)} weights are not finite, at lr={rates}: use a smaller lr or a "
            "longer warmup"
        )


def _descend(
    loss: Callable[[T], torch.Tensor],
    batch: T,
    weights: list[torch.Tensor],
    optimizer: torch.optim.Optimizer,
    clip: float,
    number: int,
) -> tuple[float, float]:
    """Takes one step; returns the loss and the norm of the gradient before it."""
    optimizer.zero_grad(set_to_none=True)
    batch_loss = loss(batch)
    batch_loss.backward()
    value, norm = float(batch_loss.detach()), float(torch.nn.utils.clip_grad_norm_(weights, clip))
    if not (math.isfinite(value) and math.isfinite(norm)):
        raise ModelError(
            f"step {number}: loss {value}, gradient norm {norm}, at lr={optimizer.param_groups[0]['lr']:.1e}: use a "
            "smaller lr or a longer warmup"
        )
    optimizer.step()
    return value, norm
