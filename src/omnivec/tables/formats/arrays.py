"""NumPy's own files, never pickled: npz with keys and vectors, npy with vectors and a text file of keys beside it."""

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
    """Vectors (n, dim), mapped; keys from `<name>.txt` beside it, one a line, else the numbers of the rows."""
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
    """The one array of text in an npz file as keys, the one matrix of floats as vectors."""
    arrays = npz_arrays(path)
    texts = [name for name, array in arrays.items() if array.ndim == 1 and array.dtype.kind in "US"]
    tables = [name for name, array in arrays.items() if array.ndim == 2 and array.dtype.kind == "f"]
    if len(texts) != 1 or len(tables) != 1:
        said = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items())
        raise WeightsError(
            f"{path} needs one array of text and one matrix of floats; it has {said or 'nothing'}"
        )
    found = arrays[texts[0]]
    try:
        listed = found.tolist()
    except ValueError as error:  # a number that is no character
        raise WeightsError(f"{path}: its keys are no text: {one_line(error)}") from error
    keys, undecoded = listed, 0
    if found.dtype.kind == "S":
        keys, undecoded = decoded(path, listed, range(1, len(listed) + 1), errors, "row")
    return _table(path, keys, arrays[tables[0]], limit, undecoded)


def _table(path: Path, keys: list[str], vectors: NDArray[Any], limit: int, undecoded: int = 0) -> Table:
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or len(vectors) != len(keys) or not vectors.size:
        raise WeightsError(f"{path}: {len(keys)} keys for vectors of {vectors.dtype} {vectors.shape}")
    check_finite(path, vectors)
    table = Table(keys, vectors.astype(np.float32, copy=False), undecoded=undecoded)
    return limited(unique(table), limit)


def write_npz(path: Path, table: Table) -> None:
    """Writes `keys` as text and `vectors`; of a table with n-grams, the vectors that they make up.

    Raises:
        UsageError: a key that ends with a zero, which an array of text drops.
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
    """Writes vectors, and `<name>.txt` beside them with a key on each line."""
    for key in table.keys:
        if "\n" in key:
            raise UsageError(f"the key {key[:60]!r} holds a line feed: write npz or parquet")
    lines, beside = b"".join(utf8(key) + b"\n" for key in table.keys), path.with_suffix(".txt")
    if beside.exists() and not _is_pair(path, beside):
        raise UsageError(f"{beside} is there and does not belong to {path}: the keys would replace it")
    with written(beside, error=WeightsError) as keys, written(path, error=WeightsError) as partial:
        keys.write_bytes(lines)
        with partial.open("wb") as stream:
            np.save(stream, composed(table), allow_pickle=False)


def _is_pair(path: Path, beside: Path) -> bool:
    """Whether a text holds the keys of the matrix beside it, one in a line."""
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
        with beside.open("rb") as stream:
            return matrix.ndim == 2 and sum(1 for _ in stream) == len(matrix)
    except (OSError, ValueError, EOFError):
        return False
