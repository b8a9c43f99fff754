"""The kind of a table is what its format states: fastText's are pooled as fastText pools, with n-grams or without."""

from __future__ import annotations

import json

import fasttext
import numpy as np
import pytest
from gensim.models import FastText

import omnivec
from omnivec.errors import UsageError, WeightsError
from omnivec.tables.io import read_table, write_table
from omnivec.tables.record import Subwords, Table

THREADS = 10  # fastText leaves what is not divisible by them as memory was
LINES = ["the cat sat on the mat", "a dog sat by the Zürich log", "cats and dogs by the __label__x door"] * 20
TEXTS = ["the cat sat", "dog", "the  cat\tsat on", "the the cat", "unknownword cat", "cat </s>"]


def trained(folder, **options):
    (folder / "corpus.txt").write_text("\n".join(LINES), encoding="utf-8")
    model = fasttext.train_unsupervised(
        str(folder / "corpus.txt"), dim=10, minCount=1, epoch=3, thread=THREADS, verbose=0, **options
    )
    model.save_model(str(folder / "m.bin"))
    return model


@pytest.mark.parametrize(
    "options",
    [
        {"minn": 0, "maxn": 0},
        {"minn": 0, "maxn": 3, "bucket": 100},
        {"minn": 4, "maxn": 2, "bucket": 100},
        {"model": "cbow", "minn": 0, "maxn": 0},
        {"minn": 0, "maxn": 0, "wordNgrams": 2, "bucket": 100},
    ],
    ids=str,
)
def test_sentences_are_pooled_as_fasttext_pools(tmp_path, options):
    """A model without n-grams was taken for a table of plain vectors: 0.99 to fastText's on average, 0.91 at least."""
    model = trained(tmp_path, **options)
    ours = omnivec.load(tmp_path / "m.bin")
    assert ours.table.kind == "fasttext" and ours.table.settings["model"] != "supervised"
    lengths = [np.linalg.norm(row) for row in ours.vectors]
    assert max(lengths) > 1.05 * min(lengths)  # so that a plain mean is another vector
    expected = np.stack([model.get_sentence_vector(text) for text in TEXTS])
    np.testing.assert_allclose(ours.encode(TEXTS), expected, atol=2e-6, rtol=0)
    for word in ("cat", "the", "</s>"):
        np.testing.assert_allclose(ours.vector(word), model.get_word_vector(word), atol=1e-6, rtol=0)
    ours.save(tmp_path / "saved")
    np.testing.assert_array_equal(omnivec.load(tmp_path / "saved").encode(TEXTS), ours.encode(TEXTS))
    ours.export(tmp_path / "again.bin", "fasttext-bin")
    np.testing.assert_array_equal(omnivec.load(tmp_path / "again.bin").encode(TEXTS), ours.encode(TEXTS))


def test_texts_without_a_known_word(tmp_path):
    """fastText has a zero vector for them, without n-grams; here they are named."""
    model = trained(tmp_path, minn=0, maxn=0)
    assert not model.get_sentence_vector("zzz qqq").any()
    encoded = omnivec.load(tmp_path / "m.bin").run(["zzz qqq", "cat", ""])
    assert encoded.kept.tolist() == [1] and sorted(encoded.failures) == [0, 2]


def test_labels_in_a_text_make_no_classifier(tmp_path):
    """fastText counts `__label__x` apart in texts without labels too."""
    trained(tmp_path, minn=0, maxn=0)
    ours = omnivec.load(tmp_path / "m.bin")
    assert ours.table.settings["labels"] == ["__label__x"]
    with pytest.raises(UsageError, match="has no labels"):
        ours.predict(["the cat"])


@pytest.mark.parametrize(
    "options",
    [{"maxn": 0}, {"maxn": 0, "wordNgrams": 2, "bucket": 50}, {"minn": 2, "maxn": 3, "bucket": 50}],
    ids=str,
)
@pytest.mark.parametrize("quantised", [False, True])
def test_classifiers_without_ngrams_of_characters(tmp_path, options, quantised):
    lines = [f"__label__{'ab'[i % 2]} {'good' if i % 2 else 'bad'} thing number{i}" for i in range(400)]
    (tmp_path / "labelled.txt").write_text("\n".join(lines))
    data = str(tmp_path / "labelled.txt")
    model = fasttext.train_supervised(data, dim=10, epoch=5, thread=THREADS, verbose=0, **options)
    if quantised:
        model.quantize(input=data, qnorm=True)
    model.save_model(str(tmp_path / "m.bin"))
    ours = omnivec.load(tmp_path / "m.bin")
    texts = ["good thing", "bad number3 thing", "thing"]
    for text, found in zip(texts, ours.predict(texts, k=2), strict=True):
        labels, odds = model.predict(text, k=2)
        assert [label for label, _ in found] == list(labels)
        np.testing.assert_allclose([each for _, each in found], odds, atol=2e-5, rtol=0)
    with pytest.raises(UsageError, match="a classifier needs all of its rows"):
        omnivec.load(tmp_path / "m.bin", limit=2)


def test_gensims_fasttext_without_ngrams(tmp_path):
    model = FastText(
        [line.split() for line in LINES], vector_size=10, min_count=1, max_n=0, min_n=1, workers=1
    )
    model.save(str(tmp_path / "m"))
    ours = omnivec.load(tmp_path / "m")
    assert ours.table.kind == "fasttext"
    for text in ("the cat sat", "the the cat"):
        np.testing.assert_allclose(
            ours.encode(text), model.wv.get_sentence_vector(text.split()), atol=2e-6, rtol=0
        )


@pytest.mark.parametrize("kind", ["static", "fasttext"])
def test_folders_saved_before_load_as_what_they_say(tmp_path, kind):
    """Their kind is the `model_type` of config.json, as it was."""
    rows = np.array([[1, 0], [0, 3]], np.float32)
    write_table(tmp_path / "t", Table(["a", "b"], rows, kind=kind), "omnivec")
    assert json.loads((tmp_path / "t" / "config.json").read_text())["model_type"] == kind
    assert read_table(tmp_path / "t").kind == kind
    expected = [0.5, 1.5] if kind == "static" else [0.5, 0.5]
    np.testing.assert_allclose(omnivec.load(tmp_path / "t").encode("a b"), expected)


@pytest.mark.parametrize("form", ["fasttext-bin", "word2vec-binary", "word2vec-text", "glove", "parquet"])
def test_keys_that_are_no_utf8(tmp_path, form, capsys):
    """Published tables have some, cut in the middle of a character: they load, and the number is said."""
    keys, rows = ["aXXc", "b", "dXXf"], np.arange(1, 7, dtype=np.float32).reshape(3, 2)
    table = Table(keys, rows, kind="fasttext", subwords=Subwords(np.ones((5, 2), np.float32), 2, 3))
    write_table(tmp_path / "t", table if form == "fasttext-bin" else Table(keys, rows), form)
    whole = (tmp_path / "t").read_bytes()
    (tmp_path / "t").write_bytes(whole.replace(b"aXXc", b"a\xea\xb0c").replace(b"dXXf", b"\xff\xe0\xa0f"))
    loaded = omnivec.load(tmp_path / "t")
    assert loaded.keys == ["a\ufffdc", "b", "\ufffd\ufffdf"]
    said = capsys.readouterr().err
    assert "2 of 3 keys are not UTF-8" in said and said.count("\n") == 1
    assert omnivec.load(tmp_path / "t", errors="ignore").keys == ["ac", "b", "f"]
    with pytest.raises(WeightsError, match=r'is not UTF-8 .*load\(\.\.\., errors="replace"\)'):
        omnivec.load(tmp_path / "t", errors="strict")
    assert omnivec.load(tmp_path / "t", limit=2, errors="replace").keys == ["a\ufffdc", "b"]
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "form", ["fasttext-bin", "word2vec-binary", "word2vec-text", "glove", "npz", "parquet", "omnivec"]
)
def test_limit_reads_the_first_rows(tmp_path, form):
    table = Table(["a", "b", "c"], np.arange(6, dtype=np.float32).reshape(3, 2))
    write_table(tmp_path / "t", table, form)
    few = omnivec.load(tmp_path / "t", limit=2)
    assert few.keys == ["a", "b"] and few.vectors.tolist() == [[0, 1], [2, 3]]
    assert omnivec.load(tmp_path / "t", limit=9).keys == ["a", "b", "c"]
    few.export(tmp_path / "few", "fasttext-bin")
    assert omnivec.load(tmp_path / "few").keys == ["a", "b"]


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"limit": -1}, {"limit": 2.0}, {"limit": True}, {"errors": "skip"}]
)
def test_options_that_cannot_be_meant(tmp_path, options):
    write_table(tmp_path / "t", Table(["a"], np.ones((1, 2), np.float32)), "npz")
    with pytest.raises(UsageError, match=next(iter(options))):
        omnivec.load(tmp_path / "t", **options)


@pytest.mark.parametrize("options", [{"limit": 5}, {"errors": "replace"}])
def test_models_that_are_no_tables_have_no_rows(tmp_path, options):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UsageError, match=f"{next(iter(options))}= is for tables of keys"):
        omnivec.load(tmp_path, **options)
