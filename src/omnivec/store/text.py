"""What texts must be to be stored, and which scripts they are in."""

from __future__ import annotations

import re

# SQLite's JSON functions and its tokenizers end a text at NUL, and lone surrogates have no UTF-8.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

# Scripts written without spaces; Hangul is not one. Blocks: https://www.unicode.org/Public/UNIDATA/Blocks.txt
UNSPACED = re.compile(
    # Thai and Lao, Myanmar, Khmer
    "[\u0e00-\u0eff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17ff\u19e0-\u19ff"
    # CJK: iteration marks, kana, bopomofo, ideographs with extensions and compatibility forms, halfwidth kana
    "\u3005-\u3007\u3031-\u3035\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff]+"
)


def has_unspaced(text: str) -> bool:
    """Whether a text holds characters of a script that is written without spaces."""
    return UNSPACED.search(text) is not None


def storable(text: str) -> str:
    """Replaces NUL and lone surrogates by U+FFFD, one for one, so that spans stay right."""
    return _UNSTORABLE.sub("\ufffd", text)
