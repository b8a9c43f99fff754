"""A hash table from spellings (byte strings) to numbers, made of arrays that kernels read and fill.

Open addressing with linear probing. The 64-bit FNV-1a hash is compared first, then every byte, so lookups are exact
even when hashes collide.

    table = of([b"un", b"able"], [3, 4])    entries 0 and 1; starts [0, 2, 6], letters b"unable", values [3, 4]
    find(table, tag of b"able", ...)        entry 1; its number is values[1] == 4
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnivec.tables.kernels.simd import lean

SEED = np.uint64(14695981039346656037)
PRIME = np.uint64(1099511628211)
HALF = np.uint64(32)


class Spellings(NamedTuple):
    """The table.

    Attributes:
        slots: (c,) int32, the entry in each slot, -1 in a free one; c is a power of two.
        tags: (c,) uint64, the hash of the spelling in each slot.
        starts: (m + 1,) int64, the offset of each entry in `letters`.
        letters: (b,) uint8, the bytes of all spellings, concatenated.
        values: (m,) int32, the number of each entry.
        size: (1,) int64, entries so far.
        longest: the longest spelling that it holds, in bytes.
    """

    slots: NDArray[np.int32]
    tags: NDArray[np.uint64]
    starts: NDArray[np.int64]
    letters: NDArray[np.uint8]
    values: NDArray[np.int32]
    size: NDArray[np.int64]
    longest: int


def empty(entries: int, letters: int, longest: int) -> Spellings:
    """A table with room for this many entries and bytes; it has at least twice as many slots as entries."""
    capacity = 1 << (2 * max(entries, 1) - 1).bit_length()
    return Spellings(
        np.full(capacity, -1, np.int32),
        np.zeros(capacity, np.uint64),
        np.zeros(entries + 1, np.int64),
        np.zeros(letters, np.uint8),
        np.zeros(entries, np.int32),
        np.zeros(1, np.int64),
        longest,
    )


def of(spellings: Sequence[bytes], values: Sequence[int]) -> Spellings:
    """A table of distinct spellings and their numbers."""
    table = empty(len(spellings), sum(map(len, spellings)), max(map(len, spellings), default=0))
    letters = np.frombuffer(b"".join(spellings), np.uint8)
    starts = np.cumsum([0, *map(len, spellings)])
    _fill(table, letters, starts, np.array(values, np.int32))
    return table


@lean
def step(tag: Any, letter: Any) -> Any:
    """The hash of a spelling with one more byte."""
    return (tag ^ np.uint64(letter)) * PRIME


@lean
def _slot(table: Any, tag: Any, letters: Any, begin: Any, end: Any) -> Any:
    """The slot that holds the spelling letters[begin:end], or the free slot that it would take."""
    mask = np.int64(len(table.slots) - 1)
    slot = np.int64(tag ^ (tag >> HALF)) & mask
    while True:
        entry = table.slots[slot]
        if entry < 0:
            return slot
        if table.tags[slot] == tag and table.starts[entry + 1] - table.starts[entry] == end - begin:
            shift = table.starts[entry] - begin
            i = begin
            while i < end and table.letters[shift + i] == letters[i]:
                i += 1
            if i == end:
                return slot
        slot = (slot + 1) & mask


@lean
def find(table: Any, tag: Any, letters: Any, begin: Any, end: Any) -> Any:
    """The entry of the spelling letters[begin:end], whose hash is `tag`; -1 if there is none."""
    return table.slots[_slot(table, tag, letters, begin, end)]


@lean
def find_or_add(table: Any, letters: Any, begin: Any, end: Any) -> Any:
    """The entry of the spelling letters[begin:end], added if there was none; -1 if the table is full."""
    tag = SEED
    for i in range(begin, end):
        tag = step(tag, letters[i])
    slot = _slot(table, tag, letters, begin, end)
    if table.slots[slot] >= 0:
        return table.slots[slot]
    entry = table.size[0]
    start = table.starts[entry]
    if entry == len(table.values) or start + end - begin > len(table.letters):
        return np.int32(-1)
    for i in range(end - begin):
        table.letters[start + i] = letters[begin + i]
    table.starts[entry + 1] = start + end - begin
    table.slots[slot], table.tags[slot] = entry, tag
    table.size[0] = entry + 1
    return np.int32(entry)


@lean
def _fill(table: Any, letters: Any, starts: Any, values: Any) -> None:
    for i in range(len(values)):
        table.values[find_or_add(table, letters, starts[i], starts[i + 1])] = values[i]
