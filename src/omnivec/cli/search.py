"""`omnivec search`: searches a collection with a text or a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from omnivec.cli.common import (
    collection_option,
    filters,
    find_collection,
    json_option,
    model_option,
    where_option,
)
from omnivec.cli.hits import print_hits
from omnivec.errors import UsageError
from omnivec.progress import say
from omnivec.types import Hit
from omnivec.validation.reasons import printable

if TYPE_CHECKING:
    from omnivec.collection.collection import Collection
    from omnivec.collection.searching import Mode


def _query_or_file(context: click.Context, parameter: click.Parameter, query: str | None) -> str | None:
    """Checks that one of QUERY and the options of files is used; these are eager, so their values are known."""
    queries = [query, *map(context.params.get, ("file", "picture", "clip"))]
    count = sum(one is not None for one in queries)
    if not context.resilient_parsing and count != 1:
        number = "more than one is" if count else "none is"
        raise click.UsageError(
            f"give one of QUERY, --file FILE, --image FILE or --audio FILE: {number} given", context
        )
    if query is not None and not query.strip():
        raise click.UsageError("QUERY is empty: give a text to search for", context)
    return query


@click.command("search", short_help="Find the passages, images and sounds that match a query best.")
@click.argument("query", required=False, callback=_query_or_file)
@click.option(
    "--file",
    type=click.Path(path_type=Path, readable=False),
    is_eager=True,
    help="Search with a file in place of QUERY.",
)
@click.option(
    "--image",
    "picture",
    type=click.Path(path_type=Path, readable=False),
    is_eager=True,
    help="The same with an image file; other files are refused.",
)
@click.option(
    "--audio",
    "clip",
    type=click.Path(path_type=Path, readable=False),
    is_eager=True,
    help="The same with a sound file; other files are refused.",
)
@collection_option
@model_option
@where_option
@click.option("-k", default=10, show_default=True, help="Number of results.")
@click.option(
    "--mode",
    type=click.Choice(["vector", "text", "hybrid"]),
    help="Search by meaning, by words (BM25), or by both.  [default: hybrid for a text, vector for an image]",
)
@click.option(
    "--under",
    type=click.Path(path_type=Path, readable=False),
    metavar="DIR",
    help="Search only files in this folder.",
)
@click.option("--per-document", is_flag=True, help="Show only the best passage of each document.")
@click.option("--whole", is_flag=True, help="Show whole passages, not only the lines that match.")
@click.option(
    "--thumbnails/--no-thumbnails",
    default=None,
    help="Show images as pictures.  [default: if the terminal supports it]",
)
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, readable=False),
    help="Also write the results to an .html page with thumbnails and players, which needs no other file.",
)
@json_option
def command(
    query: str | None,
    file: Path | None,
    picture: Path | None,
    clip: Path | None,
    collection: Path | None,
    model: str | None,
    where: tuple[str, ...],
    k: int,
    mode: Mode | None,
    under: Path | None,
    per_document: bool,
    whole: bool,
    thumbnails: bool | None,
    page: Path | None,
    as_json: bool,
) -> None:
    """Find the passages, images and sounds that match QUERY best, or that are most similar to a file.

    Each result shows its score, its file and line, and its text or, if the terminal supports it, its picture.
    """
    from omnivec.collection.collection import Collection
    from omnivec.collection.searching import WORDS
    from omnivec.inputs.modality import of

    condition = filters(where)
    _check(picture, clip, page)
    with Collection(find_collection(collection), model, create=False, readonly=True) as notes:
        if page is not None and (page in notes or page.resolve() in notes):
            raise UsageError(
                f"{page} is a document of {notes.folder}, which the page would replace: name another file"
            )
        searched = picture or clip or file or query or ""
        hits = notes.search(searched, k, condition, mode, under=under, per_document=per_document)
        if not hits:
            say(_nothing(notes, condition))
            for line in notes.unreached(of(searched)) if mode != WORDS else ():
                say(line)
    if page is not None:
        _write(page, searched, hits, notes.path_of)
    print_hits(hits, as_json, whole, pictures(notes.path_of, thumbnails), notes.path_of)


def _nothing(collection: Collection, condition: dict[str, Any] | None) -> str:
    """Says that nothing was found, and possible reasons."""
    if not len(collection):
        return f"nothing found: {collection.folder} has no documents yet; add some with `omnivec index PATH`"
    why = collection.unmatched(condition) if condition else ()
    return "nothing found" + (
        f" that passes the filter{': ' * bool(why)}{'; '.join(why)}" if condition else ""
    )


def pictures(file_of: Callable[[str], Path], wanted: bool | None = None) -> Callable[[Hit], str]:
    """Returns a function that renders the image of a hit for this terminal.

    Args:
        file_of: returns the file of a document.
        wanted: whether to show pictures; None if the terminal supports it.

    Returns:
        A function from a hit to its picture as text; "" if it has none, or none can be shown.
    """
    from omnivec.inputs.modality import modalities
    from omnivec.validation.reasons import of_item
    from omnivec.viewer.terminal import best_way

    way = best_way(os.environ, sys.stdout.isatty(), sys.stdout.encoding or "utf-8", wanted)

    def picture(hit: Hit) -> str:
        record = modalities().get(hit.modality)
        if way is None or record is None or record.thumbnail is None:
            return ""
        try:
            return way.show(file_of(hit.document), record.thumbnail)
        except BaseException as error:
            return printable(f"cannot be shown: {of_item(error)}")

    return picture


def _check(image: Path | None, clip: Path | None, page: Path | None) -> None:
    """Checks the files of --image, --audio and --html before a model is loaded."""
    if image is not None:
        from omnivec.inputs.image.pixels import read_header

        read_header(image)  # a text file would be a valid query, but not for --image
    if clip is not None:
        from omnivec.inputs.audio.sound import read_sound

        read_sound(clip)
    if page is not None:
        from omnivec.viewer.page import check_page

        check_page(page)


def _write(path: Path, query: str | Path, hits: list[Hit], file_of: Callable[[str], Path]) -> None:
    from omnivec.viewer.page import page, write_page

    write_page(path, page(query, hits, file_of))
    say(f"written to {path}")
