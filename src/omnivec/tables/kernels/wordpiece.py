"""Bytes to token ids: ASCII by greedy longest-match WordPiece; everything else is left to another tokenizer.

Schuster and Nakajima 2012, "Japanese and Korean voice search"; texts are split into words as BERT does (Devlin et al.
2019, "BERT", section 3).

A text is split at whitespace into chunks. For a chunk that is not tokenised here, `scan` writes a mark, a negative
number, in place of its ids: -1 - e for entry e of the cache of chunks; with a cache of m entries, -1 - m - i for row i
of `Output.left`, which names a chunk too long for the cache or a whole text. `expand` replaces marks by ids.

Example: "Hello, unable Café" with the pieces un 3, ##able 4, hello 5 and "," 6, and an empty cache:

    chunk       Hello,          unable          Café
    words       hello  ,        unable          (not ASCII)
    heads       5      6        -               "unable" is not a word; its longest head is "un", then tail "able"
    ids         5 6             3 4             -1, with "Café" added to the cache as entry 0
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnivec.tables.kernels import spellings
from omnivec.tables.kernels.simd import lean
from omnivec.tables.kernels.spellings import Spellings, find, find_or_add, step

# Kinds of bytes, after normalisation.
INSIDE = 0
"""Part of a word."""
DROPPED = 1
"""Removed by normalisation, without splitting the word."""
BLANK = 2
"""Whitespace, between words."""
ALONE = 3
"""A word by itself: punctuation."""
FOREIGN = 4
"""Part of a non-ASCII character: its chunk is left to another tokenizer."""
HEAVY = 5
"""Makes the whole text go to another tokenizer."""

SEED = spellings.SEED


class Rules(NamedTuple):
    """How texts are split.

    Attributes:
        kinds: (256,) uint8, the kind of each byte.
        normal: (256,) uint8, each byte after normalisation; unchanged if not ASCII.
        opens: (256,) bool, whether a reserved spelling may begin with this byte, after normalisation.
        reserved: (b,) uint8, normalised bytes of the spellings that make a text heavy, concatenated.
        reserved_starts: (r + 1,) int64, the offset of each of them.
        pieces: whether ASCII words are split into pieces here; else all chunks are left to another tokenizer.
        glued: whether the space before a chunk belongs to it; then two spaces in a row make a text heavy.
        unknown: id of a word that cannot be split into pieces.
        dropped: id that is left out; -1 for none.
        longest_word: bytes of the longest word that is split into pieces; longer ones are unknown.
    """

    kinds: NDArray[np.uint8]
    normal: NDArray[np.uint8]
    opens: NDArray[np.bool_]
    reserved: NDArray[np.uint8]
    reserved_starts: NDArray[np.int64]
    pieces: bool
    glued: bool
    unknown: int
    dropped: int
    longest_word: int


class Remembered(NamedTuple):
    """The ids that marks stand for: those of entry e are ids[spans[e, 0] : spans[e, 1]].

    Attributes:
        spans: (m, 2) int64, start and end offsets, end exclusive.
        ids: (k,) int32.
    """

    spans: NDArray[np.int64]
    ids: NDArray[np.int32]


class WordPieces(NamedTuple):
    """The word pieces.

    Attributes:
        heads: pieces at the start of a word, whole words included.
        tails: pieces inside a word, without their prefix ("##").
    """

    heads: Spellings
    tails: Spellings


class Output(NamedTuple):
    """The arrays that `scan` writes to.

    Attributes:
        ids: (b + n,) int32, ids and marks; never more than bytes and texts together.
        ends: (n,) int64, the end of each text's ids.
        left: (m, 2) int64, start and end offsets in the text of what is left to the tokenizer and not cached; m is
            at least b / longest + n + 1.
        word: (w,) uint8, buffer for a normalised word.
        tags: (w,) uint64, buffer for the hashes of a word's beginnings.
    """

    ids: NDArray[np.int32]
    ends: NDArray[np.int64]
    left: NDArray[np.int64]
    word: NDArray[np.uint8]
    tags: NDArray[np.uint64]


def output(size: int, texts: int, rules: Rules, memory: Spellings) -> Output:
    """Arrays large enough for the ids of this many bytes in this many texts."""
    return Output(
        np.empty(size + texts, np.int32),
        np.empty(texts, np.int64),
        np.empty((size // max(memory.longest, 1) + texts + 1, 2), np.int64),
        np.empty(rules.longest_word + 1, np.uint8),
        np.empty(rules.longest_word + 1, np.uint64),
    )


@lean
def _is_reserved(text: Any, i: Any, end: Any, rules: Any) -> Any:
    """Whether a reserved spelling begins at byte `i`."""
    for r in range(len(rules.reserved_starts) - 1):
        start, stop = rules.reserved_starts[r], rules.reserved_starts[r + 1]
        k = start
        while k < stop and i + k - start < end and rules.normal[text[i + k - start]] == rules.reserved[k]:
            k += 1
        if k == stop:
            return True
    return False


@lean
def _put(out: Any, at: Any, token: Any, rules: Any) -> Any:
    """Writes a token id at `at` unless it is to be left out; returns the next free index."""
    if token == rules.dropped:
        return at
    out.ids[at] = token
    return at + 1


@lean
def _pieces(length: Any, rules: Any, vocabulary: Any, out: Any, at: Any) -> Any:
    """Writes the pieces of a word by greedy longest match, or the unknown id; returns the next free index."""
    begin, to = 0, at
    while begin < length:
        table = vocabulary.heads if begin == 0 else vocabulary.tails
        most = min(table.longest, length - begin)
        tag = SEED
        for i in range(most):
            tag = step(tag, out.word[begin + i])
            out.tags[i] = tag
        entry = np.int32(-1)
        while most > 0:
            entry = find(table, out.tags[most - 1], out.word, begin, begin + most)
            if entry >= 0:
                break
            most -= 1
        if entry < 0:
            return _put(out, at, rules.unknown, rules)
        to = _put(out, to, table.values[entry], rules)
        begin += most
    return to


@lean
def _words(text: Any, begin: Any, end: Any, rules: Any, vocabulary: Any, out: Any, at: Any) -> Any:
    """Writes the ids of an ASCII chunk; returns the next free index."""
    i = begin
    while i < end:
        length, tag = 0, SEED
        while i < end:
            kind = rules.kinds[text[i]]
            if kind == ALONE and length > 0:
                break
            if kind != DROPPED:
                letter = rules.normal[text[i]]
                tag = step(tag, letter)
                if length < rules.longest_word:
                    out.word[length] = letter
                length += 1
            i += 1
            if kind == ALONE:
                break
        if length > rules.longest_word:
            at = _put(out, at, rules.unknown, rules)
        elif length > 0:
            # Most words are one token.
            entry = find(vocabulary.heads, tag, out.word, 0, length)
            if entry >= 0:
                at = _put(out, at, vocabulary.heads.values[entry], rules)
            else:
                at = _pieces(length, rules, vocabulary, out, at)
    return at


@lean
def _chunk(text: Any, i: Any, end: Any, rules: Any) -> Any:
    """The end of the chunk that begins at byte `i`, and the highest kind among its bytes."""
    highest = INSIDE
    while i < end:
        letter = text[i]
        kind = rules.kinds[letter]
        if kind == BLANK:
            break
        if rules.opens[rules.normal[letter]] and _is_reserved(text, i, end, rules):
            kind = HEAVY
        highest = max(highest, kind)
        i += 1
    return i, highest


@lean
def _text(
    text: Any, i: Any, end: Any, rules: Any, vocabulary: Any, memory: Any, out: Any, at: Any, count: Any
) -> Any:
    """Writes the ids and marks of a text; returns the next free indices in `ids` (-1 for a heavy text) and `left`."""
    while True:
        begin = i
        while i < end and rules.kinds[text[i]] == BLANK:
            i += 1
        if rules.glued and (i > begin + 1 or (i > begin and i == end)):
            return -1, count
        if i == end:
            return at, count
        first = begin if rules.glued else i
        i, highest = _chunk(text, i, end, rules)
        if highest == HEAVY:
            return -1, count
        if rules.pieces and highest < FOREIGN:
            at = _words(text, first, i, rules, vocabulary, out, at)
            continue
        if i - first > memory.longest:
            out.left[count, 0], out.left[count, 1] = first, i
            out.ids[at] = -1 - len(memory.values) - count
            count += 1
        else:
            entry = find_or_add(memory, text, first, i)
            if entry < 0:
                return -1, count
            out.ids[at] = -1 - entry
        at += 1


@lean
def scan(text: Any, offsets: Any, rules: Any, vocabulary: Any, memory: Any, out: Any) -> Any:
    """Splits texts into ids and marks.

    Args:
        text: (b,) uint8, all texts in UTF-8, concatenated.
        offsets: (n + 1,) int64, the offset of each text, and the end of the last.
        rules: how texts are split.
        vocabulary: the word pieces.
        memory: the cache of chunks; new chunks are added.
        out: the arrays to write to.

    Returns:
        The number of rows of `out.left`.
    """
    at, count = 0, 0
    for t in range(len(offsets) - 1):
        to, more = _text(text, offsets[t], offsets[t + 1], rules, vocabulary, memory, out, at, count)
        if to < 0:
            out.left[count, 0], out.left[count, 1] = offsets[t], offsets[t + 1]
            out.ids[at] = -1 - len(memory.values) - count
            to, more = at + 1, count + 1
        at, count = to, more
        out.ends[t] = at
    return count


@lean
def lengths(ids: Any, ends: Any, known: Any, rest: Any, totals: Any) -> None:
    """Writes the number of ids of each text, marks expanded, to `totals` (n,) int64."""
    begin = 0
    for t in range(len(ends)):
        total = 0
        for i in range(begin, ends[t]):
            mark = -1 - np.int64(ids[i])
            if mark < 0:
                total += 1
            elif mark < len(known.spans):
                total += known.spans[mark, 1] - known.spans[mark, 0]
            else:
                mark -= len(known.spans)
                total += rest.spans[mark, 1] - rest.spans[mark, 0]
        totals[t] = total
        begin = ends[t]


@lean
def expand(
    ids: Any, ends: Any, known: Any, rest: Any, before: Any, behind: Any, offsets: Any, out: Any
) -> None:
    """Writes each text's ids, marks expanded, cut off where the text's room in `out` ends.

    Args:
        ids: ids and marks, as `scan` writes them.
        ends: (n,) the end of each text's ids.
        known: the ids of cached chunks.
        rest: the ids that the other marks stand for.
        before: (s,) int32, ids put before each text.
        behind: ids put after each text.
        offsets: (n + 1,) int64, the offset of each text in `out`, and the end of the last.
        out: the ids, written here.
    """
    begin = 0
    for t in range(len(ends)):
        at, room = offsets[t], offsets[t + 1] - len(behind)
        for token in before:
            out[at] = token
            at += 1
        for i in range(begin, ends[t]):
            if at >= room:
                break
            mark = -1 - np.int64(ids[i])
            if mark < 0:
                out[at] = ids[i]
                at += 1
                continue
            # Choosing between the two tuples first would copy them.
            cached = mark < len(known.spans)
            row = mark if cached else mark - len(known.spans)
            first = known.spans[row, 0] if cached else rest.spans[row, 0]
            last = known.spans[row, 1] if cached else rest.spans[row, 1]
            for k in range(first, min(last, first + room - at)):
                out[at] = known.ids[k] if cached else rest.ids[k]
                at += 1
        for token in behind:
            out[at] = token
            at += 1
        begin = ends[t]
