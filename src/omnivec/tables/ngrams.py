"""Words to the rows of hashed tables, as fastText numbers them: n-grams of characters, and n-grams of words.

Bojanowski et al. 2017, arXiv:1607.04606, section 3.2; Joulin et al. 2017, arXiv:1607.01759, section 2.2.
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
"""Bytes of the longest character in UTF-8."""
BLOCK = 1024
"""Rows whose table rows are held at a time."""


class Ragged(NamedTuple):
    """Rows of different lengths, one after the other.

    Attributes:
        values: all rows in one, int32.
        starts: where each row begins, and the end of the last, (rows + 1,) int64.
    """

    values: NDArray[np.int32]
    starts: NDArray[np.int64]

    def row(self, i: int) -> NDArray[np.int32]:
        """One of them."""
        return self.values[self.starts[i] : self.starts[i + 1]]

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """Some of them, in this order."""
        lengths = np.diff(self.starts)[rows]
        starts = _starts(lengths)
        places = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], lengths)
        return Ragged(self.values[places], starts)

    def only(self, wanted: NDArray[np.bool_]) -> Ragged:
        """Those of all values that are wanted, each in its row."""
        counted = np.append(0, np.cumsum(wanted))
        return Ragged(self.values[wanted], counted[self.starts])

    def means(self, table: NDArray[np.float32]) -> NDArray[np.float32]:
        """(rows, dim) float32: the mean of the table's rows that each row names, zero where it names none."""
        lengths = np.diff(self.starts)
        found = np.zeros((len(lengths), table.shape[1]), np.float32)
        full = np.flatnonzero(lengths)
        for first in range(0, len(full), BLOCK):
            part = self.take(full[first : first + BLOCK])
            sums = np.add.reduceat(table[part.values], part.starts[:-1])
            found[full[first : first + BLOCK]] = sums / np.diff(part.starts)[:, None]
        return found


def char_ngrams(words: Sequence[str], min_n: int, max_n: int, bucket: int) -> Ragged:
    """Buckets of the character n-grams of "<word>", a row a word; by place, then by length.

    Args:
        words: as they are looked up, without the angle brackets.
        min_n: characters of the shortest n-gram; a single bracket is none.
        max_n: characters of the longest; 0 for no n-grams.
        bucket: number of buckets.
    """
    data, begins = _bytes(f"<{word}>" for word in words)
    first = (data & 0xC0) != 0x80  # every byte of UTF-8 that does not continue a character
    bounds = np.append(np.flatnonzero(first), len(data))
    chars = np.searchsorted(bounds, begins)
    count = len(bounds) - 1
    lengths = np.diff(chars)
    max_n = min(max_n, int(lengths.max(initial=0)))  # no n-gram is longer than the longest word
    left = np.repeat(chars[1:], lengths) - np.arange(count)
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
    """Places of n-grams among those that a table has, the others left out.

    Args:
        ngrams: bucket numbers.
        buckets: those that the table has, rising.
    """
    places = np.searchsorted(buckets, ngrams.values).astype(np.int32)
    wanted = places < len(buckets)
    wanted[wanted] = buckets[places[wanted]] == ngrams.values[wanted]
    return Ragged(places, ngrams.starts).only(wanted)


def word_hashes(words: Sequence[str]) -> NDArray[np.uint64]:
    """The hash of each word by which n-grams of words are made, sign-extended to 64 bits."""
    data, begins = _bytes(words)
    lengths = np.diff(begins)
    hashes = np.full(len(lengths), FNV_OFFSET, np.uint32)
    for k in range(int(lengths.max(initial=0))):
        longer = np.flatnonzero(lengths > k)
        hashes[longer] = _step(hashes[longer], data[begins[longer] + k])
    return hashes.view(np.int32).astype(np.int64).view(np.uint64)


def word_ngrams(hashes: NDArray[np.uint64], starts: NDArray[np.int64], n: int, bucket: int) -> Ragged:
    """Buckets of the n-grams of 2 to `n` words in each text; by place, then by length.

    Args:
        hashes: of the words of all texts, as `word_hashes` gives them.
        starts: where each text begins in them, and the end of the last.
        n: words of the longest n-gram.
        bucket: number of buckets.
    """
    texts = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    left = starts[1:][texts] - np.arange(len(hashes))
    n = min(n, int(np.diff(starts).max(initial=0)))  # nor than the longest text
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
    """FNV-1a, one byte further; bytes are signed, so those above 127 set all upper bits."""
    signed = data.view(np.int8).astype(np.int32).view(np.uint32)
    return (hashes ^ signed) * FNV_PRIME


def _bytes(words: Iterable[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    encoded = [word.encode("utf-8", "surrogatepass") for word in words]
    return np.frombuffer(b"".join(encoded), np.uint8), _starts(
        np.fromiter(map(len, encoded), np.int64, len(encoded))
    )


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
