r"""Counts and numbers the words of a text in one pass over its bytes.

The first sixteen bytes of a word are stored as two integers in its hash table record of 32 bytes, with length, number
and count. So a lookup costs one cache miss, and only words of more than sixteen bytes are compared byte by byte.

    b"the cat the\n"    ids [0, 1, 0], ends [3]
    record of "the"     0x656874 ("the", little-endian), 0, length 3 << 32 | number 0, count 2
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnivec.tables.kernels.simd import blanks, inlined, lean, lowest_bit, prefetch, read8

PADDING = 64
"""Bytes that must be readable after a text, with any content."""

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
        records: (2^n, 4) uint64: bytes 0-7; bytes 8-15 (for a longer word, a hash of all bytes from 8 on); the length
            in the upper and the number in the lower 32 bits; the count. A length of 0 marks a free record.
        spelled: the bytes of all words, concatenated.
        starts: (most words + 1,) the offset of each word in `spelled`, and the end of the last.
        first: (most words,) the byte offset of each word's first occurrence in the whole text.
        size: (1,) words so far.
        batch: (AT_ONCE, 5) buffer for the words that are looked up together.
    """

    records: NDArray[np.uint64]
    spelled: Bytes
    starts: NDArray[np.int64]
    first: NDArray[np.int64]
    size: NDArray[np.int64]
    batch: NDArray[np.uint64]


def table(words: int, letters: int) -> HashTable:
    """An empty table with room for this many words, of this many bytes together."""
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
    """A copy of a table with room for twice as many words, and for at least `letters` more bytes."""
    size = int(old.size[0])
    new = table(2 * len(old.first), 2 * len(old.spelled) + letters)
    new.spelled[: len(old.spelled)] = old.spelled
    new.starts[: size + 1] = old.starts[: size + 1]
    new.first[:size] = old.first[:size]
    new.size[0] = size
    _rehash(old.records, new.records)
    return new


def counts(words: HashTable) -> NDArray[np.int64]:
    """The count (words,) of each word, by number."""
    used = words.records[words.records[:, 2] != 0]
    result = np.zeros(int(words.size[0]), np.int64)
    result[(used[:, 2] & LOWER).astype(np.int64)] = used[:, 3].astype(np.int64)
    return result


@lean
def scan(
    text: Bytes, state: NDArray[np.int64], words: HashTable, ids: NDArray[np.int32], ends: NDArray[np.int64]
) -> bool:
    """Numbers the words of a text, up to its end or until the table is full.

    Args:
        text: the text, followed by PADDING bytes.
        state: (7,): 0 the byte to begin at, which must not be inside a word; 1 the text's length; 2 its offset in the
            whole text; 3 words so far; 4 sentences so far; 5 the byte that ends a sentence; 6 whether whitespace
            separates words. Entries 0, 3 and 4 are updated.
        words: the table.
        ids: buffer for the number of each word.
        ends: buffer for the number of words before each sentence's end.

    Returns:
        Whether the text is finished; otherwise the table must grow.
    """
    at, length, place, token, sentence, line_end, spaces = state
    batch = words.batch
    mask = len(words.records) - 1
    while at < length:
        size, here, ended = words.size[0], at, sentence
        if size + AT_ONCE > len(words.first):
            break
        # The records of the next words are prefetched before the first of them is read.
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
                batch[many, 0], batch[many, 1], batch[many, 2] = left, right, home
                batch[many, 3], batch[many, 4] = begin, at - begin
                letters += at - begin
                many += 1
        if words.starts[size] + letters + PADDING > len(words.spelled):
            # No room for these words: go back to before them. Their sentence ends are written again by the next call,
            # and must not be kept twice: `ends` has one place for each byte of the text.
            at, sentence = here, ended
            break
        for i in range(many):
            begin, span = np.int64(batch[i, 3]), np.int64(batch[i, 4])
            home = np.int64(batch[i, 2])
            ids[token + i] = _find_or_add(
                words, batch[i, 0], batch[i, 1], home, text, begin, span, 1, place + begin
            )
        token += many
    state[0], state[3], state[4] = at, token, sentence
    return bool(at >= length)


@inlined
def _skip(text: Bytes, at: Any, length: Any, spaces: Any, word: bool) -> Any:
    """The end of the word, or with word=False of the whitespace, that begins at `at`."""
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
    """Adds to a word's count and returns its number; a new word gets the next one. The table must have room."""
    records = words.records
    at = home
    while True:
        packed = records[at, 2]
        if packed == 0:
            break
        same_key = records[at, 0] == left and records[at, 1] == right
        if same_key and np.int64(packed >> HALF) == length:
            number = np.int64(packed & LOWER)
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
    """Adds the words and counts of another table, continuing an earlier call; returns how many words are done.

    Args:
        words: the table that is added to; if it is full, the merge stops.
        other: the table that is added.
        tallies: (other's words,) its counts.
        numbers: (other's words,) the number of each word in `words`, written here; -1 marks words not yet added.
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
    """Gives words new numbers, and leaves out those whose new number is negative.

    Args:
        ids: the words of a block.
        ends: the number of words before each sentence's end; changed to the number of remaining words before it.
        numbers: (v,) old number -> new number.
        kept: buffer for the result; may be `ids` itself.

    Returns:
        The number of remaining words.
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
    """Replaces each pair of words that is a phrase by one word, in place, from left to right.

    Args:
        ids: the words of all sentences; the result overwrites its beginning.
        starts: (sentences + 1,) the offset of each sentence in `ids`, and the end of the last.
        begins: (v + 1,) for each first word, the offset of its phrases in `seconds` and `joined`.
        seconds: (phrases,) the second word of each phrase.
        joined: (phrases,) the word that replaces the two.
        ends: (sentences,) the number of resulting words before each sentence's end, written here.

    Returns:
        The number of resulting words.
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
    """The two integers that identify a word: bytes 0-7 and bytes 8-15, or a hash of all bytes from 8 on."""
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
    """The hash of a word, from its key and length; the index where probing begins, once masked."""
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
def _rehash(old: NDArray[np.uint64], new: NDArray[np.uint64]) -> None:
    mask = len(new) - 1
    for i in range(len(old)):
        if old[i, 2] == 0:
            continue
        at = _home(old[i, 0], old[i, 1], np.int64(old[i, 2] >> HALF)) & mask
        while new[at, 2] != 0:
            at = (at + 1) & mask
        for part in range(4):
            new[at, part] = old[i, part]
