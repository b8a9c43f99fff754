"""Splits a text into passages at its best boundaries, none longer than a model can read.

Each token gets a rank, which says how good a place it is to begin a passage. A passage is a window of at most `length`
tokens; it ends before the token with the highest rank in the last part of its window, the last of equal ones. So small
paragraphs stay together, and long ones are split between sentences.

Example: `cut(text, spans, length=6, overlap=2)` with one token for each word and punctuation mark.

    text   One two . Three four ! Five , six seven .
    token   0   1  2   3    4   5  6   7  8   9   10
    rank    2   2  1   5    2   1  5   1  3   2   1      1 TOKEN, 2 WORD, 3 CLAUSE, 5 SENTENCE

    A passage must have at least (6 - 2 + 1) // 2 = 2 new tokens.
    window 0 to 6: candidates for the end are 2 to 6; rank 5 at 3 and 6, the last is 6  ->  tokens 0 to 6
    the overlap may begin at 4 or later; no sentence or line begins at 4 or 5, a word at 4  ->  begin at 4
    window 4 to 10: candidates are 8 to 10; the highest rank is 3 at 8                  ->  tokens 4 to 8
    the overlap may begin at 6 or later, where a sentence begins                        ->  begin at 6
    window 6 to 11: it reaches the end of the text                                      ->  tokens 6 to 11

The passages are "One two. Three four!", "four! Five," and "Five, six seven.".
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
    """How good a place a token is to begin a passage; higher is better."""

    INSIDE = 0  # the token shares characters with one before it
    TOKEN = 1
    WORD = 2
    CLAUSE = 3
    NEWLINE = 4
    SENTENCE = 5
    LINE = 6
    PARAGRAPH = 7
    HEADING = 8


# Patterns for the ends of something. All are possessive or anchored, so that they take linear time.
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

# The characters for which str.isspace() is true.
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
        start: start offset in characters; not at white space.
        end: end offset in characters, exclusive; not after white space.
        tokens: number of tokens in it.
    """

    start: int
    end: int
    tokens: int


def cut(text: str, spans: Offsets, *, length: int, overlap: int) -> list[TextPiece]:
    """Splits a text into passages of at most `length` tokens.

    Every token that is not white space is in at least one passage. Each passage but the last has at least half of
    `length - overlap` new tokens, so there are at most 1 + 2 n / (length - overlap) passages. Takes linear time.

    Args:
        text: the whole text.
        spans: (n, 2) int64, start and end offsets of each token in characters, end exclusive, in order.
        length: largest number of tokens in a passage, at least 1.
        overlap: largest number of tokens that a passage repeats from the one before it, less than `length`; the
            repeated tokens begin with a sentence or a line if possible.

    Returns:
        The passages in the order of the text; empty for a text without tokens other than white space.

    Raises:
        UsageError: `length` or `overlap` is out of range.
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
        if piece is not None and (
            not pieces or piece.end > pieces[-1].end
        ):  # else all new tokens are white space
            pieces.append(piece)
    return pieces


def _windows(ranks: NDArray[np.int8], length: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Yields the passages as ranges of tokens, end exclusive."""
    count, fresh = len(ranks), max(1, (length - overlap + 1) // 2)
    first = stop = 0
    while stop < count:
        if first + length >= count:
            yield first, count
            return
        # The window begins at most `overlap` tokens before `stop`, so latest >= earliest.
        earliest, latest = stop + fresh, first + length
        window = ranks[earliest : latest + 1]
        stop = latest - int(window[::-1].argmax())
        yield first, stop
        first = _repeat_from(ranks, max(stop - overlap, first + 1), stop)


def _repeat_from(ranks: NDArray[np.int8], earliest: int, stop: int) -> int:
    """Returns where the next passage begins: at the first sentence or line in the overlap, else at its first word."""
    window = ranks[earliest:stop]
    for least in (Rank.SENTENCE, Rank.NEWLINE, Rank.WORD, Rank.TOKEN):
        good = window >= least
        if good.any():
            return earliest + int(good.argmax())
    return stop


@dataclass(frozen=True, eq=False)
class _TrimmedTokens:
    """The tokens without the white space around them.

    Attributes:
        blank: (characters + 1,) bool, True for white space and for the end of the text.
        starts: (n,) the first character that is not white space, at or after the start of each token.
        stops: (n,) the end of the last character that is not white space before the end of each token.
        reach: (n,) the largest of `stops` of the tokens before each token.
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
        """Returns the tokens that begin at these offsets or after white space there, if no earlier token overlaps."""
        wanted = np.fromiter(places, np.int64)
        indices = np.searchsorted(self.starts, wanted)
        wanted, indices = wanted[indices < len(self.starts)], indices[indices < len(self.starts)]
        return indices[self.reach[indices] <= wanted]

    def piece(self, first: int, stop: int) -> TextPiece | None:
        """Returns the passage of the tokens from `first` to before `stop`; None if all are white space."""
        starts, stops = self.starts[first:stop], self.stops[first:stop]
        full = starts < stops
        if not full.any():
            return None
        return TextPiece(int(starts[full].min()), int(stops[full].max()), stop - first)


def _ranks(text: str, tokens: _TrimmedTokens) -> NDArray[np.int8]:
    """Returns the rank (n,) of each token."""
    ranks = np.where(tokens.blank[tokens.starts - 1], Rank.WORD, Rank.TOKEN).astype(np.int8)
    for rank, pattern in _BEGINS:
        _raise(ranks, tokens.at(match.end() for match in pattern.finditer(text)), rank)
    _raise(ranks, tokens.at(_sentence_ends(text)), Rank.SENTENCE)
    headings = list(_HEADING.finditer(text))
    _raise(ranks, tokens.at(match.start() for match in headings), Rank.HEADING)
    # A passage does not begin right after a heading; several "#" lines are a comment, after which it may.
    ranks[tokens.at(match.end() for match in headings if not match["hash"] or "\n" not in match[0])] = (
        Rank.TOKEN
    )
    ranks[tokens.starts < tokens.reach] = Rank.INSIDE
    return ranks


def _raise(ranks: NDArray[np.int8], at: NDArray[np.intp], rank: Rank) -> None:
    """Raises the ranks of the tokens `at` to at least `rank`."""
    ranks[at] = np.maximum(ranks[at], rank)


def _sentence_ends(text: str) -> Iterator[int]:
    """Yields the ends of sentences: not after "e.g." or the initials of a name, nor before a lower-case letter."""
    for match in _SENTENCE.finditer(text):
        if match[0].startswith("."):
            before = text[max(0, match.start() - _LONGEST_ABBREVIATION) : match.start()]
            word = _WORD_START.split(before)[-1]
            initial = len(word) == 1 and word.isupper()
            if initial or word.lower() in _ABBREVIATIONS or text[match.end() + 1 : match.end() + 2].islower():
                continue
        yield match.end()
