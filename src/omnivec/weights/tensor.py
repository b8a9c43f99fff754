"""A tensor as it is stored in a file, and a mapping of tensors by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import WeightsError
from omnivec.types import Floats
from omnivec.validation.reasons import of_system

Array = NDArray[Any]
Bytes = NDArray[np.uint8]

# safetensors' names of element types. NumPy has no bfloat16, whose bits are stored as uint16.
DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
NAMES: dict[np.dtype[Any], str] = {dtype: name for name, dtype in DTYPES.items() if name != "BF16"}
FLOATING = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a weight file.

    Attributes:
        name: as published; "" for a tensor without a name.
        dtype: safetensors' name of its element type: "F32", "BF16", "I64", ...
        shape: of the tensor.
        data: C-contiguous, writeable array of that shape. If possible it is a view of a copy-on-write memory map, so
            that writing to it does not change the file. bfloat16 is viewed as uint16.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Array

    def float32(self) -> Floats:
        """The values as float32: F32 without a copy, F16 and BF16 exactly, others rounded."""
        if self.dtype == "BF16":
            return (self.data.astype(np.uint32) << 16).view(np.float32)
        return self.data.astype(np.float32, copy=False)


class Weights(Mapping[str, Tensor]):
    """Tensors by name, in the order of their files.

    Attributes:
        files: from which they were read.
        metadata: the strings that the files store beside their tensors.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        files: tuple[Path, ...] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self._tensors = dict(tensors)
        self.files = files
        self.metadata = dict(metadata or {})

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"Weights({len(self)} tensors from {', '.join(file.name for file in self.files) or 'memory'})"


def map_file(path: Path) -> Bytes:
    """The bytes of a file as a copy-on-write memory map: only pages that are written to are copied.

    Raises:
        WeightsError: the file cannot be opened or is empty.
    """
    try:
        if path.stat().st_size == 0:
            raise WeightsError(f"{path} is empty (0 bytes): download or copy it again.")
        # Mode "c", not "r": OpenVINO copies arrays that are not writeable.
        return np.memmap(path, np.uint8, mode="c").view(np.ndarray)
    except OSError as exc:
        raise WeightsError(f"{path} cannot be read: {of_system(exc)}.") from exc


def as_elements(raw: Bytes, dtype: np.dtype[Any]) -> Array:
    """The elements (n,) in `raw`, without a copy if their address is a multiple of their size."""
    aligned = raw if raw.ctypes.data % dtype.itemsize == 0 else raw.copy()
    return aligned.view(dtype)


def from_array(name: str, array: Array) -> Tensor:
    """A tensor from a NumPy array of a known element type, in either byte order.

    Raises:
        WeightsError: the element type is not known.
    """
    little = array.dtype.newbyteorder("<")
    if little not in NAMES:
        raise WeightsError(
            f"tensor {name!r} has element type {array.dtype}; supported are {', '.join(DTYPES)}."
        )
    # Not by ascontiguousarray, which turns a scalar into a vector.
    data = np.require(array.astype(little, copy=False), requirements=["C", "W"])
    return Tensor(name, NAMES[little], data.shape, data)
