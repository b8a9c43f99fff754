"""Word vectors from fastText's character n-grams.

Bojanowski et al. 2017, arXiv:1607.04606, section 3.2. N-grams are hashed to buckets by 32-bit FNV-1a over their UTF-8
bytes, which are signed: a byte above 127 is sign-extended to 32 bits before it is combined with the hash.

Example, with n-grams of 3 characters in 10 buckets:

    subword_ids("cat", 3, 3, 10)    n-grams <ca, cat, at> of "<cat>"  ->  buckets [7, 1, 6]

    a word with a row       (row + bucket[7] + bucket[1] + bucket[6]) / 4     `composed`
    a word without a row    (bucket[7] + bucket[1] + bucket[6]) / 3           `unseen`

In a pruned table only some buckets have a row; n-grams of the others are left out of both sums and divisors.
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
    """The buckets of a word's character n-grams, in fastText's order.

    Args:
        word: without "<" and ">".
        min_n: length of the shortest n-gram, in characters.
        max_n: length of the longest.
        buckets: number of buckets; 0 for none.

    Returns:
        (n-grams,) int32 in [0, buckets), with repetitions where two n-grams share a bucket; empty for "</s>".
    """
    if not buckets or word == END:
        return np.zeros(0, np.int32)
    return char_ngrams([word], min_n, max_n, buckets).row(0)


def composed(table: Table) -> Floats:
    """The vectors of the table's keys (n, dim) float32: the mean of a key's row and the rows of its n-grams."""
    subwords = table.subwords
    if subwords is None:
        return table.vectors
    vectors = np.array(table.vectors, np.float32)
    for start in range(0, len(table), _BLOCK):
        means, counts = _means(subwords, table.keys[start : start + _BLOCK])
        block = vectors[start : start + _BLOCK]
        block += means * counts[:, None]
        block /= 1 + counts[:, None]
    return vectors


def unseen(table: Table, word: str) -> Floats:
    """The vector (dim,) float32 of a word that is not in the table: the mean of its n-grams' rows, or zeros."""
    if table.subwords is None:
        return np.zeros(table.dim, np.float32)
    vector: Floats = _means(table.subwords, [word])[0][0]
    return vector


def _means(subwords: Subwords, words: Sequence[str]) -> tuple[Floats, Floats]:
    """The mean of each word's n-gram rows (words, dim), and the number of those rows (words,)."""
    ngrams = char_ngrams(words, subwords.min_n, subwords.max_n, max(subwords.hashed_to, 1))
    spelled = np.array([word != END and subwords.hashed_to > 0 for word in words], bool)
    ngrams = ngrams.only(np.repeat(spelled, np.diff(ngrams.starts)))
    if subwords.buckets is not None:
        ngrams = known(ngrams, subwords.buckets)
    rows = np.asarray(subwords.vectors)
    return ngrams.means(rows), np.diff(ngrams.starts).astype(np.float32)
