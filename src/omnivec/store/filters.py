"""Filters on metadata: MongoDB's query language, compiled to SQL over the JSON in `documents.metadata`.

A field matches if its value does, or if it is a list and any element does. `a.b` is the key "a.b" if a document has it;
otherwise it names a key of a nested dict, or of the dicts in a list, whose keys may contain dots too. Types are
respected: "1" is not 1, true is not 1. $ne, $nin and $not also match documents that lack the field.

A worked example: `{"year": {"$gte": 2024}}` becomes, with the parameters ["year", 2024, 2024],

    EXISTS (SELECT 1 FROM json_each(documents.metadata) AS m WHERE m.key = ?
        AND (m.type IN ('integer', 'real') AND m.value >= ?
            OR m.type = 'array' AND EXISTS (SELECT 1 FROM json_each(<m.value, or [] if it is no list>) AS x
                WHERE x.type IN ('integer', 'real') AND x.value >= ?)))

`_compared` makes the test once, with @ for the row that is tested; `_passing` repeats it for the value itself (m) and
for the elements of a list (x); `_found` puts both into the EXISTS. Under $not the EXISTS becomes NOT EXISTS, and AND
and OR are exchanged (De Morgan), so no NOT is put before a nested condition.
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

# json_each fails on a value that is neither list nor dict, so it is given an empty one instead.
_ELEMENTS = "json_each(CASE {0}.type WHEN 'array' THEN {0}.value ELSE '[]' END)"
_SELF_OR_ELEMENTS = (
    "json_each(CASE {0}.type WHEN 'array' THEN {0}.value"
    " WHEN 'object' THEN '[' || {0}.value || ']' ELSE '[]' END)"
)
_MEMBERS = "json_each(CASE {0}.type WHEN 'object' THEN {0}.value ELSE '{{}}' END)"


@dataclass(frozen=True)
class _Clause:
    """An SQL condition and its parameters.

    Attributes:
        sql: an expression that can stand beside AND without parentheses.
        parameters: for its question marks, in order.
        stack: how many entries of SQLite's parser stack, which has 100, its nesting takes.
    """

    sql: str
    parameters: list[Any] = field(default_factory=list)
    stack: int = 0


def compile_where(where: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Compiles a filter to an SQL condition on the table `documents`; an empty filter matches everything.

    Returns:
        The condition, which can stand beside AND, and its parameters; values and field names are never part of the SQL.

    Raises:
        FilterError: an unknown operator, a value of a wrong type, or an empty or too large filter.
    """
    conditions = _count(where, 0)
    if conditions > MAX_CONDITIONS:
        raise FilterError(
            f"the filter has {conditions} conditions, at most {MAX_CONDITIONS} are possible; use $in"
        )
    condition = _filter(where, negated=False)
    return condition.sql, condition.parameters


def _shown(value: Any) -> str:
    return quoted(value, 80)


def _count(where: Any, depth: int) -> int:
    """The number of conditions of a filter; it and the depth are checked before any SQL is built."""
    if depth > MAX_DEPTH:
        raise FilterError(f"the filter is nested more than {MAX_DEPTH} deep")
    if isinstance(where, Mapping):
        return sum(max(1, _count(inner, depth + 1)) for inner in where.values())
    if isinstance(where, list | tuple) and any(isinstance(inner, Mapping) for inner in where):
        return sum(_count(inner, depth) for inner in where)
    return 0


def _filter(where: Any, *, negated: bool) -> _Clause:
    if not isinstance(where, Mapping):
        raise FilterError(
            f"{_shown(where)} is not a filter: a filter is a dict such as {{'year': {{'$gte': 2024}}}}"
        )
    return _joined(
        [_entry(name, wanted, negated=negated) for name, wanted in where.items()], all_of=not negated
    )


def _joined(conditions: Sequence[_Clause], *, all_of: bool) -> _Clause:
    """Joins conditions by AND or OR, the most nested one first.

    SQLite's parser keeps every open parenthesis on its stack, with the expression before it, but nothing of what is
    complete: `(deep AND flat)` takes one entry more than `deep`, and `(flat AND deep)` three.
    """
    if not conditions:
        return _Clause("1" if all_of else "0")
    if len(conditions) == 1:
        return conditions[0]
    ordered = sorted(conditions, key=lambda one: -one.stack)
    stack = 1 + max(ordered[0].stack, *(one.stack + 2 for one in ordered[1:]))
    joined = (" AND " if all_of else " OR ").join(one.sql for one in ordered)
    return _Clause(f"({joined})", [value for one in ordered for value in one.parameters], stack)


def _entry(name: Any, wanted: Any, *, negated: bool) -> _Clause:
    """One entry of a filter: a field with its value or operators, or $and, $or, $not."""
    if not isinstance(name, str):
        raise FilterError(f"field {_shown(name)} is a {type(name).__name__}; field names are strings")
    if name == "$not":
        return _filter(wanted, negated=not negated)
    if name in ("$and", "$or"):
        if not isinstance(wanted, list | tuple) or not wanted:
            raise FilterError(f"{name} takes a list of at least one filter, not {_shown(wanted)}")
        conditions = [_filter(inner, negated=negated) for inner in wanted]
        return _joined(conditions, all_of=(name == "$and") != negated)
    if name.startswith("$"):
        raise FilterError(
            f"unknown operator {name!r} in place of a field; there are {', '.join(_ON_FILTERS)}, "
            f"and on a field {', '.join(_ON_FIELDS)}"
        )
    return _on_field(name, wanted, negated=negated)


def _on_field(name: str, wanted: Any, *, negated: bool) -> _Clause:
    """The condition of one field: equality with a value, or the operators in a dict."""
    if not isinstance(wanted, Mapping):
        return _found(name, _equal([wanted], name), negated=negated)
    if not wanted or not all(isinstance(key, str) and key.startswith("$") for key in wanted):
        raise FilterError(
            f"{name!r}: {_shown(wanted)} holds no operators; there are {', '.join(_ON_FIELDS)}; "
            "to look into a dict, join the names by dots, as in 'a.b'"
        )
    conditions = [_operator(name, operator, value, negated=negated) for operator, value in wanted.items()]
    return _joined(conditions, all_of=not negated)


def _values(values: Any) -> list[Any] | None:
    """The values of $in, from a list, a set, an array or a column; None for anything else."""
    if isinstance(values, str | bytes | bytearray | Mapping) or hasattr(type(values), "columns"):
        return None
    try:
        values = plain(values)
        # The elements of a pyarrow column are wrapped in scalars of pyarrow.
        listed = values.to_pylist() if hasattr(values, "to_pylist") else iter(values)
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
    """A number as SQLite stores it: integers beyond 64 bits are floats."""
    try:
        usable = value if isinstance(value, int) and -(2**63) <= value < 2**63 else float(value)
    except OverflowError as exc:
        raise FilterError(f"{name!r}: {_shown(value)} is beyond 1.8e308, too large to compare with") from exc
    if isinstance(usable, float) and not math.isfinite(usable):
        raise FilterError(
            f"{name!r}: {value} is {'NaN' if math.isnan(usable) else 'an infinity'}, which metadata cannot hold"
        )
    return usable


def _equal(values: Sequence[Any], name: str) -> _Clause:
    """A test whether `@.type` and `@.value` are one of the values; `_passing` puts the alias in the place of @."""
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
    """A test by $gt, $gte, $lt or $lte, among texts or among numbers."""
    sign, value = _ORDER[operator], plain(value)
    if isinstance(value, str):
        return _Clause(f"@.type = 'text' AND @.value {sign} ?", [storable(value)])
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _Clause(f"@.type IN ('integer', 'real') AND @.value {sign} ?", [_number(value, name)])
    raise FilterError(f"{name!r}: {operator} takes a number or a string, not {_shown(value)}")


def _like(operator: str, value: Any, name: str) -> _Clause:
    """A test by $prefix or $contains."""
    value = plain(value)
    if not isinstance(value, str):
        raise FilterError(f"{name!r}: {operator} takes a string, not {_shown(value)}")
    test = _TEXTS[operator]
    return _Clause(f"@.type = 'text' AND {test}", [storable(value)] * test.count("?"))


def _found(name: str, test: _Clause | None, *, negated: bool) -> _Clause:
    """Whether a document has a field and, with a test, whether the field's value or an element of it passes."""
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


# All values that a name with dots can lead to, as rows (type, value, rest): `rest` is what of the name is still to be
# followed, NULL at its end. Each step goes to a member whose key is the rest, or is its beginning up to a dot; of a
# list, to such a member of any element. The walk of 'a.b.c' over {"a": [{"b.c": 1}, {"b": {"c": 2}}, {"b": 3}]}:
#
#     object  {"a": ...}       a.b.c
#     array   [{"b.c": 1}...   b.c
#     integer 1                NULL     (by the key "b.c" of the first element)
#     object  {"c": 2}         c        (by the key "b" of the second)
#     integer 3                c        (by the key "b" of the third; it has no members, so it leads no further)
#     integer 2                NULL
_WALK = (
    "WITH RECURSIVE walk (type, value, rest) AS (SELECT 'object', documents.metadata, ? UNION ALL"
    " SELECT m.type, m.value, CASE WHEN walk.rest = m.key THEN NULL"
    " ELSE substr(walk.rest, length(m.key) + 2) END FROM walk,"
    f" {_SELF_OR_ELEMENTS.format('walk')} AS e, {_MEMBERS.format('e')} AS m"
    " WHERE walk.rest = m.key OR substr(walk.rest, 1, length(m.key) + 1) = m.key || '.')"
    " SELECT type, value, rest FROM walk"
)


def _passing(alias: str, test: _Clause | None) -> _Clause:
    """The end of a WHERE, "AND ...": that the value of a row, or an element of it, passes a test."""
    if test is None:
        return _Clause("")
    elements = f"EXISTS (SELECT 1 FROM {_ELEMENTS.format(alias)} AS x WHERE {test.sql.replace('@', 'x')})"
    value = test.sql.replace("@", alias)
    return _Clause(f" AND ({value} OR {alias}.type = 'array' AND {elements})", test.parameters * 2)


def compared(where: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields that a document must have to pass a filter, each with a value that the filter compares it with."""
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

    A value that reads as an integer, a float, true, false or null is one; any other, and a value in "quotes" or
    'quotes', is a string. ^= (begins with) and *= (contains) always take a string.

    Raises:
        FilterError: the text has neither form.
    """
    text = text.strip()
    if text.startswith("{"):
        return _object(text)
    match = _SIMPLE.fullmatch(text)
    if match is None or not match["name"].strip() or match["sign"] not in _SIGNS:
        signs = " ".join(sign for sign in _SIGNS if sign != "==")
        what = (
            f"{match['sign']!r} is not an operator"
            if match and match["name"].strip()
            else "it has no name with an operator after it"
        )
        raise FilterError(
            f"{_shown(text)} is not a filter: {what}; write name=value, with one of {signs} (and quotes around a value "
            'that begins with one of these characters), or JSON such as {"year": {"$gte": 2024}}'
        )
    operator, value = _SIGNS[match["sign"]], _value(match["value"].strip())
    if operator in _TEXTS and not isinstance(value, str):
        value = match["value"].strip()
    return {match["name"].strip(): {operator: value}}


def _object(text: str) -> dict[str, Any]:
    try:
        where: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise FilterError(f"{_shown(text)} is not valid JSON: {exc}") from exc
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
