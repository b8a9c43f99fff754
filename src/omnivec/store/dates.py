"""Dates and times in metadata, which are stored as texts in ISO 8601: their instants, which SQL compares as texts.

`instant` gives the time in UTC as a text whose order is that of time:

    2024-01-05                    2024-01-05T00:00:00
    2024-01-05T10:00:00+02:00     2024-01-05T08:00:00
    2024-01-05 10:00:00.250       2024-01-05T10:00:00.25

A date without a time stands for a whole day, month or year. In this form a period is the beginning of its instants:
"2024-01-05" begins each instant of that day, so comparing the first ten characters compares days.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np

from omnivec.errors import FilterError
from omnivec.validation.arguments import is_missing, quoted, unwrapped

FORMS = "ISO 8601, such as 2024-01-05 or 2024-01-05T10:00:00+02:00, from year 1 to 9999"

_DAY, _SECOND = len("2024-01-05"), len("2024-01-05T10:00:00")
AFTER_ALL = ":"
"""A text that is above all that begin with a digit."""

_LAST_YEAR = 9999
_EARLIEST, _LATEST = "0001-01-01T00:00:00", "9999-12-31T23:59:59.999999999"


@cache
def _form() -> re.Pattern[str]:
    """The forms that Python, NumPy and pandas write, and those of ISO 8601 with dashes in the date."""
    day = "([0-9]{4})(?:-(0[1-9]|1[0-2])(?:-(0[1-9]|[12][0-9]|3[01])"
    clock = "(?:[Tt ]([01][0-9]|2[0-3])(?::([0-5][0-9])(?::([0-5][0-9])(?:[.,]([0-9]+))?)?)?"
    offset = "([Zz]|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9](?::?[0-5][0-9])?)?)?)?)?)?"
    return re.compile(day + clock + offset)


def instant(text: Any) -> str | None:
    """The instant of a stored date or time; a function of the SQL connections, so it never raises.

    A time without an offset is in UTC; a date, month or year is its first instant. Instants before year 1 or after year
    9999 in UTC, which only an offset can lead to, are the first and the last one of those.

    Returns:
        "YYYY-MM-DDTHH:MM:SS" in UTC, with a fraction of any length unless it is 0; None if it is no text in one of the
        `FORMS` or not in the calendar.

    Examples:
        >>> instant("2024-01-05T10:00:00.500+02:00"), instant("2024-02-30")
        ('2024-01-05T08:00:00.5', None)
    """
    if not isinstance(text, str):
        return None
    return _of_usual(text) or _of_any(text)


def _of_usual(text: str) -> str | None:
    """The instant of a date, or of a time in UTC in whole seconds, which needs no regular expression; else None."""
    if text[4:8:3] != "--" or text[19:] not in ("", "Z", "+00:00"):
        return None
    if len(text) != _DAY and (text[10:11] not in ("T", " ") or text[13:17:3] != "::" or len(text) < _SECOND):
        return None
    try:
        datetime.fromisoformat(text[:_SECOND])
    except ValueError:
        return None
    return f"{text[:_DAY]}T{text[11:_SECOND] or '00:00:00'}"


def _of_any(text: str) -> str | None:
    """The instant of a text in any of the forms."""
    match = _form().fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    if year == "0000" or (day is not None and day > "28" and not _in_calendar(year, month, day)):
        return None
    whole = f"{year}-{month or '01'}-{day or '01'}T{hour or '00'}:{minute or '00'}:{second or '00'}"
    digits = (fraction or "").rstrip("0")
    if offset and offset not in ("Z", "z", "+00:00"):
        try:
            whole = (datetime.fromisoformat(whole) - _offset(offset)).isoformat()
        except OverflowError:
            return _EARLIEST if year == "0001" else _LATEST
    return f"{whole}.{digits}" if digits else whole


def _in_calendar(year: str, month: str, day: str) -> bool:
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return False
    return True


def _offset(text: str) -> timedelta:
    """The offset of "+02:00", "-0530" or "+02"."""
    digits = text[1:].replace(":", "")
    hours, minutes, seconds = (int(digits[place : place + 2] or 0) for place in (0, 2, 4))
    offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return -offset if text[0] == "-" else offset


def is_date(value: Any) -> bool:
    """Whether a value of a filter is a date or time: of Python, NumPy or pandas, or {"$date": ...}."""
    value = unwrapped(value)
    if isinstance(value, Mapping):
        return list(value) == ["$date"]
    return isinstance(value, date | np.datetime64) and not is_missing(value)


def period(value: Any, name: str) -> str:
    """The beginning that all instants of a filter's date have in the form of `instant`.

    Args:
        value: of which `is_date` holds.
        name: of the field, for the message.

    Returns:
        "2024", "2024-01" or "2024-01-05" for a year, month or day; a whole instant if the value has a time.

    Raises:
        FilterError: it is not one of the `FORMS`.
    """
    value = unwrapped(value)
    if isinstance(value, Mapping):
        text = value["$date"]
        if isinstance(text, date | np.datetime64):
            return period(text, name)
    else:
        text = str(value) if isinstance(value, np.datetime64) else value.isoformat()
    found = instant(text)
    if found is None:
        raise FilterError(f"{name!r}: {quoted(text)} is not a date in {FORMS}")
    return text if len(text) <= _DAY else found


def compared_length(begins: str) -> int:
    """How many characters of an instant are compared with what `period` returned; 0 for all, if it is an instant."""
    return len(begins) if len(begins) <= _DAY else 0


def sql(stored: str, length: int) -> str:
    """SQL for the compared characters of a stored date; NULL if it is none.

    Args:
        stored: SQL for the text.
        length: as `compared_length` gives it.
    """
    return f"substr(instant({stored}), 1, {length})" if length else f"instant({stored})"


def around(begins: str) -> tuple[str, str]:
    """The texts between which all stored dates of a period lie; others may lie there too.

    No offset is as long as a day, so what is written differs from the instant in UTC by at most one day:

        >>> around("2024-01-05")
        ('2024-01-04', '2024-01-07')
    """
    year, month, day = (int(begins[start : start + size] or 0) for start, size in ((0, 4), (5, 2), (8, 2)))
    first = date(year, month or 1, day or 1)
    last = first if day else date(year, month or 12, 28) + timedelta(days=3 if year < _LAST_YEAR else 0)
    one = timedelta(days=1)
    least = (first - one).isoformat() if first > date.min + one else ""
    most = (last + 2 * one).isoformat() if last.year < _LAST_YEAR else AFTER_ALL
    return least, most
