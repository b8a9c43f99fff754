"""Documents become rows, and rows the same documents again; files are written as a whole, or not at all."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnivec import Collection
from omnivec.collection import rows_out
from omnivec.errors import FilterError, UsageError
from omnivec.inputs.files.rows import rows
from workbench import prose, whole

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")

HARD = [
    "",
    "null",
    "2024",
    "NaN",
    '"x"',
    "\r",
    "a\r\nb",
    "[1]",
    " ",
    "{}",
    "1e3",
    "naïve 北京",
    "\u2028",
    "'",
    ",",
    "\t",
]
STRINGS = st.text(max_size=6).map(lambda text: text.replace("\0", "")) | st.sampled_from(HARD)
KEYS = STRINGS.filter(lambda key: not key.startswith("$")) | st.sampled_from(
    ["id", "text", "_path", "n", "_vector.x"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3),
    max_leaves=4,
)
NUMBERS = st.floats(-1e6, 1e6, width=32)
DOCUMENTS = st.dictionaries(
    STRINGS.filter(bool),
    st.tuples(STRINGS, st.dictionaries(KEYS, VALUES, max_size=4), st.lists(NUMBERS, min_size=3, max_size=3)),
    min_size=1,
    max_size=8,
)


def stored(notes: Collection) -> dict[str, tuple[str, str, Any]]:
    """Text, metadata as JSON, which tells 1, 1.0 and true apart, and vectors by id."""
    return {
        one.id: (
            one.text,
            json.dumps(one.metadata, sort_keys=True),
            {k: v.tolist() for k, v in one.vectors.items()},
        )
        for one in notes.get([entry.id for entry in notes], vectors=True)
    }


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(documents=DOCUMENTS)
def test_what_is_exported_is_imported_again(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, documents: dict[str, Any]
) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("round")
    path = folder / f"notes{suffix}"
    with Collection(folder / "a.omni") as first, Collection(folder / "b.omni") as second:
        texts, facts, vectors = zip(*documents.values(), strict=True)
        first.add(list(texts), list(documents), list(facts), vectors=np.array(vectors), space="mine")
        wanted = stored(first)
        report = first.export(path, vectors=True)
        assert (report.documents, report.rows, report.without_vectors) == (len(documents), len(documents), 0)
        imported = second.add_rows(path, vector="_vector.mine")
        assert imported.failures == {}
        assert stored(second) == wanted


@pytest.fixture
def three(notes: Collection) -> Collection:
    """Documents with metadata of several types, one of them with several passages."""
    notes.add(
        ["apples are red", "plums", prose(1, 400)],
        ids=["a", "b", "long"],
        metadata=[
            {"year": 2024, "tags": ["x"], "id": "own", "n": 1, "p": 0.5, "none": None},
            {"year": 2025, "text": "2024", "n": "1", "none": "x"},
            {"year": 2026, "n": None, "none": "y"},
        ],
    )
    return notes


def table(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file, strict=True))


def test_the_columns_of_csv(three: Collection, tmp_path: Path) -> None:
    report = three.export(tmp_path / "x.csv", {"year": {"$lt": 2026}})
    assert (report.documents, report.rows) == (2, 2)
    header, first, second = table(tmp_path / "x.csv")
    assert header == [
        "id",
        "text",
        "_metadata.id",
        "n",
        "none",
        "p",
        "tags",
        "_metadata.text",
        "year",
        "_modality",
        "_path",
    ]
    assert first == ["a", "apples are red", "own", "1", "null", "0.5", '["x"]', "", "2024", "text", ""]
    assert second == ["b", "plums", "", '"1"', "x", "", "", '"2024"', "2025", "text", ""]


def test_json_lines_are_nested(three: Collection, tmp_path: Path) -> None:
    three.export(tmp_path / "x.jsonl", {"year": 2024}, vectors=True)
    [(_, row)] = rows(tmp_path / "x.jsonl")
    vector = row.pop("_vector.text")
    assert row == {
        "id": "a",
        "text": "apples are red",
        "year": 2024,
        "tags": ["x"],
        "_metadata.id": "own",
        "n": 1,
        "p": 0.5,
        "none": None,
        "_modality": "text",
    }
    [record] = three.get("a", vectors=True)
    np.testing.assert_array_equal(np.array([vector], np.float32), record.vectors["text"])


def test_parquet_has_types_where_values_have_one(three: Collection, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    three.export(tmp_path / "x.parquet", vectors=True)
    schema = parquet.read_schema(tmp_path / "x.parquet")
    types = {field.name: str(field.type) for field in schema}
    assert types["year"] == "int64" and types["p"] == "double" and types["id"] == "string"
    assert types["_vector.text"] == "fixed_size_list<element: float>[32]"
    marks = {field.name: field.metadata[b"omnivec"] for field in schema if field.metadata}
    assert marks == {"n": b"json", "tags": b"json", "none": b"null"}
    with Collection(tmp_path / "again.omni", model=three.model) as again:
        assert again.add_rows(tmp_path / "x.parquet", metadata=None).left_out
        assert {one.id: one.metadata for one in again} == {one.id: one.metadata for one in three}


def test_vectors_of_documents_with_several_passages_need_a_row_for_each(
    three: Collection, tmp_path: Path
) -> None:
    [record] = three.get("long", vectors=True)
    assert len(record.pieces) > 1
    report = three.export(tmp_path / "x.jsonl", vectors=True)
    assert (report.rows, report.without_vectors) == (3, 1)
    assert [row["id"] for _, row in rows(tmp_path / "x.jsonl") if "_vector.text" not in row] == ["long"]

    report = three.export(tmp_path / "p.jsonl", {"year": 2026}, vectors=True, passages=True)
    assert (report.documents, report.rows, report.without_vectors) == (1, len(record.pieces), 0)
    listed = [row for _, row in rows(tmp_path / "p.jsonl")]
    assert [row["_passage"] for row in listed] == list(range(len(record.pieces)))
    assert [(row["_start"], row["_end"], row["text"]) for row in listed] == [
        (piece.start, piece.end, piece.text) for piece in record.pieces
    ]
    assert {row["_unit"] for row in listed} == {"characters"}
    found = np.array([row["_vector.text"] for row in listed], np.float32)
    np.testing.assert_array_equal(found, record.vectors["text"])
    with pytest.raises(UsageError, match=r"has a row for each passage"):
        three.add_rows(tmp_path / "p.jsonl")


def test_texts_are_imported_and_embedded_again(three: Collection, tmp_path: Path) -> None:
    three.export(tmp_path / "x.csv")
    with Collection(tmp_path / "again.omni", model=three.model) as again:
        assert again.add_rows(tmp_path / "x.csv").new == 3
        assert again.add_rows(tmp_path / "x.csv").unchanged == 3
        whole(again)
        for one, other in zip(again.get(["a", "b", "long"]), three.get(["a", "b", "long"]), strict=True):
            assert (one.text, one.metadata) == (other.text, other.metadata)


def test_an_existing_file_stays_unless_it_may_be_replaced(three: Collection, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"x\.csv exists: name another file, or replace it with --force"):
        three.export(path)
    assert path.read_text() == "mine"
    three.export(path, force=True)
    assert len(table(path)) == 4


def test_a_file_is_written_as_a_whole_or_not_at_all(
    three: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "x.csv").write_text("mine")
    monkeypatch.setattr(rows_out, "PAGE", 1)
    calls = []

    def failing(*given: Any) -> str:
        calls.append(given)
        if len(calls) > 15:
            raise OSError(28, "No space left on device")
        return "x"

    monkeypatch.setattr(rows_out, "_cell", failing)
    with pytest.raises(Exception, match=r"x\.csv cannot be written"):
        three.export(folder / "x.csv", force=True)
    assert {file.name: file.read_text() for file in folder.iterdir()} == {"x.csv": "mine"}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_all_pages_are_of_one_state(
    three: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(rows_out, "PAGE", 1)
    read = three._catalogue.records
    sizes = []

    def reading(ids: Any, **options: Any) -> Any:
        sizes.append(len(ids))
        with Collection(three.folder, model=three.model) as writer:
            writer.delete("long")
            writer.update("b", {"year": 1, "more": True})
        return read(ids, **options)

    monkeypatch.setattr(three._catalogue, "records", reading)
    assert three.export(tmp_path / f"x{suffix}").documents == 3
    assert sizes == [1, 1, 1], "a page at a time"
    assert len(three) == 2
    monkeypatch.undo()
    with Collection(tmp_path / "again.omni", model=three.model) as again:
        again.add_rows(tmp_path / f"x{suffix}")
        assert {one.id: one.metadata["year"] for one in again} == {"a": 2024, "b": 2025, "long": 2026}


def test_what_cannot_be_exported_is_one_line(three: Collection, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the suffix selects the format and must be one of \.csv, \.tsv"):
        three.export(tmp_path / "x.txt")
    with pytest.raises(UsageError, match="is in a folder that does not exist"):
        three.export(tmp_path / "none" / "x.csv")
    with pytest.raises(FilterError):
        three.export(tmp_path / "x.csv", {"$what": 1})
    assert not (tmp_path / "x.csv").exists()
    assert three.export(tmp_path / "x.csv", {"year": 1}).documents == 0
    assert table(tmp_path / "x.csv") == [["id", "text", "_modality", "_path"]]


def test_parquet_without_pyarrow_is_one_line(
    three: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"Parquet needs pyarrow: pip install 'omnivec\[parquet\]'"):
        three.export(tmp_path / "x.parquet")
