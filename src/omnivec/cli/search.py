"""`omnivec search`: a question to a collection, in words or by an image."""

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
    """Refuses a search for nothing and one for two things; the options of files are eager, so they are known by now."""
    queries = [query, context.params.get("file"), context.params.get("picture")]
    count = sum(one is not None for one in queries)
    if not context.resilient_parsing and count != 1:
        what = "several are" if count else "none is"
        raise click.UsageError(f"a search takes QUERY, --file FILE or --image FILE: {what} given", context)
    if query is not None and not query.strip():
        raise click.UsageError("QUERY is empty: say what is sought", context)
    return query


@click.command("search", short_help="Find the passages and images that answer a query best.")
@click.argument("query", required=False, callback=_query_or_file)
@click.option(
    "--file",
    type=click.Path(path_type=Path, readable=False),
    is_eager=True,
    help="A file whose like is sought, in place of QUERY.",
)
@click.option(
    "--image",
    "picture",
    type=click.Path(path_type=Path, readable=False),
    is_eager=True,
    help="The same, of an image file: any other is refused.",
)
@collection_option
@model_option
@where_option
@click.option("-k", default=10, show_default=True, help="How many.")
@click.option(
    "--mode",
    type=click.Choice(["vector", "text", "hybrid"]),
    help="By meaning, by words (BM25), or by both.  [default: hybrid for words, vector for an image]",
)
@click.option(
    "--under",
    type=click.Path(path_type=Path, readable=False),
    metavar="DIR",
    help="Only files in this folder.",
)
@click.option("--per-document", is_flag=True, help="Of each document its best passage alone.")
@click.option("--whole", is_flag=True, help="Whole passages, not their beginnings.")
@click.option(
    "--thumbnails/--no-thumbnails",
    default=None,
    help="Show found images.  [default: where the terminal can]",
)
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, readable=False),
    help="Also write them to a page, with thumbnails, that needs nothing else.",
)
@json_option
def command(
    query: str | None,
    file: Path | None,
    picture: Path | None,
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
    """Find the passages and images that answer QUERY, or that are like a file, best.

    Each hit shows its score, its file and line, and its text or, where the terminal can show it, its picture.
    """
    from omnivec.collection.collection import Collection
    from omnivec.collection.searching import WORDS
    from omnivec.inputs.modality import of

    condition = filters(where)
    _check(picture, page)
    with Collection(find_collection(collection), model, create=False, readonly=True) as notes:
        if page is not None and (page in notes or page.resolve() in notes):
            raise UsageError(
                f"{page} is a document of {notes.folder}, and a page would replace it: name another"
            )
        asked = picture or file or query or ""
        hits = notes.search(asked, k, condition, mode, under=under, per_document=per_document)
        if not hits:
            say(_nothing(notes, condition))
            for line in notes.unreached(of(asked)) if mode != WORDS else ():
                say(line)
    if page is not None:
        _write(page, asked, hits, notes.path_of)
    print_hits(hits, as_json, whole, pictures(notes.path_of, thumbnails), notes.path_of)


def _nothing(searched: Collection, condition: dict[str, Any] | None) -> str:
    """Why there may be nothing to show."""
    if not len(searched):
        return f"nothing found: {searched.folder} holds no documents yet; `omnivec index PATH` brings some in"
    why = searched.unmatched(condition) if condition else ()
    return "nothing found" + (
        f" that passes the filter{': ' * bool(why)}{'; '.join(why)}" if condition else ""
    )


def pictures(file_of: Callable[[str], Path], wanted: bool | None = None) -> Callable[[Hit], str]:
    """What shows a found image below its line; "" where this terminal cannot."""
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
            return printable(f"no picture: {of_item(error)}")

    return picture


def _check(image: Path | None, page: Path | None) -> None:
    """Refuses what cannot be an image or a page before a model is loaded."""
    if image is not None:
        from omnivec.inputs.image.pixels import read_header

        read_header(image)  # the file of a text would be a query too, but not the one that was meant
    if page is not None:
        from omnivec.viewer.page import check_page

        check_page(page)


def _write(path: Path, asked: str | Path, hits: list[Hit], file_of: Callable[[str], Path]) -> None:
    from omnivec.viewer.page import page, write_page

    write_page(path, page(asked, hits, file_of))
    say(f"written to {path}")
