"""The protocol of a vector index, which finds the nearest vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from omnivec.errors import UsageError
from omnivec.types import Floats, Keys, Metric


def checked(vectors: Floats, dim: int, name: str) -> Floats:
    """Vectors as a contiguous array (n, dim) float32.

    Args:
        vectors: what the caller gave.
        dim: length of a vector in the index.
        name: of the argument, for messages.

    Raises:
        UsageError: the shape is another one, or a number is NaN or infinite.
    """
    array: Floats = np.ascontiguousarray(vectors, np.float32)
    if array.ndim != 2 or array.shape[1] != dim:
        raise UsageError(f"{name} are {array.shape}; this index takes (n, {dim})")
    if not np.isfinite(array).all():
        raise UsageError(f"{name} hold {int((~np.isfinite(array)).sum())} numbers that are NaN or infinite")
    return array


@runtime_checkable
class VectorIndex(Protocol):
    """Nearest neighbours among vectors known by their keys.

    A key names a passage and may have several vectors (its parts); a search returns it once, with the score of its best
    part. Higher scores are better: cosine, dot product or negative distance. Of equal scores the smaller key comes
    first. Several threads may search at a time.
    """

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def metric(self) -> Metric:
        """The metric by which vectors are compared."""
        ...

    @property
    def exact(self) -> bool:
        """Whether `search` returns the k best keys with their exact scores.

        If not, it returns candidates, perhaps fewer than k and in any order. A collection scores them again exactly,
        together with all vectors added since; if there are fewer than k, it scores all allowed vectors.
        """
        ...

    def __len__(self) -> int:
        """The number of vectors."""
        ...

    def add(self, keys: Keys, vectors: Floats) -> None:
        """Adds vectors; the vectors that these keys had before are replaced.

        Args:
            keys: (n,) int64, each not negative; the parts of one key come in one call.
            vectors: (n, dim) float32, finite.
        """
        ...

    def remove(self, keys: Keys) -> None:
        """Removes all vectors of these keys; unknown keys are ignored."""
        ...

    def search(self, queries: Floats, k: int, allowed: Keys | None = None) -> tuple[Keys, Floats]:
        """Finds the k best keys for each query.

        Args:
            queries: (q, dim) float32, finite.
            k: how many, at least 1.
            allowed: (m,) int64, the keys that may be found; None for all.

        Returns:
            keys (q, k) int64 and scores (q, k) float32, best first; -1 and -inf where fewer than k were found.
        """
        ...


Blocks = Callable[[], Iterator[tuple[Keys, Floats]]]
"""Reads the vectors of a space from its begin, in blocks of bounded size: keys (n,) int64, ascending over all blocks,
and vectors (n, dim) float32, finite. The vectors of one key are in one block."""


@runtime_checkable
class ApproximateIndex(VectorIndex, Protocol):
    """A vector index that proposes candidates, is built in bounded memory, and is stored in a file.

    Its `exact` is False. It holds codes of the vectors, or parts of them, so that it is small; a collection holds the
    vectors themselves, compares the candidates exactly, and leaves out those that were removed meanwhile. The same
    vectors in the same order give the same index.
    """

    @classmethod
    def build(cls, dim: int, metric: Metric, n: int, blocks: Blocks) -> Self:
        """Builds an index, and chooses how much of it a search reads by the recall that it measures.

        Args:
            dim: length of a vector.
            metric: by which vectors are compared.
            n: the number of vectors that one reading of `blocks` gives; may be 0.
            blocks: reads all vectors; may be called several times.
        """
        ...

    @classmethod
    def load(cls, path: Path, dim: int, metric: Metric) -> Self:
        """Reads an index that `save` wrote with these values of `dim` and `metric`.

        The caller has verified that the file is as it was written. More bytes may follow those of the index.

        Raises:
            CollectionError: the file holds no such index, or one of another version of the format.
        """
        ...

    def save(self, path: Path) -> None:
        """Writes the index to a file, from its begin; the caller takes care that nobody reads half of it."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """The parameters of the index and the recall measured when it was built, in JSON's types."""
        ...

    def candidates(self, k: int) -> int:
        """The number of candidates to search for, so that the k best keys are among them as often as `facts` states."""
        ...
