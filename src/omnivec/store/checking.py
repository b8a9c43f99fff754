"""The check of a catalogue: SQLite's own, types of values, relations between rows, checksums and text indexes.

A fast check reads every page, but of documents, passages and vectors only what keys and indexes hold. A deep one also
compares their content with its checksums and with the text indexes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from omnivec.errors import CollectionDamaged
from omnivec.store import checksums, rows, schema
from omnivec.store.connections import Connections, damaged
from omnivec.types import DENSE, IN_CHARACTERS, SPARSE
from omnivec.validation.arguments import quoted

STRAYS: tuple[tuple[str, str], ...] = (
    (
        "vectors without a passage",
        "SELECT count(*) FROM vectors WHERE NOT EXISTS (SELECT 1 FROM passages WHERE key = passage)",
    ),
    (
        "vectors without a space",
        "SELECT count(*) FROM vectors WHERE NOT EXISTS (SELECT 1 FROM spaces WHERE key = space)",
    ),
)
"""Vectors that a search would silently leave out: (what is wrong, SQL that counts it)."""

_IN_CHARACTERS = ", ".join(f"'{modality}'" for modality in sorted(IN_CHARACTERS))

# (what is wrong, SQL that counts it), answered by keys and indexes
_RELATIONS: tuple[tuple[str, str], ...] = (
    (
        "passages without a document",
        "SELECT count(*) FROM passages WHERE document NOT IN (SELECT key FROM documents)",
    ),
    (
        "passages whose numbers in their document are not 0, 1, 2, ...",
        "SELECT count(*) FROM (SELECT ordinal, row_number() OVER (PARTITION BY document ORDER BY ordinal) AS place"
        " FROM passages) WHERE ordinal <> place - 1",
    ),
    (
        "passages whose keys SQLite would assign again",
        "SELECT count(*) FROM passages WHERE key >"
        " (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'passages')",
    ),
    *STRAYS,
    (
        "passages with several vectors in a sparse space",
        "SELECT count(*) FROM vectors JOIN spaces ON spaces.key = space WHERE part > 0 AND kind = 'sparse'",
    ),
    (
        "canaries without a space",
        "SELECT count(*) FROM canaries WHERE space NOT IN (SELECT key FROM spaces)",
    ),
    (
        "states missing from the history",
        "SELECT count(*) FROM meta WHERE key = 'changes' AND value IS NOT (SELECT max(changes) FROM history)",
    ),
)

# The same, answered by reading all rows.
_CONTENT: tuple[tuple[str, str], ...] = (
    (
        "passages whose text is not as long as their span",
        f"SELECT count(*) FROM passages WHERE modality IN ({_IN_CHARACTERS}) AND length(text) <> end - start",
    ),
    (
        "passages that end before they start",
        "SELECT count(*) FROM passages WHERE end < start",
    ),
    (
        "vectors of a wrong length",
        "SELECT count(*) FROM vectors JOIN spaces ON spaces.key = space WHERE typeof(vector) <> 'blob'"
        " OR CASE kind WHEN 'sparse' THEN length(vector) % 8 <> 0 ELSE length(vector) <> 4 * dim END",
    ),
)
_NOT_AS_SEARCHED = """
SELECT count(*) FROM passages WHERE searched IS NOT nullif(searchable(text), text)
OR unspaced IS NOT has_unspaced(coalesce(searched, text))
"""

# The same, of tables that older schemas lack.
_REMOVED: tuple[tuple[str, str], ...] = (
    (
        "passages that exist and are noted as removed",
        "SELECT count(*) FROM removed WHERE passage IN (SELECT key FROM passages)",
    ),
    (
        "passages that are noted as removed in a state that is yet to come",
        "SELECT count(*) FROM removed WHERE changes >= (SELECT value FROM meta WHERE key = 'changes')",
    ),
)

# Another version of SQLite may have read the last digit of a float as another one.
_FACTS: tuple[tuple[str, str], ...] = (
    (
        "values in metadata that a filter would not find",
        f"WITH wanted (name, value, document) AS ({schema.ALL_FACTS}) SELECT count(*) FROM wanted WHERE NOT EXISTS"
        " (SELECT 1 FROM facts WHERE name = wanted.name AND value = wanted.value AND document = wanted.document)"
        " AND CASE typeof(value) WHEN 'real' THEN NOT EXISTS (SELECT 1 FROM facts WHERE name = wanted.name"
        " AND document = wanted.document AND value BETWEEN wanted.value - abs(wanted.value) * 1e-15"
        " AND wanted.value + abs(wanted.value) * 1e-15) ELSE 1 END",
    ),
    (
        "values that filters find and that no metadata has",
        "SELECT count(*) FROM (SELECT name, value, document FROM facts WHERE typeof(value) <> 'real'"
        f" EXCEPT SELECT * FROM ({schema.ALL_FACTS}))",
    ),
)
_SHOWN = 5
_PAGES = 20
"""Largest number of lines of SQLite's own check."""

_UNIT = 1e-2


def problems(connections: Connections, *, deep: bool) -> list[str]:
    """Checks the catalogue; returns one line for each problem.

    Args:
        connections: of the catalogue.
        deep: whether to read the content of all documents, passages and vectors, and to compare it with its checksums.
    """
    lines: list[str] = []
    fast = (_pages, _small_values, _relations, _tables, _sum)
    whole = (_every_page, _values, _relations, _contents, _searched, _tables, _sum, _checksums, _lengths)
    with connections.snapshot() as connection:
        for check in whole if deep else fast:
            try:
                lines += check(connection)
            except sqlite3.Error as exc:  # What one check cannot read, another may.
                lines.append(f"file: {' '.join(str(exc).split())}")
    # FTS5 checks its indexes by an INSERT, which needs a writing connection.
    if deep and not connections.readonly:
        try:
            for table in schema.TEXT_INDEXES:
                lines += _check_text_index(connections, table)
        except CollectionDamaged as exc:
            lines.append(str(exc))
    return list(dict.fromkeys(lines))


def refuse_strays(connection: sqlite3.Connection, path: Path) -> None:
    """Raises CollectionDamaged if there are vectors that a search would silently leave out; see `STRAYS`."""
    for what, sql in STRAYS:
        count = connection.execute(sql).fetchone()[0]
        if count:
            raise damaged(path, f"there are {count:,} {what}")


def _pages(connection: sqlite3.Connection) -> Iterator[str]:
    """SQLite's check of all pages, without comparing indexes with the rows of their tables."""
    return _of_sqlite(connection, "quick_check")


def _every_page(connection: sqlite3.Connection) -> Iterator[str]:
    return _of_sqlite(connection, "integrity_check")


def _of_sqlite(connection: sqlite3.Connection, check: str) -> Iterator[str]:
    for row in connection.execute(f"PRAGMA {check}({_PAGES})"):
        if row[0] != "ok":
            yield f"file: {' '.join(row[0].split())}"


def _values(connection: sqlite3.Connection) -> Iterator[str]:
    return _faults(connection, rows.CHECKED)


def _small_values(connection: sqlite3.Connection) -> Iterator[str]:
    return _faults(connection, rows.SMALL)


def _faults(connection: sqlite3.Connection, shapes: Iterable[rows.Shape]) -> Iterator[str]:
    for shape in shapes:
        wrong = list(shape.faults(connection.execute(f"SELECT {shape.sql} FROM {shape.table}")))
        yield from wrong[:_SHOWN]
        if len(wrong) > _SHOWN:
            yield f"{len(wrong) - _SHOWN} more rows of {shape.table}"


def _relations(connection: sqlite3.Connection) -> Iterator[str]:
    return _counted(connection, (*_RELATIONS, *(_REMOVED if _version(connection) >= schema.FACTS else ())))


def _contents(connection: sqlite3.Connection) -> Iterator[str]:
    return _counted(connection, (*_CONTENT, *(_FACTS if _version(connection) >= schema.FACTS else ())))


def _counted(connection: sqlite3.Connection, conditions: Iterable[tuple[str, str]]) -> Iterator[str]:
    for what, sql in conditions:
        count = connection.execute(sql).fetchone()[0]
        if count:
            yield f"{count} {what}"


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def unverified(connection: sqlite3.Connection) -> list[str]:
    """Lines that name the data for which an earlier version of omnivec wrote no checksum."""
    version, without = _version(connection), []
    if version < schema.CHECKED:
        without.append("texts, metadata and vectors")
    if version < schema.ALL_CHECKED:
        without.append("times and sizes of files, roots, models of spaces and their canaries")
    return [
        f"not verified: {what}, for which an earlier version of omnivec wrote no checksum; the next write to the "
        "collection adds it"
        for what in without
    ]


def _tables(connection: sqlite3.Connection) -> Iterator[str]:
    """Compares the small tables with their checksums."""
    if _version(connection) < schema.ALL_CHECKED:
        return
    for table in checksums.TABLES:
        if not checksums.fits(connection, table):
            yield f"the table of {table} is not what was written: rows were changed, added or removed outside omnivec"


def _searched(connection: sqlite3.Connection) -> Iterator[str]:
    """Compares the form in which passages are searched with their text; older versions are not compared."""
    if _version(connection) >= schema.NAMED:
        count = connection.execute(_NOT_AS_SEARCHED).fetchone()[0]
        if count:
            yield f"{count} passages are searched in a form that does not follow from their text"


def _checksums(connection: sqlite3.Connection) -> Iterator[str]:
    version = _version(connection)
    if version < schema.CHECKED:
        return
    stored = dict(connection.execute("SELECT key, checksum FROM documents").fetchall())
    computed = checksums.computed(connection, states=version >= schema.ALL_CHECKED)
    wrong = [key for key, checksum in computed if stored.get(key) != checksum]
    for key in islice(wrong, _SHOWN):
        name = connection.execute("SELECT id FROM documents WHERE key = ?", (key,)).fetchone()[0]
        yield f"document {quoted(name)} is not what was written: its text, metadata, times or vectors were changed"
    if len(wrong) > _SHOWN:
        yield f"{len(wrong) - _SHOWN} more documents are not what was written"


def _sum(connection: sqlite3.Connection) -> Iterator[str]:
    """Compares the checksums of all documents with their common sum, so that a missing document is found."""
    if _version(connection) < schema.CHECKED:
        return
    total = 0
    for (checksum,) in connection.execute("SELECT checksum FROM documents"):
        total ^= checksum if isinstance(checksum, int) else 0
    if total != connection.execute("SELECT value FROM meta WHERE key = 'sum'").fetchone()[0]:
        yield "the documents are not those that were written: some were removed, added or changed outside omnivec"


def _lengths(connection: sqlite3.Connection) -> Iterator[str]:
    """Finds vectors with NaN or infinities, and vectors not of length 1 in a space whose canaries all are."""
    for key, name, kind in connection.execute("SELECT key, name, kind FROM spaces").fetchall():
        canaries = connection.execute("SELECT vector FROM canaries WHERE space = ?", (key,)).fetchall()
        unit = kind == DENSE and bool(canaries) and all(is_unit(vector) for (vector,) in canaries)
        for passage, vector in connection.execute(
            "SELECT passage, vector FROM vectors WHERE space = ?", (key,)
        ):
            if isinstance(vector, bytes) and len(vector) % (8 if kind == SPARSE else 4) == 0:
                # The first half of a sparse vector are its indices.
                values = np.frombuffer(vector, "<f4", offset=len(vector) // 2 if kind == SPARSE else 0)
                if not np.isfinite(values).all():
                    yield f"a vector of passage {passage} in the space {name!r} holds NaN or an infinity"
                elif unit and not is_unit(vector):
                    yield f"a vector of passage {passage} in the space {name!r} is not of length 1, as all others are"


def is_unit(vector: bytes) -> bool:
    """Whether a stored vector is of length 1, within the rounding of float32 and bfloat16."""
    return abs(float(np.linalg.norm(np.frombuffer(vector, "<f4").astype(np.float64))) - 1) <= _UNIT


def _check_text_index(connections: Connections, table: str) -> list[str]:
    with connections.transaction() as connection:
        try:
            connection.execute(f"INSERT INTO {table} ({table}, rank) VALUES ('integrity-check', 1)")
        except sqlite3.DatabaseError as exc:
            return [f"text index {table} does not fit the passages: {' '.join(str(exc).split())}"]
    return []
