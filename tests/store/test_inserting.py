"""Many documents in one write: what is stored, under which keys, with which checksums, in how many segments."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnivec.errors import UsageError
from omnivec.store import inserting, writing
from omnivec.store.records import SpaceRecord
from omnivec.types import SparseRow
from store_samples import document, passage


def read(catalogue, sql):
    with closing(sqlite3.connect(catalogue.folder / "catalogue.sqlite")) as file:
        return file.execute(sql).fetchall()


@pytest.mark.parametrize("n", [1, 2, 1023, 1024, 2500])
def test_rows_are_inserted_by_few_statements(n):
    sizes = list(inserting._sizes(n, 1024))
    assert sum(sizes) == n and len(sizes) <= n // 1024 + 10
    assert all(size & (size - 1) == 0 and size <= 1024 for size in sizes)


def test_rows_fit_a_small_limit_of_variables():
    with closing(sqlite3.connect(":memory:")) as file:
        file.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 7)
        file.execute("CREATE TABLE numbers (a, b)")
        rows = [(i, -i) for i in range(11)]
        inserting.insert_rows(file, "numbers", ("a", "b"), rows)
        assert file.execute("SELECT * FROM numbers").fetchall() == rows


def test_many_documents_of_several_passages_and_kinds_come_back(catalogue, monkeypatch):
    monkeypatch.setattr(inserting, "_PASSAGES_AT_ONCE", 100)  # in several portions
    catalogue.put_space(SpaceRecord("terms", "", 50, "dot", {}, {}, (), (), "sparse"))
    catalogue.put_space(SpaceRecord("several", "", 4, "cosine", {}, {}, (), (), "multi"))
    given_documents = []
    for i in range(150):
        pieces = [passage(f"piece {i} {j} 東京", float(j)) for j in range(i % 4)]
        if pieces:
            row = SparseRow(np.array([i % 50], np.uint32), np.array([i + 1], np.float32))
            parts = np.full((1 + i % 3, 4), i, np.float32)
            pieces[0] = replace(pieces[0], vectors={**pieces[0].vectors, "terms": row, "several": parts})
        given_documents.append(replace(document(f"d{i}"), passages=tuple(pieces), metadata={"i": i}))
    catalogue.write(given_documents)
    for one in given_documents:
        back = catalogue.document(one.id)
        assert back.metadata == one.metadata and len(back.passages) == len(one.passages)
        for ours, theirs in zip(back.passages, one.passages, strict=True):
            assert (ours.text, sorted(ours.vectors)) == (theirs.text, sorted(theirs.vectors))
            np.testing.assert_array_equal(ours.vectors["text"], theirs.vectors["text"])
            if "several" in theirs.vectors:
                np.testing.assert_array_equal(ours.vectors["several"], theirs.vectors["several"])
                assert ours.vectors["terms"].indices.tolist() == theirs.vectors["terms"].indices.tolist()
    assert catalogue.check() == []


def test_a_thousand_passages_make_few_segments_of_the_text_index(catalogue):
    catalogue.write([document(f"d{i}", [f"word{i} 東京{i}"]) for i in range(1000)])
    for table in ("passages_words", "passages_trigrams"):
        # Automatic merging starts at four segments of a level; a segment for each passage had a level above that.
        assert read(catalogue, f"SELECT count(DISTINCT segid) FROM {table}_idx")[0][0] <= 6
    found = read(catalogue, "SELECT rowid FROM passages_words WHERE passages_words MATCH 'word777'")
    assert len(found) == 1


def test_deleting_a_thousand_documents_removes_their_passages_and_words(catalogue):
    catalogue.write([document(f"d{i}", [f"word{i}"]) for i in range(1100)])
    assert catalogue.delete([*(f"d{i}" for i in range(1000)), "absent"]) == 1000
    assert catalogue.counts().passages == 100
    assert read(catalogue, "SELECT count(*) FROM passages_words WHERE passages_words MATCH 'word999'") == [
        (0,)
    ]
    assert catalogue.check() == []


def test_keys_are_never_used_twice(catalogue):
    catalogue.write([document(f"d{i}", ["x", "y"]) for i in range(3)])
    last = read(catalogue, "SELECT max(key) FROM passages")[0][0]
    catalogue.delete(["d2"])
    catalogue.write([document("d2", ["x"])])
    assert read(catalogue, "SELECT max(key) FROM passages") == [(last + 1,)]
    catalogue.delete(["d0", "d1", "d2"])
    catalogue.write([document("d9", ["x"])])
    assert read(catalogue, "SELECT key FROM passages") == [(last + 2,)]


def test_keys_follow_those_in_the_table_where_the_counter_was_lost(catalogue):
    catalogue.write([document("a", ["x", "y"])])
    with closing(sqlite3.connect(catalogue.folder / "catalogue.sqlite")) as file, file:
        file.execute("DELETE FROM sqlite_sequence")
    catalogue.write([document("b", ["x"])])
    assert read(catalogue, "SELECT key FROM passages") == [(1,), (2,), (3,)]


def test_the_checksum_is_that_of_the_first_version(catalogue):
    """The formula, written out: it is stored in collections, and may not change."""
    one = document("a", ["one", "it's 'two'"], parts=2, metadata={"k": "ü"})
    catalogue.write([one])
    stored, now = read(catalogue, "SELECT checksum, indexed_ns FROM documents")[0]
    head = (one.id, one.modality, one.pipeline, one.digest, one.root, one.path, '{"k": "ü"}', one.lost)
    content = hashlib.blake2b(repr(head).encode(), digest_size=8)
    for ordinal, own in enumerate(one.passages):
        row = (ordinal, int(own.start), int(own.end), own.line, own.modality, own.text)
        content.update(repr(row if own.unit is None else (*row, own.unit)).encode())
        for part, vector in enumerate(own.vectors["text"]):
            content.update(repr(("text", part, len(vector.tobytes()))).encode() + vector.tobytes())
    state = repr((one.id, one.size, one.mtime_ns, one.device, now)).encode()
    sums = [
        int.from_bytes(raw, "big", signed=True)
        for raw in (content.digest(), hashlib.blake2b(state, digest_size=8).digest())
    ]
    assert stored == sums[0] ^ sums[1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_stores_nothing_of_the_write(catalogue, bad):
    odd = passage("odd")
    odd.vectors["text"][0, 1] = bad
    with pytest.raises(
        UsageError, match=r"'b', passage 0, space 'text': 1 of \d+ numbers are NaN or infinite"
    ):
        catalogue.write([document("a", ["x"]), replace(document("b"), passages=(odd,))])
    assert catalogue.counts().documents == 0


def test_numbers_whose_squares_overflow_are_stored(catalogue):
    large = passage("large")
    large.vectors["text"][:] = 3e38
    catalogue.write([replace(document("a"), passages=(large,))])
    np.testing.assert_array_equal(catalogue.document("a").passages[0].vectors["text"], large.vectors["text"])


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=[]))
    | st.sampled_from([2**1100, "\\u0000", '"$x', np.float32(2.5), ("a", 1)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(max_size=4) | st.sampled_from(["$a", "a\0"]), values, max_size=4))
def test_usual_metadata_are_written_as_others_are(value):
    """The quick way gives what the careful one gives, or leaves it the case."""
    quick = writing._plain_json(value)
    if quick is not None:
        assert quick == json.dumps(writing._json_value(value, "metadata", ()), ensure_ascii=False)
        read = writing.as_read(value, "metadata")
        assert read == json.loads(quick) and writing.json_text(read, "metadata") == quick


def test_metadata_that_change_when_they_are_written_are_read_as_written():
    read = writing.as_read({"a": float("nan"), "b": (1, "x\0"), "c": np.float32(0.5)}, "metadata")
    assert read == {"a": None, "b": [1, "x\ufffd"], "c": 0.5}
    assert writing.json_text(read, "metadata") == json.dumps(dict(read), ensure_ascii=False)
