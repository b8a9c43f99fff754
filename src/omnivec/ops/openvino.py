"""The operations as nodes of an OpenVINO graph: inference on a CPU without torch.

A program is traced once, with dynamic sizes; OpenVINO fuses and compiles the graph.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ModelError, UsageError, WeightsError
from omnivec.ops import process
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
from omnivec.ops.damage import refuse_nan
from omnivec.ops.quantized import Quantized

# Imported before openvino, whose telemetry it turns off.
from omnivec.ops.openvino_nodes import Node, integer, integers, keep_gates_apart, lstm_layer, pad  # isort: skip
import openvino as ov
import openvino.opset12 as o12
import openvino.opset13 as o

from omnivec.ops.converted import splice


class OpenVINOOps:
    """The operations as graph nodes; `ops.base.Ops` documents them. This engine does not train."""

    training = False

    def __init__(self) -> None:
        self.states: list[Value] = []

    def constant(self, array: NDArray[Any]) -> Node:
        return Node(o.constant(np.ascontiguousarray(array)))

    def embedding(self, ids: Node, table: Node) -> Node:
        return Node(o.gather(table.out, ids.out, integer(0)))

    def linear(self, x: Node, p: Params) -> Node:
        y = Node(o.matmul(x.out, p["weight"].out, False, True))
        return y + p["bias"] if "bias" in p else y

    def mix_tokens(self, x: Node, shares: NDArray[np.float32]) -> Node:
        return self.constant(shares) @ x

    def layer_norm(self, x: Node, p: Params, eps: float) -> Node:
        y: Node = Node(o.mvn(x.out, integers(-1), True, eps, "inside_sqrt")) * p["weight"]
        return y + p["bias"] if "bias" in p else y

    def rms_norm(self, x: Node, weight: Node, eps: float) -> Node:
        # Written in the form that the compiler fuses into one RMS node.
        square = o.power(x.out, o.constant(np.float32(2)))
        mean = Node(o.reduce_mean(square, integers(-1), True))
        return x * (1.0 / self.sqrt(mean + eps)) * weight

    def group_norm(self, x: Node, p: Params, groups: int, eps: float) -> Node:
        return Node(o12.group_normalization(x.out, p["weight"].out, p["bias"].out, groups, eps))

    def batch_norm(self, x: Node, p: Params, eps: float, momentum: float = 0.1) -> Node:
        parts = (p[name].out for name in ("weight", "bias", "running_mean", "running_var"))
        return Node(o.batch_norm_inference(x.out, *parts, eps))

    def normalize(self, x: Node, eps: float = 1e-12) -> Node:
        return Node(o.normalize_l2(x.out, integers(-1), eps, "max"))

    def gelu(self, x: Node, approximate: Literal["none", "tanh"] = "none") -> Node:
        return Node(o.gelu(x.out, "tanh" if approximate == "tanh" else "erf"))

    def relu(self, x: Node) -> Node:
        return Node(o.relu(x.out))

    def silu(self, x: Node) -> Node:
        return Node(o.swish(x.out))

    def sigmoid(self, x: Node) -> Node:
        return Node(o.sigmoid(x.out))

    def tanh(self, x: Node) -> Node:
        return Node(o.tanh(x.out))

    def exp(self, x: Node) -> Node:
        return Node(o.exp(x.out))

    def log(self, x: Node) -> Node:
        return Node(o.log(x.out))

    def sqrt(self, x: Node) -> Node:
        return Node(o.sqrt(x.out))

    def maximum(self, x: Node, y: Node | float) -> Node:
        return x.aligned(y, o.maximum)

    def clip(self, x: Node, low: float, high: float) -> Node:
        return Node(o.clamp(x.out, low, high))

    def not_equal(self, x: Node, number: float) -> Node:
        return Node(o.convert(x.aligned(number, o.not_equal).out, "f32"))

    def softmax(self, x: Node, axis: int = -1) -> Node:
        return Node(o.softmax(x.out, axis))

    def dropout(self, x: Node, rate: float) -> Node:
        return x

    def attention(
        self,
        q: Node,
        k: Node,
        v: Node,
        bias: Node | None,
        scale: float,
        dropout: float = 0.0,
        cap: float = 0.0,
    ) -> Node:
        if cap:
            scores = self.tanh(Node(o.matmul(q.out, k.out, False, True)) * (scale / cap)) * cap
            return self.softmax(scores if bias is None else scores + bias) @ v
        # The scale is the fifth input, so the fourth, the bias, cannot be left out.
        mask = o.constant(np.float32(0)) if bias is None else bias.out
        return Node(o.scaled_dot_product_attention(q.out, k.out, v.out, mask, o.constant(np.float32(scale))))

    def alibi_attention(
        self,
        q: Node,
        k: Node,
        v: Node,
        bias: Node,
        slopes: NDArray[np.float32],
        scale: float,
        dropout: float = 0.0,
    ) -> Node:
        # softmax((q * scale / slope @ k' + bias) * slope): factors between the two products are fused into one kernel.
        slope = slopes[:, None, None]
        scores = (q * self.constant(scale / slope)) @ self.transpose(k, (0, 1, 3, 2)) + bias
        return self.softmax(scores * self.constant(slope)) @ v

    def padding_bias(self, mask: Node) -> Node:
        return ((self.cast(mask, "float32") - 1.0) * 1e4)[:, None, None, :]

    def causal_bias(self, mask: Node) -> Node:
        place = self.arange(mask, 1)
        past = Node(o.convert(o.less_equal(place[None, :].out, place[:, None].out), "f32"))
        return (past * self.cast(mask, "float32")[:, None, None, :] - 1.0) * 1e4

    def repeat_heads(self, x: Node, times: int) -> Node:
        ones = integers(1, 1, times, 1, 1)
        wide = o.broadcast(x[:, :, None].out, ones, broadcast_spec="BIDIRECTIONAL")
        heads, width = x.out.get_partial_shape()[1], x.out.get_partial_shape()[3]
        return Node(o.reshape(wide, integers(0, heads.get_length() * times, -1, width.get_length()), True))

    def rotary(self, x: Node, cos: Node, sin: Node) -> Node:
        # The compiler fuses this into one RoPE node only if the axis is written as -1 and the tables have four axes.
        half = x.out.get_partial_shape()[3].get_length() // 2
        rotated = Node(o.concat([(-x[..., half:]).out, x[..., :half].out], -1))
        return x * cos[None, None] + rotated * sin[None, None]

    def conv(
        self,
        x: Node,
        p: Params,
        stride: Sequence[int],
        padding: Padding,
        dilation: Sequence[int] = (),
        groups: int = 1,
    ) -> Node:
        weight, steps = p["weight"], list(stride)
        pads = (
            [(0, 0)] * len(steps)
            if padding == "same"
            else [(k, k) if isinstance(k, int) else k for k in padding]
        )
        how = (
            [before for before, _ in pads],
            [after for _, after in pads],
            list(dilation or [1] * len(steps)),
            "same_upper" if padding == "same" else "explicit",
        )
        if groups > 1:
            out, inner, *kernel = weight.out.get_shape()
            grouped = o.reshape(weight.out, integers(groups, out // groups, inner, *kernel), False)
            y = Node(o.group_convolution(x.out, grouped, steps, *how))
        else:
            y = Node(o.convolution(x.out, weight.out, steps, *how))
        return y + self.reshape(p["bias"], (1, -1, *[1] * len(steps))) if "bias" in p else y

    def max_pool(self, x: Node, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Node:
        ones, pads = [1] * len(kernel), list(padding)
        return Node(o.max_pool(x.out, list(stride), ones, pads, pads, list(kernel)))

    def adaptive_mean(self, x: Node, size: Sequence[int]) -> Node:
        return Node(o.adaptive_avg_pool(x.out, integers(*size)))

    def lstm(self, x: Node, p: Params, lengths: Node, bidirectional: bool = False) -> tuple[Node, Node]:
        y, last = self._lstm_forward(x, p, lengths, "")
        if not bidirectional:
            return y, last
        # One direction at a time, over sequences reversed here: with dynamic shapes the CPU plugin ignores the lengths,
        # and its reverse pass would start in the padding.
        back, back_last = self._lstm_forward(self._reverse(x, lengths), p, lengths, "_reverse")
        return (
            self.concat([y, self._reverse(back, lengths)], -1),
            self.concat([last, back_last], -1),
        )

    def lstm_from(self, x: Node, p: Params, h: Node, c: Node) -> tuple[Node, Node, Node]:
        size, length = (o.gather(o.shape_of(x.out), integers(axis), integer(0)) for axis in (0, 1))
        states = [o.unsqueeze(state.out, integers(1)) for state in (h, c)]
        y, *last = lstm_layer(x, p, o.broadcast(length, size), states, "")
        h, c = (Node(o.squeeze(state.out, integers(1))) for state in last)
        return y, h, c

    def _lstm_forward(self, x: Node, p: Params, lengths: Node, end: str) -> tuple[Node, Node]:
        hidden = p[f"weight_hh_l0{end}"].out.get_shape()[1]
        count = self.cast(lengths, "int32")
        size = o.gather(o.shape_of(x.out), integers(0), integer(0))
        zero = o.broadcast(o.constant(np.float32(0)), o.concat([size, integers(1, hidden)], 0))
        y, _, _ = lstm_layer(x, p, count.out, [zero, zero], end)
        inside = Node(o.less(self.arange(x, 1)[None, :].out, count[:, None].out))
        y = y * self.cast(inside, "float32")[:, :, None]
        return y, self.take(y, count - 1)

    def _reverse(self, x: Node, lengths: Node) -> Node:
        return Node(o.reverse_sequence(x.out, self.cast(lengths, "int32").out, 0, 1))

    def mean(self, x: Node, axis: int | Sequence[int], keep: bool = False) -> Node:
        return Node(o.reduce_mean(x.out, _axes(axis), keep))

    def sum(self, x: Node, axis: int | Sequence[int], keep: bool = False) -> Node:
        return Node(o.reduce_sum(x.out, _axes(axis), keep))

    def max(self, x: Node, axis: int | Sequence[int], keep: bool = False) -> Node:
        return Node(o.reduce_max(x.out, _axes(axis), keep))

    def cumsum(self, x: Node, axis: int) -> Node:
        return Node(o.cum_sum(x.out, integer(axis)))

    def arange(self, x: Node, axis: int) -> Node:
        size = o.gather(o.shape_of(x.out), integer(axis), integer(0))
        return Node(o.range(integer(0), size, integer(1), "i32"))

    def reshape(self, x: Node, shape: Sequence[int]) -> Node:
        return Node(o.reshape(x.out, integers(*shape), True))

    def pad(
        self, x: Node, before: int, after: int, mode: PadMode = "zeros", lengths: Node | None = None
    ) -> Node:
        return pad(x, before, after, mode, lengths)

    def transpose(self, x: Node, order: Sequence[int]) -> Node:
        return Node(o.transpose(x.out, integers(*order)))

    def concat(self, xs: Sequence[Node], axis: int) -> Node:
        return Node(o.concat([x.out for x in xs], axis))

    def expand(self, x: Node, like: Node) -> Node:
        size = o.gather(o.shape_of(like.out), integers(0), integer(0))
        rest = integers(*[1] * (len(x.out.get_partial_shape()) - 1))
        return Node(o.broadcast(x.out, o.concat([size, rest], 0), broadcast_spec="BIDIRECTIONAL"))

    def take(self, x: Node, index: Node) -> Node:
        picked = o.gather(x.out, o.unsqueeze(index.out, integers(1)), integer(1), 1)
        return Node(o.squeeze(picked, integers(1)))

    def where(self, condition: Node, x: Node, y: Node) -> Node:
        return Node(o.select(o.convert(condition.out, "boolean"), x.out, y.out))

    def cast(self, x: Node, dtype: Literal["float32", "int32"]) -> Node:
        return Node(o.convert(x.out, {"float32": "f32", "int32": "i32"}[dtype]))

    def foreign(self, network: Foreign, inputs: Sequence[Node], p: Params) -> list[Node]:
        parameters = [x.out for x in (*inputs, *(p[name] for name in network.names))]
        return [Node(out) for out in splice(network.graph, parameters)]

    def state(self, x: Node) -> Node:
        self.states.append(x)
        return x

    # Former names, which families of other packages may call.
    mixed = mix_tokens
    sloped_attention = alibi_attention


def _axes(axis: int | Sequence[int]) -> Any:
    return integers(axis) if isinstance(axis, int) else integers(*axis)


def constant(tensor: Stored) -> Node:
    """A weight as a float32 constant that shares the file's memory; half precision is converted in the graph."""
    if isinstance(tensor, Quantized):  # The form that the compiler recognises and keeps in int8.
        integral = o.convert(o.constant(tensor.data, shared_memory=True), "f32")
        return Node(o.multiply(integral, o.constant(tensor.scale.reshape(-1, 1))))
    if tensor.dtype == "BF16":
        bits = ov.Tensor(tensor.data, ov.Shape(list(tensor.data.shape)), ov.Type.bf16)
        return Node(o.convert(o.constant(bits, shared_memory=True), "f32"))
    if tensor.dtype == "F16":
        return Node(o.convert(o.constant(tensor.data, shared_memory=True), "f32"))
    return Node(o.constant(tensor.float32(), shared_memory=True))


def trace(program: Program, inputs: Sequence[Input], tensors: Mapping[str, Stored]) -> tuple[Any, list[str]]:
    """The graph of a program, an `openvino.Model`, and the names of its outputs in order."""
    parameters: dict[str, Any] = {}
    constants: dict[str, Node] = {}
    for spec in inputs:
        shape = ov.PartialShape([-1 if size is None else size for size in spec.shape])
        parameters[spec.name] = o.parameter(shape, np.dtype(spec.dtype), spec.name)
        parameters[spec.name].output(0).get_tensor().set_names({spec.name})

    def weight(name: str) -> Node:
        if name not in constants:
            refuse_nan(name, tensors[name])
            constants[name] = constant(tensors[name])
        return constants[name]

    outputs = program(OpenVINOOps(), lambda name: Node(parameters[name]), Params(tensors, weight))
    results = []
    for name, node in outputs.items():
        result = o.result(node.out)
        result.set_friendly_name(name)
        results.append(result)
    model = ov.Model(results, list(parameters.values()), "omnivec")
    keep_gates_apart(model)
    return model, list(outputs)


_CORES: dict[int, Any] = {}


def core() -> Any:
    """OpenVINO's core, one for each process.

    Raises:
        ModelError: this process was forked from one that had a core. A fork copies no threads, so calls would hang.
    """
    pid = os.getpid()
    if pid not in _CORES:
        if _CORES:
            raise ModelError(
                "this process was forked after a model was loaded, which OpenVINO does not survive: start worker "
                "processes with the method 'spawn' or 'forkserver'"
            )
        _CORES[pid] = ov.Core()
    return _CORES[pid]


def cpu_can_bfloat16() -> bool:
    """Whether OpenVINO has bfloat16 kernels for this CPU, which may still be slower than float32."""
    try:
        return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except RuntimeError as error:
        raise ModelError(f"OpenVINO {version()} cannot be used here: {_last_line(error)}") from error


def version() -> str:
    """The version of OpenVINO, without its build number."""
    return str(ov.__version__).partition("-")[0]


class OpenVINOExecutable:
    """A compiled graph; see `ops.base.Executable`. Each thread has its own inference request."""

    def __init__(
        self,
        model: Any,
        outputs: Sequence[str],
        tensors: Mapping[str, Stored],
        settings: EngineSettings,
        streams: int,
    ) -> None:
        self._model, self._outputs, self._settings, self.streams = model, outputs, settings, streams
        # Constants share the memory of the weights, and bfloat16 constants do not keep it alive.
        self._tensors = tensors
        hints = {
            "INFERENCE_PRECISION_HINT": "bf16" if settings.precision == "bfloat16" else "f32",
            "NUM_STREAMS": str(streams),
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",  # else the inputs of int8 matrices are rounded to int8 as well
            "CPU_RUNTIME_CACHE_CAPACITY": "32",  # kernels of past shapes; else memory grows with every new shape
            # Pinned threads of two processes would share cores while others are idle.
            "ENABLE_CPU_PINNING": "NO",
        }
        if settings.threads:
            hints["INFERENCE_NUM_THREADS"] = str(settings.threads)
        if _is_short():
            raise ModelError(f"this model cannot be compiled: {process.why_short()}")
        try:
            self._compiled = core().compile_model(model, "CPU", hints)
        except RuntimeError as error:
            raise ModelError(
                f"OpenVINO {version()} cannot compile this model: {_last_line(error)}"
            ) from error
        self._local = threading.local()
        self._bulk: OpenVINOExecutable | None = None
        self._lock = threading.Lock()

    def run(self, batch: Batch) -> dict[str, NDArray[Any]]:
        core()  # Raises in a forked process, where inference would hang.
        request = getattr(self._local, "request", None)
        if request is None:
            request = self._local.request = self._compiled.create_infer_request()
        try:
            # The arrays are read where they are: copies of a decoder's keys and values took a quarter of its time.
            results = request.infer(dict(batch), share_inputs=True)
        except RuntimeError as error:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in batch.items())
            raise ModelError(f"OpenVINO could not run a batch ({shapes}): {_last_line(error)}") from error
        return {name: results[i] for i, name in enumerate(self._outputs)}

    def narrow(self, streams: int) -> None:
        self._settings = replace(self._settings, streams=streams)

    def bulk(self) -> OpenVINOExecutable:
        if self._settings.streams == self.streams:
            return self
        with self._lock:
            if self._bulk is None and _is_short():
                return self  # One stream is slower, but needs no more memory.
            if self._bulk is None:
                self._bulk = OpenVINOExecutable(
                    self._model, self._outputs, self._tensors, self._settings, self._settings.streams
                )
            return self._bulk


NO_MEMORY = (
    "bad_alloc",
    "can't alloc",
    "Cannot allocate memory",
    "Resource temporarily unavailable",
    "failed to map segment",
)

LEAST = 64 * 10**6
"""Bytes of address space that even the smallest model needs: with less, the engine aborts the process."""

_SHAPE = re.compile(r"(?<=:f32)\[[^\]]*\]")


def _is_short() -> bool:
    spare = process.spare()
    return spare is not None and spare < LEAST


def _last_line(error: Exception) -> str:
    """The last line of an engine's error, after the cause if memory or threads ran out."""
    line = str(error).strip().splitlines()[-1]
    return f"{process.why_short()} ({line})" if any(words in line for words in NO_MEMORY) else line


def compile_program(
    program: Program, inputs: Sequence[Input], tensors: Mapping[str, Stored], settings: EngineSettings
) -> OpenVINOExecutable:
    """A program with its weights, compiled for the CPU with one stream; `bulk()` compiles it for several.

    Raises:
        UsageError: a device other than the CPU.
        WeightsError: the shapes of the weights do not fit the config.
    """
    if settings.device != "cpu":
        raise UsageError(
            f"device={settings.device!r}: the engine openvino runs on the cpu; use engine='torch'"
        )
    try:
        model, outputs = trace(program, inputs, tensors)
    except RuntimeError as error:
        shapes = " and ".join(_SHAPE.findall(str(error))) or _last_line(error)
        raise WeightsError(
            f"the weights do not fit their config.json, at {shapes}: fetch the model again"
        ) from error
    return OpenVINOExecutable(model, outputs, tensors, settings, 1)
