"""Bytes to token ids: plain ASCII by greedy longest-match WordPiece, everything else named for another tokenizer.

Schuster and Nakajima 2012, "Japanese and Korean voice search"; cut into words as BERT does (Devlin et al. 2019,
"BERT", section 3).

A text is cut at its white space into chunks. What is not computed here leaves a mark, a negative number, in the ids:
-1 - e for entry e of the table of remembered chunks, below that for a chunk or text that is too long or too special
to remember. `expand` puts ids in the place of marks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnivec.tables.kernels import spellings
from omnivec.tables.kernels.simd import lean
from omnivec.tables.kernels.spellings import Spellings, find, find_or_add, step

# What a byte is, once normalised.
INSIDE = 0
"""Part of a word."""
DROPPED = 1
"""Taken out; what is beside it grows together."""
BLANK = 2
"""Between words."""
ALONE = 3
"""A word by itself: punctuation."""
FOREIGN = 4
"""Part of a character beyond ASCII: its chunk is left to another tokenizer."""
HEAVY = 5
"""The whole text is left to another tokenizer."""

SEED = spellings.SEED


class Rules(NamedTuple):
    """How texts are cut.

    Attributes:
        kinds: what each byte is (256,) uint8.
        normal: each byte as normalised (256,) uint8; itself where it is no ASCII.
        opens: whether a reserved spelling may begin with this normalised byte (256,) bool.
        reserved: normalised bytes (b,) uint8 of spellings that make a text heavy, one behind the other.
        reserved_starts: where each of them starts (r + 1,) int64.
        pieces: whether ASCII words are cut into pieces here; else all chunks are left to another tokenizer.
        glued: whether the blank before a chunk belongs to it; then two blanks in a row make a text heavy.
        unknown: id of a word that has no pieces.
        dropped: id that is left out; -1 for none.
        longest_word: bytes of the longest word that is cut into pieces.
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
    """Where the ids of marks lie: rows spans[e] of `ids`.

    Attributes:
        spans: begin and end (m, 2) int64.
        ids: (k,) int32.
    """

    spans: NDArray[np.int64]
    ids: NDArray[np.int32]


class Vocabulary(NamedTuple):
    """The pieces of words.

    Attributes:
        heads: those at the start of a word; whole words among them.
        tails: those within a word.
    """

    heads: Spellings
    tails: Spellings


class Output(NamedTuple):
    """Where a scan writes.

    Attributes:
        ids: ids and marks, as many (b + n,) int32 as there are bytes and texts.
        ends: where the ids of each text end (n,) int64.
        left: begin and end (m, 2) int64 in the text of what is not in memory; m is at least b / longest + n + 1.
        word: a word as normalised, room for the longest (w,) uint8.
        tags: hashes of its beginnings (w,) uint64.
    """

    ids: NDArray[np.int32]
    ends: NDArray[np.int64]
    left: NDArray[np.int64]
    word: NDArray[np.uint8]
    tags: NDArray[np.uint64]


def output(size: int, texts: int, rules: Rules, memory: Spellings) -> Output:
    """Room for the ids of so many bytes in so many texts."""
    return Output(
        np.empty(size + texts, np.int32),
        np.empty(texts, np.int64),
        np.empty((size // max(memory.longest, 1) + texts + 1, 2), np.int64),
        np.empty(rules.longest_word + 1, np.uint8),
        np.empty(rules.longest_word + 1, np.uint64),
    )


@lean
def _is_reserved(text: Any, i: Any, end: Any, rules: Any) -> Any:
    """Whether a reserved spelling begins at a byte."""
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
    if token == rules.dropped:
        return at
    out.ids[at] = token
    return at + 1


@lean
def _pieces(length: Any, rules: Any, vocabulary: Any, out: Any, at: Any) -> Any:
    """Writes the pieces of a word, the longest first, or the unknown word's id; the place behind them."""
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
    """Writes the ids of a chunk of ASCII; the place behind them."""
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
    """Where the chunk that begins at a byte ends, and the gravest kind of its bytes."""
    gravest = INSIDE
    while i < end:
        letter = text[i]
        kind = rules.kinds[letter]
        if kind == BLANK:
            break
        if rules.opens[rules.normal[letter]] and _is_reserved(text, i, end, rules):
            kind = HEAVY
        gravest = max(gravest, kind)
        i += 1
    return i, gravest


@lean
def _text(
    text: Any, i: Any, end: Any, rules: Any, vocabulary: Any, memory: Any, out: Any, at: Any, count: Any
) -> Any:
    """Writes the ids and marks of a text; the places behind them and in `left`, -1 for a heavy text."""
    while True:
        begin = i
        while i < end and rules.kinds[text[i]] == BLANK:
            i += 1
        if rules.glued and (i > begin + 1 or (i > begin and i == end)):
            return -1, count
        if i == end:
            return at, count
        first = begin if rules.glued else i
        i, gravest = _chunk(text, i, end, rules)
        if gravest == HEAVY:
            return -1, count
        if rules.pieces and gravest < FOREIGN:
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
    """Cuts texts into ids and marks.

    Args:
        text: UTF-8 (b,) uint8 of all texts, one behind the other.
        offsets: where each text starts, and the end (n + 1,) int64.
        rules: how they are cut.
        vocabulary: the pieces of words.
        memory: the table of chunks, whose entries marks name; it is filled.
        out: where to write.

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
    """The number of ids (n,) int64 of each text, marks expanded."""
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
    """Writes each text's ids, marks expanded, as many as offsets (n + 1,) int64 leave room for.

    Args:
        ids: ids and marks.
        ends: where those of each text end.
        known: what marks of the table of chunks stand for.
        rest: what the other marks stand for.
        before: ids (s,) int32 that go before each text.
        behind: ids that go behind it.
        offsets: where each text starts in `out`.
        out: out: the ids.
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
            # One of the two is read; a choice between tuples would copy them.
            here = mark < len(known.spans)
            row = mark if here else mark - len(known.spans)
            first = known.spans[row, 0] if here else rest.spans[row, 0]
            last = known.spans[row, 1] if here else rest.spans[row, 1]
            for k in range(first, min(last, first + room - at)):
                out[at] = known.ids[k] if here else rest.ids[k]
                at += 1
        for token in behind:
            out[at] = token
            at += 1
        begin = ends[t]
