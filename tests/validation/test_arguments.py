"""Arguments of a wrong type or a wrong model are one line that names them; NumPy's scalars are as good as Python's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import omnivec
import small_models
from omnivec.errors import FilterError, ItemError, ItemErrors, OmnivecError, UsageError
from omnivec.evaluation.word_similarity import Pair, score_pairs
from omnivec.tasks.classify import Classifier
from omnivec.tasks.duplicates import find_copies
from omnivec.validation.arguments import choice, flag, real, whole


@pytest.fixture
def notes(text_model: omnivec.Embedder, tmp_path: Path) -> Iterator[omnivec.Collection]:
    with omnivec.Collection(tmp_path / "notes.omni", model=text_model) as opened:
        opened.add(["the quick fox", "a lazy dog"], ids=["fox", "dog"])
        yield opened


def refused(why: str, call: Any, *args: Any, **options: Any) -> None:
    with pytest.raises(UsageError, match=why) as raised:
        call(*args, **options)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3)])
def test_whole_numbers(value: Any) -> None:
    assert whole("k", value) == 3 and type(whole("k", value)) is int


@pytest.mark.parametrize(
    "value", [True, np.True_, 3.0, np.float32(3), "3", None, [3], float("nan"), 1j, b"3"]
)
def test_what_is_no_whole_number(value: Any) -> None:
    refused("k=.*: a whole number, 1 to 9", whole, "k", value, 1, 9)


def test_numbers_flags_and_names() -> None:
    assert real("x", np.float32(0.5)) == 0.5 and real("x", 1) == 1.0
    for value in (True, "1", None, float("nan"), float("inf"), 10**400, -1):
        refused("x=.*: a number, at least 0", real, "x", value, 0)
    assert flag("f", np.True_) is True and flag("f", False) is False
    for value in (0, 1, "no", None, [True]):
        refused("f=.*: True or False", flag, "f", value)
    assert choice("c", "a", ("a", "b")) == "a"
    for value in ("c", ["a"], None, np.array(["a", "b"]), {"a"}):
        refused("c=.* is none of a, b", choice, "c", value, ("a", "b"))
    refused(r"k='x+\.\.\. \(str\): a whole number", whole, "k", "x" * 9999)


def test_a_model_that_is_no_name(text_model: omnivec.Embedder) -> None:
    refused("model is an Embedder; it is already loaded: give a name or a folder", omnivec.load, text_model)
    refused("model is None: give a name", omnivec.load, None)
    refused("model is 3, an int: give a name", omnivec.load, 3)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"threads": "x"}, "threads='x': a whole number, at least 1"),
        ({"threads": 0}, "threads=0: at least 1"),
        ({"deterministic": "no"}, "deterministic='no': True or False"),
        ({"offline": 1}, "offline=1: True or False"),
        ({"engine": 3}, "engine=3: a str"),
        ({"precision": np.float32}, "precision=.*: a str"),
        ({"device": 0}, "device=0: a str"),
        ({"decode": "fast"}, "decode='fast' is none of reduced, exact"),
        ({"decode": "exact"}, "decode='exact' is an option of images, but .* reads only text: leave it out"),
        ({"dim": "x"}, "dim='x': a whole number, 1 to 32"),
        ({"max_memory": []}, r"max_memory=\[\] is not a size"),
    ],
)
def test_options_of_load(options: dict[str, Any], why: str, text_model: omnivec.Embedder) -> None:
    refused(why, omnivec.load, text_model.folder, **options)


@pytest.mark.parametrize(
    "options", [{"engine": "openvino"}, {"precision": "int8"}, {"device": "cuda"}, {"max_memory": "2GB"}]
)
def test_options_of_networks_are_refused_by_a_table(options: dict[str, Any], table: omnivec.Embedder) -> None:
    why = f"{next(iter(options))}=.* is an option of networks, and .* is a table, which computes nothing"
    refused(why, omnivec.load, table.folder, **options)
    loaded = omnivec.load(
        table.folder, precision="float32", device="cpu", deterministic=True, threads=np.int64(1)
    )
    np.testing.assert_array_equal(loaded.encode("the fox"), table.encode("the fox"))


def test_members_of_an_embedder(text_model: omnivec.Embedder, image_model: omnivec.Embedder) -> None:
    for value in (["a"], None, 3, Path("a.txt")):
        for call in (
            text_model.tokens,
            text_model.words,
            lambda text: text_model.encode_spans(text, [(0, 1)]),
        ):
            refused("text is .*: give a str", call, value)
    for spans in (3, "x", [(0, 1.5)], [(0, 1), (2,)], [0, 1, 2], [("a", "b")], None):
        refused("spans=.*: must be pairs of whole numbers", text_model.encode_spans, "a text", spans)
    for precision in (None, "int4", ["int8"], np.ones((2, 2))):
        refused("precision=.* is none of", text_model.precision_loss, precision, ["a text", "another"])
    for named in ("all-MiniLM-L6-v2", None, 3):
        refused(
            r"model=.* is not an embedder: give omnivec\.load\(", omnivec.classify, named, ["a"], ["b", "c"]
        )
        refused(r"model=.* is not an embedder: give omnivec\.load\(", omnivec.find_copies, ["a.png"], named)
    refused("layer='x': a whole number", text_model.tokens, "a text", layer="x")
    refused("layer=1.5: a whole number", text_model.tokens, "a text", layer=[0, 1.5])
    refused("task='search' is none of query, document", text_model.task_prompt, "search")
    refused("folder=None: a pathlib.Path or a str", text_model.save, None)
    refused("has no tokens", image_model.tokens, "a text")


def test_a_collection_counts_holds_and_gets(notes: omnivec.Collection) -> None:
    assert len(notes) == 2 and "fox" in notes and "cat" not in notes and 3 not in notes
    assert [entry.id for entry in notes.get(["dog", "fox", "dog"])] == ["dog", "fox", "dog"]
    assert [entry.id for entry in notes.get("fox")] == ["fox"] and notes.get([]) == []
    with pytest.raises(KeyError, match="no document 'cat' in "):
        notes.get(["fox", "cat"])
    assert repr(notes).startswith(f"<Collection {str(notes.folder)!r}: 2 documents, 2 passages; text by ")
    assert len(repr(notes.search("fox")[0])) < 120
    assert notes.delete("fox") == 1 and notes.delete(np.array(["dog"])) == 1 and len(notes) == 0
    notes.close()
    assert repr(notes).startswith("<Collection ")


def test_arguments_of_a_collection(notes: omnivec.Collection, tmp_path: Path) -> None:
    for wrong, why in (
        (1, "1, an int is not an item"),
        (None, "None is not an item"),
        ({"fox": 1}, "a dict"),
        ([1], "id 0 is 1"),
    ):
        refused(why if wrong is not None else "delete needs ids or where=", notes.delete, wrong)
        refused(why, notes.get, wrong)
    refused("like: a set has no order", notes.recommend, {"fox"})
    refused("ids: 1, an int is not an item: give a str, or a list of these", notes.get, 1)
    refused("paths: 1, an int is not an item: give a pathlib.Path, a str, or a list of these", notes.sync, 1)
    refused("metadata: 1, an int is not an item: give a dict, or a list of these", notes.add, "a", metadata=1)
    for k in (3.0, "3", None, True):
        refused("k=.*: a whole number, at least 1", notes.search, "fox", k)
        refused("k=.*: a whole number, at least 1", notes.recommend, "fox", k=k)
    assert len(notes.search("fox", np.int64(1))) == 1
    refused("mode='words' is none of", notes.search, "fox", mode="words")
    refused("query is a list of 1: give one query, or call search_many", notes.search, ["fox"])
    for query in (None, {"a": 1}, 3.0):
        with pytest.raises(ItemError, match="is not an item: give a str"):
            notes.search(query)
    for paths, why in (
        ([None], "path 0 is None"),
        ("", "'.' is the current folder"),
    ):
        refused(why, notes.sync, paths)
    refused("dry_run='no': True or False", notes.sync, tmp_path, dry_run="no")
    refused("folder=3: a pathlib.Path", omnivec.Collection, 3)
    refused("readonly=None: True or False", omnivec.Collection, tmp_path / "x", readonly=None)
    assert len(notes) == 2 and not (tmp_path / "x").exists()


def test_metadata_from_numpy_and_with_dates(notes: omnivec.Collection) -> None:
    day, hour = date(2024, 2, 29), datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
    given = {"n": np.int64(3), "x": np.float32(0.5), "yes": np.True_, "s": np.str_("a"), "list": np.arange(2)}
    given |= {"day": day, "hour": hour, "np": np.datetime64("2024-02-29"), "time": time(1, 2)}
    given |= {
        "nan": math.nan,
        "nat": np.datetime64("NaT"),
        "inner": {"deep": [np.int8(1), np.float64("nan")]},
    }
    notes.add("an engine", ids="e", metadata=given)
    [entry] = notes.get("e")
    assert entry.metadata == {
        "n": 3,
        "x": 0.5,
        "yes": True,
        "s": "a",
        "list": [0, 1],
        "day": "2024-02-29",
        "hour": "2024-02-29T12:30:00+00:00",
        "np": "2024-02-29",
        "time": "01:02:00",
        "nan": None,
        "nat": None,
        "inner": {"deep": [1, None]},
    }
    for where in (
        {"n": np.int64(3)},
        {"n": {"$gt": np.float32(2)}},
        {"yes": np.True_},
        {"day": {"$gte": date(2024, 1, 1)}},
        {"day": day},
        {"n": {"$in": np.array([1, 3])}},
        {"nan": {"$exists": np.True_}},
        {"nan": {"$eq": None, "$exists": True}},
    ):
        assert [found.id for found in notes.documents(where)] == ["e"], where


def test_labels_are_predicted_as_by_scikit_learn(text_model: omnivec.Embedder) -> None:
    classes = Classifier.of(text_model, np.array(["the fox", "a dog"]))
    items = ["the fox", "a dog"]
    assert classes.predict(items) == items and classes.predict("a dog") == ["a dog"]
    np.testing.assert_array_equal(classes.predict_proba(items), classes.run(items).probabilities)
    with pytest.raises(
        ItemErrors, match=r"item 1: None is not a text.*Classifier\.run\(items\) returns both"
    ):
        classes.predict(["the fox", None])
    assert len(repr(classes)) < 200 and len(repr(classes.run(items))) < 100
    for labels, why in (
        (["a", None], "label 1 is None"),
        ({"a", "b"}, "a set has no order"),
        ("a", "one label"),
    ):
        refused(why, Classifier.of, text_model, labels)
    refused("scale='x': a number", Classifier.of, text_model, items, scale="x")
    refused("template 0 is 3, an int", Classifier.of, text_model, items, templates=[3])


def test_other_functions(image_model: omnivec.Embedder, tmp_path: Path) -> None:
    refused("cosine='x': a number, at least -1, at most 1", find_copies, [], image_model, cosine="x")
    refused("paths: None is not an item", find_copies, None, image_model)
    found = find_copies(str(tmp_path / "none.png"), image_model)
    assert list(found.failures) == [tmp_path / "none.png"]
    refused("key 1 is None", score_pairs, ["a", None], np.zeros((2, 3)), [Pair("a", "b", 1.0)])
    assert issubclass(UsageError, OmnivecError)


def test_names_are_taken_from_every_kind_of_str() -> None:
    assert choice("c", np.str_("a"), ("a", "b")) == "a" and type(choice("c", np.str_("a"), ("a",))) is str


def test_values_of_many_lines_are_shown_on_one(notes: omnivec.Collection) -> None:
    table = np.zeros((4, 4), np.uint8)
    refused(r"k=array\(\[\[0, 0, 0, 0\], \[0", notes.search, "fox", k=table)
    for where in (table, {"year": [table]}):
        with pytest.raises(FilterError) as raised:
            notes.search("fox", where=where)
        assert len(str(raised.value).splitlines()) == 1


class Wordless:
    """Something that cannot say what it is."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


HUGE = 10**5000
"""Python writes no whole number of so many digits."""


@pytest.mark.parametrize("given", [HUGE, Wordless()], ids=["huge", "wordless"])
def test_what_cannot_be_written_is_said_by_its_type(
    notes: omnivec.Collection, text_model: omnivec.Embedder, given: Any
) -> None:
    kind = "<int of 16,610 bits>" if given is HUGE else "<Wordless>"
    for name in ("dim", "normalize_embeddings", "prompt", "prompt_name", "truncate", "chunk"):
        refused(f"{name}={kind}", text_model.encode, "a", **{name: given})
    refused(f"mode={kind}", notes.search, "fox", mode=given)
    refused(f"seed={kind}", omnivec.train, "word2vec", ["a b"], seed=given)
    with pytest.raises(FilterError, match=kind):
        notes.search("fox", where={"year": {"$gt": given}})
    if given is HUGE:
        refused(f"items: {kind}, an int is not an item", text_model.run, given)


@pytest.mark.parametrize("models", [3, [("text", "a")], {1: "a", "text": "b"}, {}, {"sound": "a"}])
def test_models_that_cannot_be_meant_are_refused(tmp_path: Path, models: Any) -> None:
    refused("models=", omnivec.Collection, tmp_path / "a.omni", models=models)


def test_options_of_a_table_are_checked_as_all_others(tmp_path: Path) -> None:
    words = small_models.of_words(tmp_path)
    assert len(omnivec.load(words, limit=np.int64(3))) == 3  # type: ignore[arg-type]
    refused("limit=0: at least 1", omnivec.load, words, limit=0)
    refused("limit=True: a whole number", omnivec.load, words, limit=True)
    refused("errors='' is none of strict, replace, ignore", omnivec.load, words, errors="")


@pytest.mark.parametrize("given", [3, ["a"], b"a", np.array(["a"]), "", "a\0b", {"a": 1}])
def test_what_is_no_path_is_refused_by_its_name(notes: omnivec.Collection, given: Any) -> None:
    refused("under=", notes.search, "fox", under=given)
    refused("folder=", notes.backup, given)
    refused("source=", omnivec.Collection.restore, given, "b")
    refused("folder=", notes.model.save, given)


def test_the_home_of_nobody_is_a_name(text_model: omnivec.Embedder, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert text_model.save("~nobody-of-that-name/m") == Path("~nobody-of-that-name/m")
    with pytest.raises(UsageError, match="cannot be read"):
        omnivec.train("word2vec", Path("~nobody-of-that-name/texts.txt"))


def test_two_prompts_are_refused(text_model: omnivec.Embedder) -> None:
    refused("two prompts: give one", text_model.encode, "a", prompt="query: ", prompt_name="query")


def test_layers_are_given_as_an_array_too(text_model: omnivec.Embedder) -> None:
    both = text_model.tokens("a lazy dog", layer=[0, 1]).vectors
    assert np.array_equal(text_model.tokens("a lazy dog", layer=np.array([0, 1])).vectors, both)


def test_a_document_is_known_by_its_file_too(notes: omnivec.Collection, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("an engine")
    notes.sync(tmp_path / "a.txt")
    assert tmp_path / "a.txt" in notes and tmp_path / "b.txt" not in notes
