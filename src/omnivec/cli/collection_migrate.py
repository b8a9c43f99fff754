"""`omnivec collection migrate`: changes the model of a collection, with the old vectors searched meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from omnivec.cli.common import collection_option, count, find_collection, json_option, print_json
from omnivec.progress import say
from omnivec.vectors.bridge import ENOUGH

if TYPE_CHECKING:
    from omnivec.collection.collection import Collection
    from omnivec.collection.migrating import Migration
    from omnivec.collection.model_changes import MigrationState

_SHOWN = 10


@click.command("migrate")
@collection_option
@click.option(
    "--to", "model", metavar="MODEL", help="Model to change to: a known name, a folder, hf:org/name."
)
@click.option("--back", is_flag=True, help="Search the vectors again that the last change has replaced.")
@click.option(
    "--status", is_flag=True, help="Show how far a change of the model is, and what it has replaced."
)
@click.option("--drop-old", is_flag=True, help="Remove the vectors that were replaced.")
@click.option("--cancel", is_flag=True, help="Give up a change that is not finished, and remove its vectors.")
@click.option(
    "--bridge", is_flag=True, help="Measure how well queries of the other model find the vectors in use."
)
@click.option("--space", help="Space whose model is changed; needed if models made several.")
@click.option(
    "--allow-missing", is_flag=True, help="Switch although some documents cannot be embedded again."
)
@click.option("--dry-run", is_flag=True, help="Only count the passages, and estimate time and size.")
@json_option
def migrate(
    collection: Path | None,
    model: str | None,
    back: bool,
    status: bool,
    drop_old: bool,
    cancel: bool,
    bridge: bool,
    space: str | None,
    allow_missing: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Change the model of a collection: embed everything again, then search the new vectors.

    Until then the old vectors are searched, and other commands may add and remove documents. A run that was stopped is
    continued by the same command. The old vectors stay until --drop-old.
    """
    from omnivec.cli.main import is_interruption
    from omnivec.collection.collection import Collection

    wanted = [model is not None, back, status, drop_old, cancel, bridge]
    if sum(wanted) != 1:
        raise click.UsageError("give one of --to MODEL, --back, --status, --drop-old, --cancel and --bridge")
    if (allow_missing or dry_run) and not (model is not None or back):
        raise click.UsageError("--allow-missing and --dry-run are options of --to and --back")
    if space and (status or drop_old or cancel):
        raise click.UsageError("--space is an option of --to, --back and --bridge")
    folder = find_collection(collection)
    with Collection(folder, create=False, readonly=status or bridge) as notes:
        if status:
            return _status(notes, as_json)
        if bridge:
            return _bridged(notes, space, as_json)
        if drop_old or cancel:
            freed = notes.drop_retired(filling=cancel)
            if as_json:
                print_json([{"bytes_freed": freed, "bytes": notes.counts().bytes}])
            else:
                click.echo(f"{freed:,} bytes freed; {notes.counts().bytes:,} are left")
            return 0
        try:
            report = (
                notes.migrate(model, space=space, allow_missing=allow_missing, dry_run=dry_run)
                if model is not None
                else notes.migrate_back(space=space, allow_missing=allow_missing, dry_run=dry_run)
            )
        except BaseException as error:
            if is_interruption(error):
                raise KeyboardInterrupt(_so_far(notes)) from error
            raise
        return _reported(report, notes, as_json)


def _status(notes: Collection, as_json: bool) -> int:
    states = notes.migrations()
    if as_json:
        print_json([asdict(one) for one in states])
        return 0
    for one in states:
        click.echo(_line(one))
    if not states:
        click.echo(f"{notes.folder}: no model was changed")
    return 0


def _bridged(notes: Collection, space: str | None, as_json: bool) -> int:
    """Prints how good a map between the two spaces is."""
    found = notes.bridge(space=space)
    if as_json:
        facts = {"method": found.method_, "strength": found.strength_, "recall": found.recall_}
        print_json([{**facts, "enough": found.enough_, "needed": ENOUGH}])
    else:
        verdict = "which will do for a time" if found.enough_ else f"which will not do: {ENOUGH:.0%} would"
        click.echo(
            f"mapped queries find {found.recall_:.0%} of the 10 nearest passages ({found.method_}), {verdict}"
        )
    return 0


def _line(one: MigrationState) -> str:
    head = f"{one.space}: {one.model}, {one.state}; {count(one.vectors, 'passage')} embedded, {one.waiting:,} waiting"
    return f"{head}, {one.missing:,} not in {one.active}" if one.missing else head


def _so_far(notes: Collection) -> str:
    """Says how far a migration is that was interrupted."""
    lines = [_line(one) for one in notes.migrations() if one.waiting]
    return "; ".join([*lines, "run the same command again to continue"])


def _reported(report: Migration, notes: Collection, as_json: bool) -> int:
    """Prints what was done; returns the exit code."""
    for line in [*_named(report.missing), *_named(report.notes)]:
        say(line)
    if as_json:
        print_json([asdict(report)])
    elif report.dry_run:
        long = f"; {report.long:,} of {report.sampled:,} sampled are too long and would be cut anew"
        click.echo(
            f"would embed {count(report.waiting, 'passage')} by {report.model}: about {report.seconds:,.0f} s and "
            f"{report.bytes:,} bytes{long if report.long else ''}"
        )
    else:
        cut = f", {count(report.recut, 'document')} cut anew" if report.recut else ""
        lost = f", {report.lost:,.0f} tokens cut off" if report.lost else ""
        click.echo(
            f"{count(report.passages, 'passage')} embedded by {report.model} in {report.seconds:.1f} s{cut}{lost}; "
            f"{notes.folder}"
        )
        click.echo(_outcome(report))
    if report.dry_run:
        return 0
    return 3 if report.missing else 0


def _outcome(report: Migration) -> str:
    if not report.switched:
        return (
            f"{count(report.waiting, 'passage')} could not be embedded, so {report.source} is still searched: mend "
            "their documents and run it again, or give --allow-missing"
        )
    left = f"; {count(report.waiting, 'passage')} left out" if report.waiting else ""
    if report.target == report.source:
        return f"{report.target} is searched{left}"
    old = f"{report.source} is kept until --drop-old, and --back returns to it"
    return f"{report.target} is searched now{left}; {old}"


def _named(reasons: dict[str, str]) -> Sequence[str]:
    lines = [f"{name}: {why}" for name, why in list(reasons.items())[:_SHOWN]]
    return [*lines, f"and {len(reasons) - _SHOWN:,} more"] if len(reasons) > _SHOWN else lines
