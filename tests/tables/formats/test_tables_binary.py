"""word2vec's binary file: equal to gensim both ways, keys of any length, damage by its row."""

from __future__ import annotations

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import given
from hypothesis import strategies as st

from omnivec.errors import UsageError, WeightsError
from omnivec.tables.formats import binary
from omnivec.tables.formats.binary import read_word2vec_binary, write_word2vec_binary
from omnivec.tables.record import Table

KEYS = ["the", "Zürich", "日本", "🙂", "a\u2028b", "x" * 3000, "\xa0", "</s>"]


def table(keys=KEYS, dim=5) -> Table:
    return Table(list(keys), np.random.default_rng(1).normal(size=(len(keys), dim)).astype(np.float32))


def test_gensim_reads_what_we_write(tmp_path):
    ours = table()
    write_word2vec_binary(tmp_path / "t.bin", ours)
    theirs = KeyedVectors.load_word2vec_format(tmp_path / "t.bin", binary=True)
    assert theirs.index_to_key == ours.keys
    np.testing.assert_array_equal(theirs.vectors, ours.vectors)


def test_we_read_what_gensim_writes(tmp_path):
    """gensim writes no line feed behind a row, the original program does: both are read."""
    theirs = KeyedVectors(5)
    theirs.add_vectors(KEYS, table().vectors)
    theirs.save_word2vec_format(tmp_path / "t.bin", binary=True)
    for limit, count in ((0, 8), (3, 3), (100, 8)):
        read = read_word2vec_binary(tmp_path / "t.bin", limit)
        assert read.keys == KEYS[:count]
        np.testing.assert_array_equal(read.vectors, theirs.vectors[:count])


@pytest.mark.parametrize("window", [1 << 20, 300, 70, 1])
def test_rows_across_windows(tmp_path, monkeypatch, window):
    """Numbers whose bytes look like blanks and line feeds, and windows that end inside a row."""
    monkeypatch.setattr(binary, "_WINDOW", window)
    bits = np.random.default_rng(0).choice(np.frombuffer(b" \n\x0a\x20", np.uint8), (40, 24))
    ours = Table([f"key{i}" for i in range(40)], bits.view(np.float32).copy())
    write_word2vec_binary(tmp_path / "t.bin", ours)
    read = read_word2vec_binary(tmp_path / "t.bin")
    assert read.keys == ours.keys
    np.testing.assert_array_equal(read.vectors, ours.vectors)


def test_without_a_first_line(tmp_path):
    ours = table()
    write_word2vec_binary(tmp_path / "t.bin", ours)
    (tmp_path / "bare.bin").write_bytes((tmp_path / "t.bin").read_bytes().partition(b"\n")[2])
    read = read_word2vec_binary(tmp_path / "bare.bin", dim=5)
    assert read.keys == KEYS
    np.testing.assert_array_equal(read.vectors, ours.vectors)
    with pytest.raises(WeightsError, match="is not the number of keys"):
        read_word2vec_binary(tmp_path / "bare.bin")


def test_duplicates_and_utf8(tmp_path):
    path = tmp_path / "t.bin"
    rows = np.arange(8, dtype="<f4").reshape(4, 2)
    path.write_bytes(
        b"4 2\n"
        + b"".join(k + b" " + r.tobytes() for k, r in zip([b"a", b"b", b"a", b"\xe6\x97"], rows, strict=True))
    )
    with pytest.raises(WeightsError, match=r"row 4: the key b'\\xe6\\x97' is not UTF-8"):
        read_word2vec_binary(path)
    read = read_word2vec_binary(path, errors="replace")
    assert read.keys == ["a", "b", "\ufffd"] and read.duplicates == 1
    assert read.vectors.tolist() == [[0, 1], [2, 3], [6, 7]]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"1000000000000 300\nab ", "says 1000000000000 rows of 300 numbers, its 21 bytes hold at most 0"),
        (b"1 1000000000000\nab ", "its 19 bytes hold at most 0"),
        (b"2 1\nab \0\0\0\0abcdefgh", "row 2 of 2 at byte 11"),
        (b"2 1\nab \0\0\0\0abcde fg", "row 2 of 2 at byte 11"),
        (b"1 2\nab \0\0\0\0\0\0\xc0\x7f", "row 1: 1 of 2 numbers are NaN"),
        (b"words\n", "is not the number of keys"),
        (b"0 3\n", "holds no vectors"),
        (b"", "is not the number of keys"),
    ],
)
def test_damage(tmp_path, content, named):
    (tmp_path / "t.bin").write_bytes(content)
    with pytest.raises(WeightsError, match=named):
        read_word2vec_binary(tmp_path / "t.bin")


@given(
    keys=st.lists(
        st.text(min_size=1).filter(lambda key: set(" \t\n\r\v\f\0").isdisjoint(key) and key.isprintable()),
        min_size=1,
        max_size=6,
        unique=True,
    ),
    raw=st.binary(min_size=4 * 6 * 3, max_size=4 * 6 * 3),
)
def test_round_trip(tmp_path_factory, keys, raw):
    path = tmp_path_factory.mktemp("binary") / "t.bin"
    vectors = np.nan_to_num(np.frombuffer(raw, "<f4").reshape(6, 3)[: len(keys)])
    write_word2vec_binary(path, Table(keys, vectors))
    read = read_word2vec_binary(path)
    assert read.keys == keys and read.vectors.tobytes() == vectors.tobytes()


def test_a_key_with_a_blank_is_refused(tmp_path):
    with pytest.raises(UsageError, match="'New York' cannot be written as word2vec binary"):
        write_word2vec_binary(tmp_path / "t.bin", table(["New York"]))
