"""Rows of data files: one set of rules for every format, compressed or not, one row at a time."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from omnivec.errors import ItemError, MissingExtra, UsageError
from omnivec.inputs.files.rows import kind, lines, rows
from patience import PATIENCE

CELLS = [["name", "text"], ["a", 'one, "two"\nthree\u2028four'], ["b", "Ä\t"]]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def quoted(separator: str, end: str = "\n") -> str:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    return "".join(separator.join(map(cell, row)) + end for row in CELLS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", quoted(",")),
        ("a.CSV", "\ufeff" + quoted(",", "\r\n") + "\r\n\n"),
        ("a.csv", quoted(",", "\r")),  # as programs of old wrote them
        ("a.tsv", quoted("\t")),
        ("a.csv.gz", gzip.compress(quoted(",").encode(), mtime=0)),
        ("a.tsv.bz2", bz2.compress(("\ufeff" + quoted("\t")).encode())),
        ("a.jsonl", "\n\n".join(map(json.dumps, CELLS))),
        ("a.ndjson.gz", gzip.compress("\r\n".join(map(json.dumps, CELLS)).encode(), mtime=0)),
    ],
)
def test_the_same_rows_in_every_form(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert [row for _, row in rows(write(tmp_path / name, content))] == CELLS


def test_a_row_says_where_it_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'a,b\n\n"c\nd",e\nf\n')
    assert list(rows(path)) == [(1, ["a", "b"]), (4, ["c\nd", "e"]), (5, ["f"])]
    path = write(tmp_path / "a.jsonl", '\n{"a": 1}\nnull\n{"a":')
    (first, second, (number, broken)) = rows(path)
    assert (first, second, number) == ((2, {"a": 1}), (3, None), 4)
    assert isinstance(broken, ItemError) and "not JSON: Expecting value" in str(broken)


def test_parquet_begins_with_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"n": list(range(3000)), "text": [f"t{i}" for i in range(2999)] + [None]})
    pyarrow.parquet.write_table(table, path)
    found = list(rows(path))
    assert found[:2] == [(0, ["n", "text"]), (1, [0, "t0"])] and found[-1] == (3000, [2999, None])
    write(tmp_path / "cut.parquet", path.read_bytes()[:-9])
    with pytest.raises(UsageError, match=r"cut\.parquet: damaged, or not a Parquet file"):
        next(rows(tmp_path / "cut.parquet"))


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'omnivec\[parquet\]'"):
        next(rows(write(tmp_path / "a.parquet", b"PAR1")))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"a,b\n\xff,c\n", "a.csv is not UTF-8 at byte 4"),
        ("a.csv", "a,b\n".encode("utf-16"), "is UTF-16: save it as UTF-8"),
        ("a.jsonl", b'{"a": "\0"}', "contains zero bytes at byte 7"),
        ("a.csv", 'a,"b\nc,d\n', "a.csv line 2: unexpected end of data"),
        ("a.csv", 'a,"b"c\n', "a.csv line 1: ',' expected after '\"'"),
        ("a.csv.gz", gzip.compress(b"a,b\n" * 99, mtime=0)[:-9], "a.csv.gz cannot be read"),
        ("a.jsonl.bz2", b"BZh9 no", "a.jsonl.bz2 cannot be read"),
        ("absent.csv", None, "absent.csv cannot be read: does not exist"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, name: str, content: Any, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        write(path, content)
    for error in (UsageError, ItemError):
        with pytest.raises(error, match=message) as raised:
            list(rows(path, error=error))
        assert "\n" not in str(raised.value)


def test_bytes_that_are_no_utf_8_may_cost_their_row_only(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"a,b\n\xff,c\nd,e\n")
    assert [row for _, row in rows(path, errors="surrogateescape")] == [
        ["a", "b"],
        ["\udcff", "c"],
        ["d", "e"],
    ]


def test_long_fields_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", f'a,"{"x" * 300_000}"\n')
    assert [len(cell) for _, row in rows(path) for cell in row] == [1, 300_000]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
@pytest.mark.parametrize(
    ("name", "row"), [("a.csv", "\ufeffa,b\n"), ("a.jsonl", '\ufeff["a", "b"]\n'), ("a.tsv", "a\tb\n")]
)
def test_a_row_is_there_before_the_next_is_read(tmp_path: Path, name: str, row: str) -> None:
    os.mkfifo(tmp_path / name)
    read = threading.Event()

    def write_slowly() -> None:
        with (tmp_path / name).open("w", encoding="utf-8") as pipe:
            pipe.write(row)
            pipe.flush()
            read.wait(PATIENCE)
            pipe.write(row.removeprefix("\ufeff"))

    writer = threading.Thread(target=write_slowly)
    writer.start()
    found = rows(tmp_path / name)
    assert next(found) == (1, ["a", "b"])
    read.set()
    assert list(found) == [(2, ["a", "b"])]
    writer.join()


def test_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "\ufeffone\r\ntwo\u2028\x0bthree\n\nfour")
    assert list(lines(path)) == ["one", "two\u2028\x0bthree", "", "four"]
    assert list(lines(write(tmp_path / "a.txt.gz", gzip.compress(b"one\ntwo\n", mtime=0)))) == ["one", "two"]


def test_the_kind_of_a_packed_file_is_that_of_its_content() -> None:
    names = ("a.csv", "a.b.TSV.gz", "a.gz", ".jsonl", "a", "a.jsonl.bz2")
    assert [kind(Path("x.csv") / name) for name in names] == [".csv", ".tsv", "", "", "", ".jsonl"]


@pytest.mark.parametrize("form", ["list", "large_list", "fixed", "list of ints", "with nulls", "of texts"])
def test_columns_of_lists_of_numbers_come_as_arrays_if_asked_for(tmp_path: Path, form: str) -> None:
    types = {
        "list": pyarrow.list_(pyarrow.float32()),
        "large_list": pyarrow.large_list(pyarrow.float64()),
        "fixed": pyarrow.list_(pyarrow.float32(), 2),
        "list of ints": pyarrow.list_(pyarrow.int64()),
        "with nulls": pyarrow.list_(pyarrow.float32()),
        "of texts": pyarrow.list_(pyarrow.string()),
    }
    values: list[Any] = [[1, 2], [3, 4], [5, 6]]
    if form in ("list", "large_list", "list of ints"):
        values[1] = [7, 8, 9]
    if form == "with nulls":
        values[1] = None
    if form == "of texts":
        values = [["a"], [], ["b", "c"]]
    path = tmp_path / "rows.parquet"
    table = pyarrow.table({"id": [0, 1, 2], "v": pyarrow.array(values, types[form])})
    pyarrow.parquet.write_table(table.slice(1), path)
    (_, names), *read = rows(path, arrays={"v"})
    assert names == ["id", "v"]
    found = [row[1] for _, row in read]
    assert [isinstance(one, np.ndarray) for one in found] == [form not in ("with nulls", "of texts")] * 2
    assert [None if one is None else list(one) for one in found] == values[1:]
