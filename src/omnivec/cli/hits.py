"""Prints the results of a search: the place of each passage, and those of its lines that match the query."""

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
from omnivec.viewer.extents import extent

ROWS = 4
"""Number of rows shown of each passage."""
WIDEST = 110
"""Largest width of a row, in characters."""
_FAR = 20_000
"""Number of characters of a passage that are searched for the best rows."""


class _TextRow(NamedTuple):
    """A row of the terminal: start and end offsets in the text, end exclusive, and the number of the line, from 0."""

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
    """Prints search results: score and place on one line, below it the matching lines, or an image as a picture.

    Args:
        hits: the results, best first.
        as_json: whether to print JSON lines instead.
        whole: whether to print all lines of each passage.
        picture: returns the picture of a hit as text for the terminal, "" if it has none; None prints no pictures.
        file_of: returns the file of a document; None prints the ids of documents instead of paths.
    """
    if as_json:
        print_json(fields(hit) for hit in hits)
        return
    width = min(shutil.get_terminal_size().columns, WIDEST) - 4
    for i, hit in enumerate(hits, 1):
        rows = list(_rows(hit.text, width))
        shown = rows if whole else _best(rows, hit.matches)
        place = printable(_place(hit, file_of))
        if hit.line is not None:
            place += f":{hit.line + (shown[0].line if shown and _has_its_lines(hit) else 0)}"
        facts = "".join(f"  {fact}" for fact in (extent(hit), _measure(hit)) if fact)
        click.echo(f"{i:>2}  {hit.score:.3f}  {click.style(place, bold=True)}{facts}")
        for row in shown:
            click.echo(f"    {_marked(hit, row)}".rstrip())
        for line in picture(hit).splitlines() if picture else ():
            click.echo(
                f"    {line}", color=True
            )  # with colour codes even in a pipe: there, pictures are shown only on request


def fields(hit: Hit) -> dict[str, Any]:
    """The fields of a hit as they are printed in JSON, without `matches`."""
    shown = {**asdict(hit), "score": round(hit.score, 6)}
    del shown["matches"]  # only used to mark words in a terminal
    return shown


def _place(hit: Hit, file_of: Callable[[str], Path] | None) -> str:
    """Returns the path of a hit's file, relative to the current folder if that is shorter, or its document's id."""
    if file_of is None or hit.metadata.get("path") != hit.document:
        return hit.document
    path = file_of(hit.document).absolute()
    try:
        near = os.path.relpath(path)
    except (OSError, ValueError):  # it is on another drive, or the current directory was removed
        return str(path)
    return near if len(near) <= len(str(path)) else str(path)


def _has_its_lines(hit: Hit) -> bool:
    """Whether line numbers of the passage are those of the file, which is not so for the text of an HTML page."""
    return hit.metadata.get("suffix") not in (".html", ".htm", ".xhtml")


def _rows(text: str, width: int) -> Iterator[_TextRow]:
    """Splits a text into rows: its lines without the blank ones, long ones wrapped at spaces."""
    start = 0
    for number, line in enumerate(text[:_FAR].split("\n")):
        first, end = start, start + len(line.rstrip())
        while end - first > width:
            cut = text.rfind(" ", first + width // 2, first + width)
            cut = first + width if cut < 0 else cut
            yield _TextRow(first, cut, number)
            first = cut + (text[cut] == " ")
        if text[first:end].strip():
            yield _TextRow(first, end, number)
        start += len(line) + 1


def _best(rows: Sequence[_TextRow], matches: Sequence[tuple[int, int]]) -> list[_TextRow]:
    """Returns the `ROWS` consecutive rows with the most matches; the first rows if there are no matches."""
    if not rows:
        return []
    counts = [sum(row.start <= start < row.end for start, _ in matches) for row in rows]
    totals = [sum(counts[i : i + ROWS]) for i in range(max(1, len(rows) - ROWS + 1))]
    first = max(range(len(totals)), key=lambda i: (totals[i], counts[i] > 0, -i))
    return list(rows[first : first + ROWS])


def _marked(hit: Hit, row: _TextRow) -> str:
    """Returns a row with the words of the query in bold."""
    pieces, at = [], row.start
    for start, end in hit.matches:
        if end <= row.start or start >= row.end:
            continue
        start, end = max(start, row.start), min(end, row.end)
        pieces += [
            _plain(hit.text[at:start]),
            click.style(_plain(hit.text[start:end]), bold=True, fg="yellow"),
        ]
        at = end
    return "".join([*pieces, _plain(hit.text[at : row.end])])


def _plain(text: str) -> str:
    return printable(text.expandtabs(4))


def _measure(hit: Hit) -> str:
    """Returns the size of a hit's document, such as "640 x 480"; "" if its modality shows none."""
    record = modalities().get(hit.modality)
    return record.measure(hit.metadata) if record is not None else ""
