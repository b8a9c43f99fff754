"""torch's checkpoint files, old and new, without torch and without running what they hold.

A checkpoint is a pickle, a small program that may call anything. Here it may call a dozen harmless names
that build tensors; every other name is refused before it is looked up. Tensors are described by the pickle
and lie outside of it as storages: in the zip format (torch 1.6 and later) one member `archive/data/<key>`
each, in the format before it one behind the other at the end of the file.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from omnivec.errors import WeightsError
from omnivec.weights.tensor import DTYPES, Array, Bytes, Tensor, map_file, typed

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
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
MAX_PICKLE = 500_000_000  # bytes; far above any description of tensors, far below a bomb


@dataclass(frozen=True)
class _Storage:
    """The elements that one or more tensors share; `start` and `count` cut a view out of the root `key`."""

    key: str
    dtype: str
    root_count: int
    start: int
    count: int


@dataclass(frozen=True)
class _View:
    """A tensor as the pickle describes it: a strided view of a storage, in elements."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Record:
    """Stands for a record of plain values, such as the arguments of a training script."""


Load = Callable[[str, str, int], Array]  # key, dtype, count -> the elements of a root storage


def read_torch(path: Path) -> object:
    """The object in a torch file: containers and plain values as saved, tensors as `Tensor` leaves.

    Tensors that shared memory share it still (except one that is not contiguous, which is copied). A leaf's
    name is its path: the keys on the way to it, joined by dots.

    Raises:
        WeightsError: the file is damaged, is no torch file, or would run code.
    """
    path = Path(path)
    raw = map_file(path)
    try:
        if raw[:2].tobytes() == b"PK":
            return _read_zip(path, raw)
        return _read_legacy(path, raw)
    except WeightsError:
        raise
    # A damaged pickle can fail in any way that Python knows, and a damaged zip nearly so.
    except Exception as exc:
        why = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
        raise WeightsError(f"{path}: a damaged torch file, or none at all ({why}).") from exc


def _read_zip(path: Path, raw: Bytes) -> object:
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise WeightsError(f"{path}: a zip with {len(pickles)} members */data.pkl, a torch file has one.")
        root, described = pickles[0].removesuffix("data.pkl"), members[pickles[0]]
        if described.file_size > MAX_PICKLE:
            raise WeightsError(
                f"{path}: data.pkl unpacks to {described.file_size} bytes; at most {MAX_PICKLE}."
            )
        byteorder = members.get(f"{root}byteorder")
        big = byteorder is not None and archive.read(byteorder) == b"big"

        def load(key: str, dtype: str, count: int) -> Array:
            member = members.get(f"{root}data/{key}")
            if member is None:
                raise WeightsError(f"{path}: storage {key!r} is missing.")
            return _elements(path, key, _member(archive, member, raw), dtype, count, big)

        return _Builder(path, load).build(_unpickler(path, archive.read(described)).load())


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, raw: Bytes) -> Bytes:
    """The bytes of a zip member: in place where it is stored as it is, else unpacked."""
    if member.compress_type != zipfile.ZIP_STORED:
        return np.frombuffer(bytearray(archive.read(member)), np.uint8)
    # The local header repeats the name and has padding of its own: only it says where the data begin.
    signature, name_size, extra_size = struct.unpack_from("<4s22xHH", raw.data, member.header_offset)
    if signature != b"PK\x03\x04":
        raise WeightsError(f"{archive.filename}: no zip member at byte {member.header_offset}.")
    begin = member.header_offset + 30 + name_size + extra_size
    return raw[begin : begin + member.file_size]


def _read_legacy(path: Path, raw: Bytes) -> object:
    with path.open("rb") as stream:
        if _unpickler(path, _next_pickle(stream)).load() != LEGACY_MAGIC:
            raise WeightsError(f"{path}: no torch file: no zip, and not the old format's magic number.")
        protocol, system = (_unpickler(path, _next_pickle(stream)).load() for _ in range(2))
        if protocol != LEGACY_PROTOCOL:
            raise WeightsError(f"{path}: old torch format, protocol {protocol}; known is {LEGACY_PROTOCOL}.")
        unpickler = _unpickler(path, _next_pickle(stream))
        described = unpickler.load()
        keys = _unpickler(path, _next_pickle(stream)).load()
        position = stream.tell()
    big = not system["little_endian"]
    found: dict[str, Bytes] = {}
    for key in keys:
        head = raw[position : position + 8].tobytes()
        count = int.from_bytes(head, "big" if big else "little", signed=True)
        end = position + 8 + count * DTYPES[unpickler.dtypes[key]].itemsize
        if count < 0 or end > len(raw):
            raise WeightsError(f"{path}: truncated: storage {key!r} ends at byte {end} of {len(raw)}.")
        found[key] = raw[position + 8 : end]
        position = end

    def load(key: str, dtype: str, count: int) -> Array:
        return _elements(path, key, found[key], dtype, count, big)

    return _Builder(path, load).build(described)


def _next_pickle(stream: BinaryIO) -> bytes:
    """The bytes of the pickle that begins here; the stream then stands behind it."""
    begin = stream.tell()
    for _ in pickletools.genops(stream):
        pass
    size = stream.tell() - begin
    stream.seek(begin)
    return stream.read(size)


def _elements(path: Path, key: str, raw: Bytes, dtype: str, count: int, big: bool) -> Array:
    """The first `count` elements of a storage, in little-endian order."""
    size = count * DTYPES[dtype].itemsize
    if count < 0 or size > len(raw):
        raise WeightsError(f"{path}: truncated: storage {key!r} needs {size} bytes and has {len(raw)}.")
    elements = typed(raw[:size], DTYPES[dtype])
    return elements.byteswap() if big else elements


class _Unpickler(pickle.Unpickler):
    """An unpickler that can name nothing but what is listed here."""

    def __init__(self, path: Path, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self.path = path
        self.dtypes: dict[str, str] = {}  # of the root storages met so far
        # Made anew for each file: a pickle may write attributes to whatever it can name.
        self.known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch", "Size"): lambda size=(): tuple(size),
            ("torch", "device"): lambda *place: ":".join(map(str, place)),
            ("argparse", "Namespace"): type("Record", (_Record,), {}),
            ("torch._utils", "_rebuild_tensor"): lambda *view: _View(*view),
            ("torch._utils", "_rebuild_tensor_v2"): lambda *view: _View(*view[:4]),
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            **{("torch", name): dtype for name, dtype in STORAGES.items()},
            **{("torch", name): f"torch.{name}" for name in TORCH_DTYPES},
            **{
                (module, kind.__name__): kind
                for module in ("builtins", "__builtin__")
                for kind in (dict, list, tuple, set, frozenset)
            },
        }

    def find_class(self, module: str, name: str, /) -> object:
        """Only what is listed; a name is never imported."""
        try:
            return self.known[module, name]
        except KeyError:
            raise WeightsError(
                f"{self.path}: loading it would run code ({module}.{name}): refused; re-save as safetensors."
            ) from None

    def persistent_load(self, pid: object, /) -> _Storage:
        """The storage that a tensor is a view of: ("storage", type, key, device, count[, view])."""
        match pid:
            case ("storage", str(dtype), str(key), _, int(count), *rest):
                view: Any = rest[0] if rest else None
            case _:
                raise WeightsError(f"{self.path}: {pid!r} is not the description of a storage.")
        self.dtypes[key] = dtype
        _, start, size = view or (key, 0, count)
        return _Storage(key, dtype, count, start, size)


def _unpickler(path: Path, data: bytes) -> _Unpickler:
    # A forged memo index or length would make the unpickler ask for gigabytes before it fails.
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > len(data):
            raise WeightsError(f"{path}: a pickle of {len(data)} bytes with a memo of {argument} entries.")
    return _Unpickler(path, data)


class _Builder:
    """Replaces what the pickle described by what it is: views by tensors, records by dicts."""

    def __init__(self, path: Path, load: Load) -> None:
        self.path = path
        self.load = load
        self.roots: dict[tuple[str, str], Array] = {}
        self.done: dict[int, Any] = {}  # shared parts are built once, by the identity of what described them

    def build(self, described: object, name: str = "") -> object:
        """The object itself; `name` is the path that led to it."""
        if id(described) not in self.done:
            self.done[id(described)] = self._build(described, name)
        return self.done[id(described)]

    def _build(self, described: object, name: str) -> object:
        if isinstance(described, _View):
            return self._tensor(described, name)
        if isinstance(described, _Record):
            described = vars(described)
        prefix = f"{name}." if name else ""
        if isinstance(described, dict):
            return {key: self.build(value, f"{prefix}{key}") for key, value in described.items()}
        if isinstance(described, (list, tuple, set, frozenset)):
            return type(described)(self.build(value, f"{prefix}{i}") for i, value in enumerate(described))
        return described

    def _tensor(self, view: _View, name: str) -> Tensor:
        storage, size, stride = view.storage, tuple(view.size), tuple(view.stride)
        elements = self._root(storage)[storage.start : storage.start + storage.count]
        steps = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        last = -1 if 0 in size else view.offset + steps
        if min((storage.start, view.offset, *size, *stride)) < 0 or last >= len(elements):
            raise WeightsError(
                f"{self.path}: tensor {name!r} of shape {size}, strides {stride} and offset {view.offset} "
                f"leaves its storage of {len(elements)} elements."
            )
        strides = [step * elements.itemsize for step in stride]
        data = np.lib.stride_tricks.as_strided(elements[view.offset :], size, strides)
        return Tensor(name, storage.dtype, size, np.require(data, requirements=["C", "W"]))

    def _root(self, storage: _Storage) -> Array:
        at = storage.key, storage.dtype
        if at not in self.roots or len(self.roots[at]) < storage.root_count:
            self.roots[at] = self.load(storage.key, storage.dtype, storage.root_count)
        return self.roots[at]
