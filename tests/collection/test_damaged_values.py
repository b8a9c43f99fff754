"""Values of the catalogue that are not what was written: no traceback, no answer that is not the right one."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from omnivec import Collection
from omnivec.errors import CollectionDamaged, UsageError
from omnivec.store import schema
from workbench import loaded

VALUES = (
    "'zzz'",
    "NULL",
    "-5",
    "9223372036854775807",
    "1.5",
    "x'00ff'",
    "zeroblob(4096)",
    "CAST(x'ff80' AS TEXT)",
    "''",
)

# What only `check` can know: the order of a vector's parts, whether a passage is searched as runs of characters, and
# the form in which it is searched.
ONLY_CHECKED = ("vectors.part", "passages.unspaced", "passages.searched")

COLUMNS = {
    "passages": [
        "key",
        "document",
        "ordinal",
        "start",
        "end",
        "line",
        "modality",
        "unspaced",
        "text",
        "searched",
        "unit",
    ],
    "vectors": ["space", "passage", "part", "vector"],
}


def hits(found):
    return [
        (one.id, one.span, one.span_unit, one.line, one.text, one.modality, round(one.score, 5), one.metadata)
        for one in found
    ]


READERS: dict[str, Callable[[Collection], object]] = {
    "by meaning": lambda notes: hits(notes.search("quick fox", 9, mode="vector")),
    "by words": lambda notes: hits(notes.search("quick fox", 9, mode="text")),
    "by both": lambda notes: hits(notes.search("quick fox", 9, per_document=True)),
    "by runs": lambda notes: hits(notes.search("東京都", 9, mode="text")),
    "like": lambda notes: hits(notes.recommend("a", "b")),
    "list": lambda notes: notes.documents(),
    "get": lambda notes: notes.get("a"),
    "count": lambda notes: (notes.counts().documents, notes.counts().passages),
}


def answer(reader, notes):
    """What a reader says, or None where it says in one line that the collection is damaged, or has no such passages."""
    try:
        return reader(notes)
    except (CollectionDamaged, UsageError) as error:
        assert "\n" not in str(error) and ("is damaged" in str(error) or "no document 'a'" in str(error))
        return None


@pytest.fixture
def model(cache, tiny):
    return loaded(tiny)


@pytest.fixture
def sound(tmp_path, model):
    with Collection(tmp_path / "sound", model=model) as notes:
        texts = ["a quick brown fox", "a lazy dog in 東京都庁舎", "C++ code of os.path"]
        notes.add(texts, ids=["a", "b", "c"], metadata={"year": 2024})
        right = {name: reader(notes) for name, reader in READERS.items()}
    return tmp_path / "sound", right


def changed(folder, copy, table, column, value):
    """A copy in which the first row has another value, constraints or not; None where it is no other."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    with closing(sqlite3.connect(copy / "catalogue.sqlite")) as file, file:
        file.execute("PRAGMA writable_schema = ON")
        file.execute(
            "UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '') WHERE type = 'table' AND name = ?",
            (table,),
        )
    with closing(sqlite3.connect(copy / "catalogue.sqlite")) as file, file:
        literal = f"SELECT quote({column}), typeof({column}) FROM {table} WHERE rowid = 1"
        before = file.execute(literal).fetchall()
        try:
            file.execute(f"UPDATE {table} SET {column} = {value} WHERE rowid = 1")
        except sqlite3.IntegrityError:  # a rowid is an integer, whatever the schema says
            return None
        file.text_factory = lambda text: text.decode(errors="replace")
        return None if file.execute(literal).fetchall() == before else copy


@pytest.mark.parametrize(
    "column", [f"{table}.{column}" for table, columns in COLUMNS.items() for column in columns]
)
def test_no_reader_believes_a_value_that_cannot_be(sound, tmp_path, model, column):
    (folder, right), (table, name) = sound, column.split(".")
    tried = 0
    for value in VALUES:
        copy = changed(folder, tmp_path / "copy", table, name, value)
        if copy is None:
            continue
        tried += 1
        with Collection(copy, model=model, create=False, readonly=True) as notes:
            assert notes.check(deep=True), value
            for reader, correct in right.items():
                said = answer(READERS[reader], notes)
                indirect = (
                    reader in ("list", "get") and table == "passages"
                )  # they count a document's passages
                if column not in ONLY_CHECKED and not indirect:
                    assert said in (None, correct), (value, reader)
        with pytest.raises(CollectionDamaged, match="damaged"):
            Collection.restore(copy, tmp_path / "restored")
    assert tried >= 2


@pytest.mark.parametrize(
    "identity",
    [
        "{}",
        '{"weights": 3}',
        '{"weights": {}, "preprocessing": 4}',
        '{"weights": {}, "preprocessing": {"limit": "x"}}',
    ],
)
def test_what_is_recorded_of_a_model_is_whole_or_damaged(sound, tmp_path, model, identity):
    copy = changed(sound[0], tmp_path / "copy", "spaces", "identity", f"'{identity}'")
    with pytest.raises(CollectionDamaged, match="space 'text' is incomplete"):
        Collection(copy, model=model, create=False)


def test_every_column_that_holds_passages_and_vectors_is_tried():
    with closing(sqlite3.connect(":memory:")) as file:
        file.create_function("searchable", 1, str)
        file.create_function("has_unspaced", 1, bool)
        schema.migrate(file, 0)
        for table, columns in COLUMNS.items():
            assert [row[1] for row in file.execute(f"PRAGMA table_info({table})")] == columns
