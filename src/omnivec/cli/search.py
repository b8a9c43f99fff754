"""`omnivec search`: a question to a collection."""

from __future__ import annotations

from pathlib import Path

import click

from omnivec.cli.common import (
    collection_option,
    complain,
    filters,
    find_collection,
    json_option,
    model_option,
    print_hits,
    where_option,
)


@click.command("search", short_help="Find the passages that answer a query best.")
@click.argument("query")
@collection_option
@model_option
@where_option
@click.option("-k", default=10, show_default=True, help="How many passages.")
@click.option(
    "--mode",
    type=click.Choice(["vector", "text", "hybrid"]),
    default="vector",
    show_default=True,
    help="By meaning, by words (BM25), or by both.",
)
@click.option("--whole", is_flag=True, help="Whole passages, not their beginnings.")
@json_option
def command(
    query: str,
    collection: Path | None,
    model: str | None,
    where: tuple[str, ...],
    k: int,
    mode: str,
    whole: bool,
    as_json: bool,
) -> None:
    """Find the passages that answer QUERY best.

    Each hit shows its score, its file and line, and its text.
    """
    from omnivec.collection import Collection

    condition = filters(where)
    with Collection(find_collection(collection), model, create=False, readonly=True) as found:
        hits = found.search(query, k, condition, mode)  # type: ignore[arg-type]
    if not hits:
        complain("nothing found" + (" that passes the filter" if condition else ""))
    print_hits(hits, as_json, whole)
