"""Batches that stay below a ceiling of the process's memory: what a batch takes is measured by running some."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from omnivec.errors import ItemError, ModelError
from omnivec.models.model import Model
from omnivec.models.network import Choice, Network, runtime_of
from omnivec.ops import process
from omnivec.ops.process import as_mb, release
from omnivec.ops.quantized import bytes_of

SHORT = 256
"""Greatest length of the items that are run before anything is measured: kernels and weights are packed then."""

MARGIN = 1.25
"""What several streams take, in what one was measured to take: each keeps buffers of its own."""

SLACK = 48 * 10**6
"""Bytes left for what grows a little at first: kernels of shapes not seen yet, the tokenizer, items at hand."""

WAYS_OUT = "give more, or take precision='int8' or fewer threads"


class Ceiling:
    """Keeps the networks of one model together below a ceiling of the process's memory.

    Args:
        ceiling: bytes of the process.
        choice: what the user fixes about execution.
        trials: see `Network.of`.
    """

    def __init__(self, ceiling: int, choice: Choice, trials: Path) -> None:
        self._ceiling, self._choice, self._trials = ceiling, choice, trials
        self._parts: list[_MemoryShare] = []

    def network(self, model: Model) -> Network:
        """A model on an engine; ModelError where its weights alone are above the ceiling."""
        chosen = runtime_of(model, self._choice, self._trials)
        before = process.resident()
        require(self._ceiling, before + bytes_of(model.tensors, chosen.precision))
        network = Network(model, chosen, self._trials)
        release(tensor.data for tensor in model.tensors.values())
        self._parts.append(_MemoryShare(network, process.resident() - before))
        return network

    def keep(self) -> None:
        """Fits batches and streams of all networks; called when the last one is made.

        Raises:
            ModelError: there is no room for an item of the greatest length.
        """
        keep_below(self._ceiling, self._parts)


class _MemoryShare:
    """A network while its share of the memory is found.

    Attributes:
        network: which.
        twin: bytes that it took when it was compiled and first ran: those of a second program, for several streams.
        cold: bytes of the process before its first run, where all items are of one size; else 0.
    """

    def __init__(self, network: Network, twin: int) -> None:
        self.network, self.twin, self.cold = network, twin, 0

    def warm(self) -> None:
        """Runs the first items, for which an engine packs weights and makes kernels: after them memory is steady."""
        network, start = self.network, process.resident()
        self.cold = start if network.is_fixed else 0
        for length in (1,) if network.is_fixed else (16, 32, 64, 128, SHORT):
            network.probe(1, min(length, network.preparer.limit))
        self.twin += process.resident() - start
        release(tensor.data for tensor in network.model.tensors.values())

    def fit(self, ceiling: int, others: int) -> None:
        """Takes batches and streams that keep the process below a ceiling, found by running some; `warm` comes first.

        Args:
            ceiling: bytes of the process.
            others: those of them that the model's other programs may still take.
        """
        network, preparer = self.network, self.network.preparer
        streams = network.runtime.settings.streams
        probe = Probe(
            network.probe,
            preparer.limit,
            network.budget,
            streams,
            least=streams if network.runtime.deterministic else 1,
            twin=self.twin,
            cold=self.cold,
            others=others,
            unit=preparer.unit,
        )
        limits = fit(ceiling, probe)
        guard = Guard(limits, preparer.unit)
        network.limit(limits.budget, limits.streams, guard.check, f"as {as_mb(ceiling)} of memory allow")
        preparer.room.ceiling = ceiling


class Fits(Protocol):
    """What shares memory below a ceiling."""

    def warm(self) -> None:
        """Takes what its first work takes."""

    def fit(self, ceiling: int, others: int) -> None:
        """Keeps the process below a ceiling, of which others may still take some."""


def keep_below(ceiling: int, parts: Sequence[Fits]) -> None:
    """Divides what memory is left below a ceiling among the programs of a model, and fits each to its share.

    Raises:
        ModelError: one has no room for an item of its greatest length.
    """
    for part in parts:
        part.warm()
    left = ceiling - SLACK - process.resident()
    for i, part in enumerate(parts):
        share = left // (len(parts) - i)
        # What those before were promised and have not taken yet stays theirs.
        used = process.resident() + SLACK + share
        part.fit(ceiling, max(0, ceiling - used))
        left -= share


def require(ceiling: int, needed: int) -> None:
    """Raises ModelError where the weights alone, with what the process has, are above a ceiling."""
    if needed > ceiling:
        raise ModelError(
            f"max_memory={as_mb(ceiling)} is too low: the process with this model's weights needs {as_mb(needed)}, and "
            f"more for items; {WAYS_OUT}"
        )


def peak_of(call: Callable[[], object]) -> int:
    """The most bytes that were resident while a call ran."""
    top, done = process.resident(), threading.Event()

    def watch() -> None:
        nonlocal top
        while not done.wait(0.0005):
            top = max(top, process.resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        call()
    finally:
        done.set()
        watcher.join()
    return max(top, process.resident())


@dataclass(frozen=True)
class MemoryLimits:
    """What batches may take, so that the process stays below a ceiling.

    Attributes:
        ceiling: bytes of the process.
        each: bytes that a place of a batch takes.
        budget: places of a batch.
        streams: batches at a time.
        held: places of the largest batch that has run: what it took, the engine has kept.
    """

    ceiling: int
    each: float
    budget: int
    streams: int
    held: int = 0


class Guard:
    """Stands before each batch: other data of the process may have grown since the limits were found."""

    def __init__(self, limits: MemoryLimits, unit: str = "tokens") -> None:
        self.limits, self._unit, self._largest = limits, unit, limits.held

    def check(self, places: int) -> None:
        """Raises ItemError where a batch of so many places would lift the process above the ceiling."""
        # What the largest batch took, the engine has kept.
        now, more = process.resident(), max(0, places - self._largest) * self.limits.each
        if now + more > self.limits.ceiling:
            raise ItemError(
                f"no memory for a batch of {places:,} {self._unit}: the process has {as_mb(now)} and it takes up to "
                f"{as_mb(more)} more, max_memory is {as_mb(self.limits.ceiling)}; raise it, or let go of other data"
            )
        self._largest = max(self._largest, places)


@dataclass(frozen=True)
class Probe:
    """What `fit` measures with.

    Attributes:
        run: computes a batch of (rows, length).
        longest: greatest length of an item.
        budget: places that a batch may hold where memory does not matter.
        streams: batches at a time that are wanted.
        least: fewest streams that will do.
        twin: bytes that a second compiled program takes, for several streams.
        cold: where all items have the greatest length, as images have: bytes of the process before the first ran.
        others: bytes below the ceiling that are promised to other programs.
        unit: what lengths and places are counted in.
    """

    run: Callable[[int, int], object]
    longest: int
    budget: int
    streams: int
    least: int
    twin: int
    cold: int = 0
    others: int = 0
    unit: str = "tokens"


def fit(ceiling: int, probe: Probe) -> MemoryLimits:
    """Batches that stay below a ceiling, found by growing ones; no batch runs that is not expected to fit.

    Raises:
        ModelError: one item of the greatest length does not fit; the message says what would be needed.
    """
    longest, free = probe.longest, ceiling - probe.others
    first = longest if probe.cold else min(SHORT, longest)
    # Of items of one size nothing shorter can be run: the first is held against none.
    points = [(0, probe.cold)] if probe.cold else []
    points.append((first, peak_of(lambda: probe.run(1, first))))
    lengths = sorted({3 * first // 2, *_doubled(2 * first, longest), longest})
    for length in (one for one in lengths if first < one <= longest):
        _refuse(free, points, probe, length)
        points.append((length, peak_of(lambda n=length: probe.run(1, n))))  # type: ignore[misc]
    _refuse(free, points, probe, longest)
    for rows in _doubled(2, probe.budget // longest + 1):
        if _expected(points, rows * longest) + SLACK > free:
            break
        points.append((rows * longest, peak_of(lambda n=rows: probe.run(n, longest))))  # type: ignore[misc]
    if len(points) > 2 and not points[0][0]:
        del points[0]  # What a first run packs is not what an item takes.
    (start, base), (end, top) = points[0], points[-1]
    each = max((top - base) / max(end - start, 1), 1.0)
    for streams in range(probe.streams, 0, -1):
        # What the first program has been measured to hold, it keeps.
        held, share = (top + probe.twin, streams * MARGIN) if streams > 1 else (base, 1.0)
        budget = min(probe.budget, int((free - SLACK - held) / (each * share)))
        if budget >= longest or streams == 1:
            break
    if streams < probe.least:
        needed = SLACK + top + probe.twin + int(probe.least * MARGIN * each * longest)
        raise ModelError(_too_low(free, needed, probe) + ", or deterministic=False")
    # Several streams are a program of their own, which has run nothing yet.
    return MemoryLimits(ceiling, each, max(budget, longest), streams, end if streams == 1 else 0)


def _doubled(start: int, end: int) -> list[int]:
    """start, 2 start, 4 start ... below end."""
    out = []
    while start < end:
        out.append(start)
        start *= 2
    return out


def _refuse(free: int, points: list[tuple[int, int]], probe: Probe, length: int) -> None:
    """Raises ModelError where an item of a length is not expected to fit, or has not."""
    if _expected(points, length) + SLACK > free:
        raise ModelError(_too_low(free, _expected(points, probe.longest) + SLACK, probe))


def _too_low(free: int, needed: int, probe: Probe) -> str:
    return (
        f"max_memory={as_mb(free + probe.others)} is too low: the process with this model and one item of "
        f"{probe.longest:,} {probe.unit} needs about {as_mb(needed + probe.others)}; {WAYS_OUT}"
    )


def _expected(points: list[tuple[int, int]], places: int) -> int:
    """Bytes of the process with a larger batch than the last; attention may grow with the square of a length."""
    if len(points) == 1 or places <= points[-1][0]:
        return points[-1][1]
    (t1, p1), (t2, p2) = points[-2:]
    slope, bend = max(0.0, (p2 - p1) / (t2 - t1)), 0.0
    if len(points) > 2:
        t0, p0 = points[-3]
        bend = max(0.0, (slope - max(0.0, (p1 - p0) / (t1 - t0))) / (t2 - t0))
    return int(p2 + (places - t2) * (slope + bend * (places - t1)))
