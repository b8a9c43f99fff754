"""Words of a text, counted and numbered in one pass over its bytes.

A word's first sixteen bytes are two integers: one record of 32 bytes (both, length and number, count) finds it again
with one miss of the cache, and only longer words are ever compared byte by byte.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnivec.tables.kernels.simd import blanks, inlined, lean, lowest_bit, prefetch, read8

PADDING = 64
"""Bytes that must be readable behind a text, whatever they are."""

Bytes = NDArray[np.uint8]
LEFT, RIGHT, LAST = (
    np.uint64(0x9E3779B97F4A7C15),
    np.uint64(0xC2B2AE3D27D4EB4F),
    np.uint64(0xD6E8FEB86659FD93),
)
HALF, LOWER, TOP = np.uint64(32), np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFFFFFFFFFFFF)
AT_ONCE = 32


class HashTable(NamedTuple):
    """An open hash table of words.

    Attributes:
        records: (2^n, 4) uint64: bytes 0-7, bytes 8-15 (of a longer word a hash of all from 8 on), the length in the
            upper and the number in the lower half, the count; a length of 0 is a free place.
        spelled: the words' bytes, one after the other.
        starts: (most words + 1,) where in `spelled` each word begins; the last ends where the next would begin.
        first: (most words,) place of each word's first occurrence in the whole text.
        size: (1,) words so far.
        batch: (AT_ONCE, 5) room for the words that are looked up together.
    """

    records: NDArray[np.uint64]
    spelled: Bytes
    starts: NDArray[np.int64]
    first: NDArray[np.int64]
    size: NDArray[np.int64]
    batch: NDArray[np.uint64]


def table(words: int, letters: int) -> HashTable:
    """An empty table with room for so many words of so many bytes together."""
    places = 1 << (2 * words - 1).bit_length()
    return HashTable(
        np.zeros((places, 4), np.uint64),
        np.zeros(letters + PADDING, np.uint8),
        np.zeros(words + 1, np.int64),
        np.zeros(words, np.int64),
        np.zeros(1, np.int64),
        np.zeros((AT_ONCE, 5), np.uint64),
    )


def grown(old: HashTable, letters: int) -> HashTable:
    """The same words in a table with room for twice as many, and for so many more bytes."""
    size = int(old.size[0])
    new = table(2 * len(old.first), 2 * len(old.spelled) + letters)
    new.spelled[: len(old.spelled)] = old.spelled
    new.starts[: size + 1] = old.starts[: size + 1]
    new.first[:size] = old.first[:size]
    new.size[0] = size
    _place_again(old.records, new.records)
    return new


def counts(words: HashTable) -> NDArray[np.int64]:
    """(words,) how often each occurred, by number."""
    used = words.records[words.records[:, 2] != 0]
    result = np.zeros(int(words.size[0]), np.int64)
    result[(used[:, 2] & LOWER).astype(np.int64)] = used[:, 3].astype(np.int64)
    return result


@lean
def scan(
    text: Bytes, state: NDArray[np.int64], words: HashTable, ids: NDArray[np.int32], ends: NDArray[np.int64]
) -> bool:
    """Numbers the words of a text, until its end or until the table is full.

    Args:
        text: the text and PADDING more bytes.
        state: (7,): the byte to begin at, which is no word's middle; the text's length; its place in the whole; words
            so far; sentences so far; the byte that ends a sentence; whether white space parts words. The first and the
            counts are moved on.
        words: the table.
        ids: room for each word's number.
        ends: room for the number of words before each sentence's end.

    Returns:
        Whether the text is finished; otherwise the table must grow.
    """
    at, length, place, token, sentence, line_end, spaces = state
    lookups = words.batch
    mask = len(words.records) - 1
    while at < length:
        size, here = words.size[0], at
        if size + AT_ONCE > len(words.first):
            break
        # The records of the next words are asked for before the first of them is looked at.
        many, letters = 0, 0
        while many < AT_ONCE and at < length:
            begin = _skip(text, at, length, spaces != 0, False)
            for i in range(at, begin):
                if text[i] == line_end:
                    ends[sentence] = token + many
                    sentence += 1
            at = _skip(text, begin, length, spaces != 0, True)
            if at > begin:
                left, right = _key(text, begin, at - begin)
                home = _home(left, right, at - begin) & mask
                prefetch(words.records, 4 * home)
                lookups[many, 0], lookups[many, 1], lookups[many, 2] = left, right, home
                lookups[many, 3], lookups[many, 4] = begin, at - begin
                letters += at - begin
                many += 1
        if words.starts[size] + letters + PADDING > len(words.spelled):
            while sentence > 0 and ends[sentence - 1] > token:
                sentence -= 1
            at = here
            break
        for i in range(many):
            begin, span = np.int64(lookups[i, 3]), np.int64(lookups[i, 4])
            home = np.int64(lookups[i, 2])
            ids[token + i] = _find_or_add(
                words, lookups[i, 0], lookups[i, 1], home, text, begin, span, 1, place + begin
            )
        token += many
    state[0], state[3], state[4] = at, token, sentence
    return bool(at >= length)


@inlined
def _skip(text: Bytes, at: Any, length: Any, spaces: Any, word: bool) -> Any:
    """Where a word, or the blanks before one, end."""
    while at < length:
        parting = blanks(text, at, spaces)
        run = lowest_bit(parting if word else ~parting)
        at += run
        if run < 64:
            break
    return min(at, length)


@inlined
def _find_or_add(
    words: HashTable,
    left: np.uint64,
    right: np.uint64,
    home: Any,
    text: Bytes,
    begin: Any,
    length: Any,
    count: Any,
    place: Any,
) -> Any:
    """The number of a word, whose count rises; a new word gets the next number. There must be room for it."""
    records = words.records
    at = home
    while True:
        about = records[at, 2]
        if about == 0:
            break
        alike = records[at, 0] == left and records[at, 1] == right
        if alike and np.int64(about >> HALF) == length:
            number = np.int64(about & LOWER)
            if length <= 16 or _same(words.spelled, words.starts[number], text, begin, length):
                records[at, 3] += np.uint64(count)
                return number
        at = (at + 1) & (len(records) - 1)
    number = words.size[0]
    start = words.starts[number]
    for i in range(length):
        words.spelled[start + i] = text[begin + i]
    words.starts[number + 1] = start + length
    words.first[number] = place
    words.size[0] = number + 1
    records[at, 0], records[at, 1], records[at, 3] = left, right, np.uint64(count)
    records[at, 2] = (np.uint64(length) << HALF) | np.uint64(number)
    return number


@lean
def merge(words: HashTable, other: HashTable, tallies: NDArray[np.int64], numbers: NDArray[np.int32]) -> int:
    """Adds another table's words and counts, from the first not done; returns how many are done.

    Args:
        words: the table that grows; where it is full the merge stops.
        other: the table that is added.
        tallies: the other's counts.
        numbers: (other's words,) the number here of each, -1 where not done yet; filled in.
    """
    for number in range(len(tallies)):
        if numbers[number] >= 0:
            continue
        start = other.starts[number]
        length = other.starts[number + 1] - start
        size = words.size[0]
        if size >= len(words.first) or words.starts[size] + length + PADDING > len(words.spelled):
            return number
        left, right = _key(other.spelled, start, length)
        home, place = _home(left, right, length) & (len(words.records) - 1), other.first[number]
        same = _find_or_add(words, left, right, home, other.spelled, start, length, tallies[number], place)
        words.first[same] = min(words.first[same], place)
        numbers[number] = same
    return len(tallies)


@lean
def renumber(
    ids: NDArray[np.int32], ends: NDArray[np.int64], numbers: NDArray[np.int32], kept: NDArray[np.int32]
) -> int:
    """Words under new numbers, those with a number below 0 left out.

    Args:
        ids: words of a block.
        ends: words before each sentence's end; becomes words kept before it.
        numbers: old number -> new.
        kept: room for the result; may be `ids` itself.

    Returns:
        How many are kept.
    """
    token, sentence = 0, 0
    for i in range(len(ids)):
        while sentence < len(ends) and ends[sentence] <= i:
            ends[sentence] = token
            sentence += 1
        number = numbers[ids[i]]
        kept[token] = number
        token += number >= 0
    while sentence < len(ends):
        ends[sentence] = token
        sentence += 1
    return token


@lean
def join(
    ids: NDArray[np.int32],
    starts: NDArray[np.int64],
    begins: NDArray[np.int64],
    seconds: NDArray[np.int32],
    joined: NDArray[np.int32],
    ends: NDArray[np.int64],
) -> int:
    """Makes one word of each pair that is a phrase, in place, from left to right; returns how many words are left.

    Args:
        ids: words, sentence after sentence; the result lies at its beginning.
        starts: (sentences + 1,).
        begins: (v + 1,) where in the next two the phrases of each first word begin.
        seconds: second words.
        joined: what the two become.
        ends: (sentences,) words before each sentence's new end, written here.
    """
    count = 0
    for sentence in range(len(starts) - 1):
        at, end = starts[sentence], starts[sentence + 1]
        while at < end:
            word = ids[at]
            at += 1
            if at < end:
                for i in range(begins[word], begins[word + 1]):
                    if seconds[i] == ids[at]:
                        word = joined[i]
                        at += 1
                        break
            ids[count] = word
            count += 1
        ends[sentence] = count
    return count


@inlined
def _key(text: Bytes, begin: Any, length: Any) -> Any:
    left = read8(text, begin)
    if length <= 8:
        return left & (TOP >> np.uint64(64 - 8 * length)), np.uint64(0)
    right = read8(text, begin + 8)
    if length <= 16:
        return left, right & (TOP >> np.uint64(128 - 8 * length))
    at = begin + 16
    while at + 8 <= begin + length:
        right = (right ^ read8(text, at)) * LEFT
        right ^= right >> HALF
        at += 8
    rest = begin + length - at
    if rest > 0:
        right = (right ^ (read8(text, at) & (TOP >> np.uint64(64 - 8 * rest)))) * RIGHT
        right ^= right >> HALF
    return left, right


@inlined
def _home(left: np.uint64, right: np.uint64, length: Any) -> Any:
    mixed = (left * LEFT) ^ ((right + np.uint64(length)) * RIGHT)
    mixed = (mixed ^ (mixed >> HALF)) * LAST
    return np.int64(mixed >> HALF)


@lean
def _same(a: Bytes, at: int, b: Bytes, begin: int, length: int) -> bool:
    for i in range(length):  # noqa: SIM110, all() is not compiled
        if a[at + i] != b[begin + i]:
            return False
    return True


@lean
def _place_again(old: NDArray[np.uint64], new: NDArray[np.uint64]) -> None:
    mask = len(new) - 1
    for i in range(len(old)):
        if old[i, 2] == 0:
            continue
        at = _home(old[i, 0], old[i, 1], np.int64(old[i, 2] >> HALF)) & mask
        while new[at, 2] != 0:
            at = (at + 1) & mask
        for part in range(4):
            new[at, part] = old[i, part]
