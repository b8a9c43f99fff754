"""Extracts the text of HTML pages, with the line numbers of the source.

The parser of the standard library takes quadratic time for malicious markup (a minute for 100 kB of "<a "). The single
regular expression used here always matches and never backtracks, like the tokenizer of the HTML standard (whatwg,
section 13.2.5), and so takes linear time.
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
    | <!-- (?: -?> | .*? (?: --!?> | \Z ) )                # a comment; without an end, all the rest is one
    | < (?P<close>/?) (?P<name>[a-zA-Z][^\s/>]*+)
        (?: [^>=]++ | =\s*+ (?: "[^"]*+"?+ | '[^']*+'?+ )?+ )*+ >?+  # only a quote after "=" can contain a ">"
    | <[!?/] [^>]*+ >?+                                    # doctype, processing instruction, stray end
    """,
    re.VERBOSE | re.DOTALL,
)
_SPACE = re.compile(r"[ \t\n\f]+")

# Elements whose content is not markup and ends only at their end tag. The content of the first three is text.
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
    r"""Extracts the text of an HTML page: the title, then the body; malformed markup is read as by browsers.

    Scripts, styles, templates and content for browsers without scripts are left out. Paragraphs are separated by a
    blank line; items of lists and rows of tables are on separate lines, and `<br>` begins one; cells are separated by
    " | "; `<pre>` keeps its lines and spaces. Takes linear time.

    Args:
        source: source of the page, with lines that end with \n.

    Returns:
        The text, and the line starts that map its characters to lines of the source.
    """
    page = _TextBuilder()
    line = position = 0
    hidden_depth = 0
    while position < len(source):
        token = _TOKEN.match(source, position)
        if token is None:  # does not happen: the alternatives cover everything; it prevents an endless loop
            break
        start, end, name = position, token.end(), (token["name"] or "").lower()
        if name == "template":
            hidden_depth = max(0, hidden_depth + (-1 if token["close"] else 1))
        elif not hidden_depth and name:
            page.tag(name, closes=bool(token["close"]))
        elif not hidden_depth and token["text"]:
            page.text(token["text"], line)
        if (
            name in _RAW and not token["close"] and not token[0].endswith("/>")
        ):  # "/>" closes the element in XHTML
            stop = _end_of_raw(source, end, name)
            if name in _RAW_TEXT and not hidden_depth:
                page.text(source[end:stop], line + source.count("\n", start, end))
            end = stop
        line += source.count("\n", start, end)
        position = end
    return page.finish()


def _end_of_raw(source: str, start: int, name: str) -> int:
    """Returns the start of the end tag of a raw element; without one, the end of the source, as in browsers."""
    match = re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE).search(source, start)
    return match.start() if match else len(source)


@dataclass
class _TextBuilder:
    """Builds the text. `gap` is the separator before the next piece of text."""

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
        """Adds the text between two tags; `line` is the number of line ends before it in the source."""
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
        """Requests a separator before the next piece of text; the strongest one is used."""
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
    """Replaces character references, except those with numbers too long for Python's int."""
    try:
        return unescape(text)
    except ValueError:
        return text
