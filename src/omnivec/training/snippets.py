"""Short texts of many lengths, cut from any text: what a teacher is asked about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from omnivec.errors import UsageError
from omnivec.inputs.files.rows import lines
from omnivec.training import texts

SHORTEST, LONGEST = 2.5, 24.0
"""Words of a snippet; between them its length is drawn so that each doubling is equally likely."""
MARKS = ".,!?;:'\"()-$%&/"


def read_texts(data: Any) -> Iterator[str]:
    """Texts one by one.

    Args:
        data: the path of a UTF-8 text (.gz and .bz2 too) with a text on each line, or an iterable of texts or of such
            paths as `pathlib.Path`s.

    Raises:
        UsageError: a file that cannot be read, or data of another kind.
    """
    if isinstance(data, str | Path):
        data = [texts.path(data)]
    for number, item in enumerate(texts.several(data, "the path of a text, or texts")):
        if isinstance(item, Path):
            yield from lines(texts.path(item))
        elif isinstance(item, str):
            yield item
        else:
            raise texts.wrong(f"data, item {number}", item, "a str, or the Path of a text")


def sample(texts: Iterable[str], most: int, random: np.random.Generator) -> list[str]:
    """Snippets of texts, in random order: all of them, or `most` of which each had the same chance.

    Raises:
        UsageError: the texts hold no word.
    """
    keys: list[float] = []
    sampled: list[str] = []
    bar = 1.0
    for text in texts:
        pieces = cut(text, random)
        for key, piece in zip(random.random(len(pieces)).tolist(), pieces, strict=True):
            if key < bar:
                keys.append(key)
                sampled.append(piece)
        if len(keys) > 2 * most:
            chosen = np.argpartition(keys, most)[:most].tolist()
            keys, sampled = [keys[i] for i in chosen], [sampled[i] for i in chosen]
            bar = max(keys)
    if not sampled:
        raise UsageError(
            "data holds no text: a table is fitted to what a teacher says of texts, so give some"
        )
    return [sampled[i] for i in np.argsort(keys)[:most].tolist()]


def cut(text: str, random: np.random.Generator) -> list[str]:
    """A text in runs of words of many lengths; half of the short texts stay whole."""
    words = text.split()
    if len(words) <= SHORTEST or (len(words) <= LONGEST and random.random() < 0.5):
        return [" ".join(words)] if words else []
    drawn = random.uniform(np.log(SHORTEST), np.log(LONGEST), len(words) // int(SHORTEST) + 1)
    ends = np.cumsum(np.rint(np.exp(drawn)).astype(int))
    bounds = [0, *ends[ends < len(words)].tolist(), len(words)]
    return [" ".join(words[a:b]) for a, b in pairwise(bounds)]


def scattered(texts: Sequence[str], words: Sequence[str], random: np.random.Generator) -> list[str]:
    """Texts with one or two of the words at random places, and with punctuation.

    A corpus shows most words of a vocabulary seldom and, where it was cleaned, punctuation never; what a teacher makes
    of a text with and without them says what they weigh.
    """
    marks = [mark for mark in MARKS if mark in set(words)]
    out = []
    for text in texts:
        parts = text.split()
        for _ in range(int(random.integers(1, 3)) if words else 0):
            parts.insert(int(random.integers(len(parts) + 1)), words[int(random.integers(len(words)))])
        chance = random.random()
        if "." in marks and chance < 0.5:
            parts.append(".")
        elif marks and chance < 0.75:
            parts.insert(int(random.integers(len(parts) + 1)), marks[int(random.integers(len(marks)))])
        out.append(" ".join(parts))
    return out
