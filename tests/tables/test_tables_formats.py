"""Every form: told by its content, round trips with any keys, damage; Parquet, NumPy and our own folder."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import os
import struct
import sys
from dataclasses import fields

import numpy as np
import pyarrow as arrow
import pytest
from gensim.models import KeyedVectors
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from tokenizers import Tokenizer, models

from omnivec.errors import MissingExtra, ModelError, OmnivecError, UnsupportedModel, UsageError, WeightsError
from omnivec.tables.io import FORMATS, read_table, sniff, write_table
from omnivec.tables.record import Subwords, Table

ANY_KEY = ("npz", "parquet", "omnivec")
TEXT = ("word2vec-text", "word2vec-binary", "glove", "fasttext-vec", "fasttext-bin")


def table(keys=("the", "Zürich", "日本", "🙂"), dim=5) -> Table:
    vectors = np.random.default_rng(2).normal(size=(len(keys), dim)).astype(np.float32)
    tokenizer = Tokenizer(models.WordLevel({key: i for i, key in enumerate(keys)}, unk_token=keys[0]))
    return Table(list(keys), vectors, tokenizer=tokenizer.to_str().encode(), settings={"normalize": False})


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name].write])
def test_every_form_is_told_by_its_content(tmp_path, name):
    ours = table()
    write_table(tmp_path / "named.wrongly", ours, name)
    assert sniff(tmp_path / "named.wrongly") == name.replace("fasttext-vec", "word2vec-text")
    again = read_table(tmp_path / "named.wrongly")
    assert list(again.keys) == ours.keys
    np.testing.assert_array_equal(again.vectors, ours.vectors)
    if again.tokenizer is None:
        few = read_table(tmp_path / "named.wrongly", 2, name)
        assert list(few.keys) == ours.keys[:2] and len(few.vectors) == 2
    write_table(tmp_path / "named.wrongly", table(dim=3), name)  # an older one is replaced
    assert read_table(tmp_path / "named.wrongly").dim == 3


def test_gensims_saves_are_told(tmp_path):
    vectors = KeyedVectors(2)
    vectors.add_vectors(["a"], np.ones((1, 2), np.float32))
    for protocol in (0, 2, 4):
        vectors.save(str(tmp_path / "m"), pickle_protocol=protocol)
        assert sniff(tmp_path / "m") == "gensim"
    with pytest.raises(UsageError, match="gensim is read-only"):
        write_table(tmp_path / "n", table(), "gensim")


@pytest.mark.parametrize(
    ("content", "error", "named"),
    [
        (
            gzip.compress(b"PAR1", mtime=0),
            UnsupportedModel,
            "compressed parquet file: decompress it first .gunzip",
        ),
        (
            gzip.compress(struct.pack("<2i", 793712314, 12), mtime=0),
            UnsupportedModel,
            "compressed fasttext-bin file",
        ),
        (bz2.compress(b"a 1 2\n"), UnsupportedModel, "decompress it first .bunzip2"),
        (gzip.compress(b"a 1 2\n", mtime=0)[:12], WeightsError, "cannot be read: Compressed file ended"),
        (b"\x89PNG\r\n", UnsupportedModel, "begins with b'.x89PNG"),
        (b"", UnsupportedModel, "begins with b''"),
        (b"only words here\n", UnsupportedModel, "none of word2vec-text"),
        (b"\x80\x04.", UnsupportedModel, "none of"),
        (b"PK\x03\x04 no zip", UnsupportedModel, "none of"),
    ],
)
def test_what_is_none_of_them(tmp_path, content, error, named):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(error, match=named):
        sniff(tmp_path / "f")


@pytest.mark.parametrize("name", ["word2vec-text", "fasttext-vec", "word2vec-binary", "glove"])
def test_tables_are_read_from_gzip(tmp_path, name):
    plain, packed = tmp_path / "plain", tmp_path / "named.gz"
    random = np.random.default_rng(0)
    keys = [f"key{i}" for i in range(3000)]
    write_table(plain, Table(keys, random.standard_normal((3000, 5)).astype(np.float32)), name)
    packed.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    assert sniff(packed) == sniff(plain)
    found, expected = read_table(packed), read_table(plain)
    assert list(found.keys) == keys
    np.testing.assert_array_equal(found.vectors, expected.vectors)
    assert list(read_table(packed, 7).keys) == keys[:7]
    whole = packed.read_bytes()
    packed.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="cannot be read: Compressed file ended"):
        read_table(packed, format=name)
    packed.write_bytes(whole[:3000] + bytes(3000) + whole[6000:])
    with pytest.raises(WeightsError):
        read_table(packed, format=name)


def test_our_own_folder_is_as_readable_as_its_files_before(tmp_path):
    before = os.umask(0o022)
    try:
        write_table(tmp_path / "words", table(), "omnivec")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "words").iterdir()}
    assert set(modes.values()) == {0o644} and "model.safetensors" in modes


def test_folders_that_are_none_and_arguments(tmp_path):
    with pytest.raises(UnsupportedModel, match="does not hold a table: no model_type"):
        sniff(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UnsupportedModel, match="bert"):
        sniff(tmp_path)
    with pytest.raises(WeightsError, match="cannot be read"):
        sniff(tmp_path / "none")
    with pytest.raises(UsageError, match="unknown format 'csv'"):
        read_table(tmp_path, format="csv")
    with pytest.raises(UsageError, match="limit=-1"):
        read_table(tmp_path, -1)


any_text = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize("name", ANY_KEY)
@settings(deadline=None, max_examples=40)  # each waits for the disk
@given(keys=st.lists(any_text, min_size=1, max_size=6, unique=True), seed=st.integers(0, 9))
def test_any_key_comes_back(tmp_path_factory, name, keys, seed):
    path = tmp_path_factory.mktemp("any") / "t"
    vectors = np.random.default_rng(seed).normal(size=(len(keys), 3)).astype(np.float32)
    if name == "npz" and any(key.endswith("\0") for key in keys):
        with pytest.raises(UsageError, match="ends with a zero"):
            write_table(path, Table(keys, vectors), name)
        return
    write_table(path, Table(keys, vectors), name)
    read = read_table(path)
    assert list(read.keys) == keys
    np.testing.assert_array_equal(read.vectors, vectors)


@pytest.mark.parametrize("name", [*TEXT, "npz", "npy", "parquet"])
def test_keys_of_half_a_character_are_refused(tmp_path, name):
    with pytest.raises(UsageError, match="cannot be encoded as UTF-8"):
        write_table(tmp_path / "t", Table(["a", "\ud83d"], np.ones((2, 2), np.float32)), name)
    assert list(tmp_path.iterdir()) == []


def test_npy_keys(tmp_path):
    np.save(tmp_path / "v.npy", np.eye(3))
    assert read_table(tmp_path / "v.npy").keys == ["0", "1", "2"]
    (tmp_path / "v.txt").write_text("a\nb c\nd\n")
    assert read_table(tmp_path / "v.npy").keys == ["a", "b c", "d"]
    (tmp_path / "v.txt").write_text("a\nb\n")
    with pytest.raises(WeightsError, match="2 keys for vectors of float64"):
        read_table(tmp_path / "v.npy")


def test_numpys_files_never_hold_pickles(tmp_path):
    np.savez(tmp_path / "o.npz", keys=np.array(["a"]), vectors=np.array([[None]], object))
    with pytest.raises(WeightsError, match="pickled objects"):
        read_table(tmp_path / "o.npz")
    np.save(tmp_path / "o.npy", np.array([[None]], object))
    with pytest.raises(WeightsError, match="pickled objects"):
        read_table(tmp_path / "o.npy")
    np.savez(tmp_path / "two.npz", a=np.eye(2), b=np.eye(2))
    with pytest.raises(WeightsError, match=r"needs one array of text .* it has a float64 \(2, 2\), b"):
        read_table(tmp_path / "two.npz")


def test_parquet_of_others(tmp_path):
    path = tmp_path / "t.parquet"
    vectors = np.arange(6, dtype=np.float64).reshape(3, 2)
    names = ["a", "b", "a"]
    forms = [
        {"word": names, "embedding": vectors.tolist()},
        {"n": [1, 2, 3], "word": names, "x": vectors[:, 0], "y": vectors[:, 1]},
        {
            "word": arrow.array(names, arrow.large_string()),
            "v": arrow.array(list(vectors), arrow.large_list(arrow.float64())),
        },
    ]
    for form in forms:
        parquet.write_table(arrow.table(form), path, row_group_size=2)
        read = read_table(path)
        assert read.keys == ["a", "b"] and read.duplicates == 1
        np.testing.assert_array_equal(read.vectors, vectors[:2])
        assert read_table(path, 1).keys == ["a"]


@pytest.mark.parametrize(
    ("form", "named"),
    [
        ({"word": ["a", "b"], "v": [[1.0], [1.0, 2.0]]}, "vectors of 1 to 2 numbers"),
        ({"word": ["a", "b"], "v": [[1.0], None]}, "1 vectors of column 'v' are missing"),
        ({"word": ["a", None], "v": [[1.0], [2.0]]}, "1 keys of column 'word' are missing"),
        ({"word": ["a", "b"], "v": [[1.0], [float("nan")]]}, "row 2: 1 of 1 numbers are NaN"),
        ({"word": ["a", "b"], "n": [1, 2]}, "needs a column of text and one of lists of floats"),
        (
            {"word": arrow.array([], arrow.string()), "x": arrow.array([], arrow.float32())},
            "vectors of no numbers",
        ),
    ],
)
def test_damaged_parquet(tmp_path, form, named):
    parquet.write_table(arrow.table(form), tmp_path / "t.parquet")
    with pytest.raises(WeightsError, match=named):
        read_table(tmp_path / "t.parquet")


def test_truncated_parquet_and_no_pyarrow(tmp_path, monkeypatch):
    write_table(tmp_path / "t", table(), "parquet")
    (tmp_path / "t").write_bytes((tmp_path / "t").read_bytes()[:-20])
    with pytest.raises(WeightsError, match="damaged, or not a Parquet file"):
        read_table(tmp_path / "t")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'omnivec\[parquet\]'"):
        read_table(tmp_path / "t")


def full_table() -> Table:
    generator = np.random.default_rng(0)

    def rows(count):
        return generator.normal(size=(count, 4)).astype(np.float32)

    words = Table(["w", "x", "y"], rows(3), counts=np.array([3, 2, 1]), output=rows(3), settings={"hs": 0})
    return Table(
        ["d 1", "d\n2"],
        rows(2),
        counts=np.array([5, 6]),
        weights=np.array([0.5, 2], np.float32),
        subwords=Subwords(rows(7), 2, 4),
        output=rows(3),
        words=words,
        tokenizer=b'{"any": 1}',
        settings={"window": 5, "labels": ["é"]},
        kind="doc2vec",
    )


def assert_same(one, other):
    for field in fields(one):
        here, there = getattr(one, field.name), getattr(other, field.name)
        if isinstance(here, (Table, Subwords)):
            assert_same(here, there)
        elif isinstance(here, np.ndarray):
            np.testing.assert_array_equal(here, there)
            assert here.dtype == there.dtype
        else:
            assert here == there, field.name


def test_our_folder_keeps_everything_and_is_mapped(tmp_path):
    write_table(tmp_path / "t", full_table(), "omnivec")
    read = read_table(tmp_path / "t")
    assert_same(full_table(), read)
    assert json.loads((tmp_path / "t" / "config.json").read_text())["model_type"] == "doc2vec"
    assert not read.vectors.flags.owndata
    write_table(tmp_path / "again", read, "omnivec")
    assert_same(read, read_table(tmp_path / "again"))


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("keys.json", '["a"]', "vectors of .2, 4. for 1 keys, and config.json says that dim is 4"),
        ("keys.json", '["a", "a"]', "repeats 1 keys"),
        ("keys.json", '{"a": 1}', "holds a dict, expected a list"),
        ("keys.json", "[1, 2]", "holds keys that are not strings"),
        ("keys.json", "[", "not valid JSON"),
        ("words.json", '["w"]', "vectors of .3, 4. for 1 keys"),
        ("model.safetensors", "x", "truncated"),
    ],
)
def test_our_folder_damaged(tmp_path, file, content, named):
    write_table(tmp_path / "t", full_table(), "omnivec")
    (tmp_path / "t" / file).write_text(content)
    with pytest.raises(ModelError, match=named):
        read_table(tmp_path / "t")


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "precious.txt").write_text("mine")
    with pytest.raises(WeightsError, match="not empty and holds no model"):
        write_table(tmp_path / "t", table(), "omnivec")
    assert [path.name for path in tmp_path.rglob("*")] == ["t", "precious.txt"]


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name].write])
def test_damage_anywhere_is_one_line_or_harmless(tmp_path, name):
    """Bytes changed, cut off or put in: the table is read, or one line says what is wrong."""
    write_table(tmp_path / "t", table(), name)
    place = tmp_path / "t"
    for file in [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file()):
        whole = file.read_bytes()
        generator = np.random.default_rng(len(whole))
        for _ in range(25):
            at = int(generator.integers(len(whole)))
            noise = generator.bytes(3)
            for damaged in (
                whole[:at],
                whole[:at] + noise + whole[at:],
                whole[:at] + noise + whole[at + 3 :],
            ):
                file.write_bytes(damaged)
                for form in (name, None):
                    with contextlib.suppress(OmnivecError):
                        read_table(place, format=form)
        file.write_bytes(whole)
    assert list(read_table(place).keys) == table().keys


def test_keys_of_npy_never_replace_a_text_that_is_not_theirs(tmp_path):
    (tmp_path / "corpus.txt").write_text("what the words were learned from")
    with pytest.raises(UsageError, match=r"corpus\.txt exists and does not hold the keys of .*corpus\.npy"):
        write_table(tmp_path / "corpus.npy", table(), "npy")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.txt"]
    assert (tmp_path / "corpus.txt").read_text() == "what the words were learned from"
    for _ in range(2):  # its own keys are replaced
        write_table(tmp_path / "words.npy", table(), "npy")
    assert list(read_table(tmp_path / "words.npy").keys) == list(table().keys)
