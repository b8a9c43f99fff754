"""Arguments that are numbers, flags or names, checked once: one line that has the name, the value and what is allowed.

NumPy's scalars are taken as Python's; a bool is no number, and a number no flag.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from typing import Any

import numpy as np

from omnivec.errors import UsageError

_SHOWN = 60
"""Characters of a value in a message."""


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number from `least` to `most`.

    Raises:
        UsageError: it is none, or lies outside.
    """
    allowed = f"at least {least}" if most is None else f"{least} to {most}"
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool | np.bool_):
        raise UsageError(f"{name}={_said(value)}: a whole number, {allowed}")
    if number < least or (most is not None and number > most):
        raise UsageError(f"{name}={number}: {allowed}")
    return number


def real(name: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """A finite number from `least` to `most`.

    Raises:
        UsageError: it is none, or lies outside.
    """
    fine = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not fine or not math.isfinite(value) or not least <= value <= most:
        bounds = [f"at least {least:g}"] * (least > -math.inf) + [f"at most {most:g}"] * (most < math.inf)
        raise UsageError(f"{name}={_said(value)}: {', '.join(['a number', *bounds])}")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """True or False; UsageError for anything else."""
    if not isinstance(value, bool | np.bool_):
        raise UsageError(f"{name}={_said(value)}: True or False")
    return bool(value)


def choice(name: str, value: Any, allowed: Collection[Any]) -> Any:
    """One of some values; UsageError, which lists them, for another."""
    if not any(type(value) is type(one) and value == one for one in allowed):
        raise UsageError(f"{name}={_said(value)} is none of {', '.join(map(repr, allowed))}")
    return value


def _said(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({type(value).__name__})"
