r"""Reads rows of CSV, TSV, JSON lines and Parquet files, and lines of text files; compressed (.gz, .bz2) or not.

All code that reads rows uses these functions, which read one row at a time. Texts are UTF-8, with or without a byte
order mark. Fields of CSV and TSV may be in double quotes, and then contain line ends; a quote that is not closed, or is
followed by text, is an error. Blank lines are skipped. The meaning of columns is left to the caller.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import re
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from omnivec.errors import ItemError, MissingExtra, OmnivecError, UsageError
from omnivec.inputs.text.whitespace import BOM, why_not_utf8
from omnivec.validation.reasons import of_system, one_line

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
OPENERS = {".gz": gzip.open, ".bz2": bz2.open}

Errors = Literal["strict", "surrogateescape"]

_LONGEST_FIELD = 2**31 - 1
_AT_ONCE = 1 << 10  # rows of Parquet
_RETURN = re.compile("(?<=\r)(?!\n)")


def kind(path: Path) -> str:
    """Returns the lower-case suffix that determines the format, before .gz or .bz2; "" if there is none."""
    return Path(path.stem if path.suffix in OPENERS else path.name).suffix.lower()


def is_table(path: Path) -> bool:
    """Whether rows are lists of cells, of which the first has the names of the columns (optional in CSV and TSV)."""
    return kind(path) in SEPARATORS or kind(path) == ".parquet"


def rows(
    path: Path,
    *,
    errors: Errors = "strict",
    error: type[OmnivecError] = UsageError,
    arrays: Collection[str] = (),
) -> Iterator[tuple[int, Any]]:
    """Yields the rows of a file.

    Args:
        path: path of a file whose `kind` is one of SUFFIXES.
        errors: "strict" raises for bytes that are not UTF-8, "surrogateescape" keeps them as surrogates.
        error: class of the exception that is raised.
        arrays: columns of Parquet whose lists of numbers come as NumPy arrays, in a tenth of the time of lists; read
            after the names of the columns were taken.

    Yields:
        The line in which the row ends, from 1 (for Parquet, the number of the row), and its content: a list for a
        table, any value for JSON lines, an ItemError for a line that is not JSON. Row 0 of Parquet has the names of the
        columns.

    Raises:
        OmnivecError: or the class `error`: the file cannot be read, is damaged, is not UTF-8 or not CSV.
        MissingExtra: Parquet without pyarrow.
    """
    suffix = kind(path)
    if suffix == ".parquet":
        yield from _parquet(path, error, arrays)
    elif suffix in SEPARATORS:
        yield from _table(path, SEPARATORS[suffix], errors, error)
    else:
        yield from _json_lines(path, errors, error)


def lines(path: Path, *, errors: Errors = "strict", error: type[OmnivecError] = UsageError) -> Iterator[str]:
    r"""Yields the lines of a text file without their ends, \n or \r\n; arguments as for `rows`."""
    for line in _lines(path, errors, error):
        yield line.removesuffix("\n").removesuffix("\r")


@contextmanager
def opened(path: Path, error: type[OmnivecError] = UsageError) -> Iterator[tuple[IO[bytes], int]]:
    """Opens a file for reading its decompressed bytes; also yields their start, after a byte order mark.

    Raises:
        OmnivecError: or the class `error`: the file cannot be read, or is damaged.
    """
    packed: Any = OPENERS.get(path.suffix, open)
    if path.is_dir():
        raise error(f"{path} is a folder: give its files, [*Path({str(path)!r}).glob('*.txt')]")
    try:
        with packed(path, "rb") as file:
            start = 0
            if file.seekable():  # a pipe is not
                start = len(BOM) if file.read(len(BOM)) == BOM else 0
                file.seek(start)
            yield file, start
    except (OSError, EOFError, zlib.error) as exc:
        raise error(f"{path} cannot be read: {of_system(exc)}") from exc


def check(path: Path, data: bytes, at: int, error: type[OmnivecError] = UsageError) -> None:
    """Raises an error if bytes of a file, which begin at byte `at`, are not UTF-8 text."""
    if why := why_not_utf8(data, at):
        raise error(f"{path} {why}")


@contextmanager
def arrow(path: Path, error: type[OmnivecError] = UsageError) -> Iterator[tuple[Any, Any]]:
    """Yields pyarrow and its parquet module; their exceptions for a file become errors of the class `error`.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as exc:
        raise MissingExtra(f"{path}: Parquet needs pyarrow: pip install 'omnivec[parquet]'") from exc
    try:
        yield pyarrow, parquet
    except (pyarrow.ArrowException, UnicodeDecodeError) as exc:
        raise error(f"{path}: damaged, or not a Parquet file: {one_line(exc)[:300]}") from exc
    except OSError as exc:
        raise error(f"{path} cannot be read: {one_line(exc)[:300]}") from exc


def _lines(path: Path, errors: Errors, error: type[OmnivecError]) -> Iterator[str]:
    """Yields the lines of a file with their ends."""
    with opened(path, error) as (file, at):
        for line in file:
            if errors == "strict":
                check(path, line, at, error)
            yield (line if at else line.removeprefix(BOM)).decode(errors=errors)
            at += len(line)


def _table(
    path: Path, separator: str, errors: Errors, error: type[OmnivecError]
) -> Iterator[tuple[int, list[str]]]:
    # Some old programs end lines with \r alone.
    parts = (part for line in _lines(path, errors, error) for part in _RETURN.split(line) if part)
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(parts, delimiter=separator, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as exc:
        raise error(f"{path} line {reader.line_num}: {exc}") from exc


def _json_lines(path: Path, errors: Errors, error: type[OmnivecError]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_lines(path, errors, error), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as exc:
                row = ItemError(f"not JSON: {exc}")
            yield number, row


def _parquet(
    path: Path, error: type[OmnivecError], arrays: Collection[str]
) -> Iterator[tuple[int, list[Any]]]:
    number = 0
    with (
        opened(path, error) as (raw, _),
        arrow(path, error) as (_, parquet),
        parquet.ParquetFile(raw) as file,
    ):
        names = list(file.schema_arrow.names)
        yield number, names
        for batch in file.iter_batches(_AT_ONCE):
            columns = zip(names, batch.columns, strict=True)
            for row in zip(*(_values(column, name in arrays) for name, column in columns), strict=True):
                number += 1
                yield number, list(row)


def _values(column: Any, as_arrays: bool) -> list[Any]:
    """The values of a column of pyarrow, lists of numbers as arrays if asked for and if none is null."""
    import numpy as np
    from pyarrow import compute, types

    kind = column.type
    if not as_arrays or not (
        types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    ):
        return list(column.to_pylist())
    numbers = column.flatten()
    is_number = types.is_floating(kind.value_type) or types.is_integer(kind.value_type)
    if column.null_count or numbers.null_count or not is_number:
        return list(column.to_pylist())
    ends = np.cumsum(compute.list_value_length(column).to_numpy(zero_copy_only=False))
    return np.split(numbers.to_numpy(), ends[:-1]) if len(column) else []
