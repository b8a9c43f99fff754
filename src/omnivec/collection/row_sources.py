"""Rows with named columns, from files and from memory, and the columns that an import takes from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from omnivec.collection.cells import ID, JSON_MARK, NULL_MARK, PASSAGE, TEXT, VECTOR, is_reserved, key_of
from omnivec.errors import ItemError, UsageError
from omnivec.inputs.files import rows
from omnivec.inputs.items import has_columns, paths, several, shown

Named = tuple[str, Mapping[str, Any] | ItemError]
"""The place of a row, such as "notes.csv:12", and its values by their columns, or why it cannot be read."""

TEXT_NAMES = (TEXT, "content", "document", "body")
"""Names of columns that are taken for the text if none is named."""

_PEEKED = 100
"""Rows whose keys tell which columns JSON lines, or rows in memory, have."""

_LISTED = 20


class RowSource:
    """Rows of one file, or of memory.

    Args:
        path: the file, whose suffix is one of `inputs.files.rows.SUFFIXES`; None for rows in memory.
        given: rows in memory.

    Attributes:
        name: for messages.
        is_text: whether values are cells of text, as in CSV and TSV.
        is_table: whether an absent value is an empty cell.
        json_columns: columns whose texts are JSON, as an export to Parquet marks them.
        null_columns: columns in which an empty cell of Parquet is null, marked likewise.
        vectors: columns of vectors, added after `open` and before the first row is taken.
    """

    def __init__(self, path: Path | None, given: Iterable[Any] = ()) -> None:
        self.name = "rows" if path is None else str(path)
        self.path = path
        self.is_table = path is not None and rows.is_table(path)
        self.is_text = path is not None and rows.kind(path) in rows.SEPARATORS
        self.json_columns: frozenset[str] = frozenset()
        self.null_columns: frozenset[str] = frozenset()
        self.vectors: set[str] = set()
        self._given = given
        if path is not None and rows.kind(path) not in rows.SUFFIXES:
            what = "a folder" if path.is_dir() else "not a file of rows"
            raise UsageError(f"{path} is {what}: give {', '.join(rows.SUFFIXES)} files")
        if path is not None and rows.kind(path) == ".parquet":
            self._count, self.json_columns, self.null_columns = _parquet_facts(path)

    def total(self) -> int | None:
        """Counts the rows; None if they can be read only once, or not to their end."""
        if self.path is None:
            return len(self._given) if isinstance(self._given, Sequence) else None
        if rows.kind(self.path) == ".parquet":
            return self._count
        if not self.path.is_file():
            return None
        try:
            if self.is_table:
                read = rows.rows(self.path, errors="surrogateescape", error=ItemError)
                return max(sum(1 for _ in read) - 1, 0)
            lines = rows.lines(self.path, errors="surrogateescape", error=ItemError)
            return sum(1 for line in lines if line.strip())
        except ItemError:
            return None

    def open(self) -> tuple[list[str], Iterator[Named]]:
        """Returns the names of the columns and the rows.

        Raises:
            ItemError: the file cannot be read, or has no header.
            UsageError: two columns have the same name.
        """
        read = self._rows()
        if not self.is_table:
            first = list(islice(read, _PEEKED))
            known = dict.fromkeys(str(key) for _, row in first if isinstance(row, Mapping) for key in row)
            return list(known), chain(first, read)
        header = next(read, None)
        if header is None:
            raise ItemError(f"{self.name} is empty: its first line must name the columns")
        columns = [str(name) for name in header[1]]
        if twice := next((name for i, name in enumerate(columns) if name in columns[:i]), None):
            raise UsageError(f"{self.name} has two columns {twice!r}: rename one")
        return columns, ((place, _named(columns, row)) for place, row in read)

    def _rows(self) -> Iterator[tuple[str, Any]]:
        if self.path is None:
            for i, row in enumerate(self._given):
                is_row = isinstance(row, Mapping)
                yield f"rows[{i}]", row if is_row else ItemError(f"it is {shown(row)}: give a dict")
            return
        read = rows.rows(self.path, errors="surrogateescape", error=ItemError, arrays=self.vectors)
        for number, row in read:
            is_row = isinstance(row, Mapping | ItemError) or self.is_table
            yield f"{self.path}:{number}", row if is_row else ItemError(f"it is {shown(row)}, not an object")


def _named(columns: Sequence[str], row: Sequence[Any]) -> Mapping[str, Any] | ItemError:
    """A row of a table by its columns; cells beyond the last column may be empty."""
    if len(row) < len(columns) or any(row[len(columns) :]):
        return ItemError(f"it has {len(row)} cells, the header {len(columns)}")
    return dict(zip(columns, row, strict=False))


def _parquet_facts(path: Path) -> tuple[int, frozenset[str], frozenset[str]]:
    """The number of rows, and the columns that an export marked by JSON_MARK and by NULL_MARK."""
    with (
        rows.opened(path, ItemError) as (raw, _),
        rows.arrow(path, ItemError) as (_, parquet),
        parquet.ParquetFile(raw) as file,
    ):
        marks = {field.name: field.metadata or {} for field in file.schema_arrow}
        json_columns, null_columns = (
            frozenset(name for name, own in marks.items() if mark.items() <= own.items())
            for mark in (JSON_MARK, NULL_MARK)
        )
        return file.metadata.num_rows, json_columns, null_columns


def sources_of(source: Any) -> list[RowSource]:
    """The files that an argument names, one or several; or its rows in memory, which are dicts.

    Raises:
        UsageError: it is neither; the message says what to give instead.
    """
    if isinstance(source, str | Path):
        return [RowSource(path) for path in paths(source, "source")]
    if has_columns(source):
        raise UsageError(
            f"source is {shown(source)}, with columns: give its rows as dicts, such as frame.to_dict('records'), "
            "table.to_pylist() or [row]"
        )
    listed = several(source, "source", "a path, or dicts")
    read = iter(listed)
    first = next(read, None)
    if isinstance(first, str | Path):
        return [RowSource(path) for path in paths([first, *read], "source")]
    return [RowSource(None, listed if isinstance(listed, Sequence) else chain([first], read))]


@dataclass(frozen=True)
class Columns:
    """The columns that an import takes.

    Attributes:
        id: of the ids; None to name documents by their content.
        text: of the texts; None for vectors alone.
        vector: of the vectors; None to embed the texts.
        metadata: of the metadata; None for all other columns.
    """

    id: str | None = None
    text: str | None = None
    vector: str | None = None
    metadata: Sequence[str] | None = None

    def chosen(self, source: RowSource, columns: Sequence[str]) -> Columns:
        """Finds the columns of a source: those that are named, and those that are guessed.

        Raises:
            UsageError: a column does not exist, or the text cannot be guessed; the message lists the columns.
        """
        named = [one for one in (self.id, self.text, self.vector, *(self.metadata or ())) if one is not None]
        has = f"it has {_listed(columns)}"
        if columns and (absent := [name for name in named if name not in columns]):
            raise UsageError(f"{source.name} has no column {absent[0]!r}; {has}")
        if PASSAGE in columns:
            raise UsageError(
                f"{source.name} has a row for each passage, as an export with --passages: export documents instead"
            )
        name = _like((ID,), columns) if self.id is None else self.id
        text = _like(TEXT_NAMES, columns) if self.text is None else self.text
        if columns and text is None and self.vector is None:
            raise UsageError(f"{source.name}: name the column of the texts with --text (text=); {has}")
        if columns and name is None and text is None:
            raise UsageError(f"{source.name}: name the column of the ids with --id (id=); {has}")
        return Columns(name, text, self.vector, self.metadata)

    def keys(self, columns: Iterable[str]) -> dict[str, str]:
        """Column -> key of the metadata of a row with some columns."""
        if self.metadata is not None:
            return {column: key_of(column) for column in self.metadata if column in columns}
        own = (self.id, self.text, self.vector)
        return {column: key_of(column) for column in columns if column not in own and not is_reserved(column)}

    def left_out(self, columns: Sequence[str]) -> list[str]:
        """The columns of vectors that are not taken."""
        return [name for name in columns if name.startswith(VECTOR) and name != self.vector]


def _like(names: Sequence[str], columns: Sequence[str]) -> str | None:
    """The first of some names that is a column, in any case."""
    return next((column for name in names for column in columns if column.lower() == name), None)


def _listed(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - _LISTED} more" if len(columns) > _LISTED else ""
    return f"{', '.join(map(repr, columns[:_LISTED])) or 'no columns'}{more}"
