"""The operations on torch: for training, for GPUs, and as the reference that the OpenVINO engine is tested against.

The only module outside `training` that imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from omnivec.errors import ModelError, UsageError
from omnivec.ops.base import (
    Batch,
    EngineSettings,
    Foreign,
    Input,
    Padding,
    PadMode,
    Params,
    Program,
    Stored,
    Value,
)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int32": torch.int32}


class TorchOps:
    """The operations as torch calls; `ops.base.Ops` documents them."""

    def __init__(self, training: bool = False, device: torch.device | str = "cpu") -> None:
        self.training = training
        self.states: list[Value] = []
        self._device = device

    def constant(self, array: NDArray[Any]) -> Value:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def embedding(self, ids: Value, table: Value) -> Value:
        return F.embedding(ids.long(), table)

    def linear(self, x: Value, p: Params) -> Value:
        weight = p["weight"]
        return F.linear(x.to(weight.dtype), weight, p["bias"] if "bias" in p else None)

    def mix_tokens(self, x: Value, shares: NDArray[np.float32]) -> Value:
        return (self.constant(shares) @ x.float()).to(x.dtype)

    def layer_norm(self, x: Value, p: Params, eps: float) -> Value:
        return F.layer_norm(x, x.shape[-1:], p["weight"], p["bias"] if "bias" in p else None, eps)

    def rms_norm(self, x: Value, weight: Value, eps: float) -> Value:
        return F.rms_norm(x, x.shape[-1:], weight, eps)

    def group_norm(self, x: Value, p: Params, groups: int, eps: float) -> Value:
        return F.group_norm(x, groups, p["weight"], p["bias"], eps)

    def batch_norm(self, x: Value, p: Params, eps: float, momentum: float = 0.1) -> Value:
        return F.batch_norm(
            x, p["running_mean"], p["running_var"], p["weight"], p["bias"], self.training, momentum, eps
        )

    def normalize(self, x: Value, eps: float = 1e-12) -> Value:
        return F.normalize(x, dim=-1, eps=eps)

    def gelu(self, x: Value, approximate: Literal["none", "tanh"] = "none") -> Value:
        return F.gelu(x, approximate=approximate)

    def relu(self, x: Value) -> Value:
        return F.relu(x)

    def silu(self, x: Value) -> Value:
        return F.silu(x)

    def sigmoid(self, x: Value) -> Value:
        return torch.sigmoid(x)

    def tanh(self, x: Value) -> Value:
        return torch.tanh(x)

    def exp(self, x: Value) -> Value:
        return torch.exp(x)

    def log(self, x: Value) -> Value:
        return torch.log(x)

    def sqrt(self, x: Value) -> Value:
        return torch.sqrt(x)

    def maximum(self, x: Value, y: Value | float) -> Value:
        return torch.clamp(x, min=y) if isinstance(y, int | float) else torch.maximum(x, y)

    def clip(self, x: Value, low: float, high: float) -> Value:
        return torch.clamp(x, low, high)

    def not_equal(self, x: Value, number: float) -> Value:
        return (x != number).to(torch.float32)

    def softmax(self, x: Value, axis: int = -1) -> Value:
        return torch.softmax(x, dim=axis)

    def dropout(self, x: Value, rate: float) -> Value:
        return F.dropout(x, rate, self.training)

    def attention(
        self,
        q: Value,
        k: Value,
        v: Value,
        bias: Value | None,
        scale: float,
        dropout: float = 0.0,
        cap: float = 0.0,
    ) -> Value:
        mask = None if bias is None else bias.to(q.dtype)
        rate = dropout if self.training else 0.0
        if not cap:
            return F.scaled_dot_product_attention(q, k, v, mask, dropout_p=rate, scale=scale)
        scores = torch.tanh(q @ k.transpose(-1, -2) * (scale / cap)) * cap
        weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
        return F.dropout(weights, rate, self.training) @ v

    def alibi_attention(
        self,
        q: Value,
        k: Value,
        v: Value,
        bias: Value,
        slopes: NDArray[np.float32],
        scale: float,
        dropout: float = 0.0,
    ) -> Value:
        return self.attention(q, k, v, bias * self.constant(slopes[:, None, None]), scale, dropout)

    def padding_bias(self, mask: Value) -> Value:
        return ((mask.to(torch.float32) - 1.0) * 1e4)[:, None, None, :]

    def causal_bias(self, mask: Value) -> Value:
        t = mask.shape[1]
        past = torch.ones(t, t, device=mask.device).tril()
        return ((past * mask.to(torch.float32)[:, None, None, :]) - 1.0) * 1e4

    def repeat_heads(self, x: Value, times: int) -> Value:
        return x.repeat_interleave(times, 1)

    def rotary(self, x: Value, cos: Value, sin: Value) -> Value:
        half = x.shape[-1] // 2
        rotated = torch.cat([-x[..., half:], x[..., :half]], -1)
        return x * cos.to(x.dtype) + rotated * sin.to(x.dtype)

    def conv(
        self,
        x: Value,
        p: Params,
        stride: Sequence[int],
        padding: Padding,
        dilation: Sequence[int] = (),
        groups: int = 1,
    ) -> Value:
        call = (F.conv1d, F.conv2d, F.conv3d)[len(stride) - 1]
        ones, weight = list(dilation or [1] * len(stride)), p["weight"]
        if padding == "same":
            spans = [step * (k - 1) + 1 for step, k in zip(ones, weight.shape[2:], strict=True)]
            missing = [
                max((math.ceil(size / step) - 1) * step + span - size, 0)
                for size, step, span in zip(x.shape[2:], stride, spans, strict=True)
            ]
            padding = [(total // 2, total - total // 2) for total in missing]
        pads = [(k, k) if isinstance(k, int) else k for k in padding]
        if any(before != after for before, after in pads):
            # F.pad takes the last axis first.
            x, pads = F.pad(x, [k for pair in reversed(pads) for k in pair]), [(0, 0)] * len(pads)
        bias = p["bias"] if "bias" in p else None
        return call(x.to(weight.dtype), weight, bias, list(stride), [k for k, _ in pads], ones, groups)

    def max_pool(
        self, x: Value, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
    ) -> Value:
        call = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
        return call(x, list(kernel), list(stride), list(padding))

    def adaptive_mean(self, x: Value, size: Sequence[int]) -> Value:
        call = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[len(size) - 1]
        return call(x, list(size))

    def lstm(self, x: Value, p: Params, lengths: Value, bidirectional: bool = False) -> tuple[Value, Value]:
        names = [
            f"{kind}_l0{end}"
            for end in (["", "_reverse"] if bidirectional else [""])
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        weights = [p[name] for name in names]
        x = x.to(weights[0].dtype)
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x, lengths.long().cpu(), batch_first=True, enforce_sorted=False
        )
        hidden = weights[1].shape[1]
        zero = x.new_zeros(2 if bidirectional else 1, x.shape[0], hidden)
        data, h, _ = torch.lstm(
            packed.data, packed.batch_sizes, (zero, zero), weights, True, 1, 0.0, self.training, bidirectional
        )
        out = torch.nn.utils.rnn.PackedSequence(
            data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices
        )
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])
        last = h[:, packed.unsorted_indices] if packed.unsorted_indices is not None else h
        return y, last.transpose(0, 1).reshape(x.shape[0], -1)

    def lstm_from(self, x: Value, p: Params, h: Value, c: Value) -> tuple[Value, Value, Value]:
        weights = [p[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        y, h, c = torch.lstm(x, (h[None], c[None]), weights, True, 1, 0.0, self.training, False, True)
        return y, h[0], c[0]

    def mean(self, x: Value, axis: int | Sequence[int], keep: bool = False) -> Value:
        return x.mean(axis, keepdim=keep)

    def sum(self, x: Value, axis: int | Sequence[int], keep: bool = False) -> Value:
        return x.sum(axis, keepdim=keep)

    def max(self, x: Value, axis: int | Sequence[int], keep: bool = False) -> Value:
        return x.amax(axis, keepdim=keep)

    def cumsum(self, x: Value, axis: int) -> Value:
        return torch.cumsum(x, axis).to(x.dtype)

    def arange(self, x: Value, axis: int) -> Value:
        return torch.arange(x.shape[axis], device=x.device, dtype=torch.int32)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape)])

    def pad(
        self,
        x: Value,
        before: int,
        after: int,
        mode: PadMode = "zeros",
        lengths: Value | None = None,
    ) -> Value:
        size = x.shape[-1]
        last = (x.new_full((x.shape[0],), size) if lengths is None else lengths).long()[:, None] - 1
        place = torch.arange(-before, size + after, device=x.device)[None]
        index = torch.minimum(place.clamp(min=0), last)
        if mode == "reflect":
            index = (last - (last - place.abs()).abs()).clamp(min=0)
        middle = [1] * (x.ndim - 2)
        y = x.gather(-1, index.reshape(-1, *middle, index.shape[1]).expand(*x.shape[:-1], -1))
        inside = (place >= 0) & (place <= last)
        return y * inside.reshape(-1, *middle, index.shape[1]).to(y.dtype) if mode == "zeros" else y

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        return x.permute(*order)

    def concat(self, xs: Sequence[Value], axis: int) -> Value:
        return torch.cat(list(xs), axis)

    def expand(self, x: Value, like: Value) -> Value:
        return x.expand(like.shape[0], *x.shape[1:])

    def take(self, x: Value, index: Value) -> Value:
        return x[torch.arange(x.shape[0], device=x.device), index.long()]

    def where(self, condition: Value, x: Value, y: Value) -> Value:
        return torch.where(condition.bool(), x, y)

    def cast(self, x: Value, dtype: Literal["float32", "int32"]) -> Value:
        return x.to(DTYPES[dtype])

    def foreign(self, network: Foreign, inputs: Sequence[Value], p: Params) -> list[Value]:
        return network(inputs, p, self.training)

    def state(self, x: Value) -> Value:
        self.states.append(x)
        return x

    # Former names, which families of other packages may call.
    mixed = mix_tokens
    sloped_attention = alibi_attention


def parameters(tensors: Mapping[str, Stored], settings: EngineSettings) -> dict[str, torch.Tensor]:
    """Weights copied to torch tensors on the device, in the precision of the settings.

    Weights of a batch norm stay float32: rounded statistics would shift and scale whole channels.
    """
    device, dtype = device_of(settings.device), DTYPES[settings.precision]
    batch_norms = {name.removesuffix("running_mean") for name in tensors if name.endswith(".running_mean")}
    return {
        name: torch.from_numpy(np.array(t.float32())).to(
            device, torch.float32 if name.rpartition(".")[0] + "." in batch_norms else dtype
        )
        for name, t in tensors.items()
    }


def device_of(name: str) -> torch.device:
    """The torch device of this name.

    Raises:
        UsageError: not the name of a device.
        ModelError: this machine has no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device={name!r} is not a device: use cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device={name!r}: this torch ({torch.__version__}) sees no GPU; use device='cpu'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"device={name!r}: this machine has {torch.cuda.device_count()} GPUs, counted from 0"
        )
    return device


class TorchExecutable:
    """A program that torch runs eagerly; see `ops.base.Executable`."""

    streams = 1

    def __init__(
        self, program: Program, values: Mapping[str, torch.Tensor], settings: EngineSettings
    ) -> None:
        self._program, self._values = program, values
        self._device = device_of(settings.device)
        self._params = Params(values, values.__getitem__)

    def run(self, batch: Batch) -> dict[str, NDArray[Any]]:
        inputs = {name: torch.from_numpy(array).to(self._device) for name, array in batch.items()}
        with torch.inference_mode():
            outputs = self._program(TorchOps(device=self._device), inputs.__getitem__, self._params)
            return {name: value.float().cpu().numpy() for name, value in outputs.items()}

    def narrow(self, streams: int) -> None:
        pass  # There is one stream only.

    def bulk(self) -> TorchExecutable:
        return self


def compile_program(
    program: Program, inputs: Sequence[Input], tensors: Mapping[str, Stored], settings: EngineSettings
) -> TorchExecutable:
    """A program with its weights, ready to run on torch; torch's process-wide number of threads is left as it is."""
    return TorchExecutable(program, parameters(tensors, settings), settings)
