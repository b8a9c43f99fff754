"""The batching loop: decode, sort by size, prepare, fill batches up to a budget, compute, restore the order.

It is independent of the modality: a preparer says how items are decoded and prepared, a computer how batches are
computed. An exception for one item, lack of memory and panics of libraries included, makes only this item fail. If a
step over several items fails, it is repeated for each of them alone.

Example: five texts of 5, 12, 3, 9 and 4 tokens, and a budget of 20. The cost of a batch is its number of rows times the
cost of its longest row, because the others are padded to it.

    order by size, longest first:  item 1 (12), item 3 (9), item 0 (5), item 4 (4), item 2 (3)
    batch 1:  20 // 12 = 1 row:    [item 1]            costs 12
    batch 2:  20 // 9 = 2 rows:    [item 3, item 0]    costs 2 * 9 = 18
    batch 3:  20 // 4 = 5 rows:    [item 4, item 2]    costs 2 * 4 = 8; no more rows are left

The vectors of batch 2 are written to rows 3 and 0 of the result, so that its rows are in the order of the items. If a
sixth item equals item 1, it is not computed: row 1 is copied to row 5.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ItemError
from omnivec.inputs.preparer import PLAIN, Preparer, ReadOptions
from omnivec.types import Amounts, Encoded, Floats, Ints, Prepared
from omnivec.validation.reasons import of_item

if TYPE_CHECKING:
    from omnivec.vectors.alignment import Projection

WINDOW = 8192


class Computer(Protocol):
    """Computes batches of prepared items.

    Attributes:
        dim: length of a vector.
        budget: largest cost of a batch.
    """

    dim: int
    budget: int

    @property
    def streams(self) -> int:
        """Number of batches to compute at the same time."""

    def compute(self, rows: Sequence[Prepared], alone: bool) -> Floats:
        """Computes the vectors (n, dim) of one batch; `alone` says that no other batch is computed at the same time."""


class TableSteps(Protocol):
    """The steps of a model that needs no batches, because the cost of an item does not depend on the others.

    Attributes:
        dim: length of a vector.
    """

    dim: int

    @property
    def unit(self) -> str:
        """Unit of `seen`."""

    @property
    def nothing(self) -> str:
        """Reason why an item has no vector if nothing of it was seen."""

    def decode(self, item: Any) -> Any:
        """Decodes an item; ItemError if it cannot be read."""

    def vectors(self, decoded: Sequence[Any], reading: ReadOptions) -> tuple[Floats, Ints]:
        """Returns the vectors (n, dim) of items, and how much of each item was used (n,)."""


@dataclass(frozen=True)
class BatchOptions:
    """Options of the batching loop.

    Attributes:
        rows: largest number of rows in a batch; 0 for as many as the budget allows.
        done: called after each batch with the number of items that it has finished.
    """

    rows: int = 0
    done: Callable[[int], None] | None = None


class _ItemPart(NamedTuple):
    """A row of a batch: an item, or one of the parts that a long item was split into."""

    item: int
    part: int
    prepared: Prepared


class _Run:
    """State of one call of `run`: decoded items, prepared rows that wait for a batch, and results."""

    def __init__(
        self,
        items: Sequence[Any],
        preparer: Preparer,
        computer: Computer,
        reading: ReadOptions,
        plan: BatchOptions,
        projection: Projection | None,
    ) -> None:
        self.preparer, self.computer, self.reading = preparer, computer, reading
        self.plan, self.projection = plan, projection
        self.decoded: dict[int, Any] = {}
        self.copies: dict[int, int] = {}
        self.failures: dict[int, str] = {}
        firsts: dict[Hashable, int] = {}
        sizes: dict[int, int] = {}
        for i, item in enumerate(items):
            try:
                decoded = preparer.decode(item)
                key = preparer.key(decoded)
                first = i if key is None else firsts.setdefault(key, i)
                if first == i:
                    sizes[i] = preparer.size(decoded)
                    self.decoded[i] = decoded
                else:
                    self.copies[i] = first
            except BaseException as error:
                self.failures[i] = of_item(error)
        self.dim = computer.dim if projection is None else projection.dims[1]
        self.vectors = np.zeros((len(items), self.dim), np.float32)
        self.seen, self.lost = np.zeros((2, len(items)), amount_type([preparer]))
        self.order = deque(sorted(self.decoded, key=lambda i: -sizes[i]))
        self.waiting: list[_ItemPart] = []
        self.parts: dict[int, _Parts] = {}
        self.lock = threading.Lock()

    def batches(self) -> Iterator[list[_ItemPart]]:
        """Yields batches, the costliest first, of as many rows as the budget allows at the cost of the longest row."""
        while self.order or self.waiting:
            chunk = self.preparer.chunk
            while self.order and len(self.waiting) < chunk:
                self._prepare([self.order.popleft() for _ in range(min(chunk, len(self.order)))])
            self.waiting.sort(key=lambda row: (-row.prepared.cost, row.item))
            while self.waiting and (len(self.waiting) >= chunk or not self.order):
                rows = max(1, self.computer.budget // max(1, self.waiting[0].prepared.cost))
                rows = min(rows, self.plan.rows) if self.plan.rows else rows
                batch, self.waiting = self.waiting[:rows], self.waiting[rows:]
                yield batch

    def _prepare(self, indices: list[int]) -> None:
        # Decoded items are released as soon as their arrays exist, because photographs are large.
        decoded = [self.decoded.pop(i) for i in indices]
        try:
            prepared = self.preparer.prepare(decoded, self.reading)
            for i, rows in zip(indices, prepared, strict=True):
                self._take(i, rows)
        except BaseException as error:
            why = of_item(error)
            # Rows of these items from before the failure are dropped: each item is prepared again alone.
            again = set(indices)
            self.waiting = [row for row in self.waiting if row.item not in again]
            if len(indices) == 1:
                self.failures[indices[0]] = why
                return
            for i, one in zip(indices, decoded, strict=True):
                self.decoded[i] = one
                self._prepare([i])

    def _take(self, i: int, rows: Sequence[Prepared] | ItemError) -> None:
        """Takes the prepared rows of an item, or the error that it failed with."""
        if isinstance(rows, ItemError):
            self.failures[i] = of_item(rows)
            return
        self.seen[i], self.lost[i] = sum(row.seen for row in rows), sum(row.lost for row in rows)
        if len(rows) > 1:
            self.parts[i] = _Parts([row.seen for row in rows], self.dim)
        self.waiting += [_ItemPart(i, part, row) for part, row in enumerate(rows)]

    def compute(self, batch: list[_ItemPart], alone: bool) -> None:
        """Computes a batch and stores its vectors; if it fails, computes each row alone."""
        try:
            vectors = self.computer.compute([row.prepared for row in batch], alone)
            if self.projection is not None:
                vectors = self.projection.project(vectors)
        except BaseException as error:
            why = of_item(error)
            if len(batch) > 1:
                for row in batch:
                    self.compute([row], alone)
                return
            self.failures[batch[0].item] = why
            return
        finished = len(batch)
        if self.parts:
            finished = sum(self._put(row, vector) for row, vector in zip(batch, vectors, strict=True))
        else:
            self.vectors[[row.item for row in batch]] = vectors
        for i in np.flatnonzero(~np.isfinite(vectors).all(axis=1)):
            self.failures[batch[i].item] = "its vector is not finite: the model overflows on this item"
        if self.plan.done is not None:
            self.plan.done(finished)

    def _put(self, row: _ItemPart, vector: Floats) -> bool:
        """Stores the vector of a row; returns whether its item is finished."""
        parts = self.parts.get(row.item)
        if parts is not None:
            return parts.put(row.part, vector)
        self.vectors[row.item] = vector
        return True

    def encoded(self) -> Encoded:
        """Returns the result, after averaging the parts of long items and copying the results of equal items."""
        for i, parts in self.parts.items():
            self.vectors[i] = parts.mean()
        for i, first in self.copies.items():
            self.vectors[i], self.seen[i], self.lost[i] = (
                self.vectors[first],
                self.seen[first],
                self.lost[first],
            )
            if first in self.failures:
                self.failures[i] = self.failures[first]
        if self.copies and self.plan.done is not None:
            self.plan.done(len(self.copies))
        return _kept(self.vectors, self.seen, self.lost, self.failures, self.preparer.unit)


class _Parts:
    """The vectors of the parts of an item, until all are there to be averaged."""

    def __init__(self, seen: Sequence[float], dim: int) -> None:
        self._weights = np.maximum(np.array(seen, np.float32), 1e-9)
        self._vectors = np.zeros((len(seen), dim), np.float32)
        self._left, self._lock = len(seen), threading.Lock()

    def put(self, part: int, vector: Floats) -> bool:
        """Stores the vector of a part; returns whether it was the last one missing."""
        self._vectors[part] = vector
        with self._lock:
            self._left -= 1
            return self._left == 0

    def mean(self) -> Floats:
        """Returns the mean weighted by how much each part has seen; it does not depend on the order of computation."""
        mean: Floats = self._weights @ self._vectors / self._weights.sum()
        return mean


def run(
    items: Sequence[Any],
    preparer: Preparer,
    computer: Computer,
    reading: ReadOptions = PLAIN,
    plan: BatchOptions = BatchOptions(),
    projection: Projection | None = None,
) -> Encoded:
    """Embeds items in batches; see the example in the module's docstring.

    Args:
        items: the items, in any order of size.
        preparer: decodes and prepares them.
        computer: computes batches of prepared items.
        reading: options for the preparer.
        plan: options of the loop.
        projection: a learned head that is applied to each batch of vectors.

    Returns:
        The vectors of the items that succeeded, in their order, and the reasons of those that failed.
    """
    job = _Run(items, preparer, computer, reading, plan, projection)
    batches = job.batches()
    first, second = next(batches, None), next(batches, None)
    if first is None:
        return job.encoded()
    if second is None:
        job.compute(first, alone=True)
        return job.encoded()
    ahead = iter((first, second))
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with job.lock:
                batch = next(ahead, None) or next(batches, None)
            if batch is None:
                return
            job.compute(batch, alone=False)

    with ThreadPoolExecutor(computer.streams) as pool:
        futures = [pool.submit(work) for _ in range(computer.streams)]
        try:
            for future in futures:
                future.result()
        finally:  # after Ctrl-C or a bug in one worker, the others stop after their current batch
            stop.set()
    return job.encoded()


def run_whole(
    items: Sequence[Any],
    lookup: TableSteps,
    reading: ReadOptions = PLAIN,
    plan: BatchOptions = BatchOptions(),
    projection: Projection | None = None,
) -> Encoded:
    """Embeds items with a model that needs no batches; arguments and result as for `run`."""
    decoded, listed, failures = [], [], dict[int, str]()
    for i, item in enumerate(items):
        try:
            decoded.append(lookup.decode(item))
            listed.append(i)
        except BaseException as error:
            failures[i] = of_item(error)
    dim = lookup.dim if projection is None else projection.dims[1]
    vectors, seen = np.zeros((len(items), dim), np.float32), np.zeros(len(items), np.int64)

    def look_up(batch: list[Any], places: NDArray[np.int64]) -> None:
        looked_up, seen[places] = lookup.vectors(batch, reading)
        vectors[places] = looked_up if projection is None else projection.project(looked_up)

    places = np.array(listed, np.int64)
    for start in range(0, len(decoded), WINDOW):
        end = min(start + WINDOW, len(decoded))
        try:
            look_up(decoded[start:end], places[start:end])
        except BaseException as error:
            of_item(error)  # raises again what is not the error of one item, such as Ctrl-C
            for i in range(start, end):
                try:
                    look_up(decoded[i : i + 1], places[i : i + 1])
                except BaseException as own:
                    failures[listed[i]] = of_item(own)
        if plan.done is not None:
            plan.done(end - start)
    bad = np.flatnonzero((seen == 0) | ~np.isfinite(vectors).all(axis=1))
    failures = dict.fromkeys(bad.tolist(), lookup.nothing) | failures
    return _kept(vectors, seen, np.zeros_like(seen), failures, lookup.unit)


def scatter(
    items: Sequence[Any],
    meant: Sequence[Hashable],
    failures: Mapping[int, str],
    runs: Mapping[Any, Callable[[Sequence[Any]], Encoded]],
    dim: int,
    amount: Any = np.int64,
) -> Encoded:
    """Embeds items that are read by several models, and returns the results in the order of the items.

    Args:
        items: the items, in any order.
        meant: for each item the key in `runs` of its model; any value for an item that has already failed.
        failures: maps the index of each item that has already failed to the reason.
        runs: maps each key to the function that embeds its items.
        dim: length of a vector.
        amount: dtype of `seen` and `lost`; see `amount_type`.
    """
    vectors = np.zeros((len(items), dim), np.float32)
    seen, lost = np.zeros((2, len(items)), amount)
    why, units = dict(failures), []
    for key, run_part in runs.items():
        places = np.array([i for i, target in enumerate(meant) if target == key], np.int64)
        if not len(places):
            continue
        encoded = run_part([items[i] for i in places.tolist()])
        rows = places[encoded.kept]
        vectors[rows], seen[rows], lost[rows] = encoded.vectors, encoded.seen, encoded.lost
        why |= {int(places[i]): reason for i, reason in encoded.failures.items()}
        units.append(encoded.unit)
    return _kept(vectors, seen, lost, why, " and ".join(units) or "tokens")


def amount_type(preparers: Iterable[Preparer]) -> Any:
    """Returns the dtype of `seen` and `lost`: int64, or float64 if a preparer measures them, as it does seconds."""
    return np.int64 if all(getattr(one, "is_counted", True) for one in preparers) else np.float64


def _kept(vectors: Floats, seen: Amounts, lost: Amounts, failures: Mapping[int, str], unit: str) -> Encoded:
    """Makes the result for n items from arrays with n rows, by leaving out those that have failed."""
    if not failures:
        return Encoded(vectors, np.arange(len(vectors), dtype=np.int64), {}, seen, lost, unit)
    kept = np.array([i for i in range(len(vectors)) if i not in failures], np.int64)
    return Encoded(vectors[kept], kept, dict(sorted(failures.items())), seen[kept], lost[kept], unit)


def stream(items: Iterable[Any], run: Callable[[Sequence[Any]], Encoded]) -> Iterator[Encoded]:
    """Applies `run` to windows of an iterable, in constant memory; indices count from the start of the iterable."""
    window: list[Any] = []
    start = 0
    for item in items:
        window.append(item)
        if len(window) == WINDOW:
            yield _moved(run(window), start)
            start, window = start + len(window), []
    if window:
        yield _moved(run(window), start)


def _moved(encoded: Encoded, start: int) -> Encoded:
    encoded.kept += start
    encoded.failures = {start + i: why for i, why in encoded.failures.items()}
    return encoded
