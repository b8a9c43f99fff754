"""HTML to text, each piece of it with the line it stood on.

The standard library's parser takes time that grows with the square of the input on markup that was made to
hurt (100 kB of "<a " cost it a minute). One regular expression that always matches and never goes back, as the
tokenizer of the HTML standard (whatwg, section 13.2.5) never does, takes time in proportion.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import unescape

import numpy as np

from omnivec.inputs.files.lines import LineStarts

_TOKEN = re.compile(
    r"""
      (?P<text> (?: [^<]++ | <(?![a-zA-Z!?/]) )++ )
    | <!-- (?: -?> | .*? (?: --!?> | \Z ) )                # a comment; without an end it is all the rest
    | < (?P<close>/?) (?P<name>[a-zA-Z][^\s/>]*+)
        (?: [^>=]++ | =\s*+ (?: "[^"]*+"?+ | '[^']*+'?+ )?+ )*+ >?+  # only after "=" can quotes hide a ">"
    | <[!?/] [^>]*+ >?+                                    # doctype, processing instruction, stray end
    """,
    re.VERBOSE | re.DOTALL,
)
_SPACE = re.compile(r"[ \t\n\f]+")

# Their content is no markup: it ends at their own end tag only. The first three hold text.
_RAW_TEXT = frozenset(("title", "textarea", "xmp"))
_RAW = _RAW_TEXT | {"script", "style", "noscript", "iframe", "noembed", "noframes"}

_PARAGRAPH, _LINE, _CELL, _BLANK, _NOTHING = "\n\n", "\n", " | ", " ", ""
_STRENGTH = {gap: -n for n, gap in enumerate((_PARAGRAPH, _LINE, _CELL, _BLANK, _NOTHING))}
_GAPS = {
    _PARAGRAPH: "address article aside blockquote body caption center details dialog div dl fieldset "
    "figcaption figure footer form h1 h2 h3 h4 h5 h6 head header hgroup hr html legend main menu nav ol p pre search "
    "section table tbody textarea tfoot thead title ul",
    _LINE: "br dd dt li optgroup option summary tr",
    _CELL: "td th",
    _BLANK: "button input label select",
}
_GAP_OF = {name: gap for gap, names in _GAPS.items() for name in names.split()}


def extract(source: str) -> tuple[str, LineStarts]:
    r"""The text of an HTML page: the title, then the body; malformed markup is read as browsers do.

    Scripts, styles, templates and what is for browsers without scripts are left out. Paragraphs are parted by
    a blank line; items of lists, rows of tables and `<br>` stand on lines of their own; cells are parted by
    " | "; `<pre>` keeps its lines and blanks.

    Args:
        source: of the page, its lines ended by \n.

    Returns:
        The text, and for each of its characters the line of the source; in time linear in the source.
    """
    page = _TextBuilder()
    line = position = 0
    hidden_depth = 0
    while position < len(source):
        token = _TOKEN.match(source, position)
        if token is None:  # the alternatives leave nothing; a slip there must not loop for ever
            break
        start, end, name = position, token.end(), (token["name"] or "").lower()
        if name == "template":
            hidden_depth = max(0, hidden_depth + (-1 if token["close"] else 1))
        elif not hidden_depth and name:
            page.tag(name, closes=bool(token["close"]))
        elif not hidden_depth and token["text"]:
            page.text(token["text"], line)
        if name in _RAW and not token["close"] and not token[0].endswith("/>"):  # "/>" as XHTML means it
            stop = _end_of_raw(source, end, name)
            if name in _RAW_TEXT and not hidden_depth:
                page.text(source[end:stop], line + source.count("\n", start, end))
            end = stop
        line += source.count("\n", start, end)
        position = end
    return page.finish()


def _end_of_raw(source: str, start: int, name: str) -> int:
    """Where the end tag of a raw element begins; without one that is the end of the source, as in browsers."""
    match = re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE).search(source, start)
    return match.start() if match else len(source)


@dataclass
class _TextBuilder:
    """The text as it grows. `gap` is what will part what comes next from what is there."""

    parts: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    length: int = 0
    gap: str = _NOTHING
    bullet: str = ""
    pre_depth: int = 0

    def tag(self, name: str, *, closes: bool) -> None:
        if name == "pre":
            self.pre_depth = max(0, self.pre_depth + (-1 if closes else 1))
        self._part(_GAP_OF.get(name, _NOTHING))
        if name == "li":
            self.bullet = "" if closes else "- "

    def text(self, raw: str, line: int) -> None:
        """Add the text between two tags; `line` counts the source's line ends before it."""
        for number, part in enumerate(raw.split("\n"), line + 1):
            if self.pre_depth:
                if number > line + 1:
                    self._part(_PARAGRAPH if self.gap == _LINE else _LINE)
                self._write(_decode(part), number)
                continue
            if number > line + 1:
                self._part(_BLANK)
            words = _SPACE.sub(" ", _decode(part))
            if words.startswith(" "):
                self._part(_BLANK)
            self._write(words.strip(" "), number)
            if words.endswith(" "):
                self._part(_BLANK)

    def finish(self) -> tuple[str, LineStarts]:
        starts, numbers = np.array([0, *self.starts], np.int64), np.array([1, *self.numbers], np.int64)
        return "".join(self.parts), LineStarts(starts, numbers)

    def _part(self, gap: str) -> None:
        """Ask for a gap; the strongest asked for counts."""
        self.gap = max(self.gap, gap, key=_STRENGTH.__getitem__)

    def _write(self, text: str, number: int) -> None:
        if not text:
            return
        lead = (self.gap if self.parts else "") + self.bullet
        self.starts.append(self.length + len(lead))
        self.numbers.append(number)
        self.parts.append(lead + text)
        self.length += len(lead) + len(text)
        self.gap, self.bullet = _NOTHING, ""


def _decode(text: str) -> str:
    """Character references replaced; numbers too long for Python's int stay as they are."""
    try:
        return unescape(text)
    except ValueError:
        return text
