"""safetensors files, which are a JSON header and raw tensors; read by memory mapping, written by the library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from omnivec.errors import WeightsError
from omnivec.files import written
from omnivec.validation.reasons import one_line, with_class
from omnivec.weights.bounds import Bounds, brief
from omnivec.weights.tensor import DTYPES, Array, Bytes, Tensor, Weights, as_elements, map_file

MAX_HEADER = 100_000_000  # bytes; the format's own limit


def read_safetensors(path: Path) -> Weights:
    """Reads the tensors of one file as views of its memory map; only misaligned tensors are copied.

    Raises:
        WeightsError: the file is truncated or damaged, or has an unknown element type.
    """
    raw = map_file(path)
    start, header = _header(path, raw)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsError(f"{path}: __metadata__ is not a table of strings.")
    bounds = Bounds(path, len(raw))
    entries = {name: _entry(bounds, name, row) for name, row in header.items()}
    _check_layout(path, entries, len(raw) - start)
    tensors = {}
    for name, (dtype, shape, begin, end) in entries.items():
        data = as_elements(raw[start + begin : start + end], DTYPES[dtype]).reshape(shape)
        tensors[name] = Tensor(name, dtype, shape, data)
    return Weights(tensors, (path,), metadata)


def save(path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file atomically.

    Args:
        path: of the file; an existing one is replaced once the new one is complete.
        tensors: arrays by name.
        metadata: strings to store in the file's header.

    Raises:
        WeightsError: an element type that the format does not have, or the disk is full or fails.
    """
    from safetensors.numpy import save_file

    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    # The writer of the folder flushes all files to the disk at the end.
    with written(path, durable=False, error=WeightsError) as scratch:
        try:
            save_file(arrays, scratch, dict(metadata) if metadata else None)
        # The library raises its own error for a full disk and a bare KeyError for an unknown element type.
        except Exception as exc:
            raise WeightsError(f"{path} cannot be written: {with_class(exc)}.") from exc


def _header(path: Path, raw: Bytes) -> tuple[int, dict[str, Any]]:
    """The offset of the first tensor, and the header's content."""
    size = int.from_bytes(raw[:8].tobytes(), "little")
    if len(raw) < 8 or size > MAX_HEADER or 8 + size > len(raw):
        raise WeightsError(
            f"{path}: truncated, or not a safetensors file: a header of {size} bytes (at most {MAX_HEADER}) "
            f"in a file of {len(raw)}."
        )
    try:
        header = json.loads(raw[8 : 8 + size].tobytes().decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as exc:
        raise WeightsError(
            f"{path}: the header of {size} bytes is not readable JSON: {one_line(exc)}."
        ) from exc
    if not isinstance(header, dict):
        raise WeightsError(f"{path}: the header of {size} bytes is not a table of tensors.")
    return 8 + size, header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dict; ValueError if a name occurs twice."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError(f"{len(pairs) - len(table)} names occur twice")
    return table


def _entry(bounds: Bounds, name: str, row: object) -> tuple[str, tuple[int, ...], int, int]:
    """Element type, shape, start and end offset of one tensor, checked against the file's size."""
    named = f"tensor {brief(name)}"
    match row:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end]}:
            pass
        case _:
            raise bounds.error(f"{named} lacks a dtype, a shape or two offsets")
    if dtype not in DTYPES:
        raise bounds.error(f"{named} has element type {brief(dtype)}; supported are {', '.join(DTYPES)}")
    elements = bounds.elements(named, shape)
    if type(begin) is not int or type(end) is not int or not 0 <= begin <= end <= bounds.size:
        raise bounds.error(f"{named} is at bytes {brief(begin)} to {brief(end)} of {bounds.size}")
    needed = elements * DTYPES[dtype].itemsize
    if needed != end - begin:
        raise bounds.error(f"{named} of {dtype} {shape} needs {needed} bytes and has {end - begin}")
    return dtype, tuple(shape), begin, end


def _check_layout(
    path: Path, entries: Mapping[str, tuple[str, tuple[int, ...], int, int]], size: int
) -> None:
    """Checks that the tensors follow each other without overlaps and gaps, and fill the file."""
    position = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda entry: entry[1][2:]):
        if begin != position:
            raise WeightsError(
                f"{path}: tensor {brief(name)} begins at byte {begin}, expected at byte {position}."
            )
        position = end
    if position != size:
        raise WeightsError(
            f"{path}: its tensors take {position} bytes, the file has {size}: download it again."
        )
