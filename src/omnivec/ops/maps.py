"""Feature maps (n, c, h, w) as sequences of rows, and windows as rows of a batch, written with the operations."""

from __future__ import annotations

from omnivec.ops.base import Ops, Value


def rows(ops: Ops, x: Value) -> Value:
    """x (n, c, h, w) -> (n, h * w, c), row by row of the image: their mean is global average pooling."""
    return ops.transpose(ops.reshape(x, (0, 0, -1)), (0, 2, 1))


def by_item(ops: Ops, x: Value, like: Value) -> Value:
    """Vectors of windows, grouped by item again: x (n * t, d), like (n, t, ...) -> (n, t, d).

    A network reads windows of sounds as rows of one batch. Both n and t are dynamic, so that `reshape` cannot split
    the axis.
    """
    column = ops.arange(like, 1)[None]
    count = ops.max(column, 1, keep=True) + 1
    return ops.embedding(ops.arange(like, 0)[:, None] * count + column, x)
