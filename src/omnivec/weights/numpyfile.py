"""NumPy's own files, npy and npz, as arrays of numbers or text: never pickled, never larger than what is there."""

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
"""NumPy's letters of what is read: truth values, whole and floating numbers, text, bytes."""
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def map_npy(path: Path) -> NDArray[Any]:
    """The array of an npy file as a copy-on-write map.

    Raises:
        WeightsError: the file is missing, damaged, has more or fewer bytes than its shape, or holds pickled objects.
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
    # zipfile and zlib have many ways to say that a file is damaged.
    except Exception as error:
        raise WeightsError(f"{path}: a damaged npz file, or none at all ({one_line(error)}).") from error


def _array(bounds: Bounds, stream: BinaryIO, raw: Bytes) -> NDArray[Any]:
    """The array whose header `stream` stands at, as a view of `raw`, the same bytes."""
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _READERS:
            raise ValueError(f"version {version}")
        shape, fortran, dtype = _READERS[version](stream)
    # NumPy lets everything through that its own header parser raises.
    except Exception as error:
        raise bounds.error(f"a damaged npy file, or none at all ({one_line(error)[:200]})") from error
    if dtype.hasobject:
        raise bounds.error("it holds pickled objects, which would run code: refused")
    if dtype.kind not in KINDS or not dtype.itemsize or dtype.shape:
        raise bounds.error(f"an array of {str(dtype)[:80]}: numbers and text are read")
    begin = stream.tell()
    end = bounds.span(
        f"an array of {dtype} {shape}", begin, bounds.elements("an array", shape), dtype.itemsize
    )
    if end != len(raw):
        raise bounds.error(
            f"an array of {dtype} {shape} ends at byte {end} of {len(raw)}: not as it was written"
        )
    flat = as_elements(raw[begin:end], dtype)
    return flat.reshape(shape, order="F" if fortran else "C")
