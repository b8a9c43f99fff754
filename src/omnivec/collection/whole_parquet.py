"""The layout "parquet" of an export of a whole collection; see `whole_layouts`.

The column `_vector.SPACE` of passages.parquet holds the numbers of all vectors that a passage has in a space, one after
the other. A sparse space has two columns, `_indices.SPACE` and `_weights.SPACE`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omnivec.collection.whole_layouts import DOCUMENTS, PASSAGES, head_in, head_out, passage_in, passage_out
from omnivec.errors import CollectionError
from omnivec.store.records import SpaceRecord
from omnivec.store.wholes import Whole
from omnivec.types import SPARSE

_AT_ONCE = 1_000
_TEXTS = ("id", "modality", "pipeline", "root", "path")


class ParquetSink:
    """Writes a row for each document and for each passage."""

    def __init__(self, folder: Path, spaces: Sequence[SpaceRecord]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._pa: Any = pa
        self._spaces = spaces
        names = list(head_out((None,) * 13))
        heads = [(name, pa.string() if name in _TEXTS else pa.int64()) for name in names]
        self._heads = pa.schema(
            [*heads, ("digest", pa.binary()), ("metadata", pa.string()), ("passages", pa.int64())]
        )
        span = [("start", pa.float64()), ("end", pa.float64()), ("line", pa.int64())]
        texts = [("modality", pa.string()), ("text", pa.string()), ("unit", pa.string())]
        vectors = []
        for one in spaces:
            if one.kind == SPARSE:
                vectors.append((f"_indices.{one.name}", pa.list_(pa.uint32())))
                vectors.append((f"_weights.{one.name}", pa.list_(pa.float32())))
            else:
                vectors.append((f"_vector.{one.name}", pa.list_(pa.float32())))
        place = [("document", pa.string()), ("passage", pa.int64())]
        self._passages = pa.schema([*place, *span, *texts, *vectors])
        self._writers = [
            pq.ParquetWriter(folder / f"{DOCUMENTS}.parquet", self._heads),
            pq.ParquetWriter(folder / f"{PASSAGES}.parquet", self._passages),
        ]

    def write(self, documents: Sequence[Whole]) -> None:
        """Writes a row group of each file."""
        heads = [
            {
                **head_out(whole.head),
                "digest": whole.head[3],
                "metadata": whole.head[6],
                "passages": len(whole.passages),
            }
            for whole in documents
        ]
        self._writers[0].write_table(self._pa.Table.from_pylist(heads, schema=self._heads))
        pieces = [(whole.id, row, vectors) for whole in documents for row, vectors in whole.passages]
        if not pieces:
            return
        plain = [{"document": name, "passage": row[0], **passage_out(row)} for name, row, _ in pieces]
        count = len(self._passages.names) - sum(1 + (one.kind == SPARSE) for one in self._spaces)
        fields = self._pa.schema([self._passages.field(i) for i in range(count)])
        table = self._pa.Table.from_pylist(plain, schema=fields)
        for one in self._spaces:
            blobs = [b"".join(blob for space, _, blob in own if space == one.name) for _, _, own in pieces]
            there = [any(space == one.name for space, _, _ in own) for _, _, own in pieces]
            for name, column in self._columns(one, blobs, there):
                table = table.append_column(self._passages.field(name), column)
        self._writers[1].write_table(table)

    def _columns(
        self, space: SpaceRecord, blobs: list[bytes], there: list[bool]
    ) -> Iterator[tuple[str, Any]]:
        if space.kind == SPARSE:
            halves = [len(blob) // 2 for blob in blobs]
            first = [blob[:half] for blob, half in zip(blobs, halves, strict=True)]
            second = [blob[half:] for blob, half in zip(blobs, halves, strict=True)]
            yield f"_indices.{space.name}", self._lists(first, there, "<u4")
            yield f"_weights.{space.name}", self._lists(second, there, "<f4")
        else:
            yield f"_vector.{space.name}", self._lists(blobs, there, "<f4")

    def _lists(self, blobs: Sequence[bytes], there: Sequence[bool], dtype: str) -> Any:
        """A column of lists of numbers; null where there are no vectors."""
        values = self._pa.array(np.frombuffer(b"".join(blobs), dtype))
        offsets = np.concatenate([[0], np.cumsum([len(blob) // 4 for blob in blobs])]).astype(np.int32)
        missing = self._pa.array([not one for one in there])
        return self._pa.ListArray.from_arrays(self._pa.array(offsets), values, mask=missing)

    def close(self) -> None:
        """Writes the footers."""
        for writer in self._writers:
            writer.close()


def read_parquet(folder: Path, spaces: Sequence[SpaceRecord]) -> Iterator[Whole]:
    """Reads the documents; CollectionError if a file does not hold what the layout says."""
    passages = _passages(folder / f"{PASSAGES}.parquet", spaces)
    path = folder / f"{DOCUMENTS}.parquet"
    following = next(passages, None)
    for number, line in enumerate(_rows(path)):
        try:
            metadata = json.dumps(json.loads(line["metadata"]), ensure_ascii=False)
            head = head_in(line, line["digest"], metadata)
            count = line["passages"]
            own: list[Any] = []
            while following is not None and following[0] == head[0] and len(own) < count:
                own.append(following[1:])
                following = next(passages, None)
            if len(own) != count:
                raise ValueError(f"{len(own)} of its {count} passages come next in {PASSAGES}.parquet")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise CollectionError(f"{path}:{number + 1} is no document of an export: {error}") from error
        yield Whole(head, own)
    if following is not None:
        raise CollectionError(
            f"{folder / PASSAGES}.parquet has passages of {following[0]!r}, which does not come next"
        )


def _batches(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=_AT_ONCE)
    except (pa.ArrowException, OSError) as error:
        raise CollectionError(f"{path} is not Parquet: {' '.join(str(error).split())}") from error


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    for batch in _batches(path):
        yield from batch.to_pylist()


def _passages(
    path: Path, spaces: Sequence[SpaceRecord]
) -> Iterator[tuple[Any, Any, list[tuple[str, int, bytes]]]]:
    """The id of a document, the row of its passage, and its vectors."""
    for batch in _batches(path):
        try:
            vectors = {one.name: _blobs(batch, one) for one in spaces}
            plain = batch.drop_columns(
                [name for name in batch.schema.names if name.startswith("_")]
            ).to_pylist()
            found = []
            for i, line in enumerate(plain):
                own = [
                    (name, part, blob) for name, rows in vectors.items() for part, blob in enumerate(rows[i])
                ]
                found.append((line["document"], passage_in(line["passage"], line), sorted(own)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CollectionError(f"{path} has not the columns of an export: {error}") from error
        yield from found


def _blobs(batch: Any, space: SpaceRecord) -> list[list[bytes]]:
    """The vectors of each row of a batch in a space."""
    if space.kind == SPARSE:
        indices = _lists(batch, f"_indices.{space.name}", "<u4")
        weights = _lists(batch, f"_weights.{space.name}", "<f4")
        return [[] if a is None or b is None else [a + b] for a, b in zip(indices, weights, strict=True)]
    size = 4 * space.dim
    return [
        [] if raw is None else [raw[start : start + size] for start in range(0, len(raw), size)]
        for raw in _lists(batch, f"_vector.{space.name}", "<f4")
    ]


def _lists(batch: Any, name: str, dtype: str) -> list[bytes | None]:
    """The numbers of each row of a column of lists, as bytes; None for null."""
    column = batch.column(name)
    bounds, valid = column.offsets.to_numpy(), column.is_valid().to_numpy(zero_copy_only=False)
    values = column.values.to_numpy(zero_copy_only=False).astype(dtype)
    return [values[bounds[i] : bounds[i + 1]].tobytes() if valid[i] else None for i in range(len(column))]
