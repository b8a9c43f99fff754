"""Tables as text: with and without a first line, odd keys, damage by its line; equal to gensim both ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import given, settings
from hypothesis import strategies as st

from omnivec.errors import OmnivecError, UsageError, WeightsError
from omnivec.tables.formats import text
from omnivec.tables.formats.text import read_glove, read_text, read_word2vec_text
from omnivec.tables.io import read_table
from omnivec.tables.record import Table

KEYS = ["the", "Zürich", "日本", "it's", "🙂", "a\u2028b", "x\xa0y", "\x85", "7", "</s>"]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(keys=KEYS, dim=7, seed=0) -> Table:
    generator = np.random.default_rng(seed)
    return Table(list(keys), generator.normal(size=(len(keys), dim)).astype(np.float32))


def test_with_and_without_a_first_line(tmp_path):
    lines = "cat 1 -2.5 3e-2\ndog 4 5 6 \n"
    for name, content in (("glove.txt", lines), ("fasttext.vec", f"2 3\n{lines}")):
        read = read_text(write(tmp_path / name, content), dim=3)
        assert read.keys == ["cat", "dog"] and read.vectors.dtype == np.float32
        np.testing.assert_array_equal(read.vectors, np.array([[1, -2.5, 0.03], [4, 5, 6]], np.float32))


@pytest.mark.parametrize("blanks", [True, False])
def test_odd_keys(tmp_path, blanks):
    """Twice the same, with blanks, with a line separator of Unicode, numbers as keys."""
    content = "a 1 1\n. . . 2 2\na 3 3\nx\u2028y 4 4\n7 5 5\né 6 6\n"
    read = read_text(write(tmp_path / "odd.txt", content), dim=2, blanks=blanks)
    with_blank = [". . .", "x\u2028y"]
    assert read.keys == [key for key in ["a", *with_blank, "7", "é"] if blanks or key not in with_blank]
    assert read.vectors[:, 0].tolist() == ([1, 2, 4, 5, 6] if blanks else [1, 5, 6])
    assert read.duplicates == 1


def test_duplicates_across_blocks_and_within_one(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_BLOCK", 40)
    keys = [f"w{i % 17}" for i in range(50)]
    path = write(tmp_path / "t.txt", "".join(f"{key} {i} {-i}\n" for i, key in enumerate(keys)))
    read = read_glove(path)
    assert read.keys == keys[:17] and read.duplicates == 33
    assert read.vectors.tolist() == [[i, -i] for i in range(17)]


def test_tabs_doubled_blanks_and_empty_lines(tmp_path):
    read = read_text(write(tmp_path / "t.txt", "a\t1\t2\nb  3  4\n\nc d\t5\t6\r\n e 7 8\n"), dim=2)
    assert read.keys == ["a", "b", "c d", " e"]
    assert read.vectors.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]


def test_the_first_keys_and_some_wherever_they_stand(tmp_path):
    path = write(tmp_path / "many.txt", "".join(f"w{i} {i} {i}\n" for i in range(100)) + "broken")
    read = read_text(path, 3, dim=2, always=("w1", "w50"))
    assert read.keys == ["w0", "w1", "w2", "w50"] and read.vectors[:, 1].tolist() == [0, 1, 2, 50]
    assert read_glove(path, 5).keys == [f"w{i}" for i in range(5)]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("cat 1 2\ndog 1\n", "line 2: 1 numbers after 'dog', expected 2"),
        ("cat 1 2\ndog 1 two\n", "line 2: could not convert string to float: 'two'"),
        ("cat 1 2\ndog 1 2\nox 1 2 3 x\n", "line 3: could not convert string to float: 'x'"),
        ("cat 1 2\ndog 1 nan\n", "line 2: 1 of 2 numbers are NaN"),
        ("3 2\ncat 1 2\ndog -inf inf\n", "line 3: 2 of 2 numbers are NaN"),
        (b"cat 1 2\nd\xffg 1 3\n", r"line 2: the key b'd\\xffg' is not UTF-8 \(invalid start byte, byte 1\)"),
        ("", "holds no vectors"),
        ("0 2\n", "holds no vectors"),
        ("3 2\ncat 1 2\ndog 1 3\n", "first line says 3 keys, 2 follow"),
        ("1 2\ncat 1 2\ndog 1 3\n", "first line says 1 keys, 2 follow"),
        ("1000000000000 2\ncat 1 2\n", "first line says 1000000000000 keys, 1 follow"),
        ("1 1000000000000\ncat 1 2\n", "expected 2"),
    ],
)
def test_damage_is_named_with_its_line(tmp_path, content, named):
    with pytest.raises(WeightsError, match=named) as caught:
        read_text(write(tmp_path / "bad.txt", content), dim=2)
    assert "\n" not in str(caught.value)


def test_huge_claims_without_an_expected_dimension(tmp_path):
    with pytest.raises(WeightsError, match="line 2: 2 numbers after 'cat', expected 1000000000000"):
        read_word2vec_text(write(tmp_path / "bad.txt", "1 1000000000000\ncat 1 2\n"))


def test_replaced_utf8(tmp_path):
    path = write(tmp_path / "t.txt", b"cat 1 2\nd\xffg 1 3\n")
    assert read_text(path, errors="replace").keys == ["cat", "d\ufffdg"]


def test_a_missing_file(tmp_path):
    with pytest.raises(WeightsError, match="cannot be read"):
        read_glove(tmp_path / "none.txt")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # gensim leaves a file open
@pytest.mark.parametrize("header", [True, False])
def test_gensim_reads_what_we_write(tmp_path, header):
    ours = table()
    (text.write_word2vec_text if header else text.write_glove)(tmp_path / "t.txt", ours)
    theirs = KeyedVectors.load_word2vec_format(tmp_path / "t.txt", no_header=not header)
    assert theirs.index_to_key == ours.keys
    np.testing.assert_array_equal(theirs.vectors, ours.vectors)


@pytest.mark.parametrize("header", [True, False])
def test_we_read_what_gensim_writes(tmp_path, header):
    theirs = KeyedVectors(7)
    theirs.add_vectors(KEYS, table().vectors)
    theirs.save_word2vec_format(tmp_path / "t.txt", write_header=header)
    for read in (
        read_text(tmp_path / "t.txt"),
        (read_word2vec_text if header else read_glove)(tmp_path / "t.txt"),
    ):
        assert read.keys == KEYS
        np.testing.assert_array_equal(read.vectors, theirs.vectors)


SEPARATORS = set(" \t\n\r\v\f\0")
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
odd_keys = st.lists(
    st.text(min_size=1).filter(
        lambda key: (SEPARATORS.isdisjoint(key) and key.isprintable()) or key == "\x1c"
    ),
    min_size=1,
    max_size=8,
    unique=True,
)


@given(keys=odd_keys, data=st.data(), header=st.booleans())
def test_round_trip(tmp_path_factory, keys, data, header):
    dim = data.draw(st.integers(2, 4))
    rows = data.draw(
        st.lists(st.lists(finite, min_size=dim, max_size=dim), min_size=len(keys), max_size=len(keys))
    )
    path = tmp_path_factory.mktemp("text") / "t.txt"
    written = Table(keys, np.array(rows, np.float32))
    (text.write_word2vec_text if header else text.write_glove)(path, written)
    read = read_text(path, header=header)
    assert read.keys == keys and read.duplicates == 0
    assert read.vectors.tobytes() == written.vectors.tobytes()


@pytest.mark.parametrize("key", ["", "a b", "a\nb", "a\tb", "a\0", "\r", "\ud800"])
def test_keys_that_text_cannot_hold(tmp_path, key):
    with pytest.raises(UsageError, match=r"cannot be written|cannot be encoded"):
        text.write_vec(tmp_path / "t.vec", Table(["ok", key], np.ones((2, 2), np.float32)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", "\t\r\n"])
def test_a_byte_order_mark_and_other_line_ends(tmp_path, header, end):
    """With the mark in front, the first line was a key of a table of one dimension."""
    lines = ["2 3"] * header + ["king 1 2 3", "que\xa0en 4 5 6"]
    for last in (end, ""):
        content = "\ufeff" + end.join(lines) + last
        path = write(tmp_path / "t.vec", content)
        for read in (read_table(path), read_text(path, dim=3)):
            assert read.keys == ["king", "que\xa0en"]
            assert read.vectors.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("2 1\nking 1 2 3\nqueen 4 5 6\n", "line 2: 3 numbers after 'king', expected 1"),
        ("2 4\nking 1 2 3\nqueen 4 5 6\n", "line 2: 3 numbers after 'king', expected 4"),
        ("2 3\nking 1 2 3\nqueen 4 5 6 7\n", "line 3: 4 numbers after 'queen', expected 3"),
        ("king 1 2 3\nqueen 4 5 6 7\n", "line 2: 4 numbers after 'queen', expected 3"),
        ("king 1 2 3\nqueen 4 5\n", "line 2: 2 numbers after 'queen', expected 3"),
        ("2 3\n1 300 1 2 3\nqueen 4 5 6\n", "line 2: 4 numbers after '1', expected 3"),
        ("1 300\n2 301\n3 302\n", "line 2: 1 numbers after '2', expected 300"),
        ("3 3\nking 1 2 3\nqueen 4 5 6\n", "line 1: its first line says 3 keys, 2 follow"),
        ("1 3\nking 1 2 3\nqueen 4 5 6\n", "line 1: its first line says 1 keys, 2 follow"),
        ("2 3\nking 1\t2 3 4\nqueen 1  3\n", "line 2: 4 numbers after 'king', expected 3"),
        ("2 3\nking 1 2 inf\nqueen 4 5 6\n", "line 2: 1 of 3 numbers are NaN"),
        ("2 3\nking 1 2 1e999\nqueen 4 5 6\n", "line 2: 1 of 3 numbers are NaN"),
        ("2 3\nking 1 2 3\nqueen 4 5 x\n", "line 3: could not convert string to float: 'x'"),
        ("\ufeff2 1\nking 1 2 3\n", "line 2: 3 numbers after 'king', expected 1"),
    ],
)
def test_lines_that_disagree_are_named(tmp_path, content, named):
    """Numbers that the first line does not count became part of the key: "king 1 2"."""
    with pytest.raises(WeightsError, match=named):
        read_table(write(tmp_path / "t.vec", content))


def test_utf16_is_named(tmp_path):
    with pytest.raises(OmnivecError, match="UTF-16"):
        read_text(write(tmp_path / "t.vec", "2 3\nking 1 2 3\n".encode("utf-16")))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # gensim leaves a file open
@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.text(st.sampled_from("ab7\xa0\u3000.é"), min_size=1, max_size=3),
            st.lists(st.sampled_from(["1", "-2.5", "3e-2", "7"]), min_size=1, max_size=4),
            st.sampled_from(["\n", "\r\n", " \n"]),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda row: row[0],
    ),
    said=st.one_of(st.none(), st.tuples(st.integers(1, 5), st.integers(1, 4))),
)
def test_what_gensim_reads_is_read_alike_and_nothing_else_is(tmp_path_factory, rows, said):
    """Where gensim refuses, so do we; where it stops after the rows that a first line counts, we refuse too."""
    path = tmp_path_factory.mktemp("text") / "t.vec"
    head = "" if said is None else f"{said[0]} {said[1]}\n"
    path.write_bytes((head + "".join(" ".join([key, *row]) + end for key, row, end in rows)).encode())
    dims = {len(row) for _, row, _ in rows}
    agrees = len(dims) == 1 and (said is None or said == (len(rows), *dims))
    if said is None and rows[0][0].isdigit() and rows[0][1][0].isdigit() and len(rows[0][1]) == 1:
        return  # a first line, as far as anybody can tell
    if not agrees:
        with pytest.raises(WeightsError):
            read_table(path)
        return
    read = read_table(path)
    theirs = KeyedVectors.load_word2vec_format(path, no_header=said is None)
    assert read.keys == theirs.index_to_key
    np.testing.assert_array_equal(read.vectors, theirs.vectors)


def test_rows_of_letters_are_never_binary_numbers(tmp_path):
    # Each row is as long as one of three float32 would be.
    path = tmp_path / "comma.vec"
    path.write_bytes(b"3 3\nking 1,5 2,5 3,5\nqueen 1,5 2,5 3,5\nman 1,5 2,5 3,5\n")
    with pytest.raises(WeightsError, match="line 2: could not convert string to float: '1,5'"):
        read_table(path)
    path.write_bytes("1 3\nkönig 1,5 2,5 3,5é".encode()[:-1])
    with pytest.raises(WeightsError):
        read_table(path)


def test_a_header_of_no_keys_is_a_table_without_vectors(tmp_path):
    path = tmp_path / "empty.vec"
    for content in (b"0 0\n", b"0 0", b"0 5\n"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="holds no vectors"):
            read_table(path)
