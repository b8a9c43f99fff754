"""Scores of different spaces made comparable: how rare would a score be among things that have nothing to do with it?

A cosine of 0.3 may be the best in one space and the worst in another. Each query is therefore held against a sample
of all vectors of the space, and a hit's score becomes its surprise: -log10 of the share of the sample that would
score as high. Beyond the sample's upper fifth that share is continued as an exponential (peaks over a threshold,
Balkema and de Haan 1974, doi:10.1214/aop/1176996548, with the shape of the normal's own limit), so that good hits
are told apart however good they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omnivec.errors import UsageError
from omnivec.types import Floats, Ints

LEAST = 20
"""Scores that a background needs."""

TAIL = 0.2
"""Share of a background that its exponential is fitted to."""

HITS = 0.25
"""Share of that tail, at its top, whose size does not count."""


@dataclass(frozen=True, eq=False)
class Background:
    """How a query scores against things at random.

    Attributes:
        values: (m,) different scores, ascending, up to the threshold.
        shares: (m,) float64, of the sample that lies above each, ties counted half.
        scale: by which a score beyond the threshold multiplies its share by 1 / e.
    """

    values: NDArray[np.float64]
    shares: NDArray[np.float64]
    scale: float

    @property
    def threshold(self) -> float:
        """Where the exponential begins."""
        return float(self.values[-1])


def background(scores: ArrayLike) -> Background:
    """The background of one query.

    Args:
        scores: of the query and a random sample of the space's vectors, higher is better, at least `LEAST`; a few
            hundred do. A few of them may be hits
            themselves: up to HITS of TAIL, the twentieth part, they change little.

    Raises:
        UsageError: too few scores, or some that are not finite.
    """
    sample = np.sort(np.asarray(scores, np.float64).reshape(-1))
    if len(sample) < LEAST:
        raise UsageError(f"{len(sample)} scores make no background: at least {LEAST} are needed")
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
    """The likeliest mean of exponential excesses whose largest are known only to be large: they may be hits."""
    kept = len(excess) - int(len(excess) * HITS)
    censored = float(excess[:kept].sum() + (len(excess) - kept) * excess[kept - 1]) / kept
    spread = float(sample[-1] - sample[0])
    # What there is instead, for samples that are mostly ties.
    for scale in (censored, float(excess.mean()), spread / len(sample)):
        if scale > 1e-9 * max(spread, abs(float(sample[-1])), 1e-30):
            return scale
    return max(abs(float(sample[-1])), 1.0) * 1e-6


def surprise(scores: ArrayLike, of: Background) -> NDArray[np.float64]:
    """-log10 of the share of the background that scores as high: 1 for the best tenth, 2 for the best hundredth, ...

    It rises with the score, without a limit, and does not change when all scores of a space are shifted or scaled.

    Args:
        scores: (...) of the query's hits.
        of: the query's background in the same space.
    """
    values = np.asarray(scores, np.float64)
    inside = -np.log10(np.interp(values, of.values, of.shares))
    beyond = np.maximum(values - of.threshold, 0.0) / (of.scale * math.log(10))
    total: NDArray[np.float64] = inside + beyond
    return total


def rank_together(
    scores: Sequence[ArrayLike], backgrounds: Sequence[Background], k: int = 10
) -> tuple[Ints, Ints, Floats]:
    """The best hits of one query over several spaces.

    Args:
        scores: of each space the scores (n,) of its hits, as its own search gave them.
        backgrounds: the query's, one for each space.
        k: how many.

    Returns:
        Of each of at most k hits, best first: the place of its space, its place in that space's scores, its surprise.

    Raises:
        UsageError: not one background for each space.
    """
    if len(scores) != len(backgrounds) or not scores:
        raise UsageError(f"{len(scores)} spaces and {len(backgrounds)} backgrounds: one is needed for each")
    surprises = [surprise(row, of).reshape(-1) for row, of in zip(scores, backgrounds, strict=True)]
    spaces = np.repeat(np.arange(len(surprises)), [len(one) for one in surprises])
    places = np.concatenate([np.arange(len(one)) for one in surprises])
    values = np.concatenate(surprises)
    best = np.argsort(-values, kind="stable")[:k]
    return spaces[best], places[best], values[best].astype(np.float32)
