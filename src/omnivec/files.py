"""Where the cache is, files that are written whole or not at all, and locks."""

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

# /dev/stdout may lead to a regular file, which somebody else has open and goes on writing to.
_DEVICES = ("/dev", "/dev/fd", "/proc/self/fd")
_A_DAY, _A_MOMENT, _PAUSE = 24 * 3600.0, 0.1, 0.02


def cache_folder() -> Path:
    """The cache of omnivec alone: OMNIVEC_CACHE, else the platform's place. It need not exist yet."""
    if stated := os.environ.get("OMNIVEC_CACHE"):
        return Path(stated).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "omnivec" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "omnivec"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "omnivec"


def read_kept(path: Path) -> dict[str, Any]:
    """What was kept in a file of the cache; empty where nothing can be read."""
    try:
        # A device never ends, a pipe waits for a writer.
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}


def write_kept(path: Path, kept: Mapping[str, Any]) -> None:
    """Keeps something in a file of the cache, whole or not at all; a file that cannot be written costs time only."""
    with contextlib.suppress(OSError, OmnivecError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written(path, durable=False) as scratch:
            scratch.write_text(json.dumps(kept, indent=1), encoding="utf-8")


def check_target(path: Path, sources: Iterable[Path] = ()) -> Path:
    """Where the content of a result file goes; links are followed. Called before there is any work to lose.

    Args:
        path: of the file; one that is there is replaced.
        sources: files that the result is made from, which it never replaces.

    Raises:
        UsageError: a folder, a device, a name in a folder that is not there, a source.
        OmnivecError: it may not be written.
    """
    path = expanded(path)
    if str(path.absolute().parent) in _DEVICES:
        raise UsageError(f"{path} is no regular file: name a file in a folder that exists")
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    try:
        kind = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if not target.parent.is_dir():
            raise UsageError(
                f"{path} would lie in a folder that is not there: name a file in a folder that exists"
            ) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {of_system(error)}") from error
    else:
        if not stat.S_ISREG(kind):
            what = "a folder" if stat.S_ISDIR(kind) else "no regular file"
            raise UsageError(f"{path} is {what}: name a file in a folder that exists")
        if not os.access(target, os.W_OK):
            raise OmnivecError(f"{path} cannot be written: it is write-protected")
        if any(_is_same(target, expanded(source)) for source in sources):
            raise UsageError(f"{path} is read for the result, which would replace it: name another file")
    check_writable(target.parent, path)
    return target


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # no name of a file
        return False


def check_writable(folder: Path, path: Path, error: type[OmnivecError] = OmnivecError) -> None:
    """Makes a file without a name in a folder that exists: the system says whether `path` can be written."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise error(f"{path} cannot be written: {of_system(exc)}") from exc


@contextlib.contextmanager
def written(path: Path, *, durable: bool = True, error: type[OmnivecError] = OmnivecError) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place when the block ends well: the one way to write a file.

    The system has it on the disk before it is renamed, and the rename before the block is left, so that a loss of power
    leaves the old content or the new. What a killed process left beside `path` is removed by the next writer.

    Args:
        path: of the file; its link, rights and name stay.
        durable: whether to wait for the disk; not for what can be made again.
        error: the class of what is raised where the disk refuses.

    Raises:
        UsageError: as `check_target`, unless `error` says otherwise.
    """
    try:
        target = check_target(path)
    except OmnivecError as exc:
        if error is OmnivecError:
            raise
        raise error(str(exc)) from exc
    # A part of the name alone: the whole may be as long as the system allows.
    beside = f".{target.name[:32]}{target.suffix[:16]}"
    scratch = target.with_name(f"{beside}.{secrets.token_hex(8)}.part")
    handle = None
    try:
        _remove_dead(target.parent, beside)
        handle = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        lock(handle, wait=0)
        rights = stat.S_IMODE((target if target.exists() else scratch).stat().st_mode)
        yield scratch
        if durable:
            synced(scratch)
        scratch.chmod(rights)  # some libraries make files for their owner alone
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
    """A new folder beside `target`, which takes its name when the block ends well: the one way to make a whole folder.

    What a killed process left beside `target` is removed by the next that makes it.

    Args:
        target: the folder; those that it lies in are made too.
        durable: whether to wait until the disk has the names; the files are their writers' to wait for.

    Raises:
        FileExistsError: there is a file or folder of that name by now; it stays.
        OSError: the disk refused.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = f".{target.name[:32]}"
    _remove_dead(target.parent, beside)
    fresh = target.with_name(f"{beside}.{secrets.token_hex(8)}.part")
    fresh.mkdir()
    try:
        with locked(fresh):  # until it has its name: nobody takes it for one that was left behind
            yield fresh
            try:
                if os.path.lexists(target):  # the system would replace an empty folder
                    raise OSError
                fresh.rename(target)
            except OSError as error:
                if os.path.lexists(target):
                    raise FileExistsError(errno.EEXIST, "another of this name was made meanwhile") from error
                raise
        if durable:
            synced(target)
            synced(target.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _remove_dead(folder: Path, beside: str) -> None:
    """Removes what writers of the same file or folder left that were killed: nobody holds its lock."""
    name = re.compile(re.escape(beside) + r"\.[0-9a-f]{16}\.part")
    with os.scandir(folder) as entries:
        left = [Path(entry.path) for entry in entries if name.fullmatch(entry.name)]
    for scratch in left:
        if abandoned(scratch):
            with contextlib.suppress(OSError):
                shutil.rmtree(scratch) if scratch.is_dir() else scratch.unlink()


def synced(place: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    if os.name != "posix" and place.is_dir():  # Windows has no handles of folders
        return
    handle = os.open(place, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that has no such thing
            raise
    finally:
        os.close(handle)


if sys.platform == "win32":
    import msvcrt

    # Far behind the content, because a locked region can be neither read nor written on Windows.
    _LOCKED_BYTE = 1 << 30

    def _try_lock(descriptor: int, shared: bool) -> bool | None:
        if shared:  # there are none
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
    """Takes the lock of an open file or folder, until it is closed: the one lock there is.

    The system releases the lock of a process that dies, so none is ever stale.

    Args:
        descriptor: of the file; on Windows its position changes.
        wait: seconds to wait while another process or thread has it; None waits as long as it takes.
        shared: whether other shared locks may be held at the same time.
        waiting: is called once, when another has it and there is time to wait.

    Returns:
        True; False where another held it all the time; None where the system or the file system has no such locks.
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
    """Holds the lock of a file or folder, see `lock`; where the system has none, nothing is held.

    Args:
        place: of the file or folder.
        shared: as of `lock`.
        create: whether to make the file where there is none; it stays.
        waiting: as of `lock`.

    Raises:
        OSError: the file cannot be made.
    """
    try:
        handle = os.open(place, os.O_RDWR | os.O_CREAT if create else os.O_RDONLY, 0o666)
    except OSError:  # Windows has no handles of folders
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
    """Whether the process that made a file or folder under a lock is gone; without locks, after a day."""
    try:
        handle = os.open(place, os.O_RDONLY)
    except OSError:  # gone, or a folder on Windows, which has no handles of them
        return place.is_dir() and time.time() - place.stat().st_mtime > _A_DAY
    try:
        free, age = lock(handle, wait=0), time.time() - os.fstat(handle).st_mtime
        # One that was made this moment is not locked yet.
        return age > _A_DAY if free is None else free and age > _A_MOMENT
    finally:
        os.close(handle)
