"""`omnivec collection list`, `get`, `update` and `remove`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omnivec import Collection
from omnivec.cli.collection_documents import _rows
from omnivec.types import SparseRows
from workbench import DROP, CommandLine, loaded, whole

NOTES = "notes.omni"


@pytest.fixture
def shop(omni: CommandLine, tiny: Path) -> CommandLine:
    """Three documents, the last without a year."""
    with Collection(omni.folder / NOTES, model=loaded(tiny)) as notes:
        facts: list[dict[str, Any]] = [{"year": 2023, "tags": ["x"]}, {"year": 2025}, {"draft": True}]
        notes.add(["red apples", "blue plums\nare round", "a pear"], ids=["a", "b", "c"], metadata=facts)
    return omni


def metadata(shop: CommandLine) -> dict[str, object]:
    return {
        row["document"]: row["metadata"] for row in shop("collection", "list", "-c", NOTES, "--json").rows
    }


def test_list_in_an_order(shop: CommandLine) -> None:
    def listed(*options: str) -> list[str]:
        return [row["document"] for row in shop("collection", "list", "-c", NOTES, "--json", *options).rows]

    assert listed() == ["a", "b", "c"]
    assert listed("--order-by", "-year") == ["b", "a", "c"]
    assert listed("--order-by", "year", "--limit", "1", "--offset", "1") == ["b"]
    assert listed("--where", "year>=2024") == ["b"]


def test_get_shows_text_metadata_and_vectors(shop: CommandLine) -> None:
    done = shop("collection", "get", "b", "-c", NOTES)
    assert (done.code, done.out) == (0, "b  1 passage\n  year: 2025\n  | blue plums\n  | are round\n")
    with_vectors = shop("collection", "get", "b", "a", "nope", "-c", NOTES, "--json", "--vectors")
    assert (with_vectors.code, with_vectors.errors) == (3, ["omnivec: no document 'nope'"])
    b, a = with_vectors.rows
    assert (a["document"], a["text"], a["metadata"]) == ("a", "red apples", {"year": 2023, "tags": ["x"]})
    assert b["passages"] == [
        {"start": 0, "end": 20, "unit": "characters", "line": None, "text": "blue plums\nare round"}
    ]
    with Collection(shop.folder / NOTES, readonly=True) as notes:
        [record] = notes.get("b", vectors=True)
    np.testing.assert_array_equal(np.array(b["vectors"]["text"], np.float32), record.vectors["text"])


def test_update_sets_and_removes_keys(shop: CommandLine) -> None:
    done = shop("collection", "update", "a", "b", "-c", NOTES, "--set", "year=2024", "--set", 'tags=["new"]')
    assert (done.code, done.out, done.err) == (0, "2 documents changed\n", "")
    assert metadata(shop) == {
        "a": {"year": 2024, "tags": ["new"]},
        "b": {"year": 2024, "tags": ["new"]},
        "c": {"draft": True},
    }
    shop("collection", "update", "a", "-c", NOTES, "--unset", "tags", "--set", "note=it = 3")
    shop("collection", "update", "b", "-c", NOTES, "--replace", "--set", "only=", "--json")
    assert metadata(shop) == {"a": {"year": 2024, "note": "it = 3"}, "b": {"only": ""}, "c": {"draft": True}}
    with Collection(shop.folder / NOTES) as notes:
        whole(notes)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("a", "nope", "--set", "x=1"), 2, "no document 'nope'"),
        (("a", "--set", "x"), 2, "--set 'x': write KEY=VALUE"),
        (("a",), 2, "nothing to change"),
        (("a", "--set", "x=1", "--unset", "x"), 2, "'x' is both set and unset"),
    ],
)
def test_update_changes_nothing_if_it_is_wrong(
    shop: CommandLine, options: tuple[str, ...], code: int, message: str
) -> None:
    before = metadata(shop)
    done = shop("collection", "update", *options, "-c", NOTES)
    assert done.code == code and message in done.err
    assert metadata(shop) == before


def test_remove_by_a_filter(shop: CommandLine) -> None:
    dry = shop("collection", "remove", "--where", "year>=2000", "--dry-run", "-c", NOTES)
    assert (dry.code, dry.out) == (0, "a\nb\n2 documents would be removed\n")
    assert set(metadata(shop)) == {"a", "b", "c"}
    some = shop("collection", "remove", "a", "c", "--where", "year>=2000", "-c", NOTES, "--json")
    assert some.rows == [{"document": "a", "status": "removed"}]
    none = shop("collection", "remove", "--where", "yaer=1", "-c", NOTES)
    assert none.code == 3 and none.err.startswith("omnivec: no document has the field 'yaer'")
    assert shop("collection", "remove", "-c", NOTES).code == 2
    assert set(metadata(shop)) == {"b", "c"}


def test_the_collections_below_a_folder(shop: CommandLine) -> None:
    with Collection(shop.folder / "deep" / "er" / "own.omni") as own:
        own.add(ids=["v"], vectors=[[1.0, 2.0]])
    damaged = shop.folder / "bad.omni"
    damaged.mkdir()
    (damaged / "catalogue.sqlite").write_bytes(b"x" * 4096)
    (shop.folder / "link").symlink_to(shop.folder / "deep", target_is_directory=True)
    done = shop("collection", "list", "--all", "--json")
    assert [(row["collection"], row["documents"], row["spaces"]) for row in done.rows] == [
        ("deep/er/own.omni", 1, ["vectors"]),
        ("notes.omni", 3, ["text"]),
    ]
    assert done.rows[1]["models"] and not done.rows[0]["models"] and done.rows[0]["bytes"] > 0
    assert done.code == 3 and len(done.errors) == 1 and "bad.omni" in done.err
    assert shop("collection", "list", "--all", "deep").out.splitlines()[1].split()[:2] == [
        "deep/er/own.omni",
        "1",
    ]
    assert shop("collection", "list", "--all", "nowhere").code == 2
    assert shop("collection", "list", "--all", "deep", "--limit", "3").code == 2


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_folder_that_cannot_be_read_is_named(shop: CommandLine) -> None:
    closed = shop.folder / "closed"
    closed.mkdir(mode=0)
    try:
        done = shop("collection", "list", "--all", before=DROP)
    finally:
        closed.chmod(0o755)
    assert (done.code, len(done.errors)) == (3, 1) and "closed" in done.err
    assert NOTES in done.out


def test_sparse_vectors_are_shown_by_component() -> None:
    vectors = SparseRows(np.array([0, 2, 3]), np.array([1, 7, 4]), np.array([0.5, 0.25, 2], np.float32))
    assert _rows(vectors) == [{"1": 0.5, "7": 0.25}, {"4": 2.0}]
