"""The layouts of an export of a whole collection: how documents, passages and vectors are written into files.

    jsonl     documents.jsonl    a line for each document, with its passages and their vectors
    parquet   documents.parquet  a row for each document
              passages.parquet   a row for each passage, with a column of vectors for each space
    numpy     documents.jsonl    as above, without vectors
              vectors-SPACE.npy  float32 (n, dim); of a sparse space a uint32 array of indices, a float32 array of
                                 weights and an int64 array of n + 1 offsets
              rows-SPACE.jsonl   a line for each vector: id of its document, number of its passage, its part
    faiss     as numpy, but vectors-SPACE.faiss, an IndexIDMap2 of a flat index whose ids are the numbers of the lines
              of rows-SPACE.jsonl; sparse spaces as NumPy arrays

Vectors are written as they are stored, bit for bit. All files are written and read piece by piece; only FAISS holds the
vectors of a space in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from omnivec.collection.whole_arrays import ArrayFile, FlatIndexFile, read_array, read_flat_index
from omnivec.errors import CollectionError
from omnivec.store import checksums
from omnivec.store.records import SpaceRecord
from omnivec.store.wholes import Whole
from omnivec.types import SPARSE
from omnivec.vectors.arrays import digits

DOCUMENTS, PASSAGES = "documents", "passages"

Vectors = Sequence[tuple[str, int, bytes]]

_HEAD = (
    "id",
    "modality",
    "pipeline",
    "root",
    "path",
    "lost",
    "size",
    "mtime_ns",
    "device",
    "indexed_ns",
    "checksum",
)
_PLACES = (0, 1, 2, 4, 5, 7, 8, 9, 10, 11, 12)
"""Where the values of _HEAD are in `Whole.head`; 3 is the digest and 6 the metadata."""
_DIGEST, _METADATA = 3, 6
_PASSAGE = ("start", "end", "line", "modality", "text")


class JsonSink:
    """Lines of documents; vectors are in them unless `arrays` takes them."""

    def __init__(
        self, folder: Path, spaces: Sequence[SpaceRecord], arrays: Sequence[ArraySink] | None
    ) -> None:
        self._sparse = {one.name for one in spaces if one.kind == SPARSE}
        self._file = (folder / f"{DOCUMENTS}.jsonl").open("wb")
        self._arrays = arrays

    def write(self, documents: Sequence[Whole]) -> None:
        """Writes a line for each document."""
        for whole in documents:
            line = {
                **head_out(whole.head),
                "digest": whole.head[_DIGEST].hex(),
                "metadata": json.loads(whole.head[_METADATA]),
            }
            passages = ", ".join(self._passage(row, vectors) for row, vectors in whole.passages)
            text = f'{json.dumps(line, ensure_ascii=False)[:-1]}, "passages": [{passages}]}}\n'
            self._file.write(text.encode())
            for array in self._arrays or ():
                array.take(whole)

    def _passage(self, row: tuple[Any, ...], vectors: Vectors) -> str:
        """A passage as JSON."""
        found = json.dumps(passage_out(row), ensure_ascii=False)
        if self._arrays is not None or not vectors:
            return found
        own = []
        for name in dict.fromkeys(one[0] for one in vectors):
            blobs = [blob for space, _, blob in vectors if space == name]
            parts = [sparse_out(blob) if name in self._sparse else numbers_out(blob) for blob in blobs]
            own.append(f"{json.dumps(name, ensure_ascii=False)}: [{', '.join(parts)}]")
        return f'{found[:-1]}, "vectors": {{{", ".join(own)}}}}}'

    def close(self) -> None:
        """Completes the files."""
        self._file.close()
        for array in self._arrays or ():
            array.close()


def head_out(head: tuple[Any, ...]) -> dict[str, Any]:
    """The values of a document that are numbers or texts."""
    return {name: head[place] for name, place in zip(_HEAD, _PLACES, strict=True)}


def head_in(line: Mapping[str, Any], digest: bytes, metadata: str) -> tuple[Any, ...]:
    """The head of a `Whole`; KeyError if a value is missing."""
    head: list[Any] = [None] * (len(_HEAD) + 2)
    for name, place in zip(_HEAD, _PLACES, strict=True):
        head[place] = line[name]
    head[_DIGEST], head[_METADATA] = digest, metadata
    return tuple(head)


def passage_out(row: tuple[Any, ...]) -> dict[str, Any]:
    """A passage by the names of its values."""
    unit = {"unit": row[6]} if len(row) > 6 else {}
    return {**dict(zip(_PASSAGE, row[1:6], strict=True)), **unit}


def passage_in(ordinal: int, line: Mapping[str, Any]) -> tuple[Any, ...]:
    """The row of a passage; numbers without a fraction are ints, as they are stored."""
    values = [line[name] for name in _PASSAGE]
    values[:2] = [int(one) if isinstance(one, float) and one.is_integer() else one for one in values[:2]]
    return checksums.row_of(ordinal, *values, line.get("unit"))


def numbers_out(blob: bytes) -> str:
    """Numbers as JSON, with the nine digits that tell one float32 from all others."""
    row = np.frombuffer(blob, "<f4")
    if np.any(np.signbit(row) & (row == 0)):  # "-0" would be read as the integer 0
        return json.dumps(digits(row))
    text = ("%.9g, " * len(row)) % tuple(row.tolist())  # a fifth of the time of one number after the other
    return f"[{text[:-2]}]"


def sparse_out(blob: bytes) -> str:
    """A sparse vector as JSON: n indices of 4 bytes, then n weights of 4 bytes."""
    half = len(blob) // 2
    indices = json.dumps(np.frombuffer(blob[:half], "<u4").tolist())
    return f'{{"indices": {indices}, "weights": {numbers_out(blob[half:])}}}'


def from_lines(
    path: Path, spaces: Sequence[SpaceRecord], arrays: Sequence[ArraySource] | None
) -> Iterator[Whole]:
    """Reads documents from lines, and their vectors from arrays beside them if there are any."""
    kinds = {one.name: one.kind for one in spaces}
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = json.loads(raw)
                metadata = json.dumps(line["metadata"], ensure_ascii=False)
                head = head_in(line, bytes.fromhex(line["digest"]), metadata)
                passages = []
                for ordinal, one in enumerate(line["passages"]):
                    if arrays is None:
                        vectors = _vectors_in(one.get("vectors", {}), kinds)
                    else:
                        vectors = [found for array in arrays for found in array.of(head[0], ordinal)]
                    passages.append((passage_in(ordinal, one), sorted(vectors)))
            except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
                raise CollectionError(f"{path}:{number} is no document of an export: {error!r}") from error
            yield Whole(head, passages)
    for array in arrays or ():
        array.end()


def _vectors_in(stated: Mapping[str, Any], kinds: Mapping[str, str]) -> list[tuple[str, int, bytes]]:
    found = []
    for name, parts in stated.items():
        for part, numbers in enumerate(parts):
            if kinds.get(name) == SPARSE:
                indices = np.array(numbers["indices"], "<u4")
                blob = indices.tobytes() + np.array(numbers["weights"], "<f4").tobytes()
            else:
                blob = np.array(numbers, "<f4").tobytes()
            found.append((name, part, blob))
    return found


# Arrays beside the lines of documents.


def _slug(i: int, space: SpaceRecord) -> str:
    """The name of a space for a file's name; the first space has no number, so that one space alone has a short one."""
    readable = re.sub(r"[^A-Za-z0-9._+-]+", "_", space.name)[:40]
    return f"{readable}~{i}" if i else readable


def rows_name(i: int, space: SpaceRecord) -> str:
    """The file that says whose the vectors of a space are."""
    return f"rows-{_slug(i, space)}.jsonl"


def array_name(what: str, i: int, space: SpaceRecord, layout: str) -> str:
    """A file with vectors of a space, or with a part of sparse ones."""
    suffix = "faiss" if layout == "faiss" and space.kind != SPARSE else "npy"
    return f"{what}-{_slug(i, space)}.{suffix}"


def arrays_of(space: SpaceRecord) -> tuple[str, ...]:
    """What the arrays of a space hold."""
    return ("indices", "weights", "offsets") if space.kind == SPARSE else ("vectors",)


class ArraySink:
    """Writes the vectors of one space as arrays."""

    def __init__(self, folder: Path, i: int, space: SpaceRecord, layout: str) -> None:
        self._space = space
        self._rows: IO[bytes] = (folder / rows_name(i, space)).open("wb")
        names = {what: folder / array_name(what, i, space, layout) for what in arrays_of(space)}
        self._end = 0
        if space.kind == SPARSE:
            self._parts = {
                "indices": ArrayFile(names["indices"], "<u4", ()),
                "weights": ArrayFile(names["weights"], "<f4", ()),
                "offsets": ArrayFile(names["offsets"], "<i8", ()),
            }
            self._parts["offsets"].append(np.zeros(1, "<i8").tobytes())
        elif layout == "faiss":
            self._whole: Any = FlatIndexFile(names["vectors"], space.dim, space.metric)
        else:
            self._whole = ArrayFile(names["vectors"], "<f4", (space.dim,))

    def take(self, whole: Whole) -> None:
        """Writes the vectors that a document has in the space."""
        for row, vectors in whole.passages:
            for name, part, blob in vectors:
                if name != self._space.name:
                    continue
                line = json.dumps([whole.id, row[0], part], ensure_ascii=False)
                self._rows.write(line.encode() + b"\n")
                if self._space.kind != SPARSE:
                    self._whole.append(blob)
                    continue
                half = len(blob) // 2
                self._parts["indices"].append(blob[:half])
                self._parts["weights"].append(blob[half:])
                self._end += half // 4
                self._parts["offsets"].append(np.array([self._end], "<i8").tobytes())

    def close(self) -> None:
        """Completes the files."""
        self._rows.close()
        for one in self._parts.values() if self._space.kind == SPARSE else [self._whole]:
            one.close()


class ArraySource:
    """Reads the vectors of one space beside the lines of documents."""

    def __init__(self, folder: Path, i: int, space: SpaceRecord, layout: str) -> None:
        self._name, self._path = space.name, folder / rows_name(i, space)
        paths = {what: folder / array_name(what, i, space, layout) for what in arrays_of(space)}
        if space.kind == SPARSE:
            indices, weights = (
                read_array(paths["indices"], "<u4", ()),
                read_array(paths["weights"], "<f4", ()),
            )
            offsets = read_array(paths["offsets"], "<i8", ())
            bounds = offsets.tolist()
            if (
                bounds[:1] != [0]
                or bounds[-1] != len(indices)
                or len(indices) != len(weights)
                or np.any(np.diff(offsets) < 0)
            ):
                raise CollectionError(f"{paths['offsets']} does not fit the other arrays of the space")
            self._count = len(bounds) - 1
            self._blob: Callable[[int], bytes] = lambda n: (
                indices[bounds[n] : bounds[n + 1]].tobytes() + weights[bounds[n] : bounds[n + 1]].tobytes()
            )
        else:
            read = read_flat_index if layout == "faiss" else read_array
            matrix = read(paths["vectors"], "<f4", (space.dim,))
            self._count = len(matrix)
            self._blob = lambda n: matrix[n].tobytes()
        self._lines = self._rows()
        self._next = next(self._lines, None)

    def _rows(self) -> Iterator[tuple[int, str, int, int]]:
        number = -1
        with self._path.open("rb") as file:
            for number, raw in enumerate(file):
                try:
                    name, ordinal, part = json.loads(raw)
                except (ValueError, TypeError, RecursionError) as error:
                    raise CollectionError(
                        f"{self._path}:{number + 1} does not say whose a vector is"
                    ) from error
                yield number, name, ordinal, part
        if number + 1 != self._count:
            raise CollectionError(f"{self._path} has {number + 1:,} lines for {self._count:,} vectors")

    def of(self, document: str, ordinal: int) -> Iterator[tuple[str, int, bytes]]:
        """The vectors of the next passage; they stand in the order of the passages."""
        while self._next is not None and self._next[1:3] == (document, ordinal):
            if self._next[0] >= self._count:
                raise CollectionError(f"{self._path} has more lines than there are vectors, {self._count:,}")
            yield self._name, self._next[3], self._blob(self._next[0])
            self._next = next(self._lines, None)

    def end(self) -> None:
        """Raises CollectionError if vectors remain that belong to no passage."""
        if self._next is not None:
            raise CollectionError(
                f"{self._path}:{self._next[0] + 1} names passage {self._next[2]} of {self._next[1]!r}, which does not "
                "come next"
            )
