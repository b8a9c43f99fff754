"""Makes scores of different spaces comparable: how rare is a score among those of unrelated items?

A cosine of 0.3 may be the best in one space and the worst in another. Each query is therefore compared with a sample
of all vectors of the space, and the score of a hit becomes its surprise: -log10 of the share of the sample that scores
as high. Within the sample's upper fifth and beyond it, the share is extrapolated by an exponential (peaks over
threshold, Balkema and de Haan 1974, doi:10.1214/aop/1176996548; the exponential is the limit for normal scores), so
that good hits differ in surprise however good they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omnivec.errors import UsageError
from omnivec.types import Floats, Ints
from omnivec.validation.arguments import said, whole
from omnivec.vectors.arrays import numbers

LEAST = 20
"""Fewest scores of a background."""

TAIL = 0.2
"""Share of a background to which the exponential is fitted."""

HITS = 0.25
"""Share of that tail, at its top, of which only the number is used, as these scores may be hits."""


SCORES = "scores (n,), as a search returns them"


@dataclass(frozen=True, eq=False)
class Background:
    """The distribution of a query's scores against random vectors of a space.

    Attributes:
        values: (m,) different scores, ascending, up to the threshold.
        shares: (m,) float64, the share of the sample above each, ties counted half.
        scale: the difference of scores beyond the threshold that divides the share by e.
    """

    values: NDArray[np.float64]
    shares: NDArray[np.float64]
    scale: float

    @property
    def threshold(self) -> float:
        """The score at which the exponential begins."""
        return float(self.values[-1])


def background(scores: ArrayLike) -> Background:
    """The background of one query.

    Args:
        scores: of the query against a random sample of the space's vectors, higher is better; at least `LEAST`, a few
            hundred are enough. Up to a share of HITS * TAIL, one in twenty, may be hits without changing it much.

    Raises:
        UsageError: too few scores, or some that are not finite.
    """
    sample = np.sort(numbers("scores", scores, expected=SCORES).astype(np.float64).reshape(-1))
    if len(sample) < LEAST:
        raise UsageError(f"{len(sample)} scores are too few for a background: at least {LEAST} are needed")
    if not np.isfinite(sample).all():
        raise UsageError(f"{int((~np.isfinite(sample)).sum())} of {len(sample)} scores are not finite")
    count = len(sample)
    above = max(round(count * TAIL), LEAST // 2)
    threshold = sample[count - above - 1]
    values, times = np.unique(sample, return_counts=True)
    shares = 1.0 - (np.cumsum(times) - times / 2) / count
    body = values <= threshold
    return Background(values[body], shares[body], _scale(sample, sample[count - above :] - threshold))


def _scale(sample: NDArray[np.float64], excess: NDArray[np.float64]) -> float:
    """The maximum-likelihood scale of exponential excesses, the largest censored because they may be hits."""
    uncensored = len(excess) - int(len(excess) * HITS)
    censored = (
        float(excess[:uncensored].sum() + (len(excess) - uncensored) * excess[uncensored - 1]) / uncensored
    )
    spread = float(sample[-1] - sample[0])
    # The others are fallbacks for samples that are mostly ties.
    for scale in (censored, float(excess.mean()), spread / len(sample)):
        if scale > 1e-9 * max(spread, abs(float(sample[-1])), 1e-30):
            return scale
    return max(abs(float(sample[-1])), 1.0) * 1e-6


def surprise(scores: ArrayLike, of: Background) -> NDArray[np.float64]:
    """-log10 of the share of the background that scores as high: 1 for the best tenth, 2 for the best hundredth, ...

    It increases with the score without limit, and does not change if all scores of a space are shifted or scaled.

    Args:
        scores: (...) of the query's hits.
        of: the query's background in the same space.
    """
    values = numbers("scores", scores, expected=SCORES).astype(np.float64)
    # Rounding must not put a score just below a sampled one above it.
    after = np.minimum(np.searchsorted(of.values, values), len(of.values) - 1)
    inside = -np.log10(np.maximum(np.interp(values, of.values, of.shares), of.shares[after]))
    beyond = np.maximum(values - of.threshold, 0.0) / (of.scale * math.log(10))
    total: NDArray[np.float64] = inside + beyond
    return total


def rank_together(
    scores: Sequence[ArrayLike], backgrounds: Sequence[Background], k: SupportsIndex = 10
) -> tuple[Ints, Ints, Floats]:
    """The best hits of one query over several spaces.

    Args:
        scores: for each space, the scores (n,) of its hits, as its search returned them.
        backgrounds: of the query, one for each space.
        k: how many.

    Returns:
        Three arrays for at most k hits, best first: index of the space, index in the scores of that space, surprise.

    Raises:
        UsageError: the number of backgrounds is not that of the spaces, or there are none; invalid scores or k.
    """
    for name, value in (("scores", scores), ("backgrounds", backgrounds)):
        if not isinstance(value, Sized) or isinstance(value, str | bytes):
            raise UsageError(f"{name}={said(value)}: give a list with one element for each space")
    if len(scores) != len(backgrounds) or not len(scores):
        raise UsageError(f"{len(scores)} spaces and {len(backgrounds)} backgrounds: one is needed for each")
    if wrong := [each for each in backgrounds if not isinstance(each, Background)]:
        raise UsageError(f"backgrounds has {said(wrong[0])}: give what `background` returns")
    surprises = [surprise(row, of).reshape(-1) for row, of in zip(scores, backgrounds, strict=True)]
    spaces = np.repeat(np.arange(len(surprises)), [len(one) for one in surprises])
    places = np.concatenate([np.arange(len(one)) for one in surprises])
    values = np.concatenate(surprises)
    best = np.argsort(-values, kind="stable")[: whole("k", k, least=0)]
    return spaces[best], places[best], values[best].astype(np.float32)
