"""Outputs of an OpenVINO graph with the operators of an array; operations and a rewrite that take several nodes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from omnivec.ops.base import Params

# Importing OpenVINO writes an id into the user's home folder and sends a telemetry event. Where the telemetry package
# cannot be imported, OpenVINO uses a stub that does neither.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
# The converter of foreign models takes a fifth of OpenVINO's import time. It is hidden during the import, which
# OpenVINO tolerates, and imported when `openvino.convert_model` is first used.
_CONVERTER = "openvino.tools.ovc"
_first = "openvino" not in sys.modules
if _first:
    sys.modules.setdefault(_CONVERTER, None)  # type: ignore[arg-type]

import openvino as ov  # noqa: E402
import openvino.opset13 as o  # noqa: E402


def _converter(name: str) -> Any:
    """`openvino.convert_model`, imported at its first use."""
    if name != "convert_model":
        raise AttributeError(f"module 'openvino' has no attribute {name!r}")
    from openvino.tools.ovc import convert_model

    return convert_model


if _first and sys.modules.get(_CONVERTER, ov) is None:
    del sys.modules[_CONVERTER]
    ov.__getattr__ = _converter

_OPEN_END = np.iinfo(np.int64).max


def integers(*values: int) -> Any:
    """A constant int64 vector, the form in which nodes take shapes and axes."""
    return o.constant(np.array(values, np.int64))


def integer(value: int) -> Any:
    """A constant int64 scalar."""
    return o.constant(np.int64(value))


class Node:
    """An output of a graph with the operators of an array; unlike bare nodes, it converts operands to one dtype."""

    __slots__ = ("out",)

    def __init__(self, out: Any) -> None:
        self.out = out if isinstance(out, ov.Output) else out.output(0)

    @property
    def _type(self) -> Any:
        return self.out.get_element_type()

    def aligned(self, other: Node | float, call: Callable[[Any, Any], Any], swapped: bool = False) -> Node:
        """call(self, other), or call(other, self) if `swapped`, with both operands converted to one element type."""
        x, y = self.out, other
        if isinstance(other, Node):
            y = other.out
            if other._type != self._type:
                wider = next(
                    t for t in (ov.Type.f32, ov.Type.i64, ov.Type.i32) if t in (self._type, other._type)
                )
                x, y = (
                    v if v.get_element_type() == wider else o.convert(v, wider.to_string()) for v in (x, y)
                )
        else:
            if isinstance(other, float) and self._type.is_integral():
                x = o.convert(x, "f32").output(0)
            y = o.constant(np.array(other, x.get_element_type().to_dtype()))
        return Node(call(y, x) if swapped else call(x, y))

    def __add__(self, other: Node | float) -> Node:
        return self.aligned(other, o.add)

    def __radd__(self, other: float) -> Node:
        return self.aligned(other, o.add, True)

    def __sub__(self, other: Node | float) -> Node:
        return self.aligned(other, o.subtract)

    def __rsub__(self, other: float) -> Node:
        return self.aligned(other, o.subtract, True)

    def __mul__(self, other: Node | float) -> Node:
        return self.aligned(other, o.multiply)

    def __rmul__(self, other: float) -> Node:
        return self.aligned(other, o.multiply, True)

    def __truediv__(self, other: Node | float) -> Node:
        return self.aligned(other, o.divide)

    def __rtruediv__(self, other: float) -> Node:
        return self.aligned(other, o.divide, True)

    def __neg__(self) -> Node:
        return Node(o.negative(self.out))

    def __matmul__(self, other: Node) -> Node:
        return Node(o.matmul(self.out, other.out, False, False))

    def __getitem__(self, key: Any) -> Node:
        keys = key if isinstance(key, tuple) else (key,)
        rank = len(self.out.get_partial_shape())
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            gap = rank - sum(k is not None and k is not Ellipsis for k in keys)
            keys = keys[:at] + (slice(None),) * gap + keys[at + 1 :]
        out, axis, drop, new = self.out, 0, [], []
        for place, k in enumerate(keys):
            if k is None:
                new.append(place)
                continue
            if isinstance(k, int):
                out = _slice(out, axis, k, k + 1 if k != -1 else _OPEN_END)
                drop.append(axis)
            elif k != slice(None):
                out = _slice(out, axis, k.start or 0, _OPEN_END if k.stop is None else k.stop)
            axis += 1
        out = o.squeeze(out, integers(*drop)) if drop else out
        shift = [place - sum(isinstance(k, int) for k in keys[:place]) for place in new]
        return Node(o.unsqueeze(out, integers(*shift)) if shift else out)


def _slice(x: Any, axis: int, start: int, stop: int) -> Any:
    return o.slice(x, integers(start), integers(stop), integers(1), integers(axis)).output(0)


def pad(x: Node, before: int, after: int, mode: str, lengths: Node | None) -> Node:
    """`Ops.pad` as nodes: one operation, or a gather if every row ends at its own length."""
    rank = len(x.out.get_partial_shape())
    if lengths is None:
        ends = (integers(*[0] * (rank - 1), size) for size in (before, after))
        fill = o.convert(o.constant(np.float32(0)), x.out.get_element_type().to_string())
        return Node(o.pad(x.out, *ends, {"zeros": "constant"}.get(mode, mode), fill))
    last = Node(o.convert(lengths.out, "i64"))[:, None] - 1
    size = o.gather(o.shape_of(x.out), integer(-1), integer(0))
    place = Node(o.range(integer(-before), o.add(size, integer(after)), integer(1), "i64"))[None]
    index = Node(o.minimum(o.maximum(place.out, integer(0)), last.out))
    if mode == "reflect":
        index = Node(o.maximum((last - Node(o.abs((last - Node(o.abs(place.out))).out))).out, integer(0)))
    y = Node(o.gather(x.out, index.out, integer(rank - 1), 1))
    if mode != "zeros":
        return y
    inside = o.logical_and(o.greater_equal(place.out, integer(0)), o.less_equal(place.out, last.out))
    middle = o.reshape(o.convert(inside, "f32"), integers(0, *[1] * (rank - 2), -1), True)
    return y * Node(middle)


def keep_gates_apart(model: Any) -> None:
    """Keeps the compiler from fusing gated feed-forward networks, (act(x A) * (x B)) C, into one operation.

    On CPUs with AMX, OpenVINO 2026.4 fuses them in bfloat16 into LLMMLP, which divides by half of a stream's number of
    threads: with one thread, the process dies of SIGFPE. A multiplication without broadcasting is not fused.
    """
    for node in model.get_ordered_ops():
        sources = [value.get_node() for value in node.input_values()]
        kinds = {source.get_type_name() for source in sources}
        if node.get_type_name() == "Multiply" and kinds & {"Gelu", "Swish"} and "MatMul" in kinds:
            one, other = node.input_values()
            if one.get_partial_shape() == other.get_partial_shape():
                ov.utils.replace_node(node, o.multiply(one, other, "none"))


def lstm_layer(x: Node, p: Params, count: Any, states: Sequence[Any], end: str) -> tuple[Node, Node, Node]:
    """One LSTM layer: its outputs (n, t, d), and its last states h and c (n, 1, d).

    Args:
        x: (n, t, in).
        p: weights by torch's names.
        count: lengths (n,) int32.
        states: h and c (n, 1, d) to begin from.
        end: ending of the weights' names: "" or "_reverse".
    """

    def gates(name: str) -> Any:  # torch stores the gates as i f g o, OpenVINO as f i c o
        value = p[f"{name}_l0{end}"].out
        i, f, g, out = o.split(value, integer(0), 4).outputs()
        return o.concat([f, i, g, out], 0)

    hidden = p[f"weight_hh_l0{end}"].out.get_shape()[1]
    w, r = (o.unsqueeze(gates(name), integers(0)) for name in ("weight_ih", "weight_hh"))
    b = o.unsqueeze(o.add(gates("bias_ih"), gates("bias_hh")), integers(0))
    layer = o.lstm_sequence(x.out, *states, count, w, r, b, hidden, "forward")
    return Node(o.squeeze(layer.output(0), integers(1))), Node(layer.output(1)), Node(layer.output(2))
