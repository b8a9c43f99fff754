"""`omnivec classify`: labels for files, by the names of the labels alone or learned from examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from omnivec.cli.common import count, json_option, model_option, print_json
from omnivec.cli.labelled import Columns, read_labelled
from omnivec.cli.listing import FileListing, hidden_option, show_line
from omnivec.errors import UsageError
from omnivec.inputs.modality import get, of, plural, readable, written
from omnivec.inputs.text.whitespace import lines
from omnivec.models.embedder import DEFAULT_MODEL
from omnivec.progress import Counter, bar, say
from omnivec.types import Floats, ModalityName
from omnivec.validation.reasons import of_system

if TYPE_CHECKING:
    from omnivec.tasks.classify import Classifier
    from omnivec.tasks.probe import Kind, Probe


@click.command("classify", short_help="Label files by words, or from labelled examples.")
@click.argument(
    "paths", nargs=-1, type=click.Path(path_type=Path, readable=False), metavar="[PATH...]", required=False
)
@click.option("--labels", "-l", multiple=True, metavar="A,B,...", help="The labels, separated by commas.")
@click.option(
    "--labels-file",
    type=click.Path(path_type=Path, readable=False),
    help="A file of labels, one per line; these may contain commas.",
)
@click.option(
    "--train",
    "examples",
    type=click.Path(path_type=Path, readable=False),
    metavar="TABLE|FOLDER",
    help="Labelled examples to learn from: a CSV, TSV, JSON lines or Parquet file with a column of files or texts and "
    "one of labels, or a folder with a subfolder for each label.",
)
@click.option(
    "--probe",
    "stored",
    type=click.Path(path_type=Path, readable=False),
    help="Folder that --save has written: label as it has learned.",
)
@click.option(
    "--save",
    type=click.Path(path_type=Path, readable=False),
    help="Folder to store what was learned in, for --probe.",
)
@click.option(
    "--column",
    help="Column of --train with files, relative to the table, or texts.  [default: file, path, text or the like]",
)
@click.option("--label", help="Column of --train with labels.  [default: label, class, category or target]")
@click.option(
    "--group",
    help="Column of --train whose groups, such as speakers, are never both learned from and asked in the estimate.",
)
@click.option("--texts", is_flag=True, help="The column of --train holds texts, whatever its name.")
@click.option(
    "--kind",
    type=click.Choice(["auto", "centroid", "knn", "logistic"]),
    help="How to learn: nearest class mean, nearest examples, logistic regression.  [default: auto]",
)
@click.option(
    "--suggest",
    type=click.IntRange(min=1),
    metavar="N",
    help="Print the N files that are worth labelling next instead of labels.",
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
    examples: Path | None,
    stored: Path | None,
    save: Path | None,
    column: str | None,
    label: str | None,
    group: str | None,
    texts: bool,
    kind: Kind | None,
    suggest: int | None,
    model: str | None,
    templates: tuple[str, ...],
    top: int | None,
    threshold: float,
    scale: float | None,
    hidden: bool,
    as_json: bool,
) -> int:
    """Label the files in PATH, files and folders, by the labels' names alone or from labelled examples.

    By names: a model embeds --labels and files, and their similarity becomes a probability; stderr says by which rule.
    Texts need no --model; images need a model that reads both images and texts.

    From examples: --train learns from labelled files or texts of any kind, says how good it is on files that it has not
    seen, and labels PATH, if there is any; --save stores what it has learned, and --probe uses it again.
    """
    columns = Columns(column, label, group, texts)
    learns = examples is not None
    _refuse(
        ("--labels", bool(labels) and (learns or stored is not None), "without --train and --probe"),
        (
            "--labels-file",
            labels_file is not None and (learns or stored is not None),
            "without --train and --probe",
        ),
        ("--template", bool(templates) and (learns or stored is not None), "for --labels"),
        ("--scale", scale is not None and (learns or stored is not None), "for --labels"),
        ("--probe", stored is not None and learns, "without --train"),
        ("--save", save is not None and not learns, "for --train"),
        ("--kind", kind is not None and not learns, "for --train"),
        ("--column, --label, --group and --texts", bool(columns) and not learns, "for --train"),
        ("--suggest", suggest is not None and not learns and stored is None, "for --train and --probe"),
    )
    shown = _Shown(top, threshold, hidden, as_json)
    if examples is not None:
        return _trained(paths, examples, columns, (model, kind or "auto", save), suggest, shown)
    if not paths:
        raise UsageError("no PATH: name the files or folders to label")
    if stored is not None:
        return _by_probe(paths, stored, model, suggest, shown)
    return _by_words(paths, _labels(labels, labels_file), model, templates, scale, shown)


@dataclass(frozen=True)
class _Shown:
    """The options of what is read and printed."""

    top: int | None
    threshold: float
    hidden: bool
    as_json: bool


def _refuse(*options: tuple[str, bool, str]) -> None:
    """Raises UsageError for the first option that is given where it does not apply."""
    for option, wrong, where in options:
        if wrong:
            raise UsageError(f"{option}: only {where}")


def _by_words(
    paths: Sequence[Path],
    labels: Sequence[str],
    model: str | None,
    templates: Sequence[str],
    scale: float | None,
    shown: _Shown,
) -> int:
    """Labels files by the names of the labels; the exit code."""
    from omnivec.models.loading import load
    from omnivec.tasks.classify import JOINT, Classifier

    if model is None and (unread := _unread(paths, shown.hidden)):
        raise UsageError(
            f"the default model does not read {unread}: name one that reads labels and {unread}, --model {JOINT}"
        )
    embedder = load(model or DEFAULT_MODEL)
    classifier = Classifier.of(embedder, labels, templates=templates, scale=scale)
    listing = FileListing(paths, tuple(classifier.rules), shown.hidden)
    total = _labelled(classifier, listing, shown)
    for modality in sorted(total.modalities):
        say(f"{plural([modality])}: probabilities are {classifier.rules[modality]}")
    return total.end()


def _trained(
    paths: Sequence[Path],
    source: Path,
    columns: Columns,
    how: tuple[str | None, Kind, Path | None],
    suggest: int | None,
    shown: _Shown,
) -> int:
    """Learns from examples, and labels files; the exit code."""
    from omnivec.cli import few_shot

    model, kind, save = how
    if suggest is not None and not paths:
        raise UsageError("--suggest: name the files to choose from, PATH...")
    if save is not None:
        from omnivec.weights.folder_writer import check_folder

        check_folder(save)
    examples = read_labelled(source, columns, shown.hidden)
    probe, lacking = few_shot.train(examples, model, kind)
    if save is not None:
        probe.save(save)
    if not paths:
        few_shot.show_report(probe.report, shown.as_json)
    else:
        for line in str(probe.report).splitlines():
            say(line)
    if save is not None:
        say(f"saved to {save}")
    code = _used(probe, paths, examples.items, suggest, shown) if paths else 0
    return 3 if lacking else code


def _by_probe(
    paths: Sequence[Path], folder: Path, model: str | None, suggest: int | None, shown: _Shown
) -> int:
    """Labels files by a stored probe; the exit code."""
    from omnivec.models.loading import load
    from omnivec.tasks.probe import Probe

    probe = Probe.load(folder, None if model is None else load(model))
    say(f"{probe.report.rule}; probabilities: {probe.report.calibration}")
    return _used(probe, paths, (), suggest, shown)


def _used(
    probe: Probe, paths: Sequence[Path], known: Sequence[Any], suggest: int | None, shown: _Shown
) -> int:
    listing = FileListing(paths, probe.model.modalities, shown.hidden)
    if suggest is None:
        return _labelled(probe, listing, shown).end()
    from omnivec.cli import few_shot

    done, failed = few_shot.suggest(probe, list(listing), known, suggest, shown.as_json)
    say(f"{count(done, 'file')} without a label compared, {failed:,} failed")
    return 3 if listing.report() or failed else 0


def _labelled(classifier: Classifier | Probe, listing: FileListing, shown: _Shown) -> _Total:
    """Prints the labels of the listed files, and what could not be read."""
    total = _Total()
    most = shown.top or (len(classifier.labels) if shown.threshold else 1)
    if not shown.as_json:
        show_line("file", "label", "probability")
    files = list(listing)
    with bar("classifying", len(files), "files", False if not shown.as_json else None) as progress:
        for file, row in _rows(classifier, files, listing, total, progress):
            _show(str(file), _chosen(row, classifier.labels, most, shown.threshold), shown.as_json)
    total.unlisted = listing.report()
    return total


class _Total:
    """Counts of the files that were classified, failed and truncated so far."""

    def __init__(self) -> None:
        self.done = self.failed = self.cut = 0
        self.unlisted = False
        self.modalities: set[ModalityName] = set()

    def end(self) -> int:
        """Says the counts on stderr; returns the exit code."""
        cut = f", {self.cut:,} truncated to the model's limit" if self.cut else ""
        say(f"{count(self.done, 'file')} classified, {self.failed:,} failed{cut}")
        return 3 if self.unlisted or self.failed else 0


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
        raise UsageError(
            "no labels: give --labels cat,dog,car, --labels-file FILE with one per line, or examples, --train TABLE"
        )
    return labels


def _unread(paths: Sequence[Path], hidden: bool) -> str:
    """Names the modalities of the files if there is no text among them, which the default model would need; else ""."""
    present = {of(path) for path in FileListing(paths, readable(), hidden)}
    return "" if written() in present else plural([name for name in readable() if name in present])


def _rows(
    classifier: Classifier | Probe, files: Sequence[Path], listing: FileListing, total: _Total, shown: Counter
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
        show_line(file, label, f"{p:.4f}")
    if not chosen:
        show_line(file, "-", "")
