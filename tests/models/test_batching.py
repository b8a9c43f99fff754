"""The loop, over a model of its own that can be counted: order, budget, failures, streams."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from omnivec.errors import ItemError
from omnivec.models import batching
from omnivec.models.batching import BatchOptions
from omnivec.types import Encoded, Prepared


class Counting:
    """Numbers as items: a vector is (value, cost, batch size); what it is told not to like fails."""

    dim, unit, budget, chunk, modality = 2, "units", 64, 1024, "text"

    def __init__(self, streams: int = 2, refuse: Sequence[int] = (), break_on: Sequence[int] = ()) -> None:
        self.streams, self.refuse, self.break_on = streams, set(refuse), set(break_on)
        self.batches: list[list[int]] = []
        self.lock = threading.Lock()

    def decode(self, item: Any) -> int:
        if item in self.refuse:
            raise ItemError(f"{item} is refused")
        return int(item)

    def key(self, decoded: int) -> int | None:
        return None

    def size(self, decoded: int) -> int:
        return decoded % 50

    def prepare(self, decoded: Sequence[int], options: Any) -> list[list[Prepared]]:
        return [[Prepared({"x": np.array([d])}, max(1, d % 50), d % 50, d % 3)] for d in decoded]

    def compute(self, rows: Sequence[Prepared], alone: bool) -> np.ndarray:
        values = [int(row.arrays["x"][0]) for row in rows]
        with self.lock:
            self.batches.append(values)
        if self.break_on & set(values):
            raise RuntimeError(f"cannot compute {sorted(self.break_on & set(values))}")
        return np.array([(v, row.cost) for v, row in zip(values, rows, strict=True)], np.float32).reshape(
            -1, 2
        )


def run(items: Sequence[Any], steps: Any, plan: BatchOptions | None = None) -> Encoded:
    """The loop over a double that prepares and computes."""
    return batching.run(items, steps, steps, plan=plan or BatchOptions())


@given(
    items=st.lists(st.integers(0, 10_000), max_size=300), streams=st.integers(1, 4), rows=st.integers(0, 7)
)
def test_order_is_kept_and_budgets_are_obeyed(items: list[int], streams: int, rows: int) -> None:
    steps = Counting(streams)
    encoded = run(items, steps, BatchOptions(rows))
    assert encoded.vectors[:, 0].tolist() == items
    assert encoded.kept.tolist() == list(range(len(items)))
    assert encoded.lost.tolist() == [i % 3 for i in items]
    assert sorted(v for batch in steps.batches for v in batch) == sorted(items)
    for batch in steps.batches:
        longest = max(max(1, v % 50) for v in batch)
        assert len(batch) == 1 or longest * len(batch) <= steps.budget
        assert not rows or len(batch) <= rows


@given(
    items=st.lists(st.integers(0, 200), max_size=60),
    refuse=st.sets(st.integers(0, 200), max_size=20),
    broken=st.sets(st.integers(0, 200), max_size=20),
)
def test_a_bad_item_costs_only_itself(items: list[int], refuse: set[int], broken: set[int]) -> None:
    encoded = run(items, Counting(2, tuple(refuse), tuple(broken)))
    bad = refuse | broken
    assert list(encoded.failures) == [i for i, item in enumerate(items) if item in bad]
    assert encoded.vectors[:, 0].tolist() == [item for item in items if item not in bad]
    assert encoded.kept.tolist() == [i for i, item in enumerate(items) if item not in bad]


@given(items=st.lists(st.integers(0, 20), max_size=80), broken=st.sets(st.integers(0, 20), max_size=5))
def test_equal_items_are_computed_once(items: list[int], broken: set[int]) -> None:
    class Keyed(Counting):
        def key(self, decoded: int) -> int | None:
            return decoded

    done: list[int] = []
    steps = Keyed(1, break_on=tuple(broken))
    encoded = run(items, steps, BatchOptions(rows=1, done=done.append))
    assert sorted(v for batch in steps.batches for v in batch) == sorted(set(items))
    assert encoded.vectors[:, 0].tolist() == [item for item in items if item not in broken]
    assert list(encoded.failures) == [i for i, item in enumerate(items) if item in broken]
    assert encoded.lost.tolist() == [item % 3 for item in items if item not in broken]
    assert sum(done) == len(items) - len(set(items) & broken)


def test_batches_are_full_and_the_costliest_come_first() -> None:
    steps = Counting(streams=1)
    run([16] * 40 + [4] * 64, steps)
    assert [len(batch) for batch in steps.batches] == [4] * 10 + [16] * 4
    assert steps.batches[0] == [16] * 4


def test_equal_work_takes_as_many_batches_whatever_the_order() -> None:
    rng = np.random.default_rng(0)
    items = rng.integers(1, 50, 5000).tolist()
    counts = []
    for order in (items, sorted(items), items[::-1]):
        steps = Counting()
        run(order, steps)
        counts.append(len(steps.batches))
    assert len(set(counts)) == 1
    full, rest = 0, sorted(items, reverse=True)
    while rest:
        rest = rest[max(1, Counting.budget // rest[0]) :]
        full += 1
    assert counts[0] == full


def test_stream_counts_from_the_start_and_reads_one_window_ahead_at_most() -> None:
    read = 0

    def endless() -> Any:
        nonlocal read
        for i in range(10 * batching.WINDOW):
            read += 1
            yield i

    steps = Counting(refuse=(batching.WINDOW + 5,))
    windows = batching.stream(endless(), lambda window: run(window, steps))
    first, second = next(windows), next(windows)
    assert read == 2 * batching.WINDOW
    assert first.kept.tolist() == list(range(batching.WINDOW))
    assert second.kept[0] == batching.WINDOW
    assert list(second.failures) == [batching.WINDOW + 5]
    assert second.vectors[5, 0] == batching.WINDOW + 6


class Parted(Counting):
    """An item of value v comes in v % 4 + 1 parts, whose vectors are the part's number, seen as often."""

    def prepare(self, decoded: Sequence[int], options: Any) -> list[list[Prepared]]:
        return [
            [Prepared({"x": np.array([part + 1])}, 1 + d % 9, part + 1, 0) for part in range(d % 4 + 1)]
            for d in decoded
        ]


@given(items=st.lists(st.integers(0, 99), max_size=90), streams=st.integers(1, 3), rows=st.integers(0, 5))
def test_parts_of_an_item_are_averaged_by_what_they_saw(items: list[int], streams: int, rows: int) -> None:
    counted: list[int] = []
    encoded = run(items, Parted(streams), BatchOptions(rows, counted.append))
    parts = [np.arange(1, item % 4 + 2) for item in items]
    assert np.allclose(encoded.vectors[:, 0], [(own * own).sum() / own.sum() for own in parts])
    assert encoded.seen.tolist() == [own.sum() for own in parts]
    assert sum(counted) == len(items)


def test_a_bad_part_costs_its_item_alone() -> None:
    encoded = run([1, 4, 2, 3, 8], Parted(break_on=(3,)))
    assert list(encoded.failures) == [2, 3]
    assert np.allclose(encoded.vectors[:, 0], [5 / 3, 1, 1])


def test_not_finite_vectors_are_failures() -> None:
    class Overflowing(Counting):
        def compute(self, rows: Sequence[Prepared], alone: bool) -> np.ndarray:
            out = super().compute(rows, alone)
            out[out[:, 0] == 3] = np.inf
            return out

    encoded = run([1, 2, 3, 4], Overflowing())
    assert list(encoded.failures) == [2]
    assert encoded.vectors[:, 0].tolist() == [1, 2, 4]


def test_progress_counts_every_item_once() -> None:
    seen: list[int] = []
    run(list(range(500)), Counting(refuse=(7,)), BatchOptions(done=seen.append))
    assert sum(seen) == 499
