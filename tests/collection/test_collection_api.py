"""A collection from Python: what comes in, what goes out, what is found, and what is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import omnivec
from omnivec import Collection
from omnivec.errors import (
    FilterError,
    ItemError,
    ItemErrors,
    UsageError,
)
from workbench import loaded, prose, whole, write_files

MODES = ("vector", "text", "hybrid")

FRUIT = ["apples are red", "bananas are yellow", "cherries are red and small", "plums are blue"]


@pytest.fixture
def fruit(notes: Collection) -> Collection:
    metadata = [{"year": 2020 + i, "tags": ["red"] if "red" in text else []} for i, text in enumerate(FRUIT)]
    notes.add(FRUIT, ids=["apple", "banana", "cherry", "plum"], metadata=metadata)
    return notes


# Adding.


def test_sync_without_paths_looks_through_what_was_synced(notes: Collection, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name files or folders"):
        notes.sync()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("a fox")
    notes.sync(tmp_path / "docs")
    (tmp_path / "docs" / "b.txt").write_text("a dog")
    report = notes.sync()
    assert (report.new, report.unchanged) == (1, 1)


def test_ids_metadata_and_what_is_reported(notes: Collection) -> None:
    added = notes.add(FRUIT, ids=["apple", "banana", "cherry", "plum"], metadata={"kind": "fruit"})
    assert (added.ids, added.kept, added.failures) == (
        ["apple", "banana", "cherry", "plum"],
        [0, 1, 2, 3],
        {},
    )
    assert (added.new, added.changed, added.unchanged, added.passages) == (4, 0, 0, 4)
    again = notes.add(FRUIT, ids=["apple", "banana", "cherry", "plum"], metadata={"kind": "fruit"})
    assert (again.new, again.changed, again.unchanged, again.kept) == (0, 0, 4, [0, 1, 2, 3])
    other = notes.add("apples are green", ids="apple", metadata={"kind": "fruit", "n": (1, 2)})
    assert (other.new, other.changed, len(notes)) == (0, 1, 4)
    same = notes.add("apples are green", ids="apple", metadata={"kind": "fruit", "n": [1, 2]})
    assert same.unchanged == 1
    facts = notes.add("apples are green", ids="apple", metadata={"kind": "FRUIT"})
    assert facts.changed == 1
    assert notes.documents({"kind": "FRUIT"})[0].id == "apple"
    assert notes.search("green", mode="text")[0].text == "apples are green"
    assert notes.search("red", mode="text")[0].document == "cherry"  # the old apple is not found
    whole(notes)


def test_no_items(notes: Collection) -> None:
    added = notes.add([])
    assert (added.ids, added.kept, len(notes)) == ([], [], 0)


def test_equal_content_is_one_document(notes: Collection) -> None:
    added = notes.add(["same words", "other words", "same words"])
    assert added.ids[0] == added.ids[2] != added.ids[1]
    assert (added.new, added.passages, added.kept, len(notes)) == (2, 2, [0, 1, 2], 2)
    many = notes.add([f"text {i % 700}" for i in range(1400)])  # the doubles come after the first commit
    assert (many.new, many.kept) == (700, list(range(1400)))
    with pytest.raises(ItemErrors) as raised:
        notes.add(["twice", "once", "twice"], metadata=[{"n": 1}, {"n": 2}, {"n": 3}])
    assert set(raised.value.failures) == {2} and "other metadata" in raised.value.failures[2]
    assert [entry.metadata["n"] for entry in notes.documents({"n": {"$gt": 0}})] in ([1, 2], [2, 1])
    kept = notes.add(["under two ids"] * 2, ids=["one", "two"])
    assert kept.new == 2


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"ids": ["a", "b", "a"]}, "'a' is given twice"),
        ({"ids": ["a", "b"]}, "2 ids for 3 items"),
        ({"ids": "a"}, "1 ids for 3 items"),
        ({"ids": [1, 2, 3]}, "id 0 is 1"),
        ({"ids": ["a", "", "c"]}, "id 1 is ''"),
        ({"ids": ["a", "b", None]}, "id 2 is None"),
        ({"ids": ["a", "b\0", "c"]}, "id 1"),
        ({"ids": ["a", "b", "\ud800"]}, "id 2"),
        ({"metadata": [{}, {}]}, "2 metadata for 3 items"),
        ({"metadata": [{}, None, {}]}, "metadata 1 is a NoneType"),
        ({"metadata": "year"}, "1 metadata for 3 items"),
        ({"metadata": ["abc"] * 3}, "metadata 0 is a str"),
    ],
)
def test_calls_that_cannot_be_meant_change_nothing(
    notes: Collection, arguments: dict[str, Any], part: str
) -> None:
    with pytest.raises(UsageError) as raised:
        notes.add(["x", "y", "z"], **arguments)
    assert part in str(raised.value) and "\n" not in str(raised.value)
    assert len(notes) == 0


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_one_bad_item_costs_only_itself(notes: Collection, tmp_path: Path) -> None:
    write_files(tmp_path, {"fine.txt": "a fine file", "empty.txt": ""})
    bad: list[tuple[Any, Any, str]] = [
        ("", {}, "empty text"),
        (" \n\t", {}, "empty text"),
        ("\u200b\x01", {}, "finds no tokens"),
        ("half \ud800 pair", {}, "surrogate"),
        (b"bytes", {}, "bytes is not an item"),
        (5, {}, "int is not an item"),
        (None, {}, "None is not an item"),
        (tmp_path / "absent.txt", {}, "does not exist"),
        (tmp_path / "empty.txt", {}, "empty"),
        (tmp_path, {}, "folder"),
        ("set", {"a": {1, 2}}, "set"),
        ("infinite", {"a": float("inf")}, "an infinity"),
        ("huge", {"a": 10**400}, "1.8e308"),
        ("key", {1: "a"}, "key 1"),
        ("numpy", {"a": np.array([{1}], object)}, "set"),
        ("deep", {"a": nested(100_000)}, "deep"),
    ]
    good = [("good", {"n": 1}), (tmp_path / "fine.txt", {"n": 2}), ("best", {"n": 3})]
    items = [good[0], *((content, facts) for content, facts, _ in bad), *good[1:]]
    with pytest.raises(ItemErrors) as raised:
        notes.add([content for content, _ in items], metadata=[facts for _, facts in items])
    failures, partial = raised.value.failures, raised.value.partial
    assert set(failures) == set(range(1, len(bad) + 1))
    for i, (content, _, part) in enumerate(bad, 1):
        assert part in failures[i] and "\n" not in failures[i], (content, failures[i])
    assert partial.kept == [0, len(bad) + 1, len(bad) + 2] and partial.new == 3
    assert len(partial.ids) == len(items)
    assert sorted(entry.metadata["n"] for entry in notes.documents()) == [1, 2, 3]
    assert f"{len(bad)} of {len(items)} items failed" in str(raised.value)
    whole(notes)


def test_a_file_added_by_itself_has_lines_and_its_sync_leaves_it_alone(
    notes: Collection, tmp_path: Path
) -> None:
    write_files(tmp_path / "docs", {"a.txt": "first line\r\n\r\n\r\nquick fox\r\n" + "lazy dog\r\n" * 60})
    added = notes.add(tmp_path / "docs" / "a.txt", metadata={"by": "me"})
    assert added.ids == ["docs/a.txt"]
    assert [hit.line for hit in notes.search("first", mode="text")] == [1]
    assert max(hit.line or 0 for hit in notes.search("lazy", 50, mode="text")) > 30
    assert notes.sync(tmp_path / "docs").unchanged == 1
    assert notes.documents()[0].metadata == {"by": "me"}


def test_delete(fruit: Collection) -> None:
    assert fruit.delete(["apple", "no such", "apple"]) == 1
    assert fruit.delete("plum") == 1
    assert fruit.delete([]) == 0
    for mode in MODES:
        assert {hit.document for hit in fruit.search("red fruit", mode=mode)} <= {"banana", "cherry"}
    assert fruit.delete(["banana", "cherry"]) == 2
    for mode in MODES:
        assert fruit.search("red", mode=mode) == []
    whole(fruit)


# Searching.


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_collection_finds_nothing(notes: Collection, mode: Any) -> None:
    assert notes.search("anything", mode=mode) == []
    assert notes.search("anything", where={"a": 1}, mode=mode) == []
    with pytest.raises(UsageError, match="no document 'x'"):
        notes.recommend("x")


@pytest.mark.parametrize("mode", MODES)
def test_k_and_where(fruit: Collection, mode: Any) -> None:
    query = "are red yellow blue"
    assert len(fruit.search(query, mode=mode)) == 4
    assert len(fruit.search(query, 10**15, mode=mode)) == 4
    assert [h.id for h in fruit.search(query, 2, mode=mode)] == [
        h.id for h in fruit.search(query, 10, mode=mode)
    ][:2]
    for where, wanted in (
        ({"tags": "red"}, {"apple", "cherry"}),
        ({"year": {"$gte": 2022}}, {"cherry", "plum"}),
        ({"$or": [{"year": 2021}, {"year": 2023}]}, {"banana", "plum"}),
        ({"year": {"$in": []}}, set()),
        ({"colour": "red"}, set()),
        ({}, {"apple", "banana", "cherry", "plum"}),
    ):
        found = fruit.search(query, 10, where, mode)
        assert {hit.document for hit in found} == wanted
        assert len(fruit.search(query, 1, where, mode)) == min(1, len(wanted))
    for bad in ({"$foo": 1}, {"year": {"$gt": []}}, [1], {"a": {1, 2}}):
        with pytest.raises(FilterError) as raised:
            fruit.search(query, 3, bad, mode)  # type: ignore[arg-type]
        assert "\n" not in str(raised.value)


def test_arguments_that_cannot_be_meant(fruit: Collection, tmp_path: Path) -> None:
    for k in (0, -1):
        with pytest.raises(UsageError, match=f"k={k}"):
            fruit.search("x", k)
        with pytest.raises(UsageError, match=f"k={k}"):
            fruit.recommend("apple", k=k)
    with pytest.raises(UsageError, match="none of vector, text, hybrid"):
        fruit.search("x", mode="fuzzy")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a list of 1: give one query, or call search_many"):
        fruit.search(["x"])
    for query in (None, 5, b"x", tmp_path / "absent.txt", "half \udc80"):
        for mode in MODES:
            with pytest.raises(ItemError):
                fruit.search(query, mode=mode)  # type: ignore[arg-type]


def test_vector_search_is_the_nearest_by_the_models_metric(fruit: Collection) -> None:
    texts = np.asarray(fruit.model.encode(FRUIT), np.float64)
    query = np.asarray(fruit.model.encode("something red"), np.float64)
    cosine = texts @ query / np.linalg.norm(texts, axis=1) / np.linalg.norm(query)
    hits = fruit.search("something red", mode="vector")
    assert [hit.text for hit in hits] == [FRUIT[i] for i in np.argsort(-cosine)]
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(cosine)[::-1], atol=1e-4)


def test_hybrid_is_reciprocal_rank_fusion(fruit: Collection) -> None:
    query = "red small plums"
    by_vector = [hit.id for hit in fruit.search(query, 50, mode="vector")]
    by_text = [hit.id for hit in fruit.search(query, 50, mode="text")]
    assert len(by_vector) == 4 and len(by_text) == 3  # bananas have none of the words
    expected = {name: 1 / (60 + rank) for rank, name in enumerate(by_vector, 1)}
    for rank, name in enumerate(by_text, 1):
        expected[name] += 1 / (60 + rank)
    hits = fruit.search(query, mode="hybrid")
    assert {hit.id: pytest.approx(hit.score, abs=1e-12) for hit in hits} == expected
    assert [hit.score for hit in hits] == sorted(expected.values(), reverse=True)


@given(query=st.text() | st.text(alphabet="\"'()*^-+:{}[]AND OR NOT NEAR\0\ufffd北京กข%_\\;-- "))
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
def test_any_query_is_legal_in_all_modes(fruit: Collection, query: str) -> None:
    for mode in MODES:
        hits = fruit.search(query, 3, mode=mode)
        assert len(hits) <= 3 and (mode == "text" or hits)
        assert all(np.isfinite(hit.score) for hit in hits)


@pytest.mark.parametrize(
    ("text", "queries"),
    [
        ("我们今天在北京大学学习机器翻译和自然语言处理。", ["北京大学", "机器翻译", "学习", "我"]),
        (
            "東京は日本の首都です。桜がきれいに咲きました。",
            ["日本の首都", "桜", "咲きました", "トウキョウ 首都"],
        ),
        ("กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย", ["เมืองหลวง", "ประเทศไทย", "กรุงเทพ"]),
        ("Die Straßenbahn fährt über die Brücke", ["strassenbahn", "brucke", "BRÜCKE"][1:]),
    ],
)
def test_text_without_spaces_is_found_by_its_words(notes: Collection, text: str, queries: list[str]) -> None:
    notes.add(
        [text, "something else altogether", "没有关系的东西", "全然違うもの"], ids=["it", "1", "2", "3"]
    )
    for query in queries:
        hits = notes.search(query, mode="text")
        assert hits and hits[0].document == "it", query


SOURCES = {
    "plain.txt": "\n\n  Leading blank lines.\n" + prose(1, 150) + "\n\ncafé naïve 北京\n" * 9,
    "dos.txt": ("The first line.\r\n" + prose(2, 120).replace("\n", "\r\n") + "last\r\n"),
    "mark.txt": "\ufeffWith a byte order mark.\n" + prose(3, 90),
    "mac.txt": "old\rmac\rlines\r" + prose(4, 90).replace("\n", "\r"),
    "head.md": "# Heading\n\n" + prose(5, 100) + "\n## Second\n\n" + prose(6, 100),
    "emoji.txt": "👩‍👩‍👧 family \U0001f600 and 𝒻𝒶𝓃𝒸𝓎 letters\n" * 20,
}


@pytest.mark.parametrize("mode", MODES)
def test_hits_agree_with_the_files(notes: Collection, tmp_path: Path, mode: Any) -> None:
    write_files(tmp_path / "docs", SOURCES)
    assert not notes.sync(tmp_path / "docs").failed
    hits = notes.search("document number fox 北京 letters lines heading café", 1000, mode=mode)
    assert {hit.document for hit in hits} == {f"docs/{name}" for name in SOURCES}
    for hit in hits:
        name = hit.document.removeprefix("docs/")
        text = SOURCES[name].removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        start, end = hit.span
        assert hit.text == text[start:end] and hit.text == hit.text.strip()
        assert hit.line == 1 + text.count("\n", 0, start)
        assert (hit.metadata["path"], hit.metadata["name"]) == (hit.document, name)
        assert hit.id.rpartition("#")[0] == hit.document
    if mode != "text":
        assert len(hits) == notes.counts().passages
        assert len({hit.id for hit in hits}) == len(hits)


def test_no_text_is_lost_between_passages(notes: Collection, tmp_path: Path) -> None:
    write_files(tmp_path / "docs", SOURCES)
    report = notes.sync(tmp_path / "docs")
    assert report.lost == 0
    for name, raw in SOURCES.items():
        text = raw.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        found = notes._catalogue.document(f"docs/{name}")
        assert found is not None
        covered = np.zeros(len(text), bool)
        for passage in found.passages:
            covered[passage.start : passage.end] = True
        left = "".join(c for c, inside in zip(text, covered, strict=True) if not inside)
        assert not left.strip()


def test_a_file_as_a_query(fruit: Collection, tmp_path: Path) -> None:
    (tmp_path / "query.txt").write_text(FRUIT[1])
    for mode in MODES:
        assert fruit.search(tmp_path / "query.txt", 1, mode=mode)[0].document == "banana"


# Recommending.


def test_recommend_is_rocchio(fruit: Collection) -> None:
    vectors = np.asarray(fruit.model.encode(FRUIT), np.float64)

    def ranked(target: Any, left: list[int]) -> list[str]:
        scores = vectors @ target / np.linalg.norm(vectors, axis=1)
        return [FRUIT[i] for i in sorted(left, key=lambda i: -scores[i])]

    assert [h.text for h in fruit.recommend("apple")] == ranked(vectors[0], [1, 2, 3])
    both = fruit.recommend(["apple", "banana"], "plum")
    assert [h.text for h in both] == ranked(2 * vectors[:2].mean(axis=0) - vectors[3], [2])
    assert [h.document for h in fruit.recommend("apple", where={"tags": "red"})] == ["cherry"]
    assert len(fruit.recommend("apple", k=10**12)) == 3
    assert fruit.recommend(["apple", "banana", "cherry", "plum"]) == []
    with pytest.raises(UsageError, match="no document 'pear'"):
        fruit.recommend("apple", "pear")
    with pytest.raises(UsageError, match="at least one id"):
        fruit.recommend([])


# Models by space.


def test_models_by_space(tmp_path: Path, cache: Path, tiny: Path) -> None:
    with Collection(tmp_path / "a.omni", models={"text": loaded(tiny)}) as notes:
        assert notes.add("x").new == 1
    for misspelt in ("sound", "texts", "imgae"):
        with pytest.raises(UsageError, match=r"names no modality; '(audio|text|image)' is one"):
            Collection(tmp_path / "a.omni", models={misspelt: "x"})
    for models in ({"model": "x", "models": {"text": "x"}}, {"models": {}}):
        with pytest.raises(UsageError, match="give either model="):
            Collection(tmp_path / "b.omni", **models)
    assert not (tmp_path / "b.omni").exists()


def test_the_real_model_finds_by_meaning(tmp_path: Path) -> None:
    with Collection(tmp_path / "real.omni", model=omnivec.load("all-MiniLM-L6-v2")) as notes:
        notes.add(
            ["A laptop for little money", "The weather in Kyoto in spring", "How to bake sourdough bread"],
            ids=["laptop", "weather", "bread"],
        )
        for query, wanted in (
            ("cheap notebook computer", "laptop"),
            ("cherry blossom season climate", "weather"),
            ("yeast and flour recipe", "bread"),
        ):
            assert notes.search(query, 1)[0].document == wanted
            assert notes.search(query, 1, mode="hybrid")[0].document == wanted
        assert notes.recommend("laptop", k=1)[0].score < 0.5
    with Collection(tmp_path / "real.omni") as again:
        assert again.search("cheap notebook computer", 1)[0].document == "laptop"


def test_more_passages_than_there_can_be_are_all(notes: Collection) -> None:
    notes.add(FRUIT)
    for mode in ("vector", "text", "hybrid"):
        few, all_of_them = (notes.search("red fruit", k, mode=mode) for k in (100, 10**20))
        assert [hit.id for hit in all_of_them] == [hit.id for hit in few]


@pytest.mark.parametrize("wrong", [5, b"x", object(), {}])
def test_arguments_of_a_wrong_type_are_refused_in_one_line(notes: Collection, wrong: Any) -> None:
    asked: list[Callable[[], Any]] = [
        lambda: notes.backup(wrong),
        lambda: Collection.restore(wrong, "x"),
        lambda: notes.path_of(wrong),
        lambda: notes.sync(notes.folder.parent, encoding=wrong),
        lambda: notes.sync(notes.folder.parent, wait=-1),
        lambda: notes.unreached(wrong),
        lambda: notes.search("a", under=wrong),
        lambda: notes.unmatched({"$and": 5}),
        lambda: notes.unmatched({1: 1}),
    ]
    for ask in asked:
        with pytest.raises((UsageError, FilterError)) as raised:
            ask()
        assert "\n" not in str(raised.value) and len(str(raised.value)) < 300
