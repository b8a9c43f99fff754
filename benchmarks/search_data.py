"""The vectors that search.py searches: passages of real texts, held-out queries, and a million rows made from them.

    vectors.npy     (n, 384) float32, unit length: passages in a drawn order, so that the first rows are a sample
    texts.json      their texts
    queries.npy     (1,000, 384) float32; queries.json their texts
    million.npy     (1,000,000, 384) float32: vectors.npy, and rows made from them (`enlarge`)
    parents.npy     (1,000,000,) int64: of each of these, the row of vectors.npy whose text it has

Passages are all records of CACM and Cranfield, and pieces of 40 words of wiki17m, drawn from all of its articles. The
queries are all questions of CACM and Cranfield, and other pieces of wiki17m. No query is a passage.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import machine
from search_shared import Floats, Ints, Rows, blocks, exact, save, write_json

QUERIES, WORDS = 1_000, 40
CHUNK, EARLY = 2_000, 20_000
NEIGHBOURS, SCALE = 8, 0.3


def texts(rows: int) -> tuple[list[str], list[str]] | None:
    """So many passages and 1,000 queries, each once; None, and said, where a data set is not there."""
    wiki = machine.needed("wiki17m", "wiki17m_docs.txt.bz2")
    if not wiki or not machine.needed("cacm") or not machine.needed("cranfield"):
        return None
    from text_quality import cacm, cranfield

    judged = [cacm()[:2], cranfield()[:2]]
    passages = [text for documents, _ in judged for text in documents.values()]
    queries = [text for _, questions in judged for text in questions.values()]
    asked = set(queries)
    passages = [text for text in dict.fromkeys(passages) if text not in asked][: rows // 2]
    pieces = [piece for piece in dict.fromkeys(_pieces(wiki)) if piece not in asked]
    chance = np.random.default_rng(0)
    drawn = chance.permutation(len(pieces))
    queries = list(dict.fromkeys(queries))
    held, rest = np.split(drawn, [QUERIES - len(queries)])
    passages += [pieces[i] for i in rest[: rows - len(passages)].tolist()]
    if len(passages) < rows:
        raise SystemExit(f"the data sets hold {len(passages)} passages, and --rows asks for {rows}")
    order = chance.permutation(rows).tolist()
    return [passages[i] for i in order], queries + [pieces[i] for i in held.tolist()]


def _pieces(wiki: Path) -> Iterator[str]:
    for article in machine.articles(wiki):
        words = article.split()
        for start in range(0, len(words) - WORDS + 1, WORDS):
            yield " ".join(words[start : start + WORDS])


def embed(folder: Path, rows: int) -> bool:
    """Makes vectors.npy, texts.json, queries.npy and queries.json, and goes on where an earlier run stopped.

    The first 20,000 rows are there before the others.

    Returns:
        Whether they are there; not where a data set is absent.
    """
    from omnivec import load

    folder.mkdir(parents=True, exist_ok=True)
    made = _length(folder / "vectors.npy")
    if made >= rows and not (folder / "parts").exists():
        return True
    found = texts(rows)
    if found is None:
        return False
    passages, queries = found
    model = load()
    print(f"embedding {rows:,} passages with {model.name} in {model.card['precision']}", flush=True)
    write_json(folder / "queries.json", queries)
    save(folder / "queries.npy", model.encode(queries))
    write_json(folder / "texts.json", passages)
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    for part in blocks(rows, CHUNK):
        path = parts / f"{rows}-{part.start}.npy"
        if not path.exists():
            save(path, model.encode(passages[part]))
        if part.stop == EARLY and made < EARLY:
            _join(folder / "vectors.npy", parts, rows, EARLY)
        if part.stop % 10_000 == 0:
            print(f"{part.stop:,} passages are embedded", flush=True)
    _join(folder / "vectors.npy", parts, rows, rows)
    for path in parts.iterdir():
        path.unlink()
    parts.rmdir()
    return True


def _join(path: Path, parts: Path, rows: int, upto: int) -> None:
    arrays = [np.load(parts / f"{rows}-{part.start}.npy") for part in blocks(upto, CHUNK)]
    save(path, np.concatenate(arrays))


def _length(path: Path) -> int:
    return len(np.load(path, mmap_mode="r")) if path.exists() else 0


def enlarge(folder: Path, rows: int, scale: float = SCALE) -> None:
    """Makes million.npy and parents.npy: the real rows first, then made ones.

    A made row is a + t (b - a) + scale (c - d), normalised: `a` is its parent, each real row in its turn, b one of its
    8 nearest in its block of 20,000 rows, t uniform in [0, 0.5], and c - d the displacement of another row from one of
    its own nearest, so that the residual lies in the directions in which real neighbours differ.
    """
    if _length(folder / "million.npy") >= rows:
        return
    real: Floats = np.load(folder / "vectors.npy")[: rows // 2]
    near = np.concatenate([_neighbours(real[part]) + part.start for part in blocks(len(real), EARLY)])
    chance = np.random.default_rng(3)
    partial = folder / "million.partial.npy"
    made = np.lib.format.open_memmap(partial, "w+", np.float32, (rows, real.shape[1]))
    parents = np.arange(rows) % len(real)
    made[: len(real)] = real
    for part in blocks(rows - len(real), 50_000):
        own = parents[len(real) :][part]
        other = chance.integers(len(real), size=len(own))
        picked = chance.integers(NEIGHBOURS, size=(2, len(own)))
        t = chance.uniform(0, 0.5, (len(own), 1)).astype(np.float32)
        vectors = real[own] + t * (real[near[own, picked[0]]] - real[own])
        vectors += np.float32(scale) * (real[other] - real[near[other, picked[1]]])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        made[len(real) + part.start : len(real) + part.stop] = vectors
    made.flush()
    save(folder / "parents.npy", parents)
    partial.replace(folder / "million.npy")


def _neighbours(vectors: Floats) -> Ints:
    """(n, 8): the nearest other rows of each."""
    found = [exact(vectors, vectors[part], NEIGHBOURS + 1)[0] for part in blocks(len(vectors), 2_000)]
    near = np.concatenate(found)
    # Itself is the first, but for rows that are equal.
    own = near == np.arange(len(near))[:, None]
    own[~own.any(axis=1), -1] = True
    kept: Ints = near[~own].reshape(len(near), NEIGHBOURS)
    return kept


def distances(rows: Rows) -> dict[str, Any]:
    """The mean similarity of the queries to their nearest, 10th and 100th nearest row."""
    scores = exact(rows.vectors(), rows.queries(), 100)[1].mean(axis=0)
    sample = rows.vectors()[:2_000]
    return {
        "rows": rows.count,
        "vectors": rows.name,
        "top_1": machine.significant(float(scores[0])),
        "top_10": machine.significant(float(scores[9])),
        "top_100": machine.significant(float(scores[99])),
        "random_pair": machine.significant(float((sample[:1_000] * sample[1_000:]).sum(axis=1).mean())),
    }
