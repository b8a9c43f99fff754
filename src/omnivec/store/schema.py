"""The tables of the catalogue, as ordered migrations."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import NamedTuple

from omnivec.store import checksums

APPLICATION_ID = 0x4F4D4E49  # "OMNI"

TEXT_INDEXES = ("passages_words", "passages_trigrams")
"""The full-text tables."""

# Vectors are a table with row ids: WITHOUT ROWID would move blobs over about 4 KB (1,024 floats) to overflow pages, and
# its key would have to begin with the space, which is unknown when a passage is deleted.
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES ('changes', 0);

CREATE TABLE history (changes INTEGER PRIMARY KEY, stamp INTEGER NOT NULL);
INSERT INTO history VALUES (0, random());

CREATE TABLE spaces (
    key INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    dim INTEGER NOT NULL,
    metric TEXT NOT NULL,
    identity TEXT NOT NULL,
    provenance TEXT NOT NULL
);
CREATE TABLE canaries (
    space INTEGER NOT NULL REFERENCES spaces (key) ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    text TEXT NOT NULL,
    vector BLOB NOT NULL,
    PRIMARY KEY (space, ordinal)
);

CREATE TABLE roots (path TEXT PRIMARY KEY) WITHOUT ROWID;

CREATE TABLE documents (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    modality TEXT NOT NULL,
    how TEXT NOT NULL,
    digest BLOB NOT NULL,
    root TEXT,
    path TEXT,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    device INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    lost INTEGER NOT NULL,
    indexed_ns INTEGER NOT NULL
);
CREATE INDEX documents_root ON documents (root);

CREATE TABLE passages (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    document INTEGER NOT NULL REFERENCES documents (key) ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    line INTEGER,
    modality TEXT NOT NULL,
    unspaced INTEGER NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (document, ordinal)
);
CREATE INDEX passages_unspaced ON passages (key) WHERE unspaced;

CREATE TABLE vectors (
    space INTEGER NOT NULL REFERENCES spaces (key),
    passage INTEGER NOT NULL REFERENCES passages (key) ON DELETE CASCADE,
    part INTEGER NOT NULL,
    vector BLOB NOT NULL,
    PRIMARY KEY (passage, space, part)
);

CREATE VIEW unspaced AS SELECT key, text FROM passages WHERE unspaced;
CREATE VIRTUAL TABLE passages_words USING fts5 (
    text, content = 'passages', content_rowid = 'key', tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE VIRTUAL TABLE passages_trigrams USING fts5 (
    text, content = 'unspaced', content_rowid = 'key', tokenize = 'trigram'
);

CREATE TRIGGER passages_in AFTER INSERT ON passages BEGIN
    INSERT INTO passages_words (rowid, text) VALUES (new.key, new.text);
END;
CREATE TRIGGER passages_out AFTER DELETE ON passages BEGIN
    INSERT INTO passages_words (passages_words, rowid, text) VALUES ('delete', old.key, old.text);
END;
CREATE TRIGGER unspaced_in AFTER INSERT ON passages WHEN new.unspaced BEGIN
    INSERT INTO passages_trigrams (rowid, text) VALUES (new.key, new.text);
END;
CREATE TRIGGER unspaced_out AFTER DELETE ON passages WHEN old.unspaced BEGIN
    INSERT INTO passages_trigrams (passages_trigrams, rowid, text) VALUES ('delete', old.key, old.text);
END;
"""

# Passages without text, such as images, are left out of the index of words: they would count as documents in BM25, in
# which the rarity of words and the average length of texts enter.
_WORDED = """
DROP TRIGGER passages_in;
DROP TRIGGER passages_out;
DROP TABLE passages_words;
CREATE VIEW worded AS SELECT key, text FROM passages WHERE text <> '';
CREATE VIRTUAL TABLE passages_words USING fts5 (
    text, content = 'worded', content_rowid = 'key', tokenize = 'porter unicode61 remove_diacritics 2'
);
INSERT INTO passages_words (passages_words) VALUES ('rebuild');
CREATE TRIGGER passages_in AFTER INSERT ON passages WHEN new.text <> '' BEGIN
    INSERT INTO passages_words (rowid, text) VALUES (new.key, new.text);
END;
CREATE TRIGGER passages_out AFTER DELETE ON passages WHEN old.text <> '' BEGIN
    INSERT INTO passages_words (passages_words, rowid, text) VALUES ('delete', old.key, old.text);
END;
"""

# The text indexes hold passages in the form of `strings.searchable`: Latin words and numbers inside Chinese, Japanese,
# Korean and Thai text become separate words, and compatibility forms their plain ones. The column `searched` has this
# form if it differs from the text, else NULL.
_SEARCHABLE = """
DROP TRIGGER passages_in;
DROP TRIGGER passages_out;
DROP TRIGGER unspaced_in;
DROP TRIGGER unspaced_out;
DROP TABLE passages_words;
DROP TABLE passages_trigrams;
DROP VIEW worded;
DROP VIEW unspaced;
ALTER TABLE passages ADD COLUMN searched TEXT;
UPDATE passages SET searched = searchable(text) WHERE searchable(text) <> text;
UPDATE passages SET unspaced = 1 WHERE NOT unspaced AND has_unspaced(coalesce(searched, text));
CREATE VIEW worded AS SELECT key, coalesce(searched, text) AS text FROM passages WHERE text <> '';
CREATE VIEW unspaced AS SELECT key, coalesce(searched, text) AS text FROM passages WHERE unspaced;
CREATE VIRTUAL TABLE passages_words USING fts5 (
    text, content = 'worded', content_rowid = 'key', tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE VIRTUAL TABLE passages_trigrams USING fts5 (
    text, content = 'unspaced', content_rowid = 'key', tokenize = 'trigram'
);
INSERT INTO passages_words (passages_words) VALUES ('rebuild');
INSERT INTO passages_trigrams (passages_trigrams) VALUES ('rebuild');
CREATE TRIGGER passages_in AFTER INSERT ON passages WHEN new.text <> '' BEGIN
    INSERT INTO passages_words (rowid, text) VALUES (new.key, coalesce(new.searched, new.text));
END;
CREATE TRIGGER passages_out AFTER DELETE ON passages WHEN old.text <> '' BEGIN
    INSERT INTO passages_words (passages_words, rowid, text)
    VALUES ('delete', old.key, coalesce(old.searched, old.text));
END;
CREATE TRIGGER unspaced_in AFTER INSERT ON passages WHEN new.unspaced BEGIN
    INSERT INTO passages_trigrams (rowid, text) VALUES (new.key, coalesce(new.searched, new.text));
END;
CREATE TRIGGER unspaced_out AFTER DELETE ON passages WHEN old.unspaced BEGIN
    INSERT INTO passages_trigrams (passages_trigrams, rowid, text)
    VALUES ('delete', old.key, coalesce(old.searched, old.text));
END;
"""

# Checksums find changes that SQLite's own check cannot see. `sum` is the exclusive or of the documents' checksums, so
# that a missing document is found too; SQLite has no operator for it, but a ^ b = (a | b) - (a & b).
_CHECKED = """
INSERT INTO meta VALUES ('id', lower(hex(randomblob(16))));
INSERT INTO meta SELECT 'stamp', stamp FROM history ORDER BY changes DESC LIMIT 1;
INSERT INTO meta VALUES ('checkpointed', 0);
INSERT INTO meta VALUES ('sum', 0);
ALTER TABLE documents ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
CREATE TRIGGER sum_in AFTER INSERT ON documents BEGIN
    UPDATE meta SET value = (value | new.checksum) - (value & new.checksum) WHERE key = 'sum';
END;
CREATE TRIGGER sum_out AFTER DELETE ON documents BEGIN
    UPDATE meta SET value = (value | old.checksum) - (value & old.checksum) WHERE key = 'sum';
END;
CREATE TRIGGER sum_changed AFTER UPDATE OF checksum ON documents BEGIN
    UPDATE meta SET value = (value | old.checksum) - (value & old.checksum) WHERE key = 'sum';
    UPDATE meta SET value = (value | new.checksum) - (value & new.checksum) WHERE key = 'sum';
END;
"""


# Spaces are named freely, so the modalities of their items, which once were their names, are a column. `kind` says what
# an item has in a space (see `types.Kind`), `dtype` how numbers are stored, `state` whether it is searched: "active",
# "filling" while its vectors are made, or "retired" when another has taken its place.
_NAMED = """
ALTER TABLE spaces ADD COLUMN modalities TEXT NOT NULL DEFAULT '[]';
ALTER TABLE spaces ADD COLUMN kind TEXT NOT NULL DEFAULT 'dense';
ALTER TABLE spaces ADD COLUMN dtype TEXT NOT NULL DEFAULT 'float32';
ALTER TABLE spaces ADD COLUMN state TEXT NOT NULL DEFAULT 'active';
UPDATE spaces SET modalities = '["' || replace(name, '+', '","') || '"]';
ALTER TABLE passages ADD COLUMN unit TEXT;
"""

# What the columns of `_NAMED` would hold, for a collection of an older version that is opened for reading.
_UNNAMED = """
CREATE TEMP VIEW spaces AS SELECT *, '["' || replace(name, '+', '","') || '"]' AS modalities, 'dense' AS kind,
    'float32' AS dtype, 'active' AS state FROM main.spaces;
CREATE TEMP VIEW passages AS SELECT *, NULL AS unit FROM main.passages;
"""


# Filters look documents up by a row for each scalar of a top-level field, or in a list there, with texts cut to 100
# characters. A blob says what a field holds besides: `LISTED` a list, whose elements are rows too, and `UNLISTED` a
# list of more than 100 elements, which are none.
#
# Metadata that is no JSON object was changed outside omnivec. It has no facts: a check names it, and writes go on.
LISTED, UNLISTED = "x'01'", "x'02'"
CUT = 100
_LONGEST = 100

_JSON = (
    "CASE WHEN json_valid(@.metadata) THEN CASE json_type(@.metadata) WHEN 'object' THEN @.metadata END END"
)
_SHORT = f"json_array_length(m.value) <= {_LONGEST}"
_SCALARS = f"""
    SELECT m.key, CASE m.type WHEN 'text' THEN substr(m.atom, 1, {CUT}) ELSE m.atom END, @.key
    FROM json_each({_JSON}) AS m WHERE m.atom IS NOT NULL"""
_LISTS = f"""
    SELECT m.key, CASE WHEN {_SHORT} THEN {LISTED} ELSE {UNLISTED} END, @.key
    FROM json_each({_JSON}) AS m WHERE m.type = 'array'
    UNION ALL SELECT m.key, CASE e.type WHEN 'text' THEN substr(e.atom, 1, {CUT}) ELSE e.atom END, @.key
    FROM json_each({_JSON}) AS m
    JOIN json_each(CASE WHEN m.type = 'array' AND {_SHORT} THEN m.value ELSE '[]' END) AS e
    WHERE e.atom IS NOT NULL"""


def _of(row: str, *selects: str) -> str:
    return " UNION ALL ".join(selects).replace("@", row)


ALL_FACTS = _of("documents", _SCALARS, _LISTS).replace("FROM json_each", "FROM documents JOIN json_each")
"""Selects the (name, value, document) that the table `facts` must hold; some twice."""

# `removed` says what a file beside the catalogue, of an earlier state, holds too much: the keys of passages that were
# deleted since, with the number of the state in which they were deleted; see `PassageReader.removed_since`.
_FACTS = f"""
CREATE TABLE removed (
    changes INTEGER NOT NULL, passage INTEGER NOT NULL, PRIMARY KEY (changes, passage)
) WITHOUT ROWID;
INSERT INTO meta SELECT 'recorded', value FROM meta WHERE key = 'changes';
CREATE TRIGGER passages_removed AFTER DELETE ON passages BEGIN
    INSERT OR IGNORE INTO removed SELECT value, old.key FROM meta WHERE key = 'changes';
END;

CREATE TABLE facts (
    name TEXT NOT NULL, value NOT NULL, document INTEGER NOT NULL, PRIMARY KEY (name, value, document)
) WITHOUT ROWID;
INSERT OR IGNORE INTO facts SELECT * FROM ({ALL_FACTS}) ORDER BY 1, 2, 3;
CREATE TRIGGER facts_in AFTER INSERT ON documents BEGIN
    INSERT OR IGNORE INTO facts {_of("new", _SCALARS)};
END;
CREATE TRIGGER facts_in_lists AFTER INSERT ON documents WHEN instr(new.metadata, '[') BEGIN
    INSERT OR IGNORE INTO facts {_of("new", _LISTS)};
END;
CREATE TRIGGER facts_out AFTER DELETE ON documents BEGIN
    DELETE FROM facts WHERE (name, value, document) IN ({_of("old", _SCALARS)});
END;
CREATE TRIGGER facts_out_lists AFTER DELETE ON documents WHEN instr(old.metadata, '[') BEGIN
    DELETE FROM facts WHERE (name, value, document) IN ({_of("old", _LISTS)});
END;
CREATE TRIGGER facts_changed AFTER UPDATE OF key, metadata ON documents BEGIN
    DELETE FROM facts WHERE (name, value, document) IN ({_of("old", _SCALARS, _LISTS)});
    INSERT OR IGNORE INTO facts {_of("new", _SCALARS, _LISTS)};
END;
"""


class Migration(NamedTuple):
    """A step from one version of the schema to the next.

    Attributes:
        version: of the schema after the step.
        sql: statements, which are run first.
        fill: a function for what SQL cannot do; None for nothing.
    """

    version: int
    sql: str
    fill: Callable[[sqlite3.Connection], None] | None = None


MIGRATIONS: tuple[Migration, ...] = (
    Migration(1, _TABLES),
    Migration(2, _WORDED),
    Migration(3, _SEARCHABLE),
    Migration(4, _CHECKED, checksums.fill),
    Migration(5, "", checksums.fill_states),
    Migration(6, _NAMED, checksums.fill_spaces),
    Migration(7, _FACTS),
)

CHECKED = 4
"""The version from which on documents have checksums."""

ALL_CHECKED = 5
"""The version from which on these cover times and sizes, and spaces, canaries and roots have checksums too."""

NAMED = checksums.NAMED
"""The version from which on a space has a column for the modalities of its items, and a passage for its unit."""

FACTS = 7
"""The version from which on there are the tables `facts` and `removed`."""

READABLE = 1
"""The oldest version that can be read without being migrated."""


def statements(sql: str) -> Iterator[str]:
    """Splits a script into its statements.

    `executescript` cannot be used: it commits the open transaction, and a migration has to be atomic.
    """
    pending = ""
    for line in sql.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Migrates the schema from `version` to the newest, in the caller's transaction."""
    for step in MIGRATIONS:
        if step.version > version:
            for statement in statements(step.sql):
                connection.execute(statement)
            if step.fill is not None:
                step.fill(connection)
            connection.execute(f"PRAGMA user_version = {step.version:d}")


def show_as_newest(connection: sqlite3.Connection) -> None:
    """Gives a connection that only reads the columns that an older schema lacks, by temporary views.

    Another connection may migrate the schema meanwhile; then the views show the columns themselves, which come first.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if READABLE <= version < NAMED:
        for statement in statements(_UNNAMED):
            connection.execute(statement)
