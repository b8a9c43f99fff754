"""Tables as embedders: keys, texts by their words, what is near, and the same model in every published form."""

from __future__ import annotations

import contextlib
import difflib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from gensim.models import KeyedVectors
from model2vec import StaticModel
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from tokenizers import Tokenizer

import checkpoints
import omnivec
from omnivec.cli.analogy import command
from omnivec.collection.adding import Added
from omnivec.collection.syncing import SyncReport
from omnivec.errors import ItemErrors, UnsupportedModel, UsageError
from omnivec.tables.io import FORMATS, write_table
from omnivec.tables.record import Subwords, Table
from omnivec.testing import check_close

WORDS = ["the", "king", "queen", "man", "woman", "cat", "sat", "don't", "co-op", "."]
RANDOM = np.random.default_rng(3)
VECTORS = RANDOM.normal(size=(len(WORDS), 12)).astype(np.float32)
VECTORS[2] = VECTORS[1] - VECTORS[3] + VECTORS[4]
COUNTS = np.array([900, 50, 40, 70, 60, 30, 20, 10, 5, 1000], np.int64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("table") / "words"
    write_table(place, Table(WORDS, VECTORS, COUNTS), "omnivec")
    return place


@pytest.fixture(scope="module")
def model(folder: Path) -> omnivec.KeyedEmbedder:
    loaded = omnivec.load(folder)
    assert isinstance(loaded, omnivec.KeyedEmbedder)
    return loaded


def row(word: str) -> np.ndarray:
    return VECTORS[WORDS.index(word)]


def test_keys_and_their_vectors(model: omnivec.KeyedEmbedder) -> None:
    assert model.keys == WORDS
    assert np.array_equal(model.vectors, VECTORS)
    assert model.vectors.dtype == np.float32
    assert "king" in model
    assert "kong" not in model
    assert np.array_equal(model.vector("king"), row("king"))
    assert (model.dim, model.metric, model.modalities) == (12, "cosine", ("text", "key"))


def test_a_text_is_the_mean_of_its_words(model: omnivec.KeyedEmbedder) -> None:
    texts = ["the king sat", "The KING, sat.", "don't", "a co-op's queen!", "queen"]
    expected = [
        (row("the") + row("king") + row("sat")) / 3,
        (row("the") + row("king") + row("sat") + row(".")) / 4,
        row("don't"),
        (row("co-op") + row("queen")) / 2,
        row("queen"),
    ]
    got = model.run(texts)
    check_close(got.vectors[[0, 1, 2, 4]], np.array(expected)[[0, 1, 2, 4]], "means")
    assert got.seen.tolist()[:3] == [3, 4, 1]
    assert got.unit == "words"
    assert got.lost.tolist() == [0] * 5


def test_a_text_of_unknown_words_fails_alone(model: omnivec.KeyedEmbedder) -> None:
    with pytest.raises(ItemErrors) as caught:
        model.encode(["the king", "xyzzy plugh", "", 3])
    assert list(caught.value.failures) == [1, 2, 3]
    assert "none of its words is among the table's 10" in caught.value.failures[1]
    check_close(caught.value.partial.vectors, model.encode(["the king"]), "the other")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:gensim.*")
def test_analogies_equal_gensim(model: omnivec.KeyedEmbedder) -> None:
    reference = KeyedVectors(12)
    reference.add_vectors(WORDS, VECTORS)
    found = model.most_similar(["king", "woman"], ["man"], k=5)
    assert found[0][0] == "queen"
    assert [key for key, _ in found] == [
        k for k, _ in reference.most_similar(["king", "woman"], ["man"], topn=5)
    ]
    by_product = reference.most_similar_cosmul(["king", "woman"], ["man"], topn=3)
    assert [k for k, _ in model.most_similar(["king", "woman"], "man", k=3, method="mul")] == [
        k for k, _ in by_product
    ]
    listed = ["king", "queen", "cat", "man"]
    assert model.odd_one_out(listed) == reference.doesnt_match(listed)


def test_what_cannot_be_asked(model: omnivec.KeyedEmbedder) -> None:
    with pytest.raises(UsageError, match=r"'kng': not among the table's 10 keys; similar to 'kng': 'king'"):
        model.vector("kng")
    with pytest.raises(UsageError, match="k=0"):
        model.most_similar("king", k=0)
    with pytest.raises(UsageError, match="a table, in which a word has the same vector"):
        model.tokens("the king")
    with pytest.raises(UsageError, match="give at least 2"):
        model.odd_one_out(["king"])
    with pytest.raises(UsageError, match="weighting='tf'"):
        model.weighted("tf")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="texts="):
        model.weighted("idf")


def test_weights_by_frequency(model: omnivec.KeyedEmbedder) -> None:
    share = COUNTS / COUNTS.sum()
    sif = 1e-3 / (1e-3 + share)
    the, king = WORDS.index("the"), WORDS.index("king")
    expected = (sif[the] * VECTORS[the] + sif[king] * VECTORS[king]) / 2
    check_close(model.weighted("sif").encode("the king"), expected, "sif")
    idf = model.weighted("idf", ["the king", "the the cat", "nothing known"])
    expected = (np.log(4 / 3) * row("the") + np.log(4 / 2) * row("king")) / 2
    check_close(idf.encode("the king"), expected, "idf")
    check_close(idf.weighted("mean").encode("the king"), model.encode("the king"), "back to the mean")
    assert idf.identity != model.identity


@pytest.mark.parametrize("form", ["word2vec-text", "word2vec-binary", "glove", "npz", "parquet", "omnivec"])
def test_every_form_is_the_same_model(model: omnivec.KeyedEmbedder, tmp_path: Path, form: str) -> None:
    again = omnivec.load(model.export(tmp_path / "written", form))
    assert isinstance(again, omnivec.KeyedEmbedder)
    assert again.keys == WORDS
    check_close(again.vectors, VECTORS, form)
    assert again.identity == model.identity


def test_an_unknown_form_names_those_there_are(model: omnivec.KeyedEmbedder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="word2vec-binary"):
        model.export(tmp_path / "x", "pickle")
    assert "gensim" in FORMATS


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(bytes(range(256)))
    with pytest.raises(UnsupportedModel, match="is not a table, give its folder"):
        omnivec.load(tmp_path / "model.bin")


def test_subwords_spell_what_was_never_seen(tmp_path: Path) -> None:
    grams = Subwords(RANDOM.normal(size=(50, 12)).astype(np.float32), 3, 4)
    table = Table(WORDS, VECTORS, COUNTS, subwords=grams)
    write_table(tmp_path / "ft", table, "omnivec")
    write_table(tmp_path / "ft.bin", table, "fasttext-bin")
    import fasttext

    reference = fasttext.load_model(str(tmp_path / "ft.bin"))
    for place in (tmp_path / "ft", tmp_path / "ft.bin"):
        model = omnivec.load(place)
        assert isinstance(model, omnivec.KeyedEmbedder)
        for word in ("king", "kings", "unkingly"):
            check_close(model.vector(word), reference.get_word_vector(word), word)
        check_close(model.encode("king kingly"), reference.get_sentence_vector("king kingly"), "a text")
        near = [key for key, _ in model.most_similar("kingz", k=4)]
        assert near == [key for _, key in reference.get_nearest_neighbors("kingz", k=4)]
        assert "kingz" not in near


TEXTS = ["the quick engine", "The king's ENGINE, sat!", "a fox jumps over ünïcode zzz", "jumps " * 700]


def tokens(folder: Path) -> tuple[bytes, np.ndarray]:
    """A WordPiece tokenizer, and a row for each of its tokens."""
    folder.mkdir(parents=True)
    size = checkpoints.wordpiece(folder)
    return (folder / "tokenizer.json").read_bytes(), RANDOM.normal(size=(size, 20)).astype(np.float32)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_model2vec_folders(tmp_path: Path, weighted: bool, normalize: bool) -> None:
    content, rows = tokens(tmp_path / "t")
    weights = RANDOM.random(len(rows)).astype(np.float32) if weighted else None
    reference = StaticModel(
        rows,
        Tokenizer.from_buffer(content),
        config={"normalize": normalize},
        normalize=normalize,
        weights=weights,
    )
    reference.save_pretrained(tmp_path / "m")
    model = omnivec.load(tmp_path / "m")
    check_close(model.encode(TEXTS), reference.encode(TEXTS, max_length=None), "model2vec")
    assert isinstance(model, omnivec.KeyedEmbedder)
    assert model.card["steps"] == (["Normalize"] if normalize else [])
    again = omnivec.load(model.export(tmp_path / "again", "model2vec"))
    check_close(again.encode(TEXTS), model.encode(TEXTS), "written and read")
    theirs = StaticModel.from_pretrained(tmp_path / "again")
    check_close(theirs.encode(TEXTS, max_length=None), model.encode(TEXTS), "read by model2vec")


@pytest.mark.parametrize("normalize", [False, True])
def test_static_embeddings_of_sentence_transformers(tmp_path: Path, normalize: bool) -> None:
    content, rows = tokens(tmp_path / "t")
    first = modules.StaticEmbedding(Tokenizer.from_buffer(content), embedding_weights=rows)
    reference = SentenceTransformer(
        modules=[first, *([modules.Normalize()] if normalize else [])], device="cpu"
    )
    reference.save(str(tmp_path / "m"))
    model = omnivec.load(tmp_path / "m")
    with torch.no_grad():
        check_close(model.encode(TEXTS), reference.encode(TEXTS), "StaticEmbedding")


def test_a_table_makes_a_collection(model: omnivec.KeyedEmbedder, folder: Path, tmp_path: Path) -> None:
    texts = ["the cat sat", "king and queen", "a man and a woman", "xyzzy"]
    with omnivec.Collection(tmp_path / "notes.omni", model=folder) as notes:
        with pytest.raises(ItemErrors, match="item 3: the model's tokenizer finds no tokens"):
            notes.add(texts, ids=["cat", "royal", "people", "nothing"])
        assert [hit.document for hit in notes.search("queen", k=1)] == ["royal"]
    with omnivec.Collection(tmp_path / "notes.omni", model=folder) as notes:
        assert len(notes.search("woman", k=3)) == 3


def test_card_and_identity_are_plain(model: omnivec.KeyedEmbedder) -> None:
    json.dumps(model.card)
    json.dumps(dict(model.identity))
    assert model.card["family"] == "static"
    assert model.card["keys"] == 10


def test_near_spellings_are_looked_for_when_the_message_is_shown(
    model: omnivec.KeyedEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    real = difflib.get_close_matches
    monkeypatch.setattr(
        difflib, "get_close_matches", lambda word, *rest: looked.append(word) or real(word, *rest)
    )
    for ask in (model.vector, model.most_similar, model.__contains__):
        with contextlib.suppress(UsageError):
            ask("kng")
    assert looked == []
    with pytest.raises(UsageError) as raised:
        model.vector("kng")
    copied = pickle.loads(pickle.dumps(raised.value))
    assert str(raised.value) == str(raised.value) == str(copied) and "'kng'" in repr(raised.value)
    assert looked == ["kng"]


def test_a_table_is_asked_as_a_mapping(model: omnivec.KeyedEmbedder) -> None:
    assert np.array_equal(model["king"], model.vector("king"))
    assert np.array_equal(model[["king", "the"]], np.stack([row("king"), row("the")]))
    assert model[[]].shape == (0, model.dim)
    assert "king" in model and "kings" not in model and 3 not in model
    assert len(model) == len(WORDS) and list(model) == WORDS
    for key in ("kng", "king "):
        with pytest.raises(KeyError):
            model[key]
    for wrong in (0, None, np.zeros(3)):
        with pytest.raises(UsageError):
            model[wrong]


def test_an_unknown_key_is_said_only_when_it_is_shown(
    model: omnivec.KeyedEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(difflib, "get_close_matches", None)  # calling it would be a TypeError
        with pytest.raises(omnivec.UnknownKey) as raised:
            model.vector("KING")
    assert str(raised.value) == "'KING': not among the table's 10 keys; similar to 'KING': 'king'"
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
    assert model.spelled("KING") == model.spelled("king") == "king"
    with pytest.raises(omnivec.UnknownKey):
        model.spelled("kng")


def test_neighbours_of_vectors_equal_gensim(model: omnivec.KeyedEmbedder) -> None:
    reference = KeyedVectors(12)
    reference.add_vectors(WORDS, VECTORS)
    vector = np.random.default_rng(9).normal(size=12).astype(np.float32)
    expected = reference.similar_by_vector(vector, topn=4)
    for positive in (vector, [vector], vector[None], vector.astype(np.float64)):
        found = model.most_similar(positive, topn=4)
        assert [key for key, _ in found] == [key for key, _ in expected]
        np.testing.assert_allclose([score for _, score in found], [score for _, score in expected], atol=1e-6)
    three: Any = np.int64(3)
    mixed = model.most_similar(["king", vector], ["man", row("the")], three)
    one, other = (
        each / np.linalg.norm(each) for each in (vector, row("the"))
    )  # ours are of length 1, as keys' are
    expected = reference.most_similar(["king", one], ["man", other], topn=4)
    expected = [(key, score) for key, score in expected if key != "the"][:3]
    assert [key for key, _ in mixed] == [key for key, _ in expected]
    assert model.most_similar(row("king"), k=1)[0][0] == "king"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (
            {"positive": np.zeros(5)},
            r"positive 0 is a float64 array of shape \(5,\): vectors must be \(12,\)",
        ),
        ({"positive": np.full(12, np.nan)}, "of finite numbers"),
        ({"positive": ["king", 3.0]}, "positive 1 is 3.0, a float: give a key, or a vector"),
        ({"positive": ["king", None]}, "positive 1 is None"),
        ({"positive": {"king"}}, "a set has no order"),
        ({"positive": "king", "k": 3.0}, "k=3.0: a whole number, at least 1"),
        ({"positive": "king", "k": 3, "topn": 3}, "are the same option"),
        ({"positive": "king", "topn": "x"}, "topn='x': a whole number"),
        ({"positive": "king", "method": "cos"}, "method='cos' is none of add, mul"),
        ({}, "needs a positive row"),
    ],
)
def test_neighbours_of_what_is_no_key_and_no_vector(
    model: omnivec.KeyedEmbedder, arguments: dict[str, Any], why: str
) -> None:
    with pytest.raises(UsageError, match=why) as raised:
        model.most_similar(**arguments)
    assert "\n" not in str(raised.value)


def test_similarity_of_keys_and_of_vectors(model: omnivec.KeyedEmbedder) -> None:
    expected = omnivec.similarity(row("king"), np.stack([row("the"), row("man")]))
    np.testing.assert_array_equal(model.similarity("king", ["the", "man"]), expected)
    np.testing.assert_array_equal(model.similarity(row("king"), ["the", "man"]), expected)
    assert model.similarity_pairwise(["king", "man"], ["king", "man"]).tolist() == pytest.approx([1, 1])


def test_the_first_components_of_a_table(folder: Path) -> None:
    model = omnivec.load(folder, dim=5)
    assert isinstance(model, omnivec.KeyedEmbedder)
    assert model.vectors.shape == (len(WORDS), 5) and np.array_equal(model.vectors, VECTORS[:, :5])
    assert model["king"].shape == (5,) and len(model.most_similar(model["king"], k=2)) == 2


def test_the_command_takes_the_key_in_other_capitals_and_says_so(folder: Path) -> None:
    found = CliRunner().invoke(
        command, ["-m", str(folder), "--json", "-k", "1", "KING", "-", "man", "+", "Woman"]
    )
    same = CliRunner().invoke(
        command, ["-m", str(folder), "--json", "-k", "1", "king", "-", "man", "+", "woman"]
    )
    assert found.exit_code == same.exit_code == 0 and found.stdout == same.stdout
    assert found.stderr.splitlines() == [
        "omnivec: 'KING' is not in the table: using 'king'",
        "omnivec: 'Woman' is not in the table: using 'woman'",
    ]
    assert not same.stderr


def test_what_users_hold_is_shown_in_one_short_line(model: omnivec.KeyedEmbedder) -> None:
    encoded = model.run(["the king", None])
    assert repr(encoded) == "<Encoded: 1 of 2 items, 12 components; 0 cut, 1 failed>"
    assert repr(model) == f"<KeyedEmbedder {model.name!r}: 10 keys, 12 components, cosine>"
    hit = omnivec.Hit("a#0", "a", (0, 9), 1, "text", "text", 0.51236, "one\nline " * 99, {"year": 2024})
    assert repr(hit) == f"<Hit 'a#0' 0.5124 in 'text': {('one line ' * 7)[:60] + '...'!r}>"
    for shown in (repr(Added(ids=["a"] * 999)), repr(SyncReport()), repr(omnivec.Audio(np.zeros(9), 8000))):
        assert len(shown) < 160 and "array" not in shown
