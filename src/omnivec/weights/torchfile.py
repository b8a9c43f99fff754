"""Reads torch's checkpoint files, old and new, without torch and without running code in them.

A checkpoint is a pickle, a small program that may call any function. Here it may use a dozen harmless names that build
tensors; all others are refused and never imported. The pickle describes tensors, whose elements are stored outside of
it in storages: in the zip format (torch 1.6 and later), each is a member `archive/data/<key>`; in the older format,
they follow each other at the end of the file.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from omnivec.errors import WeightsError
from omnivec.weights.bounds import Bounds, brief
from omnivec.weights.tensor import DTYPES, Array, Bytes, Tensor, as_elements, map_file
from omnivec.weights.unpickling import RestrictedUnpickler, counted, damage
from omnivec.weights.zipped import member_bytes, unpacked

STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
TORCH_DTYPES = (
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
)
METERS = ("AverageMeter", "StopwatchMeter", "TimeMeter")
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
LONGEST_NAME = 4096  # most characters of a tensor's name, which is the path of keys that leads to it


@dataclass(frozen=True)
class _Storage:
    """A storage that tensors may share: `count` elements from `start` of the root storage `key`."""

    key: str
    dtype: str
    root_count: int
    start: int
    count: int


@dataclass(frozen=True)
class _StridedView:
    """A tensor as the pickle describes it: a strided view of a storage, in elements."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _PlainRecord:
    """Base of stand-ins for records of plain values, such as the arguments of a training script."""


Load = Callable[[str, str], Array]  # key, dtype -> the elements of a root storage


def read_torch(path: Path) -> object:
    """Reads the object in a torch file: containers and plain values as they were saved, tensors as `Tensor`.

    Tensors that shared memory when saved still do, except those that are not contiguous, which are copied. The name of
    a tensor is the path of keys that leads to it, joined by dots.

    Raises:
        WeightsError: the file is damaged, is not a torch file, or would run code.
    """
    path = Path(path)
    raw = map_file(path)
    bounds = Bounds(path, len(raw))
    with damage(path, "torch file"):
        return _read_zip(bounds, raw) if raw[:2].tobytes() == b"PK" else _read_legacy(bounds, raw)


def _read_zip(bounds: Bounds, raw: Bytes) -> object:
    path = bounds.path
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise WeightsError(
                f"{path}: a zip file with {len(pickles)} members */data.pkl; a torch file has one."
            )
        root, described = pickles[0].removesuffix("data.pkl"), members[pickles[0]]
        byteorder = members.get(f"{root}byteorder")
        big = byteorder is not None and unpacked(bounds, archive, byteorder, most=16) == b"big"
        storages: dict[str, Bytes] = {}

        def load(key: str, dtype: str) -> Array:
            if key not in storages:
                member = members.get(f"{root}data/{key}")
                if member is None:
                    raise WeightsError(f"{path}: storage {brief(key)} is missing.")
                storages[key] = member_bytes(bounds, archive, member, raw)
            return _elements(storages[key], dtype, big)

        return _Builder(bounds, load).build(
            _Unpickler(bounds, bytes(unpacked(bounds, archive, described))).load()
        )


def _read_legacy(bounds: Bounds, raw: Bytes) -> object:
    path = bounds.path
    with path.open("rb") as stream:
        if _Unpickler(bounds, _next_pickle(stream)).load() != LEGACY_MAGIC:
            raise WeightsError(
                f"{path}: not a torch file: neither a zip file, nor with the old format's magic number."
            )
        protocol, system = (_Unpickler(bounds, _next_pickle(stream)).load() for _ in range(2))
        if protocol != LEGACY_PROTOCOL:
            raise WeightsError(
                f"{path}: old torch format, protocol {brief(protocol)}; only {LEGACY_PROTOCOL} is known."
            )
        unpickler = _Unpickler(bounds, _next_pickle(stream))
        described = unpickler.load()
        keys = _Unpickler(bounds, _next_pickle(stream)).load()
        position = stream.tell()
    big = not system["little_endian"]
    storages: dict[str, Bytes] = {}
    for key in keys:
        head = raw[position : bounds.span(f"storage {brief(key)}", position, 8)].tobytes()
        count = int.from_bytes(head, "big" if big else "little", signed=True)
        itemsize = DTYPES[unpickler.dtypes[key]].itemsize
        end = bounds.span(f"storage {brief(key)}", position + 8, count, itemsize)
        storages[key] = raw[position + 8 : end]
        position = end

    def load(key: str, dtype: str) -> Array:
        return _elements(storages[key], dtype, big)

    return _Builder(bounds, load).build(described)


def _next_pickle(stream: BinaryIO) -> bytes:
    """Reads the pickle at the position of a stream."""
    begin = stream.tell()
    for _ in pickletools.genops(stream):
        pass
    size = stream.tell() - begin
    stream.seek(begin)
    return stream.read(size)


def _elements(raw: Bytes, dtype: str, big: bool) -> Array:
    """The elements of a storage, in little-endian order."""
    itemsize = DTYPES[dtype].itemsize
    elements = as_elements(raw[: len(raw) // itemsize * itemsize], DTYPES[dtype])
    return elements.byteswap() if big else elements


class _Unpickler(RestrictedUnpickler):
    """An unpickler that allows the names in torch's checkpoints."""

    def __init__(self, bounds: Bounds, data: bytes) -> None:
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): counted(bounds, OrderedDict),
            ("torch", "Size"): counted(bounds, tuple),
            ("torch", "device"): lambda *place: ":".join(map(brief, place)).replace("'", ""),
            ("argparse", "Namespace"): type("Record", (_PlainRecord,), {}),
            # What Lightning's checkpoints of pyannote hold beside the weights.
            ("torch.torch_version", "TorchVersion"): type("Text", (str,), {}),
            ("pyannote.audio.core.task", "Specifications"): type("Record", (_PlainRecord,), {}),
            ("pyannote.audio.core.task", "Problem"): lambda value: value,
            ("pyannote.audio.core.task", "Resolution"): lambda value: value,
            # Averages of losses and times, in checkpoints of fairseq before version 0.10.
            **{("fairseq.meters", name): type("Record", (_PlainRecord,), {}) for name in METERS},
            ("torch._utils", "_rebuild_tensor"): lambda *view: _StridedView(*view),
            ("torch._utils", "_rebuild_tensor_v2"): lambda *view: _StridedView(*view[:4]),
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            **{("torch", name): dtype for name, dtype in STORAGES.items()},
            **{("torch", name): f"torch.{name}" for name in TORCH_DTYPES},
            **{
                (module, builtin.__name__): counted(bounds, builtin)
                for module in ("builtins", "__builtin__")
                for builtin in (dict, list, tuple, set, frozenset)
            },
        }
        super().__init__(bounds, data, known, "re-save as safetensors.", encoding="utf-8")
        self.dtypes: dict[str, str] = {}  # of the root storages read so far

    def persistent_load(self, pid: object, /) -> _Storage:
        """The storage that ("storage", type, key, device, count[, view]) describes."""
        match pid:
            case ("storage", str(dtype), str(key), _, int(count), *rest):
                view: Any = rest[0] if rest else None
            case _:
                raise WeightsError(f"{self.bounds.path}: {brief(pid)} is not the description of a storage.")
        self.dtypes[key] = dtype
        _, start, size = view or (key, 0, count)
        return _Storage(key, dtype, count, start, size)


class _Builder:
    """Builds the objects that the pickle describes: tensors for strided views, dicts for records."""

    def __init__(self, bounds: Bounds, load: Load) -> None:
        self.bounds = bounds
        self.load = load
        self.roots: dict[tuple[str, str], Array] = {}
        self.done: dict[int, Any] = {}  # objects by the id() of their description: shared ones are built once
        self.begun: set[int] = set()

    def build(self, described: object, name: str = "") -> object:
        """The object that is described; `name` is the path that leads to it."""
        if id(described) not in self.done:
            if id(described) in self.begun:
                raise self.bounds.error(f"{brief(name)} contains itself: damaged")
            self.begun.add(id(described))
            self.done[id(described)] = self._build(described, name)
        return self.done[id(described)]

    def _build(self, described: object, name: str) -> object:
        if isinstance(described, _StridedView):
            return self._tensor(described, name)
        if isinstance(described, _PlainRecord):
            described = vars(described)
        if isinstance(described, dict):
            return {key: self.build(value, self._path(name, key)) for key, value in described.items()}
        if isinstance(described, (list, tuple, set, frozenset)):
            return type(described)(
                self.build(value, self._path(name, i)) for i, value in enumerate(described)
            )
        return described

    def _path(self, name: str, key: object) -> str:
        longer = f"{name}." * bool(name) + (key if isinstance(key, str) else brief(key))
        if len(longer) > LONGEST_NAME:
            raise self.bounds.error(f"a name of {len(longer)} characters, such as {brief(longer)}: damaged")
        return longer

    def _tensor(self, view: _StridedView, name: str) -> Tensor:
        storage, size, stride = view.storage, tuple(view.size), tuple(view.stride)
        elements = self._root(storage)[storage.start : storage.start + storage.count]
        count = self.bounds.elements(f"tensor {brief(name)}", size)
        steps = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        last = -1 if 0 in size else view.offset + steps
        if min((storage.start, view.offset, *size, *stride)) < 0 or last >= len(elements):
            raise self.bounds.error(
                f"tensor {brief(name)} of shape {size}, strides {brief(stride)} and offset {brief(view.offset)} "
                f"leaves its storage of {len(elements)} elements"
            )
        # Tensors may share a storage, or repeat it by strides of 0, so the elements of all tensors are counted.
        self.bounds.spend(f"tensor {brief(name)} of shape {size}", count * elements.itemsize)
        strides = [step * elements.itemsize for step in stride]
        data = np.lib.stride_tricks.as_strided(elements[view.offset :], size, strides)
        return Tensor(name, storage.dtype, size, np.require(data, requirements=["C", "W"]))

    def _root(self, storage: _Storage) -> Array:
        at = storage.key, storage.dtype
        if at not in self.roots:
            self.roots[at] = self.load(*at)
        elements = self.roots[at]
        if not 0 <= storage.root_count <= len(elements):
            size = elements.itemsize
            raise self.bounds.error(
                f"truncated: storage {brief(storage.key)} needs {brief(storage.root_count * size)} bytes and has "
                f"{len(elements) * size}"
            )
        return elements
