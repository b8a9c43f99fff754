"""Texts for storage and for full-text search: characters that cannot be stored, scripts, and the searched form."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache

# SQLite's JSON functions and its tokenizers end a text at NUL, and lone surrogates cannot be encoded in UTF-8.
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

# Scripts that are separated from the words of others. Hangul has spaces, but its particles follow a foreign word or a
# number without one: 2024년, iPhone을.
_APART = f"[{_UNSPACED}\u1100-\u11ff\uac00-\ud7a3]"

# A word in ASCII. The patterns for all scripts take milliseconds to compile, so they are compiled at their first use.
_PLAIN_WORD = re.compile("[^\\W_]+")

# Symbols that stand for letters, such as ™ and ㎏, become separate words: letterlike, enclosed, and CJK symbols.
_SYMBOL = re.compile("[\u2100-\u214f\u2460-\u24ff\u3200-\u33ff]")


@cache
def _border() -> re.Pattern[str]:
    """A position at which a script without spaces, or Hangul, touches a word in another script."""
    return re.compile(rf"(?<={_APART})(?=\w)(?!{_APART})|(?<=\w)(?<!{_APART})(?={_APART})")


@cache
def _word() -> re.Pattern[str]:
    """A word with the combining marks on its letters, or a run of a script without spaces."""
    return re.compile(rf"{_APART}+|(?:(?!{_APART})[^\W_\u0300-\u036f][\u0300-\u036f]*)+")


def words_in(text: str) -> Iterator[re.Match[str]]:
    """The words of a text, and its runs of scripts written without spaces, in order."""
    return (_PLAIN_WORD if text.isascii() else _word()).finditer(text)


def has_unspaced(text: str) -> bool:
    """Whether a text, in the searched form, has characters of a script that is written without spaces."""
    return not text.isascii() and UNSPACED.search(text) is not None


def storable(text: str) -> str:
    """Replaces NUL and lone surrogates by U+FFFD, one for one, so that offsets do not change."""
    if type(text) is str and text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def searchable(text: str) -> str:
    """A text in the form in which it is indexed and searched.

    Compatibility forms become plain ones (ligatures, full-width Latin, half-width kana: NFKC), soft hyphens are
    removed, and a space is put between scripts written without spaces, or Hangul, and words and numbers beside them.

    Examples:
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
