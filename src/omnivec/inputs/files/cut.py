"""Passages: a text cut where it breaks best, none longer than a model can see.

Every place between two tokens gets a rank. A passage ends at the highest rank in the last part of its window,
the latest of equals; so small paragraphs stay together, and long ones part between sentences.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError

Offsets = NDArray[np.int64]


class Rank(IntEnum):
    """How good it is to begin a passage at a token."""

    INSIDE = 0  # the token shares characters with one before it
    TOKEN = 1
    WORD = 2
    CLAUSE = 3
    NEWLINE = 4
    SENTENCE = 5
    LINE = 6
    PARAGRAPH = 7
    HEADING = 8


# Where something ends. All are possessive or anchored, so that they take time in proportion to the text.
_BEGINS = (
    (Rank.CLAUSE, re.compile(r"[,;:—–](?=\s)|[，、；：]")),
    (Rank.NEWLINE, re.compile(r"\n")),
    # After a whole line of code; before an item of a list, a quoted line, a row or a closing bracket.
    (Rank.LINE, re.compile(r"(?<=[;{}])\n|\n(?=[ \t]*+(?:[-*+•>]\s|\||[}\])]|\d{1,3}[.)]\s))")),
    (Rank.PARAGRAPH, re.compile(r"\n[^\S\n]*+\n|[\f\u2029]")),
)
_SENTENCE = re.compile(
    r"(?<![.!?…।؟۔])[.!?…।؟۔]++[\"'”’»)\]*_]*+(?=\s)|(?<![。！？｡])[。！？｡]++[」』）】”’]*+"
)
_HEADING = re.compile(
    r"^(?:"
    r"(?P<hash>#{1,6})[ \t][^\n]*+(?:\n#[^\n]*+)*+"  # Markdown; several lines are a comment in code
    r"|={1,6}[ ][^\n]*+|\*{2,}[ ][^\n]*+|\\(?:part|chapter|(?:sub)*section)\b[^\n]*+"  # AsciiDoc, Org, LaTeX
    r"|[^\s][^\n]*+\n([=\-~^\"'`#*+.:_])\2{2,}+[ \t]*+$"  # an underline: Markdown, reStructuredText
    r")",
    re.MULTILINE,
)
_SHORT = (
    "mr mrs ms dr prof st mt sr jr rev gen col sgt capt lt hon vs cf e.g i.e eg ie al fig figs eq eqs vol "
    "vols p pp ch sec approx ca dept est inc ltd co corp univ bzw z.b d.h u.a nr str usw vgl sog bspw abb hr fr m "
    "mme mlle art av jan feb mar apr jun jul aug sep sept oct nov dec"
)
_ABBREVIATIONS = frozenset(_SHORT.split())
_LONGEST_ABBREVIATION = 8
_WORD_START = re.compile(r"[\s(\[\"'“‘«]")

# str.isspace() holds for these and no others.
_BLANKS = np.array(
    [
        *range(9, 14),
        *range(28, 33),
        0x85,
        0xA0,
        0x1680,
        *range(0x2000, 0x200B),
        0x2028,
        0x2029,
        0x202F,
        0x205F,
        0x3000,
    ],
    np.uint32,
)


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A passage of a text.

    Attributes:
        start: its first character, no blank.
        end: one past its last character, no blank either.
        tokens: how many tokens of the text it holds.
    """

    start: int
    end: int
    tokens: int


def cut(text: str, spans: Offsets, *, length: int, overlap: int) -> list[TextPiece]:
    """Cut a text into passages of at most `length` tokens.

    Every token that is not blank lies in at least one passage. Each passage but the last brings at least half
    of `length - overlap` new tokens, so there are at most 1 + 2 n / (length - overlap) of them. Takes time in
    proportion to the text.

    Args:
        text: the whole text.
        spans: (n, 2) int64, for each token its first character and one past its last, in the text's order.
        length: most tokens in a passage, at least 1.
        overlap: most tokens that a passage repeats from the one before it, less than `length`; they begin with
            a sentence or a line where one begins there.

    Returns:
        The passages in the order of the text; none for a text without tokens, none that is only blanks.

    Raises:
        UsageError: `length` or `overlap` cannot be meant.
    """
    if length < 1 or not 0 <= overlap < length:
        raise UsageError(
            f"length {length} and overlap {overlap}: length must be 1 or more, overlap less than length"
        )
    tokens = _TrimmedTokens.of(text, np.asarray(spans, np.int64).reshape(-1, 2))
    ranks = _ranks(text, tokens)
    pieces: list[TextPiece] = []
    for first, stop in _windows(ranks, length, overlap):
        piece = tokens.piece(first, stop)
        if piece is not None and (not pieces or piece.end > pieces[-1].end):  # else all that is new is blank
            pieces.append(piece)
    return pieces


def _windows(ranks: NDArray[np.int8], length: int, overlap: int) -> Iterator[tuple[int, int]]:
    """The passages as ranges of tokens."""
    count, fresh = len(ranks), max(1, (length - overlap + 1) // 2)
    first = stop = 0
    while stop < count:
        if first + length >= count:
            yield first, count
            return
        # A window begins at most `overlap` tokens before `stop`, so it reaches past stop + fresh.
        earliest, latest = stop + fresh, first + length
        window = ranks[earliest : latest + 1]
        stop = latest - int(window[::-1].argmax())
        yield first, stop
        first = _repeat_from(ranks, max(stop - overlap, first + 1), stop)


def _repeat_from(ranks: NDArray[np.int8], earliest: int, stop: int) -> int:
    """Where the next passage begins: the first sentence or line of the overlap, else its first word."""
    window = ranks[earliest:stop]
    for least in (Rank.SENTENCE, Rank.NEWLINE, Rank.WORD, Rank.TOKEN):
        good = window >= least
        if good.any():
            return earliest + int(good.argmax())
    return stop


@dataclass(frozen=True, eq=False)
class _TrimmedTokens:
    """The tokens without the blanks around them.

    Attributes:
        blank: (characters + 1,) bool, True for blanks and for the place after the text.
        starts: (n,) the first character that is no blank, at or after each token's start.
        stops: (n,) one past the last character that is no blank, before each token's end.
        reach: (n,) the largest of `stops` before each token.
    """

    blank: NDArray[np.bool_]
    starts: Offsets
    stops: Offsets
    reach: Offsets

    @classmethod
    def of(cls, text: str, spans: Offsets) -> _TrimmedTokens:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        blank = np.append(np.isin(codes, _BLANKS), True)
        places = np.arange(len(blank))
        following = np.minimum.accumulate(np.where(blank, len(text), places)[::-1])[::-1]
        previous = np.concatenate([[0], np.maximum.accumulate(np.where(blank, 0, places + 1))])
        inside = np.clip(spans, 0, len(text))
        stops = previous[inside[:, 1]]
        reach = np.maximum.accumulate(np.append(0, stops))[:-1]
        return cls(blank, following[inside[:, 0]], stops, reach)

    def at(self, places: Iterable[int]) -> NDArray[np.intp]:
        """The tokens that begin at these places in the text or after the blanks there; none reaches across."""
        wanted = np.fromiter(places, np.int64)
        indices = np.searchsorted(self.starts, wanted)
        wanted, indices = wanted[indices < len(self.starts)], indices[indices < len(self.starts)]
        return indices[self.reach[indices] <= wanted]

    def piece(self, first: int, stop: int) -> TextPiece | None:
        """The passage of the tokens from `first` to before `stop`; None where all of them are blank."""
        starts, stops = self.starts[first:stop], self.stops[first:stop]
        full = starts < stops
        if not full.any():
            return None
        return TextPiece(int(starts[full].min()), int(stops[full].max()), stop - first)


def _ranks(text: str, tokens: _TrimmedTokens) -> NDArray[np.int8]:
    """(n,) for each token the rank of the place before it."""
    ranks = np.where(tokens.blank[tokens.starts - 1], Rank.WORD, Rank.TOKEN).astype(np.int8)
    for rank, pattern in _BEGINS:
        _raise(ranks, tokens.at(match.end() for match in pattern.finditer(text)), rank)
    _raise(ranks, tokens.at(_sentence_ends(text)), Rank.SENTENCE)
    headings = list(_HEADING.finditer(text))
    _raise(ranks, tokens.at(match.start() for match in headings), Rank.HEADING)
    # A heading stays with what follows it; a block of "#" lines is a comment and may end where it ends.
    ranks[tokens.at(match.end() for match in headings if not match["hash"] or "\n" not in match[0])] = (
        Rank.TOKEN
    )
    ranks[tokens.starts < tokens.reach] = Rank.INSIDE
    return ranks


def _raise(ranks: NDArray[np.int8], at: NDArray[np.intp], rank: Rank) -> None:
    """Give the places `at` this rank where theirs is lower."""
    ranks[at] = np.maximum(ranks[at], rank)


def _sentence_ends(text: str) -> Iterator[int]:
    """Where sentences end: not after "e.g." or the initials of a name, nor before a small letter."""
    for match in _SENTENCE.finditer(text):
        if match[0].startswith("."):
            before = text[max(0, match.start() - _LONGEST_ABBREVIATION) : match.start()]
            word = _WORD_START.split(before)[-1]
            initial = len(word) == 1 and word.isupper()
            if initial or word.lower() in _ABBREVIATIONS or text[match.end() + 1 : match.end() + 2].islower():
                continue
        yield match.end()
