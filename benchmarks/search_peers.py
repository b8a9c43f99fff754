"""The stores that search.py compares, each as its users would call it.

A worker with that store's own Python imports this file, so nothing but the standard library and NumPy is imported at
its top.
"""

# ruff: noqa: D102 - `Store` describes the methods of all

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from search_shared import MILLION, Floats, K, Rows, blocks


class Store(Protocol):
    """A store in a folder. Methods that find return what the library returns: `numbers` makes rows of it."""

    def ingest(self, rows: Rows, kind: str) -> None:
        """Fills the empty folder with ids, texts, fields and vectors, and makes an index of this kind."""

    def open(self) -> None:
        """Opens what is in the folder."""

    def tune(self, level: int, refine: int) -> None:
        """Sets the effort of searches: `ef` or `nprobe`, and how many times k candidates are scored again."""

    def one(self, query: Floats) -> Any:
        """Ids and scores of the nearest rows of one query (dim,)."""

    def many(self, queries: Floats) -> Any:
        """The same of several queries (q, dim) in one call."""

    def hits(self, query: Floats) -> Any:
        """Ids, scores, texts and fields."""

    def filtered(self, query: Floats, shelf: int) -> Any:
        """The same of the rows on a shelf."""

    def numbers(self, found: Any) -> list[list[int]]:
        """Numbers of the rows that any of these methods returned, for each query."""


@dataclass(frozen=True)
class Peer:
    """A store with one kind of index.

    Attributes:
        make: opens the store for a folder.
        packages: what pip installs in its environment; the first is the library itself.
        kind: of its index.
        levels: the least and the most effort; (0, 0) for a store that chooses its own.
        refines: values of the second setting to choose from.
        stores: whether it keeps texts and fields, and so takes part beyond keys and scores.
    """

    make: Callable[[Path], Store]
    packages: tuple[str, ...]
    kind: str = ""
    levels: tuple[int, int] = (0, 0)
    refines: tuple[int, ...] = (0,)
    stores: bool = True


class Chroma:
    """chromadb, embedded and persistent."""

    def __init__(self, place: Path) -> None:
        import chromadb

        self._place = str(place)
        self._client = chromadb.PersistentClient(self._place, chromadb.Settings(anonymized_telemetry=False))

    def ingest(self, rows: Rows, kind: str) -> None:
        vectors, texts, fields = rows.vectors(), rows.texts(), rows.fields()
        # Its default of max_neighbors; ef_construction 100 is its default too.
        made = self._client.create_collection("rows", configuration={"hnsw": {"space": "cosine"}})
        for part in blocks(rows.count, self._client.get_max_batch_size()):
            ids = [str(i) for i in range(part.start, part.stop)]
            made.add(ids, np.asarray(vectors[part]), fields[part], texts[part])

    def open(self) -> None:
        self._rows = self._client.get_collection("rows")

    def tune(self, level: int, refine: int) -> None:
        import chromadb
        from chromadb.api.shared_system_client import SharedSystemClient

        self._rows.modify(configuration={"hnsw": {"ef_search": level}})
        # An index that is open keeps its ef: a new client reads the new one.
        SharedSystemClient.clear_system_cache()
        self._client = chromadb.PersistentClient(self._place, chromadb.Settings(anonymized_telemetry=False))
        self.open()

    def one(self, query: Floats) -> Any:
        return self._rows.query(query[None], n_results=K, include=["distances"])

    def many(self, queries: Floats) -> Any:
        return self._rows.query(queries, n_results=K, include=["distances"])

    def hits(self, query: Floats) -> Any:
        return self._rows.query(query[None], n_results=K, include=["distances", "documents", "metadatas"])

    def filtered(self, query: Floats, shelf: int) -> Any:
        include = ["distances", "documents", "metadatas"]
        return self._rows.query(query[None], n_results=K, where={"shelf": shelf}, include=include)

    def numbers(self, found: Any) -> list[list[int]]:
        return [[int(one) for one in ids] for ids in found["ids"]]


class Lance:
    """lancedb on a local folder."""

    def __init__(self, place: Path) -> None:
        import lancedb

        self._database = lancedb.connect(str(place))
        self._level, self._refine = 20, 0

    def ingest(self, rows: Rows, kind: str) -> None:
        import pyarrow as pa
        from lancedb.index import Bitmap

        vectors, texts, fields = rows.vectors(), rows.texts(), rows.fields()

        def batches() -> Iterator[Any]:
            for part in blocks(rows.count, 10_000):
                own = np.asarray(vectors[part])
                flat = pa.array(own.reshape(-1))
                columns = {
                    "id": pa.array([str(i) for i in range(part.start, part.stop)]),
                    "text": pa.array(texts[part]),
                    "shelf": pa.array([one["shelf"] for one in fields[part]], pa.int64()),
                    "year": pa.array([one["year"] for one in fields[part]], pa.int64()),
                    "language": pa.array([one["language"] for one in fields[part]]),
                    "vector": pa.FixedSizeListArray.from_arrays(flat, own.shape[1]),
                }
                yield pa.record_batch(columns)

        first = next(batches())
        table = self._database.create_table(
            "rows", pa.RecordBatchReader.from_batches(first.schema, batches())
        )
        table.create_index("vector", config=self._config(kind))
        table.create_index("shelf", config=Bitmap())

    @staticmethod
    def _config(kind: str) -> Any:
        from lancedb import index

        if kind == "IVF_RQ":
            return index.IvfRq(distance_type="cosine")
        return index.HnswSq(distance_type="cosine", m=16, ef_construction=100)

    def open(self) -> None:
        self._table = self._database.open_table("rows")
        self._hnsw = any(
            one.index_type.upper().replace("_", "") == "IVFHNSWSQ" for one in self._table.list_indices()
        )

    def tune(self, level: int, refine: int) -> None:
        # HNSW refuses an ef below the number of candidates.
        self._level = max(level, K * max(refine, 1)) if self._hnsw else level
        self._refine = refine

    def _asked(self, query: Any, columns: list[str], where: str = "") -> Any:
        asked = self._table.search(query).limit(K).select([*columns, "_distance"])
        # HNSW's partitions hold a million rows each: one is enough below that, and ef is the effort.
        asked = asked.nprobes(1).ef(self._level) if self._hnsw else asked.nprobes(self._level)
        if self._refine:
            asked = asked.refine_factor(self._refine)
        return asked.where(where, prefilter=True) if where else asked

    def one(self, query: Floats) -> Any:
        return self._asked(query, ["id"]).to_arrow()

    def many(self, queries: Floats) -> Any:
        return self._asked([*queries], ["id"]).to_arrow()

    def hits(self, query: Floats) -> Any:
        return self._asked(query, ["id", "text", "shelf", "year", "language"]).to_list()

    def filtered(self, query: Floats, shelf: int) -> Any:
        columns = ["id", "text", "shelf", "year", "language"]
        return self._asked(query, columns, f"shelf = {shelf}").to_list()

    def numbers(self, found: Any) -> list[list[int]]:
        if isinstance(found, list):
            return [[int(one["id"]) for one in found]]
        ids = [int(one) for one in found["id"].to_pylist()]
        if "query_index" not in found.column_names:
            return [ids]
        of: dict[int, list[int]] = {}
        for one, query in zip(ids, found["query_index"].to_pylist(), strict=True):
            of.setdefault(query, []).append(one)
        return [of[query] for query in sorted(of)]


class Qdrant:
    """qdrant-edge-py: a shard of Qdrant in the process."""

    def __init__(self, place: Path) -> None:
        self._place = str(place)
        self._params: Any = None

    def _config(self) -> Any:
        import qdrant_edge as edge

        graph = edge.HnswIndexConfig(16, 100, 10_000)
        return edge.EdgeConfig(edge.EdgeVectorParams(384, edge.Distance.Cosine), hnsw_config=graph)

    def ingest(self, rows: Rows, kind: str) -> None:
        import qdrant_edge as edge

        vectors, texts, fields = rows.vectors(), rows.texts(), rows.fields()
        shard = edge.EdgeShard.create(self._place, self._config())
        shard.update(edge.UpdateOperation.create_field_index("shelf", edge.PayloadSchemaType.Integer))
        for part in blocks(rows.count, 2_000):
            payloads = [{"text": text, **own} for text, own in zip(texts[part], fields[part], strict=True)]
            numbered = zip(range(part.start, part.stop), vectors[part].tolist(), payloads, strict=True)
            shard.update(edge.UpdateOperation.upsert_points([edge.Point(*one) for one in numbered]))
        while shard.optimize():
            pass
        shard.flush()
        shard.close()

    def open(self) -> None:
        import qdrant_edge as edge

        self._edge, self._shard = edge, edge.EdgeShard.load(self._place)

    def tune(self, level: int, refine: int) -> None:
        self._params = self._edge.SearchParams(hnsw_ef=level)

    def _asked(self, query: Floats, payload: bool, where: Any = None) -> Any:
        nearest = self._edge.Query.Nearest(query.tolist())
        return self._edge.QueryRequest(
            limit=K, query=nearest, params=self._params, with_payload=payload, filter=where
        )

    def one(self, query: Floats) -> Any:
        return [self._shard.query(self._asked(query, False))]

    def many(self, queries: Floats) -> Any:
        asked = [self._asked(query, False) for query in queries]
        return self._shard.query_batch(self._edge.QueryBatchRequest(asked))

    def hits(self, query: Floats) -> Any:
        found = self._shard.query(self._asked(query, True))
        return [[(one.id, one.score, one.payload) for one in found]]

    def filtered(self, query: Floats, shelf: int) -> Any:
        edge = self._edge
        where = edge.Filter(must=[edge.FieldCondition("shelf", match=edge.MatchValue(shelf))])
        found = self._shard.query(self._asked(query, True, where))
        return [[(one.id, one.score, one.payload) for one in found]]

    def numbers(self, found: Any) -> list[list[int]]:
        return [[one[0] if isinstance(one, tuple) else one.id for one in ids] for ids in found]


class Faiss:
    """faiss alone: an index of vectors, without ids of one's own, texts and fields."""

    def __init__(self, place: Path) -> None:
        self._file = str(place / "index.faiss")

    def ingest(self, rows: Rows, kind: str) -> None:
        import faiss

        vectors = np.ascontiguousarray(rows.vectors())
        if kind.startswith("HNSW"):
            index = faiss.index_factory(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = 100
        else:
            lists = max(16, round(int(kind) * rows.count**0.5))
            index = faiss.index_factory(
                vectors.shape[1], f"IVF{lists},RaBitQfs,RFlat", faiss.METRIC_INNER_PRODUCT
            )
        index.train(vectors)
        index.add(vectors)
        faiss.write_index(index, self._file)

    def open(self) -> None:
        import faiss

        self._faiss = faiss
        self._index = faiss.read_index(self._file)
        self._refined = hasattr(self._index, "k_factor")

    def tune(self, level: int, refine: int) -> None:
        if self._refined:
            self._index.k_factor = refine
            self._faiss.extract_index_ivf(self._index).nprobe = level
        else:
            self._index.hnsw.efSearch = level

    def one(self, query: Floats) -> Any:
        # Two threads wait for each other longer than one needs for a single query.
        self._faiss.omp_set_num_threads(1)
        return self._index.search(query[None], K)

    def many(self, queries: Floats) -> Any:
        self._faiss.omp_set_num_threads(2)
        return self._index.search(queries, K)

    def hits(self, query: Floats) -> Any:
        raise ValueError("FAISS alone keeps no texts and no fields")

    def filtered(self, query: Floats, shelf: int) -> Any:
        raise ValueError("FAISS alone keeps no texts and no fields")

    def numbers(self, found: Any) -> list[list[int]]:
        listed: list[list[int]] = found[1].tolist()
        return listed


class Omnivec:
    """This library. Keys and scores come from below `search`: no public method returns them alone.

    Real rows are added as a user adds vectors of one's own. A million rows go into the space of the model, below `add`,
    which would embed them: so that a text can be searched for.
    """

    def __init__(self, place: Path) -> None:
        self._place = place / "rows.omni"

    def ingest(self, rows: Rows, kind: str) -> None:
        from omnivec import Collection

        with Collection(self._place) as notes:
            vectors, texts, fields = rows.vectors(), rows.texts(), rows.fields()
            if rows.name == MILLION:
                self._write(notes, rows)
            else:
                for part in blocks(rows.count, 50_000):
                    ids = [str(i) for i in range(part.start, part.stop)]
                    own = np.asarray(vectors[part])
                    notes.add(texts[part], ids, fields[part], vectors=own, show_progress_bar=False)
            self._index(notes)

    def _index(self, notes: Any) -> None:
        """Builds what a large space is searched with, before it is asked for."""
        if hasattr(notes, "build_index"):
            notes.build_index()
            return
        from omnivec.store.index_builder import Builder
        from omnivec.store.matrix import EXACT_ROWS

        [(space, _)] = notes.spaces().items()
        if notes.counts().passages > EXACT_ROWS:
            Builder(self._place, space, "faiss").run(lambda phase, done, total: None)

    def _write(self, notes: Any, rows: Rows) -> None:
        from omnivec import Collection
        from omnivec.store.records import Document, Passage

        with Collection(self._place.parent / "model.omni", model="all-MiniLM-L6-v2") as other:
            other.add(["a text"])
            [record] = other._catalogue.spaces().values()
        catalogue = notes._catalogue
        catalogue.put_space(record)
        vectors, texts, fields = rows.vectors(), rows.texts(), rows.fields()
        for part in blocks(rows.count, 10_000):
            named = zip(range(part.start, part.stop), texts[part], fields[part], vectors[part], strict=True)
            catalogue.write(
                Document(
                    str(i), "text", "", b"", None, None, 0, 0, 0, own, 0,
                    (Passage(0, len(text), 1, text, "text", {record.name: np.array(row)[None]}, "characters"),),
                )
                for i, text, own, row in named
            )  # fmt: skip

    def open(self) -> None:
        from omnivec import Collection

        self._notes = Collection(self._place, create=False)
        [self._space] = self._notes.spaces()

    def tune(self, level: int, refine: int) -> None:
        pass

    def one(self, query: Floats) -> Any:
        notes = self._notes
        with notes._catalogue.snapshot():
            return [notes._ranking.nearest({self._space: query}, K)]

    def many(self, queries: Floats) -> Any:
        notes = self._notes
        with notes._catalogue.snapshot():
            return notes._ranking.nearest_to_each({self._space: [*queries]}, K)

    def hits(self, query: Floats) -> Any:
        return [self._notes.search(query, K)]

    def filtered(self, query: Floats, shelf: int) -> Any:
        return [self._notes.search(query, K, where={"shelf": shelf})]

    def numbers(self, found: Any) -> list[list[int]]:
        # A passage has the number of its row + 1: each document has one, in the order in which they were added.
        return [
            [int(one.document) if hasattr(one, "document") else one.key - 1 for one in ranked]
            for ranked in found
        ]


OURS, CHROMA = "omnivec", "chroma"
REFINES = (2, 3, 5, 10)
PEERS = {
    OURS: Peer(Omnivec, ("omnivec",)),
    CHROMA: Peer(Chroma, ("chromadb",), levels=(10, 600)),
    "lancedb IVF_RQ": Peer(Lance, ("lancedb",), "IVF_RQ", (1, 400), (3, 5, 10)),
    "lancedb IVF_HNSW_SQ": Peer(Lance, ("lancedb",), "IVF_HNSW_SQ", (10, 400), (1, 2)),
    "qdrant": Peer(Qdrant, ("qdrant-edge-py", "numpy"), levels=(10, 600)),
    "faiss IVF RaBitQ": Peer(Faiss, ("faiss-cpu",), "4", (1, 600), REFINES, stores=False),
    "faiss IVF RaBitQ, 8 lists": Peer(Faiss, ("faiss-cpu",), "8", (1, 1000), REFINES, stores=False),
    "faiss HNSW16": Peer(Faiss, ("faiss-cpu",), "HNSW16", (10, 600), stores=False),
    "faiss HNSW32": Peer(Faiss, ("faiss-cpu",), "HNSW32", (10, 600), stores=False),
}
"""`kind` of FAISS' IVF: how many times the square root of the rows its lists are."""


def found_by(store: Store, form: str, queries: Floats, shelves: Sequence[int], batch: int) -> list[Any]:
    """What a store returns for queries, one by one or in batches; nothing else is done in the measured time."""
    if form == "keys" and batch > 1:
        return [store.many(queries[part]) for part in blocks(len(queries), batch)]
    if form == "keys":
        return [store.one(query) for query in queries]
    if form == "hits":
        return [store.hits(query) for query in queries]
    return [store.filtered(query, shelf) for query, shelf in zip(queries, shelves, strict=True)]


def numbers_of(store: Store, found: Sequence[Any]) -> list[list[int]]:
    """The rows of all of it, for each query."""
    return [numbers for one in found for numbers in store.numbers(one)]


def size_of(place: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def read_marker(place: Path) -> dict[str, Any]:
    """What the ingest of a folder took, written when it was whole; empty where it was not."""
    path = place / "ingested.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found
