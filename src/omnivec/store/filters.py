"""Filters on metadata: MongoDB's query language, compiled to SQL over the JSON in `documents.metadata`.

A field matches if its value does, or if it is a list and any element does. `a.b` is the key "a.b" if a document has it;
otherwise it names a key of a nested dict, or of the dicts in a list, whose keys may contain dots too. Types are
respected: "1" is not 1, true is not 1. $ne, $nin and $not also match documents that lack the field. Null is equal to
null and to a field that is missing; $exists tells them apart.

A worked example: `{"year": {"$not": {"$gte": 2024}}}` becomes the test `@ >= ?` of integers and floats (`_compared`),
with @ for the value, and `filter_sql.found` makes of it that neither the year nor an element of it passes. Under $not a
condition becomes its opposite, and AND and OR are exchanged (De Morgan), so no NOT is put before a nested condition.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence, Sized
from datetime import date
from itertools import islice
from typing import Any, NamedTuple

from omnivec.errors import FilterError
from omnivec.store import dates
from omnivec.store.filter_sql import Case, Clause, Test, found, joined, verbatim
from omnivec.store.strings import storable
from omnivec.validation.arguments import is_missing, plain, quoted

MAX_DEPTH = 25
MAX_CONDITIONS = 500
MAX_VALUES = 10_000
MAX_GLOB = 1000

_ORDER = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_TEXTS = {
    "$prefix": "substr(@, 1, length(?)) = ?",
    "$contains": "instr(@, ?) > 0",
    "$glob": "@ GLOB ?",
}
_ON_FIELDS = ("$eq", "$ne", *_ORDER, "$in", "$nin", *_TEXTS, "$exists", "$not")
_ON_FILTERS = ("$and", "$or", "$not")

_TEXT = ("text",)
_NUMBER = ("integer", "real")
_LISTED = "SELECT value FROM json_each(?)"

# For the value of a CASE, SQLite computes both sides of an AND, but of another CASE only the branch that is taken.
_NEAR = "CASE WHEN @ BETWEEN ? AND ? THEN {} END"

_INSTEAD = {
    "$regex": "there are no regular expressions; $glob takes a pattern with *, ? and [...]",
    "$like": "$glob takes a pattern with *, ? and [...]",
    "$ilike": "$glob takes a pattern with *, ? and [...], as in '[Aa]b*'",
    "$nor": "{'$not': {'$or': [...]}} says the same",
    "$all": "{'$and': [{'tags': 'a'}, {'tags': 'b'}]} says the same",
    "$elemMatch": "a condition on a list holds if it does for any element; {'$and': [...]} joins several",
    "$between": "$gte and $lte together say the same",
}
"""Operators of MongoDB and of other stores -> how to say the same here."""


def compile_where(where: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Compiles a filter to an SQL condition on the table `documents`; an empty filter matches everything.

    The condition calls `dates.instant`, which the connection must know as `instant`.

    Returns:
        The condition, which can stand beside AND, and its parameters. No value is part of the SQL, and of field names
        only those made of ASCII letters, digits, "_", "-" and spaces.

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
    if dates.is_date(where):
        return 0
    if isinstance(where, Mapping):
        return sum(max(1, _count(inner, depth + 1)) for inner in where.values())
    if isinstance(where, list | tuple) and any(isinstance(inner, Mapping) for inner in where):
        return sum(_count(inner, depth) for inner in where)
    return 0


def _filter(where: Any, *, negated: bool) -> Clause:
    if not isinstance(where, Mapping):
        raise FilterError(
            f"{_shown(where)} is not a filter: a filter is a dict such as {{'year': {{'$gte': 2024}}}}"
        )
    return joined(
        [_entry(name, wanted, negated=negated) for name, wanted in where.items()], all_of=not negated
    )


def _entry(name: Any, wanted: Any, *, negated: bool) -> Clause:
    """One entry of a filter: a field with its value or operators, or $and, $or, $not."""
    if not isinstance(name, str):
        raise FilterError(f"field {_shown(name)} is a {type(name).__name__}; field names are strings")
    if name == "$not":
        return _filter(wanted, negated=not negated)
    if name in ("$and", "$or"):
        if not isinstance(wanted, list | tuple) or not wanted:
            raise FilterError(f"{name} takes a list of at least one filter, not {_shown(wanted)}")
        conditions = [_filter(inner, negated=negated) for inner in wanted]
        return joined(conditions, all_of=(name == "$and") != negated)
    if name.startswith("$"):
        raise FilterError(
            f"unknown operator {name!r} in place of a field{_instead(name)}; there are {', '.join(_ON_FILTERS)}, "
            f"and on a field {', '.join(_ON_FIELDS)}"
        )
    return _on_field(name, wanted, negated=negated)


def _instead(operator: str) -> str:
    return f": {_INSTEAD[operator]}" if operator in _INSTEAD else ""


def _on_field(name: str, wanted: Any, *, negated: bool) -> Clause:
    """The condition of one field: equality with a value, or the operators in a dict."""
    if not isinstance(wanted, Mapping) or dates.is_date(wanted):
        return _among(name, [wanted], negated=negated)
    if not wanted or not all(isinstance(key, str) and key.startswith("$") for key in wanted):
        raise FilterError(
            f"{name!r}: {_shown(wanted)} holds no operators; there are {', '.join(_ON_FIELDS)}; "
            "to look into a dict, join the names by dots, as in 'a.b'"
        )
    conditions = [_operator(name, operator, value, negated=negated) for operator, value in wanted.items()]
    return joined(conditions, all_of=not negated)


def listed_values(values: Any) -> list[Any] | None:
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


def _operator(name: str, operator: str, value: Any, *, negated: bool) -> Clause:
    if operator in ("$eq", "$ne"):
        return _among(name, [value], negated=negated != (operator == "$ne"))
    if operator in ("$in", "$nin"):
        values = listed_values(value)
        if values is None:
            raise FilterError(f"{name!r}: {operator} takes a list of values, not {_shown(value)}")
        if len(values) > MAX_VALUES:
            number = len(value) if isinstance(value, Sized) else f"{len(values)} or more"
            raise FilterError(f"{name!r}: {operator} has {number} values, at most {MAX_VALUES} are possible")
        return _among(name, values, negated=negated != (operator == "$nin"))
    if operator in _ORDER:
        return found(name, _compared(operator, value, name), negated=negated)
    if operator in _TEXTS:
        return found(name, _like(operator, value, name), negated=negated)
    if operator == "$exists":
        value = plain(value)
        if not isinstance(value, bool):
            raise FilterError(f"{name!r}: $exists takes true or false, not {_shown(value)}")
        return found(name, None, negated=negated == value)
    if operator == "$not":
        if not isinstance(value, Mapping):
            raise FilterError(
                f"{name!r}: $not takes operators, as in {{'$not': {{'$gt': 5}}}}, not {_shown(value)}"
            )
        return _on_field(name, value, negated=not negated)
    raise FilterError(
        f"{name!r}: unknown operator {operator!r}{_instead(operator)}; there are {', '.join(_ON_FIELDS)}"
    )


def usable_number(value: int | float, name: str) -> int | float:
    """A number as SQLite stores it: integers beyond 64 bits are floats.

    Raises:
        FilterError: it is beyond 1.8e308, or NaN.
    """
    try:
        usable = value if isinstance(value, int) and -(2**63) <= value < 2**63 else float(value)
    except OverflowError as exc:
        raise FilterError(f"{name!r}: {_shown(value)} is beyond 1.8e308, too large to compare with") from exc
    if isinstance(usable, float) and not math.isfinite(usable):
        raise FilterError(
            f"{name!r}: {value} is {'NaN' if math.isnan(usable) else 'an infinity'}, which metadata cannot hold"
        )
    return usable


def _among(name: str, values: Sequence[Any], *, negated: bool) -> Clause:
    """Whether a field is one of the values; a missing field is null."""
    condition = found(name, _equal(values, name), negated=negated)
    if not any(map(is_missing, values)):
        return condition
    return joined([condition, found(name, None, negated=not negated)], all_of=negated)


def _equal(values: Sequence[Any], name: str) -> Test:
    """A test whether a value is one of these."""
    texts: list[str] = []
    numbers: list[int | float] = []
    periods: list[str] = []
    types: set[str] = set()
    for given in values:
        value = None if is_missing(given) else plain(given)
        if dates.is_date(given):
            periods.append(dates.period(given, name))
        elif value is None or isinstance(value, bool):
            types.add(json.dumps(value))
        elif isinstance(value, str):
            texts.append(storable(value))
        elif isinstance(value, int | float):
            numbers.append(usable_number(value, name))
        else:
            raise FilterError(
                f"{name!r}: {_shown(value)} is a {type(value).__name__}; values are strings, numbers, dates, true, "
                "false and null; use $in for one of several, and dots to look into a dict"
            )
    cases = [Case((json_type,)) for json_type in sorted(types)]
    for kinds, group in ((_TEXT, texts), (_NUMBER, numbers)):
        if group:
            cases.append(Case(kinds, f"@ IN ({_LISTED})", [json.dumps(group, ensure_ascii=False)]))
    only = verbatim(texts[0]) if len(values) == len(texts) == 1 else ""
    return Test([*cases, *_in_periods(periods)], needs=f'"{only}"' if only else "")


def _in_periods(periods: Sequence[str]) -> list[Case]:
    """Tests whether a date lies in one of the days, months or years, or is one of the instants."""
    cases = []
    for length in sorted({dates.compared_length(begins) for begins in periods}):
        group = [begins for begins in periods if dates.compared_length(begins) == length]
        around = [dates.around(begins) for begins in group]
        bounds = [min(least for least, _ in around), max(most for _, most in around)]
        sql = f"{dates.sql('@', length)} IN ({_LISTED})"
        cases.append(Case(_TEXT, _NEAR.format(sql), [*bounds, json.dumps(group)]))
    return cases


def _compared(operator: str, value: Any, name: str) -> Test:
    """A test by $gt, $gte, $lt or $lte, among texts, among numbers or among dates."""
    sign = _ORDER[operator]
    if dates.is_date(value):
        return Test([_before_or_after(sign, dates.period(value, name))])
    value = plain(value)
    if isinstance(value, str):
        return Test([Case(_TEXT, f"@ {sign} ?", [storable(value)])])
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = usable_number(value, name)
        if isinstance(number, int):
            return Test([Case(_NUMBER, f"@ {sign} ?", [number])])
        # SQLite reads the float as it reads those in the metadata: not on all machines to the last bit as Python does.
        return Test([Case(_NUMBER, f"@ {sign} json_extract(?, '$')", [json.dumps(number)])])
    raise FilterError(f"{name!r}: {operator} takes a number, a string or a date, not {_shown(value)}")


def _before_or_after(sign: str, begins: str) -> Case:
    """A test whether a date is before, in or after a period; for most values a comparison of texts decides it."""
    least, most = dates.around(begins)
    bounds = ["", most] if "<" in sign else [least, dates.AFTER_ALL]
    sql = f"{dates.sql('@', dates.compared_length(begins))} {sign} ?"
    return Case(_TEXT, _NEAR.format(sql), [*bounds, begins])


def _like(operator: str, value: Any, name: str) -> Test:
    """A test by $prefix, $contains or $glob."""
    value = plain(value)
    if not isinstance(value, str):
        raise FilterError(f"{name!r}: {operator} takes a string, not {_shown(value)}")
    test, text = _TEXTS[operator], storable(value)
    if operator == "$glob":
        return Test([Case(_TEXT, test, [_glob(text, name)])])
    part = verbatim(text)
    needs = f'"{part}' if part and operator == "$prefix" else part
    return Test([Case(_TEXT, test, [text] * test.count("?"))], needs)


def _glob(pattern: str, name: str) -> str:
    """A pattern as SQLite takes it, which knows only ^ for what shells write as ! too.

    SQLite needs at most length of pattern x length of text steps, so a long text needs a short pattern.
    """
    if len(pattern) > MAX_GLOB:
        raise FilterError(
            f"{name!r}: $glob has {len(pattern):,} characters, at most {MAX_GLOB:,} are possible"
        )
    written, place = [], 0
    while place < len(pattern):
        end = place + 1
        if pattern[place] == "[":
            first = end + (pattern[end : end + 1] in ("^", "!"))
            end = pattern.find("]", first + 1) + 1
            if not end:
                raise FilterError(
                    f"{name!r}: in the $glob {_shown(pattern)} the [ at {place} has no ]; write [[] for the character ["
                )
            written.append(("[^" if first > place + 1 else "[") + pattern[first:end])
        else:
            written.append(pattern[place])
        place = end
    return "".join(written)


class Compared(NamedTuple):
    """A value that a filter compares a field with, which a document must have to pass the filter.

    Attributes:
        name: of the field.
        value: as it is shown.
        kind: "text", "number" or "date"; "" for others.
        least: the lowest value of this kind: `{name: {"$gte": least}}` asks whether any document has one.
    """

    name: str
    value: Any
    kind: str
    least: Any


def compared(where: Mapping[str, Any]) -> Iterator[Compared]:
    """The fields that a document must have to pass a filter, each with a value that the filter compares it with."""
    for name, wanted in where.items():
        if name == "$and":
            for inner in wanted:
                yield from compared(inner)
        elif name.startswith("$"):
            continue
        elif isinstance(wanted, Mapping) and not dates.is_date(wanted):
            for operator, value in wanted.items():
                if operator not in ("$ne", "$nin", "$not", "$exists"):
                    listed = listed_values(value) if operator == "$in" else [value]
                    yield from _of_kind(name, listed or [])
        else:
            yield from _of_kind(name, [wanted])


def _of_kind(name: str, values: Sequence[Any]) -> Iterator[Compared]:
    """The first of the values with its kind; none if a missing field is one of them."""
    if any(map(is_missing, values)):
        return
    first = values[0] if values else None
    value = plain(first)
    if dates.is_date(first):
        yield Compared(name, dates.period(first, name), "date", date.min)
    elif isinstance(value, str):
        yield Compared(name, value, "text", "")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield Compared(name, value, "number", -1.7e308)
    else:
        yield Compared(name, value, "", None)
