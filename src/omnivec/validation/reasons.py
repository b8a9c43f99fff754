"""Describes exceptions in one line, with a remedy: those of the system, of libraries and of omnivec.

An exception that one item causes must fail that item only. `of_item` describes it, and raises exceptions again that are
not caused by an item: Ctrl-C and the like, and errors in the call, which are the same for every item.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omnivec.errors import ItemError, MissingExtra, OmnivecError, UsageError

PASSING = (KeyboardInterrupt, SystemExit, GeneratorExit, UsageError, MissingExtra)
"""Exceptions that an item does not cause: they end the program, or are errors in the call."""

_PACKAGE = Path(__file__).parents[1]

# Control characters, line and paragraph separators, and surrogates, which stand for bytes that are not UTF-8.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# Cause and remedy of errors whose system message lacks them. Other errors get the system's message.
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
    errno.ELOOP: "its links lead in circles; repair them",
    errno.ENOENT: "does not exist; check the spelling, or whether its disk is mounted",
    errno.ENOTDIR: "a part of its path is a file, not a folder; check the spelling",
    errno.EISDIR: "it is a folder, not a file",
    errno.ESTALE: "its network drive has lost it; mount the drive again",
    errno.EBUSY: "another program holds it; close that, and try again",
    errno.ETXTBSY: "another program holds it; close that, and try again",
    errno.EFBIG: "it is larger than its disk or your limit allows",
}


class LeftOut(ItemError):
    """A file with nothing to embed. If it was found in a folder, it is left out and does not count as a failure.

    Attributes:
        kind: the reason in a word or two, by which such files are counted.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def named(error: ItemError, name: str) -> ItemError:
    """An error of the same class whose message begins with a name."""
    message = f"{name}: {error}"
    return LeftOut(error.kind, message) if isinstance(error, LeftOut) else ItemError(message)


def of_system(error: BaseException) -> str:
    """Cause and remedy of an OSError, without the name of the file, which the caller adds."""
    number = getattr(error, "errno", None)
    if number in (errno.EMFILE, errno.ENFILE):
        return _too_many(number)
    reason = _SYSTEM.get(number) if number is not None else None
    return reason or getattr(error, "strerror", None) or one_line(error)


def is_of_system(error: BaseException) -> bool:
    """Whether an exception is an OSError that does not depend on the content of a file."""
    number = getattr(error, "errno", None)
    return isinstance(error, OSError) and (number in _SYSTEM or number in (errno.EMFILE, errno.ENFILE))


def of_item(error: BaseException) -> str:
    """Why one item failed; called in the except block.

    Args:
        error: any exception that was raised while an item was read, prepared or computed.

    Returns:
        One line. For an unexpected exception, it has the exception's class and the line in omnivec.

    Raises:
        BaseException: the error itself if no item causes it; see `PASSING`.
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
    """The ItemError for an exception that was raised while one item was processed; see `of_item`.

    Args:
        error: the exception; an ItemError is returned unchanged, since it names its item.
        name: of the item, for the message; "" where the caller adds it.
    """
    if isinstance(error, ItemError):
        return error
    why = of_system(error) if is_of_system(error) else of_item(error)
    return ItemError(f"{name}: {why}" if name else why)


@contextmanager
def decoding(name: str, remedy: str) -> Iterator[None]:
    """Converts exceptions of decoders and the system, of any class, to an ItemError that names what is decoded.

    Args:
        name: what is decoded, such as the path of a file.
        remedy: what to do where memory is lacking.
    """
    try:
        yield
    except ItemError as error:
        raise named(error, name) from error.__cause__
    except MemoryError as error:
        raise ItemError(f"{name}: not enough memory to decode it; {remedy}") from error
    except BaseException as error:
        if isinstance(error, PASSING):
            raise
        if is_of_system(error):
            raise ItemError(f"{name}: {of_system(error)}") from error
        raise ItemError(
            f"{name}: damaged or cut off ({one_line(error)}); copy it again from where it came"
        ) from error


def one_line(error: BaseException) -> str:
    """The message of an exception on one line; the name of its class if it has none, or if str() fails."""
    try:
        return " ".join(str(error).split()) or type(error).__name__
    except Exception:
        return type(error).__name__


def with_class(error: BaseException) -> str:
    """The class of an exception and its message, on one line."""
    return f"{type(error).__name__}: {one_line(error)}"


def _too_many(number: int) -> str:
    if number == errno.ENFILE:
        return "too many open files on this machine; close programs that hold files"
    limit = _file_limit()
    allowed = f" (this process may have {limit:,})" if limit else ""
    return f"too many open files{allowed}: close some, such as collections with .close(), or raise the limit: ulimit -n"


def _file_limit() -> int | None:
    """How many files this process may have open; None if the system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return int(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _place(error: BaseException) -> str:
    """The innermost line of omnivec in a traceback, such as ", inputs/text/text.py line 90"; "" if there is none."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.is_relative_to(_PACKAGE):
            place = f", {file.relative_to(_PACKAGE).as_posix()} line {trace.tb_lineno}"
        trace = trace.tb_next
    return place


def escaped(path: str | bytes | Path) -> str:
    """A path as a text that can be printed and stored: bytes that are not UTF-8 become escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def file_name(path: str | bytes | Path) -> str:
    """The name of a file for messages: bytes that are not UTF-8, and characters that cannot be printed, as escapes."""
    name = escaped(path)
    return name if name.isprintable() else repr(name)


def printable(text: str) -> str:
    """A text for one line of a terminal: characters that could move the cursor or change colours are escaped."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
