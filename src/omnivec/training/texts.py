"""Checks of training data as the user passes them: items in memory, or the path of a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omnivec.errors import UsageError
from omnivec.inputs import items
from omnivec.validation import arguments


def several(data: Any, expected: str, fields: Sequence[str] = ()) -> Iterable[Any]:
    """The items of training data. No item's value, such as None, is taken as the end.

    Args:
        data: an iterable; a single item, such as a str, is refused.
        expected: description of valid data, for the error.
        fields: names of the values of a row, for recipes whose items are rows; data with columns, such as a data
            frame, are then refused with advice on how to pass rows.

    Raises:
        UsageError: `data` is a single item, or has columns.
    """
    if fields and items.has_columns(data):
        end = ".to_pylist()" if hasattr(type(data), "column_names") else ""
        columns = ", ".join(f"data[{name!r}]{end}" for name in fields)
        raise UsageError(
            f"data is {items.shown(data)}, which holds columns: give its rows, list(zip({columns}))"
        )
    if fields and isinstance(data, np.ndarray) and data.ndim == 2 and data.dtype.kind in "UTO":
        rows: list[Any] = data.tolist()
        return rows  # rows, as in a data frame's `values`
    if items.is_one(data, "data"):
        raise UsageError(f"data is {items.shown(data)}: give {expected}")
    return items.several(data, "data")


def path(data: str | Path) -> Path:
    """The path of a data file, with "~" expanded; UsageError if it is not a valid path."""
    return arguments.path("data", data)


def wrong(place: str, item: Any, expected: str) -> UsageError:
    """The error for an item that cannot be used; `place` says which it is."""
    return UsageError(f"{place} is {items.shown(item)}: expected {expected}")
