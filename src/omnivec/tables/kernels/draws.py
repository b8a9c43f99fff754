"""Random draws inside kernels: a one-word generator, draws in proportion to weights, and subsampling.

The generator is xorshift64* (Vigna 2016, arXiv:1402.6246), whose state is a 64-bit number other than 0. Probabilities
are stored as 32-bit thresholds. An alias table (Walker 1977) needs one lookup per draw, however many rows there are:
entry i holds, in its upper 32 bits, the probability that i itself is drawn and, in its lower 32 bits, the row drawn
otherwise.

Example, weights [1, 2, 5], which are [0.375, 0.75, 1.875] of the mean weight:

    entry       0                       1                       2
    table       0x60000000_00000002     0xC0000000_00000002     0xFFFFFFFF_00000002
    meaning     p(0) = 0.375, else 2    p(1) = 0.75, else 2     always 2
    each entry is chosen with probability 1 / 3, so row 0 is drawn with probability 0.125, row 1 0.25, row 2 0.625
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
    """The alias table that draws rows in proportion to their weights."""
    shares: NDArray[np.float64] = weights * (len(weights) / weights.sum())
    others = np.arange(len(weights), dtype=np.int32)
    _pair(shares, others, np.flatnonzero(shares < 1.0), np.flatnonzero(shares >= 1.0))
    thresholds: Alias = (shares * FULL).clip(0, FULL - 1).astype(np.uint64)
    return thresholds << np.uint64(32) | others.astype(np.uint64)


def negatives_table(counts: NDArray[np.int64], exponent: float = 0.75) -> Alias:
    """The alias table of negative samples, drawn by counts ** exponent (arXiv:1310.4546, section 2.2)."""
    return alias_table(counts.astype(np.float64) ** exponent)


def keep_table(counts: NDArray[np.int64], sample: float) -> NDArray[np.uint32]:
    """The probability with which subsampling keeps each word (v,), as thresholds below 2**32.

    By the formula of word2vec.c for section 2.3: min(1, sqrt(r) + r), where r is `sample` divided by the word's share
    of the corpus. With sample=0.01, words that make up 90 %, 9 % and 1 % of the corpus are kept with probability
    0.117, 0.444 and 1.

    Args:
        counts: (v,) of all words of the corpus.
        sample: share of the corpus above which a word is subsampled, about; 0 keeps all.
    """
    if not sample:
        return np.full(len(counts), FULL - 1, np.uint32)
    excess = sample * counts.sum() / counts
    keep: NDArray[np.uint32] = ((np.sqrt(excess) + excess) * FULL).clip(0, FULL - 1).astype(np.uint32)
    return keep


@lean
def _pair(shares: Any, others: Any, small: Any, large: Any) -> None:
    """Walker's pairing: each row with a share below 1 is filled up with the share of a row above 1."""
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
    """The initial state for a chunk (the finaliser of SplitMix64), never 0."""
    state = np.uint64(seed) + np.uint64(chunk + 1) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (state ^ (state >> np.uint64(31))) | np.uint64(1)


@shared
def advance(state: Any) -> Any:
    """The next state; never 0 if `state` is not 0."""
    state = uint64(state)
    state ^= state >> uint64(12)
    state ^= state << uint64(25)
    state ^= state >> uint64(27)
    return state


@shared
def below(state: Any, limit: int) -> Any:
    """A random number from 0 to limit - 1."""
    # The upper 32 bits of the scrambled state, as a fraction of 2**32, times the limit: no slow modulo.
    return np.int64(
        ((uint64(state) * uint64(2685821657736338717)) >> uint64(32)) * uint64(limit) >> uint64(32)
    )


@shared
def draw(state: Any, table: Any) -> Any:
    """A random row of an alias table."""
    # The upper half of the scrambled state chooses an entry, the lower half between its two rows.
    mixed = uint64(state) * uint64(2685821657736338717)
    place = ((mixed >> uint64(32)) * uint64(len(table))) >> uint64(32)
    entry = uint64(table[place])
    other = entry & uint64(FULL - 1)
    return np.int64(place if mixed & uint64(FULL - 1) < entry >> uint64(32) else other)


@shared
def thin(ids: Any, begin: int, end: int, keep: Any, state: int, kept: Any) -> tuple[int, int]:
    """Subsampling: writes the words ids[begin:end] that are kept to `kept`; returns their number and the next state."""
    count = 0
    for i in range(begin, end):
        state = advance(state)
        kept[count] = ids[i]
        count += below(state, FULL) <= keep[ids[i]]
    return count, state
