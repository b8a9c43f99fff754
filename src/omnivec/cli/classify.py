"""`omnivec classify`: labels for images and texts, without training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from omnivec.cli.common import count, json_option, model_option, print_json
from omnivec.cli.listing import FileListing, hidden_option, paths_argument
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
"""Minimum widths of the table's columns; a line is printed before the later ones are known."""


@click.command("classify", short_help="Label images and texts without training.")
@paths_argument
@click.option("--labels", "-l", multiple=True, metavar="A,B,...", help="The labels, separated by commas.")
@click.option(
    "--labels-file",
    type=click.Path(path_type=Path, readable=False),
    help="A file of labels, one per line; these may contain commas.",
)
@model_option
@click.option(
    "--template",
    "-t",
    "templates",
    multiple=True,
    help="Text into which each label is put in place of {}; several are averaged.  "
    "[default: 'a photo of a {}.' for images, '{}' for texts]",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    help="Largest number of labels shown for a file.  [default: 1; with --threshold, all]",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Smallest probability of the labels shown.",
)
@click.option(
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    help="Factor of the cosines before the softmax, for models without a scale of their own.  [default: 20]",
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
    """Label the images and texts in PATH, files and folders, without training.

    A model embeds labels and files, and their similarity becomes a probability; stderr says by which rule. Texts need
    no --model; images need a model that reads both images and texts.
    """
    from omnivec.models.loading import load
    from omnivec.tasks.classify import JOINT, Classifier

    checked = _labels(labels, labels_file)
    if model is None and (unread := _unread(paths, hidden)):
        raise UsageError(
            f"the default model does not read {unread}: name one that reads labels and {unread}, --model {JOINT}"
        )
    embedder = load(model or DEFAULT_MODEL)
    classifier = Classifier.of(embedder, checked, templates=templates, scale=scale)
    listing = FileListing(paths, tuple(classifier.rules), hidden)
    most = top or (len(checked) if threshold else 1)
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
    cut = f", {total.cut:,} truncated to the model's limit" if total.cut else ""
    say(f"{count(total.done, 'file')} classified, {total.failed:,} failed{cut}")
    return 3 if failed or total.failed else 0


class _Total:
    """Counts of the files that were classified, failed and truncated so far."""

    def __init__(self) -> None:
        self.done = self.failed = self.cut = 0
        self.modalities: set[ModalityName] = set()


def _labels(options: Sequence[str], file: Path | None) -> list[str]:
    """Returns the labels of --labels and --labels-file."""
    labels = [label for text in options for label in text.split(",")]
    if file is not None:
        try:
            listed = lines(file.read_bytes().decode("utf-8-sig"))
        except (OSError, ValueError) as error:
            why = of_system(error) if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(f"--labels-file {file} cannot be read: {why}") from error
        labels += [line for line in listed if line.strip()]
    if not labels:
        raise UsageError("no labels: give --labels cat,dog,car or --labels-file FILE with one per line")
    return labels


def _unread(paths: Sequence[Path], hidden: bool) -> str:
    """Names the modalities of the files if there is no text among them, which the default model would need; else ""."""
    present = {of(path) for path in FileListing(paths, readable(), hidden)}
    return "" if written() in present else plural([name for name in readable() if name in present])


def _rows(
    classifier: Classifier, files: Sequence[Path], listing: FileListing, total: _Total, shown: Counter
) -> Iterator[tuple[Path, Floats]]:
    """Yields each file with its probabilities; files that failed are named on stderr."""
    for window, result in classifier.stream(files):
        failures = {i: why for i, why in result.failures.items() if not listing.leaves_out(window[i])}
        for i, why in failures.items():
            say(why if str(window[i]) in why else f"{window[i]}: {why}")
        for i, row in zip(result.kept.tolist(), result.probabilities, strict=True):
            total.modalities.add(classifier.modality(window[i]))
            yield window[i], row
        shown.advance(len(window))
        total.done += len(result.kept)
        total.failed += len(failures)
        total.cut += sum(
            get(classifier.modality(window[i])).counts_lost and lost > 0
            for i, lost in zip(result.kept.tolist(), result.lost.tolist(), strict=True)
        )


def _chosen(row: Floats, labels: Sequence[str], most: int, threshold: float) -> list[tuple[str, float]]:
    """Returns the most probable labels that reach the threshold, best first."""
    order = np.argsort(-row, kind="stable")[:most]
    return [(labels[i], float(row[i])) for i in order.tolist() if row[i] >= threshold]


def _show(file: str, chosen: Sequence[tuple[str, float]], as_json: bool) -> None:
    if as_json:
        labels: list[dict[str, Any]] = [{"label": label, "probability": round(p, 6)} for label, p in chosen]
        print_json([{"file": file, "labels": labels}])
        return
    for label, p in chosen:
        _line(file, label, f"{p:.4f}")
    if not chosen:
        _line(file, "-", "")


def _line(file: str, label: str, probability: str) -> None:
    cells = printable(file).ljust(NAME_WIDTH), printable(label).ljust(LABEL_WIDTH), probability
    click.echo("  ".join(cells).rstrip())
