"""Search results as an HTML page in a single file, with style and thumbnails, that needs no network."""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from omnivec.errors import UsageError
from omnivec.files import check_target, written
from omnivec.inputs.modality import modalities, of
from omnivec.types import Hit
from omnivec.validation.reasons import of_item
from omnivec.viewer.extents import extent
from omnivec.viewer.thumbnails import data_uri

Thumbnail = Callable[[Path, int, int], Any]
"""(file, largest width, largest height) -> a PIL image."""

SIDE = 256
"""Largest width and height of a thumbnail in pixels."""

_LONG_TEXT, _MANY_LINES = 600, 6
_LONGEST_TITLE = 80

# Characters that are shown as escapes: control characters, surrogates, which stand for bytes that are not UTF-8, and
# those that change the direction of the text around them. In names, which are one line, also line breaks and
# directional marks, which texts in some scripts need.
_UNSAFE = r"\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069"
_IN_TEXTS = re.compile(f"[{_UNSAFE}]")
_IN_NAMES = re.compile(f"[{_UNSAFE}\\t\\n\\u061c\\u200e\\u200f\\u2028\\u2029]")

_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
{style}</style>
{header}
<main>
{main}
</main>
</html>
"""


def page(query: str | Path, hits: Sequence[Hit], file_of: Callable[[str], Path]) -> str:
    """The HTML page of a search.

    Args:
        query: a text, or the file of an image, which is then shown.
        hits: the results, best first.
        file_of: id of a document -> its file; files that do not exist are not linked.
    """
    sections: dict[str, list[str]] = {}  # that of the best hit stands first
    for rank, hit in enumerate(hits, 1):
        kind, item = ("pictures", _picture) if _thumbnail(hit.modality) else ("passages", _passage)
        sections.setdefault(kind, []).append(item(rank, hit, file_of(hit.document)))
    titled = len(sections) > 1
    name = query.name if isinstance(query, Path) else " ".join(query.split())
    return _PAGE.format(
        policy=_POLICY,
        title=f"{_name(name[:_LONGEST_TITLE])} - omnivec",
        style=files("omnivec.viewer").joinpath("page.css").read_text(encoding="utf-8"),
        header=_header(query, f"{len(hits):,} found" if hits else "Nothing was found."),
        main="\n".join(_section(kind, items, titled) for kind, items in sections.items()),
    )


def check_page(path: Path) -> None:
    """Raises UsageError if no page can be written to this path; called before the work whose results it shows."""
    if str(path) == "-":
        raise UsageError("a page is written to a file, not to standard output: name one, such as found.html")
    check_target(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path} is not the name of a page: give one that ends in .html")


def write_page(path: Path, content: str) -> None:
    """Writes a page atomically; an existing one is replaced.

    Raises:
        UsageError: the path is a folder, or in a folder that does not exist.
        OmnivecError: the file cannot be written.
    """
    check_page(path)
    with written(path) as scratch:
        scratch.write_text(content, encoding="utf-8", newline="\n")


def _thumbnail(modality: str) -> Thumbnail | None:
    """The function that makes thumbnails of a modality; None for one that is shown by its text."""
    record = modalities().get(modality)
    return None if record is None else record.thumbnail


def _header(query: str | Path, count: str) -> str:
    if isinstance(query, str):
        return f'<header>\n<h1 dir="auto">{_text(query)}</h1>\n<p>{count}</p>\n</header>'
    about = f"<div>\n<h1><bdi>{_name(query.name)}</bdi></h1>\n<p>{count}</p>\n</div>"
    shown = _image(query, of(query)) or _player(query, of(query), (0.0, math.inf))
    return f'<header class="picture">\n{shown}\n{about}\n</header>'


def _section(kind: str, items: Sequence[str], titled: bool) -> str:
    title = f"<h2>{kind.capitalize()}</h2>\n" if titled else ""
    return "\n".join([f'{title}<ol class="{kind}">', *items, "</ol>"])


def _picture(rank: int, hit: Hit, file: Path) -> str:
    plate = _linked("plate", _image(file, hit.modality), file)
    about = f'<div class="about">{_named(hit, file)}{_facts(rank, hit)}</div>'
    return f"<li>{plate}\n{about}</li>"


def _passage(rank: int, hit: Hit, file: Path) -> str:
    return f"<li>{_named(hit, file)}{_facts(rank, hit)}\n{_player(file, hit.modality, hit.span)}{_body(hit.text)}</li>"


def _player(file: Path, modality: str, span: tuple[float, float]) -> str:
    """The markup that plays a part of a file, or why it cannot be; "" for a modality that is not played."""
    record = modalities().get(modality)
    if record is None or record.excerpt is None:
        return ""
    try:
        media, content = record.excerpt(file, *span)
    except BaseException as error:
        why = of_item(error).removeprefix(f"{file}: ")
        return f'<span class="why">{_name(why)}</span>\n'
    element = media.partition("/")[0]
    uri = f"data:{media};base64,{base64.b64encode(content).decode()}"
    return f'<{element} controls preload="metadata" src="{uri}" title="{_name(file.name)}"></{element}>\n'


def _body(text: str) -> str:
    """The markup of a text; a long one is folded, and unfolds by a click."""
    if not text:
        return ""
    if len(text) > _LONG_TEXT or text.count("\n") >= _MANY_LINES:
        return f'<details><summary class="text" dir="auto">{_text(text)}</summary></details>'
    return f'<p class="text" dir="auto">{_text(text)}</p>'


def _facts(rank: int, hit: Hit) -> str:
    facts = [
        f'<span class="rank">{rank}</span>',
        f"<span>{hit.score:.3f}</span>",
        f"<span>{_name(hit.space)}</span>",
    ]
    record = modalities().get(hit.modality)
    if times := extent(hit):
        facts.append(f"<span>{times}</span>")
    if size := record.measure(hit.metadata) if record else "":
        facts.append(f"<span>{size.replace('x', '×')}</span>")
    return f'<div class="facts">{"".join(facts)}</div>'


def _named(hit: Hit, file: Path) -> str:
    line = "" if hit.line is None else f":{hit.line}"
    return _linked("name", f"<bdi>{_name(hit.document)}</bdi>{line}", file)


def _linked(kind: str, content: str, file: Path) -> str:
    """Markup with a link to a file; without one if there is no file, as for texts that were added from memory."""
    try:
        exists = file.is_file()
    except OSError:  # The folder cannot be entered, or an id is too long for the name of a file.
        exists = False
    return (
        f'<a class="{kind}" href="{_uri(file)}">{content}</a>'
        if exists
        else f'<span class="{kind}">{content}</span>'
    )


def _image(file: Path, modality: str) -> str:
    """The thumbnail of a file, or why there is none; "" for a modality without thumbnails."""
    make = _thumbnail(modality)
    if make is None:
        return ""
    try:
        small = make(file, SIDE, SIDE)
        uri = data_uri(small)
    except BaseException as error:
        why = of_item(error).removeprefix(f"{file}: ")
        return f'<span class="why">{_name(why)}</span>'
    sides = f'width="{small.width}" height="{small.height}"'
    return f'<img src="{uri}" {sides} alt="{_name(file.name)}">'


def _uri(file: Path) -> str:
    return html.escape(file.absolute().as_uri())


def _text(text: str) -> str:
    """Escapes a text for use between tags."""
    return html.escape(_IN_TEXTS.sub(_escaped, text.replace("\r\n", "\n")))


def _name(name: str) -> str:
    """Escapes a name for use between tags or in an attribute, on one line."""
    return html.escape(_IN_NAMES.sub(_escaped, name))


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
