"""Indexes of FAISS on real vectors: what recall costs, alone and with filters. This is how omnivec's index was chosen.

Two sets of vectors, of different models: `sentences`, those of search_data.py by the default model, with questions of
CACM and Cranfield and held-out passages as queries; `words`, passages of 140 words of wiki17m as the mean of their
words, by a word2vec of 200 dimensions that is trained here, with held-out passages and the same questions as queries.

Every index proposes candidates, which are compared exactly. Each is searched with growing effort (lists that are read,
or the graph's ef) until its recall among the ten nearest is .998. Times are CPU times of the process: a query alone on
one thread, and of a batch of 500 on all. `own` is the recall with vectors of the set as queries, which the index can
measure by itself, each without itself. `--filters` searches with selectors that pass some share of the rows.

Rows go to results/index_choice.csv under the name of the set; rows of other sets stay.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

import machine

Floats = NDArray[np.float32]
HERE = Path(__file__).parent
RESULT = HERE / "results" / "index_choice.csv"
K, BATCH, ENOUGH = 10, 500, 0.998
FACTORIES = {
    "IVF-PQ fs 2": "IVF{lists},PQ{half}x4fs",
    "IVF-RaBitQ fs 1 bit": "IVF{lists},RaBitQfs",
    "IVF-RaBitQ fs 2 bits": "IVF{lists},RaBitQfs2",
    "IVF-RaBitQ fs 4 bits": "IVF{lists},RaBitQfs4",
    "IVF-RaBitQ 1 bit": "IVF{lists},RaBitQ",
    "IVF-SQ8": "IVF{lists},SQ8",
    "IVF-Flat": "IVF{lists},Flat",
    "HNSW16": "HNSW16,Flat",
    "HNSW32": "HNSW32,Flat",
    "HNSW16 SQ8": "HNSW16,SQ8",
}
MULTIPLES = {
    "IVF-PQ fs 2": (5, 10),
    "IVF-RaBitQ fs 1 bit": (5, 10, 20),
    "IVF-RaBitQ 1 bit": (10,),
    "IVF-RaBitQ fs 2 bits": (3, 5),
}
FILTERS = (0.5, 0.1, 0.03, 0.01)


def unit(vectors: Floats) -> Floats:
    """Vectors of norm 1."""
    return np.ascontiguousarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1)[:, None], 1e-12))


def words(folder: Path, rows: int) -> tuple[Floats, Floats] | None:
    """Passages of wiki17m and queries by a word2vec that is trained once."""
    made = folder / "words.npy"
    if not made.exists() or not made.with_name("words-queries.npy").exists():
        wiki = machine.needed("wiki17m", "wiki17m_docs.txt.bz2")
        if not wiki or not machine.needed("cacm") or not machine.needed("cranfield"):
            return None
        import omnivec
        from text_quality import cacm, cranfield

        folder.mkdir(parents=True, exist_ok=True)
        articles = list(machine.articles(wiki))
        if not (folder / "word2vec").exists():
            (folder / "wiki.txt").write_text("\n".join(articles), encoding="utf-8")
            omnivec.train("word2vec", folder / "wiki.txt", dim=200, epochs=1).save(folder / "word2vec")
        model = omnivec.load(folder / "word2vec")
        split = [article.split() for article in articles]
        pieces = [" ".join(one[i : i + 140]) for one in split for i in range(0, len(one), 140)]
        drawn = [pieces[i] for i in np.random.default_rng(0).permutation(len(pieces)).tolist()]
        questions = [text for judged in (cacm, cranfield) for text in judged()[1].values()]
        np.save(made, model.run(drawn[: rows + 10]).vectors[:rows])
        np.save(made.with_name("words-queries.npy"), model.run([*questions, *drawn[-700:]]).vectors)
    return np.load(made), np.load(made.with_name("words-queries.npy"))


def exact(
    vectors: Floats, queries: Floats, allowed: NDArray[Any] | None = None, skip: Any = None
) -> NDArray[Any]:
    """(q, 10) the nearest rows of each query; `skip` is a row for each that does not count."""
    scores = queries @ vectors.T
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    if skip is not None:
        scores[np.arange(len(queries)), skip] = -np.inf
    near = np.argpartition(-scores, K, axis=1)[:, :K]
    return near


def rescored(vectors: Floats, query: Floats, rows: NDArray[Any]) -> NDArray[Any]:
    """The ten nearest of some rows by their vectors."""
    rows = rows[rows >= 0]
    scores = vectors[rows] @ query
    return rows[np.argsort(-scores)[:K]]


def efforts(index: Any, name: str) -> Iterator[tuple[int, Any]]:
    """Growing numbers of lists, or values of ef, with the parameters of a search."""
    if name.startswith("HNSW"):
        for ef in (16, 24, 32, 48, 64, 96, 128, 192, 256):
            yield ef, lambda sel=None, ef=ef: faiss.SearchParametersHNSW(efSearch=ef, sel=sel)
        return
    probes = 4
    while probes <= index.nlist:
        yield probes, lambda sel=None, probes=probes: faiss.SearchParametersIVF(nprobe=probes, sel=sel)
        probes = probes * 3 // 2


def shares(found: NDArray[Any], right: NDArray[Any]) -> float:
    """Recall: the share of the right rows that were found, over all queries."""
    return float(np.mean([np.isin(one, row).mean() for one, row in zip(right, found, strict=True)]))


def one_by_one(
    index: Any, vectors: Floats, queries: Floats, most: int, parameters: Any
) -> tuple[NDArray[Any], float]:
    """The ten nearest of each query, and the CPU milliseconds of one."""
    faiss.omp_set_num_threads(1)
    found = np.full((len(queries), K), -1, np.int64)
    begun = time.process_time()
    for i in range(len(queries)):
        _, rows = index.search(queries[i : i + 1], most, params=parameters)
        best = rescored(vectors, queries[i], rows[0])
        found[i, : len(best)] = best
    return found, (time.process_time() - begun) * 1000 / len(queries)


def batched(index: Any, queries: Floats, most: int, parameters: Any, threads: int) -> float:
    """CPU milliseconds of a query in a batch, without the exact comparison."""
    faiss.omp_set_num_threads(threads)
    begun = time.process_time()
    index.search(queries[:BATCH], most, params=parameters)
    return (time.process_time() - begun) * 1000 / len(queries[:BATCH])


def measured(
    index: Any, name: str, vectors: Floats, queries: Floats, threads: int
) -> Iterator[dict[str, Any]]:
    """One row for each effort and number of candidates."""
    right = exact(vectors, queries)
    own = np.random.default_rng(1).choice(len(vectors), 500, replace=False)
    own_right = exact(vectors, vectors[own], skip=own)
    for multiple in MULTIPLES.get(name, (2,)):
        last = 0.0
        for effort, parameters in efforts(index, name):
            most = multiple * K if name.startswith("IVF") else min(effort, multiple * K)
            found, alone = one_by_one(index, vectors, queries, most, parameters())
            _, proposed = index.search(vectors[own], most + 1, params=parameters())
            recall = shares(found, right)
            yield {
                "candidates": most,
                "effort": effort,
                "recall": f"{recall:.4f}",
                "own": f"{shares(proposed, own_right):.4f}",
                "cpu_ms": f"{alone:.3f}",
                "cpu_ms_batched": f"{batched(index, queries, most, parameters(), threads):.3f}",
            }
            if recall >= ENOUGH or (effort > 100 and recall - last < 0.0005):
                break
            last = recall


def filtered(
    index: Any, name: str, vectors: Floats, queries: Floats, multiple: int
) -> Iterator[dict[str, Any]]:
    """One row for each filter and effort; and the exact comparison of all that pass."""
    chance = np.random.default_rng(2)
    for share in FILTERS:
        allowed = chance.random(len(vectors)) < share
        rows = np.flatnonzero(allowed)
        right = exact(vectors, queries, allowed)
        bits = np.packbits(allowed, bitorder="little")
        selector = faiss.IDSelectorBitmap(bits)
        begun = time.process_time()
        for query in queries[:100]:
            scores = vectors[rows] @ query
            np.argpartition(-scores, K)
        compared = (time.process_time() - begun) * 10
        yield {
            "filter": share,
            "candidates": len(rows),
            "recall": "1",
            "cpu_ms": f"{compared:.3f}",
            "index": "exact",
        }
        for effort, parameters in efforts(index, name):
            found, alone = one_by_one(index, vectors, queries, multiple * K, parameters(selector))
            recall = shares(found, right)
            yield {
                "filter": share,
                "candidates": multiple * K,
                "effort": effort,
                "recall": f"{recall:.4f}",
                "cpu_ms": f"{alone:.3f}",
            }
            if recall >= ENOUGH:
                break


def made(name: str, vectors: Floats, lists: int, points: int, rounds: int) -> tuple[Any, float, int]:
    """An index, the CPU seconds that it took, and its bytes."""
    index = faiss.index_factory(
        vectors.shape[1],
        FACTORIES[name].format(lists=lists, half=vectors.shape[1] // 2),
        faiss.METRIC_INNER_PRODUCT,
    )
    begun = time.process_time()
    faiss.omp_set_num_threads(1)
    if hasattr(index, "cp"):
        index.cp.niter, index.cp.min_points_per_centroid, index.cp.seed = rounds, 1, 1234
        index.cp.max_points_per_centroid = points
        drawn = np.sort(
            np.random.default_rng(3).choice(len(vectors), min(len(vectors), points * lists), replace=False)
        )
        index.train(vectors[drawn])
    elif not index.is_trained:
        index.train(vectors[:20_000])
    if hasattr(index, "hnsw"):
        index.hnsw.efConstruction = 100
    index.add(vectors)
    return index, time.process_time() - begun, len(faiss.serialize_index(index))


FIELDS = [
    "set",
    "rows",
    "dim",
    "index",
    "lists",
    "points",
    "rounds",
    "build_cpu_s",
    "bytes",
    "filter",
    "candidates",
    "effort",
    "recall",
    "own",
    "cpu_ms",
    "cpu_ms_batched",
]


def write(rows: list[dict[str, Any]], label: str) -> None:
    """Replaces the rows of a set."""
    kept = []
    if RESULT.exists():
        with RESULT.open(newline="", encoding="utf-8") as stream:
            kept = [row for row in csv.DictReader(stream) if row["set"] != label]
    with RESULT.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, FIELDS, lineterminator="\n")
        table.writeheader()
        table.writerows([*kept, *rows])


def main() -> None:
    """Measures the indexes on a set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("set", choices=["sentences", "words"])
    parser.add_argument("--folder", type=Path, default=Path("build/search"))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--indexes", default=",".join(FACTORIES), help="names, with commas between")
    parser.add_argument("--lists", type=int, default=0)
    parser.add_argument("--points", type=int, default=40, help="vectors per list for k-means")
    parser.add_argument("--rounds", type=int, default=8, help="iterations of k-means")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--filters", action="store_true")
    parser.add_argument("--label", help="name of the set in the table")
    options = parser.parse_args()
    if options.set == "words":
        loaded = words(options.folder, options.rows)
    else:
        loaded = np.load(options.folder / "vectors.npy"), np.load(options.folder / "queries.npy")
    if loaded is None:
        return
    vectors, queries = (
        unit(loaded[0][: options.rows]),
        unit(loaded[1][:: max(1, len(loaded[1]) // options.queries)]),
    )
    lists = options.lists or int(1.62 * np.sqrt(len(vectors)))
    threads, rows = faiss.omp_get_max_threads(), []
    for name in options.indexes.split(","):
        index, seconds, size = made(name, vectors, lists, options.points, options.rounds)
        facts = {
            "set": options.label or options.set,
            "rows": len(vectors),
            "dim": vectors.shape[1],
            "index": name,
            "lists": lists if name.startswith("IVF") else "",
            "points": options.points,
            "rounds": options.rounds,
            "build_cpu_s": f"{seconds:.1f}",
            "bytes": size,
        }
        every = measured(index, name, vectors, queries, threads)
        if options.filters:
            every = filtered(index, name, vectors, queries, MULTIPLES.get(name, (2,))[-1])
        for row in every:
            rows.append({**facts, **row})
            print(
                *(f"{key}={rows[-1].get(key)}" for key in FIELDS[3:] if rows[-1].get(key) not in (None, "")),
                flush=True,
            )
        write(rows, options.label or options.set)


if __name__ == "__main__":
    main()
