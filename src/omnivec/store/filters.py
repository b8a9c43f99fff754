"""Filters on metadata: MongoDB's query language, compiled to SQL over the JSON in `documents.metadata`.

A field matches if its value does, or if it is a list and any element does. `a.b` is the key "a.b" where a document
has it, else it looks into dicts, and into the dicts of a list, whose keys may have dots too. Types are respected: "1"
is not 1, true is not 1. $ne, $nin and $not also match documents that lack the field.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from omnivec.errors import FilterError
from omnivec.store.strings import storable
from omnivec.validation.arguments import is_missing, plain, quoted

MAX_DEPTH = 50
MAX_CONDITIONS = 500
MAX_VALUES = 10_000
MAX_STEPS = 16

_ORDER = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_TEXTS = {"$prefix": "substr(@.value, 1, length(?)) = ?", "$contains": "instr(@.value, ?) > 0"}
_ON_FIELDS = ("$eq", "$ne", *_ORDER, "$in", "$nin", *_TEXTS, "$exists", "$not")
_ON_FILTERS = ("$and", "$or", "$not")

# json_each fails on what is neither list nor dict, so it is given empty ones instead.
_ELEMENTS = "json_each(CASE {0}.type WHEN 'array' THEN {0}.value ELSE '[]' END)"
_SELF_OR_ELEMENTS = (
    "json_each(CASE {0}.type WHEN 'array' THEN {0}.value"
    " WHEN 'object' THEN '[' || {0}.value || ']' ELSE '[]' END)"
)
_MEMBERS = "json_each(CASE {0}.type WHEN 'object' THEN {0}.value ELSE '{{}}' END)"


@dataclass(frozen=True)
class _Clause:
    """A piece of SQL and its parameters.

    Attributes:
        sql: an expression that needs no parentheses beside AND.
        parameters: for its question marks, in order.
        stack: how much of SQLite's parser stack (100 entries) its nesting takes.
    """

    sql: str
    parameters: list[Any] = field(default_factory=list)
    stack: int = 0


def compile_where(where: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Compiles a filter to an SQL condition on the table `documents`; an empty filter matches everything.

    Returns:
        The condition, safe beside AND, and its parameters; no value or field name is ever part of the SQL.

    Raises:
        FilterError: unknown operators, wrong types, empty or too large parts.
    """
    conditions = _count(where, 0)
    if conditions > MAX_CONDITIONS:
        raise FilterError(
            f"the filter has {conditions} conditions, at most {MAX_CONDITIONS} are possible; use $in"
        )
    part = _filter(where, negated=False)
    return part.sql, part.parameters


def _shown(value: Any) -> str:
    return quoted(value, 80)


def _count(part: Any, depth: int) -> int:
    """The number of conditions, which is bounded before anything is built; depth as well."""
    if depth > MAX_DEPTH:
        raise FilterError(f"the filter is nested more than {MAX_DEPTH} deep")
    if isinstance(part, Mapping):
        return sum(max(1, _count(inner, depth + 1)) for inner in part.values())
    if isinstance(part, list | tuple) and any(isinstance(inner, Mapping) for inner in part):
        return sum(_count(inner, depth) for inner in part)
    return 0


def _filter(where: Any, *, negated: bool) -> _Clause:
    if not isinstance(where, Mapping):
        raise FilterError(
            f"{_shown(where)} is no filter: a filter is a dict such as {{'year': {{'$gte': 2024}}}}"
        )
    return _joined(
        [_entry(name, wanted, negated=negated) for name, wanted in where.items()], all_of=not negated
    )


def _joined(parts: Sequence[_Clause], *, all_of: bool) -> _Clause:
    """Joins by AND or OR, the most nested part first.

    SQLite's parser keeps every parenthesis that is open, and what stands before it in the same expression, but
    nothing of what is complete; with the deepest part first, the stack grows by one for each level.
    """
    if not parts:
        return _Clause("1" if all_of else "0")
    if len(parts) == 1:
        return parts[0]
    ordered = sorted(parts, key=lambda part: -part.stack)
    stack = 1 + max(ordered[0].stack, *(part.stack + 2 for part in ordered[1:]))
    joined = (" AND " if all_of else " OR ").join(part.sql for part in ordered)
    return _Clause(f"({joined})", [value for part in ordered for value in part.parameters], stack)


def _entry(name: Any, wanted: Any, *, negated: bool) -> _Clause:
    if not isinstance(name, str):
        raise FilterError(f"field {_shown(name)} is a {type(name).__name__}; field names are strings")
    if name == "$not":
        return _filter(wanted, negated=not negated)
    if name in ("$and", "$or"):
        if not isinstance(wanted, list | tuple) or not wanted:
            raise FilterError(f"{name} takes a list of at least one filter, not {_shown(wanted)}")
        parts = [_filter(inner, negated=negated) for inner in wanted]
        return _joined(parts, all_of=(name == "$and") != negated)
    if name.startswith("$"):
        raise FilterError(
            f"unknown operator {name!r} in place of a field; there are {', '.join(_ON_FILTERS)}, "
            f"and on a field {', '.join(_ON_FIELDS)}"
        )
    return _on_field(name, wanted, negated=negated)


def _on_field(name: str, wanted: Any, *, negated: bool) -> _Clause:
    if not isinstance(wanted, Mapping):
        return _found(name, _equal([wanted], name), negated=negated)
    if not wanted or not all(isinstance(key, str) and key.startswith("$") for key in wanted):
        raise FilterError(
            f"{name!r}: {_shown(wanted)} holds no operators; there are {', '.join(_ON_FIELDS)}; "
            "to look into a dict join the names by dots, as in 'a.b'"
        )
    parts = [_operator(name, operator, value, negated=negated) for operator, value in wanted.items()]
    return _joined(parts, all_of=not negated)


def _values(value: Any) -> list[Any] | None:
    """The values of $in, in whatever they are listed: a set, a column; None where that is no list of values."""
    if isinstance(value, str | bytes | bytearray | Mapping) or hasattr(type(value), "columns"):
        return None
    try:
        value = plain(value)
        # A column of pyarrow has its values behind elements of its own.
        listed = value.to_pylist() if hasattr(value, "to_pylist") else iter(value)
        return list(islice(listed, MAX_VALUES + 1))
    except TypeError:
        return None


def _operator(name: str, operator: str, value: Any, *, negated: bool) -> _Clause:
    if operator in ("$eq", "$ne"):
        return _found(name, _equal([value], name), negated=negated != (operator == "$ne"))
    if operator in ("$in", "$nin"):
        values = _values(value)
        if values is None:
            raise FilterError(f"{name!r}: {operator} takes a list of values, not {_shown(value)}")
        if len(values) > MAX_VALUES:
            number = len(value) if isinstance(value, Sized) else f"{len(values)} or more"
            raise FilterError(f"{name!r}: {operator} has {number} values, at most {MAX_VALUES} are possible")
        return _found(name, _equal(values, name), negated=negated != (operator == "$nin"))
    if operator in _ORDER:
        return _found(name, _compared(operator, value, name), negated=negated)
    if operator in _TEXTS:
        return _found(name, _like(operator, value, name), negated=negated)
    if operator == "$exists":
        value = plain(value)
        if not isinstance(value, bool):
            raise FilterError(f"{name!r}: $exists takes true or false, not {_shown(value)}")
        return _found(name, None, negated=negated == value)
    if operator == "$not":
        if not isinstance(value, Mapping):
            raise FilterError(
                f"{name!r}: $not takes operators, as in {{'$not': {{'$gt': 5}}}}, not {_shown(value)}"
            )
        return _on_field(name, value, negated=not negated)
    raise FilterError(f"{name!r}: unknown operator {operator!r}; there are {', '.join(_ON_FIELDS)}")


def _number(value: int | float, name: str) -> int | float:
    """A number as SQLite has it: integers beyond 64 bits are floats there."""
    try:
        usable = value if isinstance(value, int) and -(2**63) <= value < 2**63 else float(value)
    except OverflowError as exc:
        raise FilterError(f"{name!r}: {_shown(value)} is beyond 1.8e308, too large to compare with") from exc
    if isinstance(usable, float) and not math.isfinite(usable):
        raise FilterError(
            f"{name!r}: {value} is {'NaN' if math.isnan(usable) else 'an infinity'}, no value that metadata can have"
        )
    return usable


def _equal(values: Sequence[Any], name: str) -> _Clause:
    """Whether `?.type` and `?.value` are one of the values; the alias is filled in by `_found`."""
    texts: list[str] = []
    numbers: list[int | float] = []
    types: set[str] = set()
    for value in (None if is_missing(one) else plain(one) for one in values):
        if value is None or isinstance(value, bool):
            types.add(json.dumps(value))
        elif isinstance(value, str):
            texts.append(storable(value))
        elif isinstance(value, int | float):
            numbers.append(_number(value, name))
        else:
            raise FilterError(
                f"{name!r}: {_shown(value)} is a {type(value).__name__}; values are strings, numbers, true, false "
                "and null; use $in for one of several, and dots to look into a dict"
            )
    tests = [f"@.type = '{json_type}'" for json_type in sorted(types)]
    parameters = []
    for kinds, group in (("'text'", texts), ("'integer', 'real'", numbers)):
        if group:
            tests.append(f"@.type IN ({kinds}) AND @.value IN (SELECT value FROM json_each(?))")
            parameters.append(json.dumps(group, ensure_ascii=False))
    return _Clause(" OR ".join(tests) or "0", parameters)


def _compared(operator: str, value: Any, name: str) -> _Clause:
    sign, value = _ORDER[operator], plain(value)
    if isinstance(value, str):
        return _Clause(f"@.type = 'text' AND @.value {sign} ?", [storable(value)])
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _Clause(f"@.type IN ('integer', 'real') AND @.value {sign} ?", [_number(value, name)])
    raise FilterError(f"{name!r}: {operator} takes a number or a string, not {_shown(value)}")


def _like(operator: str, value: Any, name: str) -> _Clause:
    value = plain(value)
    if not isinstance(value, str):
        raise FilterError(f"{name!r}: {operator} takes a string, not {_shown(value)}")
    test = _TEXTS[operator]
    return _Clause(f"@.type = 'text' AND {test}", [storable(value)] * test.count("?"))


def _found(name: str, test: _Clause | None, *, negated: bool) -> _Clause:
    """Whether a field is there and, with a test, whether its value or an element of it passes."""
    steps = storable(name).split(".")
    if len(steps) > MAX_STEPS:
        raise FilterError(f"{_shown(name)} has {len(steps)} steps, at most {MAX_STEPS} are possible")
    key = storable(name)
    whole = _passing("m", test)
    select, parameters = f"SELECT 1 FROM json_each(documents.metadata) AS m WHERE m.key = ?{whole.sql}", [key]
    parameters += whole.parameters
    if len(steps) > 1:
        inside = _passing("w", test)
        select += (
            f" UNION ALL SELECT 1 FROM ({_WALK}) AS w WHERE w.rest IS NULL AND NOT EXISTS"
            f" (SELECT 1 FROM json_each(documents.metadata) AS l WHERE l.key = ?){inside.sql}"
        )
        parameters += [key, key, *inside.parameters]
    return _Clause(f"{'NOT ' * negated}EXISTS ({select})", parameters)


# All places that a name with dots can lead to: `rest` is what is left of it there, NULL where it is at its end. Each
# step takes a member whose key is the rest or, with a dot, its beginning; a list is looked through first.
_WALK = (
    "WITH RECURSIVE walk (type, value, rest) AS (SELECT 'object', documents.metadata, ? UNION ALL"
    " SELECT m.type, m.value, CASE WHEN walk.rest = m.key THEN NULL"
    " ELSE substr(walk.rest, length(m.key) + 2) END FROM walk,"
    f" {_SELF_OR_ELEMENTS.format('walk')} AS e, {_MEMBERS.format('e')} AS m"
    " WHERE walk.rest = m.key OR substr(walk.rest, 1, length(m.key) + 1) = m.key || '.')"
    " SELECT type, value, rest FROM walk"
)


def _passing(alias: str, test: _Clause | None) -> _Clause:
    """The condition, after others, that a value or an element of it passes a test."""
    if test is None:
        return _Clause("")
    elements = f"EXISTS (SELECT 1 FROM {_ELEMENTS.format(alias)} AS x WHERE {test.sql.replace('@', 'x')})"
    condition = test.sql.replace("@", alias)
    return _Clause(f" AND ({condition} OR {alias}.type = 'array' AND {elements})", test.parameters * 2)


def compared(where: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields that must be there for a filter to pass, each with a value that it is compared with or None."""
    for name, wanted in where.items():
        if name == "$and":
            for inner in wanted:
                yield from compared(inner)
        elif name.startswith("$"):
            continue
        elif isinstance(wanted, Mapping):
            for operator, value in wanted.items():
                if operator not in ("$ne", "$nin", "$not", "$exists"):
                    yield name, value[0] if isinstance(value, list | tuple) and value else value
        else:
            yield name, wanted


_SIMPLE = re.compile(r"(?P<name>[^=!<>^*~]+)(?P<sign>[=!<>^*~]+)(?P<value>.*)", re.DOTALL)
_SIGNS = {
    "=": "$eq",
    "==": "$eq",
    "!=": "$ne",
    ">": "$gt",
    ">=": "$gte",
    "<": "$lt",
    "<=": "$lte",
    "^=": "$prefix",
    "*=": "$contains",
}


def parse_where(text: str) -> dict[str, Any]:
    """Reads a filter from a command line: a JSON object, or `name=value` with one of = != > >= < <= ^= *=.

    A value is an integer, a float, true, false or null if it reads as one, else a string; "quotes" or 'quotes' make it
    a string whatever it reads as. ^= (begins with) and *= (contains) always take a string.

    Raises:
        FilterError: neither of the two.
    """
    text = text.strip()
    if text.startswith("{"):
        return _object(text)
    match = _SIMPLE.fullmatch(text)
    if match is None or not match["name"].strip() or match["sign"] not in _SIGNS:
        signs = " ".join(sign for sign in _SIGNS if sign != "==")
        what = (
            f"{match['sign']!r} is no operator"
            if match and match["name"].strip()
            else "it has no name with an operator after it"
        )
        raise FilterError(
            f"{_shown(text)} is no filter: {what}; write name=value, with one of {signs}, a value that begins with one "
            'of their characters in quotes, or JSON such as {"year": {"$gte": 2024}}'
        )
    operator, value = _SIGNS[match["sign"]], _value(match["value"].strip())
    if operator in _TEXTS and not isinstance(value, str):
        value = match["value"].strip()
    return {match["name"].strip(): {operator: value}}


def _object(text: str) -> dict[str, Any]:
    try:
        where: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise FilterError(f"{_shown(text)} is no JSON: {exc}") from exc
    return where


def _value(text: str) -> Any:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        try:
            return json.loads(text)
        except ValueError:
            return text[1:-1]
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    finite = not isinstance(value, float) or math.isfinite(value)
    return value if isinstance(value, int | float | None) and finite else text
