"""Reads model.bin of CTranslate2, the format in which packages of Whisper for CPUs are published.

All numbers are little-endian; a string is its length as uint16, its bytes in UTF-8, and a zero that the length counts.

    uint32 6                                          version of the format
    string "WhisperSpec", uint32 3                    kind of model, and the revision of its layout
    uint32 148                                        number of tensors, each of them:
        string "encoder/conv1/bias"                   name
        uint8 1, uint32 384                           number of axes, and the length of each
        uint8 4, uint32 768                           element type (`TYPES`), and the size of the data in bytes
        768 bytes                                     data, in C order
    uint32 1                                          number of aliases, each of them:
        string "decoder/projection/weight"            further name
        string "decoder/embeddings/weight"            of this tensor
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from omnivec.errors import WeightsError
from omnivec.weights.bounds import Bounds, brief
from omnivec.weights.tensor import DTYPES, Bytes, Tensor, Weights, as_elements, from_array, map_file

VERSION = 6
TYPES = ("F32", "I8", "I16", "I32", "F16", "BF16")
"""Element types by their numbers in the file."""
SCALE = "_scale"
"""Ending of the name of the scales by which a quantised tensor was multiplied."""

_SMALLEST_TENSOR = 10  # bytes: an empty name, no axes, an element type, the size of its data
_SMALLEST_ALIAS = 6  # bytes: two empty names


def read_ctranslate2(path: Path) -> Weights:
    """Reads the tensors of a model.bin.

    Args:
        path: of the file, in version 6 of the format.

    Returns:
        The tensors by their published names, such as "encoder/layer_0/self_attention/linear_0/weight", aliases
        included. Quantised ones (int8 with one scale for each row, int16 with one for all) are float32, without their
        scales. Settings such as "encoder/num_heads" are tensors without axes. `metadata` has "spec", the kind of model,
        and "revision".

    Raises:
        WeightsError: the file is damaged, not in this format, or in another version of it.
    """
    path = Path(path)
    reader = _Reader(path, map_file(path))
    version = reader.number(4)
    if version != VERSION:
        raise WeightsError(
            f"{path}: version {version} of CTranslate2's format, or another file; only {VERSION} is read: convert the "
            "model again with CTranslate2 3.0 or later"
        )
    metadata = {"spec": reader.string(), "revision": str(reader.number(4))}
    tensors: dict[str, Tensor] = {}
    for _ in range(reader.count("tensors", _SMALLEST_TENSOR)):
        tensor = reader.tensor()
        if tensor.name in tensors:
            raise reader.bounds.error(f"tensor {brief(tensor.name)} occurs twice: damaged")
        tensors[tensor.name] = tensor
    stored, tensors = tensors, _dequantized(reader.bounds, tensors)
    for _ in range(reader.count("aliases", _SMALLEST_ALIAS)):
        alias, name = reader.string(), reader.string()
        if alias in stored or name not in stored or alias in tensors:
            raise reader.bounds.error(
                f"alias {brief(alias)} of {brief(name)}, which do not fit the tensors: damaged"
            )
        if name not in tensors:  # The scales of a tensor that was dequantised.
            continue
        # Many aliases take no memory, but whoever hashes or converts them works on each.
        reader.bounds.spend(f"alias {brief(alias)}", tensors[name].data.nbytes)
        tensors[alias] = replace(tensors[name], name=alias)
    if reader.at != len(reader.raw):
        raise reader.bounds.error(f"its content ends at byte {reader.at} of {len(reader.raw)}: damaged")
    return Weights(tensors, (path,), metadata)


class _Reader:
    """Reads numbers, strings and tensors from the beginning of a file."""

    def __init__(self, path: Path, raw: Bytes) -> None:
        self.bounds = Bounds(path, len(raw))
        self.raw = raw
        self.at = 0

    def take(self, what: str, size: int) -> Bytes:
        """The next `size` bytes."""
        begin, self.at = self.at, self.bounds.span(what, self.at, size)
        return self.raw[begin : self.at]

    def number(self, size: int) -> int:
        """The next whole number, of `size` bytes."""
        return int.from_bytes(self.take("a number", size).tobytes(), "little")

    def count(self, what: str, each: int) -> int:
        """The next number of pieces, of at least `each` bytes."""
        stated = self.number(4)
        return self.bounds.count(what, stated, each, self.at)

    def string(self) -> str:
        """The next string."""
        raw = self.take("a name", self.number(2)).tobytes()
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise self.bounds.error(f"{brief(raw)} is no name in UTF-8: damaged") from error
        if not text.endswith("\0"):
            raise self.bounds.error(f"the name {brief(text)} does not end with a zero: damaged")
        return text[:-1]

    def tensor(self) -> Tensor:
        """The next tensor, as a view of the file if its address allows it."""
        name = self.string()
        shape = tuple(self.number(4) for _ in range(self.number(1)))
        kind, size = self.number(1), self.number(4)
        if kind >= len(TYPES):
            raise self.bounds.error(
                f"tensor {brief(name)} has element type {kind}; known are 0 to {len(TYPES) - 1} ({', '.join(TYPES)})"
            )
        dtype = DTYPES[TYPES[kind]]
        needed = self.bounds.elements(f"tensor {brief(name)}", shape) * dtype.itemsize
        if needed != size:
            raise self.bounds.error(
                f"tensor {brief(name)} of {TYPES[kind]} {brief(shape)} needs {needed} bytes and has {size}: damaged"
            )
        data = as_elements(self.take(f"tensor {brief(name)}", size), dtype)
        return Tensor(name, TYPES[kind], shape, data.reshape(shape))


def _dequantized(bounds: Bounds, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, where those that have scales are divided by them; the scales are left out.

    int8 (out, ...) has scales (out,), since each row was multiplied by 127 / its largest magnitude; int16 has one.
    """
    floats = {}
    for name, tensor in tensors.items():
        if name.removesuffix(SCALE) != name and name.removesuffix(SCALE) in tensors:
            continue
        scale = tensors.get(name + SCALE)
        if scale is not None and tensor.dtype in ("I8", "I16"):
            bounds.spend(f"tensor {brief(name)} as float32", 2 * 4 * tensor.data.size)
            tensor = _divided(bounds, tensor, scale)
        elif scale is not None or (tensor.dtype == "I8" and len(tensor.shape) > 1):
            raise bounds.error(
                f"tensor {brief(name)} of {tensor.dtype} {brief(tensor.shape)} with "
                f"{'scales' if scale else 'no scales'}: this way of quantising is not covered"
            )
        floats[name] = tensor
    return floats


def _divided(bounds: Bounds, tensor: Tensor, scale: Tensor) -> Tensor:
    factors = scale.float32()
    rows = tensor.shape[:1] if tensor.dtype == "I8" else ()
    if factors.shape != rows and factors.shape != ():
        raise bounds.error(
            f"{brief(scale.name)} of shape {brief(scale.shape)} does not fit {brief(tensor.name)} of {tensor.dtype} "
            f"{brief(tensor.shape)}"
        )
    if not (np.isfinite(factors).all() and (factors > 0).all()):
        raise bounds.error(f"{brief(scale.name)} has scales that are not above 0: damaged")
    across = factors.reshape(*factors.shape, *(1,) * (len(tensor.shape) - len(factors.shape)))
    return from_array(tensor.name, (tensor.data / across).astype(np.float32, copy=False))
