"""Records of documents: texts and vectors of spaces of all kinds, put together from passages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omnivec.store.gathering import text_of
from omnivec.store.records import StoredPassage
from omnivec.store.sqlite import Catalogue
from omnivec.types import SPARSE, SparseRow, SparseRows
from store_samples import document, space


def piece(start: float, text: str, line: int | None = None, unit: str | None = "characters") -> StoredPassage:
    end = start + len(text)
    return StoredPassage(1, 0, "a", start, end, line, text, "text", unit, {})


def test_passages_stand_at_their_offsets() -> None:
    assert text_of([piece(0, "one two"), piece(4, "two three"), piece(8, "three")]) == "one two three"
    assert text_of([piece(2, "a", 2), piece(5, "b", 4), piece(8, "c", 4)]) == "\n a\n\nb  c"
    assert text_of([piece(0, "older", unit=None), piece(3, "er row", unit=None)]) == "older row"
    assert text_of([piece(0.5, "it is", unit="seconds"), piece(3.5, "", unit="seconds")]) == "it is"
    assert text_of([piece(0, "said", unit="seconds"), piece(9, "again", unit="seconds")]) == "said\nagain"
    assert text_of([]) == ""


def test_vectors_of_several_parts_and_of_sparse_spaces(catalogue: Catalogue) -> None:
    catalogue.put_space(replace(space("words"), kind=SPARSE))
    rows = [SparseRow(np.arange(n, dtype=np.int64), np.full(n, 0.5 + n, np.float32)) for n in (1, 2, 3)]
    parts = document("b", ["one", "two"], 5.0, parts=3)
    passages = [
        replace(one, vectors={**one.vectors, "words": row})
        for one, row in zip(document("a", ["x", "y", "z"]).passages, rows, strict=True)
    ]
    catalogue.write([parts, replace(document("a"), passages=tuple(passages)), document("none", [])])
    records = catalogue.records(["none", "a", "b", "unknown"], vectors=True)
    assert set(records) == {"none", "a", "b"}
    assert records["none"].vectors == {} and records["none"].text == ""
    assert set(records["b"].vectors) == {"text"}
    wanted = np.concatenate([one.vectors["text"] for one in parts.passages])
    np.testing.assert_array_equal(records["b"].vectors["text"], wanted)
    words = records["a"].vectors["words"]
    assert isinstance(words, SparseRows)
    assert words.offsets.tolist() == [0, 1, 3, 6]
    assert words.weights.tolist() == [1.5, 2.5, 2.5, 3.5, 3.5, 3.5]
    assert records["a"].vectors["text"].shape == (3, 4)
