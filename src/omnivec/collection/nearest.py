"""The part of `Collection` that finds the nearest passages of many vectors, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from omnivec.collection import queries as vector_queries
from omnivec.collection.querying import Querying
from omnivec.errors import UsageError
from omnivec.store.records import ACTIVE
from omnivec.types import DENSE, Floats, Keys
from omnivec.validation import arguments
from omnivec.vectors.arrays import numbers


class Neighbours(Querying):
    """Finds keys and scores, array in and arrays out."""

    def nearest(
        self,
        vectors: Any,
        k: SupportsIndex = 10,
        space: str | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> tuple[Keys, Floats]:
        """Finds the k passages nearest to each of n vectors, as keys and scores; makes no hits.

        Args:
            vectors: (n, dim) numbers, finite in float32; or (dim,), which is one vector.
            k: number of passages for each vector.
            space: name of the space; None is the only one of this dim. Its kind must be "dense".
            where: a filter on metadata, as for `search`.

        Returns:
            keys (n, k) int64 and scores (n, k) float32, best first, in the metric of the space, higher is better; if
            fewer than k passages can be found, the keys are -1 and the scores -inf at the end. `ids_of` has the
            documents of keys. The key of a passage stays the same until its document is written again.

        Raises:
            FilterError: `where` cannot be parsed.
            UsageError: the dim fits no space, another than the named one, or several; a number is not finite; the space
                is of another kind.

        Examples:
            >>> keys, scores = notes.nearest(notes.model.encode(["money", "a kitten"]), k=1)
            >>> notes.ids_of(keys).tolist()
            [['budget 2026'], ['cat']]
        """
        most = arguments.whole("k", k)
        rows = _rows(vectors)
        with self._catalogue.snapshot():
            named = self._named(space)
            active = {name: one for name, one in self._spaces.records().items() if one.state == ACTIVE}
            allowed = None if where is None else self._catalogue.passage_keys(where)
            if not active or not len(rows):
                return _padded([], len(rows), most)
            chosen = vector_queries.space_of(rows[0], active, named, self.folder)
            if active[chosen].kind != DENSE:
                raise UsageError(
                    f"the space {chosen!r} is of the kind {active[chosen].kind!r}, and nearest searches dense ones: "
                    "use search"
                )
            return _padded(self._ranking.scored(chosen, rows, most, allowed), len(rows), most)

    def ids_of(self, keys: Any) -> NDArray[np.str_]:
        """Returns the ids of the documents that passages belong to.

        Args:
            keys: of passages, integers of any shape, as `nearest` returns them.

        Returns:
            An array of texts of the same shape; "" for -1 and for passages that are no longer in the collection.
        """
        listed = numbers("keys", keys, None, "integers, as nearest returns them")
        if listed.dtype.kind not in "iu":
            raise UsageError(f"keys are numbers of {listed.dtype}: give integers, as nearest returns them")
        unique, places = np.unique(listed, return_inverse=True)
        ids = self._catalogue.ids_of(unique.astype(np.int64))
        names = np.array([ids.get(key, "") for key in unique.tolist()], np.str_)
        return names[places].reshape(listed.shape) if len(unique) else np.zeros(listed.shape, np.str_)


def _rows(vectors: Any) -> Floats:
    """Vectors as (n, dim) float32; UsageError if they are none, or not finite."""
    array = numbers("vectors", vectors)
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or not array.shape[1]:
        raise UsageError(f"vectors of shape {array.shape}: give (n, dim), or one vector (dim,)")
    with np.errstate(over="ignore"):
        rows: Floats = np.ascontiguousarray(array, np.float32)
    finite = np.isfinite(rows)
    if not finite.all():
        wrong = int((~finite.all(axis=1)).sum())
        raise UsageError(
            f"{wrong:,} of {len(rows):,} vectors have numbers that are NaN, infinite or beyond float32"
        )
    return rows


def _padded(scored: list[tuple[Keys, Floats]], n: int, k: int) -> tuple[Keys, Floats]:
    """Lists of keys and scores as two arrays (n, k)."""
    if n and len(scored) == n and all(len(keys) == k for keys, _ in scored):
        return np.stack([keys for keys, _ in scored]), np.stack([own for _, own in scored])
    keys, scores = np.full((n, k), -1, np.int64), np.full((n, k), -np.inf, np.float32)
    for row, (found, own) in enumerate(scored):
        keys[row, : len(found)], scores[row, : len(found)] = found, own
    return keys, scores
