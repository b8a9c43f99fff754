"""What is said of an exception, in one line with the way out: of the system's errors, of a library's, of our own.

One item's exception costs that item alone. `of_item` says what happened to it, and lets pass what is no item's: Ctrl-C
and its like, and mistakes of the call, which are the same for every item.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from omnivec.errors import ItemError, MissingExtra, OmnivecError, UsageError

PASSING = (KeyboardInterrupt, SystemExit, GeneratorExit, UsageError, MissingExtra)
"""Exceptions that are no item's: they end the program, or say what is wrong with the call."""

_PACKAGE = Path(__file__).parents[1]

# Control characters, line and paragraph separators, and what stands for bytes that are no UTF-8.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# What the system's words do not tell: the cause that is meant, and the way out. The others are said as the system does.
_SYSTEM = {
    errno.EACCES: "permission denied: this user needs access to it and to its folders",
    errno.EPERM: "the system does not permit it: this user needs access to it",
    errno.EIO: "the disk or network drive failed while it was read or written (input/output error); look at the drive, "
    "or copy the file elsewhere",
    errno.ENOMEM: "not enough memory; close other programs, or give this one more",
    errno.ENOSPC: "no space is left on its disk; make room, or choose another place",
    errno.EDQUOT: "your quota of its disk is used up; make room, or choose another place",
    errno.EROFS: "its disk is mounted read-only; choose another place",
    errno.ENAMETOOLONG: "its name is longer than the system allows; shorten it",
    errno.ELOOP: "its links lead in circles; mend them",
    errno.ENOENT: "does not exist; check the spelling, or whether its disk is mounted",
    errno.ENOTDIR: "a part of its path is a file and no folder; check the spelling",
    errno.EISDIR: "it is a folder, not a file",
    errno.ESTALE: "its network drive has lost it; mount the drive again",
    errno.EBUSY: "another program holds it; close that, and try again",
    errno.ETXTBSY: "another program holds it; close that, and try again",
    errno.EFBIG: "it is larger than its disk or your limit allows",
}


class LeftOut(ItemError):
    """A file that was looked at and holds nothing to embed; found in a folder, it is left out and no failure.

    Attributes:
        kind: why, in a word or two: what such files are counted under.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def named(error: ItemError, name: str) -> ItemError:
    """The same error, of the same kind, whose message begins with a name."""
    message = f"{name}: {error}"
    return LeftOut(error.kind, message) if isinstance(error, LeftOut) else ItemError(message)


def of_system(error: BaseException) -> str:
    """The cause of an OSError and the way out, without the name of the file, which the caller has."""
    number = getattr(error, "errno", None)
    if number in (errno.EMFILE, errno.ENFILE):
        return _too_many(number)
    reason = _SYSTEM.get(number) if number is not None else None
    return reason or getattr(error, "strerror", None) or one_line(error)


def is_of_system(error: BaseException) -> bool:
    """Whether an exception is the system's, of a kind that says nothing about what is in the file."""
    number = getattr(error, "errno", None)
    return isinstance(error, OSError) and (number in _SYSTEM or number in (errno.EMFILE, errno.ENFILE))


def of_item(error: BaseException) -> str:
    """Why one item failed; called where its exception was caught.

    Args:
        error: anything that was raised while one item was read, prepared or computed.

    Returns:
        One line. Of what nobody raised on purpose it names the exception and the place in omnivec.

    Raises:
        BaseException: the error itself where it is no item's: see `PASSING`.
    """
    if isinstance(error, PASSING):
        raise error
    if isinstance(error, OmnivecError):
        return one_line(error)
    if isinstance(error, MemoryError):
        detail = one_line(error)
        return "not enough memory for this item; make it smaller, or give the process more" + (
            f" ({detail})" if detail != "MemoryError" else ""
        )
    if isinstance(error, OSError) and error.errno is not None:
        filename = error.filename
        name = (
            f"{file_name(filename) if isinstance(filename, str | bytes) else filename}: "
            if filename is not None
            else ""
        )
        return name + of_system(error)
    what = type(error).__name__
    detail = one_line(error)
    summary = what if detail == what else f"{what}: {detail}"
    return f"{summary} (a fault of omnivec or of a library with this item{_place(error)})"


def item_error(error: BaseException, name: str = "") -> ItemError:
    """What was raised while one item was handled, as the ItemError of that item; see `of_item`.

    Args:
        error: that was caught; an ItemError is itself, since it names its item.
        name: of the item, for the message; "" where the caller adds it.
    """
    if isinstance(error, ItemError):
        return error
    why = of_system(error) if is_of_system(error) else of_item(error)
    return ItemError(f"{name}: {why}" if name else why)


def one_line(error: BaseException) -> str:
    """The text of an exception on one line; the name of its class where it has none or cannot say it."""
    try:
        return " ".join(str(error).split()) or type(error).__name__
    except Exception:
        return type(error).__name__


def _too_many(number: int) -> str:
    if number == errno.ENFILE:
        return "too many open files on this machine; close programs that hold files"
    limit = _file_limit()
    stated = f" (this process may have {limit:,})" if limit else ""
    return f"too many open files{stated}: close some, such as collections with .close(), or raise the limit: ulimit -n"


def _file_limit() -> int | None:
    """How many files this process may have open; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return int(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _place(error: BaseException) -> str:
    """The last line of omnivec that was running: ", media/text.py line 90"; "" where there is none."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.is_relative_to(_PACKAGE):
            place = f", {file.relative_to(_PACKAGE).as_posix()} line {trace.tb_lineno}"
        trace = trace.tb_next
    return place


def escaped(path: str | bytes | Path) -> str:
    """A path that can be printed and stored: bytes of a name that are not UTF-8 are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def file_name(path: str | bytes | Path) -> str:
    """How messages call a file: bytes of its name that are not UTF-8, or that no line can hold, as escapes."""
    name = escaped(path)
    return name if name.isprintable() else repr(name)


def printable(text: str) -> str:
    """A text for one line of a terminal: what would move the cursor or recolour the screen is escaped."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
