"""Salvage: what is taken of a damaged collection is what was written, and nothing ends in a traceback."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omnivec.errors import CollectionError, OmnivecError, SchemaError
from omnivec.store import copies, remains
from omnivec.store.records import Document, Passage, SpaceRecord
from omnivec.store.salvage import Salvaged, Unverified, salvage
from omnivec.store.sqlite import Catalogue
from omnivec.types import SparseRow
from store_samples import catalogue_of_version

DIM = 128
COUNT = 80
PAGE = 16384
PLACE: dict[str, Any] = {
    "modality": "text",
    "pipeline": "plain",
    "root": "docs",
    "size": 3,
    "mtime_ns": 5,
    "device": 7,
}


def made(folder: Path, count: int = COUNT) -> None:
    """Documents of one to three passages, in a space of each kind, some without any vector."""
    draws = np.random.default_rng(0)
    with Catalogue.open(folder, create=True) as notes:
        notes.put_space(
            SpaceRecord(
                *("text", "org/model", DIM, "cosine", {"weights": "x"}, {"p": 1}),
                canaries=(("a canary", np.ones(DIM, np.float32)),),
                modalities=("text",),
            )
        )
        notes.put_space(SpaceRecord("many", "org/multi", 16, "dot", {"weights": "y"}, {}, (), kind="multi"))
        notes.put_space(
            SpaceRecord("terms", "org/sparse", 500, "dot", {"weights": "z"}, {}, (), kind="sparse")
        )
        notes.add_root("docs")
        for start in range(0, count, 20):
            notes.write([document(i, draws) for i in range(start, start + 20)])
        notes.delete(["doc 7", "doc 33"])


def document(i: int, draws: Any) -> Document:
    passages = []
    for j in range(1 + i % 3):
        text = f"passage {j} of {i} " + " ".join(f"word{n}" for n in draws.integers(0, 999, 30))
        vectors: dict[str, Any] = {}
        if i % 10:
            vectors["text"] = draws.standard_normal((1, DIM)).astype(np.float32)
        if i % 4 == 0:
            vectors["many"] = draws.standard_normal((3, 16)).astype(np.float32)
            vectors["terms"] = SparseRow(np.array([i, 200 + j]), np.array([1, 0.5], np.float32))
        passages.append(Passage(j * 100, j * 100 + len(text), j + 1, text, "text", vectors, "characters"))
    facts = {"number": i, "tags": ["a", None], "share": i / 7, "note": "long " * 99}
    return Document(
        id=f"doc {i}",
        digest=bytes([i]),
        path=f"docs/{i}",
        metadata=facts,
        lost=i % 2,
        passages=tuple(passages),
        **PLACE,
    )


def contents(folder: Path) -> dict[str, Any]:
    """All that a collection holds, by document."""
    with Catalogue.open(folder, create=False, readonly=True) as notes:
        found = {}
        for entry in notes.documents():
            one = notes.document(entry.id)
            assert one is not None
            passages = [
                (p.start, p.end, p.line, p.text, p.modality, p.unit, numbers(p.vectors)) for p in one.passages
            ]
            head = {k: v for k, v in vars(one).items() if k != "passages"}
            found[entry.id] = (head, entry.indexed_ns, passages)
    return found


def numbers(vectors: Any) -> dict[str, Any]:
    return {
        name: [one.indices.tolist(), one.weights.tolist()] if isinstance(one, SparseRow) else one.tolist()
        for name, one in vectors.items()
    }


def salvaged(source: Path, target: Path) -> tuple[Salvaged, list[Unverified]]:
    left: list[Unverified] = []
    before = {file.name: file.read_bytes() for file in source.iterdir()}
    report = salvage(source, target, left.append)
    assert {file.name: file.read_bytes() for file in source.iterdir()} == before  # only read
    return report, left


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("sound") / "notes.omni"
    made(folder)
    return folder, contents(folder)


def copy_of(folder: Path, target: Path, change: Any) -> Path:
    shutil.copytree(folder, target)
    file = target / "catalogue.sqlite"
    file.write_bytes(change(bytearray(file.read_bytes())))
    return target


def test_a_sound_collection_is_taken_as_a_whole(sound: Any, tmp_path: Path) -> None:
    folder, wanted = sound
    report, left = salvaged(folder, tmp_path / "new")
    assert contents(tmp_path / "new") == wanted and left == [] and report.damaged == {}
    assert (report.documents, report.nameless, report.complete) == (COUNT - 2, 0, True) and report.notes == []
    assert report.spaces == ["text", "many", "terms"]
    with (
        Catalogue.open(folder, create=False, readonly=True) as old,
        Catalogue.open(tmp_path / "new", create=False) as new,
    ):
        assert old.roots() == new.roots() and new.check() == []
        assert old.counts().vectors == new.counts().vectors and report.vectors == sum(
            new.counts().vectors.values()
        )
        then, now = old.spaces()["text"], new.spaces()["text"]
        assert (then.identity, then.provenance, then.modalities) == (
            now.identity,
            now.provenance,
            now.modalities,
        )
        np.testing.assert_array_equal(then.canaries[0][1], now.canaries[0][1])
        assert old.id() != new.id()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["new"]


def flips(draws: random.Random, count: int) -> Any:
    def change(raw: bytearray) -> bytearray:
        for _ in range(count):
            raw[draws.randrange(len(raw))] ^= 1 << draws.randrange(8)
        return raw

    return change


def zeros(draws: random.Random, pages: int) -> Any:
    def change(raw: bytearray) -> bytearray:
        for _ in range(pages):
            start = draws.randrange(len(raw) // PAGE) * PAGE
            raw[start : start + PAGE] = bytes(PAGE)
        return raw

    return change


def noise(draws: random.Random) -> Any:
    def change(raw: bytearray) -> bytearray:
        start = draws.randrange(len(raw) // 512) * 512
        raw[start : start + 2048] = draws.randbytes(2048)
        return raw

    return change


def cut(draws: random.Random) -> Any:
    return lambda raw: raw[: draws.randrange(len(raw))]


DAMAGE = {
    "one flip": lambda draws: flips(draws, 1),
    "flips": lambda draws: flips(draws, 40),
    "a page of zeros": lambda draws: zeros(draws, 1),
    "pages of zeros": lambda draws: zeros(draws, 6),
    "noise": noise,
    "cut off": cut,
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_taken_is_what_was_written(sound: Any, tmp_path: Path, kind: str, seed: int) -> None:
    folder, wanted = sound
    damaged = copy_of(folder, tmp_path / "damaged", DAMAGE[kind](random.Random(f"{kind} {seed}")))
    try:
        report, left = salvaged(damaged, tmp_path / "new")
    except OmnivecError as error:
        assert "\n" not in str(error) and kind in ("cut off", "pages of zeros", "noise")
        assert not (tmp_path / "new").exists()
        return
    taken = contents(tmp_path / "new")
    assert len(taken) == report.documents
    assert all(wanted[name] == one for name, one in taken.items())
    with Catalogue.open(tmp_path / "new", create=False) as new:
        assert new.check() == []
    assert len(left) == len(report.damaged) + report.nameless
    named = set(taken) | set(report.damaged)
    if kind == "one flip":
        assert len(taken) >= COUNT - 2 - 30
    if report.complete:
        assert named >= set(wanted)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["damaged", "new"]


def pages_of(folder: Path, table: str) -> list[int]:
    file = sqlite3.connect(folder / "catalogue.sqlite")
    found = file.execute(
        "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf'", (table,)
    ).fetchall()
    file.close()
    return [number for (number,) in found]


def zeroed(numbers: list[int]) -> Any:
    def change(raw: bytearray) -> bytearray:
        for number in numbers:
            raw[(number - 1) * PAGE : number * PAGE] = bytes(PAGE)
        return raw

    return change


def test_lost_pages_cost_what_they_held_and_no_more(sound: Any, tmp_path: Path) -> None:
    folder, wanted = sound
    for table in ("documents", "passages", "vectors"):
        numbers = pages_of(folder, table)
        assert len(numbers) > 1
        for number in numbers:
            damaged = copy_of(folder, tmp_path / "damaged", zeroed([number]))
            report, left = salvaged(damaged, tmp_path / "new")
            assert len(left) == len(wanted) - report.documents  # each is reported, by name or by number
            assert report.documents >= len(wanted) * (1 - 2 / len(numbers))
            assert any(line.startswith(f"rows of {table} cannot be read: keys ") for line in report.notes)
            if table == "vectors":
                assert report.nameless == 0
                assert all("its checksum does not fit" in why for why in report.damaged.values())
                texts = {one.id: "".join(text for _, text in sorted(one.texts)) for one in left}
                assert texts == {name: "".join(row[3] for row in wanted[name][2]) for name in texts}
            if table == "documents":
                assert report.damaged == {} and report.nameless == len(left) and report.complete is False
            for name in ("damaged", "new"):
                shutil.rmtree(tmp_path / name)


def test_damaged_indexes_and_text_indexes_cost_nothing(sound: Any, tmp_path: Path) -> None:
    folder, wanted = sound
    file = sqlite3.connect(folder / "catalogue.sqlite")
    others = file.execute(
        "SELECT pageno FROM dbstat WHERE name NOT IN"
        f" ({', '.join('?' * len(remains.TABLES))}, 'sqlite_schema', 'sqlite_master') AND pageno > 1",
        remains.TABLES,
    ).fetchall()
    file.close()
    damaged = copy_of(folder, tmp_path / "damaged", zeroed([number for (number,) in others]))
    report, _ = salvaged(damaged, tmp_path / "new")
    assert contents(tmp_path / "new") == wanted and report.complete


def test_a_destroyed_header_costs_nothing_in_a_new_collection(sound: Any, tmp_path: Path) -> None:
    folder, wanted = sound
    damaged = copy_of(folder, tmp_path / "damaged", zeroed([1]))
    report, _ = salvaged(damaged, tmp_path / "new")
    assert contents(tmp_path / "new") == wanted and report.complete
    assert any(
        line.startswith("the first page, which says where the tables are, is damaged")
        for line in report.notes
    )


def test_a_changed_record_of_spaces_canaries_or_roots_is_said(sound: Any, tmp_path: Path) -> None:
    folder, wanted = sound
    shutil.copytree(folder, tmp_path / "damaged")
    file = sqlite3.connect(tmp_path / "damaged" / "catalogue.sqlite")
    file.execute("UPDATE canaries SET text = 'other'")
    file.execute("UPDATE roots SET path = '/'")
    file.execute("UPDATE spaces SET metric = 'dot' WHERE key = 1")
    file.commit()
    file.close()
    report, _ = salvaged(tmp_path / "damaged", tmp_path / "new")
    assert contents(tmp_path / "new") == wanted
    assert [line.split(" are ")[0] for line in report.notes[:2]] == ["the records of the spaces", "canaries"]
    assert "the list of synced folders is not what was written and is left out (/)" in report.notes[2]
    with Catalogue.open(tmp_path / "new", create=False) as new:
        assert new.spaces()["text"].canaries == () and new.roots() == ()


def test_a_changed_document_is_left_out_and_named(sound: Any, tmp_path: Path) -> None:
    folder, wanted = sound
    shutil.copytree(folder, tmp_path / "damaged")
    file = sqlite3.connect(tmp_path / "damaged" / "catalogue.sqlite")
    file.execute("UPDATE documents SET metadata = '{\"number\": 2}' WHERE id = 'doc 1'")
    file.execute("UPDATE documents SET id = 'doc 5', checksum = 3 WHERE id = 'doc 4x'")
    file.execute(
        "UPDATE passages SET text = x'ff' WHERE document = (SELECT key FROM documents WHERE id = 'doc 2')"
    )
    file.execute("DELETE FROM vectors WHERE passage = (SELECT min(key) FROM passages WHERE document = 4)")
    file.commit()
    file.close()
    report, left = salvaged(tmp_path / "damaged", tmp_path / "new")
    assert set(report.damaged) == {"doc 1", "doc 2", "doc 3"} and report.complete
    assert report.damaged["doc 1"].startswith(
        "its checksum does not fit: its text, metadata, times or vectors"
    )
    assert report.damaged["doc 3"].startswith("1 of its 1 passages have lost their vectors")
    assert contents(tmp_path / "new") == {
        name: one for name, one in wanted.items() if name not in report.damaged
    }
    found = {one.id: one for one in left}
    assert (
        found["doc 1"].metadata == {"number": 2}
        and found["doc 2"].texts == ()
        and found["doc 3"].path == "docs/3"
    )


def test_the_log_is_read_and_one_of_another_state_is_left_out(tmp_path: Path) -> None:
    with Catalogue.open(tmp_path / "notes.omni", create=True) as notes:
        notes.put_space(SpaceRecord("text", "org/model", DIM, "cosine", {"weights": "x"}, {}, ()))
        notes.put_space(SpaceRecord("many", "m", 16, "dot", {"weights": "x"}, {}, (), kind="multi"))
        notes.put_space(SpaceRecord("terms", "m", 500, "dot", {"weights": "x"}, {}, (), kind="sparse"))
        notes.write([document(1, np.random.default_rng(0))])
        copies.back_up(notes, tmp_path / "older")
        notes.write([document(i, np.random.default_rng(i)) for i in range(2, 9)])
        shutil.copytree(tmp_path / "notes.omni", tmp_path / "killed")  # as after a power failure
        shutil.copytree(tmp_path / "notes.omni", tmp_path / "bare")
        wanted = contents(tmp_path / "notes.omni")
    assert (tmp_path / "killed" / "catalogue.sqlite-wal").stat().st_size
    report, _ = salvaged(tmp_path / "killed", tmp_path / "new")
    assert contents(tmp_path / "new") == wanted and report.complete
    for name in ("catalogue.sqlite-wal", "catalogue.sqlite-shm"):
        (tmp_path / "bare" / name).unlink()
    report, _ = salvaged(tmp_path / "bare", tmp_path / "bare new")
    taken = contents(tmp_path / "bare new")
    assert all(wanted[name] == one for name, one in taken.items())
    log = tmp_path / "killed" / "catalogue.sqlite-wal"
    for size in (100, 5000, log.stat().st_size // 2):
        log.write_bytes(log.read_bytes()[:size])
        shutil.rmtree(tmp_path / "new")
        salvaged(tmp_path / "killed", tmp_path / "new")
        assert all(wanted[name] == one for name, one in contents(tmp_path / "new").items())


@pytest.mark.parametrize("version", [1, 3, 4, 5])
def test_older_schemas(tmp_path: Path, version: int) -> None:
    texts = ["an old fox", "naïve 北京", "third"]
    catalogue_of_version(tmp_path / "old", version, texts)
    report, left = salvaged(tmp_path / "old", tmp_path / "new")
    assert report.without_checksum == (3 if version < 4 else 0)
    assert report.documents == 3 and left == []
    with Catalogue.open(tmp_path / "new", create=False) as new:
        assert new.check() == [] and {p.text for p in new.passages(np.arange(1, 4)).values()} == set(texts)
        assert new.spaces()["text"].modalities == ("text",)


@pytest.mark.parametrize(
    ("content", "error", "part"),
    [
        (b"", SchemaError, "is empty: there is nothing to salvage"),
        (b"a letter to a friend\n" * 5000, SchemaError, "is not an SQLite file"),
        (bytes(PAGE * 50), SchemaError, "is not an SQLite file"),
        (None, CollectionError, "no collection in"),
    ],
)
def test_what_is_no_collection_is_said(tmp_path: Path, content: bytes | None, error: Any, part: str) -> None:
    (tmp_path / "other").mkdir()
    if content is not None:
        (tmp_path / "other" / "catalogue.sqlite").write_bytes(content)
    with pytest.raises(error, match=part) as caught:
        salvaged(tmp_path / "other", tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert [one.name for one in tmp_path.iterdir()] == ["other"]


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    file = sqlite3.connect(tmp_path / "other" / "catalogue.sqlite")
    file.execute("CREATE TABLE meta (a, b)")
    file.commit()
    file.close()
    with pytest.raises(SchemaError, match="an SQLite file of another program"):
        salvaged(tmp_path / "other", tmp_path / "new")


def test_nothing_is_replaced_and_nothing_open_is_read(sound: Any, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(CollectionError, match="taken exists already"):
        salvaged(sound[0], tmp_path / "taken")
    with pytest.raises(CollectionError, match="lies in the collection"):
        salvaged(sound[0], sound[0] / "new")
    shutil.copytree(sound[0], tmp_path / "open")
    with (
        Catalogue.open(tmp_path / "open", create=False),
        pytest.raises(CollectionError, match="close it first"),
    ):
        salvage(tmp_path / "open", tmp_path / "new", print)
