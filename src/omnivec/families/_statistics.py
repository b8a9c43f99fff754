"""Statistics over time of sounds that differ in length, in a batch that is padded to the longest.

The rows of a sound are (n, c, ..., t) here: channels first, time last, as convolutions take them.
"""

from __future__ import annotations

from omnivec.ops.base import Ops, Value

FLOOR = 1e-12
"""Least variance, so that the root has a gradient."""


def inside(ops: Ops, x: Value, axis: int, lengths: Value, stride: int = 1) -> Value:
    """Where the real positions of an axis are: 1.0 for those of each row's own length, 0.0 for padding.

    Args:
        ops: operations of an engine.
        x: value whose axis is meant, of any shape.
        axis: number of the axis.
        lengths: (n,) integers, the real number of input positions.
        stride: number of input positions that one position stands for; position i is real if i * stride < length.

    Returns:
        (n, size of the axis) float32.
    """
    places = ops.cast(ops.arange(x, axis), "float32") * float(stride)
    return ops.clip(ops.cast(lengths, "float32")[:, None] - places[None], 0.0, 1.0)


def mean_and_std(
    ops: Ops, x: Value, weights: Value, *, unbiased: bool = False, floor: float = FLOOR, eps: float = 0.0
) -> tuple[Value, Value]:
    """Weighted mean and standard deviation over the last axis: x (n, c, t) -> two of (n, c).

    Args:
        ops: operations of an engine.
        x: values (n, c, t).
        weights: (n, 1, t) or (n, c, t), not negative: the positions to use, from `inside`, or shares of attention.
        unbiased: whether the variance is divided by the sum of the weights less one.
        floor: least variance.
        eps: what is added to the variance.
    """
    total = ops.sum(weights, -1, keep=True)
    mean = ops.sum(x * weights, -1, keep=True) / total
    deviation = x - mean
    squares = ops.sum(deviation * deviation * weights, -1, keep=True)
    variance = squares / (ops.maximum(total - 1.0, 1e-9) if unbiased else total)
    std = ops.sqrt(ops.maximum(variance + eps, floor))
    return mean[..., 0], std[..., 0]


def masked_softmax(ops: Ops, scores: Value, real: Value) -> Value:
    """Softmax over the last axis: scores (n, c, t), real (n, 1, t) of 1.0 and 0.0; padding gets a share of 0."""
    return ops.softmax(scores + (real - 1.0) * 1e4, -1)
