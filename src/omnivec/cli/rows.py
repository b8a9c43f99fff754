"""Reading of items from files and stdin, and writing of vectors to files, window by window."""

from __future__ import annotations

import json
import math
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Protocol

import numpy as np

from omnivec.errors import ItemError, MissingExtra, UsageError
from omnivec.files import check_target, written
from omnivec.inputs.files import rows
from omnivec.types import Encoded
from omnivec.validation.reasons import item_error
from omnivec.vectors.arrays import digits

_NO_PYARROW = "writing .parquet needs pyarrow: pip install 'omnivec[parquet]'"


class ItemSource:
    """An iterable of the items of files, which remembers the name of each item until `take` returns it.

    Args:
        sources: paths of files, and "-" for stdin.
        column: field that holds the text of each row; None for files without rows.
        lines: whether each line of a file is an item.

    Attributes:
        failures: why files gave no items, or not all of them, one line each.
    """

    def __init__(self, sources: Sequence[str], column: str | None, lines: bool) -> None:
        self._sources, self._column, self._lines = sources, column, lines
        self._names: deque[str] = deque()
        self._why: dict[int, str] = {}
        self._count = 0
        self.failures: list[str] = []

    def check(self) -> None:
        """Checks the files of rows before the work begins: a file that gives no rows would leave no trace in a result.

        A file that is one item is not checked: if it cannot be read, that item fails.

        Raises:
            UsageError: a source is a folder, or does not fit the options.
            ItemError: the rows of a file cannot be read, or have no such column.
        """
        for source in self._sources:
            if source == "-":
                continue
            path = self._path(source)
            # A pipe can be read only once.
            if self._is_rows(path) and (path.is_file() or not path.exists()):
                next(self._items(source), None)

    def __iter__(self) -> Iterator[Any]:
        for source in self._sources:
            try:
                for name, item in self._items(source):
                    # It stays an item, so that the rows of the result correspond to those of the source.
                    if isinstance(item, ItemError):
                        self._why[self._count] = str(item)
                    self._names.append(name)
                    self._count += 1
                    yield None if isinstance(item, ItemError) else item
            except BaseException as error:
                self.failures.append(str(item_error(error, source)))

    def total(self) -> int | None:
        """Counts the items; None if a source can be read only once, or cannot be read to its end."""
        try:
            return sum(self._total(source) for source in self._sources)
        except (OSError, ItemError, UsageError):
            return None

    def _total(self, source: str) -> int:
        if source == "-":
            raise ItemError("standard input can be read only once")
        path = self._path(source)
        if not self._is_rows(path):
            return 1
        if not path.is_file():
            raise ItemError(f"{path} can be read only once")
        return sum(1 for _ in self._items(source))

    def take(self, encoded: Encoded) -> list[str]:
        """Returns the names of the items of one window, and sets the reasons of rows that could not be read."""
        encoded.failures |= {i: self._why.pop(i) for i in encoded.failures if i in self._why}
        return [self._names.popleft() for _ in range(len(encoded.kept) + len(encoded.failures))]

    def _items(self, source: str) -> Iterator[tuple[str, Any]]:
        if source == "-":
            yield from _numbered("-", _stdin())
            return
        path = self._path(source)
        if not self._is_rows(path):
            yield source, path
            return
        if self._lines or self._column is None:
            yield from _numbered(source, rows.lines(path, errors="surrogateescape", error=ItemError))
        else:
            yield from _texts(path, records_of(path, self._column), self._column)

    def _path(self, source: str) -> Path:
        """Returns the path of a source.

        Raises:
            UsageError: it is a folder, or does not fit the options --column and --lines.
        """
        path = Path(source)
        if path.is_dir():
            raise UsageError(f"{source} is a folder: name files (docs/*.md), or use `omnivec index`")
        table = rows.kind(path) in rows.SUFFIXES
        if self._column is not None and not table:
            raise UsageError(f"--column reads {', '.join(rows.SUFFIXES)} files; {source} is not one")
        if table and self._column is None and not self._lines:
            raise UsageError(
                f"{source} has rows: name the field that holds the text with --column, or use --lines"
            )
        return path

    def _is_rows(self, path: Path) -> bool:
        return self._lines or rows.kind(path) in rows.SUFFIXES


def _texts(path: Path, records: Iterator[tuple[int, Any]], column: str) -> Iterator[tuple[str, Any]]:
    for i, row in records:
        place = f"{path}:{i}"
        if isinstance(row, ItemError):
            yield place, ItemError(f"{place} is {row}")
        elif isinstance(row, dict) and isinstance(row.get(column), str):
            yield place, _checked(place, row[column])
        else:
            fields = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
            yield place, ItemError(f"{place} has no text in {column!r}; it has {fields}")


def _numbered(name: str, lines: Iterable[str]) -> Iterator[tuple[str, Any]]:
    for i, line in enumerate(lines, 1):
        yield f"{name}:{i}", _checked(f"{name}:{i}", line.rstrip("\r\n"))


def _checked(place: str, text: str) -> str | ItemError:
    """Returns a text, or an ItemError if some of its bytes could not be decoded."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return ItemError(f"{place} is not UTF-8 (character {error.start}): convert it first")
    return text


def _stdin() -> IO[str]:
    """Returns stdin decoded as UTF-8, whatever the locale; invalid bytes only make their own line fail."""
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape")
    return sys.stdin


def records_of(path: Path, column: str | None) -> Iterator[tuple[int, Any]]:
    """Yields the number and the fields of each row of a file.

    Args:
        path: of the file.
        column: a column that a table must have; None if any will do.

    Raises:
        ItemError: the file is a table without such a column.
    """
    records = rows.rows(path, errors="surrogateescape", error=ItemError)
    if rows.is_table(path):
        _, names = next(records, (0, []))
        if column is not None and column not in names:
            raise ItemError(f"{path} has no column {column!r}; its columns: {', '.join(names) or 'none'}")
        absent = dict.fromkeys(names)  # for rows that are too short
        records = ((number, {**absent, **dict(zip(names, row, strict=False))}) for number, row in records)
    yield from records


class Sink(Protocol):
    """A writer of vectors, window by window."""

    def write(self, encoded: Encoded, names: Sequence[str]) -> None:
        """Writes one window.

        Args:
            encoded: the vectors and failures of the window.
            names: the name of each item of the window, including those that failed.
        """

    def close(self) -> None:
        """Writes what remains, such as a header or footer; does not close the file."""


class NpySink:
    """Writes a float32 .npy file of (items, dim); the row of an item that failed is NaN."""

    _HEADER = 128

    def __init__(self, file: IO[bytes], dim: int) -> None:
        self._file, self._dim, self._rows = file, dim, 0
        self._file.write(b"\0" * self._HEADER)

    def write(self, encoded: Encoded, names: Sequence[str]) -> None:
        """Appends rows."""
        rows = np.full((len(names), self._dim), np.nan, "<f4")
        rows[encoded.kept - self._rows] = encoded.vectors
        self._file.write(rows.tobytes())
        self._rows += len(names)

    def close(self) -> None:
        """Writes the header, which needs the number of rows."""
        header = (
            f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({self._rows}, {self._dim}), }}".encode()
        )
        self._file.seek(0)
        self._file.write(b"\x93NUMPY\x01\x00" + (self._HEADER - 10).to_bytes(2, "little"))
        self._file.write(header.ljust(self._HEADER - 11) + b"\n")


class JsonSink:
    """Writes JSON lines: item and vector, or item and error."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._first = file, 0

    def write(self, encoded: Encoded, names: Sequence[str]) -> None:
        """Appends lines."""
        row_of = {int(i): row for row, i in enumerate(encoded.kept)}
        for i, name in enumerate(names, self._first):
            line: dict[str, Any] = {"index": i, "item": name}
            if i in row_of:
                row = row_of[i]
                line |= {"lost": encoded.lost[row].item()} if encoded.lost[row] else {}
                line["vector"] = digits(encoded.vectors[row])
            else:
                line["error"] = encoded.failures[i]
            self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._first += len(names)

    def close(self) -> None:
        """Does nothing: all lines are written."""


class ParquetSink:
    """Writes a Parquet file with the columns item, vector (a list of float32), lost and error."""

    def __init__(self, file: IO[bytes], dim: int) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise MissingExtra(_NO_PYARROW) from error
        self._pa: ModuleType = pa
        self._schema = pa.schema(
            [
                ("item", pa.string()),
                ("vector", pa.list_(pa.float32(), dim)),
                ("lost", pa.int64()),
                ("error", pa.string()),
            ]
        )
        self._writer, self._dim, self._first = pq.ParquetWriter(file, self._schema), dim, 0

    def write(self, encoded: Encoded, names: Sequence[str]) -> None:
        """Appends a row group."""
        vectors: list[Any] = [None] * len(names)
        lost = [0] * len(names)
        for row, i in enumerate((encoded.kept - self._first).tolist()):
            vectors[i], lost[i] = encoded.vectors[row], math.ceil(encoded.lost[row])  # whole seconds
        errors = [encoded.failures.get(i) for i in range(self._first, self._first + len(names))]
        columns = [list(names), vectors, lost, errors]
        arrays = [self._pa.array(c, f.type) for c, f in zip(columns, self._schema, strict=True)]
        self._writer.write_table(self._pa.table(arrays, schema=self._schema))
        self._first += len(names)

    def close(self) -> None:
        """Writes the footer."""
        self._writer.close()


_FORMATS: dict[str, Callable[[IO[bytes], int], Sink]] = {
    ".npy": NpySink,
    ".parquet": ParquetSink,
    ".jsonl": lambda file, dim: JsonSink(file),
}


def check_sink(path: Path | None, sources: Iterable[str] = ()) -> None:
    """Checks that vectors can be written to a file, before the work begins.

    Args:
        path: the output file; None for stdout.
        sources: the input files, which must not be replaced.

    Raises:
        UsageError: the suffix is not that of a supported format, or as `files.check_target`.
        MissingExtra: .parquet without pyarrow.
        OmnivecError: the file cannot be written.
    """
    if path is None:
        return
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"{path}: the suffix selects the format and must be one of {', '.join(_FORMATS)}")
    if path.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise MissingExtra(_NO_PYARROW)
    check_target(path, map(Path, sources))


@contextmanager
def open_sink(path: Path | None, dim: int) -> Iterator[Sink]:
    """Opens a file for vectors; it is written atomically and appears under its name when the block ends.

    Args:
        path: file with the suffix .npy, .jsonl or .parquet; None for JSON lines on stdout.
        dim: length of a vector.

    Raises:
        UsageError, MissingExtra, OmnivecError: as `check_sink`.
    """
    if path is None:
        yield JsonSink(sys.stdout.buffer)
        return
    check_sink(path)
    with written(path) as scratch, scratch.open("wb") as file:
        sink = _FORMATS[path.suffix.lower()](file, dim)
        try:
            yield sink
        finally:  # also after an error: a Parquet writer must be closed before its file
            sink.close()
