"""A text in numbers: the same words and counts as Python's own, whatever the text, the blocks and the threads."""

from __future__ import annotations

import bz2
import gzip
import importlib
import sys
import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from patience import PATIENCE

pytest.importorskip("numba")

from omnivec.errors import MissingExtra, UsageError
from omnivec.training import corpus as module
from omnivec.training import tables
from omnivec.training.corpus import MOST, cut, kept, read_corpus

TEXTS = st.text(st.characters(codec="utf-8"), max_size=300)
WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


def plain(sentences, min_count=1):
    """(word, count) by falling count and first occurrence, and the sentences of words kept that are not empty."""
    counts = Counter(word for words in sentences for word in words)
    common = [(word, n) for word, n in counts.most_common() if n >= min_count]
    known = dict(common)
    return common, [left for words in sentences if (left := [word for word in words if word in known])]


def spelled(corpus):
    return [[corpus.words[i] for i in corpus.ids[a:b]] for a, b in pairwise(corpus.starts)]


def check(corpus, sentences, min_count):
    common, left = plain(sentences, min_count)
    assert list(zip(corpus.words, corpus.counts.tolist(), strict=True)) == common
    assert spelled(corpus) == left
    assert corpus.total == sum(map(len, sentences))
    assert (corpus.ids.dtype, corpus.starts.dtype, corpus.counts.dtype) == (np.int32, np.int64, np.int64)


def split(text):
    return [word.decode() for word in text.encode().replace(b"\0", b" ").split()]


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=8), st.integers(1, 3), st.integers(1, 3))
@example(["a b\nc\x0bb", "", " b\x1c\x85\u3000a b ", "a\0b"], 1, 1)
def test_sentences_are_read_as_python_reads_them(texts, min_count, threads):
    sentences = [split(text) for text in texts]
    if plain(sentences, min_count)[0]:
        check(read_corpus(iter(texts), min_count=min_count, threads=threads), sentences, min_count)
    else:
        with pytest.raises(UsageError):
            read_corpus(texts, min_count=min_count, threads=threads)


@settings(deadline=None)
@given(st.lists(st.lists(WORDS), min_size=1, max_size=8).filter(any))
@example([["New York", "a\nb", "New York"], [], ["\0", "x" * 17, "x" * 16 + "y"]])
def test_lists_of_words_are_taken_as_they_are(sentences):
    check(read_corpus(sentences, min_count=1), sentences, 1)


def words_of_all_lengths(count):
    random = np.random.default_rng(0)
    letters = np.array(list("abcdeéß語😀"))
    made = ["".join(random.choice(letters, size)) for size in range(1, 25) for _ in range(12)]
    return [str(word) for word in random.choice(made, count)]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("block", [128, 1000, 2**22])
def test_a_file_in_blocks_by_threads(tmp_path, monkeypatch, threads, block):
    monkeypatch.setattr(module, "BLOCK", block)
    words = words_of_all_lengths(5000)
    sentences = [words[i : i + 37] for i in range(0, len(words), 37)]
    path = tmp_path / "text.txt"
    path.write_text("\n".join("\t ".join(each) for each in sentences), encoding="utf-8")
    check(read_corpus(str(path), min_count=3, threads=threads), sentences, 3)


def test_many_words_let_the_table_grow(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 2**17)
    words = [f"word{i * 7919 % 150_000}" for i in range(300_000)]
    path = tmp_path / "text.txt"
    path.write_text(" ".join(words))
    corpus = read_corpus(path, min_count=2, threads=2)
    assert corpus.words == list(dict.fromkeys(words))  # all twice: by first occurrence
    assert corpus.starts.tolist() == list(range(0, 300_001, MOST))


def test_blank_lines_are_counted_once_when_the_table_grows():
    from omnivec.tables.kernels import vocabulary

    text = b"\n" * 50 + b"a" * 80 + b"\n"
    padded = np.frombuffer(text + bytes(vocabulary.PADDING), np.uint8)
    ids, ends = np.empty(len(text), np.int32), np.empty(2 * len(text), np.int64)
    state = np.array([0, len(text), 0, 0, 0, ord("\n"), 1], np.int64)
    words, grown = vocabulary.table(64, 4), 0
    while not vocabulary.scan(padded, state, words, ids, ends):
        words, grown = vocabulary.grown(words, len(text)), grown + 1
    assert grown and state[3] == 1
    assert ends[: state[4]].tolist() == [0] * 50 + [1]


def test_several_files_and_packed_ones(tmp_path):
    for name, pack in (("a.txt", bytes), ("b.txt.gz", gzip.compress), ("c.bz2", bz2.compress)):
        (tmp_path / name).write_bytes(pack(f"in {name[0]} no line end".encode()))
    paths = sorted(tmp_path.iterdir())
    check(read_corpus(paths, min_count=1), [split(f"in {x} no line end") for x in "abc"], 1)


def test_what_exceeds_memory_lies_on_disk():
    sentences = [["a", "b", "c", "a"]] * 3000
    inside, outside = (read_corpus(sentences, min_count=1, in_memory=size) for size in (10**9, 100))
    assert isinstance(outside.ids, np.memmap) and not isinstance(inside.ids, np.memmap)
    np.testing.assert_array_equal(outside.ids, inside.ids)
    np.testing.assert_array_equal(outside.starts, inside.starts)


def test_long_sentences_are_cut_and_empty_ones_left_out():
    assert cut(np.array([0, 3, 3, 3 + MOST, 4 + MOST]), 5 + 3 * MOST).tolist() == [
        0,
        3,
        3 + MOST,
        4 + MOST,
        4 + 2 * MOST,
        4 + 3 * MOST,
        5 + 3 * MOST,
    ]
    corpus = read_corpus([["a", "rare"] * (MOST + 1)], min_count=1)
    assert np.diff(corpus.starts).tolist() == [MOST, MOST, 2]


def test_only_the_most_frequent_are_kept():
    text = ["a a a b b b c c d"]
    corpus = read_corpus(text, min_count=1, max_vocab=2)
    assert (corpus.words, corpus.ids.tolist(), corpus.total) == (["a", "b"], [0, 0, 0, 1, 1, 1], 9)
    whole = read_corpus(text, min_count=1)
    for least, most in ((2, None), (1, 2), (3, 1)):
        one, other = kept(whole, least, most), read_corpus(text, min_count=least, max_vocab=most)
        assert one.words == other.words
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.starts, other.starts)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "holds no words"),
        (b" \n\t ", "holds no words"),
        (
            b"a a b",
            "no word occurs 5 times or more in 3 words (2 different; the most frequent, 'a', 2 times)",
        ),
        (b"good " * 9 + b"\xff\xfe\x80 " * 9, "not UTF-8 at byte 45"),
        (b"good " * 9 + b"\xff", "not UTF-8 at byte 45"),
        (b"good " * 9 + b"rare\xe9", "not UTF-8 at byte 49"),
        (b"\xff\xfea\0 \0b\0", "is UTF-16"),
        (b"a\0b " * 9, "zero bytes at byte 1"),
        (b"x" * 2**23, "without whitespace"),
    ],
)
def test_what_is_no_text_is_said_in_one_line(tmp_path, content, why):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_corpus(path)
    assert why in str(caught.value)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (Path("nowhere.txt"), "nowhere.txt cannot be read: does not exist"),
        (".", "is a folder"),
        (7, "data: 7, an int is not an item"),
        (b"bytes", "data is bytes: give the path of a text"),
        ([], "holds no sentence"),
        (["a", ["b"]], "item 1 is a list: expected a str, as the first is"),
        ([["a"], "b"], "item 1 is 'b': expected a list of words"),
        ([["a", 1]], "item 0: word 1 is 1, an int: expected a str"),
        (["a\ud800"], "lone surrogate"),
    ],
)
def test_data_that_cannot_be_meant(data, why):
    with pytest.raises(UsageError) as caught:
        read_corpus(data)
    assert why in str(caught.value)


def test_a_packed_file_that_is_none(tmp_path):
    (tmp_path / "text.gz").write_bytes(b"not packed")
    with pytest.raises(UsageError, match=r"text\.gz cannot be read: Not a gzipped file"):
        read_corpus(tmp_path / "text.gz")


def test_an_error_of_the_iterable_passes_through():
    def sentences():
        yield "a b"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        read_corpus(sentences())


def test_without_numba_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(MissingExtra, match=r"pip install 'omnivec\[words\]'"):
        read_corpus(["a b"])


def test_what_is_done_meanwhile_runs_in_a_thread_of_its_own_and_harms_nothing():
    seen, ready = [], threading.Event()

    def work():
        seen.append(threading.current_thread())
        ready.set()
        raise RuntimeError("will be said where it counts")

    corpus = read_corpus([["a", "b"]] * 9, meanwhile=work)
    assert corpus.words == ["a", "b"] and ready.wait(PATIENCE)
    seen[0].join()
    assert len(seen) == 1 and seen[0] is not threading.current_thread()


@pytest.mark.parametrize("name", ["word2vec", "fasttext", "glove"])
def test_a_rehearsal_compiles_what_training_calls(name):
    module = importlib.import_module(f"omnivec.training.recipes.{name}")
    chosen = module.Options(dim=20, epochs=2, threads=1, min_count=1, show_progress_bar=False)
    tables.warm_up_kernels(module.fit, chosen)()
    kernels = importlib.import_module(f"omnivec.tables.kernels.{name}")
    compiled = [each for each in vars(kernels).values() if hasattr(each, "signatures")]
    before = [len(each.signatures) for each in compiled]
    module.fit(read_corpus([["a", "b", "c"]] * 9, min_count=1), chosen)
    assert any(before) and [len(each.signatures) for each in compiled] == before
