"""What texts must be to be stored, which scripts they are in, and the form in which they are searched."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache

# SQLite's JSON functions and its tokenizers end a text at NUL, and lone surrogates have no UTF-8.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

# Scripts written without spaces; Hangul is not one. Blocks: https://www.unicode.org/Public/UNIDATA/Blocks.txt
_UNSPACED = (
    # Thai and Lao, Myanmar, Khmer
    "\u0e00-\u0eff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17ff\u19e0-\u19ff"
    # CJK: iteration marks, kana, bopomofo, ideographs with extensions and compatibility forms, halfwidth kana
    "\u3005-\u3007\u3031-\u3035\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
UNSPACED = re.compile(f"[{_UNSPACED}]+")

# Hangul has spaces, but its particles follow a foreign word or a number without one: 2024년, iPhone을.
_APART = f"[{_UNSPACED}\u1100-\u11ff\uac00-\ud7a3]"

# A word of ASCII. The patterns of all scripts take milliseconds to compile, and are made when a text needs them.
_PLAIN_WORD = re.compile("[^\\W_]+")

# Symbols that stand for letters, such as ™ and ㎏, are words of their own: letterlike, enclosed, of East Asia.
_SYMBOL = re.compile("[\u2100-\u214f\u2460-\u24ff\u3200-\u33ff]")


@cache
def _border() -> re.Pattern[str]:
    """Where a script without spaces, or Hangul, touches a word of another."""
    return re.compile(rf"(?<={_APART})(?=\w)(?!{_APART})|(?<=\w)(?<!{_APART})(?={_APART})")


@cache
def _word() -> re.Pattern[str]:
    """A word, or a run of a script without spaces, with the marks on its letters."""
    return re.compile(rf"{_APART}+|(?:(?!{_APART})[^\W_\u0300-\u036f][\u0300-\u036f]*)+")


def words_in(text: str) -> Iterator[re.Match[str]]:
    """The words of a text, and its runs of scripts written without spaces, in order."""
    return (_PLAIN_WORD if text.isascii() else _word()).finditer(text)


def has_unspaced(text: str) -> bool:
    """Whether a text, in the form that is searched, holds characters of a script that is written without spaces."""
    return UNSPACED.search(text) is not None


def storable(text: str) -> str:
    """Replaces NUL and lone surrogates by U+FFFD, one for one, so that spans stay right."""
    return _UNSTORABLE.sub("\ufffd", text)


def searchable(text: str) -> str:
    """A text as full-text search reads it.

    Compatibility forms become plain ones (ligatures, full-width Latin, half-width kana: NFKC), soft hyphens go, and a
    space parts scripts written without spaces, and Hangul, from the words and numbers that touch them.

    Example:
        >>> searchable("２０２４年のiPhoneを")
        '2024 年の iPhone を'
    """
    if text.isascii():
        return text
    spaced = _SYMBOL.sub(_alone, text.replace("\xad", ""))
    return _border().sub(" ", unicodedata.normalize("NFKC", spaced))


def _alone(match: re.Match[str]) -> str:
    symbol = match[0]
    return f" {symbol} " if unicodedata.category(symbol) == "So" else symbol
