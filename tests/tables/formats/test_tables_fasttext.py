"""fastText's .bin and its n-grams, equal to fastText itself and to gensim, both ways."""

from __future__ import annotations

import struct
from typing import Any

import fasttext
import numpy as np
import pytest
from gensim.models import FastText
from gensim.models.fasttext import (
    ft_ngram_hashes,
    load_facebook_model,
    load_facebook_vectors,
    save_facebook_model,
)
from hypothesis import given
from hypothesis import strategies as st

import omnivec
from omnivec.errors import UnsupportedModel, WeightsError
from omnivec.tables.formats.fasttext import read_fasttext_bin, write_fasttext_bin
from omnivec.tables.formats.text import read_word2vec_text, write_vec
from omnivec.tables.io import sniff
from omnivec.tables.record import Subwords, Table
from omnivec.tables.subwords import composed, subword_ids, unseen

UNSEEN = ["kat", "dogs", "Zürcher", "日本語", "🙂🙂", "x", "it's", "a" * 60, "</s>"]
# fastText initialises a tenth of its matrix in each of ten threads; what is not divisible by ten stays as it was.
THREADS = 10
CORPUS = ["the cat sat on the mat", "a dog sat by the Zürich log", "日本 🙂 it's the cat and dog"] * 30


@pytest.fixture(scope="module", params=["skipgram", "cbow"])
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fasttext")
    (folder / "corpus.txt").write_text("\n".join(CORPUS), encoding="utf-8")
    minn, maxn = (3, 6) if request.param == "skipgram" else (1, 4)
    model = fasttext.train_unsupervised(
        str(folder / "corpus.txt"),
        model=request.param,
        dim=10,
        minn=minn,
        maxn=maxn,
        bucket=997,
        minCount=1,
        epoch=2,
        thread=THREADS,
        verbose=0,
    )
    model.save_model(str(folder / "m.bin"))
    return model, folder / "m.bin"


def test_we_read_what_fasttext_writes(trained):
    model, path = trained
    table = read_fasttext_bin(path)
    words, counts = model.get_words(include_freq=True)
    assert table.keys == words and table.counts.tolist() == counts.tolist()
    matrix = model.get_input_matrix()
    np.testing.assert_array_equal(table.vectors, matrix[: len(words)])
    np.testing.assert_array_equal(table.subwords.vectors, matrix[len(words) :])
    np.testing.assert_array_equal(table.output, model.get_output_matrix())
    assert table.settings["epochs"] == 2 and table.settings["loss"] == "ns"
    assert read_fasttext_bin(path, 3).keys == words[:3]


def test_vectors_of_words_and_of_unseen_words(trained):
    model, path = trained
    table = read_fasttext_bin(path)
    for word, vector in zip(table.keys, composed(table), strict=True):
        np.testing.assert_allclose(vector, model.get_word_vector(word), atol=1e-6, rtol=0)
    for word in UNSEEN:
        if word not in table.keys:
            np.testing.assert_allclose(unseen(table, word), model.get_word_vector(word), atol=1e-6, rtol=0)


def test_ids_of_subwords(trained):
    model, path = trained
    table = read_fasttext_bin(path)
    grams = table.subwords
    for word in [*table.keys, *UNSEEN]:
        ids = subword_ids(word, grams.min_n, grams.max_n, len(grams.vectors)) + len(table)
        theirs = model.get_subwords(word)[1]
        assert ids.tolist() == (theirs[1:] if word in table.keys else theirs).tolist()


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.integers(1, 4),
    st.integers(1, 5),
)
def test_ids_equal_gensims(word, min_n, max_n):
    if word != "</s>":
        theirs = ft_ngram_hashes(word, min_n, max_n, 2_000_003)
        assert subword_ids(word, min_n, max_n, 2_000_003).tolist() == theirs


def test_fasttext_reads_what_we_write(trained, tmp_path):
    model, path = trained
    write_fasttext_bin(tmp_path / "again.bin", read_fasttext_bin(path))
    again = fasttext.load_model(str(tmp_path / "again.bin"))
    assert again.get_words() == model.get_words()
    np.testing.assert_array_equal(again.get_input_matrix(), model.get_input_matrix())
    np.testing.assert_array_equal(again.get_output_matrix(), model.get_output_matrix())
    assert again.get_nearest_neighbors("cat", 3) == model.get_nearest_neighbors("cat", 3)
    for word in UNSEEN:
        np.testing.assert_array_equal(again.get_word_vector(word), model.get_word_vector(word))
    assert (tmp_path / "again.bin").read_bytes()[:60] == path.read_bytes()[:60]


def test_a_plain_table_becomes_a_model(tmp_path):
    table = Table(["cat", "dog"], np.array([[1, 2], [3, 4]], np.float32))
    write_fasttext_bin(tmp_path / "m.bin", table)
    model = fasttext.load_model(str(tmp_path / "m.bin"))
    np.testing.assert_array_equal(model.get_word_vector("dog"), [3, 4])
    np.testing.assert_array_equal(model.get_word_vector("unseen"), [0, 0])
    np.testing.assert_array_equal(load_facebook_vectors(str(tmp_path / "m.bin"))["dog"], [3, 4])
    again = read_fasttext_bin(tmp_path / "m.bin")
    assert again.subwords is None and again.counts.tolist() == [1, 1]


def test_vec_holds_composed_vectors(trained, tmp_path):
    model, path = trained
    write_vec(tmp_path / "m.vec", read_fasttext_bin(path))
    read = read_word2vec_text(tmp_path / "m.vec")
    assert read.keys == model.get_words()
    for word, vector in zip(read.keys, read.vectors, strict=True):
        np.testing.assert_allclose(vector, model.get_word_vector(word), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("minn", "ngrams", "loss"), [(0, 1, "softmax"), (2, 1, "ova"), (0, 2, "hs")])
def test_classifiers(tmp_path, minn, ngrams, loss):
    lines = ["__label__pet the cat and the dog", "__label__place Zürich and 日本", "__label__pet a dog"] * 10
    (tmp_path / "train.txt").write_text("\n".join(lines), encoding="utf-8")
    model = fasttext.train_supervised(
        str(tmp_path / "train.txt"),
        dim=10,
        minn=minn,
        maxn=minn * 2,
        wordNgrams=ngrams,
        bucket=50,
        loss=loss,
        thread=THREADS,
        verbose=0,
    )
    model.save_model(str(tmp_path / "m.bin"))
    table = read_fasttext_bin(tmp_path / "m.bin")
    labels, counts = model.get_labels(include_freq=True)
    assert table.keys == model.get_words()
    assert table.settings["labels"] == labels and table.settings["label_counts"] == counts.tolist()
    assert table.settings["model"] == "supervised" and table.settings["loss"] == loss
    np.testing.assert_array_equal(table.output, model.get_output_matrix())
    np.testing.assert_allclose(composed(table)[1], model.get_word_vector(table.keys[1]), atol=1e-6)
    write_fasttext_bin(tmp_path / "again.bin", table)
    assert (tmp_path / "again.bin").read_bytes() == (tmp_path / "m.bin").read_bytes()
    again = fasttext.load_model(str(tmp_path / "again.bin"))
    assert again.predict(["a cat in 日本"])[0] == model.predict(["a cat in 日本"])[0]


def test_gensims_fasttext_both_ways(tmp_path):
    model = FastText([line.split() for line in CORPUS], vector_size=7, min_count=1, bucket=300, workers=1)
    save_facebook_model(model, str(tmp_path / "g.bin"))
    table = read_fasttext_bin(tmp_path / "g.bin")
    assert table.keys == model.wv.index_to_key
    np.testing.assert_allclose(composed(table), model.wv.vectors, atol=1e-6)
    np.testing.assert_allclose(unseen(table, "kat"), model.wv["kat"], atol=1e-6)
    write_fasttext_bin(tmp_path / "ours.bin", table)
    again = load_facebook_model(str(tmp_path / "ours.bin"))
    np.testing.assert_array_equal(again.wv.vectors, model.wv.vectors)
    np.testing.assert_array_equal(again.syn1neg, model.syn1neg)


@pytest.mark.parametrize(
    ("given", "how"),
    [
        ({"dim": 10}, {}),
        ({"dim": 10}, {"qnorm": True, "qout": True}),
        ({"dim": 9, "minn": 2, "maxn": 3, "bucket": 501}, {"dsub": 2}),
        ({"dim": 10, "wordNgrams": 2, "minn": 2, "maxn": 2}, {"cutoff": 300, "qnorm": True}),
    ],
)
def test_a_quantised_model_is_what_fasttext_makes_of_it(tmp_path, given, how):
    text = tmp_path / "train.txt"
    text.write_text("".join(f"__label__l{i % 300} w{i} the cat{i % 7}\n" for i in range(900)))
    model = fasttext.train_supervised(str(text), **{"bucket": 500, "thread": THREADS, "verbose": 0, **given})
    assert model.get_input_matrix().size % THREADS == 0
    model.quantize(str(text), **how)
    model.save_model(str(tmp_path / "m.ftz"))
    assert model.is_quantized() and sniff(tmp_path / "m.ftz") == "fasttext-bin"
    table = read_fasttext_bin(tmp_path / "m.ftz")
    assert table.keys == model.get_words() and table.settings["labels"] == model.get_labels()
    own = np.stack([model.get_input_vector(row) for row in range(len(table))])
    np.testing.assert_array_equal(table.vectors, own)
    for word, vector in zip(table.keys, composed(table), strict=True):
        np.testing.assert_allclose(vector, model.get_word_vector(word), atol=1e-6, rtol=0)
    for word in ("cats", "w77x", "zz"):
        np.testing.assert_allclose(unseen(table, word), model.get_word_vector(word), atol=1e-6, rtol=0)
    judge: Any = omnivec.load(tmp_path / "m.ftz")
    for line in ("w5 the cat3", "the the cat1"):
        labels, odds = model.predict(line, k=3)
        ours = judge.predict([line], k=3)[0]
        np.testing.assert_allclose([p for _, p in ours], odds, atol=1e-4)
        assert ours[0][0] == labels[0] or np.ptp(odds) < 1e-5
    whole = (tmp_path / "m.ftz").read_bytes()
    for count in (len(whole) - 1, len(whole) // 2, len(whole) // 4):
        (tmp_path / "cut.ftz").write_bytes(whole[:count])
        with pytest.raises(WeightsError, match=r"truncated|cut short|damaged"):
            read_fasttext_bin(tmp_path / "cut.ftz")


def small(tmp_path):
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(7, 3)).astype(np.float32)
    write_fasttext_bin(tmp_path / "m.bin", Table(["ab", "c"], rows[:2], subwords=Subwords(rows[2:], 3, 6)))
    return bytearray((tmp_path / "m.bin").read_bytes())


def test_every_truncation_is_named(tmp_path):
    whole = small(tmp_path)
    for size in range(1, len(whole)):
        (tmp_path / "m.bin").write_bytes(whole[:size])
        with pytest.raises(WeightsError, match=r"truncated|cut short|damaged"):
            read_fasttext_bin(tmp_path / "m.bin")


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (0, struct.pack("<i", 7), "not a fastText model"),
        (4, struct.pack("<i", 13), "version 13"),
        (8, struct.pack("<i", 4), "input matrix of"),
        (32, struct.pack("<i", 9), "loss 9"),
        (64, struct.pack("<2i", 2**31 - 1, 2**31 - 1), "2147483647 entries of a dictionary"),
        (84, struct.pack("<q", 5), "5 n-grams left by pruning do not each have a row"),
        (94, b"\7", "truncated|cut short|damaged"),
        (-1, b"\x7f", "NaN|damaged"),
    ],
)
def test_damage(tmp_path, place, value, named):
    whole = small(tmp_path)
    if place == -1:
        place = whole.index(struct.pack("<2q", 7, 3)) + 16
        value = struct.pack("<f", float("nan"))
    whole[place : place + len(value)] = value
    (tmp_path / "m.bin").write_bytes(whole)
    with pytest.raises((WeightsError, UnsupportedModel), match=named):
        read_fasttext_bin(tmp_path / "m.bin")


def test_a_matrix_that_claims_terabytes(tmp_path):
    whole = small(tmp_path)
    place = whole.index(struct.pack("<2q", 7, 3))
    whole[place : place + 16] = struct.pack("<2q", 10**12, 10**6)
    (tmp_path / "m.bin").write_bytes(whole)
    with pytest.raises(
        WeightsError, match=r"its input matrix of shape .1000000000000, 1000000. is more than"
    ):
        read_fasttext_bin(tmp_path / "m.bin")
