"""Training pairs from memory and files, and the order of batches."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnivec.errors import UsageError
from omnivec.training.data import batches, per_epoch, read_pairs
from omnivec.training.labelled import read_labelled
from omnivec.training.recipes.align import read_items
from omnivec.training.texts import several

PAIRS = [("a", "b"), ("c, d", 'e "f"\nline two\u2028same line')]
TRIPLES = [("a", "b", "x"), ("c", "d", "y")]


def test_pairs_from_memory() -> None:
    assert read_pairs(PAIRS) == PAIRS
    assert read_pairs(iter([list(t) for t in TRIPLES])) == TRIPLES
    assert read_pairs([{"sentence1": "a", "sentence2": "b", "score": 1}, {"query": "c", "answer": "d"}]) == [
        ("a", "b"),
        ("c", "d"),
    ]


@pytest.mark.parametrize(
    ("reader", "columns"),
    [
        (read_pairs, ("anchor", "positive")),
        (read_labelled, ("text", "label")),
        (partial(read_items, read_as=()), ("left", "right")),
    ],
)
def test_of_a_table_the_rows_are_asked_for_and_they_are_taken(
    reader: Callable[[Any], Any], columns: tuple[str, str]
) -> None:
    left, right = columns
    values = {left: ["a", "b", "c", "d"], right: ["e", "f", "g", "h"]}
    records = np.array(list(zip(*values.values(), strict=True)), [(left, "U1"), (right, "U1")])
    for data in (pyarrow.table(values), values, records):
        with pytest.raises(UsageError, match=r"give its rows, list\(zip\(") as raised:
            reader(data)
        way = str(raised.value).partition("give its rows, ")[2]
        assert len(reader(eval(way, {"data": data}))) == 4
    with pytest.raises(UsageError, match="give one of its columns"):
        several(pyarrow.table(values), "texts")


QUOTED = 'a,b\n"c, d","e ""f""\nline two\u2028same line"\n'


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("plain.csv", QUOTED, PAIRS),
        ("named.csv", "score,Positive,anchor\n1,b,a\n\n0,d,c\n", [("a", "b"), ("c", "d")]),
        ("sts.csv", "\ufeffsentence1,sentence2,score\na,b,5.0\nc,d,1.2\n", [("a", "b"), ("c", "d")]),
        ("three.tsv", "a\tb\tx\nc\td\ty\n", TRIPLES),
        ("named.tsv", "negative\tanchor\tpositive\nx\ta\tb\ny\tc\td\n", TRIPLES),
        ("rows.jsonl", "\n".join(json.dumps(row) for row in PAIRS), PAIRS),
        (
            "keys.jsonl",
            '{"anchor": "a", "positive": "b", "negative": "x"}\n\n{"negative": "y", "anchor": "c", "positive": "d"}\n',
            TRIPLES,
        ),
    ],
)
def test_pairs_from_files(tmp_path: Path, name: str, content: str, expected: Any) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert read_pairs(path) == read_pairs(str(path)) == expected


@pytest.mark.parametrize("named", [True, False])
def test_every_kind_of_file_serves_every_reader_of_rows(tmp_path: Path, named: bool) -> None:
    left, right = [f"a{i}" for i in range(4)], [f"b{i}" for i in range(4)]
    readers: list[tuple[Callable[[Any], Any], tuple[str, str]]] = [
        (read_pairs, ("question", "answer")),
        (read_labelled, ("sentence", "class")),
        (partial(read_items, read_as=[lambda cell, _: cell] * 2), ("left", "right")),
    ]
    for read, columns in readers:
        names = columns if named else ("x", "y")
        expected = list(zip(left, right, strict=True))
        csv = "".join(f"{one},{other}\n" for one, other in ([names] if named else []) + expected)
        objects = [dict(zip(columns, row, strict=True)) if named else list(row) for row in expected]
        lines = "\n".join(map(json.dumps, objects))
        pyarrow.parquet.write_table(
            pyarrow.table(dict(zip(names, (left, right), strict=True))), tmp_path / "a.parquet"
        )
        (tmp_path / "a.csv").write_text(csv)
        (tmp_path / "a.TSV").write_text(csv.replace(",", "\t"))
        (tmp_path / "a.csv.gz").write_bytes(gzip.compress(csv.encode()))
        (tmp_path / "a.ndjson").write_text(lines)
        (tmp_path / "a.jsonl.bz2").write_bytes(bz2.compress(lines.encode()))
        for name in ("a.parquet", "a.csv", "a.TSV", "a.csv.gz", "a.ndjson", "a.jsonl.bz2"):
            assert read(tmp_path / name) == expected, name


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            'anchor,positive\na,b\n"two\nlines",\nc,d\n',
            r"1 of 3 rows cannot be used \(line 4: the positive is",
        ),
        ("b.csv", "a,b\nc,d,e\n", r"line 2: 3 texts, expected 2"),
        ("c.csv", "a,b,c,d\ne,f,g,h\n", r"line 1: 4 texts, expected 2 or 3; line 2"),
        (
            "d.csv",
            "anchor,text\na,b\n",
            "the columns anchor, text name only anchor: positive/answer/sentence2 is missing",
        ),
        ("e.csv", 'a,b\nc,"d\n', "e.csv line 2: unexpected end of data"),
        ("f.csv", "", "0 pairs; at least 2"),
        ("g.csv", "anchor,positive\na,b\n", "1 pairs; at least 2"),
        (
            "h.jsonl",
            '["a", "b"]\n{"a": \n["c", 7]\n"text"\n{"x": 1}\n',
            "4 of 5 .*line 2: not JSON.*line 3: the positive is 7, an int.*line 4: 'text'.*and 1 more",
        ),
        ("i.jsonl", '["a", "b", "b"]\n["a", "b", "c"]', "line 1: the negative equals the positive"),
        ("j.txt", "a b", "pairs come from .csv, .tsv, .jsonl"),
        ("k.csv", b"a,\xff\n", "not UTF-8 at byte 2"),
        ("l.csv", None, "cannot be read: does not exist"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: str | bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=message) as raised:
        read_pairs(path)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "0 pairs"),
        (7, "data: 7, an int is not an item"),
        ({"anchor": "a"}, "data is a dict, which holds columns"),
        ([("a", "b"), ("a",)], "item 1: 1 texts, expected 2"),
        ([("a", "b"), "ab"], "item 1: 'ab'"),
        ([("a", " "), ("a", "b")], "item 0: the positive is empty"),
        ([("a", "b"), ("a", "b", "c")], "item 1: 3 texts, expected 2"),
    ],
)
def test_bad_rows_are_named(data: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_pairs(data)


@given(count=st.integers(2, 200), size=st.integers(2, 40), seed=st.integers(0, 5))
def test_each_pass_has_every_row_once(count: int, size: int, seed: int) -> None:
    many = per_epoch(count, size)
    endless = batches(count, size, seed)
    for _ in range(2):
        chosen = list(islice(endless, many))
        sizes = [len(batch) for batch in chosen]
        assert sorted(np.concatenate(chosen).tolist()) == list(range(count))
        assert min(sizes) > 1  # a pair alone has nothing to be told from
        assert max(sizes) <= (3 if size == 2 and count % 2 else size)
        assert max(sizes) - min(sizes) <= 1


def test_order_hangs_on_the_seed_and_the_pass() -> None:
    first, again, other = (np.concatenate(list(islice(batches(50, 10, s), 10))).tolist() for s in (0, 0, 1))
    assert first == again != other
    assert first[:50] != first[50:]


def test_rows_may_be_an_array_of_texts(tmp_path: Path) -> None:
    rows = [("a cat", "a kitten"), ("a dog", "a puppy"), ("a cow", "a calf")]
    for kind in ("U", object):
        assert read_pairs(np.array(rows, kind)) == rows
    with pytest.raises(UsageError, match="item 0: 4 texts"):
        read_pairs(np.full((2, 4), "a"))
