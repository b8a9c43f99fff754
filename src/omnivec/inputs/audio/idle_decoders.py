"""Decoders that stay open for a while, so that the next part of the same file does not start from its beginning.

To seek in an MP3 file, the decoder has to read it from the start, unless it has done so before: the parts of a
recording of an hour, each from a decoder of its own, would read it hundreds of times.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Hashable
from contextlib import ExitStack
from typing import Generic, TypeVar

T = TypeVar("T")


class IdleDecoders(Generic[T]):
    """Open decoders that nobody uses at the moment, the least recently used first; for several threads.

    Args:
        most: how many stay open; the others are closed.
    """

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._idle: list[tuple[Hashable, ExitStack, T]] = []
        atexit.register(self.close)
        if hasattr(
            os, "register_at_fork"
        ):  # a forked process shares the position in each file with its parent
            os.register_at_fork(after_in_child=self._forget)

    def take(self, key: Hashable) -> tuple[ExitStack, T] | None:
        """Removes and returns a decoder of a file, with what closes it; None if there is none."""
        with self._lock:
            for i, (own, stack, decoder) in enumerate(self._idle):
                if own == key:
                    del self._idle[i]
                    return stack, decoder
        return None

    def give(self, key: Hashable, stack: ExitStack, decoder: T) -> None:
        """Keeps a decoder for the next part of its file."""
        with self._lock:
            self._idle.append((key, stack, decoder))
            surplus = self._idle[: -self._most]
            del self._idle[: -self._most]
        for _, old, _ in surplus:
            old.close()

    def close(self) -> None:
        """Closes all."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, stack, _ in idle:
            stack.close()

    def _forget(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may have held it
        for _, stack, _ in self._idle:
            stack.pop_all()
        self._idle = []
