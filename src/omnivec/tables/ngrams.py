"""Character n-grams and word n-grams, hashed to buckets as fastText does.

Bojanowski et al. 2017, arXiv:1607.04606, section 3.2; Joulin et al. 2017, arXiv:1607.01759, section 2.2.

All words are processed at once, as flat arrays with one entry per byte or per character. Example:

    char_ngrams(["cat"], min_n=2, max_n=3, bucket=10)

    padded word     <cat>
    n-grams         <c  <ca | ca  cat | at  at> | t>      by first character, then by length
    FNV-1a % 10      2   7  |  5   1  |  6   6  |  5
    result          Ragged(values=[2, 7, 5, 1, 6, 6, 5], starts=[0, 7])

    word_ngrams(word_hashes(["cat", "mat", "</s>"]), starts=[0, 3], n=2, bucket=10)

    n-grams         cat mat | mat </s>                    hash(first) * WORD_FACTOR + hash(second), modulo 2**64
    result          Ragged(values=[2, 8], starts=[0, 2])
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FNV_OFFSET = np.uint32(2166136261)
FNV_PRIME = np.uint32(16777619)
WORD_FACTOR = np.uint64(116049371)
WIDEST = 4
"""Most bytes of a character in UTF-8."""
BLOCK = 1024
"""Rows that `Ragged.means` gathers from the table at a time."""


class Ragged(NamedTuple):
    """Rows of different lengths in one flat array.

    Attributes:
        values: (total,) int32, all rows concatenated.
        starts: (rows + 1,) int64, the offset of each row in `values`, and the end of the last.
    """

    values: NDArray[np.int32]
    starts: NDArray[np.int64]

    def row(self, i: int) -> NDArray[np.int32]:
        """Row `i`."""
        return self.values[self.starts[i] : self.starts[i + 1]]

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """The rows with these numbers, in this order."""
        lengths = np.diff(self.starts)[rows]
        starts = _starts(lengths)
        places = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], lengths)
        return Ragged(self.values[places], starts)

    def only(self, wanted: NDArray[np.bool_]) -> Ragged:
        """The values whose entry in the mask `wanted` (total,) is true; each stays in its row."""
        counted = np.append(0, np.cumsum(wanted))
        return Ragged(self.values[wanted], counted[self.starts])

    def means(self, table: NDArray[np.float32]) -> NDArray[np.float32]:
        """(rows, dim) float32: the mean of the rows of `table` that each row lists; zeros for an empty row."""
        lengths = np.diff(self.starts)
        means = np.zeros((len(lengths), table.shape[1]), np.float32)
        nonempty = np.flatnonzero(lengths)
        for first in range(0, len(nonempty), BLOCK):
            block = self.take(nonempty[first : first + BLOCK])
            sums = np.add.reduceat(table[block.values], block.starts[:-1])
            means[nonempty[first : first + BLOCK]] = sums / np.diff(block.starts)[:, None]
        return means


def char_ngrams(words: Sequence[str], min_n: int, max_n: int, bucket: int) -> Ragged:
    """Buckets of the character n-grams of "<word>", one row per word, by first character, then by length.

    Args:
        words: without the angle brackets.
        min_n: length of the shortest n-gram, in characters. "<" and ">" alone are not n-grams.
        max_n: length of the longest; 0 for no n-grams.
        bucket: number of buckets.
    """
    data, begins = _bytes(f"<{word}>" for word in words)
    first = (data & 0xC0) != 0x80  # in UTF-8, bytes 10xxxxxx continue a character
    bounds = np.append(np.flatnonzero(first), len(data))  # byte offset of each character
    chars = np.searchsorted(bounds, begins)  # character offset of each word
    count = len(bounds) - 1
    lengths = np.diff(chars)
    max_n = min(max_n, int(lengths.max(initial=0)))  # no n-gram is longer than the longest word
    left = np.repeat(chars[1:], lengths) - np.arange(count)  # characters from here to the end of the word
    widths = np.diff(bounds)
    hashes = np.full(count, FNV_OFFSET, np.uint32)
    buckets = np.zeros((count, max(max_n, 0)), np.int32)
    for n in range(1, max_n + 1):
        begun = max(count - n + 1, 0)
        for k in range(WIDEST):
            longer = np.flatnonzero((widths[n - 1 :] > k) & (left[:begun] >= n))
            if len(longer):
                hashes[longer] = _step(hashes[longer], data[bounds[longer + n - 1] + k])
        buckets[:, n - 1] = hashes % np.uint32(bucket)
    is_one = (left[:, None] >= np.arange(1, max_n + 1)) & (np.arange(1, max_n + 1) >= min_n)
    if min_n <= 1 <= max_n:
        is_one[chars[:-1], 0] = is_one[chars[1:] - 1, 0] = False
    return Ragged(buckets[is_one], _starts(np.add.reduceat(is_one.sum(1), chars[:-1]) if count else lengths))


def known(ngrams: Ragged, buckets: NDArray[np.int32]) -> Ragged:
    """The indices in `buckets` of the n-grams that occur there; the others are left out.

    Args:
        ngrams: bucket numbers.
        buckets: (n,) int32, ascending: the buckets that the table has rows for.
    """
    places = np.searchsorted(buckets, ngrams.values).astype(np.int32)
    present = places < len(buckets)
    present[present] = buckets[places[present]] == ngrams.values[present]
    return Ragged(places, ngrams.starts).only(present)


def word_hashes(words: Sequence[str]) -> NDArray[np.uint64]:
    """The 32-bit FNV-1a hash of each word (n,), sign-extended to 64 bits: the input of `word_ngrams`."""
    data, begins = _bytes(words)
    lengths = np.diff(begins)
    hashes = np.full(len(lengths), FNV_OFFSET, np.uint32)
    for k in range(int(lengths.max(initial=0))):
        longer = np.flatnonzero(lengths > k)
        hashes[longer] = _step(hashes[longer], data[begins[longer] + k])
    return hashes.view(np.int32).astype(np.int64).view(np.uint64)


def word_ngrams(hashes: NDArray[np.uint64], starts: NDArray[np.int64], n: int, bucket: int) -> Ragged:
    """Buckets of the n-grams of 2 to `n` words of each text, by first word, then by length.

    Args:
        hashes: `word_hashes` of the words of all texts, concatenated.
        starts: (texts + 1,) the offset of each text in `hashes`, and the end of the last.
        n: length of the longest n-gram, in words.
        bucket: number of buckets.
    """
    texts = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    left = starts[1:][texts] - np.arange(len(hashes))
    n = min(n, int(np.diff(starts).max(initial=0)))  # no n-gram is longer than the longest text
    buckets = np.zeros((len(hashes), max(n - 1, 0)), np.int32)
    rolling = hashes.copy()
    for more in range(1, n):
        whole = np.flatnonzero(left > more)
        rolling[whole] = rolling[whole] * WORD_FACTOR + hashes[whole + more]
        buckets[whole, more - 1] = rolling[whole] % np.uint64(bucket)
    is_one = left[:, None] > np.arange(1, max(n, 1))
    counts = np.bincount(texts, is_one.sum(1), len(starts) - 1).astype(np.int64)
    return Ragged(buckets[is_one], _starts(counts))


def _step(hashes: NDArray[np.uint32], data: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """FNV-1a hashes extended by one byte each; fastText's bytes are signed, so those above 127 flip all upper bits."""
    signed = data.view(np.int8).astype(np.int32).view(np.uint32)
    return (hashes ^ signed) * FNV_PRIME


def _bytes(words: Iterable[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The words in UTF-8, concatenated, and the offset of each, with the end of the last."""
    encoded = [word.encode("utf-8", "surrogatepass") for word in words]
    return np.frombuffer(b"".join(encoded), np.uint8), _starts(
        np.fromiter(map(len, encoded), np.int64, len(encoded))
    )


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
