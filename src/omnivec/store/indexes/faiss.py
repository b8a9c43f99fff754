"""FAISS: inverted lists of short codes (IVF and 4-bit product quantization), for spaces of many vectors.

k-means divides the space into lists; a search reads the lists whose centroids are nearest to the query. Of a vector's
difference from the centroid, each two components are stored as 4 bits (product quantization: Jegou, Douze, Schmid
2011), which are compared 32 vectors at a time (fast scan: Andre, Kermarrec, Le Scouarnec 2015).
`benchmarks/index_choice.py` compares this with other indexes of FAISS.

How many lists are read and how many candidates are proposed follows from a measurement: when the index is built, some
of its vectors are searched for among the others, exactly and by the index, and the least effort is taken that finds
`TARGET` of the ten nearest.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import CollectionError, UsageError
from omnivec.store.index_recall import Truth
from omnivec.store.indexes.base import Blocks, checked
from omnivec.store.indexes.exact import squared
from omnivec.types import Floats, Keys, Metric

TARGET = 0.995
"""Recall among the ten nearest that the effort of a search must reach with own vectors as queries. It is
above .99, since queries that are no vectors of the space may find less (`benchmarks/index_choice.py`)."""

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
_MULTIPLES = (5, 10, 20, 40, 80, 160)
_QUERIES_PER_THREAD = 64
_FEW_TIMES = 10
"""Most candidates, in times of k, for which the first codes are good enough."""
_FEW = 1000
"""Up to so many vectors are stored as they are."""
_NARROW = 128
"""Vectors of fewer components get 4 bits for each, others for each two."""
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
        keys, vectors = np.ascontiguousarray(keys, np.int64), checked(vectors, self.dim, "vectors")
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
        queries = checked(queries, self.dim, "queries")
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
            norm = float(np.sqrt(np.mean(squared(trained)))) if len(trained) else 0.0
            self._facts["scale"] = 1 / norm if 1e-30 < norm < 1e30 else 1.0
        truth, seen = Truth(*sample, self.metric), False
        for codes in _codes(self.dim, n):
            self._index = self._trained(codes, lists, trained)
            for keys, vectors in blocks():
                self._append(keys, self._scaled(vectors))
                if not seen:
                    truth.see(keys, vectors)
            seen = True
            multiple, enough = self._multiple(truth)
            if enough:
                break
        self._facts |= {
            "faiss": faiss.__version__,
            "lists": lists,
            "codes": codes,
            "trained": len(trained),
            "rows": n,
        }
        self._choose(truth, multiple)

    def _trained(self, codes: str, lists: int, trained: Floats) -> Any:
        import faiss

        kind = faiss.METRIC_L2 if self.metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
        index = faiss.index_factory(self.dim, f"IVF{lists},{codes}", kind)
        index.cp.seed, index.cp.niter, index.cp.min_points_per_centroid = _SEED, _ITERATIONS, 1
        with _threads(1):  # its threads would wait for one another, at full speed, for longer than they work
            index.train(self._scaled(trained))
        return index

    def _measured(self, truth: Truth, multiple: int, probes: int) -> float:
        most = min(len(self), max(_LEAST, 10 * multiple) + 1)
        found, _ = self._proposed(self._scaled(truth.vectors), most, probes, None)
        return truth.recall(found)

    def _multiple(self, truth: Truth) -> tuple[int, bool]:
        """How many times k candidates are needed when all lists are read, and whether these are few."""
        multiple = _MULTIPLES[0]
        for multiple in _MULTIPLES:
            # Most of what a search misses may be in lists that it does not read.
            if self._measured(truth, multiple, int(self._index.nlist)) >= 1 - (1 - TARGET) / 3:
                return multiple, multiple <= _FEW_TIMES
        return multiple, False

    def _choose(self, truth: Truth, multiple: int) -> None:
        """Chooses the number of lists to read, by recall."""
        probes, recall = 1, 0.0
        for probes in _ladder(int(self._index.nlist)):
            recall = self._measured(truth, multiple, probes)
            if recall >= TARGET:
                break
        self._facts |= {"candidates": multiple, "probes": probes, "recall": recall, "sample": len(truth.keys)}

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

    def _scaled(self, vectors: Floats) -> Floats:
        """(n, dim) vectors as the index holds them: of norm 1 for cosine, else of about this norm."""
        norms = np.sqrt(squared(vectors))
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


def _lists(n: int) -> int:
    """The number of lists for n vectors: 512 for 100,000, 1,600 for a million; of 40 vectors and more each."""
    return max(1, min(int(1.62 * np.sqrt(n)), n // 40))


def _codes(dim: int, n: int) -> Sequence[str]:
    """FAISS' names of the codes to try for n vectors, the fastest first.

    The second are signs and a few numbers for each vector (RaBitQ: Gao and Long 2024), or 4 bits for each component:
    they find the neighbours also where a few components are much larger than the others.
    """
    if n <= _FEW:
        return ("Flat",)
    width = dim if dim < _NARROW or dim % 2 else dim // 2
    return f"PQ{width}x4fs", f"RaBitQfs{4 if dim < _NARROW else 1}"


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
