"""Vectors of documents: alike where the words are, inferred near where they were trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

import omnivec
import small_corpus
from omnivec.errors import UsageError
from omnivec.training.recipes.doc2vec import Options, embedder, fit
from omnivec.training.tagged import read_documents

SMALL: dict[str, Any] = {
    "dim": 20,
    "epochs": 30,
    "lr": 0.05,
    "threads": 1,
    "sample": 0.0,
    "min_count": 1,
    "window": 3,
}
WAYS: dict[str, dict[str, Any]] = {
    "dbow": {"dm": False},
    "dbow and words": {"dm": False, "dbow_words": True},
    "mean": {"dm": True},
    "sum": {"dm_mean": False},
    "concatenated": {"dm_concat": True, "epochs": 60},
    "hierarchical": {"dm": False, "negative": 0},
}


@pytest.fixture(scope="module")
def documents():
    return read_documents(small_corpus.sentences(200, 20), min_count=1)


@pytest.mark.parametrize("name", WAYS)
def test_a_document_is_inferred_near_where_it_was_trained(documents, name, tmp_path):
    options = Options(**{**SMALL, **WAYS[name]})
    model = fit(documents, options)
    corpus = documents.corpus
    texts = [
        " ".join(corpus.words[i] for i in corpus.ids[a:b])
        for a, b in zip(corpus.starts[:40], corpus.starts[1:41], strict=True)
    ]
    inferring = embedder(model, options)
    found = inferring.encode(texts)
    unit, trained = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (found, model.documents))
    cosines = unit @ trained.T
    own, kind = np.diag(cosines[:, :40]), np.arange(200) % 2
    assert (own[:, None] >= cosines).mean() > 0.99 and own.mean() > cosines.mean() + 0.4
    if name == "dbow":  # elsewhere the words say of which kind they are, and the document what is left to say
        same = kind[:40, None] == kind
        assert cosines[same].mean() > cosines[~same].mean() + 0.2
    assert found.tobytes() == inferring.encode(texts).tobytes()
    assert found[3:5].tobytes() == inferring.encode(texts[3:5]).tobytes()
    assert inferring.keys[:2] == ["0", "1"]
    assert np.array_equal(inferring.vector("1"), model.documents[1])
    again = omnivec.load(inferring.save(tmp_path / "saved"))
    np.testing.assert_allclose(again.encode(texts[:5]), found[:5], atol=1e-6)


def test_a_seed_makes_the_same_bits_and_another_others(documents):
    one, same, other = (fit(documents, Options(**{**SMALL, "epochs": 2, "seed": seed})) for seed in (3, 3, 4))
    assert (
        one.documents.tobytes() == same.documents.tobytes()
        and one.outputs.tobytes() == same.outputs.tobytes()
    )
    assert one.documents.tobytes() != other.documents.tobytes()


def test_documents_begin_far_enough_from_each_other(documents):
    options = Options(**{**SMALL, "epochs": 1, "lr": 1e-9, "min_lr": 1e-9})
    found = fit(documents, options)
    for table in (found.documents, found.inputs):  # from -1 / dim to 1 / dim, evenly
        assert abs(table.mean()) < 0.1 / options.dim
        assert 0.95 / options.dim < np.abs(table).max() < 1.001 / options.dim
        np.testing.assert_allclose(table.std(), 1 / options.dim / 3**0.5, rtol=0.1)


def test_documents_of_a_tag_share_a_vector(tmp_path):
    found = read_documents([("x", "a b"), (7, ["b", "c"]), ("x", "c d d")], min_count=1)
    assert found.tags == ["x", "7"] and found.rows.tolist() == [0, 1, 0]
    spelled = [[found.corpus.words[i] for i in found.corpus.ids[a:b]] for a, b in zip(
        found.corpus.starts, found.corpus.starts[1:], strict=False
    )]  # fmt: skip
    assert spelled == [["a", "b"], ["b", "c"], ["c", "d", "d"]]
    path = tmp_path / "documents.txt"
    path.write_text("a b\n\nd d a\n", encoding="utf-8")
    lines = read_documents(path, min_count=2)
    assert lines.tags == ["0", "1", "2"] and lines.corpus.starts.tolist() == [0, 1, 1, 4]
    assert sorted(lines.corpus.words) == ["a", "d"] and lines.corpus.total == 5
    assert fit(lines, Options(**SMALL)).documents.shape == (3, 20)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "data holds no document"),
        ([3], "item 0 is 3, an int: expected a str"),
        (["a b c"], "no word occurs 5 times or more in 3 words of 1 documents"),
        (3, "data: 3, an int is not an item"),
    ],
)
def test_bad_data_is_one_clear_line(data, message):
    with pytest.raises(UsageError, match=message):
        read_documents(data)


def test_a_missing_file_is_one_clear_line(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: does not exist"):
        read_documents(tmp_path / "missing.txt")


def test_folders_that_hold_no_rate_were_trained_with_the_usual_one(tmp_path):
    texts = ["the cat sat on the mat", "a dog ran over the mat"] * 20
    model = omnivec.train("doc2vec", texts, dim=8, min_count=1, threads=1)
    folder = model.save(tmp_path / "model")
    config = (folder / "config.json").read_text(encoding="utf-8")
    assert '"lr": 0.025' in config
    (folder / "config.json").write_text(config.replace('"lr": 0.025', '"lr": null'), encoding="utf-8")
    asked = ["the cat", "the", "dog mat"]
    np.testing.assert_array_equal(omnivec.load(folder).encode(asked), model.encode(asked))
