"""Parquet files: a column of keys, and a column of vectors or one column per component."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from omnivec.errors import WeightsError
from omnivec.files import written
from omnivec.inputs.files.rows import arrow
from omnivec.tables.checks import blocks, check_finite, decoded, unique, utf8
from omnivec.tables.record import Table
from omnivec.tables.subwords import composed
from omnivec.types import Floats
from omnivec.weights.bounds import Bounds

_ROWS = 1 << 15  # rows per batch


def read_parquet(path: Path, limit: int = 0, errors: str = "strict") -> Table:
    """Reads keys from the first column of text; vectors from the first column of lists, else from all float columns.

    Args:
        path: the file.
        limit: read at most this many rows, from the beginning; 0 for all.
        errors: what to do with keys that are not valid UTF-8: "strict", "replace" or "ignore", as in `bytes.decode`.

    Raises:
        MissingExtra: pyarrow is not installed.
        WeightsError: the file is damaged, or has no such columns.
    """
    bounds = Bounds.of(path)
    with arrow(path, WeightsError) as (pa, parquet), parquet.ParquetFile(path) as file:
        key, columns, is_list = _columns(path, file.schema_arrow)
        rows = _check_size(bounds, file, [key, *columns])
    keys: list[bytes] = []
    parts: list[Floats] = []
    # A dictionary-encoded column may expand to any number of long texts, so keys are decoded by batch and counted.
    with arrow(path, WeightsError) as (pa, parquet), parquet.ParquetFile(path, read_dictionary=[key]) as file:
        for batch in file.iter_batches(min(_ROWS, max(rows, 1)), columns=[key, *columns]):
            batch = batch.slice(0, limit - len(keys)) if limit else batch
            if batch.column(key).null_count:
                raise WeightsError(
                    f"{path}: {batch.column(key).null_count} keys of column {key!r} are missing"
                )
            parts.append((_lists if is_list else _components)(path, batch, columns))
            check_finite(path, parts[-1], len(keys) + 1)
            keys += _keys(bounds, batch.column(key), pa)
            if limit and len(keys) >= limit:
                break
    dims = {part.shape[1] for part in parts if len(part)}
    if len(dims) != 1:
        raise WeightsError(
            f"{path}: vectors of {', '.join(map(str, sorted(dims))) or 'no'} numbers: all must have the same length"
        )
    texts, undecoded = decoded(path, keys, range(1, len(keys) + 1), errors, "row")
    vectors = np.concatenate([part for part in parts if len(part)])
    return unique(Table(texts, vectors, undecoded=undecoded))


def _check_size(bounds: Bounds, file: Any, columns: list[str]) -> int:
    """The number of rows that a file states, after checking the decompressed size of its columns.

    Run-length encoding stores any number of equal values in a few bytes.
    """
    metadata = file.metadata
    places = [
        i for i in range(metadata.num_columns) if file.schema.column(i).path.partition(".")[0] in columns
    ]
    bounds.number("a number of rows", metadata.num_rows, 0, bounds.limit)
    for group in range(metadata.num_row_groups):
        # pyarrow aborts the process on inconsistent column metadata; reading one row first raises an error instead.
        next(file.iter_batches(1, row_groups=[group], columns=columns), None)
        stated = metadata.row_group(group)
        for column in map(stated.column, places):
            size = {"DOUBLE": 8, "FLOAT": 4}.get(column.physical_type, 8)
            bounds.spend(f"column {column.path_in_schema[:60]!r}", size * max(column.num_values, 0))
            bounds.spend(f"column {column.path_in_schema[:60]!r}", max(column.total_uncompressed_size, 0))
    return int(metadata.num_rows)


def _keys(bounds: Bounds, column: Any, pa: Any) -> list[bytes]:
    """The texts of a column as bytes, which may be invalid UTF-8."""
    if hasattr(column, "dictionary"):
        texts = column.dictionary.cast(pa.large_binary()).to_pylist()
        keys = [texts[place] for place in column.indices.to_pylist()]
    else:
        keys = column.cast(pa.large_binary()).to_pylist()
    bounds.spend("its keys", sum(map(len, keys)))
    return keys


def write_parquet(path: Path, table: Table) -> None:
    """Writes a column `key` of strings and a column `vector` of float32 lists; with n-grams, the composed vectors.

    Raises:
        MissingExtra: pyarrow is not installed.
        UsageError: a key contains a lone surrogate.
        WeightsError: the disk refused.
    """
    for key in table.keys:
        utf8(key)
    with written(path, error=WeightsError) as partial, arrow(path, WeightsError) as (pa, parquet):
        schema = pa.schema([("key", pa.string()), ("vector", pa.list_(pa.float32(), table.dim))])
        with parquet.ParquetWriter(partial, schema) as writer:
            start = 0
            for block in blocks(composed(table), _ROWS):
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), table.dim)
                keys = pa.array(table.keys[start : start + len(block)], pa.string())
                writer.write_table(pa.Table.from_arrays([keys, vectors], schema=schema))
                start += len(block)


def _columns(path: Path, schema: Any) -> tuple[str, list[str], bool]:
    """The name of the key column, the names of the vector columns, and whether the vectors are a column of lists."""
    import pyarrow.types as types

    texts = [each.name for each in schema if types.is_string(each.type) or types.is_large_string(each.type)]
    lists = [
        each.name
        for each in schema
        if (types.is_list(each.type) or types.is_large_list(each.type) or types.is_fixed_size_list(each.type))
        and types.is_floating(each.type.value_type)
    ]
    floats = [each.name for each in schema if types.is_floating(each.type)]
    if not texts or not (lists or floats):
        columns = ", ".join(f"{each.name} {each.type}" for each in list(schema)[:5])
        raise WeightsError(
            f"{path} needs a column of text and one of lists of floats, or columns of floats; it has {columns}"
        )
    return texts[0], lists[:1] or floats, bool(lists)


def _components(path: Path, batch: Any, columns: list[str]) -> Floats:
    return np.stack([batch.column(name).to_numpy(zero_copy_only=False) for name in columns], 1).astype(
        np.float32
    )


def _lists(path: Path, batch: Any, columns: list[str]) -> Floats:
    column = batch.column(columns[0])
    if column.null_count:
        raise WeightsError(f"{path}: {column.null_count} vectors of column {columns[0]!r} are missing")
    lengths = (
        {len(each) for each in column} if not hasattr(column.type, "list_size") else {column.type.list_size}
    )
    if len(lengths) > 1:
        raise WeightsError(
            f"{path}: vectors of {min(lengths)} to {max(lengths)} numbers: all must have the same length"
        )
    flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return flat.reshape(len(column), -1) if len(column) else np.zeros((0, 0), np.float32)
