"""`omnivec embed`: writes vectors of files, lines or columns to a file or stdout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from omnivec.cli.common import count, model_option
from omnivec.errors import ItemError
from omnivec.inputs.modality import get
from omnivec.models.embedder import DEFAULT_MODEL, Embedder
from omnivec.progress import say
from omnivec.types import Chunk, Truncate

if TYPE_CHECKING:
    from omnivec.cli.rows import ItemSource


@click.command("embed", short_help="Write vectors of files, lines or columns to a file.")
@click.argument("sources", nargs=-1, required=True, metavar="FILES...")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, readable=False),
    help="Output file, .npy, .jsonl or .parquet.  [default: JSON lines on stdout]",
)
@model_option
@click.option(
    "--column",
    help="Field that holds the text in .csv, .tsv, .jsonl and .parquet files; each row is an item.",
)
@click.option("--lines", is_flag=True, help="Each line of a file is an item.")
@click.option("--prompt-name", help="Which of the model's prompts to put before each text.")
@click.option("--dim", type=int, help="Keep only the first DIM components of each vector.", metavar="DIM")
@click.option(
    "--normalize/--as-is",
    "normalize",
    default=None,
    help="Scale vectors to length 1, or write them as the model makes them.  [default: as the model does]",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "int8"]),
    help="Precision of the computation.  [default: chosen automatically]",
)
@click.option("--max-memory", metavar="SIZE", help="Memory limit of the process, such as 2GB or 500MiB.")
@click.option(
    "--truncate",
    type=click.Choice(["tail", "head", "error"]),
    help="Which end of an item beyond the model's limit is cut off; with error, the item fails.  "
    "[default: as the model specifies, usually tail]",
)
@click.option(
    "--chunk", type=click.Choice(["pool"]), help="Embed the whole item instead, as the mean of its parts."
)
@click.option(
    "--batch-size",
    type=int,
    help="Largest number of items in a batch.  [default: as many as a budget of tokens allows]",
)
def command(
    sources: tuple[str, ...],
    output: Path | None,
    model: str | None,
    column: str | None,
    lines: bool,
    prompt_name: str | None,
    dim: int | None,
    normalize: bool | None,
    precision: str | None,
    max_memory: str | None,
    truncate: Truncate | None,
    chunk: Chunk | None,
    batch_size: int | None,
) -> int:
    """Write vectors of FILES to a file: each file is one item, `-` reads one text from each line of stdin.

    Rows are in the order of the items. An item that fails is named on stderr; its row is NaN in .npy, and has the
    reason in .jsonl and .parquet.
    """
    from omnivec.cli.rows import ItemSource, check_sink, open_sink
    from omnivec.models.loading import load
    from omnivec.progress import bar, is_visible

    items = ItemSource(sources, column, lines)
    check_sink(output, sources)
    items.check()
    embedder = load(model or DEFAULT_MODEL, precision=precision, max_memory=max_memory)
    failures = lost = done = 0
    width = dim or embedder.dim
    total = items.total() if output is not None and is_visible() else None
    with (
        open_sink(output, width) as sink,
        bar("embedding", total, "items", None if output else False) as shown,
    ):
        stream = embedder.stream(
            items,
            batch_size=batch_size,
            prompt_name=prompt_name,
            normalize_embeddings=normalize,
            dim=dim,
            truncate=truncate,
            chunk=chunk,
        )
        for encoded in stream:
            names = items.take(encoded)
            sink.write(encoded, names)
            lost += int((encoded.lost > 0).sum())
            failures += len(encoded.failures)
            for i, why in encoded.failures.items():
                name = names[i - done]
                say(why if why.startswith(name) else f"{name}: {why}")
            done += len(names)
            shown.advance(len(names))
        _check(items, done, failures, output)
    cut = f"; {count(lost, 'item')} {_cut(embedder)}" if lost else ""
    say(f"{count(done, 'item')}, {failures:,} failed, {width} components{cut}")
    return 3 if failures or items.failures else 0


def _cut(embedder: Embedder) -> str:
    """Says what happened to items that the model did not read completely."""
    records = [get(name) for name in embedder.modalities]
    if not all(record.counts_lost for record in records):
        return "cropped"
    return f"longer than the model's {embedder.max_length:.10g} {records[0].unit}: truncated"


def _check(items: ItemSource, done: int, failures: int, output: Path | None) -> None:
    """Names the sources that gave no items.

    Raises:
        ItemError: nothing could be embedded; the output is then not written.
    """
    for why in items.failures:
        say(why)
    if failures == done and (failures or items.failures):
        not_written = "" if output is None else f": {output} is not written"
        raise ItemError(f"none of {count(done, 'item')} could be embedded{not_written}")
