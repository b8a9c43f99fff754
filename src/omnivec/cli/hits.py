"""Found passages in a terminal: where they are, and of each the lines that answer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import click

from omnivec.cli.common import print_json
from omnivec.inputs.modality import modalities
from omnivec.types import Hit
from omnivec.validation.reasons import printable

ROWS = 4
"""Rows of a passage that are shown."""
WIDEST = 110
_FAR = 20_000
"""Characters of a passage that are looked through for them."""


class _Row(NamedTuple):
    """A row of the terminal: from where to where it shows a text, and in which of its lines, from 0."""

    start: int
    end: int
    line: int


def print_hits(
    hits: Sequence[Hit],
    as_json: bool,
    whole: bool = False,
    picture: Callable[[Hit], str] | None = None,
    file_of: Callable[[str], Path] | None = None,
) -> None:
    """Found passages: place and score on one line, below it the lines that answer, or an image's picture.

    Args:
        hits: best first.
        as_json: JSON lines in place of all that.
        whole: all lines of each.
        picture: of an image, as text for the terminal.
        file_of: of a document that is a file; None shows ids.
    """
    if as_json:
        print_json(_fields(hit) for hit in hits)
        return
    width = min(shutil.get_terminal_size().columns, WIDEST) - 4
    for i, hit in enumerate(hits, 1):
        rows = list(_rows(hit.text, width))
        shown = rows if whole else _best(rows, hit.matches)
        place = printable(_place(hit, file_of))
        if hit.line is not None:
            place += f":{hit.line + (shown[0].line if shown and _has_its_lines(hit) else 0)}"
        size = _measure(hit)
        click.echo(f"{i:>2}  {hit.score:.3f}  {click.style(place, bold=True)}{size and '  ' + size}")
        for row in shown:
            click.echo(f"    {_marked(hit, row)}".rstrip())
        for line in picture(hit).splitlines() if picture else ():
            click.echo(f"    {line}", color=True)  # in a pipe, too, where it was asked for


def _fields(hit: Hit) -> dict[str, Any]:
    fields = {**asdict(hit), "score": round(hit.score, 6)}
    del fields["matches"]  # places for a terminal's marks
    return fields


def _place(hit: Hit, file_of: Callable[[str], Path] | None) -> str:
    """The path of a hit's file as it can be opened from here, or its document's id."""
    if file_of is None or hit.metadata.get("path") != hit.document:
        return hit.document
    path = file_of(hit.document).absolute()
    try:
        near = os.path.relpath(path)
    except (OSError, ValueError):  # another drive, or no current directory any more
        return str(path)
    return near if len(near) <= len(str(path)) else str(path)


def _has_its_lines(hit: Hit) -> bool:
    """Whether lines of the passage are lines of the file; those of a page's text are not."""
    return hit.metadata.get("suffix") not in (".html", ".htm", ".xhtml")


def _rows(text: str, width: int) -> Iterator[_Row]:
    """The lines of a text, blank ones left out, broken at blanks where they are too long."""
    start = 0
    for number, line in enumerate(text[:_FAR].split("\n")):
        first, end = start, start + len(line.rstrip())
        while end - first > width:
            cut = text.rfind(" ", first + width // 2, first + width)
            cut = first + width if cut < 0 else cut
            yield _Row(first, cut, number)
            first = cut + (text[cut] == " ")
        if text[first:end].strip():
            yield _Row(first, end, number)
        start += len(line) + 1


def _best(rows: Sequence[_Row], matches: Sequence[tuple[int, int]]) -> list[_Row]:
    """The rows in a run that hold the most matches; the first ones where there are none."""
    if not rows:
        return []
    counts = [sum(row.start <= start < row.end for start, _ in matches) for row in rows]
    totals = [sum(counts[i : i + ROWS]) for i in range(max(1, len(rows) - ROWS + 1))]
    first = max(range(len(totals)), key=lambda i: (totals[i], counts[i] > 0, -i))
    return list(rows[first : first + ROWS])


def _marked(hit: Hit, row: _Row) -> str:
    """A row with the words of the query in bold."""
    parts, at = [], row.start
    for start, end in hit.matches:
        if end <= row.start or start >= row.end:
            continue
        start, end = max(start, row.start), min(end, row.end)
        parts += [
            _plain(hit.text[at:start]),
            click.style(_plain(hit.text[start:end]), bold=True, fg="yellow"),
        ]
        at = end
    return "".join([*parts, _plain(hit.text[at : row.end])])


def _plain(text: str) -> str:
    return printable(text.expandtabs(4))


def _measure(hit: Hit) -> str:
    """How large a hit's document is, where its modality shows that."""
    record = modalities().get(hit.modality)
    return record.measure(hit.metadata) if record is not None else ""
