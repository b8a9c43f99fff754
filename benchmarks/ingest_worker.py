"""One store takes documents: ids, texts, three fields of metadata and vectors; called by ingest.py in a fresh process.

Usage: python ingest_worker.py STORE FOLDER ROWS PLACE. Prints one line of JSON.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SOURCES = ("wiki", "news", "blog", "mail")
NAME = "passages"


def fields(rows: int) -> list[dict[str, Any]]:
    """A whole number, a word and a fraction for each row, drawn."""
    chance = random.Random(0)
    return [
        {"year": 1950 + chance.randrange(75), "source": chance.choice(SOURCES), "score": chance.random()}
        for _ in range(rows)
    ]


def cpu() -> float:
    """CPU seconds of this process, all threads together, and of the processes that it has started and that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def by_omnivec(place: str, ids: Any, texts: Any, metadata: Any, vectors: Any) -> dict[str, Any]:
    """One call of `add`, then the vector index; reads a row back."""
    import omnivec
    from omnivec.version import VERSION

    with omnivec.Collection(place) as notes:
        begun, started = cpu(), time.perf_counter()
        notes.add(texts, ids=ids, metadata=metadata, vectors=vectors)
        added, add_wall = cpu() - begun, time.perf_counter() - started
        build: Callable[[], Any] | None = getattr(notes, "build_index", None)
        if build is not None:
            build()
        spent = {"add_cpu": added, "index_cpu": cpu() - begun - added, "add_wall": add_wall}
        row = notes.get([ids[-1]], vectors=True)[0]
        count = notes.counts().documents
        back = [row.text, row.metadata, np.asarray(row.vectors["vectors"])[0].tolist()]
    return {**spent, "rows_back": count, "row": back, "version": VERSION}


def by_chromadb(place: str, ids: Any, texts: Any, metadata: Any, vectors: Any) -> dict[str, Any]:
    """Calls of `add` as large as Chroma allows; it builds its index meanwhile. Reads a row back."""
    import chromadb  # type: ignore[import-not-found,unused-ignore]

    client = chromadb.PersistentClient(place, settings=chromadb.Settings(anonymized_telemetry=False))
    shelf = client.create_collection(NAME, embedding_function=None)
    most = client.get_max_batch_size()
    begun, started = cpu(), time.perf_counter()
    for start in range(0, len(ids), most):
        part = slice(start, start + most)
        shelf.add(ids=ids[part], documents=texts[part], metadatas=metadata[part], embeddings=vectors[part])
    spent = {"add_cpu": cpu() - begun, "index_cpu": 0.0, "add_wall": time.perf_counter() - started}
    row = shelf.get([ids[-1]], include=["documents", "metadatas", "embeddings"])
    back = [row["documents"][0], dict(row["metadatas"][0]), np.asarray(row["embeddings"][0]).tolist()]
    return {**spent, "rows_back": shelf.count(), "row": back, "version": chromadb.__version__}


WAYS = {"omnivec": by_omnivec, "chromadb": by_chromadb}


def main() -> None:
    """Takes the rows, and proves by the last one that they are there."""
    store, folder, rows, place = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    texts = json.loads((folder / "passages.json").read_text(encoding="utf-8"))[:rows]
    vectors = np.load(folder / "vectors.npy")[:rows]
    ids, metadata = [f"doc-{i}" for i in range(rows)], fields(rows)
    found = WAYS[store](place, ids, texts, metadata, vectors)
    text, facts, vector = found.pop("row")
    if found["rows_back"] != rows or text != texts[-1] or facts != metadata[-1]:
        raise SystemExit(f"{store} holds {found['rows_back']} of {rows} rows, or another last one")
    if not np.allclose(vector, vectors[-1], atol=1e-6):
        raise SystemExit(f"{store} holds another vector of the last row")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(json.dumps({**found, "peak_mb": peak}))


if __name__ == "__main__":
    main()
