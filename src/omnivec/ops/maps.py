"""Feature maps (n, c, h, w) as sequences of rows, written with the operations."""

from __future__ import annotations

from omnivec.ops.base import Ops, Value


def rows(ops: Ops, x: Value) -> Value:
    """x (n, c, h, w) -> (n, h * w, c), row by row of the image: their mean is global average pooling."""
    return ops.transpose(ops.reshape(x, (0, 0, -1)), (0, 2, 1))
