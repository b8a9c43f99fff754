"""The loop: decode, sort by size, prepare, fill batches to a budget, run, restore the order.

It knows no modality: a model says how an item is decoded, prepared and computed. Everything done to one item is inside
that item's border: whatever is raised there, a lack of memory or a library's panic included, costs the item alone. A
step over several items that fails is done again item by item.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from omnivec.errors import ItemError
from omnivec.types import Encoded, Floats, Keys, Prepared
from omnivec.validation.reasons import of_item

WINDOW = 8192


class Steps(Protocol):
    """The three steps of a model, as the loop sees them.

    Attributes:
        dim: length of a vector.
        unit: what `seen` and `lost` count.
        budget: cost that one batch may hold.
        chunk: items to prepare at a time.
        streams: batches to compute at a time.
    """

    @property
    def dim(self) -> int:
        """Length of a vector."""

    @property
    def unit(self) -> str:
        """What seen and lost count."""

    @property
    def budget(self) -> int:
        """Cost that one batch may hold."""

    @property
    def chunk(self) -> int:
        """Items to prepare at a time."""

    @property
    def streams(self) -> int:
        """Batches to compute at a time."""

    def decode(self, item: Any) -> Any:
        """What the item holds; ItemError where it cannot be read."""

    def key(self, decoded: Any) -> Hashable:
        """Equal for items that have one vector: it is computed once. None where that cannot be told."""

    def size(self, decoded: Any) -> int:
        """A rough cost, to sort by."""

    def prepare(self, decoded: Sequence[Any]) -> Sequence[Sequence[Prepared] | ItemError]:
        """Arrays of items: one for each, or several parts, whose mean by what each has seen is its vector.

        In place of an item that cannot be prepared stands why.
        """

    def compute(self, rows: Sequence[Prepared], alone: bool) -> Floats:
        """Vectors (n, dim) of one batch; `alone` says that no other batch runs beside it."""


class Whole(Protocol):
    """The steps of a model that needs no batches: it takes as many items as there are, in any order."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    @property
    def unit(self) -> str:
        """What seen counts."""

    @property
    def nothing(self) -> str:
        """Why an item of which nothing was seen has no vector."""

    def decode(self, item: Any) -> Any:
        """What the item holds; ItemError where it cannot be read."""

    def vectors(self, decoded: Sequence[Any]) -> tuple[Floats, Keys]:
        """Vectors (n, dim) of items, and how much of each they are made of (n,)."""


@dataclass(frozen=True)
class Plan:
    """How to batch.

    Attributes:
        rows: most items in a batch; 0 for as many as the budget holds.
        done: called with the number of items that are finished.
    """

    rows: int = 0
    done: Callable[[int], None] | None = None


class _Row(NamedTuple):
    """A part of an item, ready for a batch."""

    item: int
    part: int
    prepared: Prepared


class _Run:
    """One call of `run`: what is decoded, what is next, and where results go."""

    def __init__(self, items: Sequence[Any], steps: Steps, plan: Plan) -> None:
        self.steps, self.plan = steps, plan
        self.decoded: dict[int, Any] = {}
        self.copies: dict[int, int] = {}
        self.failures: dict[int, str] = {}
        firsts: dict[Hashable, int] = {}
        sizes: dict[int, int] = {}
        for i, item in enumerate(items):
            try:
                decoded = steps.decode(item)
                key = steps.key(decoded)
                first = i if key is None else firsts.setdefault(key, i)
                if first == i:
                    sizes[i] = steps.size(decoded)
                    self.decoded[i] = decoded
                else:
                    self.copies[i] = first
            except BaseException as error:
                self.failures[i] = of_item(error)
        self.vectors = np.zeros((len(items), steps.dim), np.float32)
        self.seen = np.zeros(len(items), np.int64)
        self.lost = np.zeros(len(items), np.int64)
        self.order = deque(sorted(self.decoded, key=lambda i: -sizes[i]))
        self.waiting: list[_Row] = []
        self.parts: dict[int, _Parts] = {}
        self.lock = threading.Lock()

    def batches(self) -> Iterator[list[_Row]]:
        """Batches, the costliest first; each holds what the budget allows at the cost of its longest row."""
        while self.order or self.waiting:
            chunk = self.steps.chunk
            while self.order and len(self.waiting) < chunk:
                self._prepare([self.order.popleft() for _ in range(min(chunk, len(self.order)))])
            self.waiting.sort(key=lambda row: (-row.prepared.cost, row.item))
            while self.waiting and (len(self.waiting) >= chunk or not self.order):
                rows = max(1, self.steps.budget // max(1, self.waiting[0].prepared.cost))
                rows = min(rows, self.plan.rows) if self.plan.rows else rows
                batch, self.waiting = self.waiting[:rows], self.waiting[rows:]
                yield batch

    def _prepare(self, indices: list[int]) -> None:
        # What an item holds goes as soon as its arrays are there: photographs are large.
        decoded = [self.decoded.pop(i) for i in indices]
        try:
            prepared = self.steps.prepare(decoded)
            for i, rows in zip(indices, prepared, strict=True):
                self._take(i, rows)
        except BaseException as error:
            why = of_item(error)
            # What was taken before the failure is taken again.
            again = set(indices)
            self.waiting = [row for row in self.waiting if row.item not in again]
            if len(indices) == 1:
                self.failures[indices[0]] = why
                return
            for i, one in zip(indices, decoded, strict=True):
                self.decoded[i] = one
                self._prepare([i])

    def _take(self, i: int, rows: Sequence[Prepared] | ItemError) -> None:
        """An item's arrays, or why it has none."""
        if isinstance(rows, ItemError):
            self.failures[i] = of_item(rows)
            return
        self.seen[i], self.lost[i] = sum(row.seen for row in rows), sum(row.lost for row in rows)
        if len(rows) > 1:
            self.parts[i] = _Parts([row.seen for row in rows], self.steps.dim)
        self.waiting += [_Row(i, part, row) for part, row in enumerate(rows)]

    def compute(self, batch: list[_Row], alone: bool) -> None:
        """Computes a batch into its rows; where it fails, each row by itself."""
        try:
            vectors = self.steps.compute([row.prepared for row in batch], alone)
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

    def _put(self, row: _Row, vector: Floats) -> bool:
        """Takes a row's vector; whether its item is finished."""
        parts = self.parts.get(row.item)
        if parts is not None:
            return parts.put(row.part, vector)
        self.vectors[row.item] = vector
        return True

    def encoded(self) -> Encoded:
        """What came out: parts joined, and what is equal copied from the one that was computed."""
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
        kept = np.array([i for i in range(len(self.vectors)) if i not in self.failures], np.int64)
        whole = len(kept) == len(self.vectors)
        vectors = self.vectors if whole else self.vectors[kept]
        failures = dict(sorted(self.failures.items()))
        return Encoded(vectors, kept, failures, self.seen[kept], self.lost[kept], self.steps.unit)


class _Parts:
    """The vectors of an item's parts, until they are averaged."""

    def __init__(self, seen: Sequence[int], dim: int) -> None:
        self._weights = np.maximum(np.array(seen, np.float32), 1e-9)
        self._vectors = np.zeros((len(seen), dim), np.float32)
        self._left, self._lock = len(seen), threading.Lock()

    def put(self, part: int, vector: Floats) -> bool:
        """Takes a part's vector; whether it was the last."""
        self._vectors[part] = vector
        with self._lock:
            self._left -= 1
            return self._left == 0

    def mean(self) -> Floats:
        """The mean by what each part has seen: the same whatever the order in which they came."""
        mean: Floats = self._weights @ self._vectors / self._weights.sum()
        return mean


def run(items: Sequence[Any], steps: Steps, plan: Plan = Plan()) -> Encoded:
    """Vectors of all items that have one, in their order, and why the others have none."""
    job = _Run(items, steps, plan)
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

    with ThreadPoolExecutor(steps.streams) as pool:
        futures = [pool.submit(work) for _ in range(steps.streams)]
        try:
            for future in futures:
                future.result()
        finally:  # Ctrl-C, or a fault of ours in one worker: the others end after their batch.
            stop.set()
    return job.encoded()


def run_whole(items: Sequence[Any], steps: Whole, plan: Plan = Plan()) -> Encoded:
    """`run` for a model that needs no batches."""
    decoded, places, failures = [], [], {}
    for i, item in enumerate(items):
        try:
            decoded.append(steps.decode(item))
            places.append(i)
        except BaseException as error:
            failures[i] = of_item(error)
    vectors, seen = np.zeros((len(decoded), steps.dim), np.float32), np.zeros(len(decoded), np.int64)
    for start in range(0, len(decoded), WINDOW):
        part = slice(start, start + WINDOW)
        try:
            vectors[part], seen[part] = steps.vectors(decoded[part])
        except BaseException as error:
            of_item(error)  # lets pass what is no item's
            for i in range(start, min(start + WINDOW, len(decoded))):
                try:
                    vectors[i : i + 1], seen[i : i + 1] = steps.vectors(decoded[i : i + 1])
                except BaseException as own:
                    seen[i], failures[places[i]] = 0, of_item(own)
        if plan.done is not None:
            plan.done(len(decoded[part]))
    good = (seen > 0) & np.isfinite(vectors).all(axis=1)
    failures = {places[i]: steps.nothing for i in np.flatnonzero(~good).tolist()} | failures
    kept = np.array(places, np.int64)[good]
    if not good.all():
        vectors, seen = vectors[good], seen[good]
    return Encoded(vectors, kept, dict(sorted(failures.items())), seen, np.zeros_like(seen), steps.unit)


def stream(items: Iterable[Any], run: Callable[[Sequence[Any]], Encoded]) -> Iterator[Encoded]:
    """Windows of an iterable through `run`, in flat memory; indices count from the start of the iterable."""
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
