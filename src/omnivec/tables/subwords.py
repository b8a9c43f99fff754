"""fastText's n-grams of characters: their buckets, and the vectors of words that they make up.

Bojanowski et al. 2017, arXiv:1607.04606, section 3.2. The hash is FNV-1a of 32 bits over UTF-8, in which a byte above
127 counts as a negative number: its sign fills the upper bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from omnivec.inputs.text.whitespace import END
from omnivec.tables.ngrams import char_ngrams, known
from omnivec.tables.record import Subwords, Table
from omnivec.types import Floats

_BLOCK = 4096


def subword_ids(word: str, min_n: int, max_n: int, buckets: int) -> NDArray[np.int32]:
    """The buckets of a word's n-grams, in fastText's order.

    Args:
        word: without "<" and ">".
        min_n: shortest n-gram, in characters.
        max_n: longest n-gram.
        buckets: how many there are.

    Returns:
        (n-grams,) in [0, buckets); one that falls into the same bucket twice is there twice.
    """
    if not buckets or word == END:
        return np.zeros(0, np.int32)
    return char_ngrams([word], min_n, max_n, buckets).row(0)


def composed(table: Table) -> Floats:
    """The vectors of the table's keys (n, dim): the mean of a key's own row and those of its n-grams."""
    subwords = table.subwords
    if subwords is None:
        return table.vectors
    vectors = np.array(table.vectors, np.float32)
    for start in range(0, len(table), _BLOCK):
        means, counts = _means(subwords, table.keys[start : start + _BLOCK])
        own = vectors[start : start + _BLOCK]
        own += means * counts[:, None]
        own /= 1 + counts[:, None]
    return vectors


def unseen(table: Table, word: str) -> Floats:
    """The vector (dim,) of a word that the table lacks: the mean of its n-grams' rows, zeros where it has none."""
    if table.subwords is None:
        return np.zeros(table.dim, np.float32)
    vector: Floats = _means(table.subwords, [word])[0][0]
    return vector


def _means(subwords: Subwords, words: Sequence[str]) -> tuple[Floats, Floats]:
    """The mean of each word's n-gram rows (words, dim), and how many they are (words,)."""
    ngrams = char_ngrams(words, subwords.min_n, subwords.max_n, max(subwords.hashed_to, 1))
    spelled = np.array([word != END and subwords.hashed_to > 0 for word in words], bool)
    ngrams = ngrams.only(np.repeat(spelled, np.diff(ngrams.starts)))
    if subwords.buckets is not None:
        ngrams = known(ngrams, subwords.buckets)
    rows = np.asarray(subwords.vectors)
    return ngrams.means(rows), np.diff(ngrams.starts).astype(np.float32)
