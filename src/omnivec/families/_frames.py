"""Frames that convolutions make of a sound: how many there are, which are real, and norms over the real ones alone.

A worked example, a kernel of 3 with stride 2 after one of 2 with stride 2, on 11 samples padded to 15:

    sample    0  1  2  3  4  5  6  7  8  9 10 |11 12 13 14        field 6, stride 4
    frame 0   x  x  x  x  x  x                |                    frame i sees the samples 4 i ... 4 i + 5, so it is
    frame 1               x  x  x  x  x  x    |                    real if 4 i + 6 <= 11: frames 0 and 1 are, and
    frame 2                           x  x  x | x  x  x            frame 2, which sees padding, is not
"""

from __future__ import annotations

from collections.abc import Sequence

from omnivec.ops.base import Ops, Params, Value


def field_and_stride(kernels: Sequence[int], strides: Sequence[int]) -> tuple[int, int]:
    """The samples that a frame of a stack of convolutions sees, and the samples between the starts of two frames."""
    field = stride = 1
    for kernel, step in zip(kernels, strides, strict=True):
        field += (kernel - 1) * stride
        stride *= step
    return field, stride


def frames(samples: int, field: int, stride: int) -> int:
    """The number of frames that see only real samples."""
    return max((samples - field) // stride + 1, 0)


def real(ops: Ops, x: Value, axis: int, lengths: Value, field: int, stride: int) -> Value:
    """1.0 for the frames of x along an axis that see only real samples, else 0.0: lengths (n,) -> (n, t) float32."""
    last = ops.arange(x, axis) * stride + (field - 1)
    return ops.clip(ops.cast(lengths[:, None] - last[None, :], "float32"), 0.0, 1.0)


def zeroed(ops: Ops, x: Value, keep: Value) -> Value:
    """x with zeros in place of padded frames, in x's dtype; keep must broadcast to it."""
    return ops.where(keep, x, x * 0.0)


def masked_norm(ops: Ops, x: Value, p: Params, keep: Value, channels: int, eps: float) -> Value:
    """Group norm of x (n, c, t) with statistics over the real frames, keep (n, 1, t); padded frames become the bias.

    With `channels` 1 each channel is a group of its own; with c, all channels are one group.
    """
    axes = (2,) if channels == 1 else (1, 2)
    size = ops.sum(keep, 2, keep=True) * float(channels)
    centred = (x - ops.sum(x * keep, axes, keep=True) / size) * keep
    variance = ops.sum(centred * centred, axes, keep=True) / size
    return centred / ops.sqrt(variance + eps) * p["weight"][None, :, None] + p["bias"][None, :, None]
