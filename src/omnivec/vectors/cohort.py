"""Normalisation of scores by a cohort: how far is a score above those of unrelated speakers?

Each side of a pair is compared with a cohort of other speakers. Its mean and standard deviation turn the score into a
distance from chance: s-norm with the whole cohort, adaptive s-norm (AS-norm) with the most similar speakers of it.
Matějka et al. 2017, doi:10.21437/Interspeech.2017-803.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omnivec.errors import UsageError
from omnivec.validation.arguments import whole
from omnivec.vectors.verification import unit_rows

Doubles = NDArray[np.float64]

LEAST = 100
"""Smallest number of speakers of a cohort."""

MANY, TOP = 1000, 300
"""In a cohort of `MANY` speakers or more, the `TOP` most similar are used by default; in a smaller one, all of them."""


@dataclass(frozen=True, eq=False)
class Cohort:
    """Vectors of speakers to compare scores with; made by `Cohort.fit`.

    Attributes:
        vectors: (speakers, dim) float64 of length 1, one for each speaker; `mean` is already subtracted.
        mean: (dim,) float64 that is subtracted from vectors before they are scaled to length 1; zeros if none is.
        top: number of most similar speakers that mean and standard deviation are taken over.
    """

    vectors: Doubles
    mean: Doubles
    top: int

    @classmethod
    def fit(
        cls,
        vectors: ArrayLike,
        speakers: Sequence[Any] | NDArray[Any] | None = None,
        *,
        top: int | None = None,
        center: bool = False,
    ) -> Cohort:
        """Makes a cohort.

        Args:
            vectors: (n, dim), of at least `LEAST` different speakers.
            speakers: (n,) the speaker of each vector, whose unit vectors are averaged; None if each is of another
                speaker.
            top: number of most similar speakers to use; by default all of them, or `TOP` from `MANY` speakers on.
            center: whether to subtract the cohort's mean from all vectors before cosines are computed.

        Raises:
            UsageError: too few speakers, a `top` out of range, or invalid vectors.
        """
        rows = unit_rows(vectors)
        if speakers is not None:
            rows = unit_rows(speaker_means(rows, speakers))
        if len(rows) < LEAST:
            raise UsageError(
                f"a cohort of {len(rows)} speakers: at least {LEAST} are needed, as fewer make scores worse; add "
                "speakers, or use the scores without a cohort"
            )
        mean = rows.mean(axis=0) if center else np.zeros(rows.shape[1])
        chosen = (len(rows) if len(rows) < MANY else TOP) if top is None else whole("top", top, 2, len(rows))
        return cls(unit_rows(rows - mean), mean, chosen)

    def __repr__(self) -> str:
        return f"<Cohort: {len(self.vectors):,} speakers, the {self.top:,} most similar are used>"

    def scores(self, vectors: ArrayLike) -> Doubles:
        """Cosines of vectors (n, dim) with all speakers of the cohort: (n, speakers) float64.

        Raises:
            UsageError: vectors of another length.
        """
        cosines: Doubles = self._centered(vectors, "vectors") @ self.vectors.T
        return cosines

    def normalize(self, a: ArrayLike, b: ArrayLike) -> Doubles:
        """Normalised scores of pairs of vectors.

        The cosine s of a pair becomes ((s - m_a) / d_a + (s - m_b) / d_b) / 2, where m and d are the mean and the
        standard deviation of each side's cosines with the cohort.

        Args:
            a: (n, dim), or (dim,) for one.
            b: (n, dim) the other side of each pair, or (dim,).

        Returns:
            (n,) float64. They are in standard deviations, not cosines, so that thresholds for cosines do not apply.

        Raises:
            UsageError: different numbers of vectors, or vectors of another length.
        """
        rows, others = self._centered(a, "a"), self._centered(b, "b")
        if len(rows) != len(others):
            raise UsageError(
                f"a has {len(rows)} vectors and b {len(others)}: pairs need the same number of both"
            )
        cosines: Doubles = np.einsum("ij,ij->i", rows, others)
        (mean, spread), (other_mean, other_spread) = self._statistics(rows), self._statistics(others)
        return _averaged((cosines - mean) / spread, (cosines - other_mean) / other_spread)

    def normalize_all(
        self, a: ArrayLike, b: ArrayLike, own: ArrayLike | None = None, other_own: ArrayLike | None = None
    ) -> Doubles:
        """Normalised scores of each vector of `a` (n, dim) with each of `b` (m, dim): (n, m) float64.

        Args:
            a: (n, dim).
            b: (m, dim).
            own: (n,) the row in `vectors` of the speaker of each vector of `a`, which is left out of its mean and
                standard deviation; None if the speakers are not in the cohort.
            other_own: (m,) the same for `b`.

        Raises:
            UsageError: vectors of another length.
        """
        rows, others = self._centered(a, "a"), self._centered(b, "b")
        cosines: Doubles = rows @ others.T
        mean, spread = self._statistics(rows, own)
        other_mean, other_spread = self._statistics(others, other_own)
        return _averaged((cosines - mean[:, None]) / spread[:, None], (cosines - other_mean) / other_spread)

    def _statistics(self, rows: Doubles, own: ArrayLike | None = None) -> tuple[Doubles, Doubles]:
        """Mean and standard deviation of each row's highest cosines with the cohort."""
        scores, top = rows @ self.vectors.T, self.top
        if own is not None:
            scores[np.arange(len(rows)), np.asarray(own, np.int64)] = -np.inf
            top = min(top, len(self.vectors) - 1)
        highest = np.partition(scores, len(self.vectors) - top, axis=1)[:, -top:]
        spread = highest.std(axis=1)
        if not (spread > 1e-9).all():
            raise UsageError(
                f"the {self.top} speakers of the cohort have the same vector: use a cohort of different speakers"
            )
        return highest.mean(axis=1), spread

    def _centered(self, vectors: ArrayLike, name: str) -> Doubles:
        rows = unit_rows(vectors, name)
        if rows.shape[1] != len(self.mean):
            raise UsageError(
                f"{name} has vectors of {rows.shape[1]} components and the cohort of {len(self.mean)}: they are of "
                "different models"
            )
        return unit_rows(rows - self.mean, name)


def _averaged(one: Doubles, other: Doubles) -> Doubles:
    mean: Doubles = (one + other) / 2
    return mean


def speaker_means(vectors: ArrayLike, speakers: Sequence[Any] | NDArray[Any]) -> Doubles:
    """Mean of the unit vectors of each speaker, in the order of their first vector: (speakers, dim) float64.

    Raises:
        UsageError: not one speaker for each vector.
    """
    rows = unit_rows(vectors)
    if len(speakers) != len(rows):
        raise UsageError(f"{len(speakers)} speakers for {len(rows)} vectors: one is needed for each")
    order: dict[Any, int] = {}
    listed = speakers.tolist() if isinstance(speakers, np.ndarray) else speakers
    codes = np.array([order.setdefault(one, len(order)) for one in listed], np.int64)
    sums: Doubles = np.zeros((len(order), rows.shape[1]))
    np.add.at(sums, codes, rows)
    return sums / np.bincount(codes, minlength=len(order))[:, None]
