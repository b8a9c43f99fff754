"""Reads ONNX files as data: the tensors, the nodes, and the inputs and outputs of a graph. Nothing is run.

An ONNX file is a message of Protocol Buffers, a list of fields. A field begins with a varint, its number * 8 + its wire
type: 0 for a varint, 1 for eight bytes, 5 for four, 2 for a length and as many bytes, which are a text, numbers, or a
message again. In a varint, the lowest seven bits of each byte are the value, the lowest byte first, and the highest bit
is set in all bytes but the last:

    3a 0a                 field 7 of the model, its graph, of 10 bytes
       2a 08              field 5 of the graph, a tensor, of 8 bytes
          10 01           field 2 of the tensor, its element type: 1, float32
          4a 04 ........  field 9, its data, 4 bytes
    96 01                 as a varint: 0x16 + (0x01 << 7) = 150

The numbers of the fields are those of onnx.proto, version 1 of ONNX's intermediate representation. Messages are read to
a fixed depth, and graphs inside of nodes (of If and Loop) are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from omnivec.types import Ints
from omnivec.weights.bounds import Bounds, brief
from omnivec.weights.tensor import DTYPES, Array, Bytes, Tensor, Weights, as_elements, map_file

# fmt: off
TYPES = {
    1: "F32", 2: "U8", 3: "I8", 4: "U16", 5: "I16", 6: "I32", 7: "I64",
    9: "BOOL", 10: "F16", 11: "F64", 12: "U32", 13: "U64", 16: "BF16",
}
# fmt: on
"""Element types by their numbers in the file."""

_VARINT, _EIGHT, _PIECE, _FOUR = 0, 1, 2, 5  # wire types
_LONGEST = 10  # bytes of a varint of 64 bits
_CHUNK = 1 << 18  # bytes of packed varints that are decoded at once
_FIELD, _NODE = 100, 1000  # bytes of memory for what is made of a field, and of a node
_GRAPHS = (6, 11)  # the fields of an attribute that hold graphs
_INLINE = {"F32": 4, "F64": 10, "I64": 7, "U32": 11, "U64": 11}
"""The field that holds a tensor's elements one by one, where they are not in field 9 as they lie in memory; else 5."""

Attribute = int | float | str | Tensor | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Node:
    """A node of a graph.

    Attributes:
        operator: its type, such as "Conv".
        name: of the node; often "".
        inputs: names of values and tensors; "" for an optional one that is left out.
        outputs: names of values.
        attributes: settings by name, such as "pads".
        domain: of its operator; "" for ONNX's own.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    domain: str = ""


@dataclass(frozen=True)
class GraphValue:
    """An input or output of a graph: its name, safetensors' name of its element type, and its shape.

    An axis without a fixed length is the text that names it, which may be ""; shape is None if the file states none.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None


@dataclass(frozen=True, eq=False)
class OnnxGraph:
    """The graph of an ONNX file.

    Attributes:
        tensors: its initializers by name.
        nodes: in the file's order, which is an order of execution.
        inputs: of the graph.
        outputs: of the graph.
        opsets: version of each set of operators by domain; "" is ONNX's own.
    """

    tensors: Weights
    nodes: tuple[Node, ...]
    inputs: tuple[GraphValue, ...]
    outputs: tuple[GraphValue, ...]
    opsets: Mapping[str, int]


def read_onnx(path: Path, raw: Bytes | None = None, external: Mapping[str, Bytes] | None = None) -> OnnxGraph:
    """Reads an ONNX file.

    Args:
        path: of the file.
        raw: its content, if it is not on the disk but a member of an archive, which `path` then names.
        external: contents of further files that hold data of its tensors, by the name by which the file refers to them.
            No file is opened because an ONNX file names it.

    Raises:
        WeightsError: the file is damaged or no ONNX file, or it refers to a file that `external` lacks, has a graph
            inside of a node, or a tensor of texts or of less than 8 bits.
    """
    path = Path(path)
    content = map_file(path) if raw is None else raw
    others = dict(external or {})
    bounds = Bounds(path, len(content) + sum(map(len, others.values())))
    model = _Message(bounds, content.data, "the model")
    graphs = model.messages(7, "the graph")
    if len(graphs) != 1:
        raise bounds.error(f"{len(graphs)} graphs, expected one: damaged, or not an ONNX file")
    graph = graphs[0]
    tensors: dict[str, Tensor] = {}
    for message in graph.messages(5, "a tensor"):
        tensor = _tensor(message, others)
        if not tensor.name or tensor.name in tensors:
            raise bounds.error(f"two tensors are called {brief(tensor.name)}, or one has no name: damaged")
        tensors[tensor.name] = tensor
    if graph.messages(15, "a sparse tensor"):
        raise bounds.error("it has sparse tensors, which are not covered")
    opsets = {each.text(1): each.integer(2) for each in model.messages(8, "a set of operators")}
    return OnnxGraph(
        Weights(tensors, (path,)),
        tuple(_node(each, others) for each in graph.messages(1, "a node")),
        tuple(_value(each) for each in graph.messages(11, "an input")),
        tuple(_value(each) for each in graph.messages(12, "an output")),
        opsets,
    )


def _node(message: _Message, external: Mapping[str, Bytes]) -> Node:
    message.bounds.spend("its nodes", _NODE)
    attributes = {}
    for each in message.messages(5, "an attribute"):
        name = each.text(1)
        if any(field in each.fields for field in _GRAPHS):
            raise message.bounds.error(
                f"a node of type {brief(message.text(4))} has a graph inside ({brief(name)}), which is not covered"
            )
        attributes[name] = _attribute(each, external)
    inputs, outputs = tuple(message.texts(1)), tuple(message.texts(2))
    return Node(message.text(4), message.text(3), inputs, outputs, attributes, message.text(7))


def _attribute(message: _Message, external: Mapping[str, Bytes]) -> Attribute:
    """The value of an attribute, by its stated type."""
    kind = message.integer(20)
    match kind:
        case 1:
            return float(message.numbers(2, "<f4")[-1]) if 2 in message.fields else 0.0
        case 2:
            return message.integer(3)
        case 3:
            return message.text(4)
        case 4:
            tensors = message.messages(5, "a tensor")
            if len(tensors) == 1:
                return _tensor(tensors[0], external)
        case 6:
            return tuple(message.numbers(7, "<f4").tolist())
        case 7:
            return tuple(message.integers(8).tolist())
        case 8:
            return tuple(message.texts(9))
    raise message.bounds.error(
        f"attribute {brief(message.text(1))} of type {kind}, without a value of it: damaged"
    )


def _value(message: _Message) -> GraphValue:
    """An input or output; one that is not a tensor has no element type."""
    name, shape = message.text(1), None
    kinds = [each for kind in message.messages(2, "a type") for each in kind.messages(1, "a tensor's type")]
    dtype = TYPES.get(kinds[0].integer(1), "") if kinds else ""
    if kinds and (shapes := kinds[0].messages(2, "a shape")):
        axes = shapes[0].messages(1, "an axis")
        shape = tuple(axis.integer(1) if 1 in axis.fields else axis.text(2) for axis in axes)
    return GraphValue(name, dtype, shape)


def _tensor(message: _Message, external: Mapping[str, Bytes]) -> Tensor:
    bounds, name, kind = message.bounds, message.text(8), message.integer(2)
    named = f"tensor {brief(name)}"
    if kind not in TYPES:
        raise bounds.error(f"{named} has element type {kind}; supported are {', '.join(TYPES.values())}")
    dtype, shape = TYPES[kind], tuple(message.integers(1).tolist())
    count = bounds.elements(named, shape)
    if message.integer(14) == 1 or 13 in message.fields:
        raw = _external(message, named, external)
    elif 9 in message.fields:
        raw = np.frombuffer(message.pieces(9)[-1], np.uint8)
    else:
        raw = _inline(message, dtype).view(np.uint8)
    needed = count * DTYPES[dtype].itemsize
    if len(raw) != needed:
        raise bounds.error(
            f"{named} of {dtype} {brief(shape)} needs {needed} bytes and has {len(raw)}: damaged"
        )
    bounds.spend(named, needed)  # Many tensors may refer to the same bytes of another file.
    data = as_elements(raw, DTYPES[dtype]).reshape(shape)
    return Tensor(name, dtype, shape, np.require(data, requirements=["C", "W"]))


def _inline(message: _Message, dtype: str) -> Array:
    """The elements of a tensor that are stored one by one: float16 and bfloat16 as the integers of their bits."""
    field = _INLINE.get(dtype, 5)
    if dtype in ("F32", "F64"):
        return message.numbers(field, DTYPES[dtype].str)
    values = message.integers(field)
    bits = values.astype(DTYPES["U16"] if dtype in ("F16", "BF16") else DTYPES[dtype])
    if dtype != "U64" and not np.array_equal(bits, values):
        raise message.bounds.error(f"a tensor of {dtype} with numbers beyond its range: damaged")
    return bits


def _external(message: _Message, named: str, external: Mapping[str, Bytes]) -> Bytes:
    """The bytes of a tensor in another file, which are described by keys and values."""
    bounds = message.bounds
    stated = {each.text(1): each.text(2) for each in message.messages(13, "a place in another file")}
    location, file = stated.get("location", ""), external.get(stated.get("location", ""))
    if file is None:
        raise bounds.error(
            f"{named} is stored in another file, {brief(location)}, which is not opened: not covered"
        )
    offset, length = (_decimal(stated.get(key)) for key in ("offset", "length"))
    offset = offset or 0
    length = len(file) - offset if length is None else length
    return file[offset : Bounds(bounds.path, len(file)).span(f"{named} in {brief(location)}", offset, length)]


def _decimal(text: str | None) -> int | None:
    """The number in a text of at most 18 digits; None without one, -1 if it is something else."""
    if text is None:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else -1


class _Message:
    """A message: its fields by number, each a list of wire types and values, in the file's order."""

    def __init__(self, bounds: Bounds, raw: memoryview, what: str) -> None:
        """Reads the fields of a message; the messages inside of it are read when they are asked for."""
        self.bounds = bounds
        self.what = what
        self.fields: dict[int, list[tuple[int, Any]]] = {}
        for number, kind, value in self._split(raw):
            bounds.spend("its fields", _FIELD)
            self.fields.setdefault(number, []).append((kind, value))

    def _split(self, raw: memoryview) -> Iterator[tuple[int, int, Any]]:
        """Number, wire type and value of each field: an int for a varint, else its bytes."""
        at, size = 0, len(raw)
        while at < size:
            key, at = self._varint(raw, at)
            kind = key & 7
            value: int | memoryview
            if kind == _VARINT:
                value, at = self._varint(raw, at)
            elif kind in (_EIGHT, _FOUR, _PIECE):
                length = 8 if kind == _EIGHT else 4
                if kind == _PIECE:
                    length, at = self._varint(raw, at)
                if length > size - at:
                    raise self._damaged(f"a field of {brief(length)} bytes where {size - at} are left")
                value, at = raw[at : at + length], at + length
            else:
                raise self._damaged(f"a field of wire type {kind}")
            yield key >> 3, kind, value

    def _varint(self, raw: memoryview, at: int) -> tuple[int, int]:
        """The varint that begins at an offset, and the offset behind it."""
        value = 0
        for i, byte in enumerate(raw[at : at + _LONGEST]):
            value |= (byte & 127) << 7 * i
            if byte < 128:
                return value & (1 << 64) - 1, at + i + 1
        raise self._damaged("a number that does not end")

    def _damaged(self, why: str) -> Exception:
        return self.bounds.error(f"{self.what} has {why}: damaged, or not an ONNX file")

    def _of_kind(self, number: int, *kinds: int) -> list[tuple[int, Any]]:
        found = self.fields.get(number, [])
        if any(kind not in kinds for kind, _ in found):
            raise self._damaged(f"field {number} of another type than ONNX has there")
        return found

    def pieces(self, number: int) -> list[memoryview]:
        """The bytes of all fields of a number."""
        return [value for _, value in self._of_kind(number, _PIECE)]

    def messages(self, number: int, what: str) -> list[_Message]:
        """The messages in all fields of a number."""
        return [_Message(self.bounds, piece, what) for piece in self.pieces(number)]

    def texts(self, number: int) -> list[str]:
        """The texts in all fields of a number."""
        try:
            return [bytes(piece).decode() for piece in self.pieces(number)]
        except UnicodeDecodeError as error:
            raise self._damaged(f"field {number} that is no text in UTF-8") from error

    def text(self, number: int) -> str:
        """The last text of a number; "" if there is none."""
        return (self.texts(number) or [""])[-1]

    def integer(self, number: int) -> int:
        """The last whole number in the fields of a number, signed; 0 if there is none."""
        values = [value for _, value in self._of_kind(number, _VARINT)]
        return _signed(values[-1]) if values else 0

    def integers(self, number: int) -> Ints:
        """All whole numbers in the fields of a number, one in each field, or many: (n,) int64."""
        parts = []
        for kind, value in self._of_kind(number, _VARINT, _PIECE):
            parts.append(np.array([_signed(value)], np.int64) if kind == _VARINT else self._packed(value))
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def numbers(self, number: int, dtype: str) -> Array:
        """All floats in the fields of a number, one in each field, or many: (n,)."""
        size = np.dtype(dtype).itemsize
        pieces = [value for _, value in self._of_kind(number, _PIECE, _FOUR if size == 4 else _EIGHT)]
        raw = b"".join(pieces)
        if len(raw) % size:
            raise self._damaged(f"field {number} of {len(raw)} bytes, which are no numbers of {size}")
        return np.frombuffer(bytearray(raw), dtype)

    def _packed(self, raw: memoryview) -> Ints:
        """Varints that follow each other, decoded in chunks: (n,) int64."""
        content = np.frombuffer(raw, np.uint8)
        if len(content) and content[-1] >= 128:
            raise self._damaged("a number that does not end")
        self.bounds.spend("its numbers", 2 * 8 * len(content))
        parts, at = [np.zeros(0, np.int64)], 0
        while at < len(content):
            chunk = content[at : at + _CHUNK]
            ends = np.flatnonzero(chunk < 128)
            starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
            lengths = ends - starts + 1
            if not len(ends) or lengths.max() > _LONGEST:
                raise self._damaged("a number that does not end")
            values = np.zeros(len(ends), np.uint64)
            for i in range(int(lengths.max())):
                longer = lengths > i
                digits = (chunk[starts[longer] + i] & 127).astype(np.uint64)
                values[longer] |= digits << np.uint64(7 * i)
            parts.append(values.view(np.int64))
            at += int(ends[-1]) + 1
        return np.concatenate(parts)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
