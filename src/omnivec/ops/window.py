"""Attention within a sliding window, written with the operations.

A worked example, four tokens and `reach` 2, each row a query and each column a key (. for 0, x for -1e4):

    window_bias    causal_bias    their sum
      . . x x        . x x x       . x x x
      . . . x        . . x x       . . x x
      x . . .        . . . x       x . . x
      x x . .        . . . .       x x . .

By itself, the window lets a token attend to those less than 2 away on either side; with the causal bias, to itself and
the one before it. Where both forbid a pair their sum is -2e4, whose softmax is 0 as well.
"""

from __future__ import annotations

from omnivec.ops.base import Ops, Value


def window_bias(ops: Ops, ids: Value, reach: int) -> Value:
    """A bias (t, t) for ids (n, t): 0 where two positions are less than `reach` apart, -1e4 where they are further.

    It is symmetric. Added to `Ops.causal_bias`, it leaves each token the last `reach` positions, its own included.
    """
    place = ops.cast(ops.arange(ids, 1), "float32")
    step = place[None, :] - place[:, None]
    distance = ops.maximum(step, -step)
    return ops.not_equal(ops.relu(distance - (reach - 1.0)), 0.0) * -1e4
