"""`omnivec demo`: indexing and search of a text that every machine has, Python's own documentation."""

from __future__ import annotations

import time
from pathlib import Path

import click

from omnivec.cli.common import count
from omnivec.cli.hits import print_hits

QUESTIONS = (
    "read a zip file",
    "run something later",
    "how many days between two dates",
    "find the longest common part of two texts",
    "keep a secret token safe from guessing",
)


@click.command("demo", short_help="Search the documentation of Python's standard library.")
@click.argument("questions", nargs=-1, metavar="[QUESTION...]")
@click.option(
    "--collection",
    "-c",
    type=click.Path(path_type=Path, readable=False),
    help="Folder of the collection.  [default: demo.omni in omnivec's cache]",
)
@click.option("-k", default=3, show_default=True, help="Number of passages for each question.")
def command(questions: tuple[str, ...], collection: Path | None, k: int) -> None:
    """Index the documentation of Python's own standard library and ask it some questions.

    About 7,000 docstrings are read from Python's source files, which needs no network. The collection is stored in the
    cache, so that a second run answers at once.
    """
    from omnivec import hub
    from omnivec.collection.collection import Collection
    from omnivec.inputs.files.pydoc import standard_library
    from omnivec.progress import bar

    started = time.perf_counter()
    folder = collection or hub.cache_folder() / "demo.omni"
    records = list(standard_library())
    with Collection(folder) as docs, bar("indexing", len(records), "docstrings") as shown:
        new = 0
        for first in range(0, len(records), 512):
            some = records[first : first + 512]
            facts = [{**record.metadata, "line": record.line} for record in some]
            added = docs.add([record.text for record in some], [record.id for record in some], facts)
            new += added.passages
            shown.advance(len(some))
        counts = docs.counts()
        ready = time.perf_counter()
        settings = docs.model.card
        click.echo(
            f"Python's standard library: {count(counts.documents, 'docstring')}, {count(counts.passages, 'passage')}; "
            f"{count(new, 'passage')} embedded in {ready - started:.1f} s with {settings['name']} "
            f"({settings['engine']}, {settings['precision']}, {count(settings['threads'], 'thread')}).\n"
        )
        for question in questions or QUESTIONS:
            begun = time.perf_counter()
            hits = docs.search(question, k, {"public": True}, "vector")
            spent = (time.perf_counter() - begun) * 1000
            click.echo(click.style(f"? {question}", bold=True) + f"   ({spent:.0f} ms)")
            print_hits(hits, False)
            click.echo()
    click.echo(
        f"Stored in {folder}. Ask it more:\n  omnivec search --collection {folder} 'compress a stream'\n"
    )
    click.echo("Your own folder:\n  omnivec index docs/\n  omnivec search 'what you are looking for'")
