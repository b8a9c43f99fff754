"""gensim's saves, read without gensim and without running them."""

from __future__ import annotations

import os
import pickle
import pickletools
from collections import OrderedDict

import numpy as np
import pytest
from gensim.models import Doc2Vec, FastText, KeyedVectors, Word2Vec
from gensim.models.doc2vec import TaggedDocument

from omnivec.errors import WeightsError
from omnivec.tables.formats.gensim import read_gensim
from omnivec.tables.subwords import composed, unseen

SENTENCES = [
    line.split() for line in ["the cat sat on the mat", "a dog by the Zürich log", "日本 🙂 it's"] * 20
]
OPTIONS = {"vector_size": 9, "min_count": 1, "workers": 1, "epochs": 1}


@pytest.fixture(params=[10 * 2**20, 0], ids=["in one file", "arrays beside it"])
def limit(request):
    return request.param


def save(model, path, limit):
    model.save(str(path), sep_limit=limit)
    return path


@pytest.mark.parametrize("hs", [0, 1])
def test_word2vec(tmp_path, limit, hs):
    model = Word2Vec(SENTENCES, hs=hs, negative=0 if hs else 5, **OPTIONS)
    table = read_gensim(save(model, tmp_path / "m.model", limit))
    assert (tmp_path / "m.model.wv.vectors.npy").exists() == (limit == 0)
    assert table.keys == model.wv.index_to_key
    np.testing.assert_array_equal(table.vectors, model.wv.vectors)
    np.testing.assert_array_equal(table.output, model.syn1 if hs else model.syn1neg)
    assert table.counts.tolist() == [model.wv.get_vecattr(key, "count") for key in table.keys]
    assert table.settings["hs"] == hs and table.settings["window"] == 5
    assert read_gensim(tmp_path / "m.model", 2).keys == table.keys[:2]


def test_keyed_vectors(tmp_path, limit):
    vectors = KeyedVectors(4)
    vectors.add_vectors(["a b", "c\n", "é"], np.arange(12, dtype=np.float32).reshape(3, 4))
    table = read_gensim(save(vectors, tmp_path / "m.kv", limit))
    assert table.keys == ["a b", "c\n", "é"] and table.counts is None
    np.testing.assert_array_equal(table.vectors, vectors.vectors)


def test_fasttext(tmp_path, limit):
    model = FastText(SENTENCES, bucket=211, min_n=2, max_n=4, **OPTIONS)
    for saved in (save(model, tmp_path / "m.model", limit), save(model.wv, tmp_path / "m.kv", limit)):
        table = read_gensim(saved)
        assert table.keys == model.wv.index_to_key
        np.testing.assert_array_equal(table.vectors, model.wv.vectors_vocab)
        np.testing.assert_allclose(composed(table), model.wv.vectors, atol=1e-6)
        np.testing.assert_allclose(unseen(table, "kätzchen"), model.wv["kätzchen"], atol=1e-6)


@pytest.mark.parametrize("tags", [range(60), [f"doc {i}" for i in range(60)]], ids=["numbers", "names"])
def test_doc2vec(tmp_path, limit, tags):
    model = Doc2Vec([TaggedDocument(s, [t]) for s, t in zip(SENTENCES, tags, strict=True)], **OPTIONS)
    table = read_gensim(save(model, tmp_path / "m.model", limit))
    assert table.keys == [str(tag) for tag in tags]
    np.testing.assert_array_equal(table.vectors, model.dv.vectors)
    assert table.words.keys == model.wv.index_to_key
    np.testing.assert_array_equal(table.words.vectors, model.wv.vectors)
    np.testing.assert_array_equal(table.words.output, model.syn1neg)


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol(tmp_path, protocol):
    model = Word2Vec(SENTENCES, **OPTIONS)
    model.save(str(tmp_path / "m.model"), pickle_protocol=protocol)
    np.testing.assert_array_equal(read_gensim(tmp_path / "m.model").vectors, model.wv.vectors)


class Running:
    """Runs a command when it is unpickled."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize(
    "call",
    [os.system, eval, exec, open, __import__, getattr, np.load, np.fromfile, pickle.loads, print],
    ids=lambda call: call.__name__,
)
def test_nothing_is_run(tmp_path, call):
    model = Word2Vec(SENTENCES, **OPTIONS)
    model.comment = Running(call, str(tmp_path / "ran"))
    model.save(str(tmp_path / "m.model"))
    with pytest.raises(WeightsError, match=rf"would run code \(\w.*\.{call.__name__}\): refused"):
        read_gensim(tmp_path / "m.model")
    assert not (tmp_path / "ran").exists()


def test_dotted_names_do_not_reach_deeper(tmp_path):
    """Protocol 4 lets a name be a path of attributes."""
    hostile = b"\x80\x04\x8c\x05numpy\x8c\x0ecore.os.system\x93\x8c\x04true\x85R."
    assert list(pickletools.genops(hostile))
    (tmp_path / "m.kv").write_bytes(hostile)
    with pytest.raises(WeightsError, match=r"numpy\.core\.os\.system"):
        read_gensim(tmp_path / "m.kv")


def test_object_arrays_are_refused(tmp_path):
    vectors = KeyedVectors(4)
    vectors.add_vectors(["a"], np.ones((1, 4), np.float32))
    vectors.vectors = np.array([[1, None, "x", 2]], object)
    vectors.save(str(tmp_path / "m.kv"))
    with pytest.raises(WeightsError, match="element type is 'O8'"):
        read_gensim(tmp_path / "m.kv")
    vectors.save(str(tmp_path / "n.kv"), sep_limit=0)
    with pytest.raises(WeightsError, match=r"n\.kv\.vectors\.npy"):
        read_gensim(tmp_path / "n.kv")


def test_every_truncation_is_one_line(tmp_path):
    vectors = KeyedVectors(4)
    vectors.add_vectors(["a", "b"], np.ones((2, 4), np.float32))
    vectors.save(str(tmp_path / "m.kv"))
    whole = (tmp_path / "m.kv").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "m.kv").write_bytes(whole[:size])
        with pytest.raises(WeightsError) as caught:
            read_gensim(tmp_path / "m.kv")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"vectors": np.ones((1, 4), np.float32)}, "float32 .1, 4. where 2 keys need .2, 2."),
        ({"vectors": np.array([[1, 2], [3, np.nan]], np.float32)}, "row 1: 1 of 2 numbers are NaN"),
        ({"vectors": None}, "no keys or no vectors"),
        ({"index_to_key": None}, "no keys or no vectors"),
    ],
)
def test_damaged_parts(tmp_path, change, named):
    vectors = KeyedVectors(2)
    vectors.add_vectors(["a", "b"], np.ones((2, 2), np.float32))
    for name, value in change.items():
        setattr(vectors, name, value)
    with (tmp_path / "m.kv").open("wb") as stream:
        pickle.dump(vectors, stream)
    with pytest.raises(WeightsError, match=named):
        read_gensim(tmp_path / "m.kv")


def test_a_missing_file_beside_and_another_object(tmp_path):
    vectors = KeyedVectors(2)
    vectors.add_vectors(["a", "b"], np.ones((2, 2), np.float32))
    vectors.save(str(tmp_path / "m.kv"), sep_limit=0)
    (tmp_path / "m.kv.vectors.npy").unlink()
    with pytest.raises(WeightsError, match=r"m\.kv\.vectors\.npy cannot be read"):
        read_gensim(tmp_path / "m.kv")
    (tmp_path / "other.kv").write_bytes(pickle.dumps(OrderedDict(a=1)))
    with pytest.raises(WeightsError, match="holds a OrderedDict"):
        read_gensim(tmp_path / "other.kv")
