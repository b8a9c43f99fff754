"""The cache folder, atomic writing of files and folders, and file locks."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omnivec.errors import OmnivecError, UsageError
from omnivec.validation.arguments import expanded
from omnivec.validation.reasons import of_system

# /dev/stdout may be a link to a regular file that another process has open and writes to: it must not be replaced.
_DEVICES = ("/dev", "/dev/fd", "/proc/self/fd")
_A_DAY, _A_MOMENT, _PAUSE = 24 * 3600.0, 0.1, 0.02


def cache_folder() -> Path:
    """The cache folder of omnivec: $OMNIVEC_CACHE, else the default of the platform. It may not exist yet."""
    if stated := os.environ.get("OMNIVEC_CACHE"):
        return Path(stated).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "omnivec" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "omnivec"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "omnivec"


def read_kept(path: Path) -> dict[str, Any]:
    """Reads a JSON object from a file of the cache; returns an empty dict if the file cannot be read."""
    try:
        # Only regular files: reading a device may never end, and reading a pipe waits for a writer.
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}


def write_kept(path: Path, kept: Mapping[str, Any]) -> None:
    """Writes a JSON object to a file of the cache, atomically. Errors are ignored: the content can be made again."""
    with contextlib.suppress(OSError, OmnivecError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written(path, durable=False) as scratch:
            scratch.write_text(json.dumps(kept, indent=1), encoding="utf-8")


def check_target(path: Path, sources: Iterable[Path] = ()) -> Path:
    """Checks that a result can be written to a file, before the work that makes the result is begun.

    Args:
        path: path of the file; an existing file will be replaced.
        sources: files that the result is made from, which must not be replaced.

    Returns:
        The file that will be written: `path`, or the target of the link that it is.

    Raises:
        UsageError: `path` is a folder, a device or one of `sources`, or its folder does not exist.
        OmnivecError: the file cannot be written.
    """
    path = expanded(path)
    if str(path.absolute().parent) in _DEVICES:
        raise UsageError(f"{path} is not a regular file: name a file in a folder that exists")
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    try:
        mode = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if not target.parent.is_dir():
            raise UsageError(
                f"{path} is in a folder that does not exist: name a file in a folder that exists"
            ) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {of_system(error)}") from error
    else:
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise UsageError(f"{path} is {what}: name a file in a folder that exists")
        if not os.access(target, os.W_OK):
            raise OmnivecError(f"{path} cannot be written: it is write-protected")
        if any(_is_same(target, expanded(source)) for source in sources):
            raise UsageError(
                f"{path} is one of the input files, which the result would replace: name another file"
            )
    check_writable(target.parent, path)
    return target


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # not a valid file name
        return False


def check_writable(folder: Path, path: Path, error: type[OmnivecError] = OmnivecError) -> None:
    """Creates a temporary file in `folder`, to find out whether `path` in that folder can be written.

    Raises:
        OmnivecError: or the class `error`: the file cannot be created.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise error(f"{path} cannot be written: {of_system(exc)}") from exc


@contextlib.contextmanager
def written(path: Path, *, durable: bool = True, error: type[OmnivecError] = OmnivecError) -> Iterator[Path]:
    """Writes a file atomically: yields a temporary file beside `path`, which replaces `path` if the block succeeds.

    The temporary file is synced to disk before it is renamed, and the folder after that, so that a power failure leaves
    either the old content or the new. Temporary files of killed processes are removed by the next writer of `path`.

    Args:
        path: path of the file. A link stays a link, and the permissions of an existing file are kept.
        durable: whether to sync to disk; False for files that can be made again.
        error: class of the exception that is raised if the file cannot be written.

    Raises:
        UsageError: as `check_target`, if `error` is not set.
        OmnivecError: or the class `error`: the file cannot be written.
    """
    try:
        target = check_target(path)
    except OmnivecError as exc:
        if error is OmnivecError:
            raise
        raise error(str(exc)) from exc
    # The name is shortened, since it may already be as long as the file system allows.
    beside = f".{target.name[:32]}{target.suffix[:16]}"
    scratch = target.with_name(f"{beside}.{secrets.token_hex(8)}.part")
    handle = None
    try:
        _remove_dead(target.parent, beside)
        handle = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        lock(handle, wait=0)
        permissions = stat.S_IMODE((target if target.exists() else scratch).stat().st_mode)
        yield scratch
        if durable:
            synced(scratch)
        scratch.chmod(permissions)  # some libraries create files that only their owner can read
        scratch.replace(target)
        if durable:
            synced(target.parent)
    except OSError as exc:
        raise error(f"{path} cannot be written: {of_system(exc)}") from exc
    finally:
        if handle is not None:
            os.close(handle)
            with contextlib.suppress(OSError):
                scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def assembled(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """Makes a folder atomically: yields a temporary folder beside `target`, renamed to `target` if the block succeeds.

    Temporary folders of killed processes are removed by the next writer of `target`.

    Args:
        target: path of the new folder; missing parent folders are created.
        durable: whether to sync the folder and its parent to disk. The files in it are not synced: that is left to
            what writes them.

    Raises:
        FileExistsError: `target` exists by the time of the rename; it is left as it is.
        OSError: the folder cannot be created or renamed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = f".{target.name[:32]}"
    _remove_dead(target.parent, beside)
    fresh = target.with_name(f"{beside}.{secrets.token_hex(8)}.part")
    fresh.mkdir()
    try:
        with locked(fresh):  # so that no other process takes it for an abandoned one
            yield fresh
            try:
                if os.path.lexists(target):  # rename would replace an empty folder
                    raise OSError
                fresh.rename(target)
            except OSError as error:
                if os.path.lexists(target):
                    raise FileExistsError(
                        errno.EEXIST, "a file or folder of this name exists by now"
                    ) from error
                raise
        if durable:
            synced(target)
            synced(target.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _remove_dead(folder: Path, beside: str) -> None:
    """Removes temporary files and folders of killed writers: those whose lock nobody holds."""
    name = re.compile(re.escape(beside) + r"\.[0-9a-f]{16}\.part")
    with os.scandir(folder) as entries:
        left = [Path(entry.path) for entry in entries if name.fullmatch(entry.name)]
    for scratch in left:
        if abandoned(scratch):
            with contextlib.suppress(OSError):
                shutil.rmtree(scratch) if scratch.is_dir() else scratch.unlink()


def synced(place: Path) -> None:
    """Syncs a file, or the names in a folder, to disk."""
    if os.name != "posix" and place.is_dir():  # Windows cannot open folders
        return
    handle = os.open(place, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not supported by this file system
            raise
    finally:
        os.close(handle)


if sys.platform == "win32":
    import msvcrt

    # Far beyond the end of the content, because a locked region can be neither read nor written on Windows.
    _LOCKED_BYTE = 1 << 30

    def _try_lock(descriptor: int, shared: bool) -> bool | None:
        if shared:  # not available on Windows
            return None
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(descriptor: int, shared: bool) -> bool | None:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True


def lock(
    descriptor: int, *, wait: float | None, shared: bool = False, waiting: Callable[[], None] | None = None
) -> bool | None:
    """Locks an open file or folder until it is closed.

    The operating system releases the locks of a process that dies, so a lock is never stale.

    Args:
        descriptor: file descriptor; on Windows its position changes.
        wait: seconds to wait while another process or thread holds the lock; None waits without limit.
        shared: whether other shared locks may be held at the same time.
        waiting: called once if the lock is held by another and there is time to wait.

    Returns:
        True if the lock was acquired, False if another held it all the time, None if the platform or the file system
        does not support locks.
    """
    begin = time.monotonic()
    while (taken := _try_lock(descriptor, shared)) is False:
        if wait is not None and time.monotonic() - begin >= wait:
            break
        if waiting is not None:
            waiting()
            waiting = None
        time.sleep(_PAUSE)
    return taken


@contextlib.contextmanager
def locked(
    place: Path, *, shared: bool = False, create: bool = False, waiting: Callable[[], None] | None = None
) -> Iterator[None]:
    """Holds the lock of a file or folder during a block, see `lock`; does nothing where locks are not supported.

    Args:
        place: path of the file or folder.
        shared: as in `lock`.
        create: whether to create a missing file; it is not removed afterwards.
        waiting: as in `lock`.

    Raises:
        OSError: the file cannot be created.
    """
    try:
        handle = os.open(place, os.O_RDWR | os.O_CREAT if create else os.O_RDONLY, 0o666)
    except OSError:  # Windows cannot open folders
        if create:
            raise
        yield
        return
    try:
        lock(handle, wait=None, shared=shared, waiting=waiting)
        yield
    finally:
        os.close(handle)


def abandoned(place: Path) -> bool:
    """Whether the process that made and locked a file or folder is gone; where locks are not supported, after a day."""
    try:
        handle = os.open(place, os.O_RDONLY)
    except OSError:  # it is gone, or it is a folder on Windows, which cannot open folders
        return place.is_dir() and time.time() - place.stat().st_mtime > _A_DAY
    try:
        free, age = lock(handle, wait=0), time.time() - os.fstat(handle).st_mtime
        # A file that was just created may not be locked yet.
        return age > _A_DAY if free is None else free and age > _A_MOMENT
    finally:
        os.close(handle)
