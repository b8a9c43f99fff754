"""Compiled work on several threads: the kernels let go of the interpreter's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 4
"""Pieces for each thread that wait or work at a time: enough that no thread idles, few enough to stop soon."""


def in_order(work: Callable[[T], R], pieces: Iterable[T], threads: int) -> Iterator[R]:
    """Results of `work` in the order of the pieces; each thread takes the next piece when it is done with one.

    Whoever stops taking results (an error, Ctrl-C) stops the work after the pieces that were begun.
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
