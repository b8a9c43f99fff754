"""Arrays in files of NumPy's and FAISS's formats, written piece by piece and read without holding them in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import CollectionError
from omnivec.types import Metric
from omnivec.validation.reasons import one_line

_HEADER = 128
_AT_ONCE = 4_096


class ArrayFile:
    """A .npy file whose number of rows is known when it is closed.

    Args:
        path: of the file.
        dtype: of the numbers, such as "<f4".
        shape: of a row.
    """

    def __init__(self, path: Path, dtype: str, shape: tuple[int, ...]) -> None:
        self._file = path.open("wb")
        self._dtype, self._shape = dtype, shape
        self._bytes = 0
        self._file.write(bytes(_HEADER))

    def append(self, raw: bytes) -> None:
        """Writes the bytes of rows."""
        self._bytes += self._file.write(raw)

    def close(self) -> None:
        """Writes the header: magic, version 1.0, length, and a dict padded to 128 bytes (numpy.lib.format)."""
        if self._file.closed:
            return
        row = np.dtype(self._dtype).itemsize * int(np.prod(self._shape, dtype=np.int64))
        shape = (self._bytes // row, *self._shape)
        facts = f"{{'descr': '{self._dtype}', 'fortran_order': False, 'shape': {shape!r}, }}"
        head = b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little")
        self._file.seek(0)
        self._file.write(head + facts.encode("ascii").ljust(_HEADER - 11) + b"\n")
        self._file.close()


def read_array(path: Path, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Maps a .npy file of rows of a shape; CollectionError if it holds something else."""
    try:
        array = np.load(path, mmap_mode="r" if path.stat().st_size > _HEADER else None, allow_pickle=False)
    except Exception as error:  # a damaged header is parsed as Python, which raises almost anything
        raise CollectionError(f"{path} is not an array of NumPy: {one_line(error)}") from error
    if not isinstance(array, np.ndarray):
        raise CollectionError(f"{path} is not an array of NumPy, but an archive")
    if not array.ndim or array.shape[1:] != shape or array.dtype != np.dtype(dtype):
        expected = ", ".join(["n", *map(str, shape)])
        raise CollectionError(f"{path} holds {array.dtype.str} {array.shape}, expected {dtype} ({expected})")
    return array


class FlatIndexFile:
    """A FAISS file, written by `faiss.write_index`: an IndexIDMap2 of a flat index, ids 0, 1, 2, ...

    Vectors are not normalised, so that for the cosine the index is one of inner products.
    """

    def __init__(self, path: Path, dim: int, metric: Metric) -> None:
        import faiss

        self._path, self._dim, self._faiss = path, dim, faiss
        flat = faiss.IndexFlatL2(dim) if metric == "euclidean" else faiss.IndexFlatIP(dim)
        self._index = faiss.IndexIDMap2(flat)
        self._flat = flat  # FAISS does not keep it alive
        self._waiting: list[bytes] = []
        self._closed = False

    def append(self, raw: bytes) -> None:
        """Adds a vector."""
        self._waiting.append(raw)
        if len(self._waiting) >= _AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            rows = np.frombuffer(b"".join(self._waiting), "<f4").reshape(-1, self._dim)
            first = self._index.ntotal
            self._index.add_with_ids(rows, np.arange(first, first + len(rows), dtype=np.int64))
            self._waiting = []

    def close(self) -> None:
        """Writes the file."""
        if not self._closed:
            self._closed = True
            self._flush()
            self._faiss.write_index(self._index, str(self._path))


def read_flat_index(path: Path, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The vectors (n, dim) of a FAISS file of this kind, in the order of their ids; CollectionError for another."""
    import faiss

    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise CollectionError(
            f"{path} is not an index of FAISS: {' '.join(str(error).split())[-200:]}"
        ) from error
    inner = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexIDMap2) else None
    if not isinstance(inner, faiss.IndexFlat) or inner.d != shape[0]:
        raise CollectionError(f"{path} is not an IndexIDMap2 of a flat index with {shape[0]} components")
    ids = faiss.vector_to_array(index.id_map)
    if not np.array_equal(ids, np.arange(inner.ntotal)):
        raise CollectionError(f"{path} has other ids than 0 to {inner.ntotal - 1}")
    return (
        np.asarray(faiss.rev_swig_ptr(inner.get_xb(), inner.ntotal * inner.d))
        .reshape(-1, inner.d)
        .astype(dtype)
    )
