"""`omnivec classify --train` and `--probe`: training, its report, and suggestions of what to label next."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omnivec.cli.common import print_json
from omnivec.cli.labelled import Labelled
from omnivec.cli.listing import show_line
from omnivec.errors import ItemErrors, OmnivecError, UsageError
from omnivec.inputs.modality import get, of, plural, readable
from omnivec.progress import say
from omnivec.validation.reasons import one_line

if TYPE_CHECKING:
    from omnivec.models.embedder import Embedder
    from omnivec.tasks.probe import Kind, Probe
    from omnivec.tasks.probe_report import Report


def model_for(items: Sequence[Any], named: str | None) -> Embedder:
    """Loads the model that is named, or the default one of the items' modality, or its replacement, which is said.

    Raises:
        UsageError: there are items of several modalities, or their modality has no default model.
    """
    from omnivec.models.loading import load

    if named is not None:
        return load(named)
    counts = Counter(of(item) for item in items)
    present = [name for name in readable() if name in counts]
    if len(present) != 1:
        raise UsageError(
            f"the examples are {plural(present)}: name a model that reads them all, --model NAME"
        )
    record = get(present[0])
    if not record.default_model:
        raise UsageError(f"no model of {record.plural} is used by default: name one, --model NAME")
    try:
        return load(record.default_model)
    except OmnivecError as error:
        if not record.fallback_model:
            raise
        say(
            f"{record.default_model}, the default model of {record.plural}, cannot be loaded: using "
            f"{record.fallback_model} instead, unless another is named with --model. {one_line(error)}"
        )
        return load(record.fallback_model)


def train(examples: Labelled, model: str | None, kind: Kind) -> tuple[Probe, bool]:
    """Trains a probe; returns it, and whether some examples could not be used, each of which is named on stderr."""
    from omnivec.tasks.probe import Probe

    for why in examples.failures:
        say(why)
    embedder = model_for(examples.items, model)
    try:
        probe = Probe.train(embedder, examples.items, examples.labels, examples.groups, kind)
    except ItemErrors as error:
        _say_failures(examples, error.failures)
        raise UsageError(f"none of the {len(examples.items):,} examples could be used") from error
    _say_failures(examples, probe.report.failures)
    return probe, bool(examples.failures or probe.report.failures)


def _say_failures(examples: Labelled, failures: Any) -> None:
    for i, why in failures.items():
        say(why if str(examples.items[i]) in why else f"{examples.places[i]}: {why}")


def show_report(report: Report, as_json: bool) -> None:
    """Prints the report of a training on stdout, as lines or as one JSON line."""
    if not as_json:
        click.echo(str(report))
        return
    row = dataclasses.asdict(report)
    if report.estimate is not None:
        row["estimate"]["confusion"] = report.estimate.confusion.tolist()
    print_json([row])


def suggest(
    probe: Probe, files: Sequence[Path], known: Sequence[Any], n: int, as_json: bool
) -> tuple[int, int]:
    """Prints which files to label next, those that are examples already left out.

    Args:
        probe: what classifies them.
        files: to choose from.
        known: the items that have labels.
        n: how many to print.
        as_json: whether to print JSON lines.

    Returns:
        The number of files that were looked at, and how many of these failed.
    """
    labelled = {item.resolve() for item in known if isinstance(item, Path)}
    asked = [file for file in files if file.resolve() not in labelled]
    found = probe.suggest(asked, n)
    for i, why in found.failures.items():
        say(why if str(asked[i]) in why else f"{asked[i]}: {why}")
    if not as_json:
        show_line("file", "most probable", "uncertainty")
    for i, unsure, shares in zip(
        found.indices.tolist(), found.uncertainty.tolist(), found.probabilities, strict=True
    ):
        order = (-shares).argsort(kind="stable").tolist()
        if as_json:
            labels = [{"label": probe.labels[j], "probability": round(float(shares[j]), 6)} for j in order]
            print_json([{"file": str(asked[i]), "uncertainty": round(unsure, 6), "labels": labels}])
        else:
            two = ", ".join(f"{probe.labels[j]} {shares[j]:.2f}" for j in order[:2])
            show_line(str(asked[i]), two, f"{unsure:.4f}")
    return len(asked), len(found.failures)
