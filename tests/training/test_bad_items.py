"""Whatever a user's iterable holds is read to its end, or refused by its place; no value of it ends a corpus early."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import omnivec
from omnivec.errors import UsageError
from omnivec.training.data import read_pairs
from omnivec.training.labelled import read_labelled
from omnivec.training.recipes.align import read_items
from omnivec.training.snippets import read_texts
from omnivec.training.tagged import read_documents

pytest.importorskip("numba")


def read_with(recipe: str) -> Callable[[Any], object]:
    return lambda data: omnivec.train(recipe, data, min_count=1)


READERS: dict[str, tuple[Callable[[Any], object], Any]] = {
    "word2vec": (read_with("word2vec"), "a b"),
    "word2vec, lists": (read_with("word2vec"), ["a", "b"]),
    "fasttext": (read_with("fasttext"), "a b"),
    "glove": (read_with("glove"), "a b"),
    "phrases": (read_with("phrases"), "a b"),
    "doc2vec": (read_documents, "a b"),
    "doc2vec, tags": (read_documents, ("tag", "a b")),
    "fasttext_supervised": (read_labelled, ("a b", "x")),
    "distill": (lambda data: list(read_texts(data)), "a b"),
    "contrastive": (read_pairs, ("a", "b")),
    "align": (lambda data: read_items(data, []), ("a", "b")),
}
BAD = [None, float("nan"), 3, b"bytes", {"a": 1}, {"a"}, np.nan, object()]


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_item_is_named_by_its_place(reader: str) -> None:
    read, good = READERS[reader]
    for bad in BAD:
        with pytest.raises(UsageError, match=r"item 20[:' ]") as raised:
            read(iter([good] * 20 + [bad] + [good] * 2_000))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_part_of_an_item_is_named(reader: str) -> None:
    read, good = READERS[reader]
    if isinstance(good, str):
        return
    for bad in (None, float("nan")):
        item = [*good[:-1], bad] if isinstance(good, list) else (*good[:-1], bad)
        with pytest.raises(UsageError, match=r"item 20[:' ].*(None|nan)"):
            read([good] * 20 + [item] + [good] * 30)


class Table:
    """As pandas and polars have it: iterating gives the names of the columns."""

    columns = ("text", "label")

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "data", [Table(), {"a": "b"}, {"a", "b"}, None, 3, b"a b"], ids=lambda data: type(data).__name__
)
def test_what_holds_no_items_in_order_is_refused(reader: str, data: Any) -> None:
    with pytest.raises(UsageError, match=r"^data.*(Table|dict|set|None|3|bytes).*give "):
        READERS[reader][0](data)


@pytest.mark.parametrize("reader", READERS)
def test_an_error_of_the_iterable_passes_through(reader: str) -> None:
    read, good = READERS[reader]

    def items() -> Iterator[Any]:
        yield from [good] * 5
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        read(items())


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.csv", "text,label\nx,a\ny\nz,b\n", "line 3: the label is empty"),
        ("a.csv", "text,kind\nx,a\nz,b\n", "label/class/category/target is missing"),
        ("a.jsonl", '{"text": "x", "label": "a"}\nnull\n', "line 2: None"),
        ("a.jsonl", '{"text": null, "label": "a"}\n', "line 1: the text is None"),
        ("a.jsonl", '{"text": "x", "label": NaN}\n{"text": "y", "label": "b"}', "line 1: the label is nan"),
        ("a.txt", "__label__a x\nno label\n", "line 2: no word begins with __label__"),
    ],
)
def test_rows_of_files_that_lack_something_are_named(
    tmp_path: Path, name: str, content: str, why: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=why):
        read_labelled(tmp_path / name)
