"""What it costs to check, copy, export, import and salvage a collection with a vector for each document.

Each document has a text of 40 words, two metadata and one vector of 384 components. Every task runs in a process of its
own, whose CPU seconds and largest resident memory are measured, those of the imports of modules included. The salvaged
collection is sound, so that all of it is taken, and damaged in a hundred pages. Writes results/keeping.csv.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import machine
from omnivec import Collection
from omnivec.store.records import Document, Passage, SpaceRecord
from omnivec.store.sqlite import Catalogue

DIM, WINDOW, PAGE = 384, 2_000, 16_384
FORMATS = ("jsonl", "parquet", "numpy", "faiss")


def documents(first: int) -> Iterator[Document]:
    """A window of documents."""
    draws = np.random.default_rng(first)
    vectors = draws.standard_normal((WINDOW, DIM)).astype(np.float32)
    words = draws.zipf(1.3, (WINDOW, 40)) % 20_000
    for i in range(WINDOW):
        text = " ".join(f"word{word}" for word in words[i])
        facts = {"year": 2000 + i % 25, "tag": f"t{i % 100}"}
        passage = Passage(0, len(text), 1, text, "text", {"vectors": vectors[i][None]}, "characters")
        yield Document(
            str(first + i), "text", "plain", b"12345678" * 4, None, None, 0, 0, 0, facts, 0, (passage,)
        )


def build(folder: Path, count: int) -> str:
    """Makes the collection, and a copy with damaged pages."""
    with Catalogue.open(folder / "notes.omni", create=True) as catalogue:
        catalogue.put_space(SpaceRecord("vectors", "", DIM, "cosine", {}, {}, ()))
        for first in range(0, count, WINDOW):
            catalogue.write(list(documents(first)))
    whole = bytearray((folder / "notes.omni" / "catalogue.sqlite").read_bytes())
    draws = random.Random(0)
    for _ in range(100):
        start = draws.randrange(1, len(whole) // PAGE) * PAGE
        whole[start : start + PAGE] = bytes(PAGE)
    (folder / "damaged.omni").mkdir()
    (folder / "damaged.omni" / "catalogue.sqlite").write_bytes(whole)
    return f"{len(whole):,} bytes"


def tasks(folder: Path, count: int) -> dict[str, Callable[[], str]]:
    """Name of each task -> a function that does it, in this order, and returns what came of it."""

    def opened() -> Collection:
        return Collection(folder / "notes.omni", create=False)

    def salvaged(name: str) -> str:
        report = Collection.salvage(folder / f"{name}.omni", folder / f"salvaged {name}.omni")
        return f"{report.documents} taken, {len(report.damaged) + report.nameless} left out"

    def imported(layout: str) -> str:
        with Collection(folder / f"from {layout}.omni") as new:
            return f"{new.import_all(folder / layout).new} new"

    def exported(layout: str) -> str:
        return f"{opened().export_all(folder / layout, layout).documents} written"

    def backed_up() -> str:
        opened().backup(folder / "backup.omni")
        return "done"

    found: dict[str, Callable[[], str]] = {
        "build": partial(build, folder, count),
        "check": lambda: f"{len(opened().check())} problems",
        "check --deep": lambda: f"{len(opened().check(deep=True))} problems",
        "backup": backed_up,
    }
    for layout in FORMATS:
        found[f"export {layout}"] = partial(exported, layout)
        found[f"import {layout}"] = partial(imported, layout)
    found["salvage, sound"] = partial(salvaged, "notes")
    found["salvage, 100 pages zeroed"] = partial(salvaged, "damaged")
    return found


def main() -> None:
    """Runs each task in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "keeping.csv")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.task:
        started = time.perf_counter()
        result = tasks(given.folder, given.documents)[given.task]()
        seconds, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
        print(result, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, sep="\t")
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in tasks(folder, given.documents):
            program = [sys.executable, __file__, "--task", name, "--folder", str(folder)]
            program += ["--documents", str(given.documents)]
            done = subprocess.run(program, check=True, capture_output=True, text=True)
            result, wall, cpu, peak = done.stdout.strip().split("\n")[-1].split("\t")
            rows.append(
                {
                    "task": name,
                    "documents": given.documents,
                    "result": result,
                    "seconds": machine.significant(float(wall), 3),
                    "cpu_seconds": machine.significant(float(cpu), 3),
                    "peak_mb": round(float(peak)),
                }
            )
            machine.print_table(rows[-1:], ("task", "result", "seconds", "cpu_seconds", "peak_mb"))
            machine.write_csv(given.out, rows, ("task", "documents"))


if __name__ == "__main__":
    main()
