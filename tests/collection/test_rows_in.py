"""Rows become documents: formats, columns, types, bad rows, repeated rows, and imports that were stopped."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from omnivec import Collection
from omnivec.collection import rows_in
from omnivec.collection.row_sources import Columns
from omnivec.collection.rows_in import Import, Imported, opened
from omnivec.errors import ItemError, UsageError
from workbench import whole

ROWS: list[dict[str, Any]] = [
    {"id": "a", "text": "apples are red", "year": 2024, "ripe": True, "price": 0.5, "tags": ["x", "y"]},
    {"id": "b", "text": 'plums, "blue"\r\nones', "year": 2025, "ripe": False, "price": 1.0, "tags": []},
    {"id": "c", "text": "naïve 北京", "year": 2026, "ripe": True, "price": 2e-9, "tags": ["7"]},
]


def import_rows(notes: Collection, source: Any, columns: Columns | None = None) -> Imported:
    if columns is None:
        return notes.add_rows(source)
    return notes.add_rows(source, columns.id, columns.text, columns.metadata)


def write_table(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[str]], separator: str = ","
) -> Path:
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows([header, *rows])
    return path


def written(folder: Path, suffix: str) -> Path:
    """A file of ROWS."""
    path = folder / f"rows{suffix}"
    if suffix in (".csv", ".tsv"):
        cells = [[v if isinstance(v, str) else json.dumps(v) for v in row.values()] for row in ROWS]
        return write_table(path, list(ROWS[0]), cells, "," if suffix == ".csv" else "\t")
    if suffix == ".parquet":
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(ROWS), path)
        return path
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def stored(notes: Collection) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Text and metadata by id."""
    return {
        entry.id: (passages[0].text, entry.metadata)
        for entry in notes.documents()
        if (found := notes._catalogue.document(entry.id)) and (passages := found.passages)
    }


WANTED = {
    row["id"]: (row["text"], {key: row[key] for key in ("year", "ripe", "price", "tags")}) for row in ROWS
}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"])
def test_every_format_gives_the_same_documents(notes: Collection, tmp_path: Path, suffix: str) -> None:
    report = import_rows(notes, written(tmp_path, suffix))
    assert (report.rows, report.new, report.failures) == (3, 3, {})
    assert stored(notes) == WANTED
    whole(notes)
    again = import_rows(notes, written(tmp_path, suffix))
    assert (again.new, again.changed, again.unchanged, again.passages) == (0, 0, 3, 0)


def test_rows_in_memory_and_several_files(notes: Collection, tmp_path: Path) -> None:
    assert import_rows(notes, ROWS[:2]).new == 2
    assert import_rows(notes, (row for row in ROWS)).unchanged == 2
    report = import_rows(notes, [written(tmp_path, ".csv"), str(written(tmp_path, ".jsonl"))])
    assert (report.rows, report.unchanged, report.failures) == (6, 6, {})
    assert stored(notes) == WANTED
    dated = [{"id": "d", "text": "a date", "day": date(2024, 1, 5), "nan": math.nan, "none": None}]
    import_rows(notes, dated)
    assert stored(notes)["d"][1] == {"day": "2024-01-05", "nan": None, "none": None}


def test_compressed_files_and_a_byte_order_mark(notes: Collection, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress("\ufeffid,text\n1,apples\n".encode()))
    assert import_rows(notes, path).new == 1
    assert set(stored(notes)) == {"1"}


def test_columns_are_chosen(notes: Collection, tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "x.csv", ["Nr", "Content", "label", "extra"], [["7", "apples", "fruit", "x"]]
    )
    import_rows(notes, path, Columns(id="Nr", metadata=["label"]))
    assert stored(notes) == {"7": ("apples", {"label": "fruit"})}
    import_rows(notes, path, Columns(id="Nr", text="extra", metadata=[]))
    assert stored(notes) == {"7": ("x", {})}


def test_without_ids_documents_are_named_by_their_text(notes: Collection, tmp_path: Path) -> None:
    path = write_table(
        tmp_path / "x.csv", ["text", "label"], [["apples", "a"], ["plums", "b"], ["apples", "a"]]
    )
    report = import_rows(notes, path)
    assert (report.new, report.unchanged, report.failures) == (2, 1, {})
    notes.add("apples", metadata={"label": "a"})
    assert len(notes) == 2, "`add` names them likewise"


@pytest.mark.parametrize(
    ("name", "content", "columns", "message"),
    [
        (
            "x.csv",
            "id,body text\n1,a\n",
            {},
            "name the column of the texts with --text (text=); it has",
        ),
        ("x.csv", "id,text\n1,a\n", {"text": "txt"}, "has no column 'txt'; it has 'id', 'text'"),
        ("x.csv", "id,text\n1,a\n", {"metadata": ["year"]}, "has no column 'year'; it has 'id', 'text'"),
        ("x.jsonl", '{"id": 1, "text": "a"}\n', {"id": "key"}, "has no column 'key'; it has 'id', 'text'"),
        ("x.csv", "id,text,a,a\n1,a,b,c\n", {}, "has two columns 'a': rename one"),
        ("x.csv", "id,text,_passage\n1,a,0\n", {}, "has a row for each passage"),
        ("x.txt", "id,text\n", {}, "is not a file of rows: give .csv, .tsv, .jsonl, .ndjson, .parquet files"),
    ],
)
def test_unusable_columns_are_one_line(
    tmp_path: Path, name: str, content: str, columns: dict[str, Any], message: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UsageError) as error:
        opened(path, Columns(**columns))
    assert str(error.value).startswith(str(path)) and message in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "source: 3, an int is not an item: give a path, or dicts"),
        ({"id": 1}, "source is a dict, with columns: give its rows as dicts"),
        ("", "source 0 is ''"),
    ],
)
def test_other_sources_are_refused(source: Any, message: str) -> None:
    with pytest.raises(UsageError) as error:
        opened(source, Columns())
    assert message in str(error.value)


def test_files_without_rows(notes: Collection, tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.touch()
    with pytest.raises(ItemError, match=r"empty.csv is empty: its first line must name the columns"):
        opened(empty, Columns())
    with pytest.raises(ItemError, match=r"missing\.csv"):
        opened(tmp_path / "missing.csv", Columns())
    header = write_table(tmp_path / "header.csv", ["id", "text"], [])
    (tmp_path / "empty.jsonl").touch()
    for path in (header, tmp_path / "empty.jsonl"):
        assert import_rows(notes, path) == Imported()


BAD = """id,text,year
1,apples,2024
,no id,2024
3,,2024
4,too,many,cells
5,few
6,caf\xe9,2024
1,another text,2024
1,apples,2024
9,"plums
in two lines",2025
10,   ,2024
11,infinite,1e999
"""


def test_a_bad_row_costs_only_itself(notes: Collection, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(BAD.encode("latin-1"))
    report = import_rows(notes, path)
    assert report.failures == {
        f"{path}:3": "it has no id in 'id'",
        f"{path}:4": "it has no text in 'text'",
        f"{path}:5": "it has 4 cells, the header 3",
        f"{path}:6": "it has 2 cells, the header 3",
        f"{path}:7": "'text' is not UTF-8 (character 3): convert it first",
        f"{path}:8": f"its id '1' is also that of {path}:2",
        f"{path}:12": "it has no text in 'text'",
    }
    assert (report.rows, report.new, report.unchanged) == (11, 3, 1)
    assert {name: facts["year"] for name, (_, facts) in stored(notes).items()} == {
        "1": 2024,
        "9": 2025,
        "11": "1e999",
    }


def test_bad_json_lines_cost_only_themselves(notes: Collection, tmp_path: Path) -> None:
    lines = [
        '{"id": 1, "text": "apples", "n": NaN}',
        '{"id": 2, "text": "plums"',
        "[1, 2]",
        '{"id": 3.5, "text": "pears"}',
        '{"id": 4, "text": 12}',
        '{"id": 5, "text": "figs", "n": Infinity}',
        '{"id": 6, "text": "kiwis", "$n": 1}',
        '{"id": "a\\u0000", "text": "olives"}',
        '{"id": 7, "text": "last", "more": {"a": [1, {"b": null}]}}',
    ]
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(lines))
    report = import_rows(notes, path)
    assert [place.removeprefix(f"{path}:") for place in report.failures] == [
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8",
    ]
    reasons = " | ".join(report.failures.values())
    for part in (
        "not JSON",
        "it is a list, not an object",
        "its id in 'id' is 3.5, a float",
        "its text in 'text' is 12, an int",
        "'n' holds an infinity",
        "the key '$n'",
        "it must be valid UTF-8 without NUL",
    ):
        assert part in reasons
    assert stored(notes) == {"1": ("apples", {"n": None}), "7": ("last", {"more": {"a": [1, {"b": None}]}})}


def test_a_file_that_ends_in_the_middle_keeps_the_rows_before(notes: Collection, tmp_path: Path) -> None:
    path = tmp_path / "cut.csv"
    path.write_text('id,text\n1,apples\n2,"plums\n')
    report = import_rows(notes, [path, *ROWS[:0]])
    assert list(stored(notes)) == ["1"]
    assert report.failures == {str(path): "the rest cannot be read: line 3: unexpected end of data"}


def test_a_repeated_row_is_met_again_in_another_window(
    notes: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_in, "FIRST", 2)
    monkeypatch.setattr(rows_in, "MOST", 2)
    rows = [{"id": str(i), "text": f"number {i}"} for i in range(7)]
    report = import_rows(notes, [*rows, rows[0], {"id": "1", "text": "other"}])
    assert (report.new, report.changed, report.unchanged) == (7, 0, 1)
    assert report.failures == {"rows[8]": "its id '1' is also that of rows[1]"}


def test_what_was_yielded_is_committed_and_goes_on_when_repeated(
    notes: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_in, "FIRST", 4)
    monkeypatch.setattr(rows_in, "MOST", 4)
    rows = [{"id": f"{i:02}", "text": f"number {i}"} for i in range(10)]
    work = Import(notes, opened(rows, Columns()))
    windows = iter(work)
    assert next(windows) == {}
    with Collection(notes.folder, readonly=True) as reader:
        assert [entry.id for entry in reader.documents()] == ["00", "01", "02", "03"]
    del windows  # stopped
    again = import_rows(notes, rows)
    assert (again.new, again.unchanged) == (6, 4)
    whole(notes)


def test_memory_is_that_of_a_window(notes: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows there are, at most a window and a look ahead are held."""
    monkeypatch.setattr(rows_in, "FIRST", 8)
    monkeypatch.setattr(rows_in, "MOST", 8)
    read = 0

    def rows() -> Iterable[dict[str, Any]]:
        nonlocal read
        for i in range(400):
            read += 1
            yield {"id": str(i), "text": "the same"}

    work = Import(notes, opened(rows(), Columns()))
    for _ in work:
        assert read <= work.report.rows + 100
    assert work.report.new == 400


def test_columns_that_an_export_adds_are_no_metadata(notes: Collection) -> None:
    row = {"id": "a", "text": "apples", "_modality": "text", "_path": None, "_metadata.id": 7, "_own": 1}
    report = import_rows(notes, [{**row, "_vector.text": [0.5]}])
    assert stored(notes)["a"][1] == {"id": 7, "_own": 1}
    assert report.left_out == {"rows": ["_vector.text"]}


def test_a_parquet_cell_without_a_value_is_no_key(notes: Collection, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    table = pa.table(
        {"text": ["apples", "plums"], "n": pa.array([1.5, None]), "x": pa.array([math.nan, 2.0])}
    )
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "x.parquet")
    import_rows(notes, tmp_path / "x.parquet")
    assert sorted(stored(notes).values()) == [("apples", {"n": 1.5, "x": None}), ("plums", {"x": 2.0})]


def test_real_rows(notes: Collection, data_folder: Path, tmp_path: Path) -> None:
    lines = (data_folder / "banking77" / "test.csv").read_text().splitlines()[:201]
    path = tmp_path / "banking.csv"
    path.write_text("\n".join(lines))
    report = import_rows(notes, path)
    assert (report.rows, report.new, report.failures) == (200, 200, {})
    assert {entry.metadata["category"] for entry in notes.documents()} == {
        line.rsplit(",", 1)[1] for line in lines[1:]
    }


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_vectors_of_ones_own(tmp_path: Path, suffix: str) -> None:
    rows: list[dict[str, Any]] = [
        {"id": str(i), "v": [float(i), 1.0, 0.5], "year": 2000 + i} for i in range(4)
    ]
    path = tmp_path / f"v{suffix}"
    if suffix == ".csv":
        write_table(path, ["id", "v", "year"], [[r["id"], json.dumps(r["v"]), str(r["year"])] for r in rows])
    elif suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(rows), path)
    with Collection(tmp_path / "v.omni") as notes:
        assert notes.add_rows(path, vector="v").new == 4
        assert notes.add_rows(path, vector="v").unchanged == 4
        [record] = notes.get("3", vectors=True)
        assert (record.text, record.metadata) == ("", {"year": 2003})
        assert {name: one.tolist() for name, one in record.vectors.items()} == {"vectors": [[3.0, 1.0, 0.5]]}
        notes.add_rows(path, vector="v", space="other")
        assert set(notes.spaces()) == {"vectors", "other"}


def test_a_bad_vector_costs_only_its_row(tmp_path: Path) -> None:
    cells = ["[1, 2]", "", "[1, 2, 3]", "[1, NaN]", "apples", '["a", "b"]', "[]", "[[1, 2]]", "[3, 4]"]
    path = write_table(tmp_path / "v.csv", ["id", "v"], [[str(i), cell] for i, cell in enumerate(cells)])
    with Collection(tmp_path / "v.omni") as notes:
        report = notes.add_rows(path, vector="v")
        assert [entry.id for entry in notes] == ["0", "8"]
        assert report.failures[f"{path}:3"] == "it has no vector in 'v'"
        assert report.failures[f"{path}:4"] == "its vector has 3 numbers, the others of the space 2"
        assert report.failures[f"{path}:5"] == "its vector in 'v' has 1 NaN or infinities"
        assert len(report.failures) == 7
        with pytest.raises(UsageError, match="space='x' is for vectors: name their column"):
            notes.add_rows(path, id="id", text="v", space="x")
