"""The protocol of a vector index: what finds the nearest vectors, and nothing else."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from omnivec.types import Floats, Keys, Metric


@runtime_checkable
class VectorIndex(Protocol):
    """Nearest neighbours among vectors known by their keys.

    A key names a passage and may have several vectors (its parts); it is found once, by its best part.
    Higher scores are better: cosine, dot product or negative distance. Ties go to the smaller key. Several threads may
    search at a time.
    """

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def metric(self) -> Metric:
        """What nearness means."""
        ...

    @property
    def exact(self) -> bool:
        """Whether `search` finds the best, with their scores.

        Otherwise what it finds are candidates, perhaps fewer than k and in an order of its own: a collection compares
        them exactly, beside all vectors that came later, and where they are fewer than k all that are allowed.
        """
        ...

    def __len__(self) -> int:
        """How many vectors there are."""
        ...

    def add(self, keys: Keys, vectors: Floats) -> None:
        """Adds vectors; the vectors that these keys had before are replaced.

        Args:
            keys: (n,) int64, each not negative; the parts of one key come in one call.
            vectors: (n, dim) float32, finite.
        """
        ...

    def remove(self, keys: Keys) -> None:
        """Removes all vectors of these keys; keys that are not there are no error."""
        ...

    def search(self, queries: Floats, k: int, allowed: Keys | None = None) -> tuple[Keys, Floats]:
        """Finds the k best keys for each query.

        Args:
            queries: (q, dim) float32, finite.
            k: how many, at least 1.
            allowed: (m,) int64, the only keys that may be found; None means all.

        Returns:
            keys (q, k) int64 and scores (q, k) float32, best first; -1 and -inf where fewer than k were found.
        """
        ...
