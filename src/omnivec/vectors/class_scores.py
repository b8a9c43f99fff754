"""The classes of a model that was published with a linear classifier on its vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np

from omnivec.errors import UsageError
from omnivec.types import Floats
from omnivec.validation.arguments import real, whole
from omnivec.vectors.arrays import numbers
from omnivec.vectors.labels import probabilities


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """A linear classifier of vectors.

    Attributes:
        names: of the c classes.
        weight: (c, dim) float32.
        bias: (c,) float32.
        independent: whether several classes may hold at once, so that each probability is by itself (a sigmoid); else
            they sum to 1 (a softmax).
        norm_eps: eps of the layer norm, without weights, that a vector passes first; None for none. The weights of a
            layer norm can be contained in `weight` and `bias`.
    """

    names: tuple[str, ...]
    weight: Floats
    bias: Floats
    independent: bool = False
    norm_eps: float | None = None

    def probabilities(self, vectors: Floats) -> Floats:
        """The probability of each class: vectors (n, dim) -> (n, c) float32.

        Raises:
            UsageError: no array (n, dim), of another dim, or with numbers that are not finite.
        """
        rows = numbers("vectors", vectors, 2)
        if rows.shape[1] != self.weight.shape[1]:
            raise UsageError(
                f"vectors of {rows.shape[1]} components, but the classifier was trained on {self.weight.shape[1]}: "
                "give the model's vectors as they are, without dim= and without a trained head"
            )
        if not np.isfinite(rows).all():
            raise UsageError(
                f"vectors: {int((~np.isfinite(rows)).sum())} of {rows.size} numbers are not finite"
            )
        exact = rows.astype(np.float64)
        if self.norm_eps is not None:
            exact -= exact.mean(1, keepdims=True)
            exact /= np.sqrt((exact**2).mean(1, keepdims=True) + self.norm_eps)
        logits = exact @ self.weight.T.astype(np.float64) + self.bias
        return probabilities(logits, independent=self.independent)

    def describe(
        self, vectors: Floats, k: SupportsIndex = 5, least: float = 0.0
    ) -> list[list[tuple[str, float]]]:
        """The `k` most probable classes of each vector, with their probabilities, the most probable first.

        Args:
            vectors: (n, dim).
            k: largest number of classes of a vector.
            least: smallest probability of a class that is named.

        Raises:
            UsageError: as `probabilities`, or k or least out of range.
        """
        count, least = whole("k", k, 1), real("least", least, 0.0, 1.0)
        shares = self.probabilities(vectors)
        order = np.argsort(-shares, axis=1, kind="stable")[:, :count]
        return [
            [(self.names[i], float(row[i])) for i in best if row[i] >= least]
            for row, best in zip(shares, order, strict=True)
        ]
