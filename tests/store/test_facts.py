"""The tables of schema 7: what of the metadata a filter can be looked up by, and the passages that were removed."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import older
from omnivec.store import writing
from omnivec.store.opening import FILE
from omnivec.store.sqlite import Catalogue
from store_samples import catalogue_of_version, document, space

METADATA: list[dict[str, Any]] = [
    {"year": 2024, "tags": ["a", "b", 7, 7.0, None, ["deep"], {"c": 1}], "open": True},
    {"year": 2024.5, "title": "é" * 150, "none": None, "nested": {"year": 1}},
    {"long": list(range(101)), "empty": [], "": "no name", 'odd "key"\n': "x"},
    {},
]
EXPECTED = {
    ("year", 2024, 1),
    ("tags", b"\x01", 1),
    ("tags", "a", 1),
    ("tags", "b", 1),
    ("tags", 7, 1),
    ("open", 1, 1),
    ("year", 2024.5, 2),
    ("title", "é" * 100, 2),
    ("long", b"\x02", 3),
    ("empty", b"\x01", 3),
    ("", "no name", 3),
    ('odd "key"\n', "x", 3),
}


@pytest.fixture
def catalogue(tmp_path: Path):
    with Catalogue.open(tmp_path / "notes", create=True) as made:
        made.put_space(space())
        made.write([document(f"d{i}", metadata=one) for i, one in enumerate(METADATA)])
        yield made


def facts(catalogue: Catalogue) -> set[tuple[Any, ...]]:
    return set(catalogue._rows("SELECT name, value, document FROM facts"))


def tampered(catalogue: Catalogue, sql: str) -> None:
    with closing(sqlite3.connect(catalogue.folder / FILE)) as file:
        file.executescript(sql)


def test_scalars_and_elements_of_lists_are_facts(catalogue: Catalogue) -> None:
    assert facts(catalogue) == EXPECTED
    assert catalogue.check() == []


def test_facts_follow_updates_and_deletes(catalogue: Catalogue) -> None:
    catalogue.update({"d0": {"year": 1999, "tags": "plain"}, "d3": {"tags": [True]}})
    changed = {row for row in EXPECTED if row[2] != 1 or row[0] == "open"}
    changed |= {("year", 1999, 1), ("tags", "plain", 1), ("tags", 1, 4), ("tags", b"\x01", 4)}
    assert facts(catalogue) == changed
    catalogue.delete(["d0", "d2"])
    assert facts(catalogue) == {row for row in changed if row[2] in (2, 4)}
    catalogue.write([document("d1", metadata={"new": 1})])
    assert {row[:2] for row in facts(catalogue)} == {("tags", 1), ("tags", b"\x01"), ("new", 1)}
    assert catalogue.check() == []
    catalogue.delete(None, {})
    assert facts(catalogue) == set()


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("DELETE FROM facts WHERE name = 'year'", "2 values in metadata that a filter would not find"),
        (
            "UPDATE facts SET value = 3 WHERE name = 'open'",
            "1 values in metadata that a filter would not find",
        ),
        ("INSERT INTO facts VALUES ('year', 1, 99)", "1 values that filters find and that no metadata has"),
        ("INSERT INTO removed VALUES (0, 2)", "1 passages that exist and are noted as removed"),
        ("INSERT INTO removed VALUES (9, 50)", "1 passages that are noted as removed in a state"),
    ],
)
def test_check_names_tables_that_do_not_fit(catalogue: Catalogue, sql: str, problem: str) -> None:
    tampered(catalogue, sql)
    assert [line for line in catalogue.check() if problem in line]


def test_numbers_of_another_machine_are_no_problem(catalogue: Catalogue) -> None:
    tampered(catalogue, "UPDATE facts SET value = value * (1 + 3e-16) WHERE value = 2024.5")
    assert catalogue.check() == []


@pytest.mark.parametrize("metadata", ["'not JSON'", "'3'", "'[1]'", "'\"text\"'", "x'7b7d'", "x'ff'", "7"])
def test_metadata_that_is_no_object_ends_no_write(catalogue: Catalogue, metadata: str) -> None:
    tampered(catalogue, f"UPDATE documents SET metadata = {metadata} WHERE id = 'd0'")
    assert catalogue.check() != []
    catalogue.delete(["d0"])
    assert catalogue.check() == []
    assert not [row for row in facts(catalogue) if row[2] == 1]


def test_removed_passages_are_known_by_the_state_before(catalogue: Catalogue) -> None:
    def since(state: int) -> list[int] | None:
        keys = catalogue.removed_since(state)
        return None if keys is None else keys.tolist()

    first = catalogue.changes()[0]
    assert since(first) == [] and since(0) == []
    catalogue.write([document("d0")], remove=["d2"])
    second = catalogue.changes()[0]
    catalogue.delete(["d1"])
    assert (since(first), since(second), since(catalogue.changes()[0])) == ([1, 2, 3], [2], [])
    assert since(catalogue.changes()[0] + 1) is None
    assert not set(catalogue.passage_keys({}).tolist()) & {1, 2, 3}
    assert catalogue.check() == []


def test_removed_passages_are_forgotten_with_the_history(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "HISTORY", 3)
    state = catalogue.changes()[0]
    catalogue.delete(["d0"])
    answers = []
    for i in range(3):
        answers.append(catalogue.removed_since(state))
        catalogue.write([document(f"more {i}")])
    assert [None if one is None else one.tolist() for one in answers] == [[1], [1], None]
    assert catalogue._rows("SELECT * FROM removed") == []


def test_many_removed_passages_are_forgotten_with_their_states(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MOST_REMOVED", 4)
    monkeypatch.setattr(writing, "_PRUNED_EVERY", 1)
    states = []
    for i in range(6):
        states.append(catalogue.changes()[0])
        catalogue.write([document(f"new {i}")])
        catalogue.delete([f"new {i}"])
    known = [state for state in states if catalogue.removed_since(state) is not None]
    assert known == states[-4:]
    oldest = catalogue.removed_since(known[0])
    assert oldest is not None and len(oldest) == 4
    assert [catalogue.stamp(state) is not None for state in states] == [False, False, True, True, True, True]
    assert catalogue.check(deep=True) == []


@pytest.mark.parametrize("version", [1, 3, 6])
def test_an_older_schema_says_nothing_of_removed_passages(tmp_path: Path, version: int) -> None:
    catalogue_of_version(tmp_path / "old", version, ["one", "two"])
    with Catalogue.open(tmp_path / "old", create=False, readonly=True) as catalogue:
        assert catalogue.removed_since(catalogue.changes()[0]) is None
        assert catalogue.passage_keys({}).tolist() == [1, 2]
    with Catalogue.open(tmp_path / "old", create=False) as catalogue:
        state = catalogue.changes()[0]
        assert catalogue.removed_since(state - 1) is None
        catalogue.delete([catalogue.documents()[0].id])
        removed = catalogue.removed_since(state)
        assert removed is not None and removed.tolist() == [1]


@pytest.mark.parametrize("name", older.names())
def test_a_migration_finds_the_facts_of_all_documents(tmp_path: Path, name: str) -> None:
    root = older.unpack(name, tmp_path / "old")
    with Catalogue.open(root / "texts.omni", create=False) as catalogue:
        assert catalogue.check() == []
        wanted = {
            (key, value[:100] if isinstance(value, str) else value)
            for entry in catalogue.documents()
            for key, value in entry.metadata.items()
            if isinstance(value, str | int | float)
        }
        assert wanted and wanted <= {row[:2] for row in facts(catalogue)}, json.dumps(
            sorted(map(str, wanted))
        )


def test_copies_have_both_tables(catalogue: Catalogue, tmp_path: Path) -> None:
    from omnivec.store import copies

    state = catalogue.changes()[0]
    catalogue.delete(["d1"])
    catalogue.vacuum()
    copies.back_up(catalogue, tmp_path / "backup")
    copies.restore(tmp_path / "backup", tmp_path / "again")
    with Catalogue.open(tmp_path / "again", create=False) as again:
        removed = again.removed_since(state)
        assert removed is not None and removed.tolist() == [2]
        assert facts(again) == facts(catalogue) == {row for row in EXPECTED if row[2] != 2}
