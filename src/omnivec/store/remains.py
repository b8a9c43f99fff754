"""The tables of a damaged catalogue, read from a copy as far as its pages can be read.

The copy gets a new first page: a schema of bare tables without indexes, triggers or constraints, whose roots are those
that the damaged schema names, or else those of a new catalogue. So only the trees of the tables themselves have to be
intact, and SQLite walks down to a row by its key. A page that cannot be read ends a walk. What lies behind it is
reached from the other side, and by halving the range of keys between the two ends.

A worked example: the keys 1 to 90 fill three pages of 30 rows, and the second page is zeroed. The walk up from 1 ends
after 30, the walk down from 90 ends at 61, and 31 to 60 remain. Each half, and each half of it, ends at once on both
sides, until a budget of failures is spent or single keys remain: 31 to 60 are lost.
"""

from __future__ import annotations

import heapq
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from omnivec.errors import CollectionError, SchemaError
from omnivec.store import schema
from omnivec.store.opening import FILE
from omnivec.store.replaced import check_log
from omnivec.store.strings import has_unspaced, searchable
from omnivec.validation.reasons import of_system

TABLES = ("meta", "spaces", "canaries", "roots", "documents", "passages", "vectors")
_WITHOUT_ROWID = ("meta", "roots")

_MAGIC = b"SQLite format 3\0"
_PAGE = 16384
_BLOCK = 2**20
_LARGEST = 2**28
"""Bytes of the largest value: a length that is damaged must not allocate memory."""
_FIRST_BYTES = (2, 5, 10, 13)
"""The kinds of pages of a tree."""

Row = tuple[Any, ...]


class Remains:
    """What can still be read of a catalogue.

    Args:
        source: the damaged catalogue's file, which is only read.
        scratch: an empty folder for the copy.

    Attributes:
        notes: what is known of the damage, one line each.
        version: of the schema, as far as it can be read.
        holes: table -> ranges of keys, both ends included, in which nothing can be read.

    Raises:
        CollectionError: the source cannot be read, or the copy not be written.
        SchemaError: it is not a catalogue, or nothing of it can be recognised.
    """

    def __init__(self, source: Path, scratch: Path) -> None:
        self.notes: list[str] = []
        self.holes: dict[str, list[tuple[int, int]]] = {}
        self._path = scratch / FILE
        self._copy(source)
        roots, self.version = self._merged(source)
        self._pages = self._with_new_schema(source, roots)
        self._connection = sqlite3.connect(f"{self._path.as_uri()}?mode=ro&immutable=1", uri=True)
        self._connection.execute("PRAGMA writable_schema = ON")  # sizes in the header may be wrong
        self._connection.execute("PRAGMA query_only = ON")
        self._connection.text_factory = _text
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST)

    def close(self) -> None:
        """Closes the copy."""
        self._connection.close()

    def _copy(self, source: Path) -> None:
        """Copies the file and its log; blocks that the disk cannot read become zeros."""
        try:
            lost = _copied(source, self._path)
            log = source.with_name(f"{FILE}-wal")
            if log.is_file() and log.stat().st_size:
                lost += _copied(log, self._log)
        except OSError as error:
            raise CollectionError(f"{source} cannot be copied: {of_system(error)}") from error
        if lost:
            self.notes.append(f"the disk could not read {lost:,} bytes of the files")
        size = self._path.stat().st_size
        if not size:
            raise SchemaError(f"{source} is empty: there is nothing to salvage")

    @property
    def _log(self) -> Path:
        return self._path.with_name(f"{FILE}-wal")

    def _merged(self, source: Path) -> tuple[dict[str, int], int]:
        """Moves the log into the copy; returns the roots of the tables and the version that the schema has."""
        if self._log.exists():
            try:
                check_log(self._path)
                return _schema_of(self._path)
            except (sqlite3.Error, CollectionError):
                self.notes.append(
                    f"the write-ahead log {source.name}-wal does not fit the file and was left out: the last writes "
                    "may be missing"
                )
                for end in ("-wal", "-shm"):
                    self._path.with_name(f"{FILE}{end}").unlink(missing_ok=True)
        try:
            return _schema_of(self._path)
        except sqlite3.Error:
            return {}, 0

    def _with_new_schema(self, source: Path, roots: Mapping[str, int]) -> int:
        """Replaces the first page of the copy; returns the number of pages."""
        with self._path.open("r+b") as file:
            head = file.read(100)
            size = int.from_bytes(head[16:18], "big")
            size = 65536 if size == 1 else size
            if not head.startswith(_MAGIC) or size < 512 or size & (size - 1):
                size = _PAGE
            length = file.seek(0, os.SEEK_END)
            pages = -(-length // size)
            if length % size:
                self.notes.append(f"the file is cut off after {length:,} bytes, inside a page")
                file.write(bytes(pages * size - length))
            stated = int.from_bytes(head[28:32], "big")
            if pages < stated and head.startswith(_MAGIC):
                self.notes.append(f"the file is cut off: it has {pages:,} of {stated:,} pages")
            file.seek(0)
            known = _roots_of_new() | dict(roots)
            if len(roots) < len(TABLES):
                if not head.startswith(_MAGIC) and not _is_plausible(file, known, size, pages):
                    raise SchemaError(
                        f"{source} is not an SQLite file, so {source.parent} is not a collection, or too little of it "
                        "is left: its first page is destroyed, and no table is where a new collection has it"
                    )
                if head.startswith(_MAGIC) and roots and "documents" not in roots and "passages" not in roots:
                    raise SchemaError(f"{source} is an SQLite file of another program: it has no documents")
                self.notes.append(
                    "the first page, which says where the tables are, is damaged: they were looked for where a new "
                    "collection has them"
                )
            file.seek(0)
            file.write(_first_page(self._path.parent, known, size, pages))
        return pages

    def small(self, table: str, columns: str) -> tuple[list[Row], bool]:
        """The rows of a small table that can be read, and whether that is all of them."""
        if table not in _WITHOUT_ROWID:
            rows = [row[1:] for row in self.rows(table, columns)]
            return rows, not self.holes.get(table)
        first = columns.split(",")[0]
        found: dict[Any, Row] = {}
        whole = True
        for order in ("ASC", "DESC"):
            try:
                for row in self._connection.execute(
                    f"SELECT {columns} FROM {table} ORDER BY {first} {order}"
                ):
                    found[row[0]] = row
            except _UNREADABLE:
                whole = False
        return list(found.values()), whole

    def rows(self, table: str, columns: str) -> Iterator[Row]:
        """The rows of a table that can be read, each after its key, in no particular order; fills `holes`."""
        waiting = [(0, 1, self._greatest(table))]
        budget = 10_000 + 8 * self._pages
        holes = self.holes.setdefault(table, [])
        while waiting:
            _, low, high = heapq.heappop(waiting)  # the widest range first
            for descending in (False, True):
                walk = self._walk(table, columns, low, high, descending)
                reached = high + 1 if descending else low - 1
                try:
                    for row in walk:
                        reached = row[0]
                        yield row
                except _UNREADABLE:
                    low, high = (low, reached - 1) if descending else (reached + 1, high)
                    budget -= 1
                else:
                    low = high + 1
                if low > high:
                    break
            if low == high or (low < high and budget <= 0):
                holes.append((low, high))
            elif low < high:
                middle = (low + high) // 2
                for part in ((low, middle), (middle + 1, high)):
                    heapq.heappush(waiting, (part[0] - part[1], *part))
        self.holes[table] = _joined(holes)

    def _walk(self, table: str, columns: str, low: int, high: int, descending: bool) -> Iterator[Row]:
        """Rows by their keys; damage may lead in circles, so a key out of order is an error too."""
        order, last = ("DESC", high + 1) if descending else ("ASC", low - 1)
        for row in self._connection.execute(
            f"SELECT rowid, {columns} FROM {table} WHERE rowid BETWEEN ? AND ? ORDER BY rowid {order}",
            (low, high),
        ):
            if not (low <= row[0] < last if descending else last < row[0] <= high):
                raise sqlite3.DatabaseError("keys out of order")
            last = row[0]
            yield row

    def _greatest(self, table: str) -> int:
        """The greatest key; if the way to it is damaged, a bound for what can be found."""
        with suppress(*_UNREADABLE):
            return self._connection.execute(f"SELECT coalesce(max(rowid), 0) FROM {table}").fetchone()[0] or 0
        reached = 0
        for power in range(48):
            with suppress(*_UNREADABLE):
                row = self._connection.execute(
                    f"SELECT rowid FROM {table} WHERE rowid >= ? ORDER BY rowid LIMIT 1", (2**power,)
                ).fetchone()
                reached = max(reached, row[0] if row else 0)
        return 2 * reached + 64 * self._pages

    def get(self, table: str, columns: str, keys: Sequence[int]) -> dict[int, Row]:
        """Rows by their keys; those that cannot be read are missing."""
        sql = f"SELECT rowid, {columns} FROM {table} WHERE rowid"
        with suppress(*_UNREADABLE):
            found = self._connection.execute(
                f"{sql} IN (SELECT value FROM json_each(?))", (json.dumps(list(keys)),)
            ).fetchall()
            return {row[0]: row[1:] for row in found}
        rows = {}
        for key in keys:
            with suppress(*_UNREADABLE):
                for row in self._connection.execute(f"{sql} = ?", (key,)):
                    rows[key] = row[1:]
        return rows


_UNREADABLE = (sqlite3.Error, OverflowError, MemoryError)


def _text(raw: bytes) -> str | bytes:
    """A text; one that is not valid UTF-8 is left as bytes, which no column of texts allows."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _copied(source: Path, target: Path) -> int:
    """Copies a file; returns the number of bytes that the disk could not read, which are zeros in the copy."""
    lost = 0
    with source.open("rb", buffering=0) as read, target.open("wb") as written:
        size = os.fstat(read.fileno()).st_size
        for start in range(0, size, _BLOCK):
            lost += _copy_block(read.fileno(), start, min(_BLOCK, size - start), written.write)
    return lost


def _copy_block(descriptor: int, start: int, length: int, write: Callable[[bytes], Any]) -> int:
    try:
        os.lseek(descriptor, start, os.SEEK_SET)
        block = os.read(descriptor, length)
        write(block + bytes(length - len(block)))
        return 0
    except OSError:
        if length <= 512:
            write(bytes(length))
            return length
        half = length // 2
        return _copy_block(descriptor, start, half, write) + _copy_block(
            descriptor, start + half, length - half, write
        )


def _schema_of(path: Path) -> tuple[dict[str, int], int]:
    """Moves the log of a file into it; returns the roots of the tables that it names, and the schema's version."""
    roots: dict[str, int] = {}
    version = 0
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")  # reads as much of a damaged schema as there is
        connection.text_factory = _text
        for _ in range(2):  # the first statement fails if the schema is damaged
            with suppress(*_UNREADABLE):
                for name, root in connection.execute("SELECT name, rootpage FROM sqlite_master"):
                    if name in TABLES and isinstance(root, int) and root > 1:
                        roots[name] = root
        with suppress(*_UNREADABLE):
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        if path.with_name(f"{FILE}-wal").exists():
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return roots, version


def _new() -> sqlite3.Connection:
    """A new catalogue in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(f"PRAGMA page_size = {_PAGE}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.create_function("searchable", 1, searchable, deterministic=True)
    connection.create_function("has_unspaced", 1, has_unspaced, deterministic=True)
    schema.migrate(connection, 0)
    return connection


def _roots_of_new() -> dict[str, int]:
    with closing(_new()) as connection:
        rows = connection.execute("SELECT name, rootpage FROM sqlite_master").fetchall()
    return {name: root for name, root in rows if name in TABLES}


def _bare(connection: sqlite3.Connection, table: str) -> str:
    """CREATE TABLE with the columns of the newest schema, without constraints, and so without indexes."""
    columns = []
    for _, name, kind, _, default, primary in connection.execute(f"PRAGMA table_info({table})"):
        given = f" DEFAULT {default}" if default is not None else ""
        is_key = primary and (table in _WITHOUT_ROWID or name == "key")
        columns.append(f'"{name}" {kind}{given}{" PRIMARY KEY" * bool(is_key)}')
    return f"CREATE TABLE {table} ({', '.join(columns)}){' WITHOUT ROWID' * (table in _WITHOUT_ROWID)}"


def _first_page(folder: Path, roots: Mapping[str, int], size: int, pages: int) -> bytes:
    """The first page of a file with bare tables whose trees begin at `roots`."""
    draft = folder / "schema"
    with closing(_new()) as new, closing(sqlite3.connect(draft, isolation_level=None)) as made:
        made.execute(f"PRAGMA page_size = {size}")
        made.execute("PRAGMA auto_vacuum = NONE")
        for table in TABLES:
            made.execute(_bare(new, table))
        made.execute("PRAGMA writable_schema = ON")
        made.executemany(
            "UPDATE sqlite_master SET rootpage = ? WHERE name = ?", [(roots[t], t) for t in TABLES]
        )
    page = bytearray(draft.read_bytes()[:size])
    draft.unlink()
    page[28:32] = pages.to_bytes(4, "big")
    page[92:96] = page[24:28]  # the number of pages is valid for this change counter
    return bytes(page)


def _is_plausible(file: Any, roots: Mapping[str, int], size: int, pages: int) -> bool:
    """Whether pages of trees lie where the tables are looked for."""
    found = 0
    for root in roots.values():
        if root <= pages:
            file.seek((root - 1) * size)
            found += file.read(1)[:1] in [bytes([one]) for one in _FIRST_BYTES]
    return found >= len(roots) - 1


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in ascending order; those that touch become one."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if joined and joined[-1][1] + 1 >= low:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return joined
