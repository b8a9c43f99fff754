"""One writer at a time: an advisory lock on a file, which the system releases when its process dies."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from omnivec.errors import CollectionBusy, CollectionError
from omnivec.validation.reasons import of_system

FILE = "writer.lock"
_PAUSE_SECONDS = 0.05

if sys.platform == "win32":
    import msvcrt

    # Far behind the text, because a locked region cannot be read on Windows.
    _PLACE = 1 << 30

    def _take(handle: int) -> bool:
        try:
            os.lseek(handle, _PLACE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _take(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _holder(path: Path) -> str:
    try:
        return f"process {int(path.read_text(encoding='ascii'))}"
    except (OSError, ValueError):
        return "another process"


@contextmanager
def writer_lock(folder: Path, wait: float | None, say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Holds the collection's writer lock.

    Args:
        folder: of the collection, which must exist.
        wait: seconds to wait for another holder; None waits as long as it takes, 0 does not wait.
        say: is told once, in one line, who is being waited for.

    Raises:
        CollectionBusy: another process held it all the time.
        CollectionError: the lock file cannot be opened.
    """
    path = folder / FILE
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    except OSError as exc:
        raise CollectionError(f"{path} cannot be opened for writing: {of_system(exc)}") from exc
    try:
        _wait(handle, path, wait, say)
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, str(os.getpid()).encode("ascii"))
        yield
    finally:
        # Closing releases. The file stays: removing it would let two writers lock two different files.
        os.close(handle)


def _wait(handle: int, path: Path, wait: float | None, say: Callable[[str], None] | None) -> None:
    begin = time.monotonic()
    told = False
    while not _take(handle):
        if wait is not None and time.monotonic() - begin >= wait:
            raise CollectionBusy(
                f"{_holder(path)} is writing to {path.parent} and did not finish within {wait:g} s; try again later"
            )
        if say is not None and not told:
            say(f"waiting for {_holder(path)}, which is writing to {path.parent}")
            told = True
        time.sleep(_PAUSE_SECONDS)
