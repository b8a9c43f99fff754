"""Records read from JSON by the annotations of their fields: types, ranges and choices, checked in this one place.

    @dataclass(frozen=True)
    class Dense:
        out_features: Size
        activation_function: str = "torch.nn.modules.activation.Tanh"

    dense = typed.read_file(Dense, folder / "config.json")

Every field is a key of the file, or what its annotation's `Key` says. A key that is missing or null has the field's
default; without one it is an error. What a file holds beside the fields is passed over. A field may be a bool, an
int, a float (which takes an int, and is finite), a str, Any, a tuple (a list in JSON), a Mapping of such values by
their names, another record, or one of several of these; `Annotated` adds ranges and choices, most often by one of the
names at the end of the first part: Size, Count, Rate.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import reprlib
import types
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from omnivec.errors import ModelError, OmnivecError, UnsupportedModel
from omnivec.validation.json_files import read_json

Record = TypeVar("Record")


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`, both included."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Among:
    """One of several values; another one is a variant that is not covered."""

    values: Collection[Any]


@dataclass(frozen=True)
class Divides:
    """Another field of the record is a multiple of this one."""

    field: str


@dataclass(frozen=True)
class Length:
    """Another field of the record says how many values this list has."""

    field: str


@dataclass(frozen=True)
class Filled:
    """A list of at least one value."""


@dataclass(frozen=True)
class Key:
    """What the field is called in the file, where that is no name of Python or not the record's word."""

    name: str


LARGEST = 2**31 - 1

Size = Annotated[int, Between(1, LARGEST)]
"""Of an axis: a width, the rows of a table, a length in tokens."""
Count = Annotated[int, Between(1, 10_000)]
"""Of layers, of stages, of blocks: what is repeated by the program, not by a matrix."""
Index = Annotated[int, Between(0, LARGEST)]
"""Of a row; of things that may be none."""
Rate = Annotated[float, Between(0.0, 1.0)]
"""Of dropout; an epsilon."""
Positions = Annotated[int, Between(1, 1 << 24)]
"""Longest text in tokens, where no table of the weights ends it."""
Positive = Annotated[float, Between(1e-6, 1e6)]
"""A factor."""
Base = Annotated[float, Between(2.0, 1e12)]
"""Of rotary positions."""
Side = Annotated[int, Between(1, 4096)]
"""Of an image or a patch, in pixels."""

_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 60
_MISSING = object()


def read(
    kind: type[Record], said: object, file: Path | str, error: type[OmnivecError] = ModelError
) -> Record:
    """A record of what a file says.

    Args:
        kind: a dataclass.
        said: the file's content, as `json` has it.
        file: its name, for messages.
        error: what is raised; where that is ModelError, a value that is none of its choices is an UnsupportedModel.

    Raises:
        OmnivecError: a value is missing, of another type, out of its range, or none of those that are covered: the
            message names the file, the key, the value, and what is expected.
    """
    try:
        return _record(kind, said, "")
    except _Wrong as wrong:
        raise wrong.error(file, error) from None


def read_file(kind: type[Record], path: Path, default: Any = _MISSING) -> Record:
    """A record of a JSON file; of the table `default` where there is none.

    Raises:
        ModelError: the file is missing and has no default, is no JSON, or as `read`.
    """
    said = read_json(path) if default is _MISSING else read_json(path, default)
    return read(kind, said, path)


def checked(
    kinds: Iterable[type], said: object, file: Path | str, spellings: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The keys of a file that records have, each checked as `read` does; what is missing or null stays so.

    Args:
        kinds: the records; of two with one key the first counts.
        said: the file's content.
        file: its name, for messages.
        spellings: another key, with dots into tables -> the key of a record that it stands for.

    Raises:
        OmnivecError: as `read`, but nothing is missing.
    """
    known: dict[str, Any] = {}
    for kind in reversed(list(kinds)):
        known |= {key: annotation for key, annotation, _ in _fields(kind).values()}
    for key, name in (spellings or {}).items():
        if "." not in key and name in known:
            known.setdefault(key, known[name])
    try:
        return _tables(known, said, "")
    except _Wrong as wrong:
        raise wrong.error(file, ModelError) from None


def table(kind: type, path: Path, default: Any = _MISSING) -> dict[str, Any]:
    """The table in a JSON file, all of it; the keys that a record has are checked, and are as `checked` has them.

    Raises:
        ModelError: as `read_file`, but nothing is missing.
    """
    said = read_json(path, kind=dict) if default is _MISSING else read_json(path, default, dict)
    return overlaid(kind, said, path)


def overlaid(kind: type, said: Mapping[str, Any], file: Path | str, at: str = "") -> dict[str, Any]:
    """A table with the keys that a record has checked; `at` is the key in the file that the table stands at."""
    try:
        known = _tables({key: hint for key, hint, _ in _fields(cast(Any, kind)).values()}, said, at)
    except _Wrong as wrong:
        raise wrong.error(file, ModelError) from None
    return {**said, **known}


def rows(kind: type[Record], path: Path, default: Any = _MISSING) -> tuple[Record, ...]:
    """The records of a JSON file that holds a list of tables.

    Raises:
        ModelError: as `read_file`.
    """
    said = read_json(path, kind=list) if default is _MISSING else read_json(path, default, list)
    try:
        return tuple(_record(kind, each, f"[{i}]") for i, each in enumerate(said))
    except _Wrong as wrong:
        raise wrong.error(path, ModelError) from None


class _Wrong(Exception):
    """A value that is not what is due at its key."""

    def __init__(self, key: str, value: object, due: str, covered: bool = True) -> None:
        super().__init__(key)
        self.key, self.value, self.due, self.covered = key, value, due, covered

    def error(self, file: Path | str, kind: type[OmnivecError]) -> OmnivecError:
        """What is said of it."""
        if self.value is _MISSING:
            return kind(f"{file} lacks {self.key}: {self.due} is expected")
        shown = _SHOWN.repr(self.value)
        if not self.covered:
            kind = UnsupportedModel if kind is ModelError else kind
            return kind(f"{file}: {self.key} {shown} {self.due}")
        held = f"{self.key} is {shown}" if self.key else f"it holds a {type(self.value).__name__}"
        return kind(f"{file}: {held}, where {self.due} is expected")


def keys(kind: type) -> set[str]:
    """The keys of a file that a record has."""
    return {key for key, _, _ in _fields(cast(Any, kind)).values()}


def says_nothing(value: object) -> bool:
    """Whether a value of a key that nobody here knows may be passed over: it is null, no, or empty."""
    return value is None or value is False or value in ("", [], {})


def is_required(kind: type, key: str) -> bool:
    """Whether a record has to have something at a key of the file."""
    return any(key == own and not optional for own, _, optional in _fields(kind).values())


@functools.cache
def _fields(kind: Any) -> dict[str, tuple[str, Any, bool]]:
    """Of each field of a record its key, its annotation, and whether it may be missing."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        field.name: (
            next((note.name for note in _notes(hints[field.name]) if isinstance(note, Key)), field.name),
            hints[field.name],
            field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING,
        )
        for field in dataclasses.fields(kind)
        if field.init
    }


def _notes(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()


def _record(kind: type[Record], said: object, at: str) -> Record:
    if isinstance(said, kind):
        return said
    if not isinstance(said, Mapping):
        raise _Wrong(at, said, "a table")
    given: dict[str, Any] = {}
    for name, (key, annotation, optional) in _fields(cast(Any, kind)).items():
        value = said.get(key)
        if value is not None:
            given[name] = _value(annotation, value, _below(at, key))
        elif _may_be_null(annotation):
            if not optional:
                given[name] = None
        elif not optional:
            raise _Wrong(_below(at, key), None if key in said else _MISSING, _due(annotation))
    record = kind(**given)
    for name, (key, annotation, _) in _fields(cast(Any, kind)).items():
        for note in _notes(annotation):
            _compare(record, note, getattr(record, name), _below(at, key))
    return record


def _compare(record: Any, note: object, value: Any, at: str) -> None:
    """Holds a field against another."""
    other = getattr(record, note.field) if isinstance(note, Divides | Length) else 0
    if isinstance(note, Divides) and other % value:
        raise _Wrong(at, value, f"a divisor of {note.field} ({other})")
    if isinstance(note, Length) and len(value) != (other if isinstance(other, int) else len(other)):
        raise _Wrong(at, value, f"a list as long as {note.field} says ({_SHOWN.repr(other)})")


def _tables(known: Mapping[str, Any], said: object, at: str) -> dict[str, Any]:
    if not isinstance(said, Mapping):
        raise _Wrong(at, said, "a table")
    return {
        key: None if said[key] is None else _value(annotation, said[key], _below(at, key), tables=True)
        for key, annotation in known.items()
        if key in said
    }


def _value(annotation: Any, value: Any, at: str, tables: bool = False) -> Any:
    """A value as its annotation has it: a list is a tuple, an int a float, a table a record or, as asked, a dict."""
    if get_origin(annotation) is Annotated:
        found = _value(get_args(annotation)[0], value, at, tables)
        for note in _notes(annotation):
            _hold(note, found, at, annotation)
        return found
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        choices = [each for each in get_args(annotation) if _is_of(each, value)]
        if not choices:
            raise _Wrong(at, value, _due(annotation))
        return _value(choices[0], value, at, tables)
    if not _is_of(annotation, value):
        raise _Wrong(at, value, _due(annotation))
    if annotation is float:
        return _finite(value, at)
    if origin is tuple:
        return _list(get_args(annotation), value, at, tables, _due(annotation))
    if origin is Mapping:
        own, inner = get_args(annotation)
        for key in value if own is int else ():
            if not (key.isascii() and key.isdigit() and len(key) < 10):
                raise _Wrong(_below(at, _SHOWN.repr(key)), value[key], "a whole number as its key")
        return {key: _value(inner, each, _below(at, str(key)), tables) for key, each in value.items()}
    return _nested(annotation, value, at, tables) if dataclasses.is_dataclass(annotation) else value


def _nested(kind: Any, value: Any, at: str, tables: bool) -> Any:
    if tables:
        for key, hint, optional in _fields(kind).values():
            if not optional and value.get(key) is None:
                raise _Wrong(_below(at, key), None if key in value else _MISSING, _due(hint))
        return _tables({key: hint for key, hint, _ in _fields(kind).values()}, value, at)
    return _record(kind, value, at)


def _is_of(annotation: Any, value: object) -> bool:
    """Whether a value is of the outermost type of an annotation; numbers and booleans are never one another."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    origin = get_origin(annotation)
    if annotation is Any:
        return True
    if origin is Literal:
        return isinstance(value, str) and value in get_args(annotation)
    if isinstance(value, bool) or annotation is bool:
        return isinstance(value, bool) and annotation is bool
    if annotation is float:
        return isinstance(value, int | float)
    if origin is tuple:
        return isinstance(value, list | tuple)
    if origin is Mapping:
        return isinstance(value, Mapping)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return isinstance(value, Mapping | annotation)
    return isinstance(value, annotation)


def _finite(value: float, at: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _Wrong(at, value, "a finite number")
    return number


def _list(kinds: tuple[Any, ...], value: Any, at: str, tables: bool, due: str) -> Any:
    if kinds[1:] == (...,):
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _Wrong(at, value, due)
    pairs = enumerate(zip(kinds, value, strict=True))
    found = [_value(kind, each, f"{at}[{i}]", tables) for i, (kind, each) in pairs]
    return found if tables else tuple(found)


def _hold(note: object, value: Any, at: str, annotation: Any) -> None:
    if isinstance(note, Between) and not note.low <= value <= note.high:
        raise _Wrong(at, value, _due(annotation))
    if isinstance(note, Filled) and not value:
        raise _Wrong(at, value, "at least one value")
    if isinstance(note, Among) and value not in note.values:
        choices = ", ".join(str(each) for each in note.values)
        due = f"is none of {choices}" if len(note.values) > 1 else f"is not covered, only {choices} is"
        raise _Wrong(at, value, due, covered=False)


def _may_be_null(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation is Any or type(None) in get_args(annotation)


def _below(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key


_NAMES: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "null",
}


def _due(annotation: Any) -> str:
    """An annotation in words."""
    if get_origin(annotation) is Annotated:
        ranges = [note for note in _notes(annotation) if isinstance(note, Between)]
        within = f" from {ranges[-1].low:,} to {ranges[-1].high:,}" if ranges else ""
        return _due(get_args(annotation)[0]) + within
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_due(each) for each in inner))
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is tuple:
        number = "" if inner[1:] == (...,) else f" of {len(inner)}"
        return f"a list{number}, each {_due(inner[0])}"
    return _NAMES.get(annotation, "a table")
