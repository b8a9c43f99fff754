"""Trains a text model on pairs: partners are moved together, all other texts of a batch apart (InfoNCE).

van den Oord et al. 2018, arXiv:1807.03748, section 2.3; multiple negatives of Henderson et al. 2017,
arXiv:1705.00652, section 4.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.models.embedder import Embedder
from omnivec.models.loading import load
from omnivec.models.network import Choice, Network
from omnivec.models.runtime import trials_file
from omnivec.progress import say
from omnivec.training.data import Pair, batches, per_epoch, read_pairs
from omnivec.training.loop import LoopOptions, TrainingStep, fit
from omnivec.training.recipe_registry import check_limits
from omnivec.training.trainable import Trainable

DATA = "a .csv, .tsv, .jsonl or .parquet with the columns anchor and positive, and optionally negative"

INF = float("inf")
PROBED = 1_000
"""Batches in which negatives are counted before training."""
WORTH = 0.95
"""Share of the pairs that have a negative; below it, a warning is printed."""
LIMITS = {
    "epochs": (1, INF),
    "steps": (1, INF),
    "batch_size": (2, INF),
    "lr": (1e-12, 1e30),
    "warmup": (0.0, 1.0),
    "scale": (1e-6, INF),
    "weight_decay": (0.0, INF),
    "clip": (1e-12, INF),
    "dropout": (0.0, 0.99),
    "max_length": (1, INF),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True)
class Options:
    """Options of this recipe.

    Attributes:
        model: model to start from: a name, a folder, hf:org/name, or an Embedder.
        epochs: passes over the pairs.
        steps: number of batches; by default as many as the epochs need.
        batch_size: most pairs in a batch; each pair is a negative for all others. No batch has a single pair, so for an
            odd number of pairs and batch_size=2 one batch has three.
        lr: peak learning rate of AdamW.
        warmup: share of the steps in which the learning rate rises; after them it falls to zero.
        scale: factor that cosines are multiplied by, the inverse of the temperature.
        symmetric: whether to also train each positive to find its anchor.
        weight_decay: weight decay of matrices and tables; biases and norms have none.
        clip: largest norm of the whole gradient.
        dropout: rate of every dropout layer; by default the model's own.
        max_length: most tokens of a training text; by default the model's limit.
        prompts: whether to put the model's query prompt before anchors, and its document prompt before other texts.
        seed: seed of order and dropout; the same seed and number of threads give the same weights on a CPU.
        device: "cpu", "cuda", "cuda:1"; by default a GPU if there is one.
        show_progress_bar: progress on stderr; by default on a terminal or in a notebook.
        on_step: called after each step with its loss.
    """

    model: str | Path | Embedder = "all-MiniLM-L6-v2"
    epochs: int = 1
    steps: int | None = None
    batch_size: int = 32
    lr: float = 2e-5
    warmup: float = 0.1
    scale: float = 20.0
    symmetric: bool = False
    weight_decay: float = 0.01
    clip: float = 1.0
    dropout: float | None = None
    max_length: int | None = None
    prompts: bool = True
    seed: int = 0
    device: str | None = None
    show_progress_bar: bool | None = None
    on_step: Callable[[TrainingStep], None] | None = None

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)


def run(data: Any, options: Options) -> Embedder:
    """Trains a text model on pairs; `data` is that of `training.data.read_pairs`."""
    pairs = read_pairs(data)
    check_negatives(pairs, options)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = options.model
    base = model if isinstance(model, Embedder) else load(model, engine="torch", device="cpu")
    if base.trainable is None:
        what = "several models" if base.encoder.networks else "a table"
        raise UsageError(f"{base.name} is {what}, which contrastive cannot train: choose a network")
    trainable = Trainable(base.trainable, device, options.dropout, options.max_length)
    prompts = _prompts(base) if options.prompts else ("", "", "")

    def loss(indices: NDArray[np.int64]) -> torch.Tensor:
        return pairs_loss(trainable, [pairs[i] for i in indices], prompts, options)

    fit(
        loss,
        batches(len(pairs), options.batch_size, options.seed),
        torch.optim.AdamW(trainable.groups(options.weight_decay), options.lr),
        LoopOptions(
            options.steps or options.epochs * per_epoch(len(pairs), options.batch_size),
            options.warmup,
            options.clip,
            options.seed,
            options.show_progress_bar,
        ),
        options.on_step,
    )
    if trainable.cut:
        say(f"{trainable.cut} of {trainable.seen} texts seen were cut to {trainable.limit} tokens")
    network = Network.of(trainable.trained(), Choice(), trials_file())
    return Embedder(network, f"{base.name}, trained", "trained here: contrastive")


def check_negatives(pairs: Sequence[Pair], options: Options) -> None:
    """Counts the pairs of the first epoch without a negative in their batch; warns if they are many.

    Raises:
        UsageError: no pair has a negative.
    """
    count = min(options.steps or INF, per_epoch(len(pairs), options.batch_size), PROBED)
    seen = taught = 0
    for indices in islice(batches(len(pairs), options.batch_size, options.seed), int(count)):
        hidden = false_negatives([list(column) for column in zip(*(pairs[i] for i in indices), strict=True)])
        seen += len(hidden)
        taught += int((hidden.sum(axis=1) < hidden.shape[1] - 1).sum())
    why = (
        "a text that equals the anchor or its positive, or is the positive of an equal anchor, does not count as a "
        "negative: give pairs with distinct anchors and positives, a third column of negatives, or a larger batch_size"
    )
    if not taught:
        raise UsageError(
            f"none of {seen:,} pairs has a negative in its batch, so nothing would be learned; {why}"
        )
    if taught < WORTH * seen:
        say(
            f"{seen - taught:,} of the first {seen:,} pairs have no negative in their batch, so nothing is learned "
            f"from them; {why}"
        )


def pairs_loss(
    trainable: Trainable, pairs: Sequence[Pair], prompts: Sequence[str], options: Options
) -> torch.Tensor:
    """The loss of one batch of pairs or triples, a scalar."""
    columns = [list(column) for column in zip(*pairs, strict=True)]
    anchors, *candidates = (trainable.vectors(c, p) for c, p in zip(columns, prompts, strict=False))
    hidden = torch.from_numpy(false_negatives(columns)).to(anchors.device)
    return info_nce(anchors, torch.cat(candidates), hidden, options.scale, options.symmetric)


def info_nce(
    anchors: torch.Tensor, candidates: torch.Tensor, hidden: torch.Tensor, scale: float, symmetric: bool
) -> torch.Tensor:
    """The InfoNCE loss: mean cross-entropy of each anchor's positive among the candidates, by scaled cosines.

    Args:
        anchors: (n, d).
        candidates: (m, d), m >= n; the first n are the anchors' positives, in the same order.
        hidden: (n, m) bool, candidates that are masked for an anchor.
        scale: factor of the cosines.
        symmetric: whether to average with the loss of the opposite direction, from positives to anchors.
    """
    cosines = F.normalize(anchors, dim=-1) @ F.normalize(candidates, dim=-1).T
    logits = (cosines * scale).masked_fill(hidden, -INF)
    n = len(anchors)
    targets = torch.arange(n, device=logits.device)
    forth = F.cross_entropy(logits, targets)
    return (forth + F.cross_entropy(logits[:, :n].T, targets)) / 2 if symmetric else forth


def false_negatives(columns: Sequence[Sequence[str]]) -> NDArray[np.bool_]:
    """A mask (n, m) of candidates from other rows that are not negatives of an anchor.

    These are texts that equal the anchor or its positive, and the positives of equal anchors. Example, for the pairs
    (a, b), (a, c), (d, e) with candidates b, c, e: row 0 masks c, row 1 masks b, row 2 nothing.
    """
    anchors, positives = np.array(columns[0], object), np.array(columns[1], object)
    candidates = np.concatenate([np.array(column, object) for column in columns[1:]])
    equal: NDArray[np.bool_] = (candidates == anchors[:, None]) | (candidates == positives[:, None])
    equal[:, : len(anchors)] |= anchors == anchors[:, None]
    np.fill_diagonal(equal, False)
    return equal


def _prompts(base: Embedder) -> tuple[str, str, str]:
    query, document = base.task_prompt("query"), base.task_prompt("document")
    return query, document, document
