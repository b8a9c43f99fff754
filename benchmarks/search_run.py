"""The steps of search.py: environments, ingest, tuning, and rounds in which all stores take their turn."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import machine
from machine import significant
from search_peers import OURS, PEERS, Peer, read_marker, size_of
from search_shared import SHELVES, Ints, K, Rows, exact, read_json, recall, save, write_json
from search_worker import StoreError, Worker

TARGET, ABOVE = 0.99, 0.995
FILTERED, BATCH = 200, 100
Row = dict[str, Any]


@dataclass(frozen=True)
class Form:
    """A way to ask: "keys", "hits" or "filtered", and how many queries go into a call."""

    name: str
    batch: int
    stores_only: bool
    queries: int


FORMS = (
    Form("keys", 1, False, 1_000),
    Form("keys", BATCH, False, 1_000),
    Form("hits", 1, True, 1_000),
    Form("filtered", 1, True, FILTERED),
)


@dataclass(frozen=True)
class Bench:
    """What is compared.

    Attributes:
        folder: for vectors, environments and stores; nothing else is written but the CSVs.
        rows: that are searched.
        names: of the stores.
        results: folder of the CSVs.
    """

    folder: Path
    rows: Rows
    names: tuple[str, ...]
    results: Path

    def place(self, name: str) -> Path:
        """Of one store."""
        slug = re.sub(r"\W+", "-", name)
        return self.folder / "stores" / f"{self.rows.name}-{self.rows.count}" / slug

    def python(self, name: str) -> str:
        """Of the environment of one store."""
        if name.startswith(OURS):
            return sys.executable
        return str(self.folder / "peers" / PEERS[name].packages[0] / "bin" / "python")

    @contextmanager
    def worker(self, name: str) -> Iterator[Worker]:
        """A store in its process."""
        worker = Worker(self.python(name), name, self.place(name))
        try:
            yield worker
        finally:
            worker.close()


def environments(folder: Path, peers: Sequence[Peer]) -> None:
    """Makes what is missing: an environment for each library, so that their pins do not meet."""
    for packages in dict.fromkeys(peer.packages for peer in peers if peer.packages[0] != OURS):
        place = folder / "peers" / packages[0]
        if not (place / "whole").exists():
            print(f"installing {' '.join(packages)}", flush=True)
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
            pip = [str(place / "bin" / "python"), "-m", "pip", "install", "-q", "--upgrade", *packages]
            subprocess.run(pip, check=True)
            (place / "whole").touch()


def ingest(bench: Bench, rounds: int, again: bool) -> list[Row]:
    """Fills each store so many times in turns; those that are whole stay, unless `again`."""
    waiting = [name for name in bench.names if again or "cpu" not in read_marker(bench.place(name))]
    took: dict[str, list[dict[str, Any]]] = {name: [] for name in waiting}
    for _, name in machine.in_turns(waiting, rounds) if waiting else ():
        place = bench.place(name)
        shutil.rmtree(place, ignore_errors=True)
        try:
            with bench.worker(name) as worker:
                about = {"folder": str(bench.rows.folder), "rows": bench.rows.name, "count": bench.rows.count}
                took[name].append({**worker.ask("ingest", **about), **worker.ask("version")})
        except StoreError as error:
            print(f"{name}: {error}", flush=True)
            continue
        took[name][-1]["disk_mb"] = size_of(place) / 2**20
        middle = sorted(took[name], key=lambda one: float(one["cpu"]))[len(took[name]) // 2]
        write_json(place / "ingested.json", {**middle, "rounds": len(took[name])})
        print(f"{name}: {took[name][-1]['cpu']:.1f} CPU s, {took[name][-1]['wall']:.1f} s", flush=True)
    marked = {name: read_marker(bench.place(name)) for name in bench.names}
    own = marked.get(OURS, {}).get("cpu")
    return [
        {
            "store": name,
            "rows": bench.rows.count,
            "rounds": one["rounds"],
            "cpu_s": significant(one["cpu"]),
            "wall_s": significant(one["wall"]),
            "ratio_cpu": significant(one["cpu"] / own, 3) if own else "",
            "disk_mb": round(one["disk_mb"]),
            "peak_mb": round(one["peak_mb"]),
            "software": one["software"],
        }
        for name, one in marked.items()
        if one
    ]


def truth(bench: Bench) -> tuple[Ints, Ints]:
    """The exact ten nearest rows of each query, and, of the first queries, those on the shelf that it asks for."""
    rows = bench.rows
    path = bench.folder / f"truth-{rows.name}-{rows.count}.npy"
    if not path.exists():
        nearest, _ = exact(rows.vectors(), rows.queries(), K)
        shelves, queries = rows.shelves(), rows.queries()
        of = np.full((FILTERED, K), -1, np.int64)
        for shelf in range(SHELVES):
            keys = np.flatnonzero(shelves == shelf)
            asked = np.arange(shelf, FILTERED, SHELVES)
            of[asked, : len(keys)] = keys[exact(rows.vectors()[keys], queries[asked], K)[0]]
        save(path, np.concatenate([nearest, of]))
    both: Ints = np.load(path)
    return both[:-FILTERED], both[-FILTERED:]


def find(worker: Worker, bench: Bench, form: Form, **options: Any) -> dict[str, Any]:
    """Asks one store all queries of a form."""
    shelves = [i % SHELVES for i in range(form.queries)] if form.name == "filtered" else []
    about = {"folder": str(bench.folder), "count": form.queries, "form": form.name, "batch": form.batch}
    return worker.ask("find", **about, shelves=shelves, **options)


def tuned(bench: Bench, name: str, worker: Worker, wanted: Ints) -> dict[str, Any]:
    """The effort at which a store is fastest among those that reach the recall: {"tune", "recall"}.

    For each value of the second setting the least effort that reaches it is looked for by bisection. It is kept in a
    file beside the store.
    """
    path = bench.place(name) / "tuned.json"
    if path.exists():
        kept: dict[str, Any] = read_json(path)
        return kept
    peer, batch = PEERS[name], FORMS[1]
    choices = []
    for refine in peer.refines:
        low, high = peer.levels
        reached: dict[int, tuple[float, float]] = {}
        while low <= high:
            level = (low + high) // 2
            reply = find(worker, bench, batch, tune=[level, refine])
            reached[level] = (recall(reply["found"], wanted), reply["cpu"])
            if reached[level][0] >= TARGET:
                high = level - 1
            else:
                low = level + 1
        enough = {level: one for level, one in reached.items() if one[0] >= TARGET}
        best = min(enough, default=max(reached))
        single = find(worker, bench, FORMS[0], tune=[best, refine])["cpu"]
        choices.append((not enough, single, [best, refine], reached[best][0]))
    _, _, tune, share = min(choices)
    write_json(path, {"tune": tune, "recall": share})
    return {"tune": tune, "recall": share}


def search(bench: Bench, rounds: int, forms: Sequence[Form] = FORMS) -> list[Row]:
    """Tunes each store, then measures all forms of all stores in turns."""
    wanted, shelved = truth(bench)
    took: dict[tuple[str, Form], list[float]] = {}
    walls: dict[tuple[str, Form], list[float]] = {}
    shares: dict[tuple[str, Form], float] = {}
    efforts: dict[str, list[int]] = {}
    names = [name for name in bench.names if read_marker(bench.place(name))]
    for name in names:
        with bench.worker(name) as worker:
            try:
                effort = tuned(bench, name, worker, wanted)
            except StoreError as error:
                print(f"{name}: {error}", flush=True)
                continue
        efforts[name] = effort["tune"]
        print(f"{name}: recall {effort['recall']:.4f} with {effort['tune']}", flush=True)
    for turn, name in machine.in_turns(list(efforts), rounds):
        with bench.worker(name) as worker:
            find(worker, bench, FORMS[1], tune=efforts[name])
            for form in forms:
                if form.stores_only and not PEERS[name].stores:
                    continue
                reply = find(worker, bench, form)
                took.setdefault((name, form), []).append(reply["cpu"] / form.queries * 1000)
                walls.setdefault((name, form), []).append(reply["wall"] / form.queries * 1000)
                of = shelved if form.name == "filtered" else wanted
                shares[name, form] = recall(reply["found"], of)
        print(f"round {turn + 1}: {name}", flush=True)
    return [_row(bench, key, efforts, took, walls, shares) for key in took]


def _row(
    bench: Bench,
    key: tuple[str, Form],
    efforts: Mapping[str, list[int]],
    took: Mapping[tuple[str, Form], list[float]],
    walls: Mapping[tuple[str, Form], list[float]],
    shares: Mapping[tuple[str, Form], float],
) -> Row:
    """Ratios are medians over the rounds of (this store / omnivec)."""
    (name, form), own = key, took.get((OURS, key[1]))
    ratio = statistics.median(a / b for a, b in zip(took[key], own, strict=True)) if own else None
    cpu = statistics.median(took[key])
    return {
        "store": name,
        "rows": bench.rows.count,
        "form": form.name,
        "batch": form.batch,
        "rounds": len(took[key]),
        "effort": efforts[name][0],
        "refine": efforts[name][1],
        "recall": round(shares[key], 4),
        "cpu_ms": significant(cpu, 3),
        "queries_per_cpu_s": round(1000 / cpu),
        "wall_ms": significant(statistics.median(walls[key]), 3),
        "ratio_cpu": "" if ratio is None else significant(ratio, 3),
        "software": read_marker(bench.place(name))["software"],
    }
