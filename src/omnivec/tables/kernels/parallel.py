"""Runs compiled work on several threads: kernels release the GIL."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 4
"""Pieces per thread that are submitted ahead: enough that no thread idles, few enough to stop soon."""


def in_order(work: Callable[[T], R], pieces: Iterable[T], threads: int) -> Iterator[R]:
    """Yields the results of `work` in the order of the pieces, which `threads` threads work on.

    When the caller stops iterating (an error, Ctrl-C), pieces that were begun are finished and no others started.
    """
    pieces = iter(pieces)
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for piece in islice(pieces, threads * AHEAD):
                waiting.append(pool.submit(work, piece))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(work, piece) for piece in islice(pieces, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()
