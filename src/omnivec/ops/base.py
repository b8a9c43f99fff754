"""The operations that a family may use, with their shapes, dtypes and broadcasting. Two engines implement them.

A *value* is a tensor of an engine: a torch tensor, or a node of an OpenVINO graph. Values of both engines support
`+ - * / @`, unary minus and basic slices (integers, `a:b`, `...`, `None`), with NumPy's broadcasting; a Python
number takes the dtype of the other operand. Everything else is a method below. Families never ask a value for
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
"""Zeros around each spatial axis: one number for both sides, or (before, after). "same" pads as TensorFlow does: there
are ceil(size / stride) windows, and an odd number of zeros has its extra one after."""
PadMode = Literal["zeros", "reflect", "edge"]
"""What `Ops.pad` adds to [a b c]: zeros; [c b | a b c | b a], mirrored; [a a | a b c | c c], the outermost repeated."""
Batch = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Input:
    """One input array of a program: its name, NumPy dtype and shape (None for a dynamic axis)."""

    name: str
    dtype: type[np.generic]
    shape: tuple[int | None, ...]


class Stored(Protocol):
    """A weight as it is stored in a file; `weights.Tensor` is one.

    Attributes:
        dtype: the safetensors name: "F32", "BF16", "F16", "I64", ...
        data: the array; BF16 is viewed as uint16.
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
    """Weights by their published names.

    `p["embeddings.LayerNorm.weight"]` is a value; `p["embeddings.LayerNorm"]` is the `Params` of that module, in
    which "weight" and "bias" are looked up. A name that the checkpoint lacks is an error where it is used.
    """

    __slots__ = ("_get", "_modules", "_names", "_prefix")

    def __init__(self, names: Iterable[str], get: Callable[[str], Value]) -> None:
        self._names = frozenset(names)
        self._modules = frozenset(name[:i] for name in self._names for i, c in enumerate(name) if c == ".")
        self._get, self._prefix = get, ""

    def __getitem__(self, name: str) -> Value:
        full = self._prefix + name
        if full in self._names:
            return self._get(full)
        if full not in self._modules:
            closest = (difflib.get_close_matches(full, self._names, 1, 0.0) or ["none"])[0]
            raise WeightsError(
                f"the weights lack {full!r}; the closest of their {len(self._names)} names is {closest!r}: "
                "they do not belong to this config, or are incomplete"
            )
        module = object.__new__(Params)
        module._names, module._modules = self._names, self._modules
        module._get, module._prefix = self._get, full + "."
        return module

    def __contains__(self, name: str) -> bool:
        """Whether there is a weight or a module of exactly this name."""
        return self._prefix + name in self._names or self._prefix + name in self._modules


class Foreign(Protocol):
    """A torch network of another library, whose weights are passed with each call.

    Attributes:
        names: the names of the weights that it takes.
        graph: the network as an `openvino.Model` whose parameters are the inputs, then the weights in the order of
            `names`.
    """

    @property
    def names(self) -> Sequence[str]:
        """The names of the weights that the network takes."""

    @property
    def graph(self) -> Any:
        """The network as an `openvino.Model`."""

    def __call__(self, inputs: Sequence[Any], p: Params, training: bool = False) -> list[Any]:
        """Runs the network and returns its outputs as torch tensors."""


class Ops(Protocol):
    """The operations. In shapes, `n` is the batch size, `t` a length, `h` heads, `c` channels, `d` a width.

    Attributes:
        training: True while a model is trained: dropout is applied, and batch norm uses the batch's statistics.
        states: the hidden states that a forward pass has recorded with `state`, in order.
    """

    training: bool
    states: list[Value]

    # tables and linear maps
    def constant(self, array: NDArray[Any]) -> Value:
        """An array that a family computes from its config, such as a table of positions, as a value."""

    def embedding(self, ids: Value, table: Value) -> Value:
        """Rows of a table: ids (...) integer, table (v, d) -> (..., d). The caller checks that ids are below v."""

    def linear(self, x: Value, p: Params) -> Value:
        """x (..., in) times p["weight"] (out, in) transposed, plus p["bias"] (out,) if there is one -> (..., out)."""

    def mix_tokens(self, x: Value, shares: NDArray[np.float32]) -> Value:
        """Weighted sums of tokens: shares (s, t) @ x (n, t, d) -> (n, s, d), computed in float32, in x's dtype."""

    # normalisation
    def layer_norm(self, x: Value, p: Params, eps: float) -> Value:
        """Layer norm over the last axis, with biased variance and eps inside the root; p["weight"], p["bias"] (d,)."""

    def rms_norm(self, x: Value, weight: Value, eps: float) -> Value:
        """x / sqrt(mean(x^2) + eps) * weight over the last axis."""

    def group_norm(self, x: Value, p: Params, groups: int, eps: float) -> Value:
        """Group norm of x (n, c, ...): statistics over the channels of a group and all positions."""

    def batch_norm(self, x: Value, p: Params, eps: float, momentum: float = 0.1) -> Value:
        """Batch norm of x (n, c, ...) by p["running_mean"] and p["running_var"].

        In training the batch's own statistics are used, and the running ones are updated.
        """

    def normalize(self, x: Value, eps: float = 1e-12) -> Value:
        """x / max(|x|, eps) over the last axis."""

    # element by element
    def gelu(self, x: Value, approximate: Literal["none", "tanh"] = "none") -> Value:
        """x * Phi(x), exactly or by the tanh formula."""

    def relu(self, x: Value) -> Value:
        """max(x, 0), element by element."""

    def silu(self, x: Value) -> Value:
        """x * sigmoid(x)."""

    def sigmoid(self, x: Value) -> Value:
        """1 / (1 + exp(-x))."""

    def tanh(self, x: Value) -> Value:
        """The hyperbolic tangent of x."""

    def exp(self, x: Value) -> Value:
        """The exponential of x."""

    def log(self, x: Value) -> Value:
        """Natural logarithm; clamp values that may be zero first."""

    def sqrt(self, x: Value) -> Value:
        """Square root; clamp values that may be negative first."""

    def maximum(self, x: Value, y: Value | float) -> Value:
        """The larger of two values, element by element."""

    def clip(self, x: Value, low: float, high: float) -> Value:
        """x limited to the range from `low` to `high`."""

    def not_equal(self, x: Value, number: float) -> Value:
        """1.0 where x differs from the number, else 0.0: float32 of x's shape."""

    def softmax(self, x: Value, axis: int = -1) -> Value:
        """exp(x) / sum(exp(x)) along an axis. Mask with `padding_bias`: a row of -inf only would give NaN."""

    def dropout(self, x: Value, rate: float) -> Value:
        """In training, zeroes a share `rate` of x and scales the rest by 1 / (1 - rate); otherwise x."""

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
        """softmax(q k' * scale + bias) v: q (n, h, t, d), k and v (n, h, s, d), bias broadcast to (n, h, t, s).

        In training a share `dropout` of the attention weights is dropped. A `cap` above 0 limits the scores before the
        bias is added: x becomes cap * tanh(x / cap).
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
        """softmax(q k' * scale + slopes * bias) v: one bias (n, 1, t, s) for all heads, and a slope (h,) for each.

        The OpenVINO engine does not store the bias of every head: for 8192 tokens and 12 heads it would take 3 GiB.
        """

    def padding_bias(self, mask: Value) -> Value:
        """mask (n, s) of 1 and 0 -> (n, 1, 1, s): 0 for tokens, -1e4 for padding (finite, so that no row is NaN)."""

    def causal_bias(self, mask: Value) -> Value:
        """mask (n, t) -> (n, 1, t, t): 0 for tokens up to each position, -1e4 for padding and for later tokens."""

    def repeat_heads(self, x: Value, times: int) -> Value:
        """Each head repeated `times` times: x (n, h, t, d) -> (n, h * times, t, d), for grouped-query attention."""

    def rotary(self, x: Value, cos: Value, sin: Value) -> Value:
        """Rotary positions: x (n, h, t, d) with halves x1 and x2, cos and sin (t, d) -> x * cos + (-x2, x1) * sin.

        Su et al. 2021, arXiv:2104.09864, with the pairs (i, i + d / 2) that published checkpoints use.
        """

    # convolution, pooling, recurrence
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
        """Largest value of each window of x (n, c, ...); padding is never the largest."""

    def adaptive_mean(self, x: Value, size: Sequence[int]) -> Value:
        """x (n, c, ...) -> (n, c, *size): means of windows that divide each axis evenly (adaptive average pooling)."""

    def lstm(self, x: Value, p: Params, lengths: Value, bidirectional: bool = False) -> tuple[Value, Value]:
        """One LSTM layer with torch's weight names (weight_ih_l0, ...): x (n, t, in), lengths (n,).

        Returns the outputs (n, t, directions * d), zero beyond each length, and the last states (n, directions * d).
        """

    def lstm_from(self, x: Value, p: Params, h: Value, c: Value) -> tuple[Value, Value, Value]:
        """The LSTM layer of `lstm` that goes on from given states: x (n, t, in) of equal lengths, h and c (n, d).

        Returns the outputs (n, t, d), which are those of one call over both parts of a sequence, and the states h and c
        at its end.
        """

    # sums and shapes
    def mean(self, x: Value, axis: int | Sequence[int], keep: bool = False) -> Value:
        """Mean over axes."""

    def sum(self, x: Value, axis: int | Sequence[int], keep: bool = False) -> Value:
        """Sum over axes."""

    def max(self, x: Value, axis: int | Sequence[int], keep: bool = False) -> Value:
        """Maximum over axes."""

    def cumsum(self, x: Value, axis: int) -> Value:
        """Running sum along an axis, each element included."""

    def arange(self, x: Value, axis: int) -> Value:
        """0, 1, ... up to the size of x along an axis: int32 (size,)."""

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """x in a new shape: 0 keeps the size of that axis, one -1 is inferred."""

    def pad(
        self,
        x: Value,
        before: int,
        after: int,
        mode: PadMode = "zeros",
        lengths: Value | None = None,
    ) -> Value:
        """Positions added at both ends of the last axis: x (n, ..., t) -> (n, ..., before + t + after).

        With `lengths` (n,), integers, each row ends at its own length, and the positions are added there: a row of 2 in
        an axis of 4, [a b - -], reflected by 1 and 1, is [b a b a - -]. What follows them has no meaning, except that
        zeros go on to the end. The caller checks that "reflect" adds fewer positions than there are.
        """

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        """x with its axes in a new order."""

    def concat(self, xs: Sequence[Value], axis: int) -> Value:
        """Values joined along an axis."""

    def expand(self, x: Value, like: Value) -> Value:
        """x (1, ...) repeated to the batch size of `like`: (n, ...)."""

    def take(self, x: Value, index: Value) -> Value:
        """One position of each row: x (n, t, ...), index (n,) integer -> (n, ...)."""

    def where(self, condition: Value, x: Value, y: Value) -> Value:
        """x where the condition (1 or 0) holds, else y; x and y have the same dtype."""

    def cast(self, x: Value, dtype: Literal["float32", "int32"]) -> Value:
        """x in another dtype; to int32, fractions are truncated towards zero."""

    # other libraries
    def foreign(self, network: Foreign, inputs: Sequence[Value], p: Params) -> list[Value]:
        """The outputs of a network of another library, run as one operation on these inputs with these weights."""

    def state(self, x: Value) -> Value:
        """Records x as the next hidden state and returns it: the embeddings first, then each layer."""


Program = Callable[[Ops, Callable[[str], Value], Params], Mapping[str, Value]]
"""What an engine runs: (ops, a function from an input's name to its value, weights) -> outputs by name."""


@dataclass(frozen=True)
class EngineSettings:
    """Settings of an engine, chosen in `models.runtime`.

    Attributes:
        precision: of matrix products; norms, residuals and pooling stay float32 where the engine allows.
        threads: total number of threads; 0 lets the engine choose.
        streams: batches computed at a time in bulk work.
        device: "cpu", "cuda", "cuda:1", ...
    """

    precision: Literal["float32", "bfloat16"] = "float32"
    threads: int = 0
    streams: int = 1
    device: str = "cpu"


class Executable(Protocol):
    """A program with its weights on an engine. `run` may be called from `streams` threads at once.

    Attributes:
        streams: how many batches are computed at a time.
    """

    streams: int

    def run(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """Arrays by input name -> arrays by output name, all float32."""

    def narrow(self, streams: int) -> None:
        """Limits `bulk` to this many batches at a time; call it before the first `bulk`."""

    def bulk(self) -> Executable:
        """The same program, compiled to compute several batches at a time."""
