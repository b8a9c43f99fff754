"""One gate for what a user gave as items: one, or several in order; what is neither is refused with the way out.

Every function and command that takes items, texts, labels, ids or paths asks here, so that a value has one meaning:

    one item        a str, bytes, a pathlib.Path, a PIL image, uint8 (h, w) or (h, w, channels); an array of no axes
                    holds one
    several items   a list, a tuple, an iterator; a NumPy array of one axis that holds texts or objects; uint8
                    (n, h, w, channels), n images; a column: a pandas or polars Series, a pyarrow array; the keys or
                    values of a dict
    no items        None, a number, an array of numbers, a tensor, a table, a dict, a set, an open file

What is inside a sequence and is no item is found by whoever reads it, and named by its place.
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
"""Characters of a value in a message."""


def is_one(given: Any, what: str = "items") -> bool:
    """Whether an argument is one item and not several.

    Args:
        given: the argument.
        what: its name, for messages.

    Raises:
        UsageError: it is neither.
    """
    if isinstance(given, str | bytes | Path):
        return True
    if isinstance(given, list | tuple):
        return False
    if isinstance(given, np.ndarray):
        return _is_one_array(given, what)
    if why := _refusal(given):
        raise UsageError(f"{what}: {why}")
    return not isinstance(given, Iterable) or not _has_items(given)


def several(given: Any, what: str = "items") -> Iterable[Any]:
    """The items of an argument in their order; a lone one as a list of one. An iterator is not read before its time.

    Args:
        given: the argument.
        what: its name, for messages.

    Raises:
        UsageError: it holds no items; the message says what to give in its place.
    """
    if is_one(given, what):
        return [given.item() if isinstance(given, np.ndarray) and not given.ndim else given]
    if isinstance(given, np.ndarray):
        return list(given) if given.ndim > 1 else given.tolist()
    if hasattr(given, "to_pylist"):  # pyarrow's columns, whose elements are no texts by themselves
        return list(given.to_pylist())
    return given  # type: ignore[no-any-return]


def texts(given: Any, what: str) -> list[str]:
    """An argument of one text or several, such as labels or ids, as a list of str.

    Args:
        given: the argument.
        what: its name, for messages.

    Raises:
        UsageError: it is none, or one of them is no str: the message names its place.
    """
    return [text(one, f"{what.removesuffix('s')} {i}") for i, one in enumerate(several(given, what))]


def text(given: Any, what: str) -> str:
    """An argument that is one text; UsageError where it is something else."""
    if isinstance(given, np.ndarray) and not given.ndim:
        given = given.item()
    if not isinstance(given, str):
        raise UsageError(f"{what} is {shown(given)}: give a str")
    return characters(given)


def paths(given: Any, what: str = "paths") -> Iterator[Path]:
    """An argument of one path or several, each a pathlib.Path or a str, as they come.

    Args:
        given: the argument.
        what: its name, for messages.

    Raises:
        UsageError: it is none, or one of them is no path: the message names its place.
    """
    for i, one in enumerate(several(given, what)):
        if not isinstance(one, str | Path) or not characters(one) or "\0" in characters(one):
            raise UsageError(
                f"{what.removesuffix('s')} {i} is {shown(one)}: give a pathlib.Path or a str"
                + ("; '.' is the current folder" if isinstance(one, str) and not one else "")
            )
        yield expanded(Path(characters(one)))


def shown(value: Any) -> str:
    """What a value is, in a few words for a message: "None", "3, an int", "a float32 array of shape (2, 3)"."""
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
    kind = f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
    return f"{quoted(value, _SHOWN)}, {kind}" if isinstance(value, Number) else kind


def _is_one_array(given: NDArray[Any], what: str) -> bool:
    kind, axes = given.dtype.kind, given.ndim
    if not axes:
        return is_one(given.item(), what)
    if given.dtype == np.uint8 and axes in (2, 3, 4):
        return axes < 4
    if axes == 1 and (kind in "UTSO" or not given.size):
        return False
    if given.dtype.names or kind in "UTSO":
        way = "give one of its columns, a list of texts"
    else:
        way = "an image is given as uint8 (h, w, 3), values from 0 to 255; vectors are no items"
    raise UsageError(f"{what}: {shown(given)} holds no items: {way}")


def _has_items(given: Iterable[Any]) -> bool:
    """Whether something can be gone through: some classes have the method to say that they cannot."""
    if isinstance(given, Iterator):
        return True
    try:
        iter(given)
    except TypeError:
        return False
    return True


def _is_buffer(given: Any) -> bool:
    """Whether a value is numbers or characters in a row: bytearray, memoryview, array.array and their like."""
    try:
        with memoryview(given):
            return True
    except TypeError:
        return False


def has_columns(given: Any) -> bool:
    """Whether a value is several columns by their names: a table, a mapping, or an array of records."""
    records = isinstance(given, np.ndarray) and given.dtype.names is not None
    return records or _is_table(given) or isinstance(given, Mapping)


def _is_table(given: Any) -> bool:
    return hasattr(type(given), "columns") or hasattr(type(given), "column_names")


def _refusal(given: Any) -> str | None:
    """Why something that is no array holds no items, with the way out; None where it may."""
    if is_missing(given) or isinstance(given, Number | np.generic):
        return f"{shown(given)} is no item: give a str, a pathlib.Path, an image, or a list of these"
    if _is_table(given):
        return f"{shown(given)} is a table: give one of its columns, such as table['text'], or a list"
    if isinstance(given, Mapping):
        return f"{shown(given)} holds names and values: give list(d.values()), or list(d) for the names"
    if isinstance(given, Set) and not isinstance(given, MappingView):
        return f"{shown(given)} has no order, and results are in the order of the items: give sorted(items)"
    if isinstance(given, io.IOBase) or hasattr(given, "readline"):
        return "an open file may be one item or many: give its pathlib.Path, or file.read().splitlines()"
    if isinstance(given, UserString) or _is_buffer(given):
        way = "str(text)" if isinstance(given, UserString) else "a str, or a NumPy array of an image"
        return f"{shown(given)} would be read by its characters or numbers: give {way}"
    if hasattr(given, "device") and hasattr(given, "shape"):
        return (
            f"{shown(given)} of shape {tuple(given.shape)} holds numbers: an image is given as a uint8 array, "
            "such as tensor.numpy(); vectors are no items"
        )
    return None
