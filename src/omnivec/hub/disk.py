"""Writing to a disk that may be full, shared with other processes, or pulled away halfway."""

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
    """Translates what the disk under `folder` refuses; `setting` is the variable that names another one.

    Raises:
        DownloadError: full (with the bytes needed and free), read-only, not permitted.
    """
    try:
        yield
    except OSError as exc:
        raise refused(exc, folder, needed, setting) from exc


def refused(exc: OSError, folder: Path, needed: int, setting: str) -> DownloadError:
    """What to tell the user about `exc`, raised by a write under `folder`."""
    reason = of_system(exc)
    way_out = f"set {setting} to a folder elsewhere"
    if exc.errno not in _FULL:
        return DownloadError(f"cannot write to {folder}: {reason}; {way_out}")
    return DownloadError(
        f"no room at {folder} ({reason}): {megabytes(needed)} needed, {megabytes(free_bytes(folder))} free; "
        f"make room, or {way_out}"
    )


def is_disk_trouble(error: BaseException) -> bool:
    """Whether `error` is about this machine's disk, so that another source would not help."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _FULL


def check_room(folder: Path, needed: int, setting: str) -> None:
    """Refuses before the first byte what would fill the disk.

    Raises:
        DownloadError: less than `needed` bytes are free.
    """
    if free_bytes(folder) < needed:
        full = OSError(errno.ENOSPC, "no space left on device")
        raise refused(full, folder, needed, setting) from full


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that holds `folder`, or will hold it."""
    existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    return shutil.disk_usage(existing).free


def digest(file: Path) -> str:
    """The sha256 of a file, in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def verify(folder: Path, sha256: Mapping[str, str], source: object) -> None:
    """Checks the files of `folder` that have a known hash, and deletes one that differs.

    Raises:
        DownloadError: a file that is not the published one, with both hashes.
    """
    for name, expected in sha256.items():
        file = folder / name
        if not file.is_file():
            continue
        actual = digest(file)
        if actual != expected:
            file.resolve().unlink()  # in the hub's cache the file is a link to the data
            file.unlink(missing_ok=True)
            raise DownloadError(
                f"{name} from {source} has sha256 {actual}, expected {expected}: damaged, or another edition; "
                "it was deleted"
            )
