"""The loop: decode, sort by size, prepare, fill batches to a budget, run, restore the order.

It knows no modality: a model says how an item is decoded, prepared and computed. An item that fails costs only
itself; a batch that fails is run again item by item.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from omnivec.errors import ItemError, OmnivecError
from omnivec.types import Encoded, Floats, Prepared

CHUNK = 1024
WINDOW = 8192


class Steps(Protocol):
    """The three steps of a model, as the loop sees them.

    Attributes:
        dim: length of a vector.
        unit: what `seen` and `lost` count.
        budget: cost that one batch may hold.
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
    def streams(self) -> int:
        """Batches to compute at a time."""

    def decode(self, item: Any) -> Any:
        """What the item holds; ItemError where it cannot be read."""

    def key(self, decoded: Any) -> Hashable:
        """Equal for items that have one vector: it is computed once. None where that cannot be told."""

    def size(self, decoded: Any) -> int:
        """A rough cost, to sort by."""

    def prepare(self, decoded: Sequence[Any]) -> Sequence[Prepared]:
        """Arrays of items."""

    def compute(self, rows: Sequence[Prepared], alone: bool) -> Floats:
        """Vectors (n, dim) of one batch; `alone` says that no other batch runs beside it."""


@dataclass(frozen=True)
class Plan:
    """How to batch.

    Attributes:
        rows: most items in a batch; 0 for as many as the budget holds.
        done: called with the number of items that are finished.
    """

    rows: int = 0
    done: Callable[[int], None] | None = None


class _Run:
    """One call of `run`: what is decoded, what is next, and where results go."""

    def __init__(self, items: Sequence[Any], steps: Steps, plan: Plan) -> None:
        self.steps, self.plan = steps, plan
        self.decoded: dict[int, Any] = {}
        self.copies: dict[int, int] = {}
        self.failures: dict[int, str] = {}
        firsts: dict[Hashable, int] = {}
        for i, item in enumerate(items):
            try:
                decoded = steps.decode(item)
            except ItemError as error:
                self.failures[i] = str(error)
                continue
            key = steps.key(decoded)
            first = i if key is None else firsts.setdefault(key, i)
            if first == i:
                self.decoded[i] = decoded
            else:
                self.copies[i] = first
        self.vectors = np.zeros((len(items), steps.dim), np.float32)
        self.seen = np.zeros(len(items), np.int64)
        self.lost = np.zeros(len(items), np.int64)
        self.order = deque(sorted(self.decoded, key=lambda i: -steps.size(self.decoded[i])))
        self.waiting: list[tuple[int, Prepared]] = []
        self.lock = threading.Lock()

    def batches(self) -> Iterator[list[tuple[int, Prepared]]]:
        """Batches, the costliest first; each holds what the budget allows at the cost of its longest row."""
        while self.order or self.waiting:
            while self.order and len(self.waiting) < CHUNK:
                self._prepare([self.order.popleft() for _ in range(min(CHUNK, len(self.order)))])
            self.waiting.sort(key=lambda row: (-row[1].cost, row[0]))
            while self.waiting and (len(self.waiting) >= CHUNK or not self.order):
                rows = max(1, self.steps.budget // max(1, self.waiting[0][1].cost))
                rows = min(rows, self.plan.rows) if self.plan.rows else rows
                batch, self.waiting = self.waiting[:rows], self.waiting[rows:]
                yield batch

    def _prepare(self, indices: list[int]) -> None:
        try:
            prepared = self.steps.prepare([self.decoded[i] for i in indices])
        except ItemError as error:
            if len(indices) > 1:
                for i in indices:
                    self._prepare([i])
                return
            self._fail(indices[0], error)
            return
        for i, row in zip(indices, prepared, strict=True):
            self.seen[i], self.lost[i] = row.seen, row.lost
            self.waiting.append((i, row))

    def compute(self, batch: list[tuple[int, Prepared]], alone: bool) -> None:
        """Computes a batch into its rows; where it fails, each item by itself."""
        indices, rows = [i for i, _ in batch], [row for _, row in batch]
        try:
            vectors = self.steps.compute(rows, alone)
        except (OmnivecError, MemoryError, RuntimeError) as error:
            if len(batch) > 1:
                for row in batch:
                    self.compute([row], alone)
                return
            self._fail(indices[0], error)
            return
        self.vectors[indices] = vectors
        for i in np.flatnonzero(~np.isfinite(vectors).all(axis=1)):
            self._fail(indices[i], ItemError("its vector is not finite: the model overflows on this item"))
        if self.plan.done is not None:
            self.plan.done(len(batch))

    def _fail(self, index: int, error: BaseException) -> None:
        self.failures[index] = str(error) or type(error).__name__

    def encoded(self) -> Encoded:
        """What came out, with what is equal copied from the one that was computed."""
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


def stream(items: Iterable[Any], steps: Steps, plan: Plan = Plan()) -> Iterator[Encoded]:
    """`run` over windows of an iterable, in flat memory; indices count from the start of the iterable."""
    window: list[Any] = []
    start = 0
    for item in items:
        window.append(item)
        if len(window) == WINDOW:
            yield _moved(run(window, steps, plan), start)
            start, window = start + len(window), []
    if window:
        yield _moved(run(window, steps, plan), start)


def _moved(encoded: Encoded, start: int) -> Encoded:
    encoded.kept += start
    encoded.failures = {start + i: why for i, why in encoded.failures.items()}
    return encoded
