"""The memory-mapped matrix of a space: a file beside the catalogue that makes opening a collection fast.

It is a cache: the catalogue has all of its content. Its name holds the state of the catalogue from which it was made:
the number of writes and the random stamp of the last one. Keys are never used twice and the vectors of a key never
change, so an older matrix of the same history is brought up to date by leaving out the rows of deleted keys and
appending those of keys greater than its last.

    0   8 bytes    magic
    8   uint64     n, rows
    16  uint32     dim
    20  uint32     CRC-32 of the collection's id, the file's name, n, dim, the keys and the matrix
    24  int64      n keys, ascending
        zeros      to a multiple of 64
        float32    n x dim, little-endian

The CRC is verified when the file is mapped (about 2 ms for 11,000 vectors of 384 components), so that neither a changed
row nor another file under this name is used. A file that is written to while it is mapped is mapped again.

A worked example. After its third write, whose stamp is -1, the space "text" has three vectors of 2 components with the
keys 1, 2 and 5. The file is `matrix-text~982d9e3e-3-ffffffffffffffff.f32`, of 88 bytes: a header of 24, keys of 24, 16
zeros, and 24 bytes of vectors from offset 64. Then the passage 2 is deleted, and the passages 6 and 7 are added, by
writes 4 and 5. The history still has state 3 with this stamp, so the file is used: rows 0 and 2 are kept, and the
catalogue is read for keys above 5 only. Three rows were stale (one deleted, two missing), more than a tenth of four, so
a collection of `_WORTHWHILE` vectors or more would write a new file, for state 5, and remove this one.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import weakref
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnivec.errors import OmnivecError
from omnivec.files import abandoned, written
from omnivec.store.sqlite import Catalogue
from omnivec.types import Floats, Keys

_MAGIC = b"omnivec\2"
_HEADER = struct.Struct("<8sQII")
_ALIGNED = 64
_WORTHWHILE = 2000
"""Fewest vectors of a space that has a file."""
_STALE = 0.1
"""Share of the rows that may be deleted or missing before the file is written again."""
_ROWS_AT_ONCE = 1 << 10  # such a block stays in a core's cache


def slug(space: str) -> str:
    """The name of a space for use in a file's name: readable, and different for different spaces."""
    readable = re.sub(r"[^A-Za-z0-9._]+", "_", space)[:40]
    return f"{readable}~{hashlib.sha256(space.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _name(space: str, state: tuple[int, int]) -> str:
    return f"matrix-{slug(space)}-{state[0]}-{state[1] % 2**64:016x}.f32"


@dataclass(frozen=True, eq=False)
class Loaded:
    """The vectors of a space.

    Attributes:
        keys: (n,) int64, ascending.
        vectors: (n, dim) float32; read-only if it is a memory map.
        file: descriptor of the mapped file; None if the vectors were read from the catalogue.
        written: mtime, size and ctime of that file when it was mapped.
    """

    keys: Keys
    vectors: Floats
    file: int | None = None
    written: tuple[int, int, int] = (0, 0, 0)

    def unchanged(self) -> bool:
        """Whether the file was not written to since it was mapped; it may have been removed."""
        if self.file is None:
            return True
        status = os.fstat(self.file)
        now = _written(status)
        # Setting mtime back changes ctime; so does removing the file, which is the only case in which ctime may differ.
        return now == self.written or (not status.st_nlink and now[:2] == self.written[:2])


def _written(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_size, status.st_ctime_ns


def load(catalogue: Catalogue, folder: Path, space: str) -> Loaded:
    """All vectors of a space, from its matrix file if there is one, and the rest from the catalogue."""
    with catalogue.snapshot():
        state = catalogue.changes()
        record = catalogue.spaces().get(space)
        newest = None if record is None else _newest(catalogue, folder, space, record.dim)
        if newest is None:
            loaded = Loaded(*catalogue.vectors(space))
            stale = len(loaded.keys)
        else:
            loaded, stale = _current(catalogue, space, state, *newest)
    if not catalogue.readonly and len(loaded.keys) >= _WORTHWHILE and stale > _STALE * len(loaded.keys):
        _save(folder, catalogue.id(), _name(space, state), loaded)
    return loaded


def problems(catalogue: Catalogue, folder: Path) -> list[str]:
    """One line for each matrix file of a known state that is damaged."""
    wrong = []
    with catalogue.snapshot():
        for space, record in catalogue.spaces().items():
            for name in _states(catalogue, space):
                file = folder / name
                if os.path.lexists(file) and not (
                    file.is_file()
                    and (_is_older(file) or _read(file, catalogue.id(), record.dim) is not None)
                ):
                    wrong.append(
                        f"{file} is not what was written; it is not used, and the next write makes it again from "
                        "the catalogue"
                    )
    return wrong


def _is_older(file: Path) -> bool:
    """Whether a file has an earlier version of this format; such a file is ignored."""
    try:
        with file.open("rb") as stream:
            return stream.read(len(_MAGIC)) == b"omnivec\1"
    except OSError:
        return False


def _states(catalogue: Catalogue, space: str) -> dict[str, tuple[int, int]]:
    """The names that matrix files of a space may have -> the state of the catalogue that each belongs to."""
    return {_name(space, state): state for state in catalogue.history().items()}


def _newest(
    catalogue: Catalogue, folder: Path, space: str, dim: int
) -> tuple[tuple[int, int], Loaded] | None:
    """The newest intact matrix file whose state is in the catalogue's history, and that state."""
    names = _states(catalogue, space)
    # Files only: opening a pipe would block.
    usable = [file for file in folder.glob("matrix-*.f32") if file.name in names and file.is_file()]
    for file in sorted(usable, key=lambda file: -names[file.name][0]):
        loaded = _read(file, catalogue.id(), dim)
        if loaded is not None:
            return names[file.name], loaded
    return None


def _read(file: Path, owner: str, dim: int) -> Loaded | None:
    """The keys and the mapped matrix; None if the file is missing, damaged, or of another collection or format."""
    try:
        with file.open("rb") as stream:
            status = os.fstat(stream.fileno())
            magic, n, its_dim, checksum = _HEADER.unpack(stream.read(_HEADER.size))
            start = _matrix_start(n)
            if magic != _MAGIC or its_dim != dim or status.st_size != start + 4 * n * dim:
                return None
            raw = stream.read(8 * n)
            matrix = np.memmap(stream, "<f4", mode="r", offset=start, shape=(n, dim))
            if _checksum(owner, file.name, raw, matrix) != checksum:
                return None
            descriptor = os.dup(stream.fileno())
    except (OSError, ValueError, struct.error):
        return None
    keys = np.frombuffer(raw, "<i8").astype(np.int64)
    loaded = Loaded(keys, matrix, descriptor, _written(status))
    weakref.finalize(loaded, os.close, descriptor)
    return loaded


def _checksum(owner: str, name: str, keys: bytes, matrix: Floats) -> int:
    """CRC-32 of a file's owner, name and content."""
    value = zlib.crc32(keys, zlib.crc32(f"{owner} {name} {matrix.shape}".encode()))
    for start in range(0, len(matrix), _ROWS_AT_ONCE):
        value = zlib.crc32(np.ascontiguousarray(matrix[start : start + _ROWS_AT_ONCE], "<f4").data, value)
    return value


def _matrix_start(n: int) -> int:
    return -(-(_HEADER.size + 8 * n) // _ALIGNED) * _ALIGNED


def _current(
    catalogue: Catalogue, space: str, state: tuple[int, int], made_from: tuple[int, int], loaded: Loaded
) -> tuple[Loaded, int]:
    """A matrix brought up to date, and how many of its rows were deleted or missing."""
    if made_from == state:
        return loaded, 0
    keys, matrix = loaded.keys, loaded.vectors
    rows = np.flatnonzero(np.isin(keys, catalogue.vector_keys(space)))
    tail_keys, tail = catalogue.vectors(space, after=int(keys[-1]) if len(keys) else 0)
    stale = len(keys) - len(rows) + len(tail_keys)
    if stale == 0:
        return loaded, 0
    current = np.empty((len(rows) + len(tail), matrix.shape[1]), np.float32)
    np.take(matrix, rows, axis=0, out=current[: len(rows)], mode="clip")  # "raise" would copy once more
    current[len(rows) :] = tail
    return Loaded(np.concatenate([keys[rows], tail_keys]), current), stale


def _save(folder: Path, owner: str, name: str, loaded: Loaded) -> None:
    """Writes the matrix file atomically and removes older ones; that a disk is full or read-only is ignored."""
    file = folder / name
    raw, matrix = loaded.keys.astype("<i8").tobytes(), loaded.vectors
    try:
        if os.path.lexists(file):  # a damaged file, a link, a pipe or an empty folder in its place
            file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
        with written(file) as draft, draft.open("wb") as stream:
            checksum = _checksum(owner, name, raw, matrix)
            stream.write(_HEADER.pack(_MAGIC, len(matrix), matrix.shape[1], checksum))
            stream.write(raw)
            stream.write(bytes(_matrix_start(len(matrix)) - stream.tell()))
            for start in range(0, len(matrix), _ROWS_AT_ONCE):
                stream.write(np.ascontiguousarray(matrix[start : start + _ROWS_AT_ONCE], "<f4").data)
    except (OSError, OmnivecError):
        return
    space = name[: name.index("~") + 9]
    for old in (*folder.glob(f"{space}-*"), *filter(abandoned, folder.glob(f".{space}-*.part"))):
        if old.name != name:
            with suppress(OSError):  # another process has it mapped (Windows)
                old.unlink(missing_ok=True)
