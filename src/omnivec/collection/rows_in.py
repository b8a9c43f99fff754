"""`Collection.add_rows`: rows of files or of memory become documents, window by window."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from omnivec.collection.cells import MISSING, VECTOR, value_of
from omnivec.collection.own_vectors import SPACE
from omnivec.collection.row_sources import Columns, Named, RowSource, sources_of
from omnivec.errors import ItemError, ItemErrors, OmnivecError, UsageError
from omnivec.inputs.items import shown
from omnivec.store.records import SpaceRecord
from omnivec.store.seen import Seen
from omnivec.store.strings import storable
from omnivec.store.writing import Metadata, as_read
from omnivec.types import Floats
from omnivec.validation.arguments import is_missing, plain

if TYPE_CHECKING:
    from omnivec.collection.adding import Added

FIRST, MOST = 64, 4096
"""Rows of the first window, when the speed of the model is not known, and of the largest."""

SECONDS = 2.0
"""Time that a window should take: what a killed process loses, and how often progress is shown."""

CHARACTERS = 2**24
"""Length of the texts of a window at which it is added, whatever its number of rows."""

_COUNTED = ("new", "changed", "unchanged", "passages", "lost")


@dataclass
class Imported:
    """The result of `Collection.add_rows`.

    Attributes:
        rows: number of rows read, those that failed among them.
        new: number of new documents.
        changed: number of documents whose content or metadata was replaced.
        unchanged: number of rows that were in the collection unchanged, or are equal to an earlier row.
        passages: number of passages written.
        lost: number of tokens that the model's limit cut off.
        failures: why a row, or the rest of a file, is not in the collection, by its place such as "notes.csv:12".
        left_out: columns of vectors that were not taken, by file.
    """

    rows: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    passages: int = 0
    lost: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"<Imported: {self.rows:,} rows: {self.new:,} new, {self.changed:,} changed, "
            f"{self.unchanged:,} unchanged, {len(self.failures):,} failed; {self.passages:,} passages>"
        )


class Adds(Protocol):
    """The methods of a collection that an import calls."""

    def add(
        self,
        items: Any,
        ids: Sequence[str] | None = None,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        *,
        vectors: Any = None,
        space: str | None = None,
        show_progress_bar: bool | None = None,
    ) -> Added:
        """See `Collection.add`."""

    def spaces(self) -> dict[str, SpaceRecord]:
        """See `Collection.spaces`."""


class Opened(NamedTuple):
    """A source whose columns are known.

    Attributes:
        source: the file, or rows in memory.
        columns: the columns to take.
        rows: its rows with their places.
        left_out: columns of vectors that are not taken.
    """

    source: RowSource
    columns: Columns
    rows: Iterator[Named]
    left_out: list[str]


def opened(source: Any, columns: Columns) -> list[Opened]:
    """Opens the files that an argument names, or its rows in memory, before anything is added.

    Raises:
        ItemError: a file cannot be read, or is empty and has no header.
        UsageError: a column does not exist, or the column of the texts cannot be guessed.
    """
    found = []
    for one in sources_of(source):
        known, rows = one.open()
        chosen = columns.chosen(one, known)
        one.vectors.update(() if chosen.vector is None else (chosen.vector,))
        found.append(Opened(one, chosen, rows, chosen.left_out(known)))
    return found


def total_of(sources: Sequence[Opened]) -> int | None:
    """The number of rows of all sources, for a progress bar; None if that of one is not known."""
    totals = [one.source.total() for one in sources]
    return None if None in totals else sum(one for one in totals if one is not None)


@dataclass(frozen=True, eq=False)
class _Row:
    """A row that can be added."""

    place: str
    id: str | None
    text: str
    metadata: Metadata
    vector: Floats | None


class Import:
    """One call of `Collection.add_rows`: an iterator over its windows.

    Args:
        notes: the collection.
        sources: the files, or the rows in memory, that `opened` has opened.
        space: name of the space of the vectors; None for the one that the column's name tells, or "vectors".

    Attributes:
        report: what was done so far; complete after the last window.
    """

    def __init__(self, notes: Adds, sources: Sequence[Opened], space: str | None = None) -> None:
        if space is not None and any(one.columns.vector is None for one in sources):
            raise UsageError(f"space={space!r} is for vectors: name their column, with --vector (vector=)")
        self._notes, self._sources, self._space = notes, sources, space
        self._dims: dict[str, int] = {}
        self._size = FIRST
        self._failed: dict[str, str] = {}
        self.report = Imported(left_out={one.source.name: one.left_out for one in sources if one.left_out})

    def __iter__(self) -> Iterator[dict[str, str]]:
        """Adds the rows; after each commit, yields what has failed since the last one, by its place."""
        with Seen() as seen:
            for one in self._sources:
                window: list[_Row] = []
                held = 0
                for row in self._rows(one, seen):
                    window.append(row)
                    held += len(row.text)
                    if len(window) >= self._size or held >= CHARACTERS:
                        yield self._added(window, self._space_of(one.columns))
                        window, held = [], 0
                yield self._added(window, self._space_of(one.columns))

    def _space_of(self, columns: Columns) -> str | None:
        """The space of the vectors of a source; None if it has no vectors."""
        if columns.vector is None or self._space is not None:
            return self._space
        return columns.vector.removeprefix(VECTOR) if columns.vector.startswith(VECTOR) else SPACE

    def _rows(self, one: Opened, seen: Seen) -> Iterator[_Row]:
        """The rows that can be added; the others are counted, and named in the report."""
        reader = _Reader(one.source, one.columns)
        while True:
            try:
                entry = next(one.rows, None)
            except OmnivecError as error:  # a damaged file: the rows before that are in
                self._failed[one.source.name] = (
                    f"the rest cannot be read: {_without(str(error), one.source.name)}"
                )
                return
            if entry is None:
                return
            place, values = entry
            self.report.rows += 1
            try:
                row = reader.row(place, values)
                self._check_dim(row.vector, self._space_of(one.columns))
                if _is_repeated(row, seen):
                    self.report.unchanged += 1
                    continue
            except ItemError as error:
                self._failed[place] = str(error)
                continue
            yield row

    def _check_dim(self, vector: Floats | None, space: str | None) -> None:
        """Raises ItemError unless a vector has the length of the others of its space."""
        if vector is None or space is None:
            return
        if space not in self._dims:
            record = self._notes.spaces().get(space)
            self._dims[space] = len(vector) if record is None else record.dim
        if len(vector) != self._dims[space]:
            raise ItemError(
                f"its vector has {len(vector):,} numbers, the others of the space {self._dims[space]:,}"
            )

    def _added(self, window: Sequence[_Row], space: str | None) -> dict[str, str]:
        """Adds and commits a window, adapts the size of the next one, and returns what has failed."""
        begun = time.monotonic()
        if window:
            added = self._add(window, space)
            for i, why in added.failures.items():
                self._failed[window[i].place] = why
            for name in _COUNTED:
                setattr(self.report, name, getattr(self.report, name) + getattr(added, name))
            pace = len(window) / max(time.monotonic() - begun, 1e-9)
            self._size = max(FIRST, min(MOST, 2 * self._size, int(pace * SECONDS)))
        failed, self._failed = self._failed, {}
        self.report.failures |= failed
        return failed

    def _add(self, window: Sequence[_Row], space: str | None) -> Added:
        ids = None if window[0].id is None else [row.id or "" for row in window]
        metadata = [row.metadata for row in window]
        vectors = None if space is None else np.array([row.vector for row in window])
        try:
            return self._notes.add(
                [row.text for row in window],
                ids,
                metadata,
                vectors=vectors,
                space=space,
                show_progress_bar=False,
            )
        except ItemErrors as error:
            partial: Added = error.partial
            return partial


class _Reader:
    """Reads the values of a source's rows."""

    def __init__(self, source: RowSource, columns: Columns) -> None:
        self._source, self._columns = source, columns
        self._keys: dict[tuple[str, ...], dict[str, str]] = {}

    def row(self, place: str, values: Mapping[str, Any] | ItemError) -> _Row:
        """The id, text, metadata and vector of a row; ItemError, without its place, if one is unusable."""
        if isinstance(values, ItemError):
            raise values
        columns = self._columns
        name = None if columns.id is None else self._id(columns.id, values.get(columns.id))
        text = self._text(columns.text, values)
        vector = None if columns.vector is None else self._vector(columns.vector, values.get(columns.vector))
        try:
            metadata = as_read(self._metadata(values), "metadata")
        except UsageError as error:
            raise ItemError(str(error)) from error
        return _Row(place, name, text, metadata, vector)

    def _id(self, column: str, value: Any) -> str:
        value = plain(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is None or value == "":
            raise ItemError(f"it has no id in {column!r}")
        if not isinstance(value, str):
            raise ItemError(f"its id in {column!r} is {shown(value)}: expected a text or a whole number")
        if storable(value) != value:
            raise ItemError(f"its id in {column!r} is {value!r}: it must be valid UTF-8 without NUL")
        return value

    def _text(self, column: str | None, values: Mapping[str, Any]) -> str:
        value = "" if column is None else values.get(column)
        if is_missing(value):
            value = ""
        if not isinstance(value, str):
            raise ItemError(f"its text in {column!r} is {shown(value)}: expected a text")
        if self._columns.vector is None and not value.strip():
            raise ItemError(f"it has no text in {column!r}")
        return _utf8(column or "", value)

    def _vector(self, column: str, value: Any) -> Floats:
        if value is None or (isinstance(value, str) and not value):
            raise ItemError(f"it has no vector in {column!r}")
        try:
            listed = json.loads(value) if isinstance(value, str) and self._source.is_text else value
            array = np.asarray(listed)
            numbers = array.astype(np.float32) if array.dtype.kind in "iuf" else None
        except (ValueError, TypeError, RecursionError) as error:
            raise ItemError(
                f"its vector in {column!r} is {shown(value)}: expected a list of numbers"
            ) from error
        if numbers is None or numbers.ndim != 1 or not numbers.size:
            raise ItemError(f"its vector in {column!r} is {shown(value)}: expected a list of numbers")
        if not np.isfinite(numbers).all():
            raise ItemError(
                f"its vector in {column!r} has {int((~np.isfinite(numbers)).sum())} NaN or infinities"
            )
        return numbers

    def _metadata(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        shape = tuple(values)
        if shape not in self._keys:
            self._keys = {shape: self._columns.keys(shape)}  # one, because rows in memory may all have others
        found = {}
        for column, key in self._keys[shape].items():
            value = values[column]
            if isinstance(value, str):
                value = _utf8(column, value)
                if self._source.is_text or column in self._source.json_columns:
                    value = value_of(value)
            elif value is None and self._source.is_table and column not in self._source.null_columns:
                value = MISSING
            if value is not MISSING:
                found[key] = value
        return found


def _without(message: str, name: str) -> str:
    """A message without the name of the file at its beginning."""
    return message.removeprefix(name).lstrip(": ")


def _utf8(column: str, text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ItemError(f"{column!r} is not UTF-8 (character {error.start}): convert it first") from error
    return text


def _is_repeated(row: _Row, seen: Seen) -> bool:
    """Whether a row is equal to an earlier one; ItemError if another row has its id, or its text if it has no id."""
    facts = row.metadata.text
    key = row.text if row.id is None else row.id
    content = blake2b(digest_size=16)
    for part in (row.text, facts):
        content.update(storable(part).encode())
        content.update(b"\0")
    content.update(b"" if row.vector is None else row.vector.tobytes())
    named = b"text" if row.id is None else b"id"
    first = seen.first(
        blake2b(key.encode(), digest_size=16, person=named).digest(), content.digest(), row.place
    )
    if first is None:
        return False
    if first[0] != content.digest():
        if row.id is None:
            raise ItemError(f"its text is also that of {first[1]}, with other metadata: name a column of ids")
        raise ItemError(f"its id {row.id!r} is also that of {first[1]}")
    return True
