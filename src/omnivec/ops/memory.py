"""Memory of this process: how much it has, what a batch takes of it, and batches that stay below a ceiling."""

from __future__ import annotations

import contextlib
import mmap
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from omnivec.errors import ItemError, ModelError, UsageError
from omnivec.validation.arguments import one_line

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}

STATM = Path("/proc/self/statm")
SMAPS = Path("/proc/self/smaps")
SHORT = 256
"""Greatest length of the items that are run before anything is measured: kernels and weights are packed then."""

MARGIN = 1.25
"""What several streams take, in what one was measured to take: each keeps buffers of its own."""

SLACK = 48 * 10**6
"""Bytes left for what grows a little at first: kernels of shapes not seen yet, the tokenizer, items at hand."""

WAYS_OUT = "give more, or take precision='int8' or fewer threads"


def parse_size(said: int | str) -> int:
    """Bytes of a size: a whole number of bytes, or a text such as "2GB", "1.5 GiB" or "500MB"."""
    try:
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(said))
        if not isinstance(said, bool) and found and found[2].upper() in UNITS:
            return int(float(found[1]) * UNITS[found[2].upper()])
    except (ValueError, OverflowError):  # More digits than Python writes, or than a float holds.
        pass
    raise UsageError(
        f"max_memory={one_line(said)} is no size: give bytes, or a text such as '2GB' or '500MiB'"
    )


def shown(size: float) -> str:
    """A size for people: 1,234 MB."""
    return f"{size / 1e6:,.0f} MB"


def resident() -> int:
    """Bytes of this process that are in memory, mapped files included.

    Raises:
        UsageError: this system does not say.
    """
    try:
        return int(STATM.read_bytes().split()[1]) * mmap.PAGESIZE
    except OSError as error:
        raise UsageError(f"max_memory needs {STATM}, which only Linux has: leave it out here") from error


def mapped() -> int:
    """Bytes of this process's address space; 0 where the system does not say."""
    try:
        return int(STATM.read_bytes().split()[0]) * mmap.PAGESIZE
    except OSError:
        return 0


def _address_space() -> int | None:
    """The most bytes that this process may map; None for no limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def spare() -> int | None:
    """Bytes that this process may still map under a limit of its address space (ulimit -v); None without a limit."""
    limit = _address_space()
    return None if limit is None else max(0, limit - mapped())


def why_short() -> str:
    """What to say where a library got no memory: that, and the way out."""
    limit = _address_space()
    if limit is None:
        return "not enough memory; close other programs, or give this one more"
    return (
        f"not enough memory: the process has {shown(mapped())}, the limit of its address space (ulimit -v) is "
        f"{shown(limit)}; raise it"
    )


def require(ceiling: int, needed: int) -> None:
    """Raises ModelError where the weights alone, with what the process has, are above a ceiling."""
    if needed > ceiling:
        raise ModelError(
            f"max_memory={shown(ceiling)} is too low: the process with this model's weights needs {shown(needed)}, and "
            f"more for items; {WAYS_OUT}"
        )


def peak_of(call: Callable[[], object]) -> int:
    """The most bytes that were resident while a call ran."""
    top, done = resident(), threading.Event()

    def watch() -> None:
        nonlocal top
        while not done.wait(0.0005):
            top = max(top, resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        call()
    finally:
        done.set()
        watcher.join()
    return max(top, resident())


def release(arrays: Iterable[NDArray[Any]]) -> None:
    """Lets go of file pages that arrays have brought into memory; they come again where they are asked for."""
    maps: dict[int, tuple[mmap.mmap, int]] = {}
    for array in arrays:
        base: Any = array
        while base is not None and not isinstance(base, mmap.mmap):
            base = getattr(base, "base", None)
        if base is not None:
            maps[id(base)] = base, array.ctypes.data
    for one, address in maps.values():
        with contextlib.suppress(OSError, AttributeError):  # Other systems keep them.
            # What was written to is nowhere but in memory: it stays. Clean pages go, shared ones too.
            if _unchanged(address):
                one.madvise(mmap.MADV_DONTNEED)


def _unchanged(address: int) -> bool:
    """Whether the mapping that holds an address has no page of its own: all are those of the file."""
    inside = False
    with SMAPS.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
            if head:
                inside = int(head[1], 16) <= address < int(head[2], 16)
            elif inside and line.startswith("Anonymous:"):
                return line.split()[1] == "0"
    return False


@dataclass(frozen=True)
class Limits:
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

    def __init__(self, limits: Limits, unit: str = "tokens") -> None:
        self.limits, self._unit, self._largest = limits, unit, limits.held

    def check(self, places: int) -> None:
        """Raises ItemError where a batch of so many places would lift the process above the ceiling."""
        # What the largest batch took, the engine has kept.
        now, more = resident(), max(0, places - self._largest) * self.limits.each
        if now + more > self.limits.ceiling:
            raise ItemError(
                f"no memory for a batch of {places:,} {self._unit}: the process has {shown(now)} and it takes up to "
                f"{shown(more)} more, max_memory is {shown(self.limits.ceiling)}; raise it, or let go of other data"
            )
        self._largest = max(self._largest, places)


TOGETHER = 2**30
"""Bytes that items take at a time while they are prepared, unless one alone takes more."""


class Room:
    """Memory for items that are prepared: as much at a time as there is room for, and nothing beyond a ceiling.

    The ceiling of the address space, which a system may set (ulimit -v), is obeyed too: a library that meets it aborts.

    Attributes:
        ceiling: bytes of the process; None for none.
    """

    def __init__(self, together: int = TOGETHER) -> None:
        self.ceiling: int | None = None
        self._together, self._held, self._changed = together, 0, threading.Condition()

    @contextlib.contextmanager
    def entry(self) -> Iterator[Callable[[int], None]]:
        """A function to ask for bytes with, once, before they are taken; what it gave is free when the block ends.

        It waits while others hold what is asked for, and raises ItemError where there will never be enough.
        """
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            with self._changed:
                self._changed.wait_for(lambda: not self._held or self._refusal(self._held + size) is None)
                if not self._held and (why := self._refusal(size, alone=True)) is not None:
                    raise ItemError(why)
                self._held += size
                taken = size

        try:
            yield take
        finally:
            with self._changed:
                self._held -= taken
                self._changed.notify_all()

    def _refusal(self, size: int, alone: bool = False) -> str | None:
        """Why so many bytes cannot be held; None where they can. What is resident already is counted twice."""
        if size > self._together and not alone:
            return "others are prepared"
        for limit, name, held in (
            (self.ceiling, "max_memory", resident),
            (_address_space(), "the limit of its address space (ulimit -v)", mapped),
        ):
            if limit is not None and held() + size > limit:
                return (
                    f"no memory to prepare it: the process has {shown(held())} and it takes up to {shown(size)} more, "
                    f"{name} is {shown(limit)}; raise it, or make the item smaller"
                )
        return None


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


def fit(ceiling: int, probe: Probe) -> Limits:
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
    return Limits(ceiling, each, max(budget, longest), streams, end if streams == 1 else 0)


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
        f"max_memory={shown(free + probe.others)} is too low: the process with this model and one item of "
        f"{probe.longest:,} {probe.unit} needs about {shown(needed + probe.others)}; {WAYS_OUT}"
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
