"""The memory-mapped matrix of a space: a file beside the catalogue that makes opening fast.

It can be rebuilt at any time and is never the truth. Its name holds the state of the catalogue it was made
from: the number of writes and the stamp of the last one. Keys are never used twice and the vectors of a key
never change, so an older matrix of the same history is brought up to date by leaving out the keys that are
gone and appending those that are greater than its last.

    0   8 bytes    magic
    8   uint64     n, rows
    16  uint32     dim
    20  uint32     CRC-32 of the keys
    24  int64      n keys, ascending
        zeros      to a multiple of 64
        float32    n x dim, little-endian
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import struct
import zlib
from pathlib import Path

import numpy as np

from omnivec.store.sqlite import Catalogue
from omnivec.types import Floats, Keys

_MAGIC = b"omnivec\1"
_HEADER = struct.Struct("<8sQII")
_ALIGNED = 64
_WORTHWHILE = 2000
_STALE = 0.1
_ROWS_AT_ONCE = 1 << 14


def slug(space: str) -> str:
    """A file name's part for a space: readable, and different for different spaces."""
    readable = re.sub(r"[^A-Za-z0-9._]+", "_", space)[:40]
    return f"{readable}~{hashlib.sha256(space.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _name(space: str, state: tuple[int, int]) -> str:
    return f"matrix-{slug(space)}-{state[0]}-{state[1] % 2**64:016x}.f32"


def load(catalogue: Catalogue, folder: Path, space: str) -> tuple[Keys, Floats]:
    """All vectors of a space, from its matrix file as far as there is one, and from the catalogue.

    Returns:
        keys (n,) int64, ascending, and matrix (n, dim) float32, read-only where it is a memory map.
    """
    with catalogue.snapshot():
        state = catalogue.changes()
        record = catalogue.spaces().get(space)
        found = None if record is None else _newest(catalogue, folder, space, record.dim)
        if found is None:
            keys, matrix = catalogue.vectors(space)
            stale = len(keys)
        else:
            keys, matrix, stale = _current(catalogue, space, state, *found)
    if not catalogue.readonly and len(keys) >= _WORTHWHILE and stale > _STALE * len(keys):
        _save(folder, space, state, keys, matrix)
    return keys, matrix


def _newest(
    catalogue: Catalogue, folder: Path, space: str, dim: int
) -> tuple[tuple[int, int], Keys, Floats] | None:
    """The newest whole matrix file whose state is in the catalogue's history."""
    names = {_name(space, state): state for state in catalogue.history().items()}
    there = [file for file in folder.glob("matrix-*.f32") if file.name in names]
    for file in sorted(there, key=lambda file: -names[file.name][0]):
        content = _read(file, dim)
        if content is not None:
            return names[file.name], *content
    return None


def _read(file: Path, dim: int) -> tuple[Keys, Floats] | None:
    """The keys and the mapped matrix; None if the file is gone, foreign, cut or damaged."""
    try:
        with file.open("rb") as stream:
            magic, n, its_dim, checksum = _HEADER.unpack(stream.read(_HEADER.size))
            start = _matrix_start(n)
            if magic != _MAGIC or its_dim != dim or os.fstat(stream.fileno()).st_size != start + 4 * n * dim:
                return None
            raw = stream.read(8 * n)
            if zlib.crc32(raw) != checksum:
                return None
            keys = np.frombuffer(raw, "<i8").astype(np.int64)
            return keys, np.memmap(stream, "<f4", mode="r", offset=start, shape=(n, dim))
    except (OSError, ValueError, struct.error):
        return None


def _matrix_start(n: int) -> int:
    return -(-(_HEADER.size + 8 * n) // _ALIGNED) * _ALIGNED


def _current(
    catalogue: Catalogue,
    space: str,
    state: tuple[int, int],
    made: tuple[int, int],
    keys: Keys,
    matrix: Floats,
) -> tuple[Keys, Floats, int]:
    """Brings a matrix up to date; also how many rows were dead or missing."""
    if made == state:
        return keys, matrix, 0
    rows = np.flatnonzero(np.isin(keys, catalogue.vector_keys(space)))
    tail_keys, tail = catalogue.vectors(space, after=int(keys[-1]) if len(keys) else 0)
    stale = len(keys) - len(rows) + len(tail_keys)
    if stale == 0:
        return keys, matrix, 0
    current = np.empty((len(rows) + len(tail), matrix.shape[1]), np.float32)
    np.take(matrix, rows, axis=0, out=current[: len(rows)], mode="clip")  # "raise" would copy once more
    current[len(rows) :] = tail
    return np.concatenate([keys[rows], tail_keys]), current, stale


def _save(folder: Path, space: str, state: tuple[int, int], keys: Keys, matrix: Floats) -> None:
    """Writes the matrix file whole or not at all, and removes older ones; a full or read-only disk is no error."""
    place = folder / _name(space, state)
    draft = place.with_name(f"{place.name}.{secrets.token_hex(8)}.new")
    raw = keys.astype("<i8").tobytes()
    try:
        with draft.open("xb") as stream:
            stream.write(_HEADER.pack(_MAGIC, len(keys), matrix.shape[1], zlib.crc32(raw)))
            stream.write(raw)
            stream.write(bytes(_matrix_start(len(keys)) - stream.tell()))
            for start in range(0, len(keys), _ROWS_AT_ONCE):
                stream.write(np.ascontiguousarray(matrix[start : start + _ROWS_AT_ONCE], "<f4").tobytes())
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(place)
    except OSError:
        _remove(draft)
        return
    for old in folder.glob(f"matrix-{slug(space)}-*"):
        if old.name != place.name:
            _remove(old)


def _remove(file: Path) -> None:
    """Removes a file unless another process has it mapped (Windows) or removed it first."""
    try:
        file.unlink(missing_ok=True)
    except OSError:
        return
