"""Limits batches so that the process stays below a memory limit; the memory of a batch is measured by running some."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from omnivec.errors import ItemError, ModelError
from omnivec.inputs.preparer import Preparer
from omnivec.models.model import Model
from omnivec.models.network import Choice, Network, runtime_of
from omnivec.ops import process
from omnivec.ops.process import as_mb, release
from omnivec.ops.quantized import bytes_of

SHORT = 256
"""Largest length of the items run as a warm-up, in which the engine creates kernels and packs weights."""

MARGIN = 1.25
"""Factor of the memory of several streams over that measured for one, because each has its own buffers."""

SLACK = 48 * 10**6
"""Bytes reserved for what still grows a little: kernels of new shapes, the tokenizer, decoded items."""

WAYS_OUT = "raise it, or use precision='int8' or fewer threads"


class Ceiling:
    """Keeps all networks of one model together below a memory limit of the process.

    Args:
        ceiling: memory limit of the process in bytes.
        choice: the options of execution that the user has set.
        trials: see `Network.of`.
    """

    def __init__(self, ceiling: int, choice: Choice, trials: Path) -> None:
        self._ceiling, self._choice, self._trials = ceiling, choice, trials
        self._parts: list[_MemoryShare] = []

    def network(self, model: Model) -> Network:
        """Puts a model on an engine; ModelError if its weights alone exceed the limit."""
        chosen = runtime_of(model, self._choice, self._trials)
        before = process.resident()
        require(self._ceiling, before + bytes_of(model.tensors, chosen.precision))
        network = Network(model, chosen, self._trials)
        release(tensor.data for tensor in model.tensors.values())
        self._parts.append(_MemoryShare(network, process.resident() - before))
        return network

    def keep(self) -> None:
        """Limits batches and streams of all networks; called after the last one is made.

        Raises:
            ModelError: there is not enough memory for one item of the greatest length.
        """
        keep_below(self._ceiling, self._parts)


class _MemoryShare:
    """A network while its share of the memory is determined.

    Attributes:
        network: the network.
        twin: bytes that compiling it and its first runs took; a second program, for several streams, takes as much.
        cold: bytes of the process before the first run if all items have the same size; else 0.
    """

    def __init__(self, network: Network, twin: int) -> None:
        self.network, self.twin, self.cold = network, twin, 0

    def warm(self) -> None:
        """Runs a few items, for which the engine packs weights and creates kernels; later, its memory is stable."""
        network, start = self.network, process.resident()
        self.cold = start if network.is_fixed else 0
        for length in (1,) if network.is_fixed else (16, 32, 64, 128, SHORT):
            network.probe(1, min(length, _largest(network.preparer)))
        self.twin += process.resident() - start
        release(tensor.data for tensor in network.model.tensors.values())

    def fit(self, ceiling: int, others: int) -> None:
        """Limits batches and streams so that the process stays below a memory limit; called after `warm`.

        Args:
            ceiling: memory limit of the process in bytes.
            others: how many of these bytes the model's other networks may still take.
        """
        network, preparer = self.network, self.network.preparer
        streams = network.runtime.settings.streams
        probe = Probe(
            network.probe,
            _largest(preparer),
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


def _largest(preparer: Preparer) -> int:
    """The cost of the longest item, which is the preparer's limit unless this is in another unit, such as seconds."""
    return int(getattr(preparer, "largest", preparer.limit))


class Fits(Protocol):
    """A network that shares the memory below a limit with others."""

    def warm(self) -> None:
        """Runs a few items, so that all memory that is only taken once is taken."""

    def fit(self, ceiling: int, others: int) -> None:
        """Limits batches so that the process stays below `ceiling` bytes, of which others may still take `others`."""


def keep_below(ceiling: int, parts: Sequence[Fits]) -> None:
    """Divides the memory that is left below a limit among the networks of a model, and limits each to its share.

    Raises:
        ModelError: the share of a network is too small for one item of the greatest length.
    """
    for part in parts:
        part.warm()
    left = ceiling - SLACK - process.resident()
    for i, part in enumerate(parts):
        share = left // (len(parts) - i)
        # The shares of the networks before, as far as they are not used yet, remain reserved.
        used = process.resident() + SLACK + share
        part.fit(ceiling, max(0, ceiling - used))
        left -= share


def require(ceiling: int, needed: int) -> None:
    """Raises ModelError if the weights and the present memory of the process exceed a limit."""
    if needed > ceiling:
        raise ModelError(
            f"max_memory={as_mb(ceiling)} is too low: the process with this model's weights needs {as_mb(needed)}, and "
            f"more for items; {WAYS_OUT}"
        )


def peak_of(call: Callable[[], object]) -> int:
    """Returns the peak resident memory of the process in bytes during a call."""
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
    """Limits of batches that keep the process below a memory limit. A place is a token or pixel of a batch.

    Attributes:
        ceiling: memory limit of the process in bytes.
        each: bytes for each place of a batch.
        budget: largest number of places in a batch.
        streams: number of batches to compute at the same time.
        held: places of the largest batch so far, whose memory the engine keeps.
    """

    ceiling: int
    each: float
    budget: int
    streams: int
    held: int = 0


class Guard:
    """Checks before each batch that it fits, because other data of the process may have grown meanwhile."""

    def __init__(self, limits: MemoryLimits, unit: str = "tokens") -> None:
        self.limits, self._unit, self._largest = limits, unit, limits.held

    def check(self, places: int) -> None:
        """Raises ItemError if a batch of so many places could lift the process above the memory limit."""
        # The engine keeps the memory of the largest batch, so only what exceeds it is new.
        now, more = process.resident(), max(0, places - self._largest) * self.limits.each
        if now + more > self.limits.ceiling:
            raise ItemError(
                f"no memory for a batch of {places:,} {self._unit}: the process has {as_mb(now)} and it takes up to "
                f"{as_mb(more)} more, max_memory is {as_mb(self.limits.ceiling)}; raise it, or free other data"
            )
        self._largest = max(self._largest, places)


@dataclass(frozen=True)
class Probe:
    """The network and the measurements that `fit` starts from.

    Attributes:
        run: computes a batch, given its number of rows and their length.
        longest: greatest length of an item.
        budget: largest number of places in a batch without a memory limit.
        streams: preferred number of batches to compute at the same time.
        least: smallest number of these that is acceptable.
        twin: bytes that a second compiled program takes, which several streams need.
        cold: bytes of the process before the first run if all items have the same size, as images have; else 0.
        others: bytes below the limit that are reserved for other networks.
        unit: unit of lengths and places.
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
    """Determines the limits of batches by running growing ones; no batch is run that is not expected to fit.

    Raises:
        ModelError: one item of the greatest length does not fit; the message has the memory that it needs.
    """
    longest, free = probe.longest, ceiling - probe.others
    first = longest if probe.cold else min(SHORT, longest)
    # If all items have the same size, no shorter one can be run: the first point is that without any item.
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
        del points[0]  # the first run also packs weights, which is not memory of an item
    (start, base), (end, top) = points[0], points[-1]
    each = max((top - base) / max(end - start, 1), 1.0)
    for streams in range(probe.streams, 0, -1):
        # The first program keeps the memory that it has taken.
        held, share = (top + probe.twin, streams * MARGIN) if streams > 1 else (base, 1.0)
        budget = min(probe.budget, int((free - SLACK - held) / (each * share)))
        if budget >= longest or streams == 1:
            break
    if streams < probe.least:
        needed = SLACK + top + probe.twin + int(probe.least * MARGIN * each * longest)
        raise ModelError(_too_low(free, needed, probe) + ", or deterministic=False")
    # Several streams need a second program, which has not run anything yet.
    return MemoryLimits(ceiling, each, max(budget, longest), streams, end if streams == 1 else 0)


def _doubled(start: int, end: int) -> list[int]:
    """Returns start, 2 * start, 4 * start, ... below end."""
    out = []
    while start < end:
        out.append(start)
        start *= 2
    return out


def _refuse(free: int, points: list[tuple[int, int]], probe: Probe, length: int) -> None:
    """Raises ModelError if an item of a length is not expected to fit, or did not fit."""
    if _expected(points, length) + SLACK > free:
        raise ModelError(_too_low(free, _expected(points, probe.longest) + SLACK, probe))


def _too_low(free: int, needed: int, probe: Probe) -> str:
    return (
        f"max_memory={as_mb(free + probe.others)} is too low: the process with this model and one item of "
        f"{probe.longest:,} {probe.unit} needs about {as_mb(needed + probe.others)}; {WAYS_OUT}"
    )


def _expected(points: list[tuple[int, int]], places: int) -> int:
    """Extrapolates the bytes of the process to a larger batch; those of attention may grow quadratically."""
    if len(points) == 1 or places <= points[-1][0]:
        return points[-1][1]
    (t1, p1), (t2, p2) = points[-2:]
    slope, bend = max(0.0, (p2 - p1) / (t2 - t1)), 0.0
    if len(points) > 2:
        t0, p0 = points[-3]
        bend = max(0.0, (slope - max(0.0, (p1 - p0) / (t1 - t0))) / (t2 - t0))
    return int(p2 + (places - t2) * (slope + bend * (places - t1)))
