"""Checks of arguments that are numbers, flags or names; errors have their name, their value and what is allowed.

NumPy's scalars are accepted like Python's; a bool is not accepted as a number, nor a number as a flag. `plain` converts
values of NumPy and pandas to Python's types.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from datetime import date, time
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePath
from typing import Any
from uuid import UUID

import numpy as np

from omnivec.errors import UsageError

SHOWN = 60
"""Most characters of a value in a message."""

_MISSING = frozenset(("NoneType", "NAType", "NaTType"))
"""Types of None, pandas.NA and pandas.NaT."""


def unwrapped(value: Any) -> Any:
    """The value of a member of an enumeration, or of an array without dimensions; other values unchanged."""
    if isinstance(value, Enum):
        return unwrapped(value.value)
    if isinstance(value, np.ndarray) and not value.ndim:
        return value[()]
    return value


def is_missing(value: Any) -> bool:
    """Whether a value stands for a missing one: None, NaN, NaT, pandas.NA."""
    value = unwrapped(value)
    if type(value).__name__ in _MISSING:
        return True
    if isinstance(value, Decimal):
        return value.is_nan()
    if isinstance(value, float | np.floating | np.datetime64 | np.timedelta64):
        return bool(value != value)
    return False


def plain(value: Any) -> Any:
    """NumPy's scalars and arrays, Decimals, dates, UUIDs, paths and members of enumerations as Python's types.

    Other values are unchanged. Of a member of an enumeration it is the value.

    Dates and times become texts in ISO 8601, UUIDs and paths texts. A Decimal becomes an int if it is a whole number of
    at most 64 bits, else the nearest float.
    """
    value = unwrapped(value)
    if isinstance(value, np.ndarray):
        return list(value) if value.dtype.kind in "Mg" else value.tolist()
    if isinstance(value, Decimal | np.generic | date | time) and is_missing(value):
        return value
    if isinstance(value, np.datetime64 | UUID | PurePath):
        return str(value)
    if isinstance(value, np.longdouble):
        return float(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        whole = abs(value) < 2**63 and value == value.to_integral_value()
        return int(value) if whole else float(value)
    return value


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """The argument as an int from `least` to `most`.

    Raises:
        UsageError: it is not a whole number, or out of range.
    """
    allowed = f"at least {least}" if most is None else f"{least} to {most}"
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool | np.bool_):
        raise UsageError(f"{name}={said(value)}: a whole number, {allowed}")
    if number < least or (most is not None and number > most):
        raise UsageError(f"{name}={said(value)}: {allowed}")
    return number


def real(name: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """The argument as a finite float from `least` to `most`.

    Raises:
        UsageError: it is not a finite number, or out of range.
    """
    try:
        is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        number = float(value) if is_number else math.nan
    except OverflowError:  # a whole number beyond the range of floats
        number = math.inf
    if not math.isfinite(number) or not least <= number <= most:
        bounds = [f"at least {least:g}"] * (least > -math.inf) + [f"at most {most:g}"] * (most < math.inf)
        raise UsageError(f"{name}={said(value)}: {', '.join(['a number', *bounds])}")
    return number


def flag(name: str, value: Any) -> bool:
    """The argument as a bool; UsageError if it is neither True nor False."""
    if not isinstance(value, bool | np.bool_):
        raise UsageError(f"{name}={said(value)}: True or False")
    return bool(value)


def path(name: str, value: Any) -> Path:
    """The argument as a Path with "~" expanded; UsageError if it is not a path, or empty."""
    if not isinstance(value, str | Path) or value == "" or "\0" in characters(value):
        raise UsageError(f"{name}={said(value)}: a pathlib.Path or a str that is not empty")
    return expanded(Path(characters(value)))


def expanded(path: Path) -> Path:
    """The path with `~` replaced by the home folder; unchanged if it names an unknown user's."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def characters(value: object) -> str:
    """The characters of a str, a path or a number; of a str Enum, whose str() is its name, those of its value."""
    return str.__str__(value) if isinstance(value, str) else str(value)


def text(name: str, value: Any) -> str:
    """The argument as a str; UsageError for anything else."""
    if not isinstance(value, str):
        raise UsageError(f"{name}={said(value)}: a str")
    return characters(value)


def choice(name: str, value: Any, allowed: Collection[Any]) -> Any:
    """The argument if it is one of the allowed values; UsageError, which lists them, if not."""
    text = characters(value) if isinstance(value, str) else value
    if not any(type(text) is type(one) and text == one for one in allowed):
        raise UsageError(f"{name}={said(value)} is none of {', '.join(map(str, allowed))}")
    return text


def quoted(value: Any, most: int = SHOWN) -> str:
    """The repr of a value for a message, on one line and cut to `most` characters; its type if it has no repr.

    The repr of tables and arrays has many lines, a whole number may have too many digits for one, and a user's object
    may raise.
    """
    try:
        text = " ".join(repr(value).split())
    except Exception:
        size = f" of {value.bit_length():,} bits" if isinstance(value, int) else ""
        text = f"<{type(value).__name__}{size}>"
    return text if len(text) <= most else f"{text[:most]}..."


def said(value: Any) -> str:
    """`quoted`, with the value's type after a repr that was cut."""
    text = quoted(value)
    return f"{text} ({type(value).__name__})" if len(text) > SHOWN else text
