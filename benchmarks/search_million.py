"""The part of search.py at a million rows: time to open, memory, and a question from the shell."""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np

from cold_start import OUR_PROGRAM, QUESTION, process
from machine import significant
from search_peers import OURS
from search_run import FORMS, Bench, Form, find
from search_shared import read_json

Row = dict[str, Any]
QUERIES = 2_000
FIRST = Form("hits", 1, True, 1)


def opened(bench: Bench, repetitions: int) -> Row:
    """Seconds from the start of a process until it has answered its first query, and its memory after 2,000."""
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        with bench.worker(OURS) as worker:
            find(worker, bench, FIRST)
            seconds.append(time.perf_counter() - start)
    with bench.worker(OURS) as worker:
        find(worker, bench, FIRST)
        first = worker.ask("memory")
        find(worker, bench, replace(FORMS[0], queries=QUERIES))
        memory = worker.ask("memory")
        find(worker, bench, replace(FORMS[2], queries=QUERIES))
        hits = worker.ask("memory")
    raw = bench.rows.vectors().nbytes / 2**20
    return {
        "rows": bench.rows.count,
        "open_and_first_query_s": significant(statistics.median(seconds), 3),
        "first_rss_mb": round(first["rss_mb"]),
        **{name: round(value) for name, value in memory.items()},
        **{f"hits_{name}": round(value) for name, value in hits.items()},
        "raw_mb": round(raw),
        "share_of_raw": significant(memory["rss_mb"] / raw, 3),
    }


def shell(bench: Bench, repetitions: int) -> list[Row]:
    """`omnivec search QUERY` as a whole process, by meaning alone and in its own default mode."""
    place = str(bench.place(OURS) / "rows.omni")
    asked = [QUESTION, *read_json(bench.folder / "queries.json")[:repetitions]]
    rows = []
    for mode in ("hybrid", "vector"):
        ran = []
        for question in asked[: repetitions + 1]:
            command = ["search", question, "--mode", mode, "--collection", place, "--json"]
            ran.append(process([sys.executable, "-c", OUR_PROGRAM, *command]))
        measured = ran[1:]  # the first reads the disk
        rows.append(
            {
                "rows": bench.rows.count,
                "mode": mode,
                "repetitions": len(measured),
                "wall_s": significant(statistics.median(one.wall for one in measured), 3),
                "wall_s_most": significant(max(one.wall for one in measured), 3),
                "cpu_s": significant(statistics.median(one.cpu for one in measured), 3),
                "peak_mb": round(float(np.median([one.peak_mb for one in measured]))),
            }
        )
    return rows
