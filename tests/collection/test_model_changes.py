"""Changing the model of a collection: the old space is searched meanwhile; afterwards the new one is, and is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from omnivec import Collection, Embedder
from omnivec.collection import migrating
from omnivec.errors import CollectionBusy, CollectionError, IdentityError, OmnivecError, UsageError
from omnivec.store import matrix
from omnivec.store.lock import writer_lock
from omnivec.store.sqlite import Catalogue
from toy_texts import embedded, encoder_of, text_vector, toy_texts
from workbench import CommandLine, loaded, prose, write_files, write_pictures

TEXTS = {f"d{i}": " ".join(f"w{(7 * i + j) % 60}" for j in range(4 + i % 9)) for i in range(60)}


@pytest.fixture
def old() -> Embedder:
    return toy_texts("old")


@pytest.fixture
def new() -> Embedder:
    return toy_texts("new", dim=12)


@pytest.fixture
def notes(tmp_path: Path, old: Embedder) -> Iterator[Collection]:
    with Collection(tmp_path / "toys.omni", model=old) as collection:
        collection.add(list(TEXTS.values()), ids=list(TEXTS), metadata={"of": "TEXTS"})
        yield collection


def in_space(collection: Collection, space: str) -> dict[str, list[str]]:
    """Document -> the texts of its passages that have a vector in a space."""
    catalogue, found = collection._catalogue, dict[str, list[str]]()
    for one in catalogue.passages(catalogue.vectors(space)[0]).values():
        found.setdefault(one.document, []).append(one.text)
    return found


def is_made_by(collection: Collection, space: str, salt: str, dim: int, limit: int = 1000) -> None:
    """Asserts that each vector of a space is that of its passage's text."""
    keys, vectors = collection._catalogue.vectors(space)
    passages = collection._catalogue.passages(keys)
    for key, vector in zip(keys.tolist(), vectors, strict=True):
        words = " ".join(passages[key].text.split()[:limit])
        np.testing.assert_allclose(vector, text_vector(words, salt, dim), atol=1e-6)


def test_all_passages_are_embedded_and_the_new_space_is_searched(
    notes: Collection, old: Embedder, new: Embedder
) -> None:
    report = notes.migrate(new)
    assert (report.switched, report.passages, report.waiting, report.missing) == (True, 60, 0, {})
    assert {name: one.state for name, one in notes.spaces().items()} == {
        "text": "retired",
        "text-2": "active",
    }
    is_made_by(notes, "text-2", "new", 12)
    assert in_space(notes, "text-2") == {name: [text] for name, text in TEXTS.items()}
    assert notes.check() == []
    hit = notes.search(TEXTS["d7"], k=1, mode="vector")[0]
    assert (hit.document, hit.space) == ("d7", "text-2")
    assert hit.score == pytest.approx(1)
    assert notes.model.name == "toy-new"
    assert notes.search(TEXTS["d7"], k=1, mode="vector", space="text")[0].space == "text-2", (
        "the name stays usable"
    )


def test_what_was_added_before_is_unchanged_for_an_add_after_it_and_is_embedded_once(
    notes: Collection, new: Embedder
) -> None:
    notes.migrate(new)
    added = notes.add(list(TEXTS.values()), ids=list(TEXTS), metadata={"of": "TEXTS"})
    assert (added.unchanged, added.new, added.changed) == (60, 0, 0)
    texts = [text for text in embedded(new) if text in TEXTS.values()]
    assert sorted(texts) == sorted(TEXTS.values())


def test_another_process_finds_the_new_model_and_refuses_the_old_one(
    notes: Collection, old: Embedder, new: Embedder
) -> None:
    with Collection(notes.folder, model=old) as before:
        notes.migrate(new)
        with pytest.raises(CollectionError, match="was replaced by that of another model"):
            before._catalogue.write([before._catalogue.document("d1")])  # type: ignore[list-item]
        with pytest.raises(IdentityError):
            before.add("w1 w2", ids="late")
        with pytest.raises(IdentityError):
            before.search("w1", mode="vector")
    with pytest.raises(IdentityError, match="made by another model"):
        Collection(notes.folder, model=old)
    with Collection(notes.folder, model=new) as after:
        assert "late" not in after
        assert after.search(TEXTS["d3"], k=1)[0].document == "d3"


def test_documents_that_change_meanwhile_end_up_in_both_spaces_or_in_none(
    notes: Collection, old: Embedder, new: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0
    embed = migrating.Refill.embed

    def meddling(self: migrating.Refill, batch: object) -> int:
        nonlocal turns
        turns += 1
        done = embed(self, batch)  # type: ignore[arg-type]
        if turns == 1:
            with Collection(notes.folder, model=old) as other:
                other.delete(["d0", "d59"])
                other.add(["w1 added", "w2 changed"], ids=["added", "d1"])
                other.update("d2", {"of": "an update"})
                assert {hit.space for hit in other.search("w1", mode="vector")} == {"text"}
        return done

    monkeypatch.setattr(migrating.Refill, "embed", meddling)
    monkeypatch.setattr(migrating, "FIRST", 5)
    assert notes.migrate(new).switched
    wanted = {name: [text] for name, text in TEXTS.items() if name not in ("d0", "d59")}
    wanted |= {"added": ["w1 added"], "d1": ["w2 changed"]}
    assert in_space(notes, "text-2") == in_space(notes, "text") == wanted
    is_made_by(notes, "text-2", "new", 12)
    assert notes.get("d2")[0].metadata == {"of": "an update"}
    assert notes.check() == []


def test_what_was_done_before_an_interruption_is_not_done_again(
    notes: Collection, old: Embedder, new: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "FIRST", 7)
    monkeypatch.setattr(migrating, "PASSAGES", 7)
    embed, turns = migrating.Refill.embed, 0

    def interrupted(self: migrating.Refill, batch: object) -> int:
        nonlocal turns
        turns += 1
        if turns == 4:
            raise KeyboardInterrupt
        return embed(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(migrating.Refill, "embed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        notes.migrate(new)
    [state] = notes.migrations()
    assert (state.state, state.vectors, state.waiting) == ("filling", 21, 39)
    assert notes.search(TEXTS["d7"], k=1, mode="vector")[0].space == "text"
    assert notes.check() == []
    with Collection(notes.folder, model=old) as again:
        report = again.migrate(new)
    assert (report.passages, report.switched) == (39, True)
    texts = [text for text in embedded(new) if text in TEXTS.values()]
    assert len(texts) == len(set(texts)) == 60


def test_passages_that_are_too_long_are_cut_anew_for_both_models(tmp_path: Path) -> None:
    old, new = toy_texts("old", 40), toy_texts("new", 10, 12)
    texts = {f"d{i}": " ".join(f"w{i}x{j}" for j in range(8 * i + 3)) for i in range(12)}
    with Collection(tmp_path / "toys.omni", model=old) as notes:
        notes.add(list(texts.values()), ids=list(texts), metadata=[{"i": i} for i in range(12)])
        notes.migrate(new)
        assert all(len(text.split()) <= 10 for own in in_space(notes, "text-2").values() for text in own)
        assert in_space(notes, "text-2") == in_space(notes, "text")
        is_made_by(notes, "text-2", "new", 12)
        is_made_by(notes, "text", "old", 16)
        assert {one.id: one.text for one in notes.get(list(texts))} == texts
        assert [one.metadata for one in notes.get(["d3", "d11"])] == [{"i": 3}, {"i": 11}]
        assert notes.counts().lost == 0
        assert notes.check() == []
        assert (
            notes.add(list(texts.values()), ids=list(texts), metadata=[{"i": i} for i in range(12)]).unchanged
            == 12
        )
        with Collection(tmp_path / "fresh.omni", model=new) as fresh:
            fresh.add(texts["d11"], ids="d11")
            notes.delete("d11")
            notes.add(texts["d11"], ids="d11")
            assert in_space(notes, "text-2")["d11"] == in_space(fresh, "text")["d11"], (
                "later ones are cut for it too"
            )


def test_what_cannot_be_cut_finer_is_cut_off_and_counted(
    notes: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: object, document: object) -> None:
        raise OmnivecError("the old model is gone")

    monkeypatch.setattr(migrating.Refill, "_writers_of", fails)
    report = notes.migrate(toy_texts("short", 6))
    over = {name: len(text.split()) - 6 for name, text in TEXTS.items() if len(text.split()) > 6}
    assert report.lost == sum(over.values()) == notes.counts().lost
    assert set(report.notes) == set(over)
    assert report.switched
    is_made_by(notes, "text-2", "short", 16, limit=6)
    assert notes.check() == []


def test_going_back_embeds_what_was_added_since(notes: Collection, old: Embedder, new: Embedder) -> None:
    before = in_space(notes, "text")
    notes.migrate(new)
    notes.add("w3 since", ids="since")
    notes.delete("d5")
    report = notes.migrate_back()
    assert (report.switched, report.passages, report.target) == (True, 1, "text")
    del before["d5"]
    assert in_space(notes, "text") == {**before, "since": ["w3 since"]}
    is_made_by(notes, "text", "old", 16)
    assert notes.check() == []
    assert notes.search("w3 since", k=1, mode="vector")[0].document == "since"
    assert notes.migrate(new).passages == 0, "its vectors are still there"
    assert notes.spaces()["text-2"].state == "active"


def test_the_old_vectors_stay_until_they_are_dropped(notes: Collection, new: Embedder) -> None:
    with pytest.raises(UsageError, match="no space was replaced"):
        notes.drop_retired()
    notes.migrate(new)
    notes.drop_retired()
    assert list(notes.spaces()) == ["text-2"]
    assert notes.counts().vectors == {"text-2": 60}
    assert notes.check() == []
    assert notes.search(TEXTS["d7"], k=1)[0].document == "d7"
    with pytest.raises(UsageError, match="has taken the place of no other one"):
        notes.migrate_back()
    assert notes.add(list(TEXTS.values()), ids=list(TEXTS), metadata={"of": "TEXTS"}).unchanged == 60
    third = toy_texts("third")
    notes.migrate(third)
    assert {name: one.state for name, one in notes.spaces().items()} == {
        "text-2": "retired",
        "text-3": "active",
    }


def test_documents_that_cannot_be_embedded_keep_the_old_space_unless_that_is_allowed(
    notes: Collection,
) -> None:
    model = toy_texts("picky")
    notes.add("w1 w2", ids="odd")
    encoder_of(model).refused.add("w1 w2")
    report = notes.migrate(model)
    assert (report.switched, report.waiting, report.missing) == (False, 1, {"odd": "it cannot be read"})
    assert notes.search("w1 w2", k=1, mode="vector")[0].document == "odd"
    report = notes.migrate(model, allow_missing=True)
    assert (report.switched, report.waiting) == (True, 1)
    [state] = notes.migrations()
    assert (state.space, state.missing) == ("text", 1)
    assert "odd" not in in_space(notes, "text-2")
    encoder_of(model).refused.clear()
    assert notes.migrate(model).passages == 1, "what was missing can be added later"
    assert "odd" in in_space(notes, "text-2")
    assert notes.check() == []
    with pytest.raises(UsageError, match="nothing to do"):
        notes.migrate(model)


def test_wrong_requests_are_refused_in_one_line(notes: Collection, old: Embedder, new: Embedder) -> None:
    with pytest.raises(UsageError, match="'text' is by toy-old already: there is nothing to do"):
        notes.migrate(old)
    with pytest.raises(UsageError, match="reads images, but the space 'text' holds texts"):
        notes.migrate(toy_texts("new", modalities=("image",)))
    with pytest.raises(OmnivecError, match="no-such-model"):
        notes.migrate("no-such-model")
    with pytest.raises(
        UsageError, match="no space 'other' that a model has made; there are: 'text' by toy-old"
    ):
        notes.migrate(new, space="other")
    with (
        pytest.raises(UsageError, match="readonly"),
        Collection(notes.folder, model=old, readonly=True) as other,
    ):
        other.migrate(new)
    with (
        writer_lock(notes.folder, 0, file="migration.lock"),
        pytest.raises(CollectionBusy, match="is migrating"),
    ):
        notes.migrate(new)
    assert list(notes.spaces()) == ["text"]


def test_a_second_model_waits_for_the_first_migration_or_its_end(
    notes: Collection, new: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(migrating.Refill, "once", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        notes.migrate(new)
    with pytest.raises(UsageError, match="a migration to toy-new was begun"):
        notes.migrate(toy_texts("third"))
    notes.drop_retired(filling=True)
    assert list(notes.spaces()) == ["text"]
    assert notes.migrate(toy_texts("third")).switched
    assert notes.check() == []


def test_a_dry_run_changes_nothing_and_counts(notes: Collection, new: Embedder) -> None:
    before = notes._catalogue.changes()
    report = notes.migrate(new, dry_run=True)
    assert (report.waiting, report.bytes, report.dry_run) == (60, 60 * 12 * 4, True)
    assert report.seconds > 0
    assert notes._catalogue.changes() == before


def test_queries_of_the_new_model_are_mapped_into_the_old_vectors(notes: Collection, new: Embedder) -> None:
    with pytest.raises(UsageError, match="begin a migration first"):
        notes.bridge()
    notes.migrate(new)
    notes.migrate_back()
    bridge = notes.bridge(sample=60)
    mapped = bridge.transform(new.encode(list(TEXTS.values())))
    hits = [notes.search(query, k=5, space="text") for query in mapped]
    assert {hit.space for found in hits for hit in found} == {"text"}
    found = sum(name in [hit.document for hit in own] for name, own in zip(TEXTS, hits, strict=True))
    assert found > 20, "by chance it would be 5 of 60"
    with pytest.raises(UsageError, match="30 pairs of vectors"):
        notes.bridge(sample=30)


def test_no_file_of_vectors_from_before_is_used_after_the_switch(
    notes: Collection, old: Embedder, new: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A passage that is older than the newest one in a file may get its vector later."""
    monkeypatch.setattr(matrix, "_WORTHWHILE", 1)
    with Catalogue.open(notes.folder, create=False) as catalogue:
        keys = catalogue.vectors("text")[0].tolist()
    notes.migrate(new)
    with notes._catalogue._connections.transaction() as connection:  # as if it had failed
        connection.execute("DELETE FROM vectors WHERE passage = ? AND space = 2", (keys[3],))
    assert len(matrix.load(notes._catalogue, notes.folder, "text-2").keys) == 59
    assert list(notes.folder.glob("matrix-*"))
    notes.migrate_back()
    notes.migrate(new)
    assert matrix.load(notes._catalogue, notes.folder, "text-2").keys.tolist() == keys
    for name, text in TEXTS.items():
        assert notes.search(text, k=1, mode="vector")[0].score == pytest.approx(1), name


def test_images_are_read_again_and_a_missing_file_is_named(
    omni: CommandLine, vit: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from workbench import image_model

    second = image_model(tmp_path_factory.getbasetemp(), seed=1)
    pictures = write_pictures(omni.folder / "docs", 4)
    assert omni("index", "docs", f"--model=image={vit}", "-c", "n.omni").code == 0
    pictures[1].rename(omni.folder / "p001.png")
    ran = omni("collection", "migrate", f"--to={second}", "-c", "n.omni")
    assert ran.code == 3
    assert "docs/p001.png" in ran.err and "does not exist" in ran.err
    assert "1 passage could not be embedded, so image is still searched" in ran.out
    shown = omni("collection", "migrate", "--status", "--json", "-c", "n.omni")
    assert json.loads(shown.out)["waiting"] == 1
    ran = omni("collection", "migrate", f"--to={second}", "--allow-missing", "-c", "n.omni")
    assert "image-2 is searched now; 1 passage left out" in ran.out
    (omni.folder / "p001.png").rename(pictures[1])
    ran = omni("collection", "migrate", f"--to={second}", "-c", "n.omni")
    assert (ran.code, ran.out.splitlines()[1]) == (0, "image-2 is searched"), ran.err
    with Collection(omni.folder / "n.omni", models={"image": loaded(second)}) as notes:
        keys, vectors = notes._catalogue.vectors("image-2")
        found = [one.document for one in notes._catalogue.passages(keys).values()]
        wanted = loaded(second).encode([omni.folder / name for name in found])
        np.testing.assert_allclose(vectors, wanted, atol=1e-5)
        assert notes.check() == []


def test_the_command_changes_goes_back_and_drops(omni: CommandLine, tiny: Path, other: Path) -> None:
    write_files(omni.folder / "docs", [prose(i) for i in range(20)])
    assert omni("index", "docs", f"--model={tiny}", "-c", "n.omni").code == 0
    dry = omni("collection", "migrate", f"--to={other}", "--dry-run", "-c", "n.omni")
    assert dry.code == 0 and "would embed 20 passages" in dry.out
    ran = omni("collection", "migrate", f"--to={other}", "-c", "n.omni")
    assert ran.code == 0, ran.err
    assert "text-2 is searched now; text is kept until --drop-old" in ran.out
    again = omni("index", "docs", "-c", "n.omni")
    assert "0 new, 0 changed, 20 unchanged" in again.out, again.err
    back = omni("collection", "migrate", "--back", "-c", "n.omni")
    assert "text is searched now" in back.out, back.err
    assert omni("collection", "migrate", f"--to={other}", "--json", "-c", "n.omni").code == 0
    dropped = omni("collection", "migrate", "--drop-old", "-c", "n.omni")
    assert "bytes freed" in dropped.out, dropped.err
    assert omni("collection", "check", "-c", "n.omni").code == 0
    wrong = omni("collection", "migrate", "--back", "-c", "n.omni")
    assert wrong.code == 2 and len(wrong.err.splitlines()) == 1
    assert omni("collection", "migrate", "-c", "n.omni").code == 2
