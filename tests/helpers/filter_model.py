"""The language of filters in plain Python, as docs/collection.md states it: which metadata a filter matches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any

import numpy as np

Where = Mapping[str, Any]

FORM = re.compile(
    r"([0-9]{4}(-[0-9]{2}){0,2})|([0-9]{4}(?:-[0-9]{2}){2}[T ][0-9:]+)(?:\.([0-9]+))?(Z|[+-][0-9:]+)?"
)
"""A date, or a time with its fraction and offset."""


def values_at(metadata: Where, name: str) -> list[Any]:
    """The value under the name itself; else all that it reaches through dicts, and through the dicts of a list."""
    return [metadata[name]] if name in metadata else list(reached(metadata, name))


def reached(node: Any, rest: str) -> Iterator[Any]:
    """The values of a name below a node."""
    for place in node if isinstance(node, list) else [node]:
        for key, value in place.items() if isinstance(place, dict) else ():
            if key == rest:
                yield value
            elif rest.startswith(f"{key}."):
                yield from reached(value, rest[len(key) + 1 :])


def seconds(text: Any) -> Fraction | None:
    """Seconds from 1 January of year 1 in UTC to a date or time; None if it is no text of a date."""
    match = FORM.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    day, _, clock, fraction, offset = match.groups()
    try:
        if day:
            found = datetime.fromisoformat(f"{day}{'-01' * (2 - day.count('-'))}T00:00:00")
        else:
            found = datetime.fromisoformat(f"{clock}{offset or '+00:00'}")
    except ValueError:
        return None
    passed = found.replace(tzinfo=None) - datetime(1, 1, 1) - (found.utcoffset() or timedelta())
    return passed // timedelta(seconds=1) + Fraction(int(fraction or 0), 10 ** len(fraction or ""))


def is_date(wanted: Any) -> bool:
    """Whether a filter's value is a date or a time."""
    return isinstance(wanted, date | np.datetime64) or (
        isinstance(wanted, dict) and list(wanted) == ["$date"]
    )


def period(wanted: Any) -> tuple[Fraction, Fraction]:
    """Begin and end, exclusive, of a filter's date; an instant ends where it begins."""
    if isinstance(wanted, dict):
        text = wanted["$date"]
    else:
        text = str(wanted) if isinstance(wanted, np.datetime64) else wanted.isoformat()
    begin = seconds(text)
    assert begin is not None
    if len(text) > 10:
        return begin, begin
    year, month, *_ = *map(int, text.split("-")), 0
    if len(text) == 10:
        end = begin + 86_400
    elif len(text) == 7 and month < 12:
        end = seconds(f"{year:04}-{month + 1:02}-01") or begin
    else:
        end = seconds(f"{year + 1:04}-01-01") or begin
    return begin, end


def kind(value: Any) -> Any:
    """What is compared with each other: numbers, and values of one type."""
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


def order(value: Any, wanted: Any) -> int | None:
    """-1, 0 or 1: whether a value is below, equal to or above what is wanted; None if they are not comparable."""
    if is_date(wanted):
        at, (begin, end) = seconds(value), period(wanted)
        if at is None:
            return None
        return 0 if at == begin or begin < at < end else -1 if at < begin else 1
    if kind(value) != kind(wanted):
        return None
    if value is None or value == wanted:
        return 0
    if kind(value) not in ("number", str):
        return None
    return -1 if value < wanted else 1


PASSING = {"$eq": (0,), "$gt": (1,), "$gte": (0, 1), "$lt": (-1,), "$lte": (-1, 0)}


def matches(text: str, pattern: str) -> bool:
    """Whether a text matches a pattern, by dynamic programming over the places that each part of it can lead to."""
    places = {0}
    while pattern:
        if pattern[0] == "*":
            places = {end for start in places for end in range(start, len(text) + 1)}
            pattern = pattern[1:]
            continue
        if pattern[0] == "[":
            negated = pattern[1] in "!^"
            close = pattern.index("]", 2 + negated)
            inside, pattern = pattern[1 + negated : close], pattern[close + 1 :]
            passing = [at for at in places if at < len(text) and in_set(text[at], inside) != negated]
        else:
            passing = [at for at in places if at < len(text) and pattern[0] in ("?", text[at])]
            pattern = pattern[1:]
        places = {at + 1 for at in passing}
    return len(text) in places


def in_set(character: str, inside: str) -> bool:
    """Whether a character is one of those between brackets, such as "a-z0"."""
    while inside:
        if len(inside) > 2 and inside[1] == "-":
            if inside[0] <= character <= inside[2]:
                return True
            inside = inside[3:]
        else:
            if inside[0] == character:
                return True
            inside = inside[1:]
    return False


TEXTS = {"$prefix": str.startswith, "$contains": str.__contains__, "$glob": matches}


def operator_holds(name: str, operator: str, wanted: Any, metadata: Where) -> bool:
    """Whether one operator on a field holds."""
    places = values_at(metadata, name)
    each = [*places, *(element for place in places if isinstance(place, list) for element in place)]
    if operator == "$exists":
        return bool(places) == wanted
    if operator == "$not":
        return not field_holds(name, wanted, metadata)
    if operator in ("$ne", "$nin"):
        return not operator_holds(name, {"$ne": "$eq", "$nin": "$in"}[operator], wanted, metadata)
    if operator == "$in":
        return any(operator_holds(name, "$eq", one, metadata) for one in wanted)
    if operator in TEXTS:
        return any(isinstance(value, str) and TEXTS[operator](value, wanted) for value in each)
    if operator == "$eq" and wanted is None and not places:
        return True
    return any(order(value, wanted) in PASSING[operator] for value in each)


def field_holds(name: str, wanted: Any, metadata: Where) -> bool:
    """Whether the condition of a field holds: a value, or operators."""
    if not isinstance(wanted, dict) or is_date(wanted):
        return operator_holds(name, "$eq", wanted, metadata)
    return all(operator_holds(name, operator, value, metadata) for operator, value in wanted.items())


def holds(where: Where, metadata: Where) -> bool:
    """Whether a filter matches metadata in JSON's types."""

    def one(name: str, wanted: Any) -> bool:
        if name == "$and":
            return all(holds(part, metadata) for part in wanted)
        if name == "$or":
            return any(holds(part, metadata) for part in wanted)
        if name == "$not":
            return not holds(wanted, metadata)
        return field_holds(name, wanted, metadata)

    return all(one(name, wanted) for name, wanted in where.items())


def matching(where: Where, documents: Sequence[Where]) -> list[int]:
    """The places of the documents that a filter matches."""
    return [place for place, metadata in enumerate(documents) if holds(where, metadata)]
