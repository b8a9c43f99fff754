"""Labels of texts: learned, predicted, and read from every form of data."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

import omnivec
import small_corpus
from omnivec.errors import UsageError
from omnivec.tables.bags import Bag, softmax
from omnivec.tables.ngrams import char_ngrams, word_hashes, word_ngrams
from omnivec.training.labelled import Labelled, read_labelled
from omnivec.training.recipes.fasttext_supervised import Options, embedder, fit

DATA = Path(os.environ.get("OMNIVEC_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))


def test_questions_are_classified_far_better_than_by_the_majority():
    folder = DATA / "sentence_classification"
    if not folder.exists():
        pytest.skip("the sentence classification data are not here")

    def read(name):
        lines = (folder / name).read_text(encoding="latin-1").split("\n")
        return [Labelled(text, label) for label, _, text in (line.partition(" ") for line in lines if line)]

    train, test = read("TREC.train.all"), read("TREC.test.all")
    options = Options(epochs=10, word_ngrams=2, threads=1, dim=50, lr=0.25)
    model = fit(train, options)
    found = embedder(model, options).predict([one.text for one in test], k=2)
    right = np.mean([best[0] == one.label for (best, _), one in zip(found, test, strict=True)])
    majority = np.mean([one.label == model.labels[0] for one in test])
    assert right > 0.82 > majority + 0.4
    assert all(one >= other for (_, one), (_, other) in found)


@pytest.fixture(scope="module")
def examples():
    kinds = ("animal", "colour")
    return [Labelled(" ".join(words), kinds[i % 2]) for i, words in enumerate(small_corpus.sentences(200, 5))]


@pytest.mark.parametrize("given", [{}, {"word_ngrams": 2}, {"max_n": 4}])
def test_seeds_and_unknown_words(examples, given, tmp_path):
    options = Options(dim=10, threads=1, epochs=20, lr=0.5, **given)
    model, again = fit(examples, options), fit(examples, options)
    assert (
        model.inputs.tobytes() == again.inputs.tobytes()
        and model.outputs.tobytes() == again.outputs.tobytes()
    )
    texts = ["blue red", "foal foal", "horsehorse", ""]
    found = embedder(model, options).predict(texts, k=9)
    assert found[0][0][0] == "colour" and found[1][0][0] == "animal" and len(found[0]) == 2
    np.testing.assert_allclose([sum(odds for _, odds in each) for each in found], 1, atol=1e-6)
    if "max_n" in given:
        assert found[2][0][0] == "animal"
    saved = omnivec.load(embedder(model, options).save(tmp_path / "saved"))
    assert isinstance(saved, omnivec.KeyedEmbedder)
    assert [[label for label, _ in each] for each in saved.predict(texts, k=9)] == [
        [label for label, _ in each] for each in found
    ]


def test_a_bag_has_words_their_ngrams_and_those_of_words():
    spelled = char_ngrams(["ab"], 3, 3, 1000).values
    phrase = word_ngrams(word_hashes(["ab", "new", "</s>"]), np.array([0, 3]), 2, 1000).values
    buckets = np.unique([*spelled, phrase[0]]).astype(np.int32)
    bag = Bag(["ab", "</s>"], buckets, word_ngrams=2, min_n=3, max_n=3, bucket=1000)
    rows = bag.rows(["ab new", "", "new"])
    expected = [0, 1, *(2 + np.searchsorted(buckets, [*spelled, phrase[0]]))]
    assert sorted(rows.row(0)) == sorted(expected)
    assert rows.row(1).tolist() == rows.row(2).tolist() == [1]


def test_odds_by_hand():
    hidden, outputs = np.array([[1.0, 0.0]], np.float32), np.array([[1.0, 5.0], [0.0, 5.0]], np.float32)
    np.testing.assert_allclose(softmax(hidden, outputs), [[np.e / (1 + np.e), 1 / (1 + np.e)]], atol=1e-6)


ROWS = [Labelled("good film", "pos"), Labelled("bad film", "neg")]


def test_every_form_of_data_is_read(tmp_path):
    def file(name, text):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    assert (
        read_labelled(ROWS)
        == read_labelled([{"label": "pos", "text": "good film"}, ("bad film", "neg")])
        == ROWS
    )
    assert read_labelled(file("a.txt", "__label__pos good film\n\n__label__neg bad film\n")) == ROWS
    assert read_labelled(file("a.csv", "class,id,Text\npos,1,good film\nneg,2,bad film\n")) == ROWS
    assert read_labelled(file("b.tsv", "good film\tpos\nbad film\tneg\n")) == ROWS
    lines = "\n".join(json.dumps({"sentence": one.text, "label": one.label}) for one in ROWS)
    assert read_labelled(str(file("c.jsonl", lines))) == ROWS
    both = read_labelled(file("d.txt", "__label__a __label__b x y\n"))
    assert both == [Labelled("x y", "a"), Labelled("x y", "b")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([("a", "x"), ("b", "x")], "2 texts of 1 labels; at least 2"),
        ([("a", "x"), ("", "y"), (3, "y")], r"2 of 3 rows .*\(item 1: the text is empty; item 2: .* 3, an int"),
        ([("a", None)], "the label is None"),
        ([("a",)], r"a tuple, expected \(text, label\)"),
        (3, "data: 3, an int is not an item"),
    ],
)  # fmt: skip
def test_bad_data_is_one_clear_line(data, message):
    with pytest.raises(UsageError, match=message) as raised:
        read_labelled(data)
    assert "\n" not in str(raised.value)


def test_a_file_without_labels_says_so(tmp_path):
    path = tmp_path / "plain.txt"
    path.write_text("no labels here\n", encoding="utf-8")
    with pytest.raises(UsageError, match="line 1: no word begins with __label__"):
        read_labelled(path)


def test_a_published_classifier_predicts_as_fasttext_does(tmp_path):
    import fasttext

    lines = [f"__label__{'animal' if i % 2 == 0 else 'colour'} {' '.join(words)}" for i, words in enumerate(
        small_corpus.sentences(200, 5)
    )]  # fmt: skip
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    reference = fasttext.train_supervised(
        str(tmp_path / "train.txt"), dim=10, thread=10, epoch=20, lr=0.5, wordNgrams=2, bucket=1000, verbose=0
    )
    reference.save_model(str(tmp_path / "model.bin"))
    model = omnivec.load(tmp_path / "model.bin")
    assert isinstance(model, omnivec.KeyedEmbedder)
    for text in ("blue red", "foal horse", "red foal blue"):
        expected = {
            label.removeprefix("__label__"): odds
            for odds, label in reference.f.predict(text + "\n", 2, 0.0, "")
        }
        got = {label.removeprefix("__label__"): odds for label, odds in model.predict([text], k=2)[0]}
        assert got == pytest.approx(expected, abs=1e-4)
        for threshold in (0.01, 0.5, 0.9):
            above = reference.f.predict(text + "\n", 2, threshold, "")
            assert len(model.predict(text, k=2, threshold=threshold)) == len(above)
    with pytest.raises(UsageError, match=r"threshold=50: a number, at least 0, at most 1"):
        model.predict("blue red", threshold=50)
