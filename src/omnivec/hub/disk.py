"""Errors of a disk that is full, read-only or removed, and checks of space and of files' hashes."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from omnivec.errors import DownloadError
from omnivec.hub.report import megabytes
from omnivec.validation.reasons import of_system

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def disk_errors(folder: Path, needed: int, setting: str) -> Iterator[None]:
    """Turns an OSError inside the block into a DownloadError about the disk of `folder`.

    Args:
        folder: in which the block writes.
        needed: bytes that the block writes.
        setting: the environment variable by which another folder can be chosen, for the message.

    Raises:
        DownloadError: the disk is full (with the bytes needed and free), or cannot be written.
    """
    try:
        yield
    except OSError as exc:
        raise refused(exc, folder, needed, setting) from exc


def refused(exc: OSError, folder: Path, needed: int, setting: str) -> DownloadError:
    """The DownloadError for an OSError that was raised by writing below `folder`; see `disk_errors`."""
    reason = of_system(exc)
    remedy = f"set {setting} to a folder elsewhere"
    if exc.errno not in _FULL:
        return DownloadError(f"cannot write to {folder}: {reason}; {remedy}")
    return DownloadError(
        f"no room at {folder} ({reason}): {megabytes(needed)} needed, {megabytes(free_bytes(folder))} free; "
        f"make room, or {remedy}"
    )


def is_disk_trouble(error: BaseException) -> bool:
    """Whether `error` is caused by a full disk here, so that another source would not help."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _FULL


def check_room(folder: Path, needed: int, setting: str) -> None:
    """Checks, before anything is written, that the disk has enough space.

    Raises:
        DownloadError: less than `needed` bytes are free.
    """
    if free_bytes(folder) < needed:
        full = OSError(errno.ENOSPC, "no space left on device")
        raise refused(full, folder, needed, setting) from full


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of `folder`, which need not exist yet."""
    existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    return shutil.disk_usage(existing).free


def digest(file: Path) -> str:
    """The sha256 of a file, in hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def verify(folder: Path, sha256: Mapping[str, str], source: object) -> None:
    """Compares the files of `folder` with their known hashes, and deletes one that differs.

    Raises:
        DownloadError: a file has another hash; the message has both.
    """
    for name, expected in sha256.items():
        file = folder / name
        if not file.is_file():
            continue
        actual = digest(file)
        if actual != expected:
            file.resolve().unlink()  # in the hub's cache, the file is a link to its content
            file.unlink(missing_ok=True)
            raise DownloadError(
                f"{name} from {source} has sha256 {actual}, expected {expected}: damaged, or another edition; "
                "it was deleted"
            )
