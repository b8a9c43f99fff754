"""Tables of names: a key is a whole name and no text; what such a table embeds is a Key."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import omnivec
import small_models
from omnivec import ItemErrors, Key, UsageError
from omnivec.errors import WeightsError
from omnivec.models.keyed import KeyedEmbedder, key_table
from omnivec.tables.io import write_table
from omnivec.tables.record import MODEL_TYPES, Subwords, Table
from omnivec.testing import check_family

SEVEN: Any = 7
NAMES = ["user 17", "user 4", "item/9", "naïve café", "user"]
VECTORS = np.random.default_rng(2).standard_normal((5, 6)).astype(np.float32)


@pytest.fixture
def table():
    return key_table(NAMES, VECTORS)


@pytest.mark.parametrize("saved", [False, True])
def test_a_key_has_its_row_here_and_when_loaded_again(table, tmp_path, saved):
    model = omnivec.load(table.save(tmp_path / "nodes")) if saved else table
    assert isinstance(model, KeyedEmbedder) and model.modalities == ("key",)
    assert (model.card["family"], model.table.kind) == ("keys", "keys")
    assert np.array_equal(model.encode(Key("user 17")), VECTORS[0])
    assert np.array_equal(model.encode([Key(name) for name in NAMES[::-1]]), VECTORS[::-1])
    assert np.array_equal(model.vector("user 17"), VECTORS[0])
    cosines = VECTORS @ VECTORS[0] / np.linalg.norm(VECTORS, axis=1)
    assert model.most_similar("user 17", k=1)[0][0] == NAMES[1 + int(np.argmax(cosines[1:]))]
    found = model.run([Key("item/9"), Key("user")])
    assert (found.unit, found.seen.tolist(), found.lost.tolist()) == ("keys", [1, 1], [0, 0])


def test_the_contract_of_families_holds(table, tmp_path):
    check_family(table.save(tmp_path / "nodes"), [Key(name) for name in NAMES])


def test_the_kind_stands_in_the_file(table, tmp_path):
    config = json.loads((table.save(tmp_path / "nodes") / "config.json").read_text())
    assert config["model_type"] == "keys"
    (tmp_path / "nodes" / "config.json").write_text(json.dumps(config | {"model_type": "static"}))
    words = omnivec.load(tmp_path / "nodes")
    assert words.modalities == ("text", "key")
    assert np.array_equal(words.encode("a user"), VECTORS[4])  # split into words


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (
            "user 17",
            r"'user 17' is a text, but this table has only keys: give Key\('user 17'\), or call vector",
        ),
        ("nobody", r"'nobody' is a text"),
        (Key("nobody"), r"'nobody': not among the table's 5 keys"),
        (Key("User 17"), "not among the table's 5 keys"),
        (Key(SEVEN), "7, an int: not among"),
        (np.zeros((4, 4, 3), np.uint8), "is an image, but this model reads only keys"),
        (object(), r"is not a key: give Key\(name\)"),
    ],
)
def test_what_is_no_key_of_the_table_fails_alone(table, item, why):
    with pytest.raises(ItemErrors, match=why) as raised:
        table.encode([Key("user 4"), item])
    assert list(raised.value.failures) == [1]
    assert np.array_equal(raised.value.partial.vectors, VECTORS[1:2])


def test_options_of_texts_and_weights_of_words_are_refused(table):
    with pytest.raises(UsageError, match="this model reads only keys"):
        table.encode(Key("user"), prompt="query: ")
    with pytest.raises(UsageError, match="weighting='sif' is for the words of texts"):
        table.weighted("sif")


def test_a_table_of_words_embeds_its_keys_beside_texts(tmp_path):
    model = omnivec.load(small_models.of_words(tmp_path / "model"))
    assert isinstance(model, omnivec.KeyedEmbedder)
    got = model.encode(["quick fox", Key("fox"), "dog", Key("quick")])
    assert np.array_equal(got[1], model.vector("fox")) and np.array_equal(got[3], model.vector("quick"))
    assert np.array_equal(got[[0, 2]], model.encode(["quick fox", "dog"]))
    with pytest.raises(ItemErrors, match="'quick fox': not among the table's 9 keys"):
        model.encode(Key("quick fox"))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ((NAMES[:4], VECTORS), r"vectors are \(5, 6\); 4 keys need \(4, dim\)"),
        ((NAMES, VECTORS[0]), r"vectors are \(6,\)"),
        ((["a", "b", "a"], VECTORS[:3]), "keys holds 'a' twice"),
        ((NAMES, np.where(VECTORS > 1, np.nan, VECTORS)), "holds NaN or infinity"),
        ((NAMES, VECTORS, [1, 2]), r"counts are \(2,\); 5 keys need as many"),
    ],
)
def test_what_makes_no_table_is_refused(given, why):
    with pytest.raises(UsageError, match=why):
        key_table(*given)


WORDS = ["red", "green"]
ROWS = VECTORS[:2]
GRAMS = Subwords(VECTORS, 3, 4)
CONTRADICTIONS = {
    "n-grams in a table of words": (
        Table(WORDS, ROWS, subwords=GRAMS),
        "static",
        "n-grams or labels",
    ),
    "n-grams in a table of keys": (
        Table(WORDS, ROWS, subwords=GRAMS),
        "keys",
        "n-grams or labels",
    ),
    "documents as words": (Table(WORDS, ROWS, words=Table(["a"], ROWS[:1])), "static", "words of documents"),
    "documents as fastText": (
        Table(WORDS, ROWS, words=Table(["a"], ROWS[:1])),
        "fasttext",
        "words of documents",
    ),
    "weights in a table of keys": (
        Table(WORDS, ROWS, weights=ROWS[:, 0]),
        "keys",
        "weights of words in a mean",
    ),
    "a tokenizer in a table of keys": (Table(WORDS, ROWS, tokenizer=b"{}"), "keys", "a tokenizer"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_stated_kind_that_contradicts_the_content_is_refused(tmp_path, case):
    table, stated, why = CONTRADICTIONS[case]
    write_table(tmp_path / "table", table, "omnivec")
    config = json.loads((tmp_path / "table" / "config.json").read_text())
    (tmp_path / "table" / "config.json").write_text(json.dumps(config | {"model_type": stated}))
    with pytest.raises(WeightsError, match=rf"config\.json: model_type is '{stated}', but it holds {why}"):
        omnivec.load(tmp_path / "table")


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_every_kind_reads_a_table_of_keys_and_vectors_alone(tmp_path, kind):
    write_table(tmp_path / "table", Table(WORDS, ROWS, kind=kind), "omnivec")
    model = omnivec.load(tmp_path / "table")
    assert isinstance(model, omnivec.KeyedEmbedder)
    assert model.table.kind == kind and np.array_equal(model.vector("green"), ROWS[1])
