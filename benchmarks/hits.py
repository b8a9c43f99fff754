"""What a search costs beside the comparison of vectors: CPU milliseconds by part.

A collection of `--rows` documents with a vector of their own each (384 components, texts of 400 characters, three
fields of metadata). The ranking is taken out of the calls by giving it results that were found before, so that what is
left is everything around it. Parts are measured in turns; the median and the least of the repetitions are written to
results/hits.csv. Texts: the wiki17m corpus in ../shared/data or OMNIVEC_TEST_DATA.
"""

from __future__ import annotations

import argparse
import bz2
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import machine
from omnivec import Collection
from omnivec.collection import searching
from omnivec.collection.ranking import Ranked
from text_quality import DATA

DIM, LENGTH, BATCH = 384, 400, 10_000
CALLS = 200
"""Calls of a part in one repetition; a tenth of it where a call takes milliseconds."""


def texts(count: int) -> Iterator[str]:
    """Pieces of articles, `LENGTH` characters each; from the beginning again when the corpus ends."""
    with bz2.open(DATA / "wiki17m" / "wiki17m_docs.txt.bz2", "rt", encoding="ascii") as lines:
        corpus = " ".join(lines.read(min(count * LENGTH, 90_000_000)).split())
    for i in range(count):
        start = i * LENGTH % (len(corpus) - LENGTH)
        yield corpus[start : start + LENGTH]


def fill(notes: Collection, rows: int) -> None:
    """Adds the documents in batches."""
    chance = np.random.default_rng(0)
    source = texts(rows)
    for start in range(0, rows, BATCH):
        ids = range(start, min(start + BATCH, rows))
        notes.add(
            [next(source) for _ in ids],
            [f"doc {i}" for i in ids],
            [{"year": 1990 + i % 36, "group": i % 100, "name": f"file{i}.md"} for i in ids],
            vectors=chance.standard_normal((len(ids), DIM)).astype(np.float32),
            show_progress_bar=False,
        )


def parts(notes: Collection, lists: list[list[Ranked]], queries: Any) -> dict[str, Callable[[int], object]]:
    """What is measured, by name; a call takes its number."""
    catalogue = notes._catalogue

    def some_hits(i: int) -> object:
        with catalogue.snapshot():
            return searching.hits(catalogue, [lists[i % len(lists)]])

    def snapshot(i: int) -> None:
        with catalogue.snapshot():
            pass

    keys = [np.array(sorted(one.key for one in found)) for found in lists]
    return {
        "a snapshot, with the check that the files are those that were opened": snapshot,
        "the spaces": lambda i: catalogue.spaces(),
        "the passages of 10 hits": lambda i: catalogue.passages(keys[i % len(keys)], whole=True),
        "10 hits": some_hits,
        "search(vector), without ranking": lambda i: notes.search(queries[i % len(queries)]),
        "search_many(100 vectors), without ranking": lambda i: notes.search_many(queries[:100]),
    }


QUESTIONS = {
    "text: a rare word": "anarchism",
    "text: a short question": "how does the government work",
    "text: common words": "new system used time first year",
    "text: a long question": "one of the most important people in the world who was born in an american state",
}


def slow_parts(notes: Collection) -> dict[str, Callable[[int], object]]:
    """What takes milliseconds."""
    found: dict[str, Callable[[int], object]] = {
        name: lambda i, question=question: notes.search(question, mode="text")  # type: ignore[misc]
        for name, question in QUESTIONS.items()
    }
    found["text: common words, with a filter that 1 % pass"] = lambda i: notes.search(
        QUESTIONS["text: common words"], where={"group": 7}, mode="text"
    )
    found["the keys of a filter that 1 % pass"] = lambda i: notes._catalogue.passage_keys({"group": 7})

    def opened(i: int) -> None:
        Collection(notes.folder, create=False, readonly=True).close()

    found["open and close"] = opened
    return found


def main() -> None:
    """Measures all parts in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument(
        "--collection", type=Path, help="a collection that an earlier run has made; made if absent"
    )
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "hits.csv")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = arguments.collection or Path(place) / "hits.omni"
        made = folder.exists()
        with Collection(folder) as notes:
            if not made:
                fill(notes, arguments.rows)
            rows = measured(notes, arguments.repetitions)
    machine.write_csv(arguments.out, [{"rows": arguments.rows, **row} for row in rows])


def measured(notes: Collection, repetitions: int) -> list[dict[str, Any]]:
    """CPU milliseconds of a call of each part."""
    queries = np.random.default_rng(1).standard_normal((100, DIM)).astype(np.float32)
    with notes._catalogue.snapshot():
        lists = notes._ranking.nearest_to_each({"vectors": list(queries)}, 10)
    notes._ranking.nearest_to_each = (  # type: ignore[method-assign]
        lambda vectors, k, allowed=None: lists[: len(next(iter(vectors.values())))]
    )
    calls = {name: (CALLS, call) for name, call in parts(notes, lists, queries).items()}
    calls |= {name: (CALLS // 20, call) for name, call in slow_parts(notes).items()}
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repetitions):
        for name, (count, call) in calls.items():
            call(0)
            before = time.process_time()
            for i in range(count):
                call(i)
            spent[name].append((time.process_time() - before) / count * 1e3)
    rows = [
        {"part": name, "cpu_ms": round(statistics.median(took), 3), "least_cpu_ms": round(min(took), 3)}
        for name, took in spent.items()
    ]
    for row in rows:
        print(*row.values(), sep="  ", flush=True)
    return rows


if __name__ == "__main__":
    main()
