"""Training texts, from memory or from text files, compressed or not, line by line."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from omnivec.errors import UsageError
from omnivec.inputs import items
from omnivec.inputs.text.whitespace import BOM, why_not_utf8
from omnivec.validation import arguments
from omnivec.validation.reasons import of_system

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
        raise UsageError(f"{path} cannot be read: {of_system(error)}") from error


def several(data: Any, expected: str, fields: Sequence[str] = ()) -> Iterable[Any]:
    """The items of what a user gave to train on; none of their values means that there are no more.

    Args:
        data: as given; a lone item is refused.
        expected: what to give, for the message.
        fields: of a recipe that takes rows of several values what these are: of a table, all are to be given.
    """
    if fields and items.has_columns(data):
        end = ".to_pylist()" if hasattr(type(data), "column_names") else ""
        columns = ", ".join(f"data[{name!r}]{end}" for name in fields)
        raise UsageError(
            f"data is {items.shown(data)}, which holds columns: give its rows, list(zip({columns}))"
        )
    if fields and isinstance(data, np.ndarray) and data.ndim == 2 and data.dtype.kind in "UTO":
        rows: list[Any] = data.tolist()
        return rows  # Rows, as a table's `values` are.
    if items.is_one(data, "data"):
        raise UsageError(f"data is {items.shown(data)}: give {expected}")
    return items.several(data, "data")


def path(given: str | Path) -> Path:
    """A path of data, "~" expanded; UsageError where it can be none."""
    return arguments.path("data", given)


def wrong(place: str, item: Any, expected: str) -> UsageError:
    """What is said of an item that cannot be used."""
    return UsageError(f"{place} is {items.shown(item)}: expected {expected}")


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
