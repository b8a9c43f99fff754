"""Decides whether an argument is one item or several, and refuses everything else with an alternative.

All functions and commands that take items, texts, labels, ids or paths use these functions, so that the rules are the
same everywhere:

    one item        a str, bytes, a pathlib.Path, a PIL image, uint8 (h, w) or (h, w, channels); an array without axes
                    contains one
    several items   a list, a tuple, an iterator; a NumPy array with one axis of texts or objects; uint8
                    (n, h, w, channels), n images; a column: a pandas or polars Series, a pyarrow array; the keys or
                    values of a dict
    refused         None, a number, an array of numbers, a tensor, a table, a dict, a set, an open file

An invalid element of a sequence is found when it is read, and named by its index.
"""

from __future__ import annotations

import io
from collections import UserString
from collections.abc import Iterable, Iterator, Mapping, MappingView, Set
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.validation.arguments import characters, expanded, is_missing, quoted

_SHOWN = 40
"""Number of characters of a value that a message shows."""

ITEMS = "a str, a pathlib.Path, an image"
"""What an item may be, for messages."""


def is_one(value: Any, what: str = "items", kinds: str = ITEMS) -> bool:
    """Whether an argument is one item, rather than several.

    Args:
        value: the argument.
        what: its name, for messages.
        kinds: what one of its elements may be, for messages.

    Raises:
        UsageError: it is neither one item nor several.
    """
    if isinstance(value, str | bytes | Path):
        return True
    if isinstance(value, list | tuple):
        return False
    if isinstance(value, np.ndarray):
        return _is_one_array(value, what)
    if why := _refusal(value, kinds):
        raise UsageError(f"{what}: {why}")
    return not isinstance(value, Iterable) or not _has_items(value)


def several(value: Any, what: str = "items", kinds: str = ITEMS) -> Iterable[Any]:
    """Returns the items of an argument in their order, as a list for one item; an iterator is not read yet.

    Args:
        value: the argument.
        what: its name, for messages.
        kinds: what one of its elements may be, for messages.

    Raises:
        UsageError: it contains no items; the message says what to give instead.
    """
    if is_one(value, what, kinds):
        return [value.item() if isinstance(value, np.ndarray) and not value.ndim else value]
    if isinstance(value, np.ndarray):
        return list(value) if value.ndim > 1 else value.tolist()
    if hasattr(value, "to_pylist"):  # a pyarrow column, whose elements are scalars and not str
        return list(value.to_pylist())
    return value  # type: ignore[no-any-return]


def texts(values: Any, what: str) -> list[str]:
    """Returns an argument of one text or several, such as labels or ids, as a list of str.

    Args:
        values: the argument.
        what: its name, for messages.

    Raises:
        UsageError: it contains no items, or an item is not a str; the message has its index.
    """
    return [
        text(one, f"{what.removesuffix('s')} {i}") for i, one in enumerate(several(values, what, "a str"))
    ]


def text(value: Any, what: str) -> str:
    """Returns an argument that is one text; UsageError if it is anything else."""
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value.item()
    if not isinstance(value, str):
        raise UsageError(f"{what} is {shown(value)}: give a str")
    return characters(value)


def paths(values: Any, what: str = "paths") -> Iterator[Path]:
    """Yields the paths of an argument of one path or several, each a pathlib.Path or a str.

    Args:
        values: the argument.
        what: its name, for messages.

    Raises:
        UsageError: it contains no items, or an item is not a path; the message has its index.
    """
    for i, one in enumerate(several(values, what, "a pathlib.Path, a str")):
        if not isinstance(one, str | Path) or not characters(one) or "\0" in characters(one):
            raise UsageError(
                f"{what.removesuffix('s')} {i} is {shown(one)}: give a pathlib.Path or a str"
                + ("; '.' is the current folder" if isinstance(one, str) and not one else "")
            )
        yield expanded(Path(characters(one)))


def shown(value: Any) -> str:
    """Describes a value for a message: "None", "3, an int", "a float32 array of shape (2, 3)"."""
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    if is_missing(value):
        return f"{value!r}, a missing value" if value is not None else "None"
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, bytes):
        return "bytes"
    if isinstance(value, str):
        return repr(value[:_SHOWN])
    name = type(value).__name__
    described = f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
    return f"{quoted(value, _SHOWN)}, {described}" if isinstance(value, Number) else described


def _is_one_array(array: NDArray[Any], what: str) -> bool:
    code, axes = array.dtype.kind, array.ndim
    if not axes:
        return is_one(array.item(), what)
    if array.dtype == np.uint8 and axes in (2, 3, 4):
        return axes < 4
    if axes == 1 and (code in "UTSO" or not array.size):
        return False
    if array.dtype.names or code in "UTSO":
        way = "give one of its columns, a list of texts"
    else:
        way = "give an image as uint8 (h, w, 3), values from 0 to 255; vectors are not items"
    raise UsageError(f"{what}: {shown(array)} contains no items: {way}")


def _has_items(value: Iterable[Any]) -> bool:
    """Whether a value can be iterated over; some classes have `__iter__` only to raise TypeError."""
    if isinstance(value, Iterator):
        return True
    try:
        iter(value)
    except TypeError:
        return False
    return True


def _is_buffer(value: Any) -> bool:
    """Whether a value is a buffer of numbers or characters: bytearray, memoryview, array.array and similar types."""
    try:
        with memoryview(value):
            return True
    except TypeError:
        return False


def has_columns(value: Any) -> bool:
    """Whether a value has named columns: a table, a mapping, or a structured array."""
    records = isinstance(value, np.ndarray) and value.dtype.names is not None
    return records or _is_table(value) or isinstance(value, Mapping)


def _is_table(value: Any) -> bool:
    return hasattr(type(value), "columns") or hasattr(type(value), "column_names")


def _refusal(value: Any, kinds: str) -> str | None:
    """Explains why a value other than an array contains no items, with an alternative; None if it may contain some."""
    if is_missing(value) or isinstance(value, Number | np.generic):
        return f"{shown(value)} is not an item: give {kinds}, or a list of these"
    if _is_table(value):
        return f"{shown(value)} is a table: give one of its columns, such as table['text'], or a list"
    if isinstance(value, Mapping):
        return f"{shown(value)} has keys and values: give list(d.values()), or list(d) for the keys"
    if isinstance(value, Set) and not isinstance(value, MappingView):
        return f"{shown(value)} has no order, but results are in the order of the items: give sorted(items)"
    if isinstance(value, io.IOBase) or hasattr(value, "readline"):
        return "an open file may be one item or many: give its pathlib.Path, or file.read().splitlines()"
    if isinstance(value, UserString) or _is_buffer(value):
        way = "str(text)" if isinstance(value, UserString) else "a str, or a NumPy array of an image"
        return f"{shown(value)} would be read by its characters or numbers: give {way}"
    if hasattr(value, "device") and hasattr(value, "shape"):
        return (
            f"{shown(value)} of shape {tuple(value.shape)} contains numbers: give an image as a uint8 array, "
            "such as tensor.numpy(); vectors are not items"
        )
    return None
