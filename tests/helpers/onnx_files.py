"""ONNX files made field by field, as Protocol Buffers lay them out."""

from __future__ import annotations

import numpy as np

FLOAT, INT64 = 1, 7
# fmt: off
NUMBERS = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9,
    "float16": 10, "float64": 11, "uint32": 12, "uint64": 13,
}
# fmt: on


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    piece = bytearray()
    while value > 127:
        piece.append(value & 127 | 128)
        value >>= 7
    return bytes([*piece, value])


def field(number: int, value: int | str | bytes) -> bytes:
    """A field of a varint, or of a length and bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def tensor(name: str, shape: tuple[int, ...], kind: int, *data: bytes) -> bytes:
    return b"".join(field(1, side) for side in shape) + field(2, kind) + field(8, name) + b"".join(data)


def stored(name: str, array: np.ndarray) -> bytes:
    return tensor(name, array.shape, NUMBERS[array.dtype.name], field(9, array.tobytes()))


def attribute(name: str, kind: int, number: int, *values: int | str | bytes) -> bytes:
    return field(1, name) + field(20, kind) + b"".join(field(number, value) for value in values)


def node(operator: str, inputs: list[str], outputs: list[str], *attributes: bytes) -> bytes:
    named = b"".join(field(1, name) for name in inputs) + b"".join(field(2, name) for name in outputs)
    return named + field(4, operator) + b"".join(field(5, each) for each in attributes)


def value(name: str, *axes: int | str) -> bytes:
    sides = b"".join(field(1, field(1 if isinstance(axis, int) else 2, axis)) for axis in axes)
    return field(1, name) + field(2, field(1, field(1, FLOAT) + field(2, sides)))


def model(
    tensors: list[bytes],
    nodes: list[bytes],
    inputs: list[bytes] | None = None,
    outputs: list[bytes] | None = None,
) -> bytes:
    rows = [(1, nodes), (5, tensors), (11, inputs or []), (12, outputs or [])]
    graph = b"".join(field(number, each) for number, many in rows for each in many)
    return field(1, 8) + field(8, field(1, "") + field(2, 13)) + field(7, graph + field(2, "a graph"))
