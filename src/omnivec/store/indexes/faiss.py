"""FAISS: inverted lists of codes of a few bits per component (IVF and RaBitQ), for spaces of many vectors.

k-means divides the space into lists; a search reads the lists whose centroids are nearest to the query. A vector is
stored as the signs of its difference from the centroid and a few numbers (RaBitQ: Gao and Long 2024), so that a list is
read at the speed of memory. `benchmarks/index_choice.py` compares this with other indexes of FAISS.

How many lists are read and how many candidates are proposed follows from a measurement: when the index is built, some
of its vectors are searched for among the others, exactly and by the index, and the least effort is taken that finds
`TARGET` of the ten nearest.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import CollectionError, UsageError
from omnivec.store.index_recall import Truth
from omnivec.store.indexes.base import Blocks
from omnivec.types import Floats, Keys, Metric

TARGET = 0.995
"""Recall among the ten nearest that the effort of a search must reach with own vectors as queries."""

SAMPLE = 500
"""Number of vectors with which recall is measured."""

_MAGIC = b"ovfaiss\1"
_HEADER = struct.Struct("<8sI")
_SEED = 1234
_POINTS = 40
"""Vectors per list with which k-means is trained."""
_ITERATIONS = 8
_LARGEST = 1e6
"""Largest norm in the index; typical vectors have the norm 1, and squares of greater ones would overflow."""
_MULTIPLES = (10, 20, 40, 80, 160)
_QUERIES_PER_THREAD = 64
_WORTH_THREADS = 1 << 20
"""Least number of vectors times lists for which k-means uses several threads, which wait for one another."""
_LEAST = 32
"""Fewest candidates of a search."""


class FaissIndex:
    """An `ApproximateIndex` of FAISS' inverted lists; empty until the first vectors are added."""

    exact = False

    def __init__(
        self, dim: int, metric: Metric, keys: Keys | None = None, vectors: Floats | None = None
    ) -> None:
        """Makes an index, empty or of some vectors, by which it is trained.

        Args:
            dim: length of a vector.
            metric: by which vectors are compared.
            keys: (n,) int64, ascending.
            vectors: (n, dim) float32, finite.
        """
        self.dim = dim
        self.metric: Metric = metric
        self._index: Any = None
        self._facts: dict[str, Any] = {}
        self._last = -1
        self._several = False  # whether a key may have several vectors
        if keys is not None and vectors is not None and len(keys):
            self._build(len(keys), lambda: iter([(keys, vectors)]))

    def __len__(self) -> int:
        return 0 if self._index is None else int(self._index.ntotal)

    @property
    def facts(self) -> Mapping[str, Any]:
        """The parameters of the index and the recall measured when it was built."""
        return dict(self._facts)

    @classmethod
    def build(cls, dim: int, metric: Metric, n: int, blocks: Blocks) -> FaissIndex:
        """Builds an index of n vectors, reading them twice. See `ApproximateIndex.build`."""
        index = cls(dim, metric)
        if n:
            index._build(n, blocks)
        return index

    def candidates(self, k: int) -> int:
        """The number of candidates to search for when k keys are wanted."""
        return max(_LEAST, k * int(self._facts.get("candidates", _MULTIPLES[0])))

    def add(self, keys: Keys, vectors: Floats) -> None:
        """Adds vectors; the vectors that these keys had before are replaced. See `VectorIndex.add`."""
        keys, vectors = np.ascontiguousarray(keys, np.int64), self._checked(vectors, "vectors")
        if keys.shape != (len(vectors),) or (len(keys) and keys.min() < 0):
            raise UsageError(
                f"keys are {keys.shape}, {len(vectors)} vectors need as many keys, none negative"
            )
        if not len(keys):
            return
        if self._index is None:
            order = np.argsort(keys, kind="stable")
            self._build(len(keys), lambda: iter([(keys[order], vectors[order])]))
            return
        if keys.min() <= self._last:
            self.remove(keys)
        self._append(keys, self._scaled(vectors))

    def remove(self, keys: Keys) -> None:
        """Removes all vectors of these keys; unknown keys are ignored."""
        if self._index is not None and len(keys):
            self._index.remove_ids(np.unique(np.asarray(keys, np.int64)))

    def search(self, queries: Floats, k: int, allowed: Keys | None = None) -> tuple[Keys, Floats]:
        """Proposes k keys for each query, with estimated scores. See `VectorIndex.search`."""
        if k < 1:
            raise UsageError(f"k is {k}; it must be at least 1")
        queries = self._checked(queries, "queries")
        probes = int(self._facts.get("probes", 1))
        if not len(self) or not len(queries) or (allowed is not None and not len(allowed)):
            return self._padded(len(queries), k)
        selector = None
        if allowed is not None:
            selector = np.zeros(max(int(allowed.max()), self._last) // 8 * 8 + 8, np.bool_)
            selector[allowed] = True
            share = max(1, len(allowed)) / len(self)
            probes = min(int(self._index.nlist), int(np.ceil(probes / min(1.0, share))))
        queries = self._scaled(queries)
        most = min(len(self), k if not self._several else 2 * k)
        keys, scores = self._proposed(queries, most, probes, selector)
        while probes < self._index.nlist and (short := keys[:, -1] < 0).any():
            # These lists hold too few vectors, or the filter leaves too few.
            probes = min(4 * probes, int(self._index.nlist))
            keys[short], scores[short] = self._proposed(queries[short], most, probes, selector)
        if self._several:
            keys, scores = _each_once(keys, scores)
        if most >= k:
            return keys[:, :k], scores[:, :k]
        padded = self._padded(len(queries), k)
        padded[0][:, :most], padded[1][:, :most] = keys, scores
        return padded

    def save(self, path: Path) -> None:
        """Writes the index to a file. See `ApproximateIndex.save`."""
        import faiss

        head = {
            "dim": self.dim,
            "metric": self.metric,
            "last": self._last,
            "several": self._several,
            "facts": self._facts,
            "empty": self._index is None,
        }
        raw = json.dumps(head).encode()
        with path.open("wb") as stream:
            stream.write(_HEADER.pack(_MAGIC, len(raw)))
            stream.write(raw)
            if self._index is not None:
                faiss.write_index(self._index, faiss.PyCallbackIOWriter(stream.write))

    @classmethod
    def load(cls, path: Path, dim: int, metric: Metric) -> FaissIndex:
        """Reads an index that `save` wrote. See `ApproximateIndex.load`."""
        import faiss

        with path.open("rb") as stream:
            head = _head(stream, path)
            if (head["dim"], head["metric"]) != (dim, metric):
                raise CollectionError(
                    f"{path} holds an index of dim {head['dim']} and metric {head['metric']}, not {dim} and {metric}"
                )
            index = cls(dim, metric)
            index._last, index._several, index._facts = head["last"], head["several"], head["facts"]
            if not head["empty"]:
                index._index = faiss.read_index(faiss.PyCallbackIOReader(stream.read))
        return index

    def _build(self, n: int, blocks: Blocks) -> None:
        import faiss

        lists = _lists(n)
        trained, sample = _drawn(n, blocks, min(n, _POINTS * lists), min(n, SAMPLE))
        if self.metric != "cosine":
            norm = float(np.sqrt(np.mean(_squared(trained)))) if len(trained) else 0.0
            self._facts["scale"] = 1 / norm if 1e-30 < norm < 1e30 else 1.0
        kind = faiss.METRIC_L2 if self.metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
        bits = 1 if self.dim >= 128 else 4
        self._index = faiss.index_factory(self.dim, f"IVF{lists},RaBitQfs{bits}", kind)
        clustering = self._index.cp
        clustering.seed, clustering.niter, clustering.min_points_per_centroid = _SEED, _ITERATIONS, 1
        with _threads(None if len(trained) * lists > _WORTH_THREADS else 1):
            self._index.train(self._scaled(trained))
        truth = Truth(*sample, self.metric)
        for keys, vectors in blocks():
            self._append(keys, self._scaled(vectors))
            truth.see(keys, vectors)
        self._facts |= {
            "faiss": faiss.__version__,
            "lists": lists,
            "bits": bits,
            "trained": len(trained),
            "rows": n,
        }
        self._choose(truth)

    def _choose(self, truth: Truth) -> None:
        """Chooses the number of candidates and of lists to read, by recall."""
        queries, lists = self._scaled(truth.vectors), int(self._index.nlist)

        def measured(multiple: int, probes: int) -> float:
            found, _ = self._proposed(queries, min(len(self), max(_LEAST, 10 * multiple) + 1), probes, None)
            return truth.recall(found)

        multiple = _MULTIPLES[0]
        for multiple in _MULTIPLES:
            if measured(multiple, lists) >= TARGET:
                break
        probes, recall = lists, 0.0
        for probes in _ladder(lists):
            recall = measured(multiple, probes)
            if recall >= TARGET:
                break
        self._facts |= {"candidates": multiple, "probes": probes, "recall": recall, "sample": len(queries)}

    def _append(self, keys: Keys, vectors: Floats) -> None:
        self._several = self._several or len(np.unique(keys)) < len(keys)
        self._index.add_with_ids(vectors, np.ascontiguousarray(keys, np.int64))
        self._last = max(self._last, int(keys.max())) if len(keys) else self._last

    def _proposed(
        self, queries: Floats, k: int, probes: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[Keys, Floats]:
        """Searches scaled queries; `allowed` says for each key whether it may be found."""
        import faiss

        parameters = faiss.SearchParametersIVF(nprobe=probes)
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            parameters = faiss.SearchParametersIVF(nprobe=probes, sel=faiss.IDSelectorBitmap(bits))
        with _threads(1 if len(queries) < _QUERIES_PER_THREAD else None):
            scores, keys = self._index.search(queries, k, params=parameters)
        if self.metric == "euclidean":
            scores = -np.sqrt(np.maximum(scores, 0))
        scores[keys < 0] = -np.inf
        return keys, scores

    @staticmethod
    def _padded(queries: int, k: int) -> tuple[Keys, Floats]:
        return np.full((queries, k), -1, np.int64), np.full((queries, k), -np.inf, np.float32)

    def _checked(self, vectors: Floats, name: str) -> Floats:
        array: Floats = np.ascontiguousarray(vectors, np.float32)
        if array.ndim != 2 or array.shape[1] != self.dim:
            raise UsageError(f"{name} are {array.shape}; this index takes (n, {self.dim})")
        if not np.isfinite(array).all():
            raise UsageError(
                f"{name} hold {int((~np.isfinite(array)).sum())} numbers that are NaN or infinite"
            )
        return array

    def _scaled(self, vectors: Floats) -> Floats:
        """(n, dim) vectors as the index holds them: of norm 1 for cosine, else of about this norm."""
        norms = np.sqrt(_squared(vectors))
        if self.metric == "cosine":
            factors = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
        else:
            scale = float(self._facts.get("scale", 1.0))
            factors = np.minimum(scale, _LARGEST / np.maximum(norms, 1e-300))
        scaled: Floats = (vectors * factors[:, None]).astype(np.float32)
        return scaled


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Sets the number of threads that FAISS uses for calls of this thread; None leaves it."""
    import faiss

    before = faiss.omp_get_max_threads()
    if count is not None:
        faiss.omp_set_num_threads(min(count, before))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _head(stream: BinaryIO, path: Path) -> dict[str, Any]:
    try:
        magic, length = _HEADER.unpack(stream.read(_HEADER.size))
        head = json.loads(stream.read(length)) if magic == _MAGIC else None
    except (struct.error, ValueError):
        head = None
    if not isinstance(head, dict):
        raise CollectionError(f"{path} holds no index of this version of omnivec; remove it")
    return head


def _squared(vectors: Floats) -> NDArray[np.float64]:
    doubles = vectors.astype(np.float64)
    squared: NDArray[np.float64] = np.einsum("ij,ij->i", doubles, doubles)
    return squared


def _lists(n: int) -> int:
    """The number of lists for n vectors: about 4 sqrt(n), but of 40 vectors and more each."""
    return max(1, min(int(4 * np.sqrt(n)), n // 40))


def _ladder(lists: int) -> Iterator[int]:
    """Numbers of lists to read, each about a quarter above the one before."""
    probes = 1
    while probes < lists:
        yield probes
        probes = max(probes + 1, int(probes * 1.25))
    yield lists


def _drawn(n: int, blocks: Blocks, train: int, sample: int) -> tuple[Floats, tuple[Keys, Floats]]:
    """Draws vectors to train with and, among them, those to measure recall with, in the order of their rows."""
    rows = np.sort(np.random.default_rng(_SEED).choice(n, train, replace=False))
    keys, vectors, start = [], [], 0
    for block_keys, block in blocks():
        own = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + len(block))] - start
        keys.append(block_keys[own])
        vectors.append(block[own])
        start += len(block)
    if start != n:
        raise UsageError(f"blocks() gave {start} vectors; n is {n}")
    drawn = np.concatenate(vectors)
    chosen = np.linspace(0, train - 1, min(sample, train)).astype(np.int64)
    return drawn, (np.concatenate(keys)[chosen], drawn[chosen])


def _each_once(keys: Keys, scores: Floats) -> tuple[Keys, Floats]:
    """Each row without the places of keys that stand further left in it, which are filled with -1 at its end."""
    order = np.argsort(keys, axis=1, kind="stable")
    ranked = np.take_along_axis(keys, order, 1)
    repeated = np.zeros(keys.shape, np.bool_)
    np.put_along_axis(repeated, order[:, 1:], (ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] >= 0), 1)
    keys, scores = np.where(repeated, -1, keys), np.where(repeated, np.float32(-np.inf), scores)
    first = np.argsort(keys < 0, axis=1, kind="stable")
    return np.take_along_axis(keys, first, 1), np.take_along_axis(scores, first, 1)


INDEX = FaissIndex
