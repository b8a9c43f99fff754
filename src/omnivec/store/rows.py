"""What comes back from the catalogue's tables is what was put in, or the catalogue is damaged: checked here, once.

SQLite stores any type in any column. Whoever reads rows through a `Shape` gets the types that it names; a row that
holds something else raises CollectionDamaged, naming table, column and row.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np

from omnivec.store.connections import damaged
from omnivec.types import IN_CHARACTERS, Floats, Keys, Metric
from omnivec.validation.arguments import quoted

_NAME = re.compile("[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Column:
    """What may stand in a column.

    Attributes:
        sql: what is selected.
        kinds: Python types of its values.
        least: of numbers, the smallest.
        most: of numbers, the largest.
        among: the only values there are; empty for any.
        like: what a text has to match whole; None for any.
        is_json: whether it is the text of a JSON object, which comes back as a dict.
    """

    sql: str
    kinds: tuple[type, ...]
    least: int | None = None
    most: int | None = None
    among: tuple[str, ...] = ()
    like: re.Pattern[str] | None = None
    is_json: bool = False

    @cached_property
    def plain(self) -> bool:
        """Whether any value of its types will do."""
        return (
            self.least is None and self.most is None and not self.among and not self.like and not self.is_json
        )

    def value(self, stored: Any) -> Any:
        """What a stored value means; ValueError, saying what is due, where it means nothing."""
        if type(stored) not in self.kinds:
            raise ValueError(" or ".join(_SAID[column_type] for column_type in self.kinds))
        if self.least is not None and stored is not None and stored < self.least:
            raise ValueError(f"a number from {self.least}")
        if self.most is not None and stored is not None and stored > self.most:
            raise ValueError(f"a number up to {self.most:,}")
        if self.among and stored not in self.among:
            raise ValueError(f"one of {', '.join(self.among)}")
        if self.like is not None and not self.like.fullmatch(stored):
            raise ValueError("a name in lower case")
        return _object(stored) if self.is_json else stored


_SAID: Mapping[type, str] = {
    str: "text",
    int: "an integer",
    float: "a number",
    bytes: "a blob",
    type(None): "NULL",
}


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_refused, parse_float=_finite)
    except (ValueError, RecursionError) as exc:
        raise ValueError("a JSON object") from exc
    if not isinstance(value, dict):
        raise ValueError("a JSON object")
    return value


def _refused(constant: str) -> Any:
    raise ValueError(constant)


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(number)
    return value


@dataclass(frozen=True)
class Shape:
    """Columns that are read together; the first names the row in messages.

    Attributes:
        table: that they are of.
        columns: in their order.
        rule: what the values of one row, each of which may stand there, must be to one another: what is wrong with
            them, in a few words, or None.
    """

    table: str
    columns: tuple[Column, ...]
    rule: Callable[[Mapping[str, Any]], str | None] | None = None

    @cached_property
    def sql(self) -> str:
        """The columns, for a SELECT."""
        return ", ".join(column.sql for column in self.columns)

    @cached_property
    def _usual(self) -> frozenset[tuple[type, ...]]:
        return frozenset(product(*(column.kinds for column in self.columns)))

    @cached_property
    def _special(self) -> tuple[tuple[int, Column], ...]:
        return tuple((i, column) for i, column in enumerate(self.columns) if not column.plain)

    def read(self, path: Path, rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
        """The rows' values; CollectionDamaged about the file at `path` where one cannot be."""
        rows_read = []
        for row in rows:
            values = self._values(row)
            if values is None:
                raise damaged(path, self._fault(row))
            rows_read.append(values)
        return rows_read

    def faults(self, rows: Iterable[Sequence[Any]]) -> Iterator[str]:
        """What is wrong with the rows, a few words for each that holds something else than it should."""
        return (self._fault(row) for row in rows if self._values(row) is None)

    def _values(self, row: Sequence[Any]) -> list[Any] | None:
        if tuple(map(type, row)) not in self._usual:
            return None
        values = list(row)
        try:
            for i, column in self._special:
                values[i] = column.value(values[i])
        except ValueError:
            return None
        return None if self.rule is not None and self.rule(self._named(values)) else values

    def _named(self, values: Sequence[Any]) -> dict[str, Any]:
        return dict(zip((column.sql for column in self.columns), values, strict=True))

    def _fault(self, row: Sequence[Any]) -> str:
        for column, stored in zip(self.columns, row, strict=True):
            try:
                column.value(stored)
            except ValueError as due:
                name = column.sql.split(".")[-1]
                return f"{self.table}.{name} of {quoted(row[0])} holds {quoted(stored)}, where {due} is due"
        broken = self.rule(self._named(row)) if self.rule is not None else None
        name = self.columns[0].sql.split(".")[-1]
        return f"{self.table}.{name} {quoted(row[0])}: {broken or 'it cannot be read'}"


def passage_keys(path: Path, stored: Sequence[Any]) -> Keys:
    """Stored keys of passages as (n,) int64; CollectionDamaged where one is no integer."""
    if not all(type(key) is int for key in stored):
        wrong = next(key for key in stored if type(key) is not int)
        raise damaged(path, f"{quoted(wrong)} stands in the place of a passage's key")
    return np.array(stored, np.int64)


def vector_rows(path: Path, blobs: Sequence[Any], dim: int, whose: str) -> Floats:
    """Stored vectors as (n, dim) float32; CollectionDamaged where one has another length or is not finite."""
    if not all(type(blob) is bytes and len(blob) == 4 * dim for blob in blobs):
        raise damaged(path, f"a vector of the space {whose!r} is no blob of {4 * dim} bytes")
    matrix = np.frombuffer(b"".join(blobs), "<f4").reshape(-1, dim)
    if not np.isfinite(matrix).all():
        raise damaged(path, f"a vector of the space {whose!r} holds NaN or an infinity")
    return matrix


def _text(sql: str, among: tuple[str, ...] = ()) -> Column:
    return Column(sql, (str,), among=among)


def _name(sql: str) -> Column:
    """A name in lower case, such as a modality's: those of other packages are not known here."""
    return Column(sql, (str,), like=_NAME)


def _number(sql: str, least: int | None = None, most: int | None = None) -> Column:
    return Column(sql, (int,), least=least, most=most)


def _span(passage: Mapping[str, Any]) -> str | None:
    """Of a passage, that it ends behind its beginning; of one in characters, that its text is as long as its span."""
    start, end, text = passage["start"], passage["end"], passage["text"]
    if passage["passages.modality"] not in IN_CHARACTERS:
        return None if start <= end else f"its span is from {start} to {end}"
    if len(text) == end - start:
        return None
    return f"its text has {len(text):,} characters, and its span is from {start} to {end}"


_OPTIONAL = (str, type(None))
_METRIC = get_args(Metric)

_HEAD = (
    _text("id"),
    _name("modality"),
    _text("how"),
    Column("digest", (bytes,)),
    Column("root", _OPTIONAL),
    Column("path", _OPTIONAL),
    _number("size", 0),
    _number("mtime_ns"),
    _number("device"),
    Column("metadata", (str,), is_json=True),
    _number("lost", 0),
)
DOCUMENT = Shape("documents", _HEAD)
ENTRY = Shape(
    "documents",
    (
        *_HEAD,
        _number("(SELECT count(*) FROM passages WHERE document = documents.key)"),
        _number("indexed_ns"),
    ),
)
SIGNATURE = Shape(
    "documents",
    (
        _text("id"),
        Column("digest", (bytes,)),
        _text("how"),
        _number("size", 0),
        _number("mtime_ns"),
        _number("device"),
        _number("indexed_ns"),
    ),
)
_FAR = 2**40
"""More characters, lines and passages than a text can have."""
_PLACE = (
    Column("start", (int, float), least=0, most=_FAR),
    Column("end", (int, float), least=0, most=_FAR),
    Column("line", (int, type(None)), least=1, most=_FAR),
    _text("text"),
    _name("passages.modality"),
)
PASSAGE = Shape("passages", (_number("key", 1), *_PLACE), _span)
FOUND = Shape(
    "passages",
    (
        _number("passages.key", 1),
        _number("ordinal", 0, _FAR),
        _text("id"),
        *_PLACE,
        Column("metadata", (str,), is_json=True),
    ),
    _span,
)
SPACE = Shape(
    "spaces",
    (
        _text("name"),
        _number("key", 1),
        _text("model"),
        _number("dim", 1),
        _text("metric", _METRIC),
        Column("identity", (str,), is_json=True),
        Column("provenance", (str,), is_json=True),
    ),
)
CANARY = Shape("canaries", (_number("space", 1), _text("text"), Column("vector", (bytes,))))
STATE = Shape("history", (_number("changes", 0), _number("stamp")))
ROOT = Shape("roots", (_text("path"),))

_PASSAGE_ROW = Shape("passages", (*PASSAGE.columns, _number("document", 1), _number("ordinal", 0, _FAR)))
_VECTOR_ROW = Shape("vectors", (_number("passage", 1), _number("space", 1), _number("part", 0, _FAR)))

CHECKED: tuple[Shape, ...] = (ENTRY, _PASSAGE_ROW, _VECTOR_ROW, SPACE, CANARY, STATE, ROOT)
"""All columns that anybody reads, of all tables."""
