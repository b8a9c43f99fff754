"""Documents of a collection: read with texts and vectors, listed in an order, changed, and removed by a filter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from omnivec import Collection
from omnivec.errors import CollectionError, FilterError, UnknownKey, UsageError
from workbench import contents, loaded, prose, whole, write_files

YEARS: dict[str, Any] = {
    "a": {"year": 2024, "by": {"name": "Ann"}},
    "b": {"year": 2023.5, "by": {"name": "bob"}},
    "c": {"year": "2025"},
    "d": {"year": "2022"},
    "e": {"year": True},
    "f": {"year": [2021]},
    "g": {"year": None},
    "h": {},
    "i": {"year": 2024, "by.name": "Zoe"},
}


@pytest.fixture
def years(notes: Collection) -> Collection:
    notes.add([f"text {name}" for name in YEARS], ids=list(YEARS), metadata=list(YEARS.values()))
    return notes


def ids_of(notes: Collection, *order_by: str, **options: Any) -> str:
    return "".join(entry.id for entry in notes.documents(order_by=list(order_by), **options))


# Reading.


def test_a_text_is_put_together_from_its_passages_without_what_they_repeat(notes: Collection) -> None:
    texts = {"long": prose(1, 900), "short": "one line", "wide": "  begins late\n\n\n" + prose(2, 400)}
    notes.add(list(texts.values()), ids=list(texts))
    records = {record.id: record for record in notes.get(list(texts))}
    assert len(records["long"].pieces) == records["long"].passages > 2
    for name, text in texts.items():
        record = records[name]
        assert [piece.ordinal for piece in record.pieces] == list(range(record.passages))
        for piece in record.pieces:
            span = slice(int(piece.start), int(piece.end))
            assert record.text[span] == piece.text == text[span]
            assert piece.metadata is record.metadata
        first, last = int(record.pieces[0].start), int(record.pieces[-1].end)
        assert record.text[first:] == text[first:last]
        assert record.text.count("\n", 0, first) == text.count("\n", 0, first)


def test_records_have_all_that_documents_have_and_vectors_when_asked_for(
    both: Collection, docs: Path
) -> None:
    both.sync(docs)
    entries = both.documents()
    records = both.get([entry.id for entry in entries], vectors=True)
    wanted = contents(both).vectors
    for entry, record in zip(entries, records, strict=True):
        assert vars(entry).items() <= vars(record).items()
        assert set(record.vectors) == {"image" if entry.id.endswith("png") else "text"}
        [vectors] = record.vectors.values()
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, wanted[entry.id])
        assert bool(record.text) == (record.modality == "text")
    assert all(not record.vectors for record in both.get([entry.id for entry in entries]))


def test_vectors_of_documents_written_in_between_stay_apart(notes: Collection) -> None:
    notes.add([prose(i, 300) for i in range(6)], ids=list("abcdef"))
    notes.add([prose(i + 9, 300) for i in range(3)], ids=list("bdf"))  # new keys, after all others
    wanted = contents(notes).vectors
    for record in notes.get(list("fabced"), vectors=True):
        np.testing.assert_array_equal(record.vectors["text"], wanted[record.id])


def test_ids_in_their_order_also_twice_and_none(years: Collection) -> None:
    assert [record.id for record in years.get(["c", "a", "c"])] == ["c", "a", "c"]
    assert years.get([]) == []
    assert years.get("a")[0].metadata == YEARS["a"]


def test_ten_thousand_ids_at_once_take_as_many_queries_as_one(years: Collection, monkeypatch: Any) -> None:
    catalogue, asked = years._catalogue, []
    rows = catalogue._rows
    monkeypatch.setattr(catalogue, "_rows", lambda *query: asked.append(query) or rows(*query))
    years.get("a")
    one = len(asked)
    years.get(list(YEARS) * 1200)
    assert len(asked) == 2 * one
    with pytest.raises(UnknownKey, match="no document '0', '1', '2' and 9,997 more in "):
        years.get([str(i) for i in range(10_000)] + ["a"])


def test_unknown_ids_are_counted_and_named(years: Collection) -> None:
    with pytest.raises(UnknownKey, match="no document 'x' in "):
        years.get(["a", "x", "x"])
    with pytest.raises(UsageError, match="vectors"):
        years.get("a", vectors="yes")  # type: ignore[arg-type]


# Iterating.


def test_iteration_goes_in_pages_through_what_is_there(years: Collection, monkeypatch: Any) -> None:
    monkeypatch.setattr("omnivec.collection.documents._PAGE", 2)
    assert list(years) == years.documents()
    seen = []
    for entry in years:
        seen.append(entry.id)
        if entry.id == "b":
            years.delete(["a", "d", "h"])
            years.add(["before", "after"], ids=["aa", "dd"])
    assert seen == ["a", "b", "c", "dd", "e", "f", "g", "i"]
    assert [entry.id for entry in years] == ["aa", "b", "c", "dd", "e", "f", "g", "i"]


def test_an_empty_collection_has_nothing_to_iterate(notes: Collection) -> None:
    assert list(notes) == []


# In an order.


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        (("year",), "baidcefgh"),
        (("-year",), "aibcdefgh"),
        (("+year",), "baidcefgh"),
        (("year", "-$id"), "biadcfehg"),
        (("by.name",), "aibcdefgh"),
        (("-by.name",), "biacdefgh"),
        (("nothing",), "abcdefghi"),
        (("-$id",), "ihgfedcba"),
        (("$size", "-$passages", "$id"), "abcdefghi"),
    ],
)
def test_numbers_then_texts_then_others_and_missing_ones_last(
    years: Collection, order: tuple[str, ...], wanted: str
) -> None:
    assert ids_of(years, *order) == wanted
    assert ids_of(years, *order, offset=2, limit=3) == wanted[2:5]


def test_a_page_of_what_a_filter_passes(years: Collection) -> None:
    where = {"year": {"$gte": 0}}
    assert ids_of(years, "-year", where=where) == "aibf"
    assert ids_of(years, "-year", where=where, offset=1, limit=2) == "ib"
    assert ids_of(years, limit=2**70) == ids_of(years, offset=0) == "abcdefghi"
    assert ids_of(years, limit=0) == ids_of(years, offset=2**70) == ""
    assert ids_of(years, offset=7) == "hi"
    assert [entry.id for entry in years.documents(order_by="-year", limit=1)] == ["a"]


def test_documents_are_ordered_by_when_they_were_written_and_by_their_passages(notes: Collection) -> None:
    for name, words in (("b", 10), ("c", 300), ("a", 600)):
        notes.add(prose(1, words), ids=name)
    assert ids_of(notes, "-$indexed") == "acb"
    assert ids_of(notes, "$passages") == "bca"


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"order_by": ""}, "'' is empty"),
        ({"order_by": "-"}, "'-' is empty"),
        ({"order_by": "$year"}, r"no '\$year'; there are \$id, \$indexed"),
        ({"order_by": ["a"] * 17}, "17 fields, at most 16"),
        ({"order_by": ".".join("a" * 17)}, "more than 16 steps"),
        ({"order_by": [1]}, "give a str"),
        ({"offset": -1}, "offset=-1: at least 0"),
        ({"limit": -1}, "limit=-1: at least 0"),
        ({"limit": "3"}, "limit='3'"),
    ],
)
def test_orders_that_cannot_be_meant(years: Collection, options: dict[str, Any], part: str) -> None:
    with pytest.raises(UsageError, match=part) as raised:
        years.documents(**options)
    assert "\n" not in str(raised.value)


# Updating.


def test_an_update_merges_and_embeds_nothing(years: Collection, monkeypatch: Any) -> None:
    monkeypatch.setattr(years.model, "run", None)
    before, vectors = years.get(["a", "h"]), contents(years).vectors
    assert years.update(["a", "h"], {"year": 2030, "by": {"age": 7}}) == 2
    after = years.get(["a", "h"])
    assert [one.metadata for one in after] == [{"year": 2030, "by": {"age": 7}}] * 2
    for old, new in zip(before, after, strict=True):
        changed = {"metadata", "pieces"}
        assert {k: v for k, v in vars(old).items() if k not in changed} == {
            k: v for k, v in vars(new).items() if k not in changed
        }
        assert [piece.key for piece in old.pieces] == [piece.key for piece in new.pieces]
    assert years.update("a", {"tags": ("x", np.float32(1.5))}) == 1
    assert years.get("a")[0].metadata == {"year": 2030, "by": {"age": 7}, "tags": ["x", 1.5]}
    assert years.update(["a", "b"], [{"only": 1}, {}], replace=True) == 2
    assert [one.metadata for one in years.get(["a", "b"])] == [{"only": 1}, {}]
    assert years.search("text", mode="text", where={"only": 1})[0].metadata == {"only": 1}
    np.testing.assert_equal(contents(years).vectors, vectors)
    whole(years)


def test_an_update_removes_the_keys_that_it_names(years: Collection) -> None:
    before = years.get("a")[0].metadata
    assert "year" in before
    assert years.update("a", {"read": True}, remove=["year", "no such key"]) == 1
    kept = {key: value for key, value in before.items() if key != "year"}
    assert years.get("a")[0].metadata == {**kept, "read": True}
    assert years.update("a", {"year": 1}, remove="year") == 1  # what is set is not removed
    assert years.get("a")[0].metadata == {**kept, "read": True, "year": 1}
    with pytest.raises(UsageError, match="remove 0 is 3"):
        years.update("a", {}, remove=cast(Any, [3]))
    assert years.check(deep=True) == []


def test_an_update_counts_what_it_changed_and_is_one_write(years: Collection) -> None:
    state = years._catalogue.changes()
    assert years.update(list("abc"), [{"year": 2024}, {"year": 2024}, {"year": "2025"}]) == 1
    assert years._catalogue.changes()[0] == state[0] + 1
    state = years._catalogue.changes()
    assert years.update("a", {"year": 2024}) == years.update([], {"x": 1}) == 0
    assert years._catalogue.changes() == state
    assert (
        years.update("e", {"year": 1}) == years.update("e", {"year": 1.0}) == 1
    )  # true, 1 and 1.0 are three values


@pytest.mark.parametrize(
    ("ids", "metadata", "error", "part"),
    [
        (["a", "x", "y"], {"n": 1}, UnknownKey, "no document 'x', 'y' in "),
        (["a", "b"], [{"n": 1}], UsageError, "1 metadata for 2 items"),
        (["a", "a"], {"n": 1}, UsageError, "'a' is given twice"),
        ("a", {"n": {1}}, UsageError, "metadata of 'a': 'n' holds a set"),
        ("a", {"$n": 1}, UsageError, "begins with '\\$'"),
        ("a", "year", UsageError, "metadata 0 is a str"),
        ("a", None, UsageError, "metadata is None: give a dict"),
    ],
)
def test_updates_that_cannot_be_made_change_nothing(
    years: Collection, ids: Any, metadata: Any, error: type[Exception], part: str
) -> None:
    before = years.documents()
    with pytest.raises(error, match=part):
        years.update(ids, metadata)
    assert years.documents() == before


def test_a_wrong_checksum_stays_wrong(years: Collection) -> None:
    with years._catalogue._connections.transaction() as connection:
        connection.execute("UPDATE documents SET digest = x'00' WHERE id = 'a'")
    damage = years.check(deep=True)
    assert damage
    years.update(["a", "b"], {"n": 1})
    assert years.check(deep=True) == damage


def test_an_update_keeps_the_matrix_file(years: Collection, monkeypatch: Any) -> None:
    monkeypatch.setattr("omnivec.store.matrix._WORTHWHILE", 1)
    [hit] = years.search("text a", k=1, mode="vector")
    [file] = years.folder.glob("matrix-*.f32")
    status = file.stat()
    years.update(list(YEARS), {"n": 1})
    [again] = years.search("text a", k=1, mode="vector")
    assert (again.id, again.score, again.metadata["n"]) == (hit.id, hit.score, 1)
    assert [file] == list(years.folder.glob("matrix-*.f32"))
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (status.st_mtime_ns, status.st_ino)


def test_what_an_update_set_outlives_syncs_and_changes_of_the_file(notes: Collection, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    write_files(folder, {"a.txt": "first words", "b.txt": "other words"})
    notes.sync(folder)
    notes.update("files/a.txt", {"year": 2024, "suffix": ".mine"})
    again = notes.sync(folder)
    assert (again.unchanged, again.changed) == (2, 0)
    assert notes.get("files/a.txt")[0].metadata["year"] == 2024
    assert notes.get("files/a.txt")[0].metadata["suffix"] == ".mine"

    write_files(folder, {"a.txt": "second words, and more of them"})
    assert notes.sync(folder).changed == 1
    [record] = notes.get("files/a.txt")
    assert record.text == "second words, and more of them"
    assert (record.metadata["year"], record.metadata["suffix"], record.metadata["size"]) == (2024, ".txt", 30)
    assert set(record.metadata) == {"path", "name", "suffix", "size", "modified", "year"}
    whole(notes)


def test_an_update_while_the_new_version_of_a_file_is_embedded_is_kept(
    notes: Collection, tmp_path: Path, monkeypatch: Any
) -> None:
    folder = tmp_path / "files"
    write_files(folder, {"a.txt": "first words"})
    notes.sync(folder)
    write_files(folder, {"a.txt": "second words"})
    run = notes.model.run

    def interrupted(*arguments: Any, **options: Any) -> Any:
        notes.update("files/a.txt", {"year": 2024})
        return run(*arguments, **options)

    monkeypatch.setattr(notes.model, "run", interrupted)
    assert notes.sync(folder).changed == 1
    assert notes.get("files/a.txt")[0].metadata["year"] == 2024
    whole(notes)


def test_an_addition_replaces_all_metadata(years: Collection) -> None:
    years.update("a", {"n": 1})
    years.add("text a", ids="a", metadata={"year": 1})
    assert years.get("a")[0].metadata == {"year": 1}


# Deleting.


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ({"where": {"year": 2024}}, "bcdefgh"),
        ({"where": {"year": {"$exists": False}}}, "abcdefgi"),
        ({"ids": ["a", "b", "x"], "where": {"year": 2024}}, "bcdefghi"),
        ({"ids": [], "where": {"year": 2024}}, "abcdefghi"),
        ({"ids": []}, "abcdefghi"),
        ({"ids": ["a", "x", "a"]}, "bcdefghi"),
        ({"where": {"nothing": 1}}, "abcdefghi"),
    ],
)
def test_documents_are_removed_by_ids_and_by_a_filter(
    years: Collection, arguments: Mapping[str, Any], left: str
) -> None:
    state = years._catalogue.changes()[0]
    assert years.delete(**arguments) == len(YEARS) - len(left)
    assert ids_of(years) == left
    assert years._catalogue.changes()[0] == state + (len(left) < len(YEARS))
    whole(years)


def test_a_deletion_without_a_condition_is_refused(years: Collection) -> None:
    with pytest.raises(UsageError, match="delete needs ids or where="):
        years.delete()
    with pytest.raises(UsageError, match="would delete all 9 documents"):
        years.delete(where={})
    with pytest.raises(UsageError, match="would delete all 9 documents"):
        years.delete("a", where={})
    with pytest.raises(FilterError):
        years.delete(where={"year": {"$near": 1}})
    with pytest.raises(FilterError):
        years.delete(where="year=2024")  # type: ignore[arg-type]
    assert len(years) == 9


def test_a_collection_that_is_only_read_refuses_changes_and_answers(years: Collection, tiny: Path) -> None:
    with Collection(years.folder, model=loaded(tiny), readonly=True) as read:
        for change in (lambda: read.update("a", {"n": 1}), lambda: read.delete(where={"year": 2024})):
            with pytest.raises(CollectionError, match="readonly"):
                change()
        assert read.get("a", vectors=True)[0].vectors["text"].shape == (1, read.model.dim)
        assert list(read) == years.documents()
