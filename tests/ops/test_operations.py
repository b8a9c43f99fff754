"""Every operation of both engines against torch in float64, over random shapes and dtypes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from omnivec.errors import UsageError, WeightsError
from omnivec.ops import openvino as openvino_engine
from omnivec.ops import torch as torch_engine
from omnivec.ops.base import EngineSettings, Input, Ops, Params
from omnivec.weights import Tensor

ENGINES: dict[str, Callable[..., Any]] = {
    "openvino": openvino_engine.compile_program,
    "torch": torch_engine.compile_program,
}
Arrays = dict[str, np.ndarray]


def tensor(array: np.ndarray) -> Tensor:
    data = np.ascontiguousarray(array, np.float32)
    return Tensor("", "F32", data.shape, data)


def run(
    engine: str, program: Callable[..., Any], arrays: Arrays, weights: Mapping[str, np.ndarray] = {}
) -> Arrays:
    """One program on one engine; every size that may be dynamic is."""
    inputs = [Input(name, a.dtype.type, (None,) * a.ndim) for name, a in arrays.items()]

    def whole(ops: Ops, get: Callable[[str], Any], p: Params) -> dict[str, Any]:
        out = program(ops, SimpleNamespace(**{name: get(name) for name in arrays}), p)
        return out if isinstance(out, dict) else {"out": out}

    tensors = {name: tensor(w) for name, w in weights.items()}
    return ENGINES[engine](whole, inputs, tensors, EngineSettings()).run(arrays)


@dataclass(frozen=True)
class Case:
    """An operation: its program, its reference in float64 torch, and random arguments."""

    program: Callable[[Any, Any, Any], Any]
    reference: Callable[[Any, Any], torch.Tensor]
    arrays: Callable[[Any], Arrays]
    weights: Callable[[Any, Arrays], Arrays] = lambda r, a: {}


class Random:
    """Random arrays of random shapes."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.n, self.t, self.d = (int(self.rng.integers(1, 6)) for _ in range(3))
        self.c = int(self.rng.integers(1, 4)) * 4
        self.integer = (np.int32, np.int64)[seed % 2]

    def floats(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return (self.rng.standard_normal(shape) * scale).astype(np.float32)

    def ints(self, low: int, high: int, *shape: int) -> np.ndarray:
        return self.rng.integers(low, high, shape).astype(self.integer)

    def mask(self) -> np.ndarray:
        lengths = self.rng.integers(1, self.t + 1, self.n)
        return (np.arange(self.t) < lengths[:, None]).astype(self.integer)

    @property
    def x(self) -> np.ndarray:
        return self.floats(self.n, self.t, self.c)


def x(r: Random) -> Arrays:
    return {"x": r.x}


def norm_weights(r: Random, a: Arrays) -> Arrays:
    return {"n.weight": r.floats(r.c), "n.bias": r.floats(r.c)}


def conv_weights(dims: int, groups: int) -> Callable[[Random, Arrays], Arrays]:
    return lambda r, a: {"c.weight": r.floats(8, r.c // groups, *[3] * dims), "c.bias": r.floats(8)}


def conv_case(dims: int, groups: int, stride: int, padding: int, dilation: int) -> Case:
    call = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
    each = [stride] * dims, [padding] * dims, [dilation] * dims
    return Case(
        lambda o, b, p: o.conv(b.x, p["c"], *each, groups),
        lambda b, w: call(b.x, w["c.weight"], w["c.bias"], *each, groups),
        lambda r: {"x": r.floats(r.n, r.c, *(int(k) for k in r.rng.integers(6, 10, dims)))},
        conv_weights(dims, groups),
    )


def same_case(groups: int, stride: int, dilation: int = 1) -> Case:
    """TensorFlow's rule: ceil(size / stride) windows, and where the zeros are odd one more behind."""

    def reference(b: Any, w: Mapping[str, torch.Tensor]) -> torch.Tensor:
        x, reach = b.x, 2 * dilation + 1
        for axis in (2, 3):
            size = x.shape[axis]
            total = max(reach + stride * ((size + stride - 1) // stride - 1) - size, 0)
            zeros = [torch.zeros_like(x.narrow(axis, 0, 1))]
            x = torch.cat(zeros * (total // 2) + [x] + zeros * ((total + 1) // 2), axis)
        return F.conv2d(x, w["c.weight"], w["c.bias"], stride, 0, dilation, groups)

    return Case(
        lambda o, b, p: o.conv(b.x, p["c"], [stride] * 2, "same", [dilation] * 2, groups),
        reference,
        lambda r: {"x": r.floats(r.n, r.c, *(int(k) for k in r.rng.integers(3, 10, 2)))},
        conv_weights(2, groups),
    )


def windows(x: torch.Tensor, axis: int, count: int) -> list[torch.Tensor]:
    """An axis in `count` windows: each from the floor of its share to the ceiling of the next one's."""
    size = x.shape[axis]
    ends = [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
    return [x.narrow(axis, start, stop - start) for start, stop in ends]


def additive(mask: torch.Tensor) -> torch.Tensor:
    return torch.where(mask.bool(), 0.0, -1e4)


def attention_arrays(r: Random) -> Arrays:
    heads, width, keys = 2, 4, r.t + 2
    shape = (r.n, heads, keys, width)
    q = r.floats(r.n, heads, r.t, width)
    return {"q": q, "k": r.floats(*shape), "v": r.floats(*shape), "bias": r.floats(r.n, 1, 1, keys)}


def lstm_arrays(r: Random) -> Arrays:
    lengths = r.rng.integers(1, r.t + 1, r.n)
    return {"x": r.x, "lengths": lengths.astype(r.integer)}


def lstm_weights(r: Random, a: Arrays) -> Arrays:
    shapes = {"weight_ih": (4 * 3, r.c), "weight_hh": (4 * 3, 3), "bias_ih": (12,), "bias_hh": (12,)}
    return {f"l.{name}_l0{end}": r.floats(*s) for end in ("", "_reverse") for name, s in shapes.items()}


def lstm_by_hand(b: Any, w: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Row by row over its own length, both ways, gates as the paper writes them."""
    n, t, _ = b.x.shape
    out = torch.zeros(n, t, 6, dtype=torch.float64)
    for row in range(n):
        for k, (end, places) in enumerate(
            {"": range(int(b.lengths[row])), "_reverse": range(int(b.lengths[row]) - 1, -1, -1)}.items()
        ):
            h = c = torch.zeros(3, dtype=torch.float64)
            for j in places:
                z = w[f"l.weight_ih_l0{end}"] @ b.x[row, j] + w[f"l.weight_hh_l0{end}"] @ h
                i, f, g, o = (z + w[f"l.bias_ih_l0{end}"] + w[f"l.bias_hh_l0{end}"]).chunk(4)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                out[row, j, 3 * k : 3 * k + 3] = h
    return out


def lstm_from_by_hand(
    b: Any, w: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All rows step by step from the given states."""
    h, c, out = b.h, b.c, []
    for x in b.x.unbind(1):
        z = x @ w["l.weight_ih_l0"].T + h @ w["l.weight_hh_l0"].T + w["l.bias_ih_l0"] + w["l.bias_hh_l0"]
        i, f, g, o = z.chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        out.append(h)
    return torch.stack(out, 1), h, c


def lstm_from_case(index: int) -> Case:
    return Case(
        lambda o, b, p: o.lstm_from(b.x, p["l"], b.h, b.c)[index],
        lambda b, w: lstm_from_by_hand(b, w)[index],
        lambda r: {"x": r.x, "h": r.floats(r.n, 3), "c": r.floats(r.n, 3)},
        lstm_weights,
    )


def pad_case(mode: Any, before: int, after: int, own: bool = False) -> Case:
    """Rows of a map (n, c, 2, t), one by one; what follows a row's padding is compared in no row."""

    def lengths(b: Any) -> list[int]:
        return b.lengths.tolist() if own else [b.x.shape[-1]] * len(b.x)

    def program(o: Any, b: Any, p: Any) -> Any:
        y = o.pad(b.x, before, after, mode, b.lengths if own else None)
        if not own or mode == "zeros":
            return y
        ends = o.cast(b.lengths, "float32")[:, None, None, None] + float(before + after)
        return y * o.clip(ends - o.cast(o.arange(y, 3), "float32"), 0.0, 1.0)

    def reference(b: Any, w: Any) -> torch.Tensor:
        named: Any = {"zeros": "constant", "edge": "edge", "reflect": "reflect"}[mode]
        out = torch.zeros(*b.x.shape[:-1], b.x.shape[-1] + before + after, dtype=torch.float64)
        for row, length in enumerate(lengths(b)):
            widths = [(0, 0), (0, 0), (before, after)]
            padded = np.pad(b.x[row, ..., :length].numpy(), widths, mode=named)
            out[row, ..., : padded.shape[-1]] = torch.from_numpy(padded)
        return out

    def arrays(r: Random) -> Arrays:
        least = max(before, after) + 1
        high = r.ints(least, least + r.t, r.n)
        return {"x": r.floats(r.n, r.c, 2, int(high.max()) + (r.t if own else 0)), "lengths": high}

    return Case(program, reference, arrays)


CASES: dict[str, Case] = {
    "embedding": Case(
        lambda o, b, p: o.embedding(b.ids, p["table"]),
        lambda b, w: w["table"][b.ids.long()],
        lambda r: {"ids": r.ints(0, 7, r.n, r.t)},
        lambda r, a: {"table": r.floats(7, r.d)},
    ),
    "linear": Case(
        lambda o, b, p: o.linear(b.x, p["l"]),
        lambda b, w: b.x @ w["l.weight"].T + w["l.bias"],
        x,
        lambda r, a: {"l.weight": r.floats(r.d, r.c), "l.bias": r.floats(r.d)},
    ),
    "mix_tokens under its former name": Case(
        lambda o, b, p: o.mixed(b.x, np.array([[0.5, -2], [1, 0], [3, 0.25]], np.float32)),
        lambda b, w: torch.tensor([[0.5, -2], [1, 0], [3, 0.25]]).double() @ b.x,
        lambda r: {"x": r.floats(r.n, 2, r.d)},
    ),
    "alibi_attention under its former name": Case(
        lambda o, b, p: o.sloped_attention(b.q, b.k, b.v, b.bias, np.array([0.5, 0.125], np.float32), 0.3),
        lambda b, w: (
            torch.softmax(
                b.q @ b.k.transpose(-1, -2) * 0.3 + b.bias * torch.tensor([0.5, 0.125])[:, None, None], -1
            )
            @ b.v
        ),
        attention_arrays,
    ),
    "linear without bias": Case(
        lambda o, b, p: o.linear(b.x, p["l"]),
        lambda b, w: b.x @ w["l.weight"].T,
        x,
        lambda r, a: {"l.weight": r.floats(r.d, r.c)},
    ),
    "mix_tokens": Case(
        lambda o, b, p: o.mix_tokens(b.x, np.array([[0.5, -2], [1, 0], [3, 0.25]], np.float32)),
        lambda b, w: torch.tensor([[0.5, -2], [1, 0], [3, 0.25]]).double() @ b.x,
        lambda r: {"x": r.floats(r.n, 2, r.d)},
    ),
    "layer_norm": Case(
        lambda o, b, p: o.layer_norm(b.x, p["n"], 1e-3),
        lambda b, w: (
            (b.x - b.x.mean(-1, keepdim=True))
            / (b.x.var(-1, keepdim=True, unbiased=False) + 1e-3).sqrt()
            * w["n.weight"]
            + w["n.bias"]
        ),
        x,
        norm_weights,
    ),
    "rms_norm": Case(
        lambda o, b, p: o.rms_norm(b.x, p["n.weight"], 1e-3),
        lambda b, w: b.x / ((b.x**2).mean(-1, keepdim=True) + 1e-3).sqrt() * w["n.weight"],
        x,
        norm_weights,
    ),
    "group_norm": Case(
        lambda o, b, p: o.group_norm(b.x, p["n"], 2, 1e-3),
        lambda b, w: F.group_norm(b.x, 2, w["n.weight"], w["n.bias"], 1e-3),
        lambda r: {"x": r.floats(r.n, r.c, 3, r.t)},
        norm_weights,
    ),
    "batch_norm": Case(
        lambda o, b, p: o.batch_norm(b.x, p["n"], 1e-3),
        lambda b, w: (
            (b.x - w["n.running_mean"][:, None])
            / (w["n.running_var"][:, None] + 1e-3).sqrt()
            * w["n.weight"][:, None]
            + w["n.bias"][:, None]
        ),
        lambda r: {"x": r.floats(r.n, r.c, r.t)},
        lambda r, a: (
            norm_weights(r, a) | {"n.running_mean": r.floats(r.c), "n.running_var": r.floats(r.c) ** 2 + 0.1}
        ),
    ),
    "normalize": Case(lambda o, b, p: o.normalize(b.x), lambda b, w: b.x / b.x.norm(dim=-1, keepdim=True), x),
    "gelu": Case(lambda o, b, p: o.gelu(b.x), lambda b, w: b.x * 0.5 * (1 + torch.erf(b.x / 2**0.5)), x),
    "gelu tanh": Case(
        lambda o, b, p: o.gelu(b.x, "tanh"),
        lambda b, w: 0.5 * b.x * (1 + torch.tanh((2 / np.pi) ** 0.5 * (b.x + 0.044715 * b.x**3))),
        x,
    ),
    "relu": Case(lambda o, b, p: o.relu(b.x), lambda b, w: b.x.clamp(min=0), x),
    "silu": Case(lambda o, b, p: o.silu(b.x), lambda b, w: b.x / (1 + torch.exp(-b.x)), x),
    "sigmoid": Case(lambda o, b, p: o.sigmoid(b.x), lambda b, w: 1 / (1 + torch.exp(-b.x)), x),
    "tanh": Case(lambda o, b, p: o.tanh(b.x), lambda b, w: torch.tanh(b.x), x),
    "exp": Case(lambda o, b, p: o.exp(b.x), lambda b, w: torch.exp(b.x), x),
    "log": Case(lambda o, b, p: o.log(b.x * b.x + 0.1), lambda b, w: torch.log(b.x**2 + 0.1), x),
    "sqrt": Case(lambda o, b, p: o.sqrt(b.x * b.x + 1.0), lambda b, w: (b.x**2 + 1).sqrt(), x),
    "maximum of a number": Case(lambda o, b, p: o.maximum(b.x, 0.25), lambda b, w: b.x.clamp(min=0.25), x),
    "maximum of two": Case(lambda o, b, p: o.maximum(b.x, -b.x), lambda b, w: b.x.abs(), x),
    "clip": Case(lambda o, b, p: o.clip(b.x, -0.5, 0.25), lambda b, w: b.x.clamp(-0.5, 0.25), x),
    "not_equal": Case(
        lambda o, b, p: o.not_equal(b.ids, 1),
        lambda b, w: (b.ids != 1).double(),
        lambda r: {"ids": r.ints(0, 3, r.n, r.t)},
    ),
    "softmax": Case(lambda o, b, p: o.softmax(b.x, 1), lambda b, w: torch.softmax(b.x, 1), x),
    "dropout outside training": Case(lambda o, b, p: o.dropout(b.x, 0.5), lambda b, w: b.x, x),
    "attention": Case(
        lambda o, b, p: o.attention(b.q, b.k, b.v, b.bias, 0.3),
        lambda b, w: torch.softmax(b.q @ b.k.transpose(-1, -2) * 0.3 + b.bias, -1) @ b.v,
        attention_arrays,
    ),
    "attention without bias": Case(
        lambda o, b, p: o.attention(b.q, b.k, b.v, None, 1.0),
        lambda b, w: torch.softmax(b.q @ b.k.transpose(-1, -2), -1) @ b.v,
        attention_arrays,
    ),
    "attention with capped scores": Case(
        lambda o, b, p: o.attention(b.q, b.k, b.v, b.bias, 0.3, cap=0.7),
        lambda b, w: (
            torch.softmax(torch.tanh(b.q @ b.k.transpose(-1, -2) * 0.3 / 0.7) * 0.7 + b.bias, -1) @ b.v
        ),
        attention_arrays,
    ),
    "attention with capped scores, without bias": Case(
        lambda o, b, p: o.attention(b.q, b.k, b.v, None, 0.3, cap=0.7),
        lambda b, w: torch.softmax(torch.tanh(b.q @ b.k.transpose(-1, -2) * 0.3 / 0.7) * 0.7, -1) @ b.v,
        attention_arrays,
    ),
    "alibi_attention": Case(
        lambda o, b, p: o.alibi_attention(b.q, b.k, b.v, b.bias, np.array([0.5, 0.125], np.float32), 0.3),
        lambda b, w: (
            torch.softmax(
                b.q @ b.k.transpose(-1, -2) * 0.3 + b.bias * torch.tensor([0.5, 0.125])[:, None, None], -1
            )
            @ b.v
        ),
        attention_arrays,
    ),
    "constant": Case(
        lambda o, b, p: b.x + o.constant(np.arange(4, dtype=np.float32))[:1],
        lambda b, w: b.x,
        x,
    ),
    "repeat_heads": Case(
        lambda o, b, p: o.repeat_heads(o.transpose(o.reshape(b.x, (0, 0, 2, 2)), (0, 2, 1, 3)), 3),
        lambda b, w: b.x.unflatten(2, (2, 2)).transpose(1, 2).repeat_interleave(3, 1),
        lambda r: {"x": r.floats(r.n, r.t, 4)},
    ),
    "rotary": Case(
        lambda o, b, p: o.rotary(o.reshape(b.x, (0, 0, 1, 6)), b.cos, b.sin),
        lambda b, w: (
            b.x.unflatten(2, (1, 6)) * b.cos
            + torch.cat([-b.x[..., 3:], b.x[..., :3]], -1).unflatten(2, (1, 6)) * b.sin
        ),
        lambda r: {"x": r.floats(r.n, r.t, 6), "cos": r.floats(1, 6), "sin": r.floats(1, 6)},
    ),
    "padding_bias": Case(
        lambda o, b, p: o.padding_bias(b.mask),
        lambda b, w: additive(b.mask)[:, None, None, :],
        lambda r: {"mask": r.mask()},
    ),
    "causal_bias": Case(
        lambda o, b, p: o.causal_bias(b.mask),
        lambda b, w: additive(b.mask[:, None, None, :] * torch.ones(b.mask.shape[1], b.mask.shape[1]).tril()),
        lambda r: {"mask": r.mask()},
    ),
    "conv 1d": conv_case(1, 1, 2, 1, 1),
    "conv 1d dilated": conv_case(1, 1, 1, 2, 2),
    "conv 2d": conv_case(2, 1, 2, 1, 1),
    "conv 2d in groups": conv_case(2, 4, 1, 1, 1),
    "conv 3d": conv_case(3, 1, 1, 0, 1),
    "conv 2d, uneven zeros": Case(
        lambda o, b, p: o.conv(b.x, p["c"], (2, 2), ((0, 1), (2, 0))),
        lambda b, w: F.conv2d(F.pad(b.x, (2, 0, 0, 1)), w["c.weight"], w["c.bias"], 2),
        lambda r: {"x": r.floats(r.n, r.c, 7, 8)},
        conv_weights(2, 1),
    ),
    "conv 2d, same": same_case(1, 2),
    "conv 2d in groups, same": same_case(4, 2),
    "conv 2d dilated, same": same_case(1, 1, 2),
    "adaptive_mean": Case(
        lambda o, b, p: o.adaptive_mean(b.x, (3, 4)),
        lambda b, w: torch.stack(
            [
                torch.stack([part.mean((2, 3)) for part in windows(rows, 3, 4)], -1)
                for rows in windows(b.x, 2, 3)
            ],
            -2,
        ),
        lambda r: {"x": r.floats(r.n, r.c, *(int(k) for k in r.rng.integers(2, 10, 2)))},
    ),
    "max_pool": Case(
        lambda o, b, p: o.max_pool(b.x, (3, 3), (2, 2), (1, 1)),
        lambda b, w: F.max_pool2d(b.x, 3, 2, 1),
        lambda r: {"x": r.floats(r.n, r.c, 7, 8) - 5},
    ),
    "lstm": Case(
        lambda o, b, p: o.lstm(b.x, p["l"], b.lengths, True)[0], lstm_by_hand, lstm_arrays, lstm_weights
    ),
    "lstm's last states": Case(
        lambda o, b, p: o.lstm(b.x, p["l"], b.lengths)[1],
        lambda b, w: lstm_by_hand(b, w)[torch.arange(len(b.x)), b.lengths.long() - 1, :3],
        lstm_arrays,
        lstm_weights,
    ),
    "lstm_from, outputs": lstm_from_case(0),
    "lstm_from, h": lstm_from_case(1),
    "lstm_from, c": lstm_from_case(2),
    "mean": Case(lambda o, b, p: o.mean(b.x, (0, 2), True), lambda b, w: b.x.mean((0, 2), keepdim=True), x),
    "sum": Case(lambda o, b, p: o.sum(b.x, 1), lambda b, w: b.x.sum(1), x),
    "max": Case(lambda o, b, p: o.max(b.x, -1), lambda b, w: b.x.amax(-1), x),
    "cumsum": Case(lambda o, b, p: o.cumsum(b.x, 1), lambda b, w: b.x.cumsum(1), x),
    "arange": Case(
        lambda o, b, p: o.cast(o.arange(b.x, 1), "float32"),
        lambda b, w: torch.arange(b.x.shape[1]).double(),
        x,
    ),
    "reshape": Case(lambda o, b, p: o.reshape(b.x, (0, 0, 2, -1)), lambda b, w: b.x.unflatten(2, (2, -1)), x),
    "pad with zeros": pad_case("zeros", 2, 3),
    "pad by reflection": pad_case("reflect", 2, 1),
    "pad with the edge": pad_case("edge", 3, 0),
    "pad rows of their own lengths with zeros": pad_case("zeros", 2, 3, own=True),
    "pad rows of their own lengths by reflection": pad_case("reflect", 3, 2, own=True),
    "pad rows of their own lengths with the edge": pad_case("edge", 1, 4, own=True),
    "transpose": Case(lambda o, b, p: o.transpose(b.x, (2, 0, 1)), lambda b, w: b.x.permute(2, 0, 1), x),
    "concat": Case(
        lambda o, b, p: o.concat([b.x, b.x * 2], -1), lambda b, w: torch.cat([b.x, b.x * 2], -1), x
    ),
    "expand": Case(
        lambda o, b, p: o.expand(p["token"], b.x),
        lambda b, w: w["token"].repeat(len(b.x), 1, 1),
        x,
        lambda r, a: {"token": r.floats(1, 2, 5)},
    ),
    "take": Case(
        lambda o, b, p: o.take(b.x, b.index),
        lambda b, w: b.x[torch.arange(len(b.x)), b.index.long()],
        lambda r: {"x": r.x, "index": r.ints(0, r.t, r.n)},
    ),
    "where": Case(
        lambda o, b, p: o.where(b.mask[:, :, None], b.x, b.x * 0.0 - 7.0),
        lambda b, w: torch.where(b.mask.bool()[:, :, None], b.x, -7.0),
        lambda r: {"x": r.x, "mask": r.mask()},
    ),
    "cast": Case(
        lambda o, b, p: o.cast(o.cast(b.x * 3.0, "int32"), "float32"),
        lambda b, w: (b.x * 3).trunc(),
        x,
    ),
    "state": Case(lambda o, b, p: o.state(b.x * 2.0) + o.states[0], lambda b, w: b.x * 4, x),
    "arithmetic": Case(
        lambda o, b, p: (2 - b.x) * 3 + b.x / 4 - 1 / (b.x * b.x + 1) - (-b.x) + b.ids[:, :, None] * 0.5,
        lambda b, w: (2 - b.x) * 3 + b.x / 4 - 1 / (b.x**2 + 1) + b.x + b.ids[:, :, None] * 0.5,
        lambda r: {"x": r.x, "ids": r.ints(0, 5, r.n, r.t)},
    ),
    "matrix product": Case(
        lambda o, b, p: b.x @ o.transpose(b.x, (0, 2, 1)), lambda b, w: b.x @ b.x.transpose(1, 2), x
    ),
    "slices": Case(
        lambda o, b, p: o.concat([b.x[:, 0], b.x[:, -1], b.x[..., 1:, :2][:, 0]], -1),
        lambda b, w: torch.cat([b.x[:, 0], b.x[:, -1], b.x[..., 1:, :2][:, 0]], -1),
        lambda r: {"x": r.floats(r.n, r.t + 1, r.c)},
    ),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CASES)
def test_operation_equals_float64_torch(name: str, seed: int) -> None:
    case, r = CASES[name], Random(seed)
    arrays = case.arrays(r)
    weights = case.weights(r, arrays)
    exact = {
        n: torch.from_numpy(a.astype(np.float64) if a.dtype.kind == "f" else a) for n, a in arrays.items()
    }
    exact_weights = {n: torch.from_numpy(w.astype(np.float64)) for n, w in weights.items()}
    expected = case.reference(SimpleNamespace(**exact), exact_weights).numpy()
    for engine in ENGINES:
        got = run(engine, case.program, arrays, weights)["out"]
        assert got.shape == expected.shape, engine
        np.testing.assert_allclose(
            got, expected, rtol=2e-5, atol=2e-5 * max(1e-6, np.abs(expected).max()), err_msg=engine
        )


def test_every_operation_is_held() -> None:
    held = " ".join(CASES)
    operations = [name for name in vars(Ops) if not name.startswith("_") and callable(getattr(Ops, name))]
    elsewhere = ["foreign"]  # tests/families/test_transformers_bridge.py
    assert [name for name in operations if name not in held] == elsewhere
    assert len(operations) >= 30


def test_dropout_in_training_keeps_the_mean_and_drops_the_rate() -> None:
    ops = torch_engine.TorchOps(training=True)
    torch.manual_seed(0)
    out = ops.dropout(torch.ones(100_000), 0.25)
    assert (out == 0).float().mean() == pytest.approx(0.25, abs=0.01)
    assert out.mean() == pytest.approx(1.0, abs=0.01)


def test_attention_drops_in_training_only() -> None:
    q = torch.randn(1, 1, 8, 4)
    training, resting = torch_engine.TorchOps(training=True), torch_engine.TorchOps()
    rest = resting.attention(q, q, q, None, 0.5, dropout=0.5)
    assert torch.equal(rest, resting.attention(q, q, q, None, 0.5))
    assert not torch.allclose(rest, training.attention(q, q, q, None, 0.5, dropout=0.5))


def test_batch_norm_in_training_uses_and_updates_statistics() -> None:
    ops = torch_engine.TorchOps(training=True)
    values = {
        "weight": torch.ones(3),
        "bias": torch.zeros(3),
        "running_mean": torch.zeros(3),
        "running_var": torch.ones(3),
    }
    batch = torch.randn(64, 3, 5) * 4 + 2
    out = ops.batch_norm(batch, Params(values, values.__getitem__), 1e-5, momentum=0.5)
    assert out.mean((0, 2)).abs().max() < 1e-5
    torch.testing.assert_close(values["running_mean"], batch.mean((0, 2)) * 0.5)


def test_half_precision_weights_are_widened_exactly() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5)).astype(np.float32)
    half = rng.standard_normal((3, 5)).astype(np.float16)
    bits = (rng.standard_normal((3, 5)).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    stored = {"a.weight": Tensor("", "F16", (3, 5), half), "b.weight": Tensor("", "BF16", (3, 5), bits)}
    wide = (bits.astype(np.uint32) << 16).view(np.float32)
    expected = np.concatenate([x @ half.astype(np.float32).T, x @ wide.T], 1)

    def program(ops: Ops, get: Callable[[str], Any], p: Params) -> dict[str, Any]:
        return {"out": ops.concat([ops.linear(get("x"), p["a"]), ops.linear(get("x"), p["b"])], -1)}

    for engine, compile_program in ENGINES.items():
        got = compile_program(program, [Input("x", np.float32, (None, 5))], stored, EngineSettings()).run(
            {"x": x}
        )["out"]
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5, err_msg=engine)


def test_a_program_keeps_its_weights() -> None:
    """Constants share the weights' memory; those of bfloat16 do not keep it, and nobody else may hold it."""
    bits = np.full((4, 4), 0x3F80, np.uint16)  # 1.0
    kept = weakref.ref(bits)

    def program(ops: Ops, get: Callable[[str], Any], p: Params) -> dict[str, Any]:
        return {"out": ops.embedding(get("ids"), p["table"])}

    executable = openvino_engine.compile_program(
        program,
        [Input("ids", np.int32, (None,))],
        {"table": Tensor("", "BF16", (4, 4), bits)},
        EngineSettings(),
    )
    del bits
    gc.collect()
    assert kept() is not None
    assert (executable.run({"ids": np.arange(4, dtype=np.int32)})["out"] == 1.0).all()


def test_a_missing_weight_is_named_with_its_nearest() -> None:
    with pytest.raises(WeightsError, match=r"lack 'layer.1'.*layer.0.weight"):
        run(
            "openvino",
            lambda o, b, p: o.linear(b.x, p["layer.1"]),
            {"x": np.ones((1, 2), np.float32)},
            {"layer.0.weight": np.ones((2, 2))},
        )


def test_openvino_runs_on_the_cpu_only() -> None:
    with pytest.raises(UsageError, match="engine='torch'"):
        openvino_engine.compile_program(lambda o, g, p: {}, [], {}, EngineSettings(device="cuda"))
