"""Samples snippets, short texts of many lengths, from a corpus: the texts that a teacher model embeds.

Example of the steps, for a text of 30 words "w1 ... w30":

    cut         lengths are drawn log-uniformly from 2.5 to 24 and rounded, say 11, 5, 3, 3, 16: the text is split
                after words 11, 16, 19 and 22, into snippets of 11, 5, 3, 3 and 8 words
    sample      each snippet draws a key from 0 to 1; those with the `most` smallest keys are kept, in order of key
    scattered   "w17 w18 w19" with the vocabulary's words may become "w17 aardvark w18 w19 ."
"""

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
"""Range of a snippet's length in words, which is drawn log-uniformly: 3 to 6 is as likely as 6 to 12."""
MARKS = ".,!?;:'\"()-$%&/"


def read_texts(data: Any) -> Iterator[str]:
    """Yields the texts of training data.

    Args:
        data: the path of a UTF-8 text (.gz and .bz2 too) with one text per line, or an iterable of texts or of such
            paths as `pathlib.Path`s.

    Raises:
        UsageError: a file cannot be read, or an item is neither a text nor a path.
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
    """A uniform random sample of at most `most` snippets of the texts, in random order.

    Memory is bounded by `most`, whatever the number of texts.

    Raises:
        UsageError: the texts hold no words.
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
            "data holds no text: a table is fitted to the teacher's vectors of texts, so give some"
        )
    return [sampled[i] for i in np.argsort(keys)[:most].tolist()]


def cut(text: str, random: np.random.Generator) -> list[str]:
    """Splits a text into snippets of random lengths; texts of up to LONGEST words stay whole half of the time."""
    words = text.split()
    if len(words) <= SHORTEST or (len(words) <= LONGEST and random.random() < 0.5):
        return [" ".join(words)] if words else []
    drawn = random.uniform(np.log(SHORTEST), np.log(LONGEST), len(words) // int(SHORTEST) + 1)
    ends = np.cumsum(np.rint(np.exp(drawn)).astype(int))
    bounds = [0, *ends[ends < len(words)].tolist(), len(words)]
    return [" ".join(words[a:b]) for a, b in pairwise(bounds)]


def scattered(texts: Sequence[str], words: Sequence[str], random: np.random.Generator) -> list[str]:
    """Texts with one or two random words inserted at random places, and in three of four texts punctuation.

    Punctuation is taken from `words`; if they have none, none is inserted.

    Most words of a vocabulary are rare in a corpus, and a cleaned corpus has no punctuation; the teacher's vectors of
    texts with and without them show how much they matter.
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
