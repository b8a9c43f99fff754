"""The file of a space's matrix: written in a stream, mapped, and verified block by block as rows are used.

    0   8 bytes    magic
    8   uint64     n, rows
    16  uint32     dim
    20  uint32     CRC-32 of the collection's id, the file's name, n, dim, the keys and the table
    24  zeros      to 64
    64  float32    n x dim, little-endian
        int64      n keys, ascending
        uint32     table: the CRC-32 of each block of 4 rows; the last block may have fewer

Opening a file reads its keys and its table, not its rows: 9 MB of 1.5 GB, for a million vectors of 384 components. The
CRC of a block is verified when a row of it is first used. So neither a changed row nor another file under this name is
used. A file that is written to while it is mapped has another time of change, see `MatrixFile.unchanged`.

Example: 9 rows of 2 components are 72 bytes from offset 64, 9 keys of 72 bytes from 136, and a table of 3 numbers, for
the rows 0 to 3, 4 to 7 and 8, of 12 bytes from 208; the file has 220 bytes. Row 5 is used: bytes 96 to 128 are read,
and their CRC is compared with the second number of the table.
"""

from __future__ import annotations

import mmap
import os
import struct
import weakref
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from omnivec.errors import CollectionError
from omnivec.files import written
from omnivec.types import Floats, Keys

MAGIC = b"omnivec\3"
OLDER = (b"omnivec\1", b"omnivec\2")
"""The first bytes of earlier versions of this format, which are ignored and replaced."""

_HEADER = struct.Struct("<8sQII")
_START = 64
_BLOCK = 4
_ROWS_AT_ONCE = 1 << 12
_RESIDENT = 1 << 26
"""Bytes of a map that may be in the memory of the process, at least, before they are given back to the system."""
_LARGE = 1 << 28
"""Bytes of a map up to which all of it may stay in memory, where it is read fastest."""
_AROUND = 1 << 16  # the system maps so many bytes around a row that is read

Block = tuple[Keys, Floats]


class MatrixDamaged(CollectionError):
    """A block of a matrix file is not what was written. The catalogue has all of its content."""


class MatrixFile:
    """A mapped file.

    Attributes:
        path: of the file.
        keys: (n,) int64, ascending.
        vectors: (n, dim) float32, a read-only memory map that is not verified; `take` and `blocks` verify what they
            read.
        descriptor: of the mapped file.
    """

    def __init__(self, path: Path, keys: Keys, table: Keys, vectors: Floats, descriptor: int) -> None:
        self.path, self.keys, self.vectors, self.descriptor = path, keys, vectors, descriptor
        self.written = _written(os.fstat(descriptor))
        self._plain = np.asarray(vectors).view(np.ndarray)
        self._table = table
        self._verified = np.zeros(len(table), np.bool_)
        self._touched = 0
        self._most = max(_RESIDENT, self._plain.nbytes // 16)
        weakref.finalize(self, os.close, descriptor)

    def take(self, rows: Keys) -> Floats:
        """Returns a copy of some rows, (m, dim) float32, given their numbers.

        Raises:
            MatrixDamaged: a block that holds one of them is not what was written.
        """
        blocks = rows // _BLOCK
        known = self._verified[blocks]
        if not known.all():
            for block in np.unique(blocks[~known]).tolist():
                self._verify(block)
        self._touch(len(rows) * _AROUND)
        return self._plain[rows]

    def blocks(self, first: int = 0) -> Iterator[slice]:
        """Verifies all rows from one on, piece by piece; the rows of a piece may be read until the next is asked for.

        Raises:
            MatrixDamaged: a block is not what was written.
        """
        for start in range(first, len(self.keys), _ROWS_AT_ONCE):
            end = min(start + _ROWS_AT_ONCE, len(self.keys))
            for block in range(start // _BLOCK, -(-end // _BLOCK)):
                if not self._verified[block]:
                    self._verify(block)
            yield slice(start, end)
            self._touch(self._plain[start:end].nbytes)

    def verify(self, first: int = 0) -> None:
        """Verifies all rows from one on, as `blocks` does."""
        if not self._verified[first // _BLOCK :].all():
            for _ in self.blocks(first):
                pass

    @property
    def large(self) -> bool:
        """Whether the memory of its rows is freed while they are read."""
        return self._plain.nbytes > _LARGE

    def release(self) -> None:
        """Gives the memory of the rows that were read back to the system, which may keep it in its cache."""
        self._touched = 0
        mapped = getattr(self.vectors, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)

    def unchanged(self) -> bool:
        """Whether the file was not written to since it was mapped; it may have been removed."""
        status = os.fstat(self.descriptor)
        now = _written(status)
        # Setting mtime back changes ctime; so does removing the file, which is the only case in which ctime may differ.
        return now == self.written or (not status.st_nlink and now[:2] == self.written[:2])

    def _verify(self, block: int) -> None:
        rows = self._plain[block * _BLOCK : (block + 1) * _BLOCK]
        if zlib.crc32(rows.data) != self._table[block]:
            raise MatrixDamaged(f"{self.path} is not what was written; it is made again from the catalogue")
        self._verified[block] = True

    def _touch(self, count: int) -> None:
        self._touched += count
        if self._touched > self._most and self.large:
            self.release()


def _written(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_size, status.st_ctime_ns


def read(file: Path, owner: str, dim: int) -> MatrixFile | None:
    """Maps a file; None if it is missing, of another collection, name or format, or if its keys or table are damaged.

    Args:
        file: its path; its name is part of what is compared.
        owner: id of the collection.
        dim: length of a vector.
    """
    try:
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            head = stream.read(_START)
            magic, n, its_dim, checksum = _HEADER.unpack_from(head)
            blocks, end = -(-n // _BLOCK), _START + 4 * n * dim
            if magic != MAGIC or its_dim != dim or not n or size != end + 8 * n + 4 * blocks:
                return None
            if any(head[_HEADER.size :]):
                return None
            stream.seek(end)
            raw, table = stream.read(8 * n), stream.read(4 * blocks)
            if _checksum(owner, file.name, n, dim, raw, table) != checksum:
                return None
            matrix = np.memmap(stream, "<f4", mode="r", offset=_START, shape=(n, dim))
            descriptor = os.dup(stream.fileno())
    except (OSError, ValueError, struct.error):
        return None
    keys = np.frombuffer(raw, "<i8").astype(np.int64, copy=False)
    return MatrixFile(file, keys, np.frombuffer(table, "<u4"), matrix, descriptor)


def write(file: Path, owner: str, dim: int, blocks: Iterable[Block]) -> None:
    """Writes a file atomically, holding no more than some blocks of vectors.

    Args:
        file: its path.
        owner: id of the collection.
        dim: length of a vector.
        blocks: keys (n,) int64, ascending over all blocks, and vectors (n, dim) float32 of each.

    Raises:
        OSError: the file cannot be written.
        OmnivecError: it cannot be put in its place.
    """
    with written(file) as draft, draft.open("wb") as stream:
        stream.write(bytes(_START))
        keys: list[bytes] = []
        table: list[int] = []
        rest = np.zeros((0, dim), "<f4")
        for some, vectors in blocks:
            keys.append(some.astype("<i8").tobytes())
            rows = np.concatenate([rest, vectors.astype("<f4", copy=False)])
            whole = len(rows) // _BLOCK * _BLOCK
            stream.write(rows[:whole].data)
            table += [zlib.crc32(rows[start : start + _BLOCK].data) for start in range(0, whole, _BLOCK)]
            rest = rows[whole:]
        if len(rest):
            stream.write(rest.tobytes())
            table.append(zlib.crc32(rest.tobytes()))
        raw, sums = b"".join(keys), np.array(table, "<u4").tobytes()
        stream.write(raw)
        stream.write(sums)
        n = len(raw) // 8
        stream.seek(0)
        stream.write(_HEADER.pack(MAGIC, n, dim, _checksum(owner, file.name, n, dim, raw, sums)))


def is_older(file: Path) -> bool:
    """Whether a file has an earlier version of this format."""
    try:
        with file.open("rb") as stream:
            return stream.read(len(MAGIC)) in OLDER
    except OSError:
        return False


def _checksum(owner: str, name: str, n: int, dim: int, keys: bytes, table: bytes) -> int:
    return zlib.crc32(table, zlib.crc32(keys, zlib.crc32(f"{owner} {name} {n} {dim}".encode())))
