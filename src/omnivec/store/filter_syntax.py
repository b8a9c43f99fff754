"""Filters as they are written on a command line."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from omnivec.errors import FilterError
from omnivec.store import dates
from omnivec.validation.arguments import quoted

# A pattern after ~= may begin with characters of operators, as in name~=*.md; no other value without quotes may.
_SIMPLE = re.compile(r"(?P<name>[^=!<>^*~]+)(?P<sign>~=|[=!<>^*~]+)(?P<value>.*)", re.DOTALL)
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
    "~=": "$glob",
}
_OF_TEXTS = ("$prefix", "$contains", "$glob")


def parse_where(text: str) -> dict[str, Any]:
    """Reads a filter from a command line: a JSON object, or `name=value` with one of = != > >= < <= ^= *= ~=.

    A value that reads as an integer, a float, true, false or null is one; so is a date such as 2024-01-05 or
    2024-01-05T10:00. Any other, and a value in "quotes" or 'quotes', is a string. ^= (begins with), *= (contains) and
    ~= (matches a pattern with *, ? and [...]) always take a string.

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
            f"{quoted(text, 80)} is not a filter: {what}; write name=value, with one of {signs} (and quotes around a "
            'value that begins with one of these characters), or JSON such as {"year": {"$gte": 2024}}'
        )
    operator, value = _SIGNS[match["sign"]], _value(match["value"].strip())
    if operator in _OF_TEXTS and not isinstance(value, str):
        value = match["value"].strip()
    return {match["name"].strip(): {operator: value}}


def _object(text: str) -> dict[str, Any]:
    try:
        where: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise FilterError(f"{quoted(text, 80)} is not valid JSON: {exc}") from exc
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
        is_day = len(text) >= len("2024-01-05") and dates.instant(text) is not None
        return {"$date": text} if is_day else text
    finite = not isinstance(value, float) or math.isfinite(value)
    return value if isinstance(value, int | float | None) and finite else text
