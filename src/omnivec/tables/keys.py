"""Text to rows of a table of words, in words: as they stand between blanks (`whitespace`), else as their parts.

A table trained on text cut at blanks finds every word of it. A published one, cut by other rules, finds words without
the punctuation that clings to them, in the case that it knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from omnivec.inputs.text.whitespace import WORD
from omnivec.types import Ints

UNIT = "words"
_PART = re.compile(r"\w+(?:['’.-]\w+)*|[^\w\s]")
_WORD = re.compile(r"\w+|[^\w\s]")


class KeyCutter:
    """Text to words, and words to rows; safe to call from several threads.

    Attributes:
        lower: whether texts are lower-cased: the table has no upper case.
    """

    def __init__(
        self, keys: Sequence[str], known: Callable[[str], bool] | None = None, *, whole: bool = False
    ) -> None:
        """Takes a table's keys.

        Args:
            keys: in the order of rows.
            known: whether a word without a row has a vector all the same; None: it has none.
            whole: whether words are only taken as they stand between blanks.
        """
        self.rows: Mapping[str, int] = {key: row for row, key in enumerate(keys)}
        self.lower = all(key == key.lower() for key in keys)
        self._known = known or (lambda word: False)
        self._whole = whole

    def words(self, text: str) -> list[str]:
        """The words of a text that have a vector, as the table spells them."""
        return [word for word, _, _ in self._found(text)]

    def flat(self, texts: Sequence[str]) -> tuple[Ints, Ints]:
        """Rows of the known words of n texts, one text behind the other, and where each begins (n + 1,)."""
        rows: list[int] = []
        offsets = np.zeros(len(texts) + 1, np.int64)
        for i, text in enumerate(texts):
            rows += [self.rows[word] for word, _, _ in self._found(text)]
            offsets[i + 1] = len(rows)
        return np.array(rows, np.int64), offsets

    def spans(self, text: str) -> NDArray[np.int64]:
        """First and behind-last character (n, 2) of each word that has a vector."""
        return np.array([(start, end) for _, start, end in self._found(text)], np.int64).reshape(-1, 2)

    def _found(self, text: str) -> Iterator[tuple[str, int, int]]:
        for chunk in WORD.finditer(text):
            word = self._spelt(chunk.group())
            if word is not None:
                yield word, chunk.start(), chunk.end()
            if word is not None or self._whole:
                continue
            for part in _PART.finditer(text, chunk.start(), chunk.end()):
                word = self._spelt(part.group())
                if word is not None:
                    yield word, part.start(), part.end()
                    continue
                for piece in _WORD.finditer(text, part.start(), part.end()):
                    word = self._spelt(piece.group())
                    if word is None and self._known(piece.group()):
                        word = piece.group().lower() if self.lower else piece.group()
                    if word is not None:
                        yield word, piece.start(), piece.end()

    def _spelt(self, word: str) -> str | None:
        """A word as the table has it; None where it has it in no case."""
        if not self.lower and word in self.rows:
            return word
        low = word.lower()
        return low if low in self.rows and (self.lower or not self._whole) else None
