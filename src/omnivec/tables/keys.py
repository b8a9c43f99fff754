"""Splits text into words that have a row in a table of words.

Text is first split at whitespace, as `whitespace` describes. A chunk that is not a key is split again, at punctuation,
and a piece that is still not a key once more, at hyphens, apostrophes and points. Each piece is looked up as it is,
then in lower case. So a table trained on text that was split at whitespace finds every word of it, and a published
table with other rules finds words without the punctuation around them:

    KeyCutter(["new", "york", "co-op"]).words('"New York", a co-op.')     ["new", "york", "co-op"]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from omnivec.inputs.text.whitespace import WORD
from omnivec.types import Ints

UNIT = "words"
_CHUNK_WORD = re.compile(r"\w+(?:['’.-]\w+)*|[^\w\s]")
_SIMPLE_WORD = re.compile(r"\w+|[^\w\s]")


class KeyCutter:
    """Finds a table's words in texts; safe to call from several threads.

    Attributes:
        rows: the row of each key.
        lower: whether texts are lower-cased, because no key has upper case.
    """

    def __init__(
        self, keys: Sequence[str], known: Callable[[str], bool] | None = None, *, whole: bool = False
    ) -> None:
        """Indexes a table's keys.

        Args:
            keys: the keys, in the order of their rows.
            known: tells whether a word without a row has a vector anyway (from subwords); None: no word has.
            whole: split at whitespace only.
        """
        self.rows: Mapping[str, int] = {key: row for row, key in enumerate(keys)}
        self.lower = all(key == key.lower() for key in keys)
        self._known = known or (lambda word: False)
        self._whole = whole

    def words(self, text: str) -> list[str]:
        """The words of a text that have a vector, spelled as in the table."""
        return [word for word, _, _ in self._matches(text)]

    def flat(self, texts: Sequence[str]) -> tuple[Ints, Ints]:
        """Rows of the words of n texts, concatenated, and the offset of each text (n + 1,); int64."""
        rows: list[int] = []
        offsets = np.zeros(len(texts) + 1, np.int64)
        for i, text in enumerate(texts):
            rows += [self.rows[word] for word, _, _ in self._matches(text)]
            offsets[i + 1] = len(rows)
        return np.array(rows, np.int64), offsets

    def spans(self, text: str) -> NDArray[np.int64]:
        """Start and end offsets (n, 2) int64, end exclusive, in characters, of each word that has a vector."""
        return np.array([(start, end) for _, start, end in self._matches(text)], np.int64).reshape(-1, 2)

    def _matches(self, text: str) -> Iterator[tuple[str, int, int]]:
        for chunk in WORD.finditer(text):
            word = self._as_key(chunk.group())
            if word is not None:
                yield word, chunk.start(), chunk.end()
            if word is not None or self._whole:
                continue
            for part in _CHUNK_WORD.finditer(text, chunk.start(), chunk.end()):
                word = self._as_key(part.group())
                if word is not None:
                    yield word, part.start(), part.end()
                    continue
                for piece in _SIMPLE_WORD.finditer(text, part.start(), part.end()):
                    word = self._as_key(piece.group())
                    if word is None and self._known(piece.group()):
                        word = piece.group().lower() if self.lower else piece.group()
                    if word is not None:
                        yield word, piece.start(), piece.end()

    def _as_key(self, word: str) -> str | None:
        """The key that a word matches, as it is or in lower case; None if there is none."""
        if not self.lower and word in self.rows:
            return word
        low = word.lower()
        return low if low in self.rows and (self.lower or not self._whole) else None
