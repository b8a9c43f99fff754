"""Reads NumPy's npy and npz files with numbers or text; pickled objects and sizes beyond the file are refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import WeightsError
from omnivec.validation.reasons import of_system, one_line
from omnivec.weights.bounds import Bounds
from omnivec.weights.tensor import Bytes, as_elements, map_file
from omnivec.weights.zipped import unpacked

KINDS = "biufUS"
"""The kinds of dtype that are read: bool, signed and unsigned int, float, bytes, text."""
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def map_npy(path: Path) -> NDArray[Any]:
    """The array of an npy file as a copy-on-write memory map.

    Raises:
        WeightsError: the file is missing or damaged, its length does not fit its shape, or it holds pickled objects.
    """
    raw = map_file(path)
    bounds = Bounds(path, len(raw))
    with path.open("rb") as stream:
        return _array(bounds, stream, raw)


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file, by their names.

    Raises:
        WeightsError: the file is missing or damaged, holds pickled objects, or unpacks to more than a file of its size
            may (`bounds.TIMES`).
    """
    bounds = Bounds.of(path)
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {}
            for member in archive.infolist():
                content = unpacked(bounds, archive, member)
                raw = np.frombuffer(content, np.uint8)
                inside = Bounds(path, len(raw))
                arrays[member.filename.removesuffix(".npy")] = _array(inside, io.BytesIO(content), raw)
            return arrays
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {of_system(error)}.") from error
    # zipfile and zlib raise many exceptions for damaged files.
    except Exception as error:
        raise WeightsError(f"{path}: damaged, or not an npz file ({one_line(error)}).") from error


def _array(bounds: Bounds, stream: BinaryIO, raw: Bytes) -> NDArray[Any]:
    """The array whose header begins at the position of `stream`, as a view of `raw`, which has the same bytes."""
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _READERS:
            raise ValueError(f"version {version}")
        shape, fortran, dtype = _READERS[version](stream)
    # NumPy does not catch exceptions of its header parser.
    except Exception as error:
        raise bounds.error(f"damaged, or not an npy file ({one_line(error)[:200]})") from error
    if dtype.hasobject:
        raise bounds.error("it holds pickled objects, which would run code: refused")
    if dtype.kind not in KINDS or not dtype.itemsize or dtype.shape:
        raise bounds.error(f"an array of {str(dtype)[:80]}: only numbers and text are read")
    begin = stream.tell()
    end = bounds.span(
        f"an array of {dtype} {shape}", begin, bounds.elements("an array", shape), dtype.itemsize
    )
    if end != len(raw):
        raise bounds.error(
            f"an array of {dtype} {shape} ends at byte {end} of {len(raw)}: the header does not fit the file's length"
        )
    flat = as_elements(raw[begin:end], dtype)
    return flat.reshape(shape, order="F" if fortran else "C")
