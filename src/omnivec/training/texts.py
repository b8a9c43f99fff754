"""What a user gives to train on: items in memory, or the path of a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omnivec.errors import UsageError
from omnivec.inputs import items
from omnivec.validation import arguments


def several(data: Any, expected: str, fields: Sequence[str] = ()) -> Iterable[Any]:
    """The items of what a user gave to train on; none of their values means that there are no more.

    Args:
        data: as given; a lone item is refused.
        expected: what to give, for the message.
        fields: of a recipe that takes rows of several values what these are: of a table, all are to be given.
    """
    if fields and items.has_columns(data):
        end = ".to_pylist()" if hasattr(type(data), "column_names") else ""
        columns = ", ".join(f"data[{name!r}]{end}" for name in fields)
        raise UsageError(
            f"data is {items.shown(data)}, which holds columns: give its rows, list(zip({columns}))"
        )
    if fields and isinstance(data, np.ndarray) and data.ndim == 2 and data.dtype.kind in "UTO":
        rows: list[Any] = data.tolist()
        return rows  # Rows, as a table's `values` are.
    if items.is_one(data, "data"):
        raise UsageError(f"data is {items.shown(data)}: give {expected}")
    return items.several(data, "data")


def path(data: str | Path) -> Path:
    """A path of data, "~" expanded; UsageError where it can be none."""
    return arguments.path("data", data)


def wrong(place: str, item: Any, expected: str) -> UsageError:
    """What is said of an item that cannot be used."""
    return UsageError(f"{place} is {items.shown(item)}: expected {expected}")
