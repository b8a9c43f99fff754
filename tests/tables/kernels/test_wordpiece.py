"""Hash tables of spellings, and texts cut into ids and marks, against Python's own dict and loops."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from omnivec.tables.kernels import spellings, wordpiece

HEADS = {b"un": 1, b"able": 2, b"a": 3, b",": 4, b"unable": 5, b"aff": 6}
TAILS = {b"aff": 11, b"able": 12, b"a": 13, b"f": 14}
UNKNOWN, LONGEST = 0, 8


def rules(reserved=(), **changed):
    kinds = np.full(256, wordpiece.FOREIGN, np.uint8)
    kinds[:128] = wordpiece.INSIDE
    kinds[list(b" \n")], kinds[ord(",")], kinds[1] = wordpiece.BLANK, wordpiece.ALONE, wordpiece.DROPPED
    normal = np.array([*range(65), *range(97, 123), *range(91, 256)], np.uint8)
    opens = np.zeros(256, np.bool_)
    opens[[one[0] for one in reserved]] = True
    starts = np.cumsum([0, *map(len, reserved)])
    plain = wordpiece.Rules(
        kinds,
        normal,
        opens,
        np.frombuffer(b"".join(reserved), np.uint8),
        starts,
        True,
        False,
        UNKNOWN,
        -1,
        LONGEST,
    )
    return plain._replace(**changed)


def table(spelt):
    return spellings.of(list(spelt), list(spelt.values()))


def scan(texts, how, longest=4, entries=8):
    """Ids and marks of each text, what each mark of the memory stands for, and what was left."""
    memory = spellings.empty(entries, 100, longest)
    text = np.frombuffer(b"".join(texts), np.uint8)
    out = wordpiece.output(len(text), len(texts), how, memory)
    vocabulary = wordpiece.WordPieces(table(HEADS), table(TAILS))
    offsets = np.cumsum([0, *map(len, texts)])
    count = wordpiece.scan(text, offsets, how, vocabulary, memory, out)
    bounds = [0, *out.ends.tolist()]
    rows = [out.ids[begin:end].tolist() for begin, end in pairwise(bounds)]
    known = [bytes(memory.letters[memory.starts[i] : memory.starts[i + 1]]) for i in range(memory.size[0])]
    left = [bytes(text[begin:end]) for begin, end in out.left[:count]]
    return rows, known, left


@settings(deadline=None, derandomize=True)
@given(st.lists(st.binary(max_size=9), max_size=40))
def test_a_table_is_a_dict(keys):
    memory = spellings.empty(20, 60, 9)
    known: dict[bytes, int] = {}
    for key in keys:
        full = len(known) == 20 or sum(map(len, known)) + len(key) > 60
        expected = known[key] if key in known else -1 if full else known.setdefault(key, len(known))
        assert spellings.find_or_add(memory, np.frombuffer(key, np.uint8), 0, len(key)) == expected


def test_equal_hashes_are_told_apart():
    memory = table({b"abc": 7, b"abd": 8})
    memory.tags[:] = 5
    memory.slots[:] = -1
    memory.slots[1], memory.slots[2] = 0, 1  # the first of four that 5 means, and the next
    for entry, spelt in enumerate((b"abc", b"abd")):
        assert spellings.find(memory, np.uint64(5), np.frombuffer(spelt, np.uint8), 0, 3) == entry
    assert spellings.find(memory, np.uint64(5), np.frombuffer(b"abe", np.uint8), 0, 3) == -1


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (b"", []),
        (b" \n ", []),
        (b"unable", [5]),  # whole, though it could be cut
        (b"unaffable", [UNKNOWN]),  # nine bytes
        (b"unaffa", [1, 11, 13]),
        (b"UnAffA", [1, 11, 13]),
        (b"un\x01able", [5]),  # grown together
        (b"\x01", []),
        (b"unz a", [UNKNOWN, 3]),  # no trace of the pieces before
        (b"a,a,,", [3, 4, 3, 4, 4]),
        (b"affable", [6, 12]),
        (b"aaaaaaaa", [3] + [13] * 7),
        (b"aaaaaaaaa", [UNKNOWN]),
    ],
)
def test_words_and_pieces(text, ids):
    assert scan([text], rules()) == ([ids], [], [])


def test_foreign_chunks_are_marked_and_remembered():
    e = "é".encode()
    rows, known, left = scan([b"a " + e + b" a" + e + b",", e + b"abcd " + e, b"un"], rules())
    assert known == [e, b"a" + e + b","]
    assert left == [e + b"abcd"]  # longer than four bytes
    assert rows == [[3, -1, -2], [-9, -1], [1]]


def test_reserved_spellings_leave_a_text_whole():
    texts = [b"a <X> a", b"a <Y", b"un<x>", b"<x"]
    rows, known, left = scan(texts, rules([b"<x>", b"<y"]))
    assert (left, known) == (texts[:3], [])
    assert rows == [[-9], [-10], [-11], [UNKNOWN]]


def test_a_blank_may_belong_to_the_word_behind_it():
    texts = [b"ab cd", b" ab cd", b"ab  cd", b"ab ", b""]
    rows, known, left = scan(texts, rules(pieces=False, glued=True))
    assert known == [b"ab", b" cd", b" ab"]
    assert rows == [[-1, -2], [-3, -2], [-9], [-10], []]
    assert left == [b"ab  cd", b"ab "]


def test_what_a_full_memory_cannot_hold_is_left_whole():
    e = "é".encode()
    rows, known, left = scan([e, e + b"a a", e], rules(), entries=1)
    assert (known, left, rows) == ([e], [e + b"a a"], [[-1], [-2], [-1]])


def test_an_id_is_left_out():
    assert scan([b"a, unz a"], rules(dropped=UNKNOWN))[0] == [[3, 4, 3]]
    assert scan([b"unaffa"], rules(dropped=11))[0] == [[1, 13]]


def test_marks_expand_and_limits_cut():
    known = wordpiece.Remembered(np.array([[0, 2], [2, 2]]), np.array([70, 71], np.int32))
    rest = wordpiece.Remembered(np.array([[0, 3]]), np.array([90, 91, 92], np.int32))
    ids, ends = np.array([5, -1, -2, -3, 6, -1], np.int32), np.array([4, 4, 6])
    totals = np.empty(3, np.int64)
    wordpiece.lengths(ids, ends, known, rest, totals)
    assert totals.tolist() == [6, 0, 3]
    before, behind = np.array([1], np.int32), np.array([2], np.int32)
    offsets = np.cumsum([0, 4 + 2, 0 + 2, 2 + 2])
    out = np.full(offsets[-1], -7, np.int32)
    wordpiece.expand(ids, ends, known, rest, before, behind, offsets, out)
    assert out.tolist() == [1, 5, 70, 71, 90, 2, 1, 2, 1, 6, 70, 2]
