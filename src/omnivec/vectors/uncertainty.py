"""Which items to label next: those of which a classifier is least sure, and which differ from each other.

Settles 2009, Active Learning Literature Survey, sections 2.1 (margin, entropy) and 4.1 (density and diversity).
"""

from __future__ import annotations

from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omnivec.errors import UsageError
from omnivec.types import Ints
from omnivec.validation.arguments import choice, whole
from omnivec.vectors.arrays import numbers
from omnivec.vectors.unit import unit

Doubles = NDArray[np.float64]


def uncertainty(probabilities: ArrayLike, measure: str = "margin") -> Doubles:
    """How unsure predictions are: (n, classes) -> (n,) from 0, certain, to 1, all classes equally probable.

    Args:
        probabilities: (n, classes), of two classes or more.
        measure: "margin": 1 minus the difference of the two highest probabilities; "entropy", divided by that of
            equal probabilities.

    Raises:
        UsageError: other shapes, or numbers outside of 0 to 1.
    """
    shares = numbers("probabilities", probabilities, 2, "probabilities (n, classes)").astype(np.float64)
    if shares.shape[1] < 2:
        raise UsageError(f"probabilities of shape {shares.shape}: at least two classes are needed")
    if not ((shares >= 0) & (shares <= 1 + 1e-6)).all():  # false for NaN too
        raise UsageError("probabilities: some are not between 0 and 1")
    if choice("measure", measure, ("margin", "entropy")) == "margin":
        highest = np.partition(shares, -2, axis=1)[:, -2:]
        return 1 - (highest[:, 1] - highest[:, 0])
    logs = np.log(np.where(shares > 0, shares, 1.0))
    entropy: Doubles = -(shares * logs).sum(axis=1) / np.log(shares.shape[1])
    return entropy


def most_uncertain(
    probabilities: ArrayLike,
    n: SupportsIndex,
    vectors: ArrayLike | None = None,
    *,
    measure: str = "margin",
) -> Ints:
    """The items that are worth labelling next.

    Without vectors, the n most uncertain ones. With vectors, the most uncertain one first, then each time the one with
    the highest product of its uncertainty and its distance, 1 - cosine, from the nearest that was taken: so that ten
    copies of one item are not asked ten times. The result is deterministic; of equal items the first is taken.

    Args:
        probabilities: (m, classes).
        n: how many; all m if there are fewer.
        vectors: (m, dim) of the items, for diversity.
        measure: as for `uncertainty`.

    Returns:
        (min(n, m),) int64, indices of the items, the most useful first.

    Raises:
        UsageError: as `uncertainty`; or not one vector for each item.
    """
    unsure = uncertainty(probabilities, measure)
    count = min(whole("n", n), len(unsure))
    if vectors is None:
        return np.argsort(-unsure, kind="stable")[:count].astype(np.int64)
    rows = numbers("vectors", vectors, 2).astype(np.float64)
    if len(rows) != len(unsure) or not np.isfinite(rows).all():
        raise UsageError(
            f"{len(rows)} vectors for {len(unsure)} items: one of finite numbers is needed for each"
        )
    directions = unit(rows)
    distance = np.full(len(rows), 2.0)
    taken: list[int] = []
    for _ in range(count):
        gain = unsure * distance
        gain[taken] = -1.0
        # Where only copies of taken items are left, the most uncertain is next.
        best = int(gain.argmax()) if gain.max() > 0 else int(np.argmax(np.where(gain < 0, -1.0, unsure)))
        taken.append(best)
        distance = np.minimum(distance, np.clip(1 - directions @ directions[best], 0, 2))
    return np.array(taken, np.int64)
