"""When documents are committed: after a few seconds' work, so that little is lost with a killed run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omnivec.collection import indexing
from omnivec.collection.indexing import Draft, Indexer, Written
from omnivec.collection.spaces import Writer
from omnivec.inputs.content import Content, Piece
from omnivec.store.records import SpaceRecord
from omnivec.store.sqlite import Catalogue
from omnivec.types import Encoded


class Slow:
    """A model that takes its time by a clock of its own."""

    def __init__(self, each: float) -> None:
        self.each, self.now = each, 0.0

    def task_prompt(self, task: str) -> str:
        return ""

    def run(self, items: list[str], prompt: str | None) -> Encoded:
        self.now += self.each * len(items)
        n = len(items)
        counts = np.ones(n, np.int64)
        return Encoded(np.ones((n, 2), np.float32), np.arange(n), {}, counts, np.zeros(n, np.int64))


def run(
    folder: Path, each: float, documents: int, reading: float = 0.0
) -> tuple[list[tuple[float, int]], Catalogue]:
    """For each report: when it came, and how many documents were committed by then."""
    catalogue = Catalogue.open(folder, create=True)
    catalogue.put_space(SpaceRecord("text", "m", 2, "cosine", {}, {}, ()))
    model: Any = Slow(each)
    seen: list[tuple[float, int]] = []

    def report(written: Written) -> None:
        assert catalogue.document(written.id) is not None, "told before it was committed"
        seen.append((model.now, catalogue.counts().documents))

    indexer = Indexer(catalogue, [Writer("text", model)], report, clock=lambda: model.now)
    for i in range(documents):
        model.now += reading
        content = Content("text", b"x", "x", "x")
        indexer.put(Draft(id=f"d{i}", content=content, pipeline="how", pieces=[Piece(0, 1, 1, "x", "x")]))
    indexer.flush()
    return seen, catalogue


@pytest.mark.parametrize("each", [0.01, 0.1, 1.0])
def test_a_slow_model_commits_every_few_seconds(tmp_path: Path, each: float) -> None:
    seen, catalogue = run(tmp_path / "notes.omni", each, 200)
    with catalogue:
        times = sorted({when for when, _ in seen})
        gaps = np.diff([times[0], *times])
        assert len(seen) == 200 and gaps.max() <= indexing.SECONDS + each
        assert times[0] <= indexing.FIRST * each


def test_a_fast_model_commits_as_much_together_as_ever(tmp_path: Path) -> None:
    seen, catalogue = run(tmp_path / "notes.omni", 0.0001, 1200)
    with catalogue:
        together = [seen.count(one) for one in dict.fromkeys(seen)]
        assert together == [
            indexing.FIRST,
            indexing.PASSAGES,
            indexing.PASSAGES,
            1200 - indexing.FIRST - 1024,
        ]


def test_what_is_read_slowly_does_not_wait_for_more(tmp_path: Path) -> None:
    seen, catalogue = run(tmp_path / "notes.omni", 0.0, 40, reading=0.5)
    with catalogue:
        assert [n for _, n in seen[:14]] == [7] * 7 + [14] * 7
