"""Opens regular files for reading; a FIFO, socket or device is refused, and opening one never blocks."""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from omnivec.errors import ItemError

# Without O_NONBLOCK, opening a FIFO that has replaced the file meanwhile would block.
READ_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_BINARY", "O_CLOEXEC"))
"""Flags of `os.open` for reading a file whose kind is checked afterwards."""


def open_regular(path: Path, kind: str) -> BufferedReader:
    """Opens a file for reading bytes.

    Args:
        path: path of the file.
        kind: what it should be, for the message: "an image file".

    Raises:
        ItemError: it is a folder, FIFO, socket or device; the message does not name it.
        OSError: it cannot be opened.
    """
    _refuse_other(path.stat().st_mode, kind)
    descriptor = os.open(path, READ_FLAGS)
    try:
        _refuse_other(os.fstat(descriptor).st_mode, kind)
    except ItemError:
        os.close(descriptor)
        raise
    return open(descriptor, "rb")  # noqa: PTH123, which opens paths only


def _refuse_other(mode: int, kind: str) -> None:
    if stat.S_ISDIR(mode):
        raise ItemError(f"a folder, not {kind}")
    if not stat.S_ISREG(mode):
        raise ItemError("not a regular file (a FIFO, socket or device), which is never read")
