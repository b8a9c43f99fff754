"""`omnivec index`: folders and files into a collection."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import click

from omnivec.cli.common import (
    collection_option,
    count,
    find_collection,
    json_option,
    left_out,
    print_json,
)
from omnivec.collection.syncing import Event, SyncReport
from omnivec.errors import ItemError, OmnivecError
from omnivec.inputs.modality import readable
from omnivec.progress import say


@click.command("index", short_help="Bring files and folders into a collection.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, readable=False), metavar="[PATH]...")
@collection_option
@click.option(
    "--model",
    "-m",
    "models",
    multiple=True,
    metavar="[MODALITY=]MODEL",
    help="A known name, a folder, hf:org/name or pypi:package, for all that it takes; or for one modality, repeated.",
)
@click.option("--hidden", is_flag=True, help="Take files and folders whose name begins with a dot too.")
@click.option(
    "--encoding",
    "encodings",
    multiple=True,
    help="Of texts that are not UTF-8, such as cp1252; repeated, the first that can read a file.",
)
@click.option(
    "--max-size", type=click.IntRange(min=1), default=64, show_default=True, help="Largest file, in MiB."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@json_option
def command(
    paths: tuple[Path, ...],
    collection: Path | None,
    models: tuple[str, ...],
    hidden: bool,
    encodings: tuple[str, ...],
    max_size: int,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Bring files and folders, texts and images, into a collection, and keep it in step with them.

    Without a PATH, those that were brought in before are looked through again.

    What is new or changed is embedded, what is unchanged is left alone, and what is provably gone from these paths is
    removed. .gitignore and .omnivecignore are honoured. With --json, a document's line is printed after the commit
    that holds it, never before.
    """
    from omnivec.cli.main import is_interruption
    from omnivec.collection.collection import Collection, preview
    from omnivec.inputs.files.read import checked_encodings

    started = time.perf_counter()
    checked_encodings(encodings)
    whole, named = _models(models)
    folder = find_collection(collection)
    if not paths and not folder.exists():
        raise click.UsageError(f"name files or folders: there is no collection at {folder} yet")
    if not folder.exists() and not any(os.path.lexists(path) for path in paths):
        raise ItemError(f"{paths[0].absolute()}: does not exist; nothing is made at {folder}")
    options: dict[str, Any] = {"hidden": hidden, "encoding": encodings, "max_bytes": max_size * 2**20}
    options["show_progress_bar"] = False if as_json else None

    def tell(event: Event) -> None:
        if as_json and event.status != "unchanged":
            print_json([_line(event)])

    if dry_run and not folder.exists():
        report = preview(folder, paths, **options, on_event=tell)
    else:
        try:
            with Collection(folder, whole, models=named, create=not dry_run) as target:
                report = target.sync(
                    paths or None, **options, dry_run=dry_run, on_event=tell, say=say, wait=None
                )
        except BaseException as error:
            if is_interruption(error):
                raise KeyboardInterrupt(_kept(folder)) from error
            raise
    _summary(report, folder, time.perf_counter() - started, as_json)
    return 3 if report.failed else 0


def _kept(folder: Path) -> str:
    """How much is in a collection when its indexing is interrupted."""
    from omnivec.collection.collection import Collection

    try:
        with Collection(folder, create=False, readonly=True) as notes:
            return f"{count(len(notes), 'document')} in {folder}; the same command again goes on from there"
    except OmnivecError:
        return f"nothing is in {folder} yet"


def _models(arguments: Sequence[str]) -> tuple[str | None, dict[str, str] | None]:
    """The --model of all, and those of one modality each."""
    named: dict[str, str] = {}
    whole: list[str] = []
    for text in arguments:
        modality, equals, name = text.partition("=")
        if not equals or modality not in readable():  # The path of a folder may have "=" in it.
            whole.append(text)
        elif modality in named:
            raise click.UsageError(f"--model {modality}=... is given twice")
        else:
            named[modality] = name
    if len(whole) + bool(named) > 1:
        each = " and ".join(f"{name}=MODEL" for name in readable())
        raise click.UsageError(f"--model is given once, or as {each}")
    return (whole[0] if whole else None), named or None


def _line(event: Event) -> dict[str, Any]:
    return {key: value for key, value in asdict(event).items() if value is not None}


def _grouped(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for document, why in reasons.items():
        groups.setdefault(why, []).append(document)
    return groups


def _more(n: int) -> str:
    return f" and {n:,} more" if n > 0 else ""


def _summary(report: SyncReport, folder: Path, seconds: float, as_json: bool) -> None:
    for why in report.failed.values():
        say(why)
    for note in [*report.notes.values(), *report.warnings]:
        say(note)
    for why, documents in _grouped(report.kept).items():
        say(f"kept {', '.join(documents[:3])}{_more(len(documents) - 3)}: {why}")
    if as_json:
        facts = {one.name: getattr(report, one.name) for one in fields(report) if one.name != "kept"}
        print_json([{"summary": {**facts, "seconds": round(seconds, 3)}}])
        return
    if line := left_out(report.left_out.values(), report.skipped, f"neither {' nor '.join(readable())}"):
        say(line)
    words = [f"{getattr(report, name):,} {name}" for name in ("new", "changed", "unchanged", "removed")]
    would = "would be: " if report.dry_run else ""
    click.echo(f"{would}{', '.join(words)}, {len(report.failed):,} failed; {seconds:.1f} s; {folder}")
    cut = (
        f"{count(report.lost, 'token')} cut off by the model's limit"
        if report.lost
        else "no text was cut off"
    )
    if not report.dry_run:
        click.echo(f"{count(report.passages, 'passage')} written; {cut}")
