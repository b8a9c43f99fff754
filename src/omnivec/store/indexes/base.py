"""The protocol of a vector index, which finds the nearest vectors."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from omnivec.types import Floats, Keys, Metric


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
