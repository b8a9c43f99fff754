"""Collections that older versions wrote: read as they are, then migrated, synced, added to and checked."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

import older
import omnivec
from workbench import CommandLine

SCHEMAS = {"schema-1": 1, "2026-11-21": 2, "schema-3": 3, "schema-4": 4, "2026-11-30": 5}
CASES = [(version, name) for version in older.names() for name in older.collections(version)]
FULL = [version for version in older.names() if not version.startswith("schema")]


@pytest.fixture
def root(version: str, tmp_path: Path, cache: Path) -> Path:
    """An archive's contents, in another place than where they were made."""
    return older.unpack(version, tmp_path / "moved")


def schema_of(folder: Path) -> int:
    """The `user_version` in the header of a catalogue that nobody has open."""
    return int.from_bytes((folder / "catalogue.sqlite").read_bytes()[60:64], "big")


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "catalogue.sqlite").read_bytes()).hexdigest()


def touch(root: Path) -> None:
    """Gives the files another time, and leaves what they hold."""
    for place in [*(root / "files").rglob("*.*"), *older.pictures(root)]:
        os.utime(place, (1_700_000_000, 1_700_000_000))


def opened(root: Path, version: str, name: str, **options: Any) -> omnivec.Collection:
    """By the recorded models, named relative to the collection's place; the first version named the whole path."""
    model = root / "models" / "text" if version == "schema-1" else None
    return omnivec.Collection(root / name, model=model, **options)


def same(now: dict[str, Any], then: dict[str, Any], version: str) -> None:
    """Asserts that a collection holds and finds what it did."""
    assert now.keys() == then.keys()
    for what in set(then) - {"hits", "recommended"}:
        assert now[what] == then[what], what
    same_hits(now["recommended"], then["recommended"])
    pictures = any("image" in space for space in then["spaces"])
    for question, hits, expected in zip(then["questions"], now["hits"], then["hits"], strict=True):
        if version == "2026-11-21" and pictures and question["mode"] == "hybrid":
            # That version placed images below all texts which are in both lists of a hybrid search.
            assert {hit["id"] for hit in hits} == {hit["id"] for hit in expected}
            hits, expected = (
                [hit | {"score": 0} for hit in listed if hit["text"]] for listed in (hits, expected)
            )
        same_hits(hits, expected)


def same_hits(hits: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    without = [[{**hit, "score": 0} for hit in listed] for listed in (hits, expected)]
    assert without[0] == without[1]
    assert [hit["score"] for hit in hits] == pytest.approx([hit["score"] for hit in expected], abs=1e-5)


def asked(collection: omnivec.Collection, root: Path, then: dict[str, Any]) -> dict[str, Any]:
    """What it answers now, to the questions of then."""
    assert then["questions"][: len(older.QUESTIONS)] == older.QUESTIONS
    return older.collection_answers(collection, root)


def test_archives_hold_every_schema(tmp_path: Path) -> None:
    found = {
        name: {schema_of(folder) for folder in older.unpack(name, tmp_path / name).glob("*.omni")}
        for name in older.names()
    }
    assert found == {name: {schema} for name, schema in SCHEMAS.items()}


@pytest.mark.parametrize(("version", "name"), CASES)
def test_it_is_read_as_it_is(version: str, name: str, root: Path) -> None:
    then, before = older.recorded(root)[0]["collections"][name], digest(root / name)
    assert all(then["hits"][:3]) and len(then["documents"]) >= 8
    with opened(root, version, name, readonly=True) as collection:
        same(asked(collection, root, then), then, version)
        assert collection.check(deep=True) == []
    assert digest(root / name) == before


@pytest.mark.parametrize(("version", "name"), CASES)
def test_it_is_migrated_and_written_to(version: str, name: str, root: Path) -> None:
    then = older.recorded(root)[0]["collections"][name]
    files = sum(entry["id"].startswith(("files/", "pictures/")) for entry in then["documents"])
    with opened(root, version, name) as collection:
        same(asked(collection, root, then), then, version)
        for touched in (False, True):  # by time and size, and by what was read again
            if touched:
                touch(root)
            done = collection.sync()
            assert (done.new, done.changed, done.removed, done.unchanged) == (0, 0, 0, files)
            assert (done.failed, done.kept, done.passages) == ({}, {}, 0)
        added = collection.add("The capital jumps over an engine.", "later", {"year": 2031})
        assert (added.new, added.changed) == (1, 0)
        for mode in ("vector", "text", "hybrid"):
            hits = collection.search(
                "The capital jumps over an engine.", k=1, where={"year": 2031}, mode=mode
            )
            assert [hit.document for hit in hits] == ["later"]
        assert collection.check(deep=True) == [] and collection.unverified() == []
        assert collection.delete("later") == 1
    assert schema_of(root / name) >= max(SCHEMAS.values())
    with opened(root, version, name) as again:
        same(asked(again, root, then), then, version)
        assert again.check(deep=True) == [] and again.unverified() == []


@pytest.mark.parametrize("version", older.names())
def test_a_changed_file_alone_is_embedded_again(version: str, root: Path) -> None:
    (root / "files" / "two.txt").write_text("The engine of a café.\n", encoding="utf-8")
    (root / "files" / "deep" / "four.rst").unlink()
    with opened(root, version, "texts.omni") as collection:
        done = collection.sync()
        assert (done.new, done.changed, done.removed, done.unchanged) == (0, 1, 1, 2)
        hits = collection.search("The engine of a café.", k=1, mode="vector")
        assert [hit.document for hit in hits] == ["files/two.txt"]
        assert hits[0].score == pytest.approx(1, abs=1e-5)
        assert collection.check(deep=True) == []


@pytest.mark.parametrize("version", FULL)
def test_another_model_is_refused(version: str, root: Path) -> None:
    with (
        pytest.raises(omnivec.IdentityError, match="made by another model: weights differ"),
        omnivec.Collection(root / "texts.omni", model=root / "models" / "tuned") as collection,
    ):
        collection.search("graph", mode="vector")


@pytest.mark.parametrize("version", FULL)
def test_commands_search_and_check_it(version: str, root: Path, omni: CommandLine) -> None:
    then = older.recorded(root)[0]["collections"]["texts.omni"]
    assert then["questions"][0] == {"query": "a dog and the fox", "mode": "vector"}
    place = ("--collection", root / "texts.omni")
    done = omni("search", "a dog and the fox", "--mode", "vector", "-k", "100", "--json", *place)
    assert done.code == 0, done.err
    assert [row["id"] for row in done.rows] == [hit["id"] for hit in then["hits"][0]]
    assert schema_of(root / "texts.omni") == SCHEMAS[version]  # a search writes nothing
    done = omni("collection", "check", *place)
    assert done.code == 0, done.err
