"""What follows the transformer of wav2vec 2.0 and its relatives: adapters, and x-vectors of voices."""

from __future__ import annotations

from typing import Any

from omnivec.families._frames import zeroed
from omnivec.ops.base import Ops, Params, Value

_EPS = 1e-5


def adapter_frames(config: Any, frames: int) -> int:
    """The number of frames that an adapter makes of a number of frames."""
    for _ in range(config.num_adapter_layers):
        frames = (frames + 2 - config.adapter_kernel_size) // config.adapter_stride + 1
    return frames


def adapter(ops: Ops, p: Params, config: Any, x: Value, keep: Value) -> Value:
    """The adapter (n, t, hidden) -> (n, s, output_hidden_size): strided convolutions with gates; keep is (n, t)."""
    if "proj" in p:
        x = ops.layer_norm(ops.linear(x, p["proj"]), p["proj_layer_norm"], _EPS)
    x, count = ops.transpose(x, (0, 2, 1)), ops.sum(keep, 1, keep=True)
    kernel, stride, width = config.adapter_kernel_size, config.adapter_stride, config.dim
    for i in range(config.num_adapter_layers):
        x = ops.conv(zeroed(ops, x, keep[:, None]), p[f"layers.{i}.conv"], [stride], [1])
        x = x[:, :width] * ops.sigmoid(x[:, width:])
        last = ops.cast(ops.arange(x, 2), "float32")[None, :] * float(stride) + float(kernel - 3)
        keep = ops.clip(count - last, 0.0, 1.0)
        count = ops.sum(keep, 1, keep=True)
    return ops.transpose(x, (0, 2, 1))


def tdnn_context(config: Any) -> int:
    """The number of frames before and after a frame of the x-vector head that it sees, together."""
    return sum((k - 1) * d for k, d in zip(config.tdnn_kernel, config.tdnn_dilation, strict=True))


def xvector(ops: Ops, p: Params, config: Any, x: Value, keep: Value) -> Value:
    """The x-vector of frames x (n, t, hidden), of which keep (n, t) are real -> (n, 1, xvector_output_dim).

    Snyder et al. 2018, DOI 10.1109/ICASSP.2018.8461375: dilated convolutions without padding, then the mean and the
    unbiased standard deviation over the frames.
    """
    x = ops.linear(x, p["projector"])
    for i, (kernel, dilation) in enumerate(zip(config.tdnn_kernel, config.tdnn_dilation, strict=True)):
        # The published weights (out, kernel * in) multiply the frames of a window, one after another.
        x = ops.relu(ops.linear(ops.concat(_windows(x, kernel, dilation), -1), p[f"tdnn.{i}.kernel"]))
    keep = keep[:, tdnn_context(config) :, None] if tdnn_context(config) else keep[:, :, None]
    count = ops.sum(keep, 1, keep=True)
    mean = ops.sum(zeroed(ops, x, keep), 1, keep=True) / count
    spread = ops.sqrt(ops.sum(zeroed(ops, (x - mean) * (x - mean), keep), 1, keep=True) / (count - 1.0))
    return ops.linear(ops.concat([mean, spread], -1), p["feature_extractor"])


def _windows(x: Value, kernel: int, dilation: int) -> list[Value]:
    """The first frames of all windows over x (n, t, c), their second frames, and so on: each (n, s, c)."""
    ends = [(j - kernel + 1) * dilation or None for j in range(kernel)]
    return [x[:, j * dilation : end] for j, end in enumerate(ends)]
