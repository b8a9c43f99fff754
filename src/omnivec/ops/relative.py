"""Bucketed relative positions: each short distance has its own bucket, longer ones share buckets on a log scale.

Raffel et al. 2020, arXiv:1910.10683, section 2.1. Written with the operations, so that the table can be trained.

A worked example, `buckets(8, 8)`: four buckets for what is at or before a token, four for what comes after it.

    distance  -8 -7 -6 -5 -4   -3 -2   -1    0    1    2  3    4  5  6  7  8
    bucket     3  3  3  3  3    2  2    1    0    5    6  6    7  7  7  7  7

Distances 0 and 1 have a bucket each; 2 and 3 share one; 4 and beyond share the last. `relative_bias` clips the distance
of every pair of tokens to -8 ... 8 and adds `table[bucket]`, one number for each head, to the pair's attention score.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from omnivec.ops.base import Ops, Value


def buckets(count: int, furthest: int) -> NDArray[np.int32]:
    """The bucket of each distance from -furthest to furthest: int32 (2 * furthest + 1,).

    The upper half of the `count` buckets is for tokens that come later. In either half, the first half of the buckets
    hold one distance each; the others hold ever wider ranges up to `furthest`, and the last also all beyond.
    """
    distance = np.arange(-furthest, furthest + 1)
    half, single, far = count // 2, count // 4, np.abs(distance)
    # In float32 and in the published order of operations, so that distances at the edge of a bucket round alike.
    steps = np.log(np.maximum(far, 1).astype(np.float32) / np.float32(single))
    steps = steps / np.float32(np.log(furthest / single)) * np.float32(half - single)
    wide = np.minimum(single + steps.astype(np.int32), half - 1)
    return (np.where(far < single, far, wide) + np.where(distance > 0, half, 0)).astype(np.int32)


def relative_bias(ops: Ops, table: Value, x: Value, count: int, furthest: int) -> Value:
    """The bias that is added to attention scores: table (count, heads), x (n, t, ...) -> (1, heads, t, t)."""
    strip = ops.embedding(ops.constant(buckets(count, furthest)), table)
    place = ops.arange(x, 1)
    distance = ops.maximum(place[None, :] - place[:, None], -furthest)
    distance = -ops.maximum(-distance, -furthest)
    return ops.transpose(ops.embedding(distance + furthest, strip), (2, 0, 1))[None]
