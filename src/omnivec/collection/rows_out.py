"""`Collection.export`: documents become rows of a CSV, TSV, JSON lines or Parquet file.

The columns are `id`, `text`, those of the metadata, and others that begin with `_`. A key of metadata that could be
taken for another column is in the column `_metadata.KEY`. `add_rows` reads the same values again: cells of CSV follow
the rule in `cells`; in Parquet, a column with values of several types, or of lists or dicts, holds JSON and is marked.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Protocol

import numpy as np

from omnivec.collection.cells import (
    END,
    ID,
    JSON_MARK,
    MISSING,
    MODALITY,
    NULL_MARK,
    PASSAGE,
    PATH,
    START,
    TEXT,
    UNIT,
    VECTOR,
    cell_of,
    column_of,
)
from omnivec.errors import MissingExtra, UsageError
from omnivec.files import check_target, written
from omnivec.inputs.files import rows as tables
from omnivec.progress import Bar
from omnivec.store.records import DocumentEntry
from omnivec.store.sqlite import Catalogue
from omnivec.types import SPARSE, Floats, Keys
from omnivec.vectors.arrays import digits

PAGE = 1_000
"""Documents that are read and written together."""

FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

_INTEGERS = 2**63
_SIMPLE = frozenset(("str", "int", "float", "bool"))
_PLAIN = frozenset((ID, TEXT, MODALITY, PATH, UNIT))


@dataclass
class Exported:
    """The result of `Collection.export`.

    Attributes:
        documents: number of documents written.
        rows: number of rows written; more than documents if each passage has a row.
        without_vectors: number of rows without all of their vectors, because their passages have several in a space.
        left_out: spaces whose vectors are not written, because they are sparse.
    """

    documents: int = 0
    rows: int = 0
    without_vectors: int = 0
    left_out: list[str] = field(default_factory=list)


@dataclass
class _Key:
    """What the documents have under one key of their metadata.

    Attributes:
        types: names of the types of its values; "big" for an integer beyond 64 bits.
        documents: number of documents that have the key.
    """

    types: set[str] = field(default_factory=set)
    documents: int = 0

    def see(self, value: Any) -> None:
        """Notes the value of one document."""
        is_big = isinstance(value, int) and not -_INTEGERS <= value < _INTEGERS
        self.types.add("big" if is_big else type(value).__name__)
        self.documents += 1

    def type(self, documents: int) -> str:
        """The type of a column with these values; null can be told from no value only if all documents have the key."""
        own = self.types - {"NoneType"}
        if len(own) != 1 or not own <= _SIMPLE:
            return "json"
        if own == self.types:
            return next(iter(own))
        return f"{next(iter(own))}?" if self.documents == documents else "json"


class _Sink(Protocol):
    """A writer of rows, page by page."""

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes rows; a column that a row lacks has no value."""

    def close(self) -> None:
        """Writes what remains; does not close the file."""


def checked_target(path: Path, *, force: bool) -> Path:
    """Returns the path of an export that can be written.

    Raises:
        UsageError: its suffix is not that of a format, it exists and `force` is False, or as `files.check_target`.
        MissingExtra: .parquet without pyarrow.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: the suffix selects the format and must be one of {', '.join(FORMATS)}")
    check_target(path)
    if path.exists() and not force:
        raise UsageError(f"{path} exists: name another file, or replace it with --force (force=True)")
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise MissingExtra(f"{path}: Parquet needs pyarrow: pip install 'omnivec[parquet]'") from error
    return path


class Export:
    """One call of `Collection.export`: all pages are of one state of the collection.

    Args:
        catalogue: of the collection.
        path: the file, as `checked_target` returns it.
        where: a filter on metadata; None for all documents.
        vectors: whether to write vectors.
        passages: whether each passage has a row, with its text and span.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        path: Path,
        where: Mapping[str, Any] | None,
        *,
        vectors: bool,
        passages: bool,
    ) -> None:
        self._catalogue, self._path, self._where = catalogue, path, where
        self._vectors, self._passages = vectors, passages
        self._spaces: list[str] = []
        self._dims: dict[str, int] = {}
        self.report = Exported()

    def run(self, shown: Bar) -> Exported:
        """Writes the file, which appears under its name when it is complete."""
        with self._catalogue.snapshot(), written(self._path) as scratch, scratch.open("wb") as file:
            if self._vectors:
                spaces = self._catalogue.spaces()
                self._spaces = [name for name, one in spaces.items() if one.kind != SPARSE]
                self.report.left_out = [name for name in spaces if name not in self._spaces]
                self._dims = {name: one.dim for name, one in spaces.items()}
            sink = self._sink(file)
            try:
                for page in self._pages():
                    sink.write(list(self._rows([entry.id for entry in page])))
                    shown.advance(len(page))
            finally:  # also after an error: a Parquet writer must be closed before its file
                sink.close()
        return self.report

    def _pages(self) -> Iterator[list[DocumentEntry]]:
        """The documents, a page at a time."""
        after: str | None = None
        while page := self._catalogue.documents(self._where, after=after, limit=PAGE):
            yield page
            after = page[-1].id

    def _rows(self, ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The rows of a page of documents: column -> value; a missing value has no column."""
        records = self._catalogue.records(ids)
        keys = np.array([piece.key for name in ids for piece in records[name].pieces], np.int64)
        vectors = {space: _by_passage(*self._catalogue.vectors(space, keys)) for space in self._spaces}
        for name in ids:
            record = records[name]
            facts = {column_of(key, (ID, TEXT)): value for key, value in record.metadata.items()}
            last = {MODALITY: record.modality} | ({} if record.path is None else {PATH: record.path})
            self.report.documents += 1
            pieces = record.pieces
            if self._passages:
                for piece in pieces:
                    span = {
                        PASSAGE: piece.ordinal,
                        START: piece.start,
                        END: piece.end,
                        UNIT: piece.unit or "",
                    }
                    own = self._vectors_of(vectors, [piece.key])
                    self.report.rows += 1
                    yield {ID: name, TEXT: piece.text} | facts | last | span | own
                continue
            own = self._vectors_of(vectors, [piece.key for piece in pieces])
            self.report.rows += 1
            yield {ID: name, TEXT: record.text} | facts | last | own

    def _vectors_of(
        self, vectors: Mapping[str, Mapping[int, Floats]], keys: Sequence[int]
    ) -> dict[str, Floats]:
        """The vectors of a row by their columns: those of spaces in which its passages have exactly one."""
        found: dict[str, Floats] = {}
        several = False
        for space, rows in vectors.items():
            own = [row for key in keys for row in rows.get(key, ())]
            if len(own) == 1:
                found[VECTOR + space] = own[0]
            several |= len(own) > 1
        self.report.without_vectors += several
        return found

    def _sink(self, file: IO[bytes]) -> _Sink:
        suffix = self._path.suffix.lower()
        if suffix in (".jsonl", ".ndjson"):
            return _JsonSink(file)
        columns = self._columns()
        if suffix == ".parquet":
            return _ParquetSink(file, columns, {VECTOR + name: self._dims[name] for name in self._spaces})
        return _TableSink(file, list(columns), tables.SEPARATORS[suffix])

    def _columns(self) -> dict[str, str]:
        """Column -> type of its values: "str", "int", "float", "bool", with "?" if null is one of them; "json"."""
        keys: dict[str, _Key] = {}
        documents = 0
        for page in self._pages():
            documents += len(page)
            for entry in page:
                for key, value in entry.metadata.items():
                    keys.setdefault(key, _Key()).see(value)
        facts = {column_of(key, (ID, TEXT)): keys[key].type(documents) for key in sorted(keys)}
        span = {PASSAGE: "int", START: "float", END: "float", UNIT: "str"} if self._passages else {}
        vectors = {VECTOR + name: "vector" for name in self._spaces}
        return {ID: "str", TEXT: "str"} | facts | {MODALITY: "str", PATH: "str"} | span | vectors


def _by_passage(keys: Keys, matrix: Floats) -> dict[int, Floats]:
    """Key of a passage -> its vectors (parts, dim)."""
    firsts, places = np.unique(keys, return_index=True)
    return dict(zip(firsts.tolist(), np.split(matrix, places[1:]), strict=True)) if len(keys) else {}


class _JsonSink:
    """JSON lines, in which values are nested as they are."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes a line for each row."""
        for row in rows:
            self._file.write(json.dumps(row, ensure_ascii=False, default=digits).encode() + b"\n")

    def close(self) -> None:
        """Does nothing: all lines are written."""


class _TableSink:
    """CSV or TSV with a header; values are cells as `cells` describes."""

    def __init__(self, file: IO[bytes], columns: Sequence[str], separator: str) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._columns = columns
        self._writer = csv.writer(self._text, delimiter=separator)
        self._writer.writerow(columns)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes a line for each row."""
        for row in rows:
            self._writer.writerow([_cell(column, row.get(column, MISSING)) for column in self._columns])

    def close(self) -> None:
        """Writes what remains."""
        self._text.flush()
        self._text.detach()


class _ParquetSink:
    """Parquet with a column of one type for values of one type, and JSON in marked columns for others."""

    def __init__(self, file: IO[bytes], columns: Mapping[str, str], dims: Mapping[str, int]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {
            "str": pa.string(),
            "json": pa.string(),
            "int": pa.int64(),
            "float": pa.float64(),
            "bool": pa.bool_(),
        }
        self._pa: ModuleType = pa
        self._columns = columns
        fields = []
        for name, kind in columns.items():
            stored = pa.list_(pa.float32(), dims[name]) if kind == "vector" else types[kind.rstrip("?")]
            mark = JSON_MARK if kind == "json" else NULL_MARK if kind.endswith("?") else None
            fields.append(pa.field(name, stored, metadata=mark))
        self._schema = pa.schema(fields)
        self._writer = pq.ParquetWriter(file, self._schema)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes a row group."""
        arrays = []
        for field_, (name, kind) in zip(self._schema, self._columns.items(), strict=True):
            values = [row.get(name, MISSING) for row in rows]
            if kind == "json":
                values = [
                    json.dumps(value, ensure_ascii=False) if value is not MISSING else None
                    for value in values
                ]
            values = [None if value is MISSING else value for value in values]
            arrays.append(self._pa.array(values, field_.type))
        self._writer.write_table(self._pa.table(arrays, schema=self._schema))

    def close(self) -> None:
        """Writes the footer."""
        self._writer.close()


def _cell(column: str, value: Any) -> str:
    """A value as a cell; ids and texts as they are."""
    if column in _PLAIN:
        return "" if value is MISSING else str(value)
    return cell_of(digits(value) if column.startswith(VECTOR) and value is not MISSING else value)
