"""Memory of this process: how much it uses, how much it may use, and how much is reserved for preparing items."""

from __future__ import annotations

import contextlib
import mmap
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from omnivec.errors import ItemError, UsageError
from omnivec.validation.arguments import quoted

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}

STATM = Path("/proc/self/statm")
SMAPS = Path("/proc/self/smaps")


def parse_size(size: int | str) -> int:
    """Bytes of a size: a whole number of bytes, or a text such as "2GB", "1.5 GiB" or "500MB".

    Raises:
        UsageError: anything else.
    """
    try:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(size))
        if not isinstance(size, bool) and match and match[2].upper() in UNITS:
            return int(float(match[1]) * UNITS[match[2].upper()])
    except (ValueError, OverflowError):  # More digits than Python converts, or than a float holds.
        pass
    raise UsageError(
        f"max_memory={quoted(size)} is not a size: give bytes, or a text such as '2GB' or '500MiB'"
    )


def as_mb(size: float) -> str:
    """A size for messages, such as "1,234 MB"."""
    return f"{size / 1e6:,.0f} MB"


def resident() -> int:
    """Resident memory of this process in bytes, mapped files included.

    Raises:
        UsageError: the system is not Linux.
    """
    try:
        return int(STATM.read_bytes().split()[1]) * mmap.PAGESIZE
    except OSError as error:
        raise UsageError(f"max_memory needs {STATM}, which only Linux has: leave it out here") from error


def mapped() -> int:
    """Size of this process's address space in bytes; 0 if the system does not report it."""
    try:
        return int(STATM.read_bytes().split()[0]) * mmap.PAGESIZE
    except OSError:
        return 0


def _address_space() -> int | None:
    """The limit of this process's address space in bytes; None for no limit."""
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
    """A message for a library's failed allocation: the numbers, and what to do."""
    limit = _address_space()
    if limit is None:
        return "not enough memory; close other programs, or give this one more"
    return (
        f"not enough memory: the process has {as_mb(mapped())}, the limit of its address space (ulimit -v) is "
        f"{as_mb(limit)}; raise it"
    )


def release(arrays: Iterable[NDArray[Any]]) -> None:
    """Drops the file pages that memory-mapped arrays have loaded; a later access reads them from the file again."""
    maps: dict[int, tuple[mmap.mmap, int]] = {}
    for array in arrays:
        base: Any = array
        while base is not None and not isinstance(base, mmap.mmap):
            base = getattr(base, "base", None)
        if base is not None:
            maps[id(base)] = base, array.ctypes.data
    for one, address in maps.values():
        with contextlib.suppress(OSError, AttributeError):  # Systems other than Linux keep the pages.
            # A mapping that was written to is left alone: its changes exist in memory only.
            if _unchanged(address):
                one.madvise(mmap.MADV_DONTNEED)


def _unchanged(address: int) -> bool:
    """Whether the mapping at an address has no private pages, so that all of its content is in the file."""
    inside = False
    with SMAPS.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
            if head:
                inside = int(head[1], 16) <= address < int(head[2], 16)
            elif inside and line.startswith("Anonymous:"):
                return line.split()[1] == "0"
    return False


TOGETHER = 2**30
"""Most bytes that the items being prepared take together; an item that needs more is prepared alone."""


class MemoryReservation:
    """Memory reserved for items while they are prepared, so that the process stays below its limits.

    The limit of the address space (ulimit -v) is respected too: a library that reaches it aborts the process.

    Attributes:
        ceiling: most bytes of resident memory; None for no limit.
    """

    def __init__(self, together: int = TOGETHER) -> None:
        self.ceiling: int | None = None
        self._together, self._held, self._changed = together, 0, threading.Condition()

    @contextlib.contextmanager
    def entry(self) -> Iterator[Callable[[int], None]]:
        """Yields a function that reserves bytes, to be called once, before they are allocated.

        The function waits while other items hold the memory, and raises ItemError if there would never be enough. The
        reservation ends with the block.
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
        """Why this many bytes cannot be reserved; None if they can.

        What other items have reserved and already allocated is counted twice, which errs on the safe side.
        """
        if size > self._together and not alone:
            return "other items are being prepared"
        for limit, name, held in (
            (self.ceiling, "max_memory", resident),
            (_address_space(), "the limit of its address space (ulimit -v)", mapped),
        ):
            if limit is not None and held() + size > limit:
                return (
                    f"no memory to prepare it: the process has {as_mb(held())}, the item takes up to {as_mb(size)} "
                    f"more, and {name} is {as_mb(limit)}; raise it, or make the item smaller"
                )
        return None
