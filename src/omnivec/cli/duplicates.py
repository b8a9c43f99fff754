"""`omnivec duplicates`: copies of images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omnivec.cli.common import count, json_option, print_json
from omnivec.cli.listing import FileListing, hidden_option, paths_argument
from omnivec.inputs.image import MODALITY as IMAGE
from omnivec.progress import say
from omnivec.validation.reasons import printable

if TYPE_CHECKING:
    from omnivec.tasks.duplicates import File, Group


@click.command("duplicates", short_help="Find copies of images: exact, recompressed, resized, cropped.")
@paths_argument
@click.option(
    "--model",
    "-m",
    default=IMAGE.default_model,
    help=f"Model of images, which proposes the pairs to compare.  [default: {IMAGE.default_model}]",
)
@click.option(
    "--cosine",
    type=click.FloatRange(-1, 1),
    help="Compare the pixels of two images if the cosine of their vectors is at least this.  [default: 0.5]",
)
@hidden_option
@json_option
def command(paths: tuple[Path, ...], model: str, cosine: float | None, hidden: bool, as_json: bool) -> int:
    """Find copies among the images in PATH, files and folders: exact, recompressed, resized or cropped.

    Each group of copies is printed as a block: first the file to keep, the largest that is not cropped, then the copies
    with the reason why each is one. Nothing is deleted.
    """
    from omnivec.models.loading import load
    from omnivec.tasks.duplicates import COSINE, find_copies

    embedder = load(model)
    listing = FileListing(paths, (IMAGE.name,), hidden)
    result = find_copies(listing, embedder, cosine=COSINE if cosine is None else cosine)
    for group in result.groups:
        _show(group, as_json)
    failures = {path: why for path, why in result.failures.items() if not listing.leaves_out(path)}
    failed = listing.report()
    for why in failures.values():
        say(why)
    copies = sum(len(group.copies) for group in result.groups)
    spare = sum(copy.file.size for group in result.groups for copy in group.copies)
    say(
        f"{count(result.files, IMAGE.name)}, {count(len(result.groups), 'group')} with {copies:,} "
        f"cop{'y' if copies == 1 else 'ies'} of {spare / 2**20:,.1f} MiB, {len(failures):,} failed; "
        "nothing was deleted"
    )
    return 3 if failed or failures else 0


def _show(group: Group, as_json: bool) -> None:
    if as_json:
        copies = [
            {**_facts(copy.file), "why": copy.why, "score": round(copy.score, 4), "of": str(copy.of)}
            for copy in group.copies
        ]
        print_json([{"keep": _facts(group.keep), "copies": copies}])
        return
    click.echo(f"keep            1.000  {_line(group.keep)}")
    for copy in group.copies:
        beside = "" if copy.of == group.keep.path else f"  (of {printable(str(copy.of))})"
        click.echo(f"  {copy.why:<13} {copy.score:.3f}  {_line(copy.file)}{beside}")
    click.echo()


def _facts(file: File) -> Mapping[str, Any]:
    return {"file": str(file.path), "width": file.width, "height": file.height, "bytes": file.size}


def _line(file: File) -> str:
    return f"{printable(str(file.path))}  {file.width} x {file.height}, {file.size:,} bytes"
