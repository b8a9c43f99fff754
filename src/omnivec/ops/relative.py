"""Relative positions in buckets: each near distance has its own, far ones share by their logarithm.

Raffel et al. 2020, arXiv:1910.10683, section 2.1. Written in operations, so that the trained table learns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from omnivec.ops.base import Ops, Value


def buckets(count: int, furthest: int) -> NDArray[np.int32]:
    """The bucket of each distance -furthest ... furthest, as int32 (2 * furthest + 1,).

    Half of the `count` buckets are for what comes later. Of each half, half hold one distance each; the others
    widen up to `furthest`, and the last holds all that is further away.
    """
    distance = np.arange(-furthest, furthest + 1)
    half, single, far = count // 2, count // 4, np.abs(distance)
    # In float32 and in this order, as published: distances at a bucket's edge round the same way.
    steps = np.log(np.maximum(far, 1).astype(np.float32) / np.float32(single))
    steps = steps / np.float32(np.log(furthest / single)) * np.float32(half - single)
    wide = np.minimum(single + steps.astype(np.int32), half - 1)
    return (np.where(far < single, far, wide) + np.where(distance > 0, half, 0)).astype(np.int32)


def relative_bias(ops: Ops, table: Value, x: Value, count: int, furthest: int) -> Value:
    """What attention adds for distances: table (count, heads) and x (n, t, ...) of any length -> (1, heads, t, t)."""
    strip = ops.embedding(ops.constant(buckets(count, furthest)), table)
    place = ops.arange(x, 1)
    distance = ops.maximum(place[None, :] - place[:, None], -furthest)
    distance = -ops.maximum(-distance, -furthest)
    return ops.transpose(ops.embedding(distance + furthest, strip), (2, 0, 1))[None]
