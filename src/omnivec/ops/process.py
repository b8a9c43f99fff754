"""Memory of this process: how much it has, how much it may have, and room for what is prepared."""

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


def parse_size(said: int | str) -> int:
    """Bytes of a size: a whole number of bytes, or a text such as "2GB", "1.5 GiB" or "500MB"."""
    try:
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(said))
        if not isinstance(said, bool) and found and found[2].upper() in UNITS:
            return int(float(found[1]) * UNITS[found[2].upper()])
    except (ValueError, OverflowError):  # More digits than Python writes, or than a float holds.
        pass
    raise UsageError(f"max_memory={quoted(said)} is no size: give bytes, or a text such as '2GB' or '500MiB'")


def as_mb(size: float) -> str:
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
        f"not enough memory: the process has {as_mb(mapped())}, the limit of its address space (ulimit -v) is "
        f"{as_mb(limit)}; raise it"
    )


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
                    f"no memory to prepare it: the process has {as_mb(held())} and it takes up to {as_mb(size)} more, "
                    f"{name} is {as_mb(limit)}; raise it, or make the item smaller"
                )
        return None
