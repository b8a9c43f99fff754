"""Where `omnivec embed` takes rows from, without a model."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from omnivec.cli.rows import ItemSource
from omnivec.errors import ItemError, UsageError


def test_rows_of_parquet_and_of_packed_files_are_items(tmp_path: Path) -> None:
    table = pyarrow.table({"id": [1, 2, 3], "body": ["one", None, "three"]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b'body,id\n"one",1\n'))
    source = ItemSource([str(tmp_path / "a.parquet"), str(tmp_path / "a.csv.gz")], "body", lines=False)
    source.check()
    assert list(source) == ["one", None, "three", "one"] and source.failures == []
    with pytest.raises(ItemError, match=r"a\.parquet has no column 'text'; its columns: id, body"):
        ItemSource([str(tmp_path / "a.parquet")], "text", lines=False).check()
    with pytest.raises(UsageError, match="has rows: name the field"):
        ItemSource([str(tmp_path / "a.parquet")], None, lines=False).check()
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\ntwo\n"))
    assert list(ItemSource([str(tmp_path / "a.txt.gz")], None, lines=True)) == ["one", "two"]


def test_a_quote_that_is_never_closed_is_said_and_what_came_before_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('body\none\n"two\nthree\n')
    source = ItemSource([str(tmp_path / "a.csv")], "body", lines=False)
    assert list(source) == ["one"]
    assert source.failures == [f"{tmp_path / 'a.csv'} line 4: unexpected end of data"]
