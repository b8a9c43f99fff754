"""`omnivec collection`: status, maintenance and backup of a collection; its documents and rows are in other modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from omnivec.cli.collection_documents import (
    get_documents,
    list_documents,
    remove_documents,
    update_documents,
)
from omnivec.cli.collection_migrate import migrate
from omnivec.cli.collection_rows import export_rows, import_rows
from omnivec.cli.common import (
    collection_option,
    count,
    described_index,
    find_collection,
    json_option,
    print_json,
)
from omnivec.inputs.modality import readable
from omnivec.progress import say
from omnivec.store.records import ACTIVE
from omnivec.types import DENSE
from omnivec.validation.reasons import printable

_ROOTS = 3


@click.group(
    "collection",
    short_help="Manage a collection: documents, import, export, migrate, check, backup, restore, salvage, vacuum.",
)
def command() -> None:
    """Manage a collection: its documents, rows in and out, whether its files are sound, backups."""


for _other in (
    list_documents,
    get_documents,
    update_documents,
    remove_documents,
    import_rows,
    export_rows,
    migrate,
):
    command.add_command(_other)


@command.command()
@collection_option
@click.option("--check", is_flag=True, help="Also check the files, as `collection check` does.")
@json_option
def status(collection: Path | None, check: bool, as_json: bool) -> int:
    """Show what is in a collection, which models made its vectors and, with --check, whether its files are sound."""
    from omnivec.collection.collection import Collection

    with Collection(find_collection(collection), create=False, readonly=True) as notes:
        counts, spaces, roots = notes.counts(), notes.spaces(), notes.roots()
        problems, open_points = (notes.check(), notes.unverified()) if check else ([], [])
        # A collection with one space needs no warning that other modalities cannot be searched.
        stored = {modality for one in spaces.values() for modality in one.modalities}
        queried = [one for one in readable() if one in stored] if len(spaces) > 1 else []
        unreached = dict.fromkeys(line for modality in queried for line in notes.unreached(modality))
        facts = {
            "collection": str(notes.folder),
            "documents": counts.documents,
            "passages": counts.passages,
            "bytes": counts.bytes,
            "bytes_free": counts.free,
            "tokens_cut_off": counts.lost,
            "roots": list(roots),
        }
    makers = [
        {
            "space": name,
            "model": one.model,
            "modalities": list(one.modalities),
            "kind": one.kind,
            "dim": one.dim,
            "metric": one.metric,
            "state": one.state,
            "made_with": dict(one.provenance),
        }
        for name, one in spaces.items()
    ]
    if as_json:
        more = {"problems": problems} if check else {}
        print_json([{**facts, "vectors": dict(counts.vectors), "spaces": makers, **more}])
    else:
        for name, value in facts.items():
            shown = _some(value) if isinstance(value, list) else value
            click.echo(f"{name.replace('_', ' '):<15} {shown if shown not in (None, '') else '-'}")
        for maker in makers:
            click.echo(f"{'space':<15} {_described(maker, counts.vectors)}")
        if check:
            click.echo(f"{'check':<15} {'sound' if not problems else count(len(problems), 'problem')}")
    for line in [*unreached, *problems, *open_points]:
        say(line)
    return 1 if problems else 0


def _some(roots: Sequence[str]) -> str:
    """Lists the first few roots; if there are more, also their number."""
    first = ", ".join(roots[:_ROOTS])
    return first if len(roots) <= _ROOTS else f"{len(roots):,}: {first} and {len(roots) - _ROOTS:,} more"


def _described(maker: Mapping[str, Any], vectors: Mapping[str, int]) -> str:
    """Describes a space: "text: all-MiniLM-L6-v2, dim 384, cosine; 12 vectors, openvino 2026.1.0, float32"."""
    made = [str(maker["made_with"][name]) for name in ("engine", "precision") if name in maker["made_with"]]
    kind = [one for one in (maker["kind"], maker["state"]) if one not in (DENSE, ACTIVE)]
    sizes = [maker["model"] or "vectors of your own", *kind, f"dim {maker['dim']}", maker["metric"]]
    return f"{maker['space']}: {', '.join(sizes)}; {', '.join([count(vectors[maker['space']], 'vector'), *made])}"


@command.command()
@collection_option
@click.option(
    "--deep",
    is_flag=True,
    help="Also compare all documents, passages, vectors and text indexes with checksums.",
)
def check(collection: Path | None, deep: bool) -> int:
    """Check the files of a collection, and report whatever is damaged or inconsistent.

    Without --deep: every page, keys, the records of spaces and roots, and whether documents are missing.
    """
    from omnivec.collection.collection import Collection
    from omnivec.store.opening import writable

    folder = find_collection(collection)
    with Collection(folder, create=False, readonly=not (deep and writable(folder))) as notes:
        problems, open_points = notes.check(deep=deep), notes.unverified()
    for line in [*problems, *open_points]:
        say(line)
    how = (
        "deep check: all content was compared with its checksums"
        if deep
        else "fast check: texts, metadata and vectors were not compared with their checksums; --deep does that"
    )
    click.echo(f"{folder}: {'sound' if not problems else count(len(problems), 'problem')} ({how})")
    return 1 if problems else 0


@command.command()
@click.argument("target", type=click.Path(path_type=Path, readable=False), metavar="DEST")
@collection_option
def backup(target: Path, collection: Path | None) -> None:
    """Copy the collection to a new folder DEST and check the copy; others may use the collection meanwhile."""
    from omnivec.collection.collection import Collection

    with Collection(find_collection(collection), create=False, readonly=True) as notes:
        notes.backup(target)
        click.echo(f"{count(len(notes), 'document')} copied to {target}")


@command.command()
@click.argument("source", type=click.Path(path_type=Path, readable=False), metavar="SRC")
@collection_option
@click.option(
    "--aside",
    is_flag=True,
    help="Rename an existing collection first; without this, one is refused.",
)
def restore(source: Path, collection: Path | None, aside: bool) -> None:
    """Restore the collection from the backup SRC, which is copied."""
    from omnivec.collection.collection import Collection

    folder = find_collection(collection)
    moved = Collection.restore(source, folder, aside=aside)
    click.echo(
        f"{folder} restored from {source}" + (f"; the previous collection is now {moved}" if moved else "")
    )


@command.command()
@click.argument("source", type=click.Path(path_type=Path, readable=False), metavar="SRC")
@click.argument("target", type=click.Path(path_type=Path, readable=False), metavar="DEST")
@json_option
def salvage(source: Path, target: Path, as_json: bool) -> int:
    """Make a new collection DEST of what can still be read of the damaged collection SRC, which is only read.

    Documents that fit their checksums are taken; all others are named. What can be read of their texts goes into the
    file DEST.unverified.jsonl, which `import` reads.
    """
    from dataclasses import asdict

    from omnivec.collection.collection import Collection

    report = Collection.salvage(source, target)
    for name, why in report.damaged.items():
        say(f"{printable(name)}: {why}")
    if report.nameless:
        say(f"{count(report.nameless, 'document')} whose ids cannot be read are left out")
    for line in report.notes:
        say(line)
    if report.complete is False:
        say(
            "the checksum of the whole collection does not fit: further documents may be missing without a trace"
        )
    left = len(report.damaged) + report.nameless
    if as_json:
        print_json([{**asdict(report), "unverified": str(report.unverified) if report.unverified else None}])
    else:
        passages, vectors = count(report.passages, "passage"), count(report.vectors, "vector")
        click.echo(
            f"{count(report.documents, 'document')} ({passages}, {vectors}) taken to {target}; {left:,} left out"
        )
        if report.unverified:
            click.echo(
                f"what can be read of them: {report.unverified}; look at it, then `omnivec collection import` embeds it"
            )
    return 3 if left or report.notes or report.complete is False else 0


@command.command("build-index")
@click.argument("space", required=False, metavar="[SPACE]")
@collection_option
@json_option
def build_index(space: str | None, collection: Path | None, as_json: bool) -> None:
    """Build the indexes by which large spaces are searched, or extend them by what was added.

    Without SPACE, those of all spaces of more than 50,000 vectors. Searches work meanwhile, and without an index: they
    compare all vectors.
    """
    from dataclasses import asdict

    from omnivec.collection.collection import Collection

    with Collection(find_collection(collection), create=False) as notes:
        built = notes.build_index(space)
    if as_json:
        print_json([asdict(one) for one in built])
        return
    for one in built:
        click.echo(described_index(one))
    if not built:
        click.echo("no space has more than 50,000 vectors; smaller ones are searched without an index")


@command.command()
@collection_option
def vacuum(collection: Path | None) -> None:
    """Shrink the files of a collection, after many documents were removed."""
    from omnivec.collection.collection import Collection

    with Collection(find_collection(collection), create=False) as notes:
        freed = notes.vacuum()
        click.echo(f"{freed:,} bytes freed; {notes.counts().bytes:,} are left")
