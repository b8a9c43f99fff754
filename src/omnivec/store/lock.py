"""The writer lock of a collection: a locked file that holds the process id of the writer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from omnivec.errors import CollectionBusy, CollectionError
from omnivec.files import lock
from omnivec.validation.reasons import of_system

FILE = "writer.lock"


def _holder(path: Path) -> str:
    try:
        return f"process {int(path.read_text(encoding='ascii'))}"
    except (OSError, ValueError):
        return "another process"


@contextmanager
def writer_lock(
    folder: Path,
    wait: float | None,
    say: Callable[[str], None] | None = None,
    *,
    file: str = FILE,
    doing: str = "writing to",
) -> Iterator[None]:
    """Holds the collection's writer lock.

    Args:
        folder: of the collection, which must exist.
        wait: seconds to wait for another holder; None waits as long as it takes, 0 does not wait.
        say: called once, if there is a wait, with a line that says for whom.
        file: name of the locked file, for another lock than that of writers.
        doing: what its holder is doing, for messages.

    Raises:
        CollectionBusy: another process still held the lock after `wait` seconds.
        CollectionError: the lock file cannot be opened, or its file system has no locks.
    """
    path = folder / file
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    except OSError as exc:
        raise CollectionError(f"{path} cannot be opened for writing: {of_system(exc)}") from exc

    def tell() -> None:
        if say is not None:
            say(f"waiting for {_holder(path)}, which is {doing} {folder}")

    try:
        taken = lock(handle, wait=wait, waiting=tell)
        if taken is None:
            raise CollectionError(
                f"{path} cannot be locked, and two writers would damage the collection: "
                "move it to a file system that has locks"
            )
        if not taken:
            raise CollectionBusy(
                f"{_holder(path)} is {doing} {folder} and did not finish within {wait:g} s; try again later"
            )
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, str(os.getpid()).encode("ascii"))
        yield
    finally:
        # Closing releases the lock. The file stays: if it were removed, two writers could lock two different files.
        os.close(handle)
