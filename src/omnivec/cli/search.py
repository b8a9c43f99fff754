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
    print_json,
    where_option,
)
from omnivec.cli.hits import fields, print_hits
from omnivec.errors import ItemErrors, UsageError
from omnivec.progress import say
from omnivec.types import Hit
from omnivec.validation.reasons import of_item, printable

if TYPE_CHECKING:
    from omnivec.collection.collection import Collection
    from omnivec.collection.searching import Mode


def _query_or_file(context: click.Context, parameter: click.Parameter, query: str | None) -> str | None:
    """Checks that one of QUERY and the options of files is used; these are eager, so their values are known."""
    queries = [query, *map(context.params.get, ("file", "picture", "clip", "vector", "queries"))]
    count = sum(one is not None for one in queries)
    if not context.resilient_parsing and count != 1:
        number = "more than one is" if count else "none is"
        raise click.UsageError(
            "give one of QUERY, --file FILE, --image FILE, --audio FILE, --vector FILE or --queries FILE: "
            f"{number} given",
            context,
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
@click.option(
    "--vector",
    metavar="FILE.npy|JSON",
    is_eager=True,
    help="Search with a vector: a .npy file of one, or a JSON list of numbers.",
)
@click.option(
    "--queries",
    type=click.Path(path_type=Path, readable=False),
    is_eager=True,
    help="Search with each line of a text file; prints JSON lines, with the number of the line as `query`.",
)
@collection_option
@model_option
@where_option
@click.option("-k", default=10, show_default=True, help="Number of results.")
@click.option("--offset", default=0, show_default=True, help="Number of better results that are left out.")
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
@click.option("--space", multiple=True, help="Search this space only; may be repeated.")
@click.option("--min-score", type=float, help="Smallest score of a result, with --mode vector or text.")
@click.option(
    "--order-by", metavar="FIELD", help="Sort the results by a field of the metadata; -FIELD: descending."
)
@click.option("--weights", metavar="V,W", help="How much ranks by vectors and by words count, such as 2,1.")
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
    vector: str | None,
    queries: Path | None,
    collection: Path | None,
    model: str | None,
    where: tuple[str, ...],
    k: int,
    offset: int,
    mode: Mode | None,
    under: Path | None,
    per_document: bool,
    space: tuple[str, ...],
    min_score: float | None,
    order_by: str | None,
    weights: str | None,
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
    _check(picture, clip, page, alone=queries is None and vector is None)
    numbers: Any = None if vector is None else _vector(vector)
    options: dict[str, Any] = {
        "under": under,
        "per_document": per_document,
        "space": list(space) or None,
        "offset": offset,
        "min_score": min_score,
        "order_by": order_by,
        **({} if weights is None else {"weights": _weights(weights)}),
    }
    with Collection(find_collection(collection), model, create=False, readonly=True) as notes:
        _refuse_document(notes, page)
        if queries is not None:
            _print_many(queries, lambda lines: notes.search_many(lines, k, condition, mode, **options))
            return
        searched = picture or clip or file or query or ""
        hits = notes.search(searched if numbers is None else numbers, k, condition, mode, **options)
        if not hits:
            say(_nothing(notes, condition))
            for line in notes.unreached(of(searched)) if mode != WORDS and numbers is None else ():
                say(line)
    if page is not None:
        _write(page, searched, hits, notes.path_of)
    print_hits(hits, as_json, whole, pictures(notes.path_of, thumbnails), notes.path_of)


def _print_many(file: Path, search: Callable[[list[str]], list[list[Hit]]]) -> None:
    """Prints the results for each line of a file that is not blank, as JSON lines; those that fail are named."""
    from omnivec.inputs.reading import read

    numbered = [(i, line) for i, line in enumerate(read(file).text.splitlines(), 1) if line.strip()]
    if not numbered:
        raise UsageError(f"{file} has no queries: give a text file with one on each line")
    failures: dict[int, str] = {}
    try:
        found, kept = search([line for _, line in numbered]), list(range(len(numbered)))
    except ItemErrors as error:
        found, kept, failures = error.partial.hits, error.partial.kept.tolist(), error.failures
    print_json(
        {"query": numbered[place][0], **fields(hit)}
        for place, own in zip(kept, found, strict=True)
        for hit in own
    )
    for place, why in failures.items():
        say(f"{file}, line {numbered[place][0]}: {why}")
    if failures:
        raise click.exceptions.Exit(3)


def _vector(given: str) -> Any:
    """Returns the vector of --vector: of a .npy file, or of a JSON list."""
    import json

    import numpy as np

    if not given.lstrip().startswith("["):
        try:
            return np.load(Path(given), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UsageError(
                f"--vector {given}: neither a .npy file of a vector nor a JSON list of numbers ({of_item(error)})"
            ) from error
    try:
        return json.loads(given)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--vector: no JSON list of numbers, such as [0.1, 0.2] ({error})") from error


def _weights(given: str) -> list[float]:
    """Returns the two numbers of --weights."""
    try:
        near, in_words = map(float, given.split(","))
    except ValueError:
        raise UsageError(f"--weights {given}: two numbers with a comma, such as 2,1") from None
    return [near, in_words]


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


def _refuse_document(notes: Collection, page: Path | None) -> None:
    """Refuses a page that would replace a document of the collection."""
    if page is not None and (page in notes or page.resolve() in notes):
        raise UsageError(
            f"{page} is a document of {notes.folder}, which the page would replace: name another file"
        )


def _check(image: Path | None, clip: Path | None, page: Path | None, *, alone: bool) -> None:
    """Checks the files of --image, --audio and --html before a model is loaded."""
    if image is not None:
        from omnivec.inputs.image.pixels import read_header

        read_header(image)  # a text file would be a valid query, but not for --image
    if clip is not None:
        from omnivec.inputs.audio.sound import read_sound

        read_sound(clip)
    if page is not None and not alone:
        raise UsageError("--html shows the results of one text or file: leave out --queries and --vector")
    if page is not None:
        from omnivec.viewer.page import check_page

        check_page(page)


def _write(path: Path, query: str | Path, hits: list[Hit], file_of: Callable[[str], Path]) -> None:
    from omnivec.viewer.page import page, write_page

    write_page(path, page(query, hits, file_of))
    say(f"written to {path}")
