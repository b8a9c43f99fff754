"""Random draws inside kernels: a generator in one number, words by their frequency, words that are left out.

A state is an odd-seeded 64-bit number (xorshift64*, Vigna 2016, arXiv:1402.6246); tables hold probabilities as
32-bit thresholds. An alias table (Walker 1977) takes one look for each draw, however many words there are: above, the
probability that a place stands for its own row; in the lower 32 bits, the row that it stands for otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import uint64
from numpy.typing import NDArray

from omnivec.tables.kernels.simd import inlined, lean, shared

FULL = 2**32

Alias = NDArray[np.uint64]


def alias_table(weights: NDArray[np.float64]) -> Alias:
    """The table by which rows are drawn in proportion to their weights."""
    shares: NDArray[np.float64] = weights * (len(weights) / weights.sum())
    others = np.arange(len(weights), dtype=np.int32)
    _pair(shares, others, np.flatnonzero(shares < 1.0), np.flatnonzero(shares >= 1.0))
    thresholds: Alias = (shares * FULL).clip(0, FULL - 1).astype(np.uint64)
    return thresholds << np.uint64(32) | others.astype(np.uint64)


def negatives_table(counts: NDArray[np.int64], exponent: float = 0.75) -> Alias:
    """The table of negative samples: counts to a power (Mikolov et al. 2013, arXiv:1310.4546, section 2.2)."""
    return alias_table(counts.astype(np.float64) ** exponent)


def keep_table(counts: NDArray[np.int64], sample: float) -> NDArray[np.uint32]:
    """How often each word is kept, as thresholds; word2vec.c's form of section 2.3; 0 keeps all.

    Args:
        counts: of all words of the corpus.
        sample: share of the corpus above which a word is thinned.
    """
    if not sample:
        return np.full(len(counts), FULL - 1, np.uint32)
    excess = sample * counts.sum() / counts
    keep: NDArray[np.uint32] = ((np.sqrt(excess) + excess) * FULL).clip(0, FULL - 1).astype(np.uint32)
    return keep


@lean
def _pair(shares: Any, others: Any, small: Any, large: Any) -> None:
    """Walker's pairing: each place that is not full is filled up by one that is more than full."""
    low, high = len(small), len(large)
    while low > 0 and high > 0:
        low -= 1
        poor, rich = small[low], large[high - 1]
        others[poor] = rich
        shares[rich] -= 1.0 - shares[poor]
        if shares[rich] < 1.0:
            high -= 1
            small[low] = rich
            low += 1


@inlined
def first_state(seed: Any, chunk: int) -> Any:
    """A state of the draws for a chunk (the finaliser of splitmix64)."""
    state = np.uint64(seed) + np.uint64(chunk + 1) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (state ^ (state >> np.uint64(31))) | np.uint64(1)


@shared
def advance(state: Any) -> Any:
    """The next state; never 0 where the first was not."""
    state = uint64(state)
    state ^= state >> uint64(12)
    state ^= state << uint64(25)
    state ^= state >> uint64(27)
    return state


@shared
def below(state: Any, limit: int) -> Any:
    """A number from 0 to limit - 1."""
    return np.int64(
        ((uint64(state) * uint64(2685821657736338717)) >> uint64(32)) * uint64(limit) >> uint64(32)
    )


@shared
def draw(state: Any, table: Any) -> Any:
    """A row of an alias table."""
    mixed = uint64(state) * uint64(2685821657736338717)
    place = ((mixed >> uint64(32)) * uint64(len(table))) >> uint64(32)
    entry = uint64(table[place])
    other = entry & uint64(FULL - 1)
    return np.int64(place if mixed & uint64(FULL - 1) < entry >> uint64(32) else other)


@shared
def thin(ids: Any, begin: int, end: int, keep: Any, state: int, kept: Any) -> tuple[int, int]:
    """Writes the words of a sentence that are kept; returns their number and the next state."""
    count = 0
    for i in range(begin, end):
        state = advance(state)
        kept[count] = ids[i]
        count += below(state, FULL) <= keep[ids[i]]
    return count, state
