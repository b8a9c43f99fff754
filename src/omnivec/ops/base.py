"""The operations: what a family may say, with shapes, dtypes and broadcasting. Two engines mean it.

A *value* is a tensor of an engine: a torch tensor, or a node of an OpenVINO graph. Values of both engines take
`+ - * / @`, unary minus and basic slices (integers, `a:b`, `...`, `None`), with NumPy's broadcasting; a Python
number takes the dtype of the value beside it. Everything else is a method below. Families never ask a value for
its dtype or its size: sizes are dynamic in a graph, so `reshape` copies them (0) or infers them (-1).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import WeightsError

Value = Any
Padding = Sequence[int | tuple[int, int]] | Literal["same"]
"""Zeros around each spatial axis: as many on both sides, or (before, after); or "same", so many that there are
ceil(size / stride) windows, the odd one after, as TensorFlow pads."""
Batch = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Input:
    """One array that a program takes: its name, NumPy dtype and shape (None where it is dynamic)."""

    name: str
    dtype: type[np.generic]
    shape: tuple[int | None, ...]


class Stored(Protocol):
    """A weight as it lies in a file; `weights.Tensor` is one.

    Attributes:
        dtype: the safetensors name: "F32", "BF16", "F16", "I64", ...
        data: the array; BF16 is seen as uint16.
    """

    @property
    def dtype(self) -> str:
        """The safetensors name of the element type."""

    @property
    def data(self) -> NDArray[Any]:
        """The array, of the tensor's shape."""

    def float32(self) -> NDArray[np.float32]:
        """The exact values as float32."""


class Params:
    """Weights under their published names.

    `p["embeddings.LayerNorm.weight"]` is a value; `p["embeddings.LayerNorm"]` is a part, from which `p["weight"]`
    and `p["bias"]` are read. A name that the checkpoint lacks is an error where it is used.
    """

    __slots__ = ("_get", "_names", "_parts", "_prefix")

    def __init__(self, names: Iterable[str], get: Callable[[str], Value]) -> None:
        self._names = frozenset(names)
        self._parts = frozenset(name[:i] for name in self._names for i, c in enumerate(name) if c == ".")
        self._get, self._prefix = get, ""

    def __getitem__(self, name: str) -> Value:
        full = self._prefix + name
        if full in self._names:
            return self._get(full)
        if full not in self._parts:
            near = (difflib.get_close_matches(full, self._names, 1, 0.0) or ["none"])[0]
            raise WeightsError(
                f"the weights lack {full!r}; of their {len(self._names)} names the nearest is {near!r}: "
                "they do not belong to this config, or are incomplete"
            )
        part = object.__new__(Params)
        part._names, part._parts, part._get, part._prefix = self._names, self._parts, self._get, full + "."
        return part

    def __contains__(self, name: str) -> bool:
        """Whether this exact weight, or a part of this name, is there."""
        return self._prefix + name in self._names or self._prefix + name in self._parts


class Foreign(Protocol):
    """A network of torch whose weights are given with each call.

    Attributes:
        names: the weights that it takes.
        graph: it as an OpenVINO graph, of the inputs and then the weights in that order.
    """

    @property
    def names(self) -> Sequence[str]:
        """The weights that it takes."""

    @property
    def graph(self) -> Any:
        """It as an OpenVINO graph."""

    def __call__(self, inputs: Sequence[Any], p: Params, training: bool = False) -> list[Any]:
        """What it gives, as torch tensors."""


class Ops(Protocol):
    """The operations. `n` is the batch, `t` a length, `h` heads, `c` channels, `d` a width.

    Attributes:
        training: True while a torch module is trained: dropout and batch statistics are live.
        states: the hidden states that a forward has named with `state`, in order.
    """

    training: bool
    states: list[Value]

    # tables and linear maps
    def constant(self, array: NDArray[Any]) -> Value:
        """An array that a family computes from its config: tables of positions, strips of relative biases."""

    def embedding(self, ids: Value, table: Value) -> Value:
        """Rows of a table: ids (...) integer, table (v, d) -> (..., d). Bounds are checked on the host."""

    def linear(self, x: Value, p: Params) -> Value:
        """x (..., in) by p["weight"] (out, in), plus p["bias"] (out,) where there is one -> (..., out)."""

    def mix_tokens(self, x: Value, shares: NDArray[np.float32]) -> Value:
        """Rows weighed together: shares (s, t) of x (n, t, d) -> (n, s, d), in float32, then of x's dtype."""

    # normalisation
    def layer_norm(self, x: Value, p: Params, eps: float) -> Value:
        """Over the last axis, biased variance, eps inside the root; p["weight"], p["bias"] (d,)."""

    def rms_norm(self, x: Value, weight: Value, eps: float) -> Value:
        """x / sqrt(mean(x^2) + eps) * weight over the last axis."""

    def group_norm(self, x: Value, p: Params, groups: int, eps: float) -> Value:
        """x (n, c, ...) in groups of channels; statistics over the group and all places."""

    def batch_norm(self, x: Value, p: Params, eps: float, momentum: float = 0.1) -> Value:
        """x (n, c, ...) with running_mean and running_var; in training with the batch's own, updating them."""

    def normalize(self, x: Value, eps: float = 1e-12) -> Value:
        """x / max(|x|, eps) over the last axis."""

    # element by element
    def gelu(self, x: Value, approximate: Literal["none", "tanh"] = "none") -> Value:
        """x * Phi(x), exactly or by the tanh formula."""

    def relu(self, x: Value) -> Value:
        """max(x, 0)."""

    def silu(self, x: Value) -> Value:
        """x * sigmoid(x)."""

    def sigmoid(self, x: Value) -> Value:
        """1 / (1 + exp(-x))."""

    def tanh(self, x: Value) -> Value:
        """Hyperbolic tangent."""

    def exp(self, x: Value) -> Value:
        """Exponential."""

    def sqrt(self, x: Value) -> Value:
        """Square root; clamp what may be negative first."""

    def maximum(self, x: Value, y: Value | float) -> Value:
        """The larger of two, element by element."""

    def clip(self, x: Value, low: float, high: float) -> Value:
        """x, but no less than `low` and no more than `high`."""

    def not_equal(self, x: Value, number: float) -> Value:
        """1.0 where x differs from the number, else 0.0: float32 of x's shape."""

    def softmax(self, x: Value, axis: int = -1) -> Value:
        """exp(x) / sum(exp(x)) along an axis. Mask with `padding_bias`: a row of -inf is NaN."""

    def dropout(self, x: Value, rate: float) -> Value:
        """In training zeroes a share of x and scales the rest by 1 / (1 - rate); else x."""

    # attention
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
        """softmax(q k' * scale + bias) v: q (n, h, t, d), k and v (n, h, s, d), bias to (n, h, t, s).

        In training a share `dropout` of the attention weights is dropped. A `cap` above 0 bends the scores before the
        bias: x becomes cap * tanh(x / cap).
        """

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
        """softmax(q k' * scale + slopes * bias) v: one bias (n, 1, t, s) for all heads, slopes (h,) of each.

        Where the engine can, no bias of all heads is made: at 8192 places and 12 heads it would take 3 GiB.
        """

    def padding_bias(self, mask: Value) -> Value:
        """mask (n, s) of 1 and 0 -> (n, 1, 1, s): 0 where it may look, -1e4 where not (finite in bf16)."""

    def causal_bias(self, mask: Value) -> Value:
        """mask (n, t) -> (n, 1, t, t): -1e4 on padding and on all that comes later."""

    def repeat_heads(self, x: Value, times: int) -> Value:
        """Each head `times` times in a row: x (n, h, t, d) -> (n, h * times, t, d), for grouped-query attention."""

    def rotary(self, x: Value, cos: Value, sin: Value) -> Value:
        """Rotary positions: x (n, h, t, d), cos and sin (t, d) -> x * cos + (-x2, x1) * sin, halves x1 and x2.

        Su et al. 2021, arXiv:2104.09864, with the pairs (i, i + d / 2) that published checkpoints use.
        """

    # places
    def conv(
        self,
        x: Value,
        p: Params,
        stride: Sequence[int],
        padding: Padding,
        dilation: Sequence[int] = (),
        groups: int = 1,
    ) -> Value:
        """Convolution in 1 to 3 dimensions: x (n, in, ...), p["weight"] (out, in / groups, k...)."""

    def max_pool(
        self, x: Value, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
    ) -> Value:
        """Largest value of each window: x (n, c, ...); padding never wins."""

    def adaptive_mean(self, x: Value, size: Sequence[int]) -> Value:
        """x (n, c, ...) -> (n, c, *size): means of windows that begin and end at equal shares of each axis."""

    def lstm(self, x: Value, p: Params, lengths: Value, bidirectional: bool = False) -> tuple[Value, Value]:
        """One layer with torch's weight names (weight_ih_l0, ...): x (n, t, in), lengths (n,).

        Returns (n, t, directions * d), zero behind each length, and the last states (n, directions * d).
        """

    # sums and shapes
    def mean(self, x: Value, axis: int | Sequence[int], keep: bool = False) -> Value:
        """Mean over axes."""

    def sum(self, x: Value, axis: int | Sequence[int], keep: bool = False) -> Value:
        """Sum over axes."""

    def max(self, x: Value, axis: int | Sequence[int], keep: bool = False) -> Value:
        """Maximum over axes."""

    def cumsum(self, x: Value, axis: int) -> Value:
        """Running sum along an axis, each place included."""

    def arange(self, x: Value, axis: int) -> Value:
        """0, 1, ... up to the size of x along an axis: int32 (size,)."""

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """New shape: 0 keeps the size in that place, one -1 is inferred."""

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        """Axes in a new order."""

    def concat(self, xs: Sequence[Value], axis: int) -> Value:
        """Joined along an axis."""

    def expand(self, x: Value, like: Value) -> Value:
        """x (1, ...) repeated to the batch size of `like`: (n, ...)."""

    def take(self, x: Value, index: Value) -> Value:
        """One place per row: x (n, t, ...), index (n,) integer -> (n, ...)."""

    def where(self, condition: Value, x: Value, y: Value) -> Value:
        """x where the condition (1 or 0) holds, else y; both of one dtype."""

    def cast(self, x: Value, dtype: Literal["float32", "int32"]) -> Value:
        """Another dtype; fractions are cut towards zero."""

    # other libraries
    def foreign(self, network: Foreign, inputs: Sequence[Value], p: Params) -> list[Value]:
        """A network of another library as one operation: what it gives for these inputs with these weights."""

    def state(self, x: Value) -> Value:
        """Names x as the next hidden state and returns it: the embeddings first, then each layer."""


Program = Callable[[Ops, Callable[[str], Value], Params], Mapping[str, Value]]
"""What an engine runs: (ops, get an input by name, weights) -> named outputs."""


@dataclass(frozen=True)
class EngineSettings:
    """What an engine is told to do; decided in `runtime`.

    Attributes:
        precision: of matrix products; norms, residuals and pooling stay float32 where the engine allows.
        threads: in all; 0 leaves it to the engine.
        streams: batches at a time in bulk work.
        device: "cpu", "cuda", "cuda:1", ...
    """

    precision: Literal["float32", "bfloat16"] = "float32"
    threads: int = 0
    streams: int = 1
    device: str = "cpu"


class Executable(Protocol):
    """A program with its weights on an engine. `run` may be called from `streams` threads at once.

    Attributes:
        streams: how many batches at a time keep the machine busy.
    """

    streams: int

    def run(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """Arrays by input name -> arrays by output name, all float32."""

    def narrow(self, streams: int) -> None:
        """At most so many batches at a time in `bulk`, which nobody has called yet."""

    def bulk(self) -> Executable:
        """The same program arranged for many batches at a time."""
