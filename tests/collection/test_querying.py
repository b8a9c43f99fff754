"""Queries of a collection: vectors, many at a time, spaces by name, and options that do not fit a query."""

from __future__ import annotations

import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from omnivec import Collection
from omnivec.collection.searching import Answers
from omnivec.errors import ItemError, ItemErrors, UsageError
from omnivec.models.embedder import Embedder
from omnivec.types import Hit
from workbench import loaded, picture, prose, write_files, write_pictures

TEXTS = ["the quick brown fox", "a lazy dog", "the engine compiles", "graph weights", "café owners"]
HALVES = "first"
"""Name of a further space."""


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[Collection]:
    """Texts, some of several passages; read only by these tests."""
    folder = tmp_path_factory.mktemp("querying")
    with Collection(folder / "a.omni", model=loaded(tiny)) as made:
        made.add(TEXTS, ids=TEXTS, metadata=[{"year": 2020 + i % 3} for i in range(len(TEXTS))])
        made.add([prose(i, 300) for i in range(6)], ids=[f"prose {i}" for i in range(6)])
        yield made


class Column:
    """A column of a table, as pandas and polars have them: it becomes an array."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self._values, dtype)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def pairs(found: list[Hit]) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in found]


def further(collection: Collection, name: str = HALVES) -> None:
    """Adds a space of the same model and, for some passages, their vectors turned round."""
    catalogue = collection._catalogue
    [record] = catalogue.spaces().values()
    catalogue.put_space(replace(record, name=name))
    for entry in collection.documents():
        document = catalogue.document(entry.id)
        assert document is not None
        passages = [
            replace(one, vectors={**one.vectors, name: -one.vectors["text"]}) for one in document.passages
        ]
        catalogue.write([replace(document, passages=tuple(passages))])


def test_a_vector_finds_what_its_text_finds(notes: Collection) -> None:
    vector = notes.model.encode_query("the quick brown fox")
    expected = notes.search("the quick brown fox", 7, mode="vector")
    assert expected[0].id == "the quick brown fox#0"
    forms = [
        vector,
        vector.astype(np.float64),
        vector.tolist(),
        tuple(vector),
        list(vector),
        Column(vector),
    ]
    forms += [torch.from_numpy(vector), array.array("f", vector), vector.astype(object).tolist()]
    for form in forms:
        for mode in (None, "vector"):
            assert pairs(notes.search(form, 7, mode=mode)) == pairs(expected), type(form)
    assert pairs(notes.search(vector, 7, space="text")) == pairs(expected)
    [best] = notes.search(vector, 1, {"year": 2021})
    assert best.document in (TEXTS[1], TEXTS[4])
    assert notes.search(vector, 1)[0].matches == ()


def test_a_vector_of_zeros_scores_nothing_by_cosine(notes: Collection) -> None:
    hits = notes.search(np.zeros(32), 5)
    assert [hit.score for hit in hits] == [0.0] * 5
    assert [hit.document for hit in hits] == TEXTS  # in the order in which they were added


@pytest.mark.parametrize(
    ("query", "options", "message"),
    [
        (np.ones(31), {}, r"31 components, which no space has; dims .*: text 32"),
        (np.ones(31), {"space": "text"}, r"31 components, which the space 'text' has not; .*text 32"),
        ([1.0, np.nan, np.inf], {}, "2 numbers of 3 that are NaN"),
        ([1e300], {}, "beyond float32"),
        ([], {}, "query is empty"),
        (np.ones((3, 32)), {}, r"\(3, 32\) is 3 vectors: .*search_many"),
        ([[1.0, 2.0], [1.0, 2.0]], {}, "2 vectors: .*search_many"),
        (["a", "b"], {}, "a list of 2: .*search_many"),
        (torch.ones(32, requires_grad=True), {}, r"detach\(\)"),
        (np.ones(32), {"mode": "text"}, "mode='text' searches by words, but the query is a vector"),
        (np.ones(32), {"mode": "hybrid"}, "but the query is a vector"),
        (np.ones(32), {"weights": (1, 2)}, "weights=.* but the query is a vector"),
        (np.ones(32), {"space": ["text", "none"]}, "no space 'none' .* there are: text"),
        ("fox", {"space": []}, "name a space"),
        ("fox", {"min_score": 0.3}, "mode='vector' .similarity. or mode='text'"),
        ("fox", {"mode": "text", "weights": (2, 1)}, "weights=.* mode is 'text'"),
        ("fox", {"weights": (0, 0)}, "at least one"),
        ("fox", {"weights": (1, -1)}, "weights=-1: a number, at least 0"),
        ("fox", {"weights": 2}, "two numbers"),
        ("fox", {"offset": -1}, "offset=-1: at least 0"),
        ("fox", {"min_score": "high"}, "min_score='high'"),
        ("fox", {"order_by": "-"}, "name a field"),
        ("fox", {"order_by": 3}, "order_by"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(notes: Collection, query: Any, options: Any, message: str):
    with pytest.raises(UsageError, match=message) as caught:
        notes.search(query, **options)
    assert "\n" not in str(caught.value)
    if not isinstance(query, list | np.ndarray | torch.Tensor):
        with pytest.raises(UsageError, match=message):
            notes.search_many([query], **options)


def test_many_texts_are_embedded_in_one_run(notes: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, runs, encode = [*TEXTS, "weights", "lazy engine"], list[Any](), Embedder.encode_query

    def counted(model: Embedder, items: Any, **options: Any) -> Any:
        runs.append(items)
        return encode(model, items, **options)

    monkeypatch.setattr(Embedder, "encode_query", counted)
    for options in ({}, {"mode": "vector"}, {"mode": "text"}, {"per_document": True, "offset": 2}):
        alone = [notes.search(query, 6, **options) for query in queries]
        runs.clear()
        together = notes.search_many(queries, 6, **options)
        assert runs == ([] if options.get("mode") == "text" else [queries])
        for many, one in zip(together, alone, strict=True):
            assert [hit.id for hit in many] == [hit.id for hit in one]
            # A batch is padded, which changes the last digits of a vector.
            np.testing.assert_allclose([hit.score for hit in many], [hit.score for hit in one], atol=1e-5)
            assert [hit.matches for hit in many] == [hit.matches for hit in one]
    assert notes.search_many([]) == []
    assert notes.search_many(iter(["fox"]), 1) == [notes.search("fox", 1)]
    assert notes.search_many("fox", 1) == [notes.search("fox", 1)]
    assert notes.search_many(Column(["fox", "dog"]), 1) == [notes.search(one, 1) for one in ("fox", "dog")]


def test_many_vectors_are_answered_exactly_as_each_alone(notes: Collection) -> None:
    vectors = np.random.default_rng(0).standard_normal((40, 32)).astype(np.float32)
    expected = [notes.search(vector, 5) for vector in vectors]
    for form in (vectors, vectors.tolist(), list(vectors), torch.from_numpy(vectors), iter(vectors)):
        assert notes.search_many(form, 5) == expected
    with pytest.raises(UsageError, match=r"shape \(32,\) is one vector: call search"):
        notes.search_many(vectors[0])
    with pytest.raises(UsageError, match="one vector of 32 numbers"):
        notes.search_many(vectors[0].tolist())
    with pytest.raises(UsageError, match=r"31 components, which no space has; .*text 32"):
        notes.search_many(vectors[:, :31])


def test_a_bad_query_costs_only_itself(notes: Collection, tmp_path: Path) -> None:
    (tmp_path / "query.txt").write_text("the quick brown fox")
    queries = ["a lazy dog", tmp_path / "none.txt", tmp_path / "query.txt", None]
    with pytest.raises(
        ItemErrors, match=r"2 of 4 items failed \(item 1: .*none.txt.*item 3: .*partial"
    ) as caught:
        notes.search_many(queries, 3)
    partial = caught.value.partial
    assert isinstance(partial, Answers)
    assert (partial.kept.tolist(), sorted(partial.failures), len(partial)) == ([0, 2], [1, 3], 2)
    assert [found[0].document for found in partial.hits] == [TEXTS[1], TEXTS[0]]
    good = np.ones(32, np.float32)
    with pytest.raises(ItemErrors) as caught:
        notes.search_many([good, np.full(32, np.nan), good[:5], [], good], 3)
    partial = caught.value.partial
    assert partial.kept.tolist() == [0, 4]
    assert partial.hits == [notes.search(good, 3)] * 2
    assert "32 numbers of 32" in partial.failures[1]
    assert "5 components" in partial.failures[2]
    assert "empty" in partial.failures[3]
    with pytest.raises(UsageError, match="1 of 2 queries are vectors"):
        notes.search_many(["a", good])


def test_pages_weights_and_order(notes: Collection) -> None:
    whole = notes.search("fox engine", 100)
    assert len(whole) == notes.counts().passages
    for k in (3, 20):
        pages = [notes.search("fox engine", k, offset=start) for start in range(0, len(whole), k)]
        assert [hit for page in pages for hit in page] == whole
    by_words, by_meaning = (notes.search("fox engine", 100, mode=mode) for mode in ("text", "vector"))
    assert [hit.id for hit in notes.search("fox engine", 100, weights=[0, 1])] == [hit.id for hit in by_words]
    assert [hit.id for hit in notes.search("fox engine", 100, weights=(1, 0))] == [
        hit.id for hit in by_meaning
    ]
    best = notes.search("fox engine", 6, {"year": {"$exists": True}}, order_by="-year")
    assert [hit.metadata["year"] for hit in best] == sorted((2020, 2021, 2022, 2020, 2021), reverse=True)
    least = by_meaning[4].score
    assert notes.search("fox engine", 100, mode="vector", min_score=least) == by_meaning[:5]
    assert notes.search("fox engine", 2, mode="vector", min_score=least, offset=4) == by_meaning[4:5]


def test_a_further_space_is_searched_if_it_is_named(tmp_path: Path, tiny: Path, cache: Path) -> None:
    with Collection(tmp_path / "a.omni", model=loaded(tiny)) as collection:
        collection.add(TEXTS, ids=TEXTS)
        further(collection)
        vector = collection.model.encode_query("a lazy dog")
        with pytest.raises(
            UsageError, match=r"32 components, as 2 spaces .* name one with space=; .* first 32"
        ):
            collection.search(vector)
        with pytest.raises(UsageError, match="a vector belongs to one space"):
            collection.search(vector, space=["text", HALVES])
        found = collection.search(vector, 5, space=HALVES)
        assert {hit.space for hit in found} == {HALVES}
        assert found[-1].document == "a lazy dog"


def test_words_are_looked_for_in_the_named_spaces(tmp_path: Path, tiny: Path, vit: Path, cache: Path) -> None:
    write_files(tmp_path / "docs", [prose(i) for i in range(4)])
    write_pictures(tmp_path / "docs", 2)
    with Collection(tmp_path / "a.omni", models={"text": tiny, "image": vit}) as collection:
        collection.sync(tmp_path / "docs")
        everything = collection.search("fox", 20, mode="text")
        assert collection.search("fox", 20, mode="text", space="text") == everything
        assert collection.search("fox", 20, space="text") == collection.search("fox", 20)
        with pytest.raises(UsageError, match=r"space='image': .* does not read texts"):
            collection.search("fox", space="image")
        assert collection.search(np.asarray(picture(0)), 1)[0].score == pytest.approx(1, abs=1e-5)
        queries = [picture(1), np.asarray(picture(0)), tmp_path / "docs" / "p001.png"]
        found = collection.search_many(queries, 1)
        assert [hits[0].document for hits in found] == [f"docs/p00{i}.png" for i in (1, 0, 1)]
        assert len(collection.search_many(np.stack([np.asarray(picture(i)) for i in (0, 1)]))) == 2
        with pytest.raises(UsageError, match="queries are images and texts: "):
            collection.search_many([picture(1), "fox"])
        grey = np.asarray(picture(1).convert("L"))
        with pytest.raises((ItemError, UsageError)) as caught:
            collection.search(grey.astype(np.float32))
        assert "search_many" in str(caught.value)
        assert [hit.modality for hit in collection.search(grey, 1)] == ["image"]  # uint8 (h, w)


def test_a_vector_in_an_empty_collection(tmp_path: Path) -> None:
    with Collection(tmp_path / "a.omni") as collection:
        assert collection.search(np.ones(3)) == []
        assert collection.search_many(np.ones((2, 3))) == [[], []]
        with pytest.raises(UsageError, match=r"no space 'text' .* none"):
            collection.search(np.ones(3), space="text")
