"""Writes model.bin of CTranslate2."""

from __future__ import annotations

import struct

import numpy as np

KINDS = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4, "uint16": 5}  # bfloat16 as uint16


def string(text: str) -> bytes:
    raw = text.encode() + b"\0"
    return struct.pack("<H", len(raw)) + raw


def tensor(name: str, array: np.ndarray) -> bytes:
    head = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
    return string(name) + head + struct.pack("<BI", KINDS[array.dtype.name], array.nbytes) + array.tobytes()


def model_bin(
    tensors: dict[str, np.ndarray], aliases: dict[str, str] | None = None, *, version: int = 6
) -> bytes:
    begin = struct.pack("<I", version) + string("WhisperSpec") + struct.pack("<2I", 3, len(tensors))
    further = b"".join(string(alias) + string(name) for alias, name in (aliases or {}).items())
    return (
        begin
        + b"".join(map(tensor, tensors, tensors.values()))
        + struct.pack("<I", len(aliases or {}))
        + further
    )
