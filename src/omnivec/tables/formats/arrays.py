"""NumPy files, without pickled objects: npz with keys and vectors, or npy with vectors and a text file of keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError, WeightsError
from omnivec.files import written
from omnivec.tables.checks import check_finite, decoded, limited, unique, utf8
from omnivec.tables.record import Table
from omnivec.tables.subwords import composed
from omnivec.validation.reasons import one_line
from omnivec.weights.numpyfile import map_npy
from omnivec.weights.numpyfile import read_npz as npz_arrays


def read_npy(path: Path, limit: int = 0) -> Table:
    """Reads vectors (n, dim) as a memory map; keys from `<name>.txt` beside the file, one per line, or row numbers.

    Raises:
        WeightsError: a file is damaged, or the number of keys is not that of the rows.
    """
    vectors = map_npy(path)
    beside = path.with_suffix(".txt")
    keys = [str(row) for row in range(len(vectors))] if vectors.ndim else []
    if beside.exists():
        try:
            keys = beside.read_bytes().decode().removesuffix("\n").split("\n")
        except (OSError, ValueError) as error:
            raise WeightsError(f"{beside} cannot be read: {one_line(error)}") from error
    return _table(path, keys, vectors, limit)


def read_npz(path: Path, limit: int = 0, errors: str = "strict") -> Table:
    """Reads an npz file with exactly one array of strings, the keys, and one matrix of floats, the vectors.

    Raises:
        WeightsError: the file is damaged, or its arrays are not these two.
    """
    arrays = npz_arrays(path)
    text_arrays = [name for name, array in arrays.items() if array.ndim == 1 and array.dtype.kind in "US"]
    matrices = [name for name, array in arrays.items() if array.ndim == 2 and array.dtype.kind == "f"]
    if len(text_arrays) != 1 or len(matrices) != 1:
        shapes = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items())
        raise WeightsError(
            f"{path} needs one array of text and one matrix of floats; it has {shapes or 'nothing'}"
        )
    key_array = arrays[text_arrays[0]]
    try:
        listed = key_array.tolist()
    except ValueError as error:  # a number that is not a code point
        raise WeightsError(f"{path}: its keys are not valid text: {one_line(error)}") from error
    keys, undecoded = listed, 0
    if key_array.dtype.kind == "S":
        keys, undecoded = decoded(path, listed, range(1, len(listed) + 1), errors, "row")
    return _table(path, keys, arrays[matrices[0]], limit, undecoded)


def _table(path: Path, keys: list[str], vectors: NDArray[Any], limit: int, undecoded: int = 0) -> Table:
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or len(vectors) != len(keys) or not vectors.size:
        raise WeightsError(f"{path}: {len(keys)} keys for vectors of {vectors.dtype} {vectors.shape}")
    check_finite(path, vectors)
    table = Table(keys, vectors.astype(np.float32, copy=False), undecoded=undecoded)
    return limited(unique(table), limit)


def write_npz(path: Path, table: Table) -> None:
    """Writes the arrays `keys` (strings) and `vectors`; with n-grams, the vectors composed of them.

    Raises:
        UsageError: a key ends with a zero character, which NumPy's string arrays drop.
        WeightsError: the disk refused.
    """
    for key in table.keys:
        utf8(key)
        if key.endswith("\0"):
            raise UsageError(
                f"the key {key[:60]!r} ends with a zero character, which npz drops: write parquet"
            )
    keys = np.array(table.keys, np.str_)
    with written(path, error=WeightsError) as partial, partial.open("wb") as stream:
        np.savez(stream, keys=keys, vectors=composed(table))


def write_npy(path: Path, table: Table) -> None:
    """Writes vectors, and beside them `<name>.txt` with one key per line.

    Raises:
        UsageError: a key contains a line feed, or `<name>.txt` exists and is not the key file of `path`.
        WeightsError: the disk refused.
    """
    for key in table.keys:
        if "\n" in key:
            raise UsageError(f"the key {key[:60]!r} holds a line feed: write npz or parquet")
    lines, beside = b"".join(utf8(key) + b"\n" for key in table.keys), path.with_suffix(".txt")
    if beside.exists() and not _is_pair(path, beside):
        raise UsageError(
            f"{beside} exists and does not hold the keys of {path}; they would replace it: choose another name"
        )
    with written(beside, error=WeightsError) as keys, written(path, error=WeightsError) as partial:
        keys.write_bytes(lines)
        with partial.open("wb") as stream:
            np.save(stream, composed(table), allow_pickle=False)


def _is_pair(path: Path, beside: Path) -> bool:
    """Whether a text file has as many lines as the matrix beside it has rows."""
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
        with beside.open("rb") as stream:
            return matrix.ndim == 2 and sum(1 for _ in stream) == len(matrix)
    except (OSError, ValueError, EOFError):
        return False
