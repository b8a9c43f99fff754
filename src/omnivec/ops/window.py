"""Attention within a window of places, written in operations."""

from __future__ import annotations

from omnivec.ops.base import Ops, Value


def window_bias(ops: Ops, ids: Value, reach: int) -> Value:
    """(t, t): 0 where two places of ids (n, t) are less than `reach` apart, -1e4 further away.

    Symmetric: added to `Ops.causal_bias` it leaves the last `reach` places, each with its own.
    """
    place = ops.cast(ops.arange(ids, 1), "float32")
    step = place[None, :] - place[:, None]
    distance = ops.maximum(step, -step)
    return ops.not_equal(ops.relu(distance - (reach - 1.0)), 0.0) * -1e4
