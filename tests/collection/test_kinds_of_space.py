"""Spaces by name and kind: several for one modality, vectors of the user's own, several vectors or sparse ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import omnivec
from kinds_of_model import TERMS, parts_of, toy, weights_of
from omnivec.collection.collection import Collection
from omnivec.errors import CollectionDamaged, IdentityError, ItemErrors, UsageError
from omnivec.store.sqlite import Catalogue
from omnivec.types import SparseRow
from workbench import loaded, picture

TEXTS = ["a red fox", "the lazy dog sleeps", "red dog", "blue sky over the sea"]
IDS = ["fox", "lazy", "dog", "sky"]


def test_a_model_of_several_vectors_is_stored_by_parts(tmp_path: Path) -> None:
    with Collection(tmp_path / "a.omni", model=toy("multi")) as notes:
        assert notes.add(TEXTS, ids=IDS).passages == 4
        record = notes.spaces()["text"]
        assert (record.kind, record.modalities, record.dim) == ("multi", ("text",), 16)
        assert notes.check(deep=True) == []
    with Catalogue.open(tmp_path / "a.omni", create=False) as catalogue:
        stored = catalogue.document("lazy")
        assert stored is not None
        np.testing.assert_array_equal(stored.passages[0].vectors["text"], parts_of(TEXTS[1]))
        assert stored.passages[0].unit == "characters"


def test_a_sparse_model_is_stored_by_its_weights(tmp_path: Path) -> None:
    with Collection(tmp_path / "a.omni", model=toy("sparse")) as notes:
        notes.add(TEXTS, ids=IDS)
        record = notes.spaces()["text"]
        assert (record.kind, record.dim) == ("sparse", TERMS)
        assert notes.check(deep=True) == []
    with Catalogue.open(tmp_path / "a.omni", create=False) as catalogue:
        keys, rows = catalogue.sparse_vectors("text")
        assert len(keys) == len(rows) == 4
        for place, text in enumerate(TEXTS):
            own = slice(rows.offsets[place], rows.offsets[place + 1])
            np.testing.assert_array_equal(rows.indices[own], weights_of(text).indices)
            np.testing.assert_array_equal(rows.weights[own], weights_of(text).weights)
        stored = catalogue.document("sky")
        assert stored is not None
        assert stored.passages[0].vectors["text"].indices.tolist() == weights_of(TEXTS[3]).indices.tolist()
        with pytest.raises(UsageError, match="is sparse"):
            catalogue.vectors("text")


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    with Collection(tmp_path / "a.omni", model=toy("multi")) as notes:
        notes.add(TEXTS[0])
    with pytest.raises(IdentityError, match="made by another model"):
        Collection(tmp_path / "a.omni", model=toy("sparse"))
    with pytest.raises(IdentityError, match="made by another model"):
        Collection(tmp_path / "a.omni", model=toy("multi", salt="2"))
    with pytest.raises(UsageError, match=r"toy-multi gives several vectors .* model\.run"):
        toy("multi").encode("a b")


@pytest.mark.parametrize(
    ("blob", "named"),
    [
        (b"1234567", "not a blob of 8 bytes"),
        (np.array([5, 5], "<u4").tobytes() + np.ones(2, "<f4").tobytes(), "ascending"),
        (np.array([TERMS], "<u4").tobytes() + np.ones(1, "<f4").tobytes(), "ascending"),
        (np.array([5], "<u4").tobytes() + np.array([np.nan], "<f4").tobytes(), "NaN"),
    ],
)
def test_damaged_sparse_vectors_are_named(tmp_path: Path, blob: bytes, named: str) -> None:
    with Collection(tmp_path / "a.omni", model=toy("sparse")) as notes:
        notes.add(TEXTS, ids=IDS)
    with Catalogue.open(tmp_path / "a.omni", create=False) as catalogue:
        with catalogue._connections.transaction() as connection:
            connection.execute("UPDATE vectors SET vector = ? WHERE passage = 2", (blob,))
        with pytest.raises(CollectionDamaged, match=named):
            catalogue.sparse_vectors("text")
        assert catalogue.check() != []


@pytest.mark.parametrize(
    ("row", "named"),
    [
        (SparseRow(np.array([3, 1]), np.ones(2, np.float32)), "ascend"),
        (SparseRow(np.array([-1]), np.ones(1, np.float32)), "from -1"),
        (SparseRow(np.array([TERMS]), np.ones(1, np.float32)), f"to {TERMS}"),
        (SparseRow(np.array([1]), np.array([np.inf], np.float32)), "1 weights are NaN or infinite"),
        (SparseRow(np.array([1]), np.ones(2, np.float32)), "one weight for each index"),
        (np.ones((1, TERMS), np.float32), "not a SparseRow"),
    ],
)
def test_sparse_vectors_that_do_not_fit_are_refused(tmp_path: Path, row: object, named: str) -> None:
    from dataclasses import replace

    with Collection(tmp_path / "a.omni", model=toy("sparse")) as notes:
        notes.add(TEXTS[0], ids="fox")
    with Catalogue.open(tmp_path / "a.omni", create=False) as catalogue:
        stored = catalogue.document("fox")
        assert stored is not None
        passage = replace(stored.passages[0], vectors={"text": row})
        with pytest.raises(UsageError, match=named):
            catalogue.write([replace(stored, passages=(passage,))])
        assert catalogue.check() == []


def test_a_further_space_holds_the_same_passages(tmp_path: Path, cache: Path, tiny: Path) -> None:
    models = {"text": loaded(tiny), "parts": toy("multi"), "terms": toy("sparse")}
    with Collection(tmp_path / "a.omni", models=models) as notes:
        notes.add(TEXTS, ids=IDS)
        assert list(notes.spaces()) == ["text", "parts", "terms"]
        assert notes.counts().vectors == {"text": 4, "parts": 12, "terms": 4} | {
            "parts": sum(len(text.split()) for text in TEXTS)
        }
        assert notes.add(TEXTS, ids=IDS).unchanged == 4
        assert notes.check(deep=True) == []
    with Collection(tmp_path / "a.omni", models={"text": loaded(tiny)}) as notes:
        # The further spaces are filled by their recorded models, which cannot be loaded here by their names.
        with pytest.raises(Exception, match="toy-multi"):
            notes.add("another text", ids="new")
        assert "new" not in notes


def test_documents_are_embedded_into_a_space_that_was_added_since(
    tmp_path: Path, cache: Path, tiny: Path
) -> None:
    with Collection(tmp_path / "a.omni", models={"text": loaded(tiny)}) as notes:
        notes.add(TEXTS, ids=IDS)
    with Collection(tmp_path / "a.omni", models={"text": loaded(tiny), "parts": toy("multi")}) as notes:
        added = notes.add(TEXTS[:2], ids=IDS[:2])
        assert (added.changed, added.unchanged) == (2, 0)
        counts = notes.counts()
        assert counts.documents == 4 and counts.vectors == {"text": 4, "parts": 7}
        assert [hit.space for hit in notes.search("a red fox", k=4, mode="vector")] == ["text"] * 4


def test_a_named_space_is_the_main_one_of_what_no_other_model_reads(tmp_path: Path) -> None:
    with Collection(tmp_path / "a.omni", models={"parts": toy("multi")}) as notes:
        notes.add(TEXTS, ids=IDS)
        assert list(notes.spaces()) == ["parts"]
        assert notes.spaces()["parts"].modalities == ("text",)
    with Collection(tmp_path / "a.omni", models={"parts": toy("multi")}) as notes:
        assert notes.add(TEXTS, ids=IDS).unchanged == 4
    with pytest.raises(IdentityError, match="space 'parts' was made by another model"):
        Collection(tmp_path / "a.omni", models={"parts": toy("multi", salt="2")})
    with pytest.raises(IdentityError, match="space 'parts' was made by another model"):
        Collection(tmp_path / "a.omni", models={"text": toy("sparse")})
    with pytest.raises(
        IdentityError, match=r"'parts', by toy-multi, is the main space of texts.* a name of its own"
    ):
        Collection(tmp_path / "a.omni", models={"text": toy("sparse"), "parts": toy("multi")})
    with Collection(tmp_path / "a.omni", models={"parts": toy("multi"), "terms": toy("sparse")}) as notes:
        assert notes.add(TEXTS, ids=IDS).changed == 4
        assert notes.counts().vectors["terms"] == 4


def test_tasks_on_vectors_refuse_models_that_give_several_or_sparse_ones() -> None:
    tasks = [
        lambda model: omnivec.classify(model, TEXTS, ["a", "b"]),
        lambda model: omnivec.Probe.train(model, TEXTS, ["a", "b", "a", "b"]),
        lambda model: omnivec.find_copies(["one.png"], model),
    ]
    for kind in ("multi", "sparse"):
        for task in tasks:
            with pytest.raises(
                UsageError, match=f"toy-{kind} is of kind '{kind}': .* one vector for each item"
            ):
                task(toy(kind))


# Vectors of one's own.


def test_own_vectors_with_and_without_texts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((4, 5))
    with Collection(tmp_path / "a.omni") as notes:
        added = notes.add(TEXTS, ids=IDS, metadata=[{"n": i} for i in range(4)], vectors=vectors)
        assert (added.new, added.passages, added.ids) == (4, 4, IDS)
        assert (
            notes.add(TEXTS, ids=IDS, metadata=[{"n": i} for i in range(4)], vectors=vectors).unchanged == 4
        )
        changed = vectors.copy()
        changed[2] += 1
        again = notes.add(TEXTS, ids=IDS, metadata=[{"n": i} for i in range(4)], vectors=changed)
        assert (again.changed, again.unchanged) == (1, 3)
        record = notes.spaces()["vectors"]
        assert (record.model, record.dim, record.metric, record.modalities) == ("", 5, "cosine", ())
        assert notes.add(ids=["bare"], vectors=[[1, 2, 3, 4, 5]]).new == 1
        assert [hit.document for hit in notes.search("lazy", mode="text")] == ["lazy"]
        assert notes.check(deep=True) == [] and len(notes) == 5
    with Catalogue.open(tmp_path / "a.omni", create=False) as catalogue:
        stored = catalogue.document("dog")
        assert stored is not None and stored.passages[0].text == "red dog"
        np.testing.assert_array_equal(stored.passages[0].vectors["vectors"], changed[2:3].astype(np.float32))


def test_own_vectors_stand_beside_those_of_a_model(tmp_path: Path, cache: Path, tiny: Path) -> None:
    with Collection(tmp_path / "a.omni", model=loaded(tiny)) as notes:
        notes.add(TEXTS[:2], ids=IDS[:2])
        notes.add(ids=["x", "y"], vectors=np.eye(2), metric="dot")
        assert list(notes.models) == ["text"]
        with pytest.raises(
            UsageError, match="the space 'vectors' holds vectors of 2 components, compared by dot"
        ):
            notes.add(ids=["z"], vectors=np.eye(3)[:1])
        with pytest.raises(UsageError, match="by cosine"):
            notes.add(ids=["z"], vectors=np.eye(2)[:1], metric="cosine")
        with pytest.raises(UsageError, match="'text'"):
            notes.add(ids=["z"], vectors=np.eye(2)[:1], space="text")
        with pytest.raises(UsageError, match="no model made them"):
            notes.models["vectors"]
        assert notes.add(ids=["z"], vectors=np.eye(3)[:1], space="other").new == 1
        assert [hit.document for hit in notes.search("red fox", k=1)] == ["fox"]
    with Collection(tmp_path / "b.omni", models={"parts": toy("multi")}) as notes:
        notes.add("a b")
        with pytest.raises(UsageError, match="holds vectors of toy-multi, which others are never mixed with"):
            notes.add(ids=["z"], vectors=np.ones((1, 16)), space="parts")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"vectors": [[1.0, 2.0], [3.0]], "ids": ["a", "b"]}, "rows differ in length"),
        ({"vectors": np.ones(3), "ids": ["a"]}, r"vectors are float64 \(3,\)"),
        ({"vectors": np.ones((1, 0)), "ids": ["a"]}, r"\(1, 0\)"),
        ({"vectors": np.ones((1, 2), complex), "ids": ["a"]}, "complex"),
        ({"vectors": [["x", "y"]], "ids": ["a"]}, "<U1"),
        ({"vectors": np.ones((2, 2)), "ids": ["a"]}, "1 ids for 2 items"),
        ({"vectors": np.ones((2, 2))}, "2 vectors without items need ids="),
        ({"vectors": np.ones((2, 2)), "items": ["x"]}, "2 vectors for 1 items"),
        ({"items": ["x"], "space": "own"}, "space= and metric="),
        ({}, "None is not an item"),
        ({"vectors": np.ones((1, 2)), "ids": ["a"], "metric": "manhattan"}, "metric"),
        ({"vectors": np.ones((1, 2)), "ids": ["a"], "space": "No Name"}, "space='No Name' is neither"),
    ],
)
def test_vectors_that_cannot_be_added_are_refused(tmp_path: Path, arguments: dict, named: str) -> None:
    with Collection(tmp_path / "a.omni") as notes:
        with pytest.raises(UsageError, match=named):
            notes.add(**arguments)
        assert len(notes) == 0 and notes.spaces() == {}


def test_a_vector_that_is_not_finite_costs_only_itself(tmp_path: Path) -> None:
    vectors = np.array([[1.0, 2.0], [np.nan, 1.0], [1e300, 1.0], [3.0, 4.0]])
    with Collection(tmp_path / "a.omni") as notes:
        with pytest.raises(ItemErrors, match="1 of 2 numbers of its vector are NaN or infinite") as caught:
            notes.add(ids=list("abcd"), vectors=vectors)
        assert sorted(caught.value.failures) == [1, 2]
        assert sorted(entry.id for entry in notes.documents()) == ["a", "d"]


def test_equal_items_with_other_vectors_are_not_dropped(tmp_path: Path) -> None:
    with Collection(tmp_path / "a.omni") as notes:
        with pytest.raises(ItemErrors, match="earlier item with another vector: give ids") as caught:
            notes.add(["x", "x", "x"], vectors=[[1, 0], [0, 1], [1, 0]])
        assert sorted(caught.value.failures) == [1]
        assert len(notes) == 1
        assert notes.add(["x", "x"], ids=["a", "b"], vectors=[[1, 0], [0, 1]]).new == 2


def test_the_same_vectors_in_another_space_are_another_version(tmp_path: Path) -> None:
    with Collection(tmp_path / "a.omni") as notes:
        notes.add(["x"], ids=["a"], vectors=[[1, 0]])
        assert notes.add(["x"], ids=["a"], vectors=[[1, 0]], space="other").changed == 1
        assert list(notes.get("a", vectors=True)[0].vectors) == ["other"]
        assert notes.add(["x"], ids=["a"], vectors=[[1, 0]], space="other").unchanged == 1


def test_a_space_is_recorded_with_its_first_vector(tmp_path: Path) -> None:
    with Collection(tmp_path / "a.omni") as notes:
        with pytest.raises(ItemErrors):
            notes.add(ids=["a"], vectors=[[np.nan, 1, 2]])
        assert notes.add([], vectors=[]).ids == [] == notes.add(ids=[], vectors=np.ones((0, 3))).ids
        assert notes.spaces() == {}
        assert notes.add(ids=["a"], vectors=[[1, 2]]).new == 1
        assert notes.add([], vectors=[]).ids == []
        with pytest.raises(UsageError, match="holds vectors of 2 components"):
            notes.add(ids=["b"], vectors=[[1, 2, 3]])


def test_vectors_come_as_columns_and_masked_ones_are_not_numbers(tmp_path: Path) -> None:
    class Refusing:
        def __array__(self, *_: object, **__: object) -> object:
            raise RuntimeError("call detach() first")

    column = np.empty(2, object)
    column[:] = [[1.0, 2.0], np.array([3.0, 4.0])]
    with Collection(tmp_path / "a.omni") as notes:
        assert notes.add(ids=["a", "b"], vectors=column).new == 2
        assert notes.get("b", vectors=True)[0].vectors["vectors"].tolist() == [[3.0, 4.0]]
        column[1] = [3.0]
        with pytest.raises(UsageError, match="rows differ in length"):
            notes.add(ids=["a", "b"], vectors=column)
        with pytest.raises(ItemErrors, match="1 of 2 numbers"):
            notes.add(ids=["c"], vectors=np.ma.masked_array([[1, 2]], [[True, False]]))
        with pytest.raises(UsageError, match="call detach"):
            notes.add(ids=["c"], vectors=Refusing())
        with pytest.raises(UsageError, match="list_iterator are no array of numbers"):
            notes.add(ids=["c"], vectors=iter([[1, 2]]))
        assert len(notes) == 2


def test_a_space_of_own_vectors_has_no_model(tmp_path: Path) -> None:
    with Collection(tmp_path / "a.omni") as notes:
        notes.add(ids=["a"], vectors=[[1, 2]])
        assert "vectors" not in notes.models and notes.models.get("vectors") is None
        assert "vectors given as vectors" in repr(notes)
        with pytest.raises(UsageError, match="space='text' is a modality"):
            notes.add(ids=["a"], vectors=[[1, 2]], space="text")
    with pytest.raises(IdentityError, match=r"a\.omni: the space 'vectors' holds vectors .* another name"):
        Collection(tmp_path / "a.omni", models={"vectors": toy("multi")})
    with Collection(tmp_path / "b.omni", models={"vectors": toy("multi")}) as notes:
        notes.add(ids=["a"], vectors=[[1, 2]])
        with pytest.raises(IdentityError, match="another name"):
            notes.add("a text")


def test_own_vectors_do_not_make_a_further_space_the_main_one(
    tmp_path: Path, cache: Path, tiny: Path, clip: Path
) -> None:
    models = {"text": loaded(tiny), "large": loaded(clip)}
    with Collection(tmp_path / "a.omni", models=models) as notes:
        notes.add(picture(1), ids="p")
        notes.add("a red fox", ids="own", vectors=[[1, 2]])
        notes.add("the lazy dog", ids="dog")
        assert sorted(notes.get("dog", vectors=True)[0].vectors) == ["large", "text"]


def test_a_sync_keeps_own_vectors_of_files(tmp_path: Path) -> None:
    file = tmp_path / "docs" / "fox.txt"
    file.parent.mkdir()
    file.write_text("a red fox")
    with Collection(tmp_path / "a.omni", model=toy("multi")) as notes:
        notes.add(file, vectors=[[1, 2]])
        for dry_run in (True, False, False):
            file.write_text(f"a red fox {dry_run}")
            report = notes.sync(file.parent, dry_run=dry_run)
            assert list(report.kept) == ["docs/fox.txt"] and "vectors=" in report.kept["docs/fox.txt"]
            assert (report.new, report.changed, report.unchanged, report.removed) == (0, 0, 0, 0)
        [record] = notes.get("docs/fox.txt", vectors=True)
        assert record.text == "a red fox" and record.vectors["vectors"].tolist() == [[1, 2]]
        assert notes.delete("docs/fox.txt") == 1 and notes.sync().new == 1


def test_queries_that_no_model_reads_say_so(tmp_path: Path) -> None:
    with Collection(tmp_path / "a.omni") as notes:
        notes.add(TEXTS, ids=IDS, vectors=np.eye(4))
        with pytest.raises(
            UsageError, match="holds vectors of your own alone, and no model reads texts: search with"
        ):
            notes.search("red", mode="vector")
        with pytest.raises(
            UsageError, match="space='vectors': it holds vectors of your own, and no model reads texts"
        ):
            notes.search("red", space="vectors")
        for mode in ("text", "hybrid", None):
            assert {hit.space for hit in notes.search("red", mode=mode)} == {"text search"}
        assert notes.search([0, 0, 1, 0], k=1)[0].document == "dog"
    with Collection(tmp_path / "b.omni", models={"parts": toy("multi"), "terms": toy("sparse")}) as notes:
        notes.add(TEXTS, ids=IDS)
        with pytest.raises(UsageError, match=r"no single vectors .*parts \(multi\), terms \(sparse\)"):
            notes.recommend(like="fox")
