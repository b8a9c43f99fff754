"""What is trained on, from memory or from text files: packed or not, line by line; see `omnivec.whitespace`."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from omnivec.errors import UsageError
from omnivec.whitespace import BOM, why_not_utf8

OPENERS = {".gz": gzip.open, ".bz2": bz2.open}


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """A file's bytes, unpacked, and where they begin: behind its byte order mark.

    Raises:
        UsageError: the file cannot be read, then or later, or is damaged.
    """
    packed: Any = OPENERS.get(path.suffix, open)
    if path.is_dir():
        raise UsageError(f"{path} is a folder: give its files, [*Path({str(path)!r}).glob('*.txt')]")
    try:
        with packed(path, "rb") as file:
            start = len(BOM) if file.read(len(BOM)) == BOM else 0
            file.seek(start)
            yield file, start
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def several(data: Any, expected: str) -> Iterable[Any]:
    """The items of an iterable of a user's; none of their values means that there are no more.

    Raises:
        UsageError: data holds no items in an order of their own: `expected` is what to give.
    """
    whole = type(data)
    if hasattr(whole, "columns") or hasattr(whole, "column_names"):
        raise UsageError(
            f"data is a {whole.__name__}, a table: give one of its columns as a list, or {expected}"
        )
    if isinstance(data, Mapping):
        raise UsageError(
            f"data is a {whole.__name__}: give list(data.values()) or list(data.items()); {expected}"
        )
    if isinstance(data, Set):
        raise UsageError(f"data is a {whole.__name__}, which has no order: give sorted(data); {expected}")
    if isinstance(data, bytes | bytearray | str) or not isinstance(data, Iterable):
        raise UsageError(f"data is a {whole.__name__}: give {expected}")
    return data


def wrong(place: str, item: Any, expected: str) -> UsageError:
    """What is said of an item that cannot be used."""
    return UsageError(f"{place} is {shown(item)}: expected {expected}")


def shown(item: Any) -> str:
    """An item in a few words: "None", "3 (int)", "a dict"."""
    if item is None:
        return "None"
    if isinstance(item, str | bytes | int | float):
        text = repr(item[:40]) if isinstance(item, str | bytes) else str(item)
        return text if isinstance(item, str) else f"{text} ({type(item).__name__})"
    return f"a {type(item).__name__}"


def check(path: Path, data: bytes, at: int) -> None:
    """Raises UsageError for bytes of a file, beginning at byte `at`, that are no text in UTF-8."""
    if why := why_not_utf8(data, at):
        raise UsageError(f"{path} {why}")


def read(path: Path) -> str:
    """The whole text of a file."""
    with opened(path) as (file, at):
        data = file.read()
    check(path, data, at)
    return data.decode()


def lines(path: Path) -> Iterator[str]:
    r"""The lines of a file one by one, without their ends: \n, or \r\n."""
    with opened(path) as (file, at):
        for line in file:
            check(path, line, at)
            at += len(line)
            yield line.decode().removesuffix("\n").removesuffix("\r")
