"""Values of metadata as cells of a CSV file, and the names of columns that an export adds.

A cell is read by one rule: `2024`, `0.5`, `true`, `false` and `null` are what JSON reads them as, `NaN` is null, and so
are texts in double quotes, lists and dicts in JSON; an empty cell has no value; anything else, such as `007`, `1,5` or
`2024-01-05`, is a text. `cell_of` writes a value so that `value_of` reads it back.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

ID, TEXT = "id", "text"
MODALITY, PATH = "_modality", "_path"
PASSAGE, START, END, UNIT = "_passage", "_start", "_end", "_unit"
DAMAGE = "_damage"
"""Column of why a row is not verified, in what `salvage` leaves out."""

VECTOR, METADATA = "_vector.", "_metadata."
"""Beginnings of the columns of a space's vectors, and of metadata whose key is that of another column."""

JSON_MARK = {b"omnivec": b"json"}
"""Metadata of a Parquet column whose texts are JSON."""

NULL_MARK = {b"omnivec": b"null"}
"""Metadata of a Parquet column in which null is a value, and not the lack of one."""

RESERVED = (MODALITY, PATH, PASSAGE, START, END, UNIT, DAMAGE)


class Missing:
    """The type of MISSING: a document without this key."""


MISSING: Final = Missing()


def value_of(cell: str) -> Any:
    """The value of a cell; MISSING for an empty one. See the module for the rule."""
    if not cell:
        return MISSING
    if cell == "NaN":
        return None
    if cell[0] not in '"[{-0123456789tfn' and not cell[0].isspace():  # no JSON; most texts end here
        return cell
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    return cell if isinstance(value, float) and not math.isfinite(value) else value


def cell_of(value: Any) -> str:
    """A value of metadata as the cell that `value_of` reads as this value; MISSING gives an empty cell."""
    if value is MISSING:
        return ""
    if isinstance(value, str) and value and value_of(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def column_of(key: str, taken: tuple[str, ...]) -> str:
    """The column of a key of metadata: the key, or `_metadata.KEY` if that could be taken for another column."""
    return METADATA + key if not key or key.startswith("_") or key in taken else key


def key_of(column: str) -> str:
    """The key of metadata that a column holds."""
    return column.removeprefix(METADATA)


def is_reserved(column: str) -> bool:
    """Whether a column is one that an export adds, other than metadata."""
    return column in RESERVED or column.startswith(VECTOR)
