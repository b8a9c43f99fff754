"""Files of approximate indexes: what makes a search of a large space fast from the first query on.

Such a file stands beside the catalogue and can be made again from it. Its name holds the state of the catalogue that it
was built from, as that of a matrix file does (`store.matrix`). Keys are never used twice and the vectors of a key never
change, so a file of an older state of the same history can be used: who searches leaves out the keys removed since, and
compares the vectors added since by itself.

    what `save` of the index wrote
    JSON         the fields of `Header`, and the id of the collection
    uint32       length of the JSON, in bytes
    uint32       CRC-32 of the file's name and of all before this field
    8 bytes      magic

The CRC is verified before the index is loaded: a library that reads a damaged index may end the process. The index
comes first, so that it can be read by its library from the file itself.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from omnivec.errors import CollectionError, OmnivecError, UsageError
from omnivec.files import abandoned, written
from omnivec.store.index_registry import index_class
from omnivec.store.indexes.base import ApproximateIndex
from omnivec.store.matrix import known_states, slug
from omnivec.store.records import SpaceRecord
from omnivec.store.sqlite import Catalogue
from omnivec.types import Metric

_MAGIC = b"ovindex\1"
_TRAILER = struct.Struct("<II8s")
_AT_ONCE = 1 << 20
_LONGEST_HEADER = 1 << 20


@dataclass(frozen=True)
class Header:
    """What a file says about its index.

    Attributes:
        space: name of the space.
        dim: length of its vectors.
        metric: by which they are compared.
        index: name of the index.
        state: number of writes and random stamp of the state of the catalogue that the index was built from.
        rows: the number of vectors in the index.
        last: the largest passage key; -1 if there are no vectors.
        trained: the number of vectors when the index was last built anew, not extended.
        facts: parameters of the index, and the recall measured at its building.
    """

    space: str
    dim: int
    metric: Metric
    index: str
    state: tuple[int, int]
    rows: int
    last: int
    trained: int
    facts: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Stored:
    """An index that was read from a file.

    Attributes:
        index: the index.
        header: what its file says about it.
        file: that file; it may have been removed since.
        size: of the file in bytes.
    """

    index: ApproximateIndex
    header: Header
    file: Path
    size: int


def stored_class(name: str) -> type[ApproximateIndex]:
    """The class of an index that has files.

    Raises:
        UsageError: there is no such index, or it has no files.
    """
    made: Any = index_class(name)
    if getattr(made, "exact", True) or not all(hasattr(made, one) for one in ("build", "load", "save")):
        raise UsageError(f"index {name!r} is not stored in files: it is built in memory when it is used")
    kind: type[ApproximateIndex] = made
    return kind


def newest(catalogue: Catalogue, folder: Path, space: str, name: str) -> Stored | None:
    """Reads the newest intact index of a space; None if there is none.

    Args:
        catalogue: of the collection; what is read belongs to its state in the present snapshot.
        folder: of the collection.
        space: name of the space.
        name: of the index, such as "faiss".
    """
    with catalogue.snapshot():
        record = catalogue.spaces().get(space)
        if record is None:
            return None
        owner, tried = catalogue.id(), set[Path]()
        # One after the other: while one was looked for, a build may have put a newer one in its place.
        while states := {
            file: state
            for file, state in _states(catalogue, folder, space, name).items()
            if file not in tried
        }:
            file = max(states, key=lambda file: states[file][0])
            read = _read(file, owner, record, name, states[file])
            if read is not None:
                return read
            tried.add(file)
    return None


def newest_state(catalogue: Catalogue, folder: Path, space: str, name: str) -> tuple[int, int] | None:
    """The state of the newest file of an index, which is not read; None if there is none."""
    return max(_states(catalogue, folder, space, name).values(), default=None)


def rows_of_newest(catalogue: Catalogue, folder: Path, space: str, name: str) -> int:
    """The number of vectors that the newest file of an index says it has; 0 if there is none. It is not verified."""
    states = _states(catalogue, folder, space, name)
    try:
        file = max(states, key=lambda file: states[file][0])
        with file.open("rb") as stream:
            stream.seek(-_TRAILER.size, os.SEEK_END)
            length, _, magic = _TRAILER.unpack(stream.read())
            if magic != _MAGIC or length > _LONGEST_HEADER:
                return 0
            stream.seek(-_TRAILER.size - length, os.SEEK_END)
            return int(json.loads(stream.read(length))["rows"])
    except (OSError, ValueError, struct.error, KeyError, TypeError):
        return 0


def save(folder: Path, owner: str, key: int, header: Header, index: ApproximateIndex) -> Path:
    """Writes an index to its file, atomically, and removes older files of the same index and space.

    Args:
        folder: of the collection.
        owner: id of the collection.
        key: of the space's row.
        header: what is stated about the index.
        index: the index.

    Raises:
        CollectionError: the file cannot be written.
    """
    file = folder / _name(header.space, key, header.state, header.index)
    if os.path.lexists(file) and not stat.S_ISREG(file.lstat().st_mode):  # a link, a pipe or an empty folder
        with suppress(OSError):
            file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
    with written(file, error=CollectionError) as draft:
        index.save(draft)
        raw = json.dumps({"owner": owner, **asdict(header)}).encode()
        with draft.open("r+b") as stream:
            crc = _checksum(stream, os.fstat(stream.fileno()).st_size, file.name)
            stream.seek(0, os.SEEK_END)
            stream.write(raw)
            stream.write(_TRAILER.pack(len(raw), zlib.crc32(raw + struct.pack("<I", len(raw)), crc), _MAGIC))
    older = folder.glob(f"{_begin(header.space, key)}-*.{header.index}")
    for old in (*older, *filter(abandoned, folder.glob(".index-*.part"))):
        if old.name != file.name:
            with suppress(OSError):  # another process has it open (Windows)
                old.unlink(missing_ok=True)
    return file


def problems(catalogue: Catalogue, folder: Path) -> list[str]:
    """One line for each index file of a known state that is damaged."""
    wrong = []
    with catalogue.snapshot():
        owner = catalogue.id()
        for space, record in catalogue.spaces().items():
            for file, state in sorted(_states(catalogue, folder, space, "*").items()):
                if _checked(file, owner, record, file.suffix[1:], state) is None:
                    wrong.append(
                        f"{file} is not what was written; it is not used, and is made again from the catalogue "
                        f"by `omnivec collection build-index {space}`"
                    )
    return wrong


def _begin(space: str, key: int) -> str:
    return f"index-{slug(space, key)}"


def _name(space: str, key: int, state: tuple[int, int], name: str) -> str:
    return f"{_begin(space, key)}-{state[0]}-{state[1] % 2**64:016x}.{name}"


def _states(catalogue: Catalogue, folder: Path, space: str, name: str) -> dict[Path, tuple[int, int]]:
    """What has the name of a file of an index, "*" for any, of a space -> the state of the history that it says."""
    begin = _begin(space, catalogue.space_key(space))
    return known_states(catalogue, folder.glob(f"{begin}-*.{name}"), begin)


def _read(file: Path, owner: str, record: SpaceRecord, name: str, state: tuple[int, int]) -> Stored | None:
    header = _checked(file, owner, record, name, state)
    if header is None:
        return None
    try:
        index = stored_class(name).load(file, record.dim, record.metric)
        if len(index) != header.rows:
            return None
        return Stored(index, header, file, file.stat().st_size)
    except UsageError:
        raise
    except (OmnivecError, OSError, RuntimeError, ValueError, KeyError, TypeError):
        return None  # of another version of its library


def _checked(file: Path, owner: str, record: SpaceRecord, name: str, state: tuple[int, int]) -> Header | None:
    """The header; None if the file is missing, damaged, of another collection, space or format."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # opening a pipe would block
            return None
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - _TRAILER.size))
            length, crc, magic = _TRAILER.unpack(stream.read(_TRAILER.size))
            start = size - _TRAILER.size - length
            if magic != _MAGIC or length > _LONGEST_HEADER or start < 0:
                return None
            stream.seek(0)
            if _checksum(stream, start + length + 4, file.name) != crc:
                return None
            stream.seek(start)
            fields = json.loads(stream.read(length))
        if fields.pop("owner") != owner:
            return None
        header = Header(**{**fields, "state": tuple(fields["state"])})
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError):
        return None
    expected = (record.name, record.dim, record.metric, name, state)
    found = (header.space, header.dim, header.metric, header.index, header.state)
    return header if found == expected else None


def _checksum(stream: BinaryIO, size: int, name: str) -> int:
    """CRC-32 of a file's name and of its next bytes, which are read."""
    value = zlib.crc32(name.encode())
    while size > 0:
        block = stream.read(min(size, _AT_ONCE))
        if not block:
            break
        value = zlib.crc32(block, value)
        size -= len(block)
    return value
