"""The vectors of a space: a memory-mapped file beside the catalogue, and what changed since it was written.

The file is a cache: the catalogue has all of its content. Its name holds the state of the catalogue from which it was
made: the number of writes and the random stamp of the last one. Keys are never used twice and the vectors of a key
never change, so an older file of the same history is brought up to date by leaving out the rows of deleted keys and
appending those of keys greater than its last. Its format is that of `matrix_file`.

The vectors of a space of up to `EXACT_ROWS` are brought into one matrix (`load`). Those of a larger space stay where
they are (`Rows`): the base in the map, the rows that came later, the tail, in memory.

A worked example. After its third write, whose stamp is -1, the space "text" has three vectors of 2 components with the
keys 1, 2 and 5. The file is `matrix-text~…-3-ffffffffffffffff.f32`, of 116 bytes: a header of 64, vectors of 24, keys
of 24 and the CRC of one block. Then the passage 2 is deleted, and the passages 6 and 7 are added, by writes 4 and 5.
The history still has state 3 with this stamp, so the file is used: rows 0 and 2 are kept, and the catalogue is read for
keys above 5 only. Three rows were stale (one deleted, two missing), more than a tenth of four, so a collection of
`_WORTHWHILE` vectors or more would write a new file, for state 5, and remove this one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnivec.errors import CollectionError, OmnivecError
from omnivec.files import abandoned
from omnivec.store import matrix_file
from omnivec.store.matrix_file import Block, MatrixDamaged, MatrixFile
from omnivec.store.records import FILLING, SpaceRecord
from omnivec.store.space_rows import Part, Rows
from omnivec.store.sqlite import Catalogue
from omnivec.types import Floats, Keys

EXACT_ROWS = 50_000
"""Most vectors of a space that are brought into one matrix, all of which are compared with each query."""

_WORTHWHILE = 2000
"""Fewest vectors of a space that has a file."""
_STALE = 0.1
"""Share of the rows that may be deleted or missing before the file is written again."""
_STATE = re.compile(r"-([0-9]{1,18})-([0-9a-f]{16})\.[^.]+")
_NAME = re.compile(r"matrix-(.+~[0-9a-f]+)-[0-9]+-[0-9a-f]{16}\.f32")


def slug(space: str, key: int) -> str:
    """A space for use in a file's name: readable, and different for different spaces.

    Args:
        space: its name.
        key: of its row: another space that takes this name later does not take its files.
    """
    hashed = f"{key} {space}".encode("utf-8", "surrogatepass")
    return f"{_readable(space)}~{hashlib.sha256(hashed).hexdigest()[:12]}"


def _readable(space: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "_", space)[:40]


def _name(slugged: str, state: tuple[int, int]) -> str:
    return f"matrix-{slugged}-{state[0]}-{state[1] % 2**64:016x}.f32"


@dataclass(frozen=True, eq=False)
class Loaded:
    """The vectors of a space in one matrix.

    Attributes:
        keys: (n,) int64, ascending.
        vectors: (n, dim) float32; read-only if it is a memory map.
        file: the mapped file, all of which is verified; None if the vectors are in memory.
    """

    keys: Keys
    vectors: Floats
    file: MatrixFile | None = None

    def unchanged(self) -> bool:
        """Whether the file was not written to since it was mapped; it may have been removed."""
        return self.file is None or self.file.unchanged()


def load(catalogue: Catalogue, folder: Path, space: str) -> Loaded:
    """All vectors of a space in one matrix, from its file if there is one, and the rest from the catalogue."""
    rows = open_rows(catalogue, folder, space)
    try:
        return whole(rows)
    except MatrixDamaged:
        return whole(open_rows(catalogue, folder, space, verified=True))


def whole(rows: Rows) -> Loaded:
    """Brings rows into one matrix, which is the map if the file holds just these.

    Raises:
        MatrixDamaged: the file is not what was written; open the rows with `verified`.
    """
    base, tail = rows.base, rows.tail
    if base.file is not None:
        base.file.verify()
    if not rows.stale:
        return Loaded(base.keys, base.vectors, base.file)
    kept = np.arange(len(base.keys)) if base.alive is None else np.flatnonzero(base.alive)
    later = np.arange(len(tail.keys)) if tail.alive is None else np.flatnonzero(tail.alive)
    vectors = np.empty((len(kept) + len(later), rows.dim), np.float32)
    plain = base.vectors.view(np.ndarray)
    np.take(plain, kept, axis=0, out=vectors[: len(kept)], mode="clip")  # "raise" would copy once more
    vectors[len(kept) :] = tail.vectors[later]
    return Loaded(np.concatenate([base.keys[kept], tail.keys[later]]), vectors)


def open_rows(catalogue: Catalogue, folder: Path, space: str, *, verified: bool = False) -> Rows:
    """The vectors of a space, most of them in its file, which is written if there is none or if much has changed.

    A space of more than `EXACT_ROWS` vectors is never in memory as a whole, unless the collection is read-only and has
    no file of it.

    Args:
        catalogue: of the collection.
        folder: of the collection.
        space: name of the space, which is not sparse.
        verified: whether to verify all blocks of the file first: for the time after `MatrixDamaged`.
    """
    with catalogue.snapshot():
        try:
            return _opened(catalogue, folder, space, verified)
        except MatrixDamaged:
            return _opened(catalogue, folder, space, True)


def advanced(catalogue: Catalogue, space: str, rows: Rows) -> Rows | None:
    """Rows brought to the state of the snapshot, in a time that depends on what changed.

    Returns:
        None if they must be opened anew: the state that they belong to is not in the catalogue's history, the
        space is another, their file was changed, or so much has changed that it is worth writing another.
    """
    known = catalogue.stamp(rows.state[0]) == rows.state[1] and catalogue.space_key(space) == rows.space
    if not known or not rows.base.unchanged():
        return None
    now = _since(catalogue, space, rows)
    return None if not catalogue.readonly and _is_stale(now) else now


def problems(catalogue: Catalogue, folder: Path) -> list[str]:
    """One line for each matrix file of a known state that is damaged."""
    wrong = []
    with catalogue.snapshot():
        owner = catalogue.id()
        for space, record in catalogue.spaces().items():
            for file in _states(catalogue, folder, space):
                if not _is_whole(file, owner, record.dim):
                    wrong.append(
                        f"{file} is not what was written; it is not used, and the next write makes it again from "
                        "the catalogue"
                    )
    return wrong


def _is_whole(file: Path, owner: str, dim: int) -> bool:
    if not file.is_file():
        return False
    read = matrix_file.read(file, owner, dim)
    try:
        if read is not None:
            read.verify()
            read.release()
    except MatrixDamaged:
        return False
    return read is not None or matrix_file.is_older(file)


def _states(catalogue: Catalogue, folder: Path, space: str) -> dict[Path, tuple[int, int]]:
    """What has the name of a matrix file of a space -> the state of the history that the name says."""
    begin = f"matrix-{slug(space, catalogue.space_key(space))}"
    return known_states(catalogue, folder.glob(f"{begin}-*.f32"), begin)


def known_states(catalogue: Catalogue, files: Iterable[Path], begin: str) -> dict[Path, tuple[int, int]]:
    """Files beside the catalogue whose names end in a state of its history -> that state.

    Args:
        catalogue: of the collection.
        files: whose names are `begin`, "-", the number of writes, "-", 16 hexadecimal digits of the stamp, and
            a suffix.
        begin: of the names.
    """
    states = {}
    for file in files:
        match = _STATE.fullmatch(file.name[len(begin) :])
        stamp = catalogue.stamp(int(match[1])) if match else None
        if match and stamp is not None and match[2] == f"{stamp % 2**64:016x}":
            states[file] = int(match[1]), stamp
    return states


def _newest(
    catalogue: Catalogue, folder: Path, record: SpaceRecord, verified: bool
) -> tuple[tuple[int, int], MatrixFile] | None:
    """The newest intact matrix file whose state is in the catalogue's history, and that state."""
    if record.state == FILLING:  # older passages get vectors
        return None
    states, owner = _states(catalogue, folder, record.name), catalogue.id()
    # Files only: opening a pipe would block.
    for file in sorted(filter(Path.is_file, states), key=lambda file: -states[file][0]):
        read = matrix_file.read(file, owner, record.dim)
        if read is not None and not (verified and not _is_whole(file, owner, record.dim)):
            return states[file], read
    return None


def _opened(catalogue: Catalogue, folder: Path, space: str, verified: bool) -> Rows:
    state, record = catalogue.changes(), catalogue.spaces().get(space)
    if record is None or record.state == FILLING:
        return _in_memory(catalogue, space, state)
    rows, key = None, catalogue.space_key(space)
    newest = _newest(catalogue, folder, record, verified)
    if newest is not None:
        rows = _since(catalogue, space, _mapped(*newest, key))
    elif catalogue.readonly or catalogue.vector_count(space) <= EXACT_ROWS:
        rows = _in_memory(catalogue, space, state)
    if rows is not None and (catalogue.readonly or not _is_stale(rows)):
        return rows
    blocks = catalogue.vector_blocks(space) if rows is None else rows.blocks()
    name = _name(slug(space, key), state)
    saved = _save(catalogue, folder, name, record, blocks)
    if saved and (rows is None or len(rows) > EXACT_ROWS):
        file = matrix_file.read(folder / name, catalogue.id(), record.dim)
        rows = rows if file is None else _mapped(state, file, key)
    return _in_memory(catalogue, space, state) if rows is None else rows


def _in_memory(catalogue: Catalogue, space: str, state: tuple[int, int]) -> Rows:
    return Rows.of(state, Part.of(*catalogue.vectors(space)), catalogue.space_key(space))


def _mapped(state: tuple[int, int], file: MatrixFile, key: int) -> Rows:
    return Rows.of(state, Part.of(file.keys, file.vectors, file), key)


def _is_stale(rows: Rows) -> bool:
    """Whether it is worth writing another file."""
    stale = rows.stale + (0 if rows.base.file else len(rows.base.keys))
    return len(rows) >= _WORTHWHILE and stale > _STALE * len(rows)


def _since(catalogue: Catalogue, space: str, rows: Rows) -> Rows:
    """Rows of an earlier state in the history, brought to that of the snapshot."""
    state = catalogue.changes()
    if rows.state == state:
        return rows
    removed = catalogue.removed_since(rows.state[0])
    if removed is None:  # a collection of an older schema
        removed = np.setdiff1d(rows.keys(), catalogue.vector_keys(space))
    return rows.advanced(state, removed, *catalogue.vectors(space, after=rows.last))


def _save(
    catalogue: Catalogue, folder: Path, name: str, record: SpaceRecord, blocks: Iterable[Block]
) -> bool:
    """Writes a matrix file and removes those that it replaces; False if the disk is full or read-only.

    Raises:
        MatrixDamaged: the file that the blocks are read from is not what was written.
    """
    file = folder / name
    try:
        if os.path.lexists(file):  # a damaged file, a link, a pipe or an empty folder in its place
            file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
        matrix_file.write(file, catalogue.id(), record.dim, blocks)
    except CollectionError:
        raise
    except (OSError, OmnivecError):
        return False
    own = name[len("matrix-") : name.index("~") + 13]
    # Of this space; of a space that was removed; or, as its name is shorter, of an earlier version.
    others = {slug(space, catalogue.space_key(space)) for space in catalogue.spaces()} - {own}
    named = [(old, match[1]) for old in folder.glob("matrix-*.f32") if (match := _NAME.fullmatch(old.name))]
    replaced = [old for old, slugged in named if old.name != name and slugged not in others]
    for old in (*replaced, *filter(abandoned, folder.glob(f".matrix-{own}-*.part"))):
        with suppress(OSError):  # another process has it mapped (Windows)
            old.unlink(missing_ok=True)
    return True
