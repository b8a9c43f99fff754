"""From the end of the vocabulary pass to the first rate: how long a user waits for training to show that it runs.

    python benchmarks/words_start.py [--recipe word2vec,fasttext,doc2vec,glove] [--megabytes 0] [--repetitions 3]
                                     [--out benchmarks/results/words_start.csv]

Each run is a process of its own. "cold" has an empty cache, so that all kernels are compiled; "warm" finds what the
cold one left there. CPU seconds, all threads together, tell what a busy machine hides. The text is wiki17m, an article
on each line; 0 megabytes take all of it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine
from machine import significant

PROMISED = 3.0
"""Seconds."""
STATES = ("cold", "warm")


class Watched:
    """In place of stderr: remembers when the first rate was said, and ends the training there."""

    def __init__(self) -> None:
        self.first: tuple[float, float] | None = None

    def write(self, text: str) -> int:
        """Looks for a rate."""
        if self.first is None and ("words/s" in text or "entries/s" in text):
            self.first = clocks()
            raise KeyboardInterrupt
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        """No bars."""
        return False


def clocks() -> tuple[float, float]:
    """Seconds on the clock, and CPU seconds of this process."""
    return time.perf_counter(), time.process_time()


def one(recipe: str, text: Path) -> dict[str, float]:
    """Reads and begins to train in this process; seconds of reading, and from there to the first rate."""
    module: Any = importlib.import_module(f"omnivec.training.recipes.{recipe}")
    options = module.Options(epochs=1, show_progress_bar=True)
    read_at, last = [], module.fit

    def fit(data: Any, options: Any, *more: Any) -> Any:
        if options.dim > 1:  # not the rehearsal
            read_at.append(clocks())
        return last(data, options, *more)

    module.fit, sys.stderr = fit, (watched := Watched())
    begin = clocks()
    module.run(text, options)
    read, said = read_at[0], watched.first or clocks()
    return {
        "read_s": read[0] - begin[0],
        "first_rate_s": said[0] - read[0],
        "read_cpu_s": read[1] - begin[1],
        "first_rate_cpu_s": said[1] - read[1],
    }


def measured(recipe: str, text: Path, repetitions: int) -> list[dict[str, Any]]:
    """A row for each state: medians."""
    found: dict[str, list[dict[str, float]]] = {state: [] for state in STATES}
    for _ in range(repetitions):
        with tempfile.TemporaryDirectory() as cache:
            for state in STATES:
                told = subprocess.run(
                    [sys.executable, __file__, "--one", recipe, str(text)],
                    env={**os.environ, "OMNIVEC_CACHE": cache},
                    stdout=subprocess.PIPE,
                    check=True,
                )
                found[state].append(json.loads(told.stdout))
    return [
        {
            "recipe": recipe,
            "cache": state,
            "repetitions": repetitions,
            **{name: significant(statistics.median(run[name] for run in runs), 3) for name in runs[0]},
            "promised_s": PROMISED,
        }
        for state, runs in found.items()
    ]


def main() -> None:
    """Reads the arguments, measures, prints and writes."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument(
        "--recipe", default="word2vec,fasttext,doc2vec,glove", help="names, parted by commas"
    )
    arguments.add_argument("--megabytes", type=int, default=0, help="of the text; 0 for all")
    arguments.add_argument("--repetitions", type=int, default=3)
    arguments.add_argument("--out", type=Path, default=machine.RESULTS / "words_start.csv")
    arguments.add_argument("--one", nargs=2, metavar=("RECIPE", "TEXT"), help="one run, in this process")
    asked = arguments.parse_args()
    if asked.one:
        print(json.dumps(one(asked.one[0], Path(asked.one[1]))))
        return
    content = machine.wikipedia(asked.megabytes)
    if content is None:
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_bytes(content)
        for recipe in asked.recipe.split(","):
            rows += measured(recipe, text, asked.repetitions)
            machine.print_table(rows[-len(STATES) :], list(rows[0]))
    machine.write_csv(asked.out, rows)


if __name__ == "__main__":
    main()
