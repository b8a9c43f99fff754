"""What the benchmark of searching computes: neighbours, recall, made rows, efforts and bars; a store in its process."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    chance = np.random.default_rng(0)
    for name, count in (("vectors", 300), ("queries", 1_000)):
        rows = chance.standard_normal((count, 16)).astype(np.float32)
        np.save(tmp_path / f"{name}.npy", rows / np.linalg.norm(rows, axis=1, keepdims=True))
    (tmp_path / "texts.json").write_text(json.dumps([f"text {i}" for i in range(300)]), encoding="utf-8")
    return tmp_path


def test_exact_neighbours_in_blocks_are_those_of_a_full_sort(benchmark: Any) -> None:
    chance = np.random.default_rng(1)
    vectors, queries = (chance.standard_normal((n, 8)).astype(np.float32) for n in (100, 7))
    rows, scores = benchmark("search_shared").exact(vectors, queries, 5, block=30)
    near = queries @ vectors.T
    assert np.array_equal(rows, np.argsort(-near, axis=1)[:, :5])
    assert np.allclose(scores, -np.sort(-near, axis=1)[:, :5])


def test_recall_is_the_share_of_the_wanted_rows(benchmark: Any) -> None:
    wanted = np.array([[1, 2], [3, 4]])
    assert benchmark("search_shared").recall([[2, 9], [4, 3]], wanted) == 0.75


def test_made_rows_come_after_the_real_ones_and_are_near_their_parents(benchmark: Any, folder: Path) -> None:
    benchmark("search_data").enlarge(folder, 900)
    real, made = (np.load(folder / f"{name}.npy") for name in ("vectors", "million"))
    parents = np.load(folder / "parents.npy")
    assert made.shape == (900, 16)
    assert np.array_equal(made[:300], real)
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    own = (made * real[parents]).sum(axis=1)
    assert own.mean() > 0.8 > np.abs(made[300:600] @ real[:100].T).mean()
    assert not np.isin(np.round(made[300:, 0], 6), np.round(real[:, 0], 6)).all()


def test_a_store_in_its_process_is_filled_once_and_searched_in_turns(benchmark: Any, folder: Path) -> None:
    run, shared = benchmark("search_run"), benchmark("search_shared")
    bench = run.Bench(folder, shared.Rows(folder, shared.REAL, 300), ("omnivec",), folder)
    [filled] = run.ingest(bench, 1, again=False)
    assert filled["rows"] == 300
    assert filled["cpu_s"] > 0
    assert filled["ratio_cpu"] == 1
    marked = (bench.place("omnivec") / "ingested.json").stat().st_mtime_ns
    run.ingest(bench, 1, again=False)
    assert (bench.place("omnivec") / "ingested.json").stat().st_mtime_ns == marked
    _, shelved = run.truth(bench)
    assert set(shelved[107].tolist()) - {-1} == set(np.flatnonzero(bench.rows.shelves() == 7).tolist())
    rows = run.search(bench, 2)
    assert [(row["form"], row["batch"], row["rounds"]) for row in rows] == [
        ("keys", 1, 2),
        ("keys", 100, 2),
        ("hits", 1, 2),
        ("filtered", 1, 2),
    ]
    assert [row["recall"] for row in rows] == [1, 1, 1, 1]


@pytest.mark.parametrize(("steep", "level"), [(1, 99), (3, 33)])
def test_the_least_effort_that_reaches_the_recall_is_found(
    benchmark: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, steep: int, level: int
) -> None:
    run, shared, peers = (benchmark(name) for name in ("search_run", "search_shared", "search_peers"))
    bench = run.Bench(folder, shared.Rows(folder, shared.REAL, 300), ("chroma",), folder)
    bench.place("chroma").mkdir(parents=True)
    wanted = np.arange(100)[None]
    asked: list[int] = []

    def find(worker: Any, bench: Any, form: Any, tune: Any) -> Any:
        asked.append(tune[0])
        found = [[*range(min(100, steep * tune[0]))]]
        return {"found": found, "cpu": 1.0}

    monkeypatch.setattr(run, "find", find)
    peer = SimpleNamespace(levels=(1, 200), refines=(0,))
    monkeypatch.setitem(peers.PEERS, "chroma", peer)
    assert run.tuned(bench, "chroma", None, wanted)["tune"] == [level, 0]
    asked.clear()
    assert run.tuned(bench, "chroma", None, wanted)["tune"] == [level, 0]
    assert asked == []


def test_bars_compare_with_the_best_that_reaches_the_recall(benchmark: Any) -> None:
    def row(
        store: str, cpu: float, ratio: float, share: float = 0.992, form: str = "keys", batch: int = 1
    ) -> Any:
        return {
            "store": store,
            "form": form,
            "batch": batch,
            "recall": share,
            "cpu_ms": cpu,
            "ratio_cpu": ratio,
        }

    searched = [
        row("omnivec", 0.3, 1),
        row("omnivec", 0.9, 1, form="hits"),
        row("chroma", 1.2, 4),
        row("lancedb IVF_RQ", 2, 6.6, share=0.9),
        row("lancedb IVF_HNSW_SQ", 3.6, 12),
        row("faiss HNSW16", 0.15, 0.5),
        row("faiss IVF RaBitQ", 0.6, 2),
    ]
    ingested = [{"store": "chroma", "ratio_cpu": "4.5"}]
    found = {
        one["bar"]: (one["figure"], one["met"])
        for one in benchmark("search_bars").bars(searched, ingested, [])
    }
    assert found["keys and scores, single, against chroma (CPU)"] == (4, "met")
    assert found["keys and scores, single, against lancedb (CPU)"] == (12, "met")
    assert found["keys and scores, single, CPU time of omnivec / FAISS alone"] == (2, "NOT MET")
    assert found["CPU ms that a whole hit costs beside keys and scores"] == (0.6, "NOT MET")
    assert found["ingest with the index, against Chroma (CPU)"] == (4.5, "NOT MET")
