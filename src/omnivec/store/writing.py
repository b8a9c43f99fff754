"""Writing spaces, deleting documents, and the values of rows, inside a transaction of the caller."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from sqlite3 import Connection
from typing import Any, NamedTuple

import numpy as np

from omnivec.errors import UsageError
from omnivec.store import checksums
from omnivec.store.records import SpaceRecord
from omnivec.store.schema import TEXT_INDEXES
from omnivec.store.strings import storable
from omnivec.types import DENSE, SPARSE, Floats, Kind, SparseRow
from omnivec.validation.arguments import is_missing, plain, quoted

HISTORY = 50_000
"""Number of recent states that are known: a file of one of them beside the catalogue can be brought up to date."""
MOST_REMOVED = 1_000_000
"""About how many removed passages are remembered; states before them are forgotten."""
_PRUNED_EVERY = 256
_CHANGED = (
    *("model", "dim", "metric", "identity", "provenance"),
    *("modalities", "kind", "dtype", "state"),
)
"""The columns of a space that a new record of it replaces."""
_WORTH_MERGING = 64
_STRINGS = frozenset((str,))
_DIGITS = 308
_HUGE = re.compile("[0-9]{309}")  # of an integer beyond 1.8e308
_SCALARS = frozenset((str, int, float, bool, type(None)))
_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_STORED = np.dtype("<f4")


def json_text(value: Mapping[str, Any], whose: str) -> str:
    """Metadata as JSON: NumPy's numbers and Decimals as numbers; dates, UUIDs and paths as strings; NaN as null.

    Raises:
        UsageError: a value that JSON cannot represent, or a key that a filter cannot name; the message has both.
    """
    if type(value) is Metadata:
        return value.text
    try:
        plain_text = _plain_json(value)
        if plain_text is not None:
            return plain_text
        return json.dumps(_json_value(value, whose, ()), ensure_ascii=False)
    except RecursionError as exc:
        raise UsageError(f"{whose} is nested too deeply, or contains itself") from exc


class Metadata(dict[str, Any]):
    """Metadata as they are read back, with the JSON from which they are read; not changed afterwards.

    Attributes:
        text: the JSON.
    """

    __slots__ = ("text",)
    text: str


def as_read(value: Mapping[str, Any], whose: str) -> Metadata:
    """Metadata as they are read back after `json_text` has written them; UsageError as there."""
    if type(value) is Metadata:
        return value
    try:
        quick = _plain_json(value)
    except RecursionError:  # said by `json_text`
        quick = None
    text = json_text(value, whose) if quick is None else quick
    read = Metadata(json.loads(text) if quick is None else value)
    read.text = text
    return read


def _plain_json(value: Mapping[str, Any]) -> str | None:
    """The JSON of usual metadata, found quickly; None if `_json_value` may change or refuse something in it."""
    if not _is_plain(value):
        return None
    try:
        text = _ENCODE(value)
    except ValueError:  # NaN, an infinity, or an integer of thousands of digits
        return None
    odd = "\\u0000" in text or '"$' in text or (len(text) > _DIGITS and _HUGE.search(text))
    return None if odd or not (text.isascii() or storable(text) == text) else text


def _is_plain(value: Any) -> bool:
    """Whether a value has the types that JSON is read to."""
    if type(value) is dict:
        if not _STRINGS.issuperset(map(type, value)):
            return False
        inner: Any = value.values()
    elif type(value) is list:
        inner = value
    else:
        return type(value) in _SCALARS
    return _SCALARS.issuperset(map(type, inner)) or all(map(_is_plain, inner))


def _json_value(value: Any, whose: str, place: tuple[str | int, ...]) -> Any:
    if is_missing(value):
        return None
    value = plain(value)
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        if not abs(value) <= sys.float_info.max:
            shown = value if isinstance(value, float) else f"an integer of {value.bit_length():,} bits"
            what = "holds an infinity or a number beyond 1.8e308, which JSON cannot represent"
            raise UsageError(f"{whose}{_at(place)} {what}: {shown}")
        return value
    if isinstance(value, Mapping):
        return {
            _json_key(key, whose, place): _json_value(inner, whose, (*place, key))
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_json_value(inner, whose, (*place, number)) for number, inner in enumerate(value)]
    raise UsageError(
        f"{whose}{_at(place)} holds a {type(value).__name__}, {quoted(value)}; allowed are strings, numbers, "
        "booleans, dates, UUIDs, paths, None, lists and dicts"
    )


def _json_key(key: Any, whose: str, place: tuple[str | int, ...]) -> str:
    if not isinstance(key, str):
        named = f"{quoted(key)}, a {type(key).__name__}"
        raise UsageError(f"{whose}{_at(place)} has the key {named}; keys are strings")
    if not place and key.startswith("$"):
        raise UsageError(
            f"{whose} has the key {key!r}; a key that begins with '$' is an operator to a filter: rename it"
        )
    return storable(key)


def _at(place: tuple[str | int, ...]) -> str:
    """The position of a value for messages, such as `: 'tags'[0]`."""
    return "".join(f"[{step!r}]" if i else f": {step!r}" for i, step in enumerate(place))


def count_change(connection: Connection) -> None:
    """Counts one write and gives it a random stamp, by which diverging copies are told apart."""
    connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'changes'")
    connection.execute("INSERT INTO history SELECT value, random() FROM meta WHERE key = 'changes'")
    connection.execute(
        "UPDATE meta SET value = (SELECT stamp FROM history ORDER BY changes DESC LIMIT 1) WHERE key = 'stamp'"
    )
    newest = connection.execute("SELECT max(changes) FROM history").fetchone()[0]
    oldest = newest - HISTORY
    if newest % _PRUNED_EVERY == 0:
        row = connection.execute(
            "SELECT changes FROM removed ORDER BY changes DESC LIMIT 1 OFFSET ?", (MOST_REMOVED,)
        ).fetchone()
        # The newest state stays: it is that of the files that are written next.
        oldest = oldest if row is None else max(oldest, min(row[0], newest - 1))
    for table in ("history", "removed"):
        connection.execute(f"DELETE FROM {table} WHERE changes <= ?", (oldest,))


def delete(connection: Connection, ids: Sequence[str]) -> int:
    """Deletes documents with their passages and vectors; returns how many of them existed.

    FTS5 records deletions beside the deleted entries and drops both only when it merges segments: a collection that was
    emptied would keep a quarter of its size. So the indexes are merged if at least as many passages are deleted as
    remain, which takes time in proportion to those deleted.
    """
    found = connection.execute(
        "SELECT key FROM documents WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),)
    ).fetchall()
    if not found:
        return 0
    keys = json.dumps([row[0] for row in found])
    passages = connection.execute(
        "SELECT count(*) FROM passages WHERE document IN (SELECT value FROM json_each(?))", (keys,)
    ).fetchone()[0]
    # One statement: each runs triggers, at which FTS5 writes a segment.
    connection.execute("DELETE FROM documents WHERE key IN (SELECT value FROM json_each(?))", (keys,))
    if passages >= _WORTH_MERGING:
        remaining = connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM passages LIMIT ?)", (passages + 1,)
        ).fetchone()[0]
        if passages >= remaining:
            merge_text_indexes(connection)
    return len(found)


def merge_text_indexes(connection: Connection) -> None:
    """Merges each text index into one segment, without deleted entries."""
    for table in TEXT_INDEXES:
        connection.execute(f"INSERT INTO {table} ({table}) VALUES ('optimize')")


class SpaceKey(NamedTuple):
    """What has to be known of a space to write vectors into it: its key, the length of a vector, and its kind."""

    key: int
    dim: int
    kind: Kind = DENSE


def spaces(connection: Connection) -> dict[str, SpaceKey]:
    """Name of each space -> its key, dim and kind."""
    rows = connection.execute("SELECT name, key, dim, kind FROM spaces")
    return {name: SpaceKey(key, dim, kind) for name, key, dim, kind in rows}


def blobs(
    vectors: Floats | SparseRow, space: SpaceKey, document: str, ordinal: int, name: str
) -> list[bytes]:
    """The vectors of a passage as they are stored, one blob for each part; UsageError unless they fit the space.

    Args:
        vectors: (parts, dim) float32, or a row of a sparse space.
        space: to which they belong.
        document: id of the document, for messages.
        ordinal: number of the passage, for messages.
        name: of the space, for messages.
    """
    if space.kind != SPARSE and type(vectors) is np.ndarray and _fits(vectors, space.dim):
        return [vectors.tobytes()] if len(vectors) == 1 else [row.tobytes() for row in vectors]
    whose = f"{document!r}, passage {ordinal}, space {name!r}"
    if space.kind == SPARSE:
        return [_sparse_blob(vectors, space.dim, whose)]
    if isinstance(vectors, SparseRow):
        raise UsageError(f"{whose}: the vector is sparse; the space takes float32 (parts, {space.dim})")
    blobs = _dense_blobs(vectors, space.dim, whose)
    if space.kind == DENSE or blobs:
        return blobs
    raise UsageError(f"{whose}: there are no vectors; the space takes float32 (parts, {space.dim})")


def _fits(vectors: Floats, dim: int) -> bool:
    """Whether an array can be stored as it is: one row or more of finite numbers."""
    fits = vectors.dtype == _STORED and vectors.ndim == 2 and vectors.shape[1] == dim and len(vectors) > 0
    return fits and bool(np.isfinite(vectors).all())


def _sparse_blob(row: Floats | SparseRow, dim: int, whose: str) -> bytes:
    """A sparse vector: n indices of 4 bytes, then n weights of 4 bytes, little-endian."""
    if not isinstance(row, SparseRow):
        raise UsageError(f"{whose}: the vector is not a SparseRow, as the space takes")
    indices, weights = np.asarray(row.indices, np.int64), np.asarray(row.weights, np.float32)
    ascending = not np.any(indices[1:] <= indices[:-1])
    if indices.ndim != 1 or indices.shape != weights.shape or not ascending:
        raise UsageError(
            f"{whose}: {indices.shape} indices and {weights.shape} weights; a sparse vector has one weight for each "
            "index, and its indices ascend"
        )
    if len(indices) and (indices[0] < 0 or indices[-1] >= dim):
        raise UsageError(
            f"{whose}: indices from {indices[0]} to {indices[-1]}; the space has {dim:,} components"
        )
    if not np.isfinite(weights).all():
        raise UsageError(f"{whose}: {int((~np.isfinite(weights)).sum())} weights are NaN or infinite")
    return indices.astype("<u4").tobytes() + weights.astype("<f4").tobytes()


def _dense_blobs(vectors: Floats, dim: int, whose: str) -> list[bytes]:
    matrix = np.asarray(vectors)
    if matrix.ndim != 2 or matrix.shape[1] != dim or matrix.dtype != np.float32:
        raise UsageError(
            f"{whose}: vectors are {matrix.dtype} {matrix.shape}; the space takes float32 (parts, {dim})"
        )
    if not np.isfinite(matrix).all():
        raise UsageError(
            f"{whose}: {int((~np.isfinite(matrix)).sum())} of {matrix.size} numbers are NaN or infinite"
        )
    return [row.tobytes() for row in matrix.astype("<f4", copy=False)]


def touch(connection: Connection, name: str, mtime_ns: int, size: int, device: int) -> bool:
    """Updates when and where a document's file was seen; False if its checksum is not an integer, which is damage."""
    stored = connection.execute(
        "SELECT checksum, size, mtime_ns, device, indexed_ns FROM documents WHERE id = ?", (name,)
    ).fetchone()
    if stored is None:
        return True
    checksum, *state = stored
    if type(checksum) is not int:
        return False
    before, after = (
        checksums.of_state(name, *state),
        checksums.of_state(name, size, mtime_ns, device, state[-1]),
    )
    connection.execute(
        "UPDATE documents SET mtime_ns = ?, size = ?, device = ?, checksum = ? WHERE id = ?",
        (mtime_ns, size, device, checksum ^ before ^ after, name),
    )
    return True


def put_space(connection: Connection, space: SpaceRecord) -> None:
    """Inserts a space, or replaces the record of the space of this name."""
    row = connection.execute(
        "SELECT key, dim, metric, kind, dtype FROM spaces WHERE name = ?", (space.name,)
    ).fetchone()
    asked = (space.dim, space.metric, space.kind, space.dtype)
    if row is not None and row[1:] != asked:
        filled = connection.execute(
            "SELECT EXISTS (SELECT 1 FROM vectors WHERE space = ?)", (row[0],)
        ).fetchone()[0]
        if filled:
            raise UsageError(
                f"space {space.name!r} holds {row[3]} vectors with dim {row[1]}, metric {row[2]} and dtype {row[4]}; "
                f"it cannot become {space.kind} with dim {space.dim}, metric {space.metric} and dtype {space.dtype}; "
                "use another name"
            )
    with checksums.noted(connection, "spaces", "canaries"):
        _replace_space(connection, space)


def _replace_space(connection: Connection, space: SpaceRecord) -> None:
    identity = json_text(space.identity, f"identity of {space.name!r}")
    provenance = json_text(space.provenance, f"provenance of {space.name!r}")
    connection.execute(
        f"INSERT INTO spaces (name, {', '.join(_CHANGED)}) VALUES (?{', ?' * len(_CHANGED)})"
        f" ON CONFLICT (name) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _CHANGED)}",
        (
            *(space.name, space.model, space.dim, space.metric, identity, provenance),
            *(json.dumps(space.modalities), space.kind, space.dtype, space.state),
        ),
    )
    key = connection.execute("SELECT key FROM spaces WHERE name = ?", (space.name,)).fetchone()[0]
    connection.execute("DELETE FROM canaries WHERE space = ?", (key,))
    for ordinal, (text, vector) in enumerate(space.canaries):
        whose = f"canary {ordinal} of {space.name!r}"
        blob = _dense_blobs(np.asarray(vector)[None], space.dim, whose)[0]
        connection.execute("INSERT INTO canaries VALUES (?, ?, ?, ?)", (key, ordinal, storable(text), blob))


def put_root(connection: Connection, path: str) -> None:
    """Inserts a root unless it exists."""
    with checksums.noted(connection, "roots"):
        connection.execute("INSERT OR IGNORE INTO roots VALUES (?)", (path,))
