"""What several commands share: the collection they mean, filters, and how results are printed."""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from omnivec.validation.reasons import printable

NAME = ".omnivec"
VARIABLE = "OMNIVEC_COLLECTION"

_SUFFIXES = 8
"""Most suffixes in a line."""

Command = TypeVar("Command", bound=Callable[..., Any])


def collection_option(command: Command) -> Command:
    """--collection, as every command that needs one takes it."""
    return click.option(
        "--collection",
        "-c",
        type=click.Path(path_type=Path, readable=False),
        help=f"The collection's folder. [default: ${VARIABLE}, else {NAME} here or in the nearest parent]",
    )(command)


def json_option(command: Command) -> Command:
    """--json, as every command that prints results takes it."""
    return click.option("--json", "as_json", is_flag=True, help="JSON lines on stdout.")(command)


def where_option(command: Command) -> Command:
    """--where, as every command that filters takes it."""
    return click.option(
        "--where",
        "-w",
        "where",
        multiple=True,
        metavar="FILTER",
        help="key=value, key>=value, key^=beginning, key*=part, or "
        'JSON such as \'{"year": {"$gte": 2024}}\'; several must all hold.',
    )(command)


def model_option(command: Command) -> Command:
    """--model, as every command that loads one takes it."""
    return click.option("--model", "-m", help="A known name, a folder, hf:org/name or pypi:package.")(command)


def find_collection(chosen: Path | None) -> Path:
    """The collection that is meant: as given, as the environment says, the nearest, or one to be made here."""
    if chosen is not None:
        return chosen
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    here = Path.cwd()
    return next((folder / NAME for folder in (here, *here.parents) if (folder / NAME).is_dir()), here / NAME)


def filters(texts: Sequence[str]) -> dict[str, Any] | None:
    """The filter of several --where; None where there is none."""
    from omnivec.store.filters import parse_where

    parsed = [parse_where(text) for text in texts]
    if not parsed:
        return None
    return parsed[0] if len(parsed) == 1 else {"$and": parsed}


def print_json(rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as JSON lines, in plain ASCII where stdout cannot show every letter."""
    utf8 = codecs.lookup(sys.stdout.encoding or "utf-8").name == "utf-8"
    for row in rows:
        click.echo(json.dumps(row, ensure_ascii=not utf8, default=str))


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows in columns, numbers to the right."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    right = [all(isinstance(row[i], int | float) for row in rows) and bool(rows) for i in range(len(header))]
    for row in [list(header), *cells]:
        parts = [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)]
        click.echo("  ".join(parts).rstrip())


def left_out(kinds: Iterable[str], suffixes: Mapping[str, int], what: str) -> str:
    """One line on what folders hold and was not taken, counted: "left out: 3 empty, 1 FIFO".

    Args:
        kinds: of each file or link that has nothing to embed.
        suffixes: suffix -> files whose names promise nothing.
        what: they promise not: "no text".
    """
    parts = [", ".join(f"{n:,} {kind}" for kind, n in Counter(kinds).most_common())]
    names = Counter(suffixes).most_common()
    if names:
        more = sum(n for _, n in names[_SUFFIXES:])
        shown = [f"{n:,} {suffix or 'without suffix'}" for suffix, n in names[:_SUFFIXES]]
        parts.append(f"{what} by their names: {', '.join(shown)}{f' and {more:,} more' if more else ''}")
    return f"left out: {'; '.join(filter(None, parts))}" if any(parts) else ""


def count(n: int, noun: str) -> str:
    """1,234 passages; 1 passage."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
