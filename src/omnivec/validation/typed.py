"""Reads dataclasses from JSON, checking types, ranges and choices by the annotations of their fields.

    @dataclass(frozen=True)
    class Dense:
        out_features: Size
        activation_function: str = "torch.nn.modules.activation.Tanh"

    dense = typed.read_file(Dense, folder / "config.json")

Every field is a key of the file, or the key that `Key` in its annotation names. A key that is missing or null gets the
field's default; without a default it is an error. Further keys of the file are ignored. A field may be a bool, an int,
a float (an int is accepted too; it must be finite), a str, Any, a tuple (a list in JSON), a Mapping of such values by
name, another record, or a union of these. `Annotated` adds ranges and choices, most often by one of the aliases below:
Size, Count, Rate.
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
    """One of several values; any other is a variant that is not supported."""

    values: Collection[Any]


@dataclass(frozen=True)
class Divides:
    """The value must divide another field of the record."""

    field: str


@dataclass(frozen=True)
class Length:
    """The list must be as long as another field of the record, a number or a list, states."""

    field: str


@dataclass(frozen=True)
class Filled:
    """The list must have at least one value."""


@dataclass(frozen=True)
class Key:
    """The key of the field in the file, if it is not the field's name."""

    name: str


LARGEST = 2**31 - 1

Size = Annotated[int, Between(1, LARGEST)]
"""The size of an axis: a width, the rows of a table, a length in tokens."""
Count = Annotated[int, Between(1, 10_000)]
"""A number of layers, stages or blocks, over which a program loops."""
Index = Annotated[int, Between(0, LARGEST)]
"""The index of a row, or a number that may be 0."""
Rate = Annotated[float, Between(0.0, 1.0)]
"""A dropout rate or an epsilon."""
Positions = Annotated[int, Between(1, 1 << 24)]
"""A longest text in tokens that no table of positions limits."""
Positive = Annotated[float, Between(1e-6, 1e6)]
"""A positive factor."""
Base = Annotated[float, Between(2.0, 1e12)]
"""A base of rotary positions."""
Side = Annotated[int, Between(1, 4096)]
"""The height or width of an image or a patch, in pixels."""

_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 60
_MISSING = object()


def read(
    kind: type[Record], content: object, file: Path | str, error: type[OmnivecError] = ModelError
) -> Record:
    """Reads a record from the content of a file.

    Args:
        kind: a dataclass.
        content: the content of the file, as `json` returns it.
        file: name of the file, for messages.
        error: class of the exception; if it is ModelError, a value not in `Among` raises UnsupportedModel instead.

    Raises:
        OmnivecError: a value is missing, of another type, out of range, or not supported; the message has the file, the
            key, the value, and what is expected.
    """
    try:
        return _record(kind, content, "")
    except _Wrong as wrong:
        raise wrong.error(file, error) from None


def read_file(kind: type[Record], path: Path, default: Any = _MISSING) -> Record:
    """Reads a record from a JSON file, or from the dict `default` if there is no such file.

    Raises:
        ModelError: the file is missing and there is no default, it is not JSON, or as `read`.
    """
    content = read_json(path) if default is _MISSING else read_json(path, default)
    return read(kind, content, path)


def checked(
    kinds: Iterable[type], content: object, file: Path | str, spellings: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Those keys of a file that some records have, checked as by `read`; missing and null ones are left as they are.

    Args:
        kinds: the records; if two have the same key, the first is used.
        content: the content of the file.
        file: name of the file, for messages.
        spellings: another name of a key -> the record's key; names with a dot, for nested tables, are ignored here.

    Raises:
        OmnivecError: as `read`, but not for missing keys.
    """
    known: dict[str, Any] = {}
    for kind in reversed(list(kinds)):
        known |= {key: annotation for key, annotation, _ in _fields(kind).values()}
    for key, name in (spellings or {}).items():
        if "." not in key and name in known:
            known.setdefault(key, known[name])
    try:
        return _tables(known, content, "")
    except _Wrong as wrong:
        raise wrong.error(file, ModelError) from None


def table(kind: type, path: Path, default: Any = _MISSING) -> dict[str, Any]:
    """The whole dict in a JSON file, with those keys that a record has checked and converted as by `checked`.

    Raises:
        ModelError: as `read_file`, but not for missing keys.
    """
    content = read_json(path, kind=dict) if default is _MISSING else read_json(path, default, dict)
    return overlaid(kind, content, path)


def overlaid(kind: type, content: Mapping[str, Any], file: Path | str, at: str = "") -> dict[str, Any]:
    """A dict with those keys that a record has checked and converted; `at` is the dict's own key, for messages."""
    try:
        known = _tables({key: hint for key, hint, _ in _fields(cast(Any, kind)).values()}, content, at)
    except _Wrong as wrong:
        raise wrong.error(file, ModelError) from None
    return {**content, **known}


def rows(kind: type[Record], path: Path, default: Any = _MISSING) -> tuple[Record, ...]:
    """Reads records from a JSON file that holds a list of dicts.

    Raises:
        ModelError: as `read_file`.
    """
    content = read_json(path, kind=list) if default is _MISSING else read_json(path, default, list)
    try:
        return tuple(_record(kind, each, f"[{i}]") for i, each in enumerate(content))
    except _Wrong as wrong:
        raise wrong.error(path, ModelError) from None


class _Wrong(Exception):
    """A value that is missing, not allowed or, unless `covered`, not supported; `expected` says what is allowed."""

    def __init__(self, key: str, value: object, expected: str, covered: bool = True) -> None:
        super().__init__(key)
        self.key, self.value, self.expected, self.covered = key, value, expected, covered

    def error(self, file: Path | str, kind: type[OmnivecError]) -> OmnivecError:
        """The exception to raise about it."""
        if self.value is _MISSING:
            return kind(f"{file} lacks {self.key}: {self.expected} is expected")
        shown = _SHOWN.repr(self.value)
        if not self.covered:
            kind = UnsupportedModel if kind is ModelError else kind
            return kind(f"{file}: {self.key} {shown} {self.expected}")
        value = f"{self.key} is {shown}" if self.key else f"it holds a {type(self.value).__name__}"
        return kind(f"{file}: {value}, where {self.expected} is expected")


def keys(kind: type) -> set[str]:
    """The keys of a file that a record has."""
    return {key for key, _, _ in _fields(cast(Any, kind)).values()}


def says_nothing(value: object) -> bool:
    """Whether the value of an unknown key can be ignored: it is null, false or empty."""
    return value is None or value is False or value in ("", [], {})


def is_required(kind: type, key: str) -> bool:
    """Whether a record needs a value for a key of the file."""
    return any(key == known and not optional for known, _, optional in _fields(kind).values())


@functools.cache
def _fields(kind: Any) -> dict[str, tuple[str, Any, bool]]:
    """Each field of a record -> its key, its annotation, and whether it may be missing."""
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


def _record(kind: type[Record], content: object, at: str) -> Record:
    if isinstance(content, kind):
        return content
    if not isinstance(content, Mapping):
        raise _Wrong(at, content, "a table")
    values: dict[str, Any] = {}
    for name, (key, annotation, optional) in _fields(cast(Any, kind)).items():
        value = content.get(key)
        if value is not None:
            values[name] = _value(annotation, value, _below(at, key))
        elif _may_be_null(annotation):
            if not optional:
                values[name] = None
        elif not optional:
            raise _Wrong(_below(at, key), None if key in content else _MISSING, _expected(annotation))
    record = kind(**values)
    for name, (key, annotation, _) in _fields(cast(Any, kind)).items():
        for note in _notes(annotation):
            _compare(record, note, getattr(record, name), _below(at, key))
    return record


def _compare(record: Any, note: object, value: Any, at: str) -> None:
    """Compares a field with another one, for `Divides` and `Length`."""
    other = getattr(record, note.field) if isinstance(note, Divides | Length) else 0
    if isinstance(note, Divides) and other % value:
        raise _Wrong(at, value, f"a divisor of {note.field} ({other})")
    if isinstance(note, Length) and len(value) != (other if isinstance(other, int) else len(other)):
        raise _Wrong(at, value, f"a list as long as {note.field} says ({_SHOWN.repr(other)})")


def _tables(known: Mapping[str, Any], content: object, at: str) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise _Wrong(at, content, "a table")
    return {
        key: None if content[key] is None else _value(annotation, content[key], _below(at, key), tables=True)
        for key, annotation in known.items()
        if key in content
    }


def _value(annotation: Any, value: Any, at: str, tables: bool = False) -> Any:
    """A value checked and converted by its annotation: lists to tuples, ints to floats, dicts to records.

    With `tables`, as `checked` needs it, lists stay lists and dicts stay dicts.
    """
    if get_origin(annotation) is Annotated:
        converted = _value(get_args(annotation)[0], value, at, tables)
        for note in _notes(annotation):
            _hold(note, converted, at, annotation)
        return converted
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        choices = [each for each in get_args(annotation) if _is_of(each, value)]
        if not choices:
            raise _Wrong(at, value, _expected(annotation))
        return _value(choices[0], value, at, tables)
    if not _is_of(annotation, value):
        raise _Wrong(at, value, _expected(annotation))
    if annotation is float:
        return _finite(value, at)
    if origin is tuple:
        return _list(get_args(annotation), value, at, tables, _expected(annotation))
    if origin is Mapping:
        key_type, inner = get_args(annotation)
        for key in value if key_type is int else ():
            if not (key.isascii() and key.isdigit() and len(key) < 10):
                raise _Wrong(_below(at, _SHOWN.repr(key)), value[key], "a whole number as its key")
        return {key: _value(inner, each, _below(at, str(key)), tables) for key, each in value.items()}
    return _nested(annotation, value, at, tables) if dataclasses.is_dataclass(annotation) else value


def _nested(kind: Any, value: Any, at: str, tables: bool) -> Any:
    if tables:
        for key, hint, optional in _fields(kind).values():
            if not optional and value.get(key) is None:
                raise _Wrong(_below(at, key), None if key in value else _MISSING, _expected(hint))
        return _tables({key: hint for key, hint, _ in _fields(kind).values()}, value, at)
    return _record(kind, value, at)


def _is_of(annotation: Any, value: object) -> bool:
    """Whether a value has the outermost type of an annotation; a bool is not a number, nor a number a bool."""
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


def _list(kinds: tuple[Any, ...], value: Any, at: str, tables: bool, expected: str) -> Any:
    if kinds[1:] == (...,):
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _Wrong(at, value, expected)
    pairs = enumerate(zip(kinds, value, strict=True))
    converted = [_value(kind, each, f"{at}[{i}]", tables) for i, (kind, each) in pairs]
    return converted if tables else tuple(converted)


def _hold(note: object, value: Any, at: str, annotation: Any) -> None:
    """Checks a value against `Between`, `Filled` or `Among`."""
    if isinstance(note, Between) and not note.low <= value <= note.high:
        raise _Wrong(at, value, _expected(annotation))
    if isinstance(note, Filled) and not value:
        raise _Wrong(at, value, "at least one value")
    if isinstance(note, Among) and value not in note.values:
        choices = ", ".join(str(each) for each in note.values)
        what = f"is none of {choices}" if len(note.values) > 1 else f"is not covered, only {choices} is"
        raise _Wrong(at, value, what, covered=False)


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


def _expected(annotation: Any) -> str:
    """The values that an annotation allows, in words."""
    if get_origin(annotation) is Annotated:
        ranges = [note for note in _notes(annotation) if isinstance(note, Between)]
        within = f" from {ranges[-1].low:,} to {ranges[-1].high:,}" if ranges else ""
        return _expected(get_args(annotation)[0]) + within
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_expected(each) for each in inner))
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is tuple:
        number = "" if inner[1:] == (...,) else f" of {len(inner)}"
        return f"a list{number}, each {_expected(inner[0])}"
    return _NAMES.get(annotation, "a table")
