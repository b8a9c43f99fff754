"""How long a collection takes to add documents with their own vectors, beside Chroma: CPU seconds, in turns.

Each row has an id, a passage of wiki17m of about 400 characters, three fields of metadata, and a vector of 384
components, taken from the first rows of a file such as `search.py` makes. Each store takes the rows in a fresh process,
and gives one back. Chroma builds its index as it adds; that of omnivec is built afterwards, and counts too. Chroma is
installed in an environment of its own in the folder. Writes results/ingest.csv.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import machine

CHROMA = "chromadb==1.5.9"
STORES = ("omnivec", "chromadb")
CHARACTERS = 400


def passages(wiki: Path) -> Iterator[str]:
    """Successive words of articles, of at least 400 characters."""
    for article in machine.articles(wiki):
        words: list[str] = []
        size = 0
        for word in article.split():
            words.append(word)
            size += len(word) + 1
            if size >= CHARACTERS:
                yield " ".join(words)
                words, size = [], 0


def prepare(folder: Path, vectors: Path, rows: int) -> bool:
    """Puts the rows into the folder; False, and said, where something is not there."""
    wiki = machine.needed("wiki17m", "wiki17m_docs.txt.bz2")
    if wiki is None or not vectors.exists():
        print(f"skipped: {vectors} is not there: benchmarks/search.py makes it")
        return False
    texts = [text for _, text in zip(range(rows), passages(wiki), strict=False)]
    taken = np.load(vectors, mmap_mode="r")[:rows]
    if len(texts) < rows or len(taken) < rows:
        raise SystemExit(f"there are {len(texts)} passages and {len(taken)} vectors for {rows} rows")
    (folder / "passages.json").write_text(json.dumps(texts), encoding="utf-8")
    np.save(folder / "vectors.npy", np.ascontiguousarray(taken))
    return True


def python(folder: Path, store: str) -> str:
    """The interpreter of a store; an environment with Chroma is made if there is none."""
    if store == "omnivec":
        return sys.executable
    place = folder / "chroma"
    if not (place / "whole").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        subprocess.run([str(place / "bin" / "python"), "-m", "pip", "install", "-q", CHROMA], check=True)
        (place / "whole").touch()
    return str(place / "bin" / "python")


def measured(folder: Path, store: str, rows: int) -> dict[str, Any]:
    """What one store took for the rows, in a fresh process and a new place."""
    place = folder / f"store-{store}"
    shutil.rmtree(place, ignore_errors=True)
    worker = str(machine.HERE / "ingest_worker.py")
    program = [python(folder, store), worker, store, str(folder), str(rows), str(place)]
    out = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    found["disk_mb"] = sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) / 2**20
    shutil.rmtree(place)
    print(store, {name: value for name, value in found.items() if name != "row"}, flush=True)
    return found


def summary(store: str, rows: int, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the runs of a store."""
    middle = {
        name: statistics.median(one[name] for one in runs)
        for name in ("add_cpu", "index_cpu", "add_wall", "peak_mb", "disk_mb")
    }
    whole = statistics.median(one["add_cpu"] + one["index_cpu"] for one in runs)
    return {
        "rows": rows,
        "store": store,
        "version": runs[0]["version"],
        "runs": len(runs),
        "cpu_s": machine.significant(whole),
        "cpu_us_a_row": machine.significant(whole / rows * 1e6, 3),
        "add_cpu_s": machine.significant(middle["add_cpu"]),
        "index_cpu_s": machine.significant(middle["index_cpu"]),
        "add_wall_s": machine.significant(middle["add_wall"]),
        "peak_mb": round(middle["peak_mb"]),
        "disk_mb": round(middle["disk_mb"]),
    }


def main() -> None:
    """Measures each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="for rows, stores and Chroma's environment; kept")
    parser.add_argument(
        "--vectors", type=Path, default=Path(tempfile.gettempdir()) / "omnivec-search" / "vectors.npy"
    )
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "ingest.csv")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="omnivec-ingest-"))
    folder.mkdir(parents=True, exist_ok=True)
    if not prepare(folder, asked.vectors, max(asked.rows)):
        return
    for store in STORES:
        python(folder, store)
    for rows in asked.rows:
        runs: dict[str, list[dict[str, Any]]] = {store: [] for store in STORES}
        for _, store in machine.in_turns(STORES, asked.repetitions):
            runs[store].append(measured(folder, store, rows))
        table = [summary(store, rows, own) for store, own in runs.items()]
        own_time = table[0]["cpu_s"]
        for row in table:
            row["times_omnivec"] = machine.significant(row["cpu_s"] / own_time, 3)
        machine.print_table(table, list(table[0]))
        machine.write_csv(asked.out, table, ("rows", "store", "cpu"))


if __name__ == "__main__":
    main()
