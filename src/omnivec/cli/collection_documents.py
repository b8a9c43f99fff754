"""`omnivec collection list`, `get`, `update`, `remove`: documents of a collection, and the collections of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omnivec.cli.common import (
    collection_option,
    count,
    filters,
    find_collection,
    json_option,
    print_json,
    print_table,
    where_option,
)
from omnivec.errors import OmnivecError
from omnivec.progress import say
from omnivec.store.opening import FILE
from omnivec.types import Floats, SparseRows
from omnivec.validation.reasons import of_system, printable
from omnivec.vectors.arrays import digits

if TYPE_CHECKING:
    from omnivec.collection.collection import Collection
    from omnivec.store.records import Record

_HERE = "."


@click.command("list")
@collection_option
@where_option
@click.option(
    "--order-by",
    multiple=True,
    metavar="FIELD",
    help="Sort by a field of metadata; -FIELD puts the greatest first. May be repeated.",
)
@click.option("--limit", type=click.IntRange(min=0), help="Largest number of documents.")
@click.option(
    "--offset", type=click.IntRange(min=0), help="Number of documents to leave out at the beginning."
)
@click.option(
    "--all",
    "below",
    is_flag=False,
    flag_value=_HERE,
    metavar="[FOLDER]",
    help="List the collections in a folder and below it instead, without following links.  [FOLDER: the current one]",
)
@json_option
def list_documents(
    collection: Path | None,
    where: tuple[str, ...],
    order_by: tuple[str, ...],
    limit: int | None,
    offset: int | None,
    below: str | None,
    as_json: bool,
) -> int:
    """List the documents of a collection, or with --all the collections of a folder."""
    from omnivec.collection.collection import Collection

    if below is not None:
        if collection is not None or where or order_by or limit is not None or offset is not None:
            raise click.UsageError(
                "--all lists collections: give no options of a collection's documents with it"
            )
        return _list_collections(Path(below), as_json)
    with Collection(find_collection(collection), create=False, readonly=True) as notes:
        condition = filters(where)
        entries = notes.documents(condition, order_by=order_by or None, limit=limit, offset=offset or 0)
        for line in notes.unmatched(condition) if condition and not entries else ():
            say(line)
    if as_json:
        print_json(
            {"document": e.id, "passages": e.passages, "tokens_cut_off": e.lost, "metadata": dict(e.metadata)}
            for e in entries
        )
    else:
        print_table(("document", "passages", "cut off"), [(e.id, e.passages, e.lost) for e in entries])
    return 0


def _list_collections(folder: Path, as_json: bool) -> int:
    """Lists the collections in a folder and below it; returns 3 if one, or a folder, cannot be read."""
    from omnivec.collection.collection import Collection

    if not folder.is_dir():
        raise click.UsageError(f"{folder} is not a folder")
    listed: list[dict[str, Any]] = []
    failed = 0
    for place in _collections(folder):
        if isinstance(place, OSError):
            failed += 1
            say(f"{place.filename}: {of_system(place)}")
            continue
        try:
            with Collection(place, create=False, readonly=True) as notes:
                counts, spaces = notes.counts(), notes.spaces()
        except OmnivecError as error:
            failed += 1
            say(str(error) if str(place) in str(error) else f"{place}: {error}")
            continue
        listed.append(
            {
                "collection": str(place),
                "documents": counts.documents,
                "spaces": list(spaces),
                "models": list(dict.fromkeys(one.model for one in spaces.values() if one.model)),
                "bytes": counts.bytes,
            }
        )
    if as_json:
        print_json(listed)
    else:
        rows = [
            [", ".join(cell) if isinstance(cell, list) else cell for cell in one.values()] for one in listed
        ]
        print_table(("collection", "documents", "spaces", "models", "bytes"), rows)
    return 3 if failed else 0


def _collections(folder: Path) -> Iterator[Path | OSError]:
    """The collections in a folder and below it, sorted, and the errors of folders that cannot be read."""
    errors: list[OSError] = []
    for here, folders, files in os.walk(folder, onerror=errors.append):
        yield from errors
        errors.clear()
        folders.sort()
        if FILE in files:
            folders.clear()  # a collection is a folder of its own
            yield Path(here)
    yield from errors


@click.command("get")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@collection_option
@click.option("--vectors", is_flag=True, help="Also print the vectors.")
@json_option
def get_documents(ids: tuple[str, ...], collection: Path | None, vectors: bool, as_json: bool) -> int:
    """Show documents by their ids, which `list` shows: text, metadata and passages."""
    from omnivec.collection.collection import Collection

    with Collection(find_collection(collection), create=False, readonly=True) as notes:
        known, missing = _known(notes, ids)
        records = notes.get(known, vectors=vectors)
    for line in missing:
        say(line)
    if as_json:
        print_json(_as_json(record, vectors) for record in records)
    else:
        for record in records:
            _print(record)
    return 3 if missing else 0


def _known(notes: Collection, ids: Sequence[str]) -> tuple[list[str], list[str]]:
    """The ids that there are, each once, and a line for each of the others."""
    known = [name for name in dict.fromkeys(ids) if name in notes]
    return known, [f"no document {name!r}" for name in dict.fromkeys(ids) if name not in known]


def _as_json(record: Record, vectors: bool) -> dict[str, Any]:
    pieces = [
        {"start": one.start, "end": one.end, "unit": one.unit or "", "line": one.line, "text": one.text}
        for one in record.pieces
    ]
    facts = {
        "document": record.id,
        "modality": record.modality,
        "path": record.path,
        "metadata": dict(record.metadata),
        "text": record.text,
        "passages": pieces,
    }
    numbers = {name: _rows(own) for name, own in record.vectors.items()}
    return facts | ({"vectors": numbers} if vectors else {})


def _rows(vectors: Floats | SparseRows) -> list[list[float]] | list[dict[str, float]]:
    """Vectors for JSON with the digits of a float32: lists of numbers, or of a sparse one the weights by component."""
    if not isinstance(vectors, SparseRows):
        return list(map(digits, vectors))
    pairs = list(zip(map(str, vectors.indices.tolist()), digits(vectors.weights), strict=True))
    edges = vectors.offsets.tolist()
    return [dict(pairs[first:last]) for first, last in pairwise(edges)]


def _print(record: Record) -> None:
    click.echo(f"{printable(record.id)}  {count(record.passages, 'passage')}")
    for key, value in record.metadata.items():
        click.echo(f"  {printable(key)}: {printable(str(value))}")
    for name, own in record.vectors.items():
        for row in _rows(own):
            numbers = (
                [f"{i}:{x:.6g}" for i, x in row.items()]
                if isinstance(row, dict)
                else [f"{x:.6g}" for x in row]
            )
            click.echo(f"  {name}: {' '.join(numbers)}")
    for line in record.text.splitlines():
        click.echo(f"  | {printable(line)}")


@click.command("update")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@collection_option
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Set a key of the metadata; may be repeated."
)
@click.option("--unset", multiple=True, metavar="KEY", help="Remove a key of the metadata; may be repeated.")
@click.option("--replace", is_flag=True, help="Remove all other keys.")
@json_option
def update_documents(
    ids: tuple[str, ...],
    collection: Path | None,
    sets: tuple[str, ...],
    unset: tuple[str, ...],
    replace: bool,
    as_json: bool,
) -> None:
    """Change the metadata of documents; nothing is embedded again.

    A VALUE is a number, true, false, null, or a list, a dict or a "text" in JSON, where it can be read as one, and
    otherwise a text.
    """
    from omnivec.collection.collection import Collection

    if not sets and not unset and not replace:
        raise click.UsageError("nothing to change: give --set KEY=VALUE, --unset KEY or --replace")
    values = dict(map(_assignment, sets))
    if both := [key for key in unset if key in values]:
        raise click.UsageError(f"{both[0]!r} is both set and unset")
    with Collection(find_collection(collection), create=False) as notes:
        changed = notes.update(list(dict.fromkeys(ids)), values, replace=replace, remove=unset)
    if as_json:
        print_json([{"changed": changed}])
    else:
        click.echo(f"{count(changed, 'document')} changed")


def _assignment(text: str) -> tuple[str, Any]:
    from omnivec.collection.cells import MISSING, value_of

    key, equals, cell = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"--set {text!r}: write KEY=VALUE, such as year=2024 or 'tags=[\"a\"]'")
    value = value_of(cell)
    return key, "" if value is MISSING else value


@click.command("remove")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@collection_option
@click.option(
    "--under",
    type=click.Path(path_type=Path, readable=False),
    help="Remove the documents of all files in this folder.",
)
@where_option
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@json_option
def remove_documents(
    ids: tuple[str, ...],
    collection: Path | None,
    under: Path | None,
    where: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> int:
    """Remove documents by their ids, which `list` shows, or by a filter.

    With --where, of the documents named by IDs and --under only those that match; without these, all that match.
    """
    from omnivec.collection.collection import Collection

    if not ids and under is None and not where:
        raise click.UsageError("name documents by their ids, a folder with --under, or a filter with --where")
    condition = filters(where)
    with Collection(find_collection(collection), create=False, readonly=dry_run) as notes:
        chosen, missing = _known(notes, ids)
        if under is not None:
            folder = under.absolute()
            paths = [(e.id, notes.path_of(e.id)) for e in notes if e.path is not None]
            below = [name for name, path in paths if path.is_relative_to(folder)]
            missing += [] if below else [f"no document has a file in {folder}"]
            chosen += [name for name in below if name not in chosen]
        if condition is not None:
            passing = [entry.id for entry in notes.documents(condition)]
            missing += () if passing else notes.unmatched(condition)
            named = set(chosen)
            chosen = [name for name in passing if name in named or not (ids or under is not None)]
        removed = len(chosen) if dry_run else notes.delete(chosen, where=condition)
    for line in missing:
        say(line)
    if as_json:
        print_json(
            {"document": name, "status": "would be removed" if dry_run else "removed"} for name in chosen
        )
    else:
        for name in chosen if dry_run else ():
            click.echo(printable(name))
        click.echo(f"{count(removed, 'document')} {'would be ' * dry_run}removed")
    return 3 if missing else 0
