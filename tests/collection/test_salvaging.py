"""`Collection.salvage` and its command: what is left out is named, kept for the eye, and can be imported."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from omnivec import Collection
from omnivec.errors import CollectionError
from workbench import CommandLine, loaded


@pytest.fixture
def damaged(notes: Collection, tmp_path: Path) -> Path:
    notes.add(
        ["apples are red", "plums  ", "a quick fox"], ids=["a", "b", "c"], metadata=[{"n": 1}, {"id": 2}, {}]
    )
    notes.close()
    with sqlite3.connect(notes.folder / "catalogue.sqlite") as file:
        file.execute("UPDATE vectors SET vector = zeroblob(128) WHERE passage = 2")
        file.execute("UPDATE passages SET text = 'a quick fax' WHERE key = 3")
    file.close()
    return notes.folder


def test_what_is_left_out_can_be_imported(damaged: Path, tiny: Path, tmp_path: Path) -> None:
    model = loaded(tiny)
    report = Collection.salvage(damaged, tmp_path / "new.omni")
    assert (report.documents, sorted(report.damaged), report.complete) == (1, ["b", "c"], True)
    assert report.unverified == tmp_path / "new.omni.unverified.jsonl"
    rows = [json.loads(line) for line in report.unverified.read_text("utf-8").splitlines()]
    assert [(row["id"], row["text"]) for row in rows] == [("b", "plums"), ("c", "a quick fax")]
    assert rows[0]["_metadata.id"] == 2 and rows[0]["_damage"] == report.damaged["b"]
    with Collection(tmp_path / "new.omni", model=model) as new:
        assert new.spaces()["text"].canaries and new.search("apples", k=1)[0].document == "a"
        assert new.add_rows(report.unverified).new == 2
        assert [(one.id, one.metadata) for one in new] == [("a", {"n": 1}), ("b", {"id": 2}), ("c", {})]
        assert new.check(deep=True) == []
    with pytest.raises(CollectionError, match=r"unverified\.jsonl exists already"):
        Collection.salvage(damaged, tmp_path / "new.omni")


def test_the_command(damaged: Path, omni: CommandLine, tmp_path: Path) -> None:
    done = omni("collection", "salvage", damaged, tmp_path / "new.omni")
    assert done.code == 3 and done.out.startswith("1 document (1 passage, 1 vector) taken to ")
    assert "; 2 left out\n" in done.out and done.errors[0].startswith("omnivec: b: its checksum does not fit")
    assert omni("collection", "check", "--deep", "-c", tmp_path / "new.omni").code == 0
    sound = omni("collection", "salvage", tmp_path / "new.omni", tmp_path / "again.omni", "--json")
    assert (sound.code, sound.err) == (0, "") and sound.rows[0]["documents"] == 1
    assert not (tmp_path / "again.omni.unverified.jsonl").exists()
    missing = omni("collection", "salvage", tmp_path / "nowhere", tmp_path / "x.omni")
    assert missing.code == 1 and len(missing.errors) == 1 and not list(tmp_path.glob("x.omni*"))
