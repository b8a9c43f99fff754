"""Queries that are vectors: which arguments are, and which space they are searched for in.

[0.1, 0.2], np.ones(384), a tensor or a column with one axis    a vector
uint8 (h, w) or (h, w, 3)                                       an image, as everywhere
np.ones((3, 384))                                               three vectors: `search_many`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ItemErrors, UsageError
from omnivec.inputs import modality as modalities
from omnivec.inputs.items import several, shown
from omnivec.models.embedder import Embedder
from omnivec.store.records import SpaceRecord
from omnivec.types import DENSE, SPARSE, Floats, SparseRow
from omnivec.vectors.arrays import numbers

_VECTOR = "a vector (dim,) of numbers"
_MANY = "a list of queries, or vectors (n, dim)"


def vector_of(query: Any) -> Floats | None:
    """Returns a query that is a vector as (dim,) float32; None if it is an item such as a text or an image.

    Raises:
        UsageError: it is several vectors or items, or has no numbers, or some that are not finite in float32.
    """
    array = _array_of(query)
    if array is None:
        return None
    if array.ndim != 1:
        raise UsageError(
            f"query of shape {array.shape} is {len(array):,} vectors: give one, or call search_many"
        )
    with np.errstate(over="ignore"):
        vector: Floats = np.ascontiguousarray(array, np.float32)
    # A finite sum of squares has finite numbers only, and is computed in a fraction of the time.
    if not np.isfinite(vector @ vector) and (wrong := int((~np.isfinite(vector)).sum())):
        raise UsageError(
            f"query has {wrong:,} numbers of {len(vector):,} that are NaN, infinite or beyond float32"
        )
    if not len(vector):
        raise UsageError("query is empty: give a vector (dim,), a text, a pathlib.Path or an image")
    return vector


def listed(queries: Any) -> list[Any]:
    """Returns the argument of several queries as a list; of an array (n, dim), its rows.

    Raises:
        UsageError: it is one vector, or contains no queries.
    """
    if not isinstance(queries, list | tuple):
        array = _array_of(queries)
        if array is not None and array.ndim == 2:
            return list(array)
        if array is not None and array.ndim == 1 and len(array):
            raise UsageError(f"queries of shape {array.shape} is one vector: call search, or give {_MANY}")
    elif len(queries) and _are_numbers(queries):
        raise UsageError(f"queries is one vector of {len(queries):,} numbers: call search, or give {_MANY}")
    return list(several(queries, "queries", "a str, a pathlib.Path, an image, a vector"))


def space_of(vector: Floats, spaces: Mapping[str, SpaceRecord], named: Sequence[str], folder: Any) -> str:
    """Returns the name of the space in which a vector is searched for.

    Args:
        vector: (dim,).
        spaces: the spaces of the collection by name, at least one.
        named: the names that the caller gave; without any, the only space of this dim.
        folder: of the collection, for messages.

    Raises:
        UsageError: several names were given, or the dim fits no space, another than the named one, or several.
    """
    if len(named) > 1:
        raise UsageError(f"space={list(named)!r}: a vector belongs to one space; name one")
    fitting = [name for name in named or spaces if spaces[name].dim == len(vector)]
    if len(fitting) == 1:
        return fitting[0]
    dims = ", ".join(f"{name} {record.dim:,}" for name, record in spaces.items())
    if not fitting:
        where = f"the space {named[0]!r} has not" if named else "no space has"
        raise UsageError(
            f"query has {len(vector):,} components, which {where}; dims of the spaces of {folder}: {dims}"
        )
    raise UsageError(
        f"query has {len(vector):,} components, as {len(fitting)} spaces of {folder} have: name one with space=; "
        f"dims of all spaces: {dims}"
    )


def in_space(vector: Floats, record: SpaceRecord) -> Any:
    """Returns a vector (dim,) as its space is searched: one part of kind "multi", its weights of kind "sparse"."""
    if record.kind == SPARSE:
        indices = np.flatnonzero(vector).astype(np.int64)
        return SparseRow(indices, vector[indices])
    return vector if record.kind == DENSE else vector[None]


def encoded(model: Embedder, items: list[Any]) -> tuple[dict[int, Any], dict[int, str]]:
    """Embeds queries; returns what each has in the model's space, and the reasons of those that failed."""
    if model.kind == DENSE:
        try:
            return dict(enumerate(model.encode_query(items))), {}
        except ItemErrors as error:
            return dict(error.partial), error.failures
    made = model.run(items, prompt=model.task_prompt("query") or None)
    return dict(made), made.failures


def _array_of(query: Any) -> NDArray[Any] | None:
    """Returns a query as an array if it consists of numbers; None if it is an item, or is not known."""
    if isinstance(query, str | bytes) or not hasattr(query, "__len__"):
        return None
    if isinstance(query, list | tuple):
        if not len(query) or _are_numbers(query):
            return numbers("query", list(query), 1, _VECTOR) if len(query) else np.zeros(0)
        if all(_are_numbers(row) for row in query):
            return numbers("query", query, 2, _VECTOR)
        raise UsageError(f"query is {shown(query)} of {len(query):,}: give one query, or call search_many")
    if isinstance(query, np.ndarray):
        is_image = query.dtype == np.uint8 and query.ndim in (2, 3)
        return None if is_image or query.dtype.kind not in "iuf" or query.ndim not in (1, 2) else query
    if any(record.accepts(query) for record in modalities.modalities().values()):
        return None
    if hasattr(query, "__array__") or _is_buffer(query):
        array = _converted(query)
        return array if array.dtype.kind in "iuf" and array.ndim in (1, 2) else None
    return None


def _converted(query: Any) -> NDArray[Any]:
    try:
        return np.asarray(query)
    except (TypeError, ValueError, RuntimeError) as error:  # tensors on a GPU, or with a gradient
        raise UsageError(
            f"query is {shown(query)}, which cannot become an array: give a NumPy array, such as "
            "tensor.detach().cpu().numpy()"
        ) from error


def _are_numbers(values: Any) -> bool:
    """Whether a list, tuple or array has one axis of numbers, none of them a bool."""
    if isinstance(values, np.ndarray):
        return values.ndim == 1 and values.dtype.kind in "iuf"
    return isinstance(values, list | tuple) and all(
        isinstance(one, Real | np.number) and not isinstance(one, bool | np.bool_) for one in values
    )


def _is_buffer(value: Any) -> bool:
    """Whether a value is a buffer of numbers, such as array.array."""
    try:
        with memoryview(value) as view:
            return view.format not in ("B", "b", "c")
    except TypeError:
        return False
