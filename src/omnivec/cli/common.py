"""What several commands share: options, finding the collection, filters, and printing of results."""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from omnivec.progress import say
from omnivec.validation.reasons import printable

if TYPE_CHECKING:  # imported when needed
    from omnivec.collection.collection import Collection
    from omnivec.store.index_builder import Built

NAME = ".omnivec"
VARIABLE = "OMNIVEC_COLLECTION"

_SUFFIXES = 8
"""Largest number of suffixes that a line lists."""

Command = TypeVar("Command", bound=Callable[..., Any])


def collection_option(command: Command) -> Command:
    """Adds --collection to a command."""
    return click.option(
        "--collection",
        "-c",
        type=click.Path(path_type=Path, readable=False),
        help=f"Folder of the collection.  [default: ${VARIABLE}, else {NAME} here or in the nearest parent]",
    )(command)


def json_option(command: Command) -> Command:
    """Adds --json to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")(command)


def where_option(command: Command) -> Command:
    """Adds --where to a command."""
    return click.option(
        "--where",
        "-w",
        "where",
        multiple=True,
        metavar="FILTER",
        help="Filter: key=value, key>=value, key>=2024-01-05, key^=prefix, key*=substring, key~=*.md, or "
        'JSON such as \'{"year": {"$gte": 2024}}\'. If repeated, all must hold.',
    )(command)


def model_option(command: Command) -> Command:
    """Adds --model to a command."""
    return click.option("--model", "-m", help="Model: a known name, a folder, hf:org/name or pypi:package.")(
        command
    )


def find_collection(option: Path | None) -> Path:
    """Returns the folder of the collection: --collection, $OMNIVEC_COLLECTION, or `.omnivec` here or in a parent.

    If none of these exists, it is `.omnivec` in the current directory, which `omnivec index` will create.
    """
    if option is not None:
        return option
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    here = Path.cwd()
    return next((folder / NAME for folder in (here, *here.parents) if (folder / NAME).is_dir()), here / NAME)


def filters(texts: Sequence[str]) -> dict[str, Any] | None:
    """Joins the filters of several --where options; None if there are none."""
    from omnivec.store.filter_syntax import parse_where

    parsed = [parse_where(text) for text in texts]
    if not parsed:
        return None
    return parsed[0] if len(parsed) == 1 else {"$and": parsed}


def print_json(rows: Iterable[Mapping[str, Any]]) -> None:
    """Prints rows as JSON lines, with non-ASCII characters escaped if stdout is not UTF-8."""
    utf8 = codecs.lookup(sys.stdout.encoding or "utf-8").name == "utf-8"
    for row in rows:
        click.echo(json.dumps(row, ensure_ascii=not utf8, default=str))


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints rows in columns, with numbers aligned to the right."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    right = [all(isinstance(row[i], int | float) for row in rows) and bool(rows) for i in range(len(header))]
    for row in [list(header), *cells]:
        parts = [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)]
        click.echo("  ".join(parts).rstrip())


def left_out(reasons: Iterable[str], suffixes: Mapping[str, int], what: str) -> str:
    """Formats the counts of what was left out of folders: "left out: 3 empty, 1 FIFO; no text by their names: 2 .zip".

    Args:
        reasons: for each file or link without anything to embed, the reason in a word or two, such as "empty".
        suffixes: maps each suffix that no modality reads to the number of its files.
        what: what these suffixes are not, such as "no text".

    Returns:
        The line; "" if nothing was left out.
    """
    parts = [", ".join(f"{n:,} {reason}" for reason, n in Counter(reasons).most_common())]
    by_suffix = Counter(suffixes).most_common()
    if by_suffix:
        more = sum(n for _, n in by_suffix[_SUFFIXES:])
        shown = [f"{n:,} {suffix or 'without suffix'}" for suffix, n in by_suffix[:_SUFFIXES]]
        parts.append(f"{what} by their names: {', '.join(shown)}{f' and {more:,} more' if more else ''}")
    return f"left out: {'; '.join(filter(None, parts))}" if any(parts) else ""


def count(n: int, noun: str) -> str:
    """Formats a count with its noun: "1,234 passages", "1 passage"."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def described_index(built: Built) -> str:
    """Describes an index: "text: 60,000 vectors, 500 added; recall 0.996, 4.1 MB, 5.2 s"."""
    recall = "" if built.recall is None else f"recall {built.recall:.3f}, "
    size = f"{built.bytes / 1e6:,.1f} MB"
    return f"{built.space}: {count(built.rows, 'vector')}, {built.added:,} added; {recall}{size}, {built.seconds:.1f} s"


def finish_indexes(notes: Collection) -> None:
    """Builds the indexes of large spaces that have none or whose index lacks much, and says so on stderr."""
    from omnivec.collection.space_indexes import build_stale

    for built in build_stale(notes):
        say(f"index of {described_index(built)}")
