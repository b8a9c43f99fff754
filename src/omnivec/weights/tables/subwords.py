"""fastText's n-grams of characters: their buckets, and the vectors of words that they make up.

Bojanowski et al. 2017, arXiv:1607.04606, section 3.2. The hash is FNV-1a of 32 bits over UTF-8, in which a byte above
127 counts as a negative number: its sign fills the upper bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from omnivec.types import Floats
from omnivec.weights.tables.record import Table

SENTENCE_END = "</s>"  # a word of the vocabulary that has no n-grams
FNV_OFFSET = 2166136261
FNV_PRIME = 16777619
_SIGN_EXTENDED = tuple(byte if byte < 128 else byte | 0xFFFFFF00 for byte in range(256))
_BLOCK = 4096


def subword_ids(word: str, min_n: int, max_n: int, buckets: int) -> NDArray[np.int64]:
    """The buckets of a word's n-grams, in fastText's order.

    Args:
        word: without "<" and ">".
        min_n: shortest n-gram, in characters.
        max_n: longest n-gram.
        buckets: rows of the table of n-grams.

    Returns:
        (n-grams,) in [0, buckets); one that falls into the same bucket twice is there twice.
    """
    if not buckets or word == SENTENCE_END:
        return np.zeros(0, np.int64)
    letters = [letter.encode() for letter in f"<{word}>"]
    last = len(letters) - 1
    found = []
    for start in range(len(letters)):
        hashed = FNV_OFFSET
        for end, letter in enumerate(letters[start : start + max_n], start):
            for byte in letter:
                hashed = (hashed ^ _SIGN_EXTENDED[byte]) * FNV_PRIME & 0xFFFFFFFF
            at_the_edge = start == end and start in (0, last)
            if end - start + 1 >= min_n and not at_the_edge:
                found.append(hashed % buckets)
    return np.array(found, np.int64)


def composed(table: Table) -> Floats:
    """The vectors of the table's keys (n, dim): the mean of a key's own row and those of its n-grams."""
    subwords = table.subwords
    if subwords is None:
        return table.vectors
    vectors = np.array(table.vectors, np.float32)
    for start in range(0, len(table), _BLOCK):
        sums, counts = _summed(table, table.keys[start : start + _BLOCK])
        vectors[start : start + _BLOCK] += sums
        vectors[start : start + _BLOCK] /= 1 + counts[:, None]
    return vectors


def unseen(table: Table, word: str) -> Floats:
    """The vector (dim,) of a word that the table lacks: the mean of its n-grams' rows, zeros where it has none."""
    sums, counts = _summed(table, [word])
    mean: Floats = sums[0] / np.float32(max(counts[0], 1))
    return mean


def _summed(table: Table, words: Sequence[str]) -> tuple[Floats, Floats]:
    """The sum of each word's n-gram rows (words, dim), and how many they are (words,)."""
    sums = np.zeros((len(words), table.dim), np.float32)
    counts = np.zeros(len(words), np.float32)
    if table.subwords is None:
        return sums, counts
    rows, min_n, max_n = table.subwords.vectors, table.subwords.min_n, table.subwords.max_n
    ids = [subword_ids(word, min_n, max_n, len(rows)) for word in words]
    counts[:] = [len(each) for each in ids]
    some = np.flatnonzero(counts)
    if some.size:
        starts = np.cumsum([0, *counts[some][:-1]]).astype(np.int64)
        sums[some] = np.add.reduceat(rows[np.concatenate(ids)], starts, axis=0)
    return sums, counts
