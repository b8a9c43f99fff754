"""Checks of rows read from the catalogue: their types and ranges, in this one place.

SQLite stores any type in any column. Rows that are read through a `Shape` have the types that it names; a row with
another type raises CollectionDamaged with its table, column and first value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np

from omnivec.store.connections import damaged
from omnivec.store.records import FLOAT32, STATES
from omnivec.types import IN_CHARACTERS, Floats, Keys, Kind, Metric, SparseRow
from omnivec.validation.arguments import quoted

_NAME = re.compile("[a-z][a-z0-9_]*")
_ROWS_AT_ONCE = 1_000


@dataclass(frozen=True)
class Column:
    """The values that a column may hold.

    Attributes:
        sql: the expression that is selected.
        kinds: Python types of the values.
        least: smallest number; None for no bound.
        most: largest number; None for no bound.
        among: the allowed values; empty for any.
        like: a pattern that the whole text has to match; None for any text.
        json: dict or list if the text is a JSON object, or a JSON list of texts, which is read; None for other text.
    """

    sql: str
    kinds: tuple[type, ...]
    least: int | None = None
    most: int | None = None
    among: tuple[str, ...] = ()
    like: re.Pattern[str] | None = None
    json: type | None = None

    def values(self, stored: Sequence[Any]) -> Sequence[Any]:
        """Stored values as they are returned; ValueError, whose message is what was expected, if one is not allowed."""
        present = stored
        for kind in set(map(type, stored)):
            if kind not in self.kinds:
                raise ValueError(" or ".join(_NAMES[kind] for kind in self.kinds))
            if kind is type(None):
                present = [value for value in stored if value is not None]
        if not present:
            return stored
        if self.least is not None and min(present) < self.least:
            raise ValueError(f"a number from {self.least}")
        if self.most is not None and max(present) > self.most:
            raise ValueError(f"a number up to {self.most:,}")
        if self.among and not set(present).issubset(self.among):
            raise ValueError(f"one of {', '.join(self.among)}")
        if self.like is not None and not all(map(self.like.fullmatch, set(present))):
            raise ValueError("a name in lower case")
        return stored if self.json is None else [_parsed(text, self.json) for text in stored]


_NAMES: Mapping[type, str] = {
    str: "text",
    int: "an integer",
    float: "a number",
    bytes: "a blob",
    type(None): "NULL",
}


def _parsed(text: str, expected: type) -> Any:
    """A JSON object as a dict, or a JSON list of texts as a tuple."""
    what = "a JSON object" if expected is dict else "a JSON list of texts"
    try:
        value, end = _JSON.raw_decode(text)
        if end != len(text):
            value = _JSON.decode(text)  # blanks around it, or more than one value
    except (ValueError, RecursionError) as exc:
        raise ValueError(what) from exc
    if not isinstance(value, expected):
        raise ValueError(what)
    if not isinstance(value, list):
        return value
    if not all(isinstance(one, str) for one in value):
        raise ValueError(what)
    return tuple(value)


def _refused(constant: str) -> Any:
    raise ValueError(constant)


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(number)
    return value


_JSON = json.JSONDecoder(parse_constant=_refused, parse_float=_finite)
"""One for all: `json.loads` with options makes a decoder for each text."""


@dataclass(frozen=True)
class Rule:
    """A check of the values of one row against each other.

    Attributes:
        columns: the SQL of those that it takes, in their order.
        broken: returns what is wrong with their values in a few words, or None.
    """

    columns: tuple[str, ...]
    broken: Callable[..., str | None]


@dataclass(frozen=True)
class Shape:
    """Columns that are read together; the first names the row in messages.

    Attributes:
        table: to which they belong.
        columns: in their order.
        rule: a check of the values of one row against each other; None for none.
    """

    table: str
    columns: tuple[Column, ...]
    rule: Rule | None = None

    @cached_property
    def sql(self) -> str:
        """The columns, for a SELECT."""
        return ", ".join(column.sql for column in self.columns)

    @cached_property
    def _ruled(self) -> tuple[int, ...]:
        """Places of the columns that the rule takes."""
        names = [column.sql for column in self.columns]
        return () if self.rule is None else tuple(map(names.index, self.rule.columns))

    def read(self, path: Path, rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """The values of rows; raises CollectionDamaged about the file at `path` if one is not allowed."""
        values = self._values(rows)
        if values is None:
            raise damaged(path, next(self.faults(rows)))
        return values

    def faults(self, rows: Iterable[Sequence[Any]]) -> Iterator[str]:
        """One line for each row with a value that is not allowed."""
        remaining = iter(rows)
        while several := list(islice(remaining, _ROWS_AT_ONCE)):
            if self._values(several) is None:
                yield from (fault for fault in map(self._fault, several) if fault is not None)

    def _values(self, rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]] | None:
        """The values of rows as they are returned; None if one is not allowed.

        They are checked column by column, which takes a third of the time that one value after the other takes.
        """
        if not rows:
            return []
        try:
            columns = [
                column.values(stored)
                for column, stored in zip(self.columns, zip(*rows, strict=True), strict=True)
            ]
        except ValueError:
            return None
        return None if any(self._broken(columns)) else list(zip(*columns, strict=True))

    def _broken(self, columns: Sequence[Sequence[Any]]) -> Iterator[str | None]:
        """What is wrong with each row by the rule, or None."""
        return iter(()) if self.rule is None else map(self.rule.broken, *[columns[i] for i in self._ruled])

    def _fault(self, row: Sequence[Any]) -> str | None:
        """What is wrong with a row in one line; None if nothing is."""
        for column, stored in zip(self.columns, row, strict=True):
            try:
                column.values((stored,))
            except ValueError as expected:
                name = column.sql.split(".")[-1]
                return f"{self.table}.{name} of {quoted(row[0])} holds {quoted(stored)}, expected {expected}"
        broken = next(self._broken([(value,) for value in row]), None)
        name = self.columns[0].sql.split(".")[-1]
        return None if broken is None else f"{self.table}.{name} {quoted(row[0])}: {broken}"


def passage_keys(path: Path, stored: Sequence[Any]) -> Keys:
    """Stored keys of passages as (n,) int64; CollectionDamaged if one is not an integer."""
    if not {int}.issuperset(map(type, stored)):
        wrong = next(key for key in stored if type(key) is not int)
        raise damaged(path, f"the key of a passage is {quoted(wrong)}, not an integer")
    return np.array(stored, np.int64)


def vector_rows(path: Path, blobs: Sequence[Any], dim: int, whose: str) -> Floats:
    """Stored vectors as (n, dim) float32; CollectionDamaged if one has another length or is not finite."""
    if not all(type(blob) is bytes and len(blob) == 4 * dim for blob in blobs):
        raise damaged(path, f"a vector of the space {whose!r} is not a blob of {4 * dim} bytes")
    matrix = np.frombuffer(b"".join(blobs), "<f4").reshape(-1, dim)
    if not np.isfinite(matrix).all():
        raise damaged(path, f"a vector of the space {whose!r} holds NaN or an infinity")
    return matrix


def sparse_rows(path: Path, blobs: Sequence[Any], dim: int, whose: str) -> list[SparseRow]:
    """Stored sparse vectors; CollectionDamaged if one is not what `writing` makes of a `SparseRow`."""
    rows = []
    for blob in blobs:
        if type(blob) is not bytes or len(blob) % 8:
            raise damaged(
                path, f"a vector of the space {whose!r} is not a blob of 8 bytes for each component"
            )
        n = len(blob) // 8
        indices = np.frombuffer(blob, "<u4", n).astype(np.int64)
        weights = np.frombuffer(blob, "<f4", n, 4 * n)
        if np.any(indices[1:] <= indices[:-1]) or (n and indices[-1] >= dim):
            raise damaged(
                path, f"the components of a vector of the space {whose!r} are not 0 to {dim - 1}, ascending"
            )
        if not np.isfinite(weights).all():
            raise damaged(path, f"a vector of the space {whose!r} holds NaN or an infinity")
        rows.append(SparseRow(indices, weights))
    return rows


def _text(sql: str, among: tuple[str, ...] = ()) -> Column:
    return Column(sql, (str,), among=among)


def _name(sql: str) -> Column:
    """A name in lower case, such as a modality's; plug-ins add modalities, so there is no list to compare with."""
    return Column(sql, (str,), like=_NAME)


def _number(sql: str, least: int | None = None, most: int | None = None) -> Column:
    return Column(sql, (int,), least=least, most=most)


def _broken_span(start: float, end: float, text: str, modality: str, unit: str | None) -> str | None:
    """Checks that a passage does not end before it starts; if its unit is characters, that its text fills its span."""
    if modality not in IN_CHARACTERS:
        return None if start <= end else f"its span is from {start} to {end}"
    if unit not in (None, CHARACTERS):
        return f"its span counts {unit!r}, and that of its modality {CHARACTERS}"
    if len(text) == end - start:
        return None
    return f"its text has {len(text):,} characters, and its span is from {start} to {end}"


_SPAN = Rule(("start", "end", "text", "passages.modality", "unit"), _broken_span)
_OPTIONAL = (str, type(None))
_METRIC, _KIND = get_args(Metric), get_args(Kind)

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
    Column("metadata", (str,), json=dict),
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
WORDED = (
    "SELECT 1 FROM passages_words_docsize JOIN passages ON passages.key = id WHERE modality LIKE ? LIMIT 1"
)
"""One row if any passage of a modality, or of all for "%", has text."""

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
CHARACTERS = "characters"
_FAR = 2**40
"""A bound for numbers of characters, lines and passages that no text reaches."""
_PLACE = (
    Column("start", (int, float), least=0, most=_FAR),
    Column("end", (int, float), least=0, most=_FAR),
    Column("line", (int, type(None)), least=1, most=_FAR),
    _text("text"),
    _name("passages.modality"),
    Column("unit", _OPTIONAL),
)
PASSAGE = Shape("passages", (_number("key", 1), *_PLACE), _SPAN)
FOUND = Shape(
    "passages",
    (
        _number("passages.key", 1),
        _number("ordinal", 0, _FAR),
        _text("id"),
        *_PLACE,
        Column("metadata", (str,), json=dict),
    ),
    _SPAN,
)
OWNER = Shape("passages", (_number("passages.key", 1), _text("id")))
PIECE = Shape("passages", tuple(column for column in FOUND.columns if column.sql != "metadata"), _SPAN)
"""FOUND without the document's metadata."""

METADATA = Shape(
    "documents",
    (
        _text("id"),
        _number("key", 1),
        _number("checksum"),
        *(column for column in _HEAD if column.sql == "metadata"),
    ),
)
SPACE = Shape(
    "spaces",
    (
        _text("name"),
        _number("key", 1),
        _text("model"),
        _number("dim", 1),
        _text("metric", _METRIC),
        Column("identity", (str,), json=dict),
        Column("provenance", (str,), json=dict),
        Column("modalities", (str,), json=list),
        _text("kind", _KIND),
        _text("dtype", (FLOAT32,)),
        _text("state", STATES),
    ),
)
CANARY = Shape("canaries", (_number("space", 1), _text("text"), Column("vector", (bytes,))))
STATE = Shape("history", (_number("changes", 0), _number("stamp")))
ROOT = Shape("roots", (_text("path"),))

_PASSAGE_ROW = Shape("passages", (*PASSAGE.columns, _number("document", 1), _number("ordinal", 0, _FAR)))
_VECTOR_ROW = Shape("vectors", (_number("passage", 1), _number("space", 1), _number("part", 0, _FAR)))

SMALL: tuple[Shape, ...] = (SPACE, CANARY, STATE, ROOT)
"""All columns that are read, of the tables that do not grow with the documents."""

CHECKED: tuple[Shape, ...] = (ENTRY, _PASSAGE_ROW, _VECTOR_ROW, *SMALL)
"""All columns that are read, of all tables."""
