"""`omnivec classify`: labels for images and texts, without training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from omnivec.cli.common import count, json_option, model_option, print_json
from omnivec.cli.listing import Listing, hidden_option, paths_argument
from omnivec.errors import UsageError
from omnivec.inputs.modality import get, of, plural, readable, written
from omnivec.inputs.text.whitespace import lines
from omnivec.models.embedder import DEFAULT_MODEL
from omnivec.progress import Counter, bar, say
from omnivec.types import Floats, ModalityName
from omnivec.validation.reasons import of_system, printable

if TYPE_CHECKING:
    from omnivec.tasks.classify import Classifier

NAME_WIDTH, LABEL_WIDTH = 48, 24
"""Least widths of the table's columns: lines are printed as they come, before all are known."""


@click.command("classify", short_help="Label images and texts without training.")
@paths_argument
@click.option("--labels", "-l", multiple=True, metavar="A,B,...", help="What each file may be.")
@click.option(
    "--labels-file",
    type=click.Path(path_type=Path, readable=False),
    help="The same, one in a line: a label may then hold a comma.",
)
@model_option
@click.option(
    "--template",
    "-t",
    "templates",
    multiple=True,
    help="What a label is put into, with {} in its place; several are averaged.  "
    "[default: 'a photo of a {}.' for images, '{}' for texts]",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    help="Most labels shown for a file.  [default: 1; with --threshold all]",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Least probability of a label that is shown.",
)
@click.option(
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    help="What cosines are multiplied by before the softmax, of models without a scale of their own.  [default: 20]",
)
@hidden_option
@json_option
def command(
    paths: tuple[Path, ...],
    labels: tuple[str, ...],
    labels_file: Path | None,
    model: str | None,
    templates: tuple[str, ...],
    top: int | None,
    threshold: float,
    scale: float | None,
    hidden: bool,
    as_json: bool,
) -> int:
    """Label the images and texts of PATH, files and folders, without training.

    A model reads labels and files, and their nearness becomes a probability; stderr says how. Texts need no --model;
    images need one that reads texts too.
    """
    from omnivec.models.loading import load
    from omnivec.tasks.classify import JOINT, Classifier

    meant = _labels(labels, labels_file)
    if model is None and (unread := _unread(paths, hidden)):
        raise UsageError(
            f"the default model reads no {unread}: name one that reads labels and {unread}, --model {JOINT}"
        )
    embedder = load(model or DEFAULT_MODEL)
    classifier = Classifier.of(embedder, meant, templates=templates, scale=scale)
    listing = Listing(paths, tuple(classifier.rules), hidden)
    most = top or (len(meant) if threshold else 1)
    total = _Total()
    if not as_json:
        _line("file", "label", "probability")
    files = list(listing)
    with bar("classifying", len(files), "files", False if not as_json else None) as shown:
        for file, row in _rows(classifier, files, listing, total, shown):
            _show(str(file), _chosen(row, classifier.labels, most, threshold), as_json)
    failed = listing.report()
    for modality in sorted(total.modalities):
        say(f"{plural([modality])}: probabilities are {classifier.rules[modality]}")
    cut = f", {total.cut:,} longer than the model reads: cut" if total.cut else ""
    say(f"{count(total.done, 'file')} classified, {total.failed:,} failed{cut}")
    return 3 if failed or total.failed else 0


class _Total:
    """What was done so far."""

    def __init__(self) -> None:
        self.done = self.failed = self.cut = 0
        self.modalities: set[ModalityName] = set()


def _labels(texts: Sequence[str], file: Path | None) -> list[str]:
    """The labels of --labels and --labels-file."""
    labels = [label for text in texts for label in text.split(",")]
    if file is not None:
        try:
            listed = lines(file.read_bytes().decode("utf-8-sig"))
        except (OSError, ValueError) as error:
            why = of_system(error) if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(f"--labels-file {file} cannot be read: {why}") from error
        labels += [line for line in listed if line.strip()]
    if not labels:
        raise UsageError("no labels: give --labels cat,dog,car or --labels-file FILE with one in a line")
    return labels


def _unread(paths: Sequence[Path], hidden: bool) -> str:
    """What there is in words, where no text is among it: then the default model, which reads texts, cannot be meant."""
    present = {of(path) for path in Listing(paths, readable(), hidden)}
    return "" if written() in present else plural([name for name in readable() if name in present])


def _rows(
    classifier: Classifier, files: Sequence[Path], listing: Listing, total: _Total, shown: Counter
) -> Iterator[tuple[Path, Floats]]:
    """Each file that has probabilities, and they; the others are named on stderr."""
    for window, classified in classifier.stream(files):
        failures = {i: why for i, why in classified.failures.items() if not listing.leaves_out(window[i])}
        for i, why in failures.items():
            say(why if str(window[i]) in why else f"{window[i]}: {why}")
        for i, row in zip(classified.kept.tolist(), classified.probabilities, strict=True):
            total.modalities.add(classifier.modality(window[i]))
            yield window[i], row
        shown.advance(len(window))
        total.done += len(classified.kept)
        total.failed += len(failures)
        total.cut += sum(
            get(classifier.modality(window[i])).counts_lost and lost > 0
            for i, lost in zip(classified.kept.tolist(), classified.lost.tolist(), strict=True)
        )


def _chosen(row: Floats, labels: Sequence[str], most: int, threshold: float) -> list[tuple[str, float]]:
    """The likeliest labels that reach the threshold, best first."""
    order = np.argsort(-row, kind="stable")[:most]
    return [(labels[i], float(row[i])) for i in order.tolist() if row[i] >= threshold]


def _show(file: str, chosen: Sequence[tuple[str, float]], as_json: bool) -> None:
    if as_json:
        labels_shown: list[dict[str, Any]] = [
            {"label": label, "probability": round(p, 6)} for label, p in chosen
        ]
        print_json([{"file": file, "labels": labels_shown}])
        return
    for label, p in chosen:
        _line(file, label, f"{p:.4f}")
    if not chosen:
        _line(file, "-", "")


def _line(file: str, label: str, probability: str) -> None:
    cells = printable(file).ljust(NAME_WIDTH), printable(label).ljust(LABEL_WIDTH), probability
    click.echo("  ".join(cells).rstrip())
