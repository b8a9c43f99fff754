"""`omnivec collection import` and `export`: rows of files become documents, and documents rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from omnivec.cli.common import (
    collection_option,
    count,
    filters,
    find_collection,
    finish_indexes,
    json_option,
    model_option,
    print_json,
    where_option,
)
from omnivec.progress import say

if TYPE_CHECKING:
    from omnivec.collection.rows_in import Imported


@click.command("import")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False), metavar="FILE..."
)
@collection_option
@model_option
@click.option(
    "--id",
    "id_column",
    metavar="COLUMN",
    help="Column of the ids; if not given, id. Without one, documents are named by their texts.",
)
@click.option(
    "--text",
    "text_column",
    metavar="COLUMN",
    help="Column of the texts; if not given, text, content, document or body.",
)
@click.option(
    "--metadata",
    metavar="A,B",
    help="Columns of metadata; may be repeated, '' is none. If not given, all other columns.",
    multiple=True,
)
@click.option(
    "--vector", metavar="COLUMN", help="Column of vectors of your own, lists of numbers, in place of a model."
)
@click.option("--space", metavar="NAME", help="Space of the vectors; if not given, vectors.")
@json_option
def import_rows(
    files: tuple[Path, ...],
    collection: Path | None,
    model: str | None,
    id_column: str | None,
    text_column: str | None,
    metadata: tuple[str, ...],
    vector: str | None,
    space: str | None,
    as_json: bool,
) -> int:
    """Add the rows of FILEs (.csv, .tsv, .jsonl, .parquet) as documents, or folders of `export --format`.

    Rows that are in the collection unchanged are skipped, so a command that was stopped goes on when it is run again. A
    row that cannot be used is named, and costs only itself.
    """
    from omnivec.cli.index import so_far
    from omnivec.cli.main import is_interruption
    from omnivec.collection.collection import Collection
    from omnivec.collection.row_sources import Columns
    from omnivec.collection.rows_in import Import, opened, total_of
    from omnivec.collection.whole_in import is_export
    from omnivec.progress import bar, is_visible

    exports = [file for file in files if is_export(file)]
    if exports:
        if len(exports) < len(files) or id_column or text_column or metadata or vector or space or model:
            raise click.UsageError(
                f"{exports[0]} is an export of a whole collection: import it without other options"
            )
        return _import_all(exports, find_collection(collection), as_json)
    started = time.perf_counter()
    named = [column for one in metadata for column in one.split(",") if column] if metadata else None
    sources = opened(files, Columns(id_column, text_column, vector, named))
    total = total_of(sources) if is_visible() else None
    folder = find_collection(collection)
    done = 0
    if space is not None and vector is None:
        raise click.UsageError("--space is for vectors: name their column with --vector")
    with Collection(folder, model) as notes, bar("importing", total, "rows") as shown:
        work = Import(notes, sources, space)
        try:
            for failed in work:
                for line in _named(failed):
                    say(line)
                shown.advance(work.report.rows - done)
                done = work.report.rows
            finish_indexes(notes)
        except BaseException as error:
            if is_interruption(error):
                rows = f"the first {count(done, 'row')} are in; " if done else ""
                raise KeyboardInterrupt(f"{rows}{so_far(folder)}") from error
            raise
    _summary(work.report, folder, time.perf_counter() - started, as_json)
    return 3 if work.report.failures else 0


def _import_all(exports: Sequence[Path], folder: Path, as_json: bool) -> int:
    """Imports exports of whole collections."""
    from omnivec.collection.collection import Collection

    with Collection(folder) as notes:
        for export in exports:
            report = notes.import_all(export, show_progress_bar=False if as_json else None)
            if as_json:
                print_json([{"export": str(export), **asdict(report)}])
            else:
                words = [f"{getattr(report, name):,} {name}" for name in ("new", "changed", "unchanged")]
                click.echo(f"{count(report.documents, 'document')} of {export}: {', '.join(words)}; {folder}")
    return 0


def _named(failed: Mapping[str, str]) -> Iterator[str]:
    """A line for each row that failed; rows of successive lines with the same reason share one."""
    runs: list[tuple[str, int, int, str]] = []  # a file, the first and the last line, the reason
    for place, why in failed.items():
        name, _, line = place.rpartition(":")
        if not line.isdigit():  # the rest of a file
            runs.append((place, 0, 0, why))
        elif runs and runs[-1][0] == name and runs[-1][2:] == (int(line) - 1, why):
            runs[-1] = (name, runs[-1][1], int(line), why)
        else:
            runs.append((name, int(line), int(line), why))
    for name, first, last, why in runs:
        lines = f":{first}" * bool(first) + f"-{last}" * (last > first)
        yield f"{name}{lines}: {why}"


def _summary(report: Imported, folder: Path, seconds: float, as_json: bool) -> None:
    for name, columns in report.left_out.items():
        say(f"{name}: the vectors in {', '.join(columns)} are left out; --vector takes them")
    if as_json:
        print_json(
            [{"summary": {**asdict(report), "failures": len(report.failures), "seconds": round(seconds, 3)}}]
        )
        return
    words = [f"{getattr(report, name):,} {name}" for name in ("new", "changed", "unchanged")]
    failed = f"{len(report.failures):,} failed"
    click.echo(f"{count(report.rows, 'row')}: {', '.join([*words, failed])}; {seconds:.1f} s; {folder}")
    cut = (
        f"{count(report.lost, 'token')} cut off by the model's limit"
        if report.lost
        else "no text was cut off"
    )
    click.echo(f"{count(report.passages, 'passage')} written; {cut}")


@click.command("export")
@click.argument("file", type=click.Path(path_type=Path, readable=False))
@collection_option
@where_option
@click.option("--vectors", is_flag=True, help="Also write the vectors, a column for each space.")
@click.option("--passages", is_flag=True, help="Write a row for each passage, with its text and span.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option(
    "--format",
    "layout",
    type=click.Choice(["jsonl", "parquet", "numpy", "faiss"]),
    help="Write the whole collection, vectors included, into a new folder FILE, which `import` reads without loss.",
)
@json_option
def export_rows(
    file: Path,
    collection: Path | None,
    where: tuple[str, ...],
    vectors: bool,
    passages: bool,
    force: bool,
    layout: str | None,
    as_json: bool,
) -> None:
    """Write documents as rows of FILE (.csv, .tsv, .jsonl, .parquet), which `import` reads again.

    With --format, write all of the collection into a folder, without loss: an import embeds nothing again.
    """
    from omnivec.collection.collection import Collection

    if layout is not None:
        if where or vectors or passages or force:
            raise click.UsageError(
                "--format writes everything: leave out --where, --vectors, --passages and --force"
            )
        _export_all(file, find_collection(collection), layout, as_json)
        return
    with Collection(find_collection(collection), create=False, readonly=True) as notes:
        condition = filters(where)
        report = notes.export(
            file,
            condition,
            vectors=vectors,
            passages=passages,
            force=force,
            show_progress_bar=False if as_json else None,
        )
        for line in notes.unmatched(condition) if condition and not report.documents else ():
            say(line)
    if report.without_vectors:
        hint = "" if passages else "; --passages writes a row for each"
        say(
            f"{count(report.without_vectors, 'row')} without vectors, because there are several in a space{hint}"
        )
    if as_json:
        print_json([{"file": str(file), **asdict(report)}])
    else:
        rows = f" in {count(report.rows, 'row')}" if passages else ""
        click.echo(f"{count(report.documents, 'document')}{rows} written to {file}")


def _export_all(target: Path, folder: Path, layout: str, as_json: bool) -> None:
    """Exports a whole collection."""
    from omnivec.collection.collection import Collection

    with Collection(folder, create=False, readonly=True) as notes:
        report = notes.export_all(target, layout, show_progress_bar=False if as_json else None)
    if as_json:
        print_json([{"folder": str(target), **asdict(report)}])
        return
    vectors = count(sum(report.vectors.values()), "vector")
    passages = count(report.passages, "passage")
    click.echo(f"{count(report.documents, 'document')}, {passages}, {vectors} written to {target}")
