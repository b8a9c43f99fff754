"""One query against all vectors: a product by one thread (NumPy's einsum) and by those of the BLAS, by size.

Each size is measured on the machine as it is, and beside as many busy processes as there are cores: milliseconds on the
clock and of CPU time, medians of interleaved repetitions. Writes results/exact_search.csv.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import machine

DIM = 384


def spin() -> None:
    """Keeps one core busy."""
    while True:
        sum(range(10_000))


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Some processes that compute all the time."""
    started = [multiprocessing.Process(target=spin, daemon=True) for _ in range(processes)]
    for process in started:
        process.start()
    try:
        yield
    finally:
        for process in started:
            process.kill()


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds on the clock, and of CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000


def measured(rows: int, repetitions: int) -> list[dict[str, object]]:
    """Both ways over one matrix, in turns."""
    chance = np.random.default_rng(0)
    matrix = chance.standard_normal((rows, DIM), np.float32)
    query = chance.standard_normal(DIM, np.float32)
    ways = {
        "one thread": lambda: np.einsum("ij,j->i", matrix, query),
        "BLAS": lambda: np.matmul(query[None], matrix.T),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repetitions):
        for name, way in ways.items():
            times[name].append(spent(way))
    return [
        {"rows": rows, "dim": DIM, "way": name, "ms": wall, "cpu_ms": cpu}
        for name, own in times.items()
        for wall, cpu in [np.round(np.median(own, axis=0), 3).tolist()]
    ]


def main() -> None:
    """Measures all sizes, quiet and busy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=31)
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "exact_search.csv")
    arguments = parser.parse_args()
    found = []
    for processes in (0, machine.cores()):
        with busy(processes):
            for rows in (1_000, 11_000, 40_000, 100_000, 300_000):
                found += [
                    {"busy_processes": processes, **row} for row in measured(rows, arguments.repetitions)
                ]
    machine.print_table(found, list(found[0]))
    machine.write_csv(arguments.out, found, ("busy_processes", "rows", "dim", "way", "cpu"))


if __name__ == "__main__":
    main()
