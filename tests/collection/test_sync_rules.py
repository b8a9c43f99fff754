"""What a sync takes, leaves alone, removes, and keeps because it cannot prove that it is gone."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from omnivec import Collection
from omnivec.collection.syncing import Event, SyncReport
from workbench import contents, loaded, prose, whole, write_files


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    write_files(
        folder, {"a.txt": prose(1), "b.md": prose(2), "sub/c.txt": prose(3), "sub/deep/d.rst": prose(4)}
    )
    return folder


def outcome(report: SyncReport) -> tuple[int, int, int, int, int]:
    return report.new, report.changed, report.unchanged, report.removed, len(report.failed)


def ids(notes: Collection) -> list[str]:
    return [entry.id for entry in notes.documents()]


def age(*files: Path) -> None:
    """Makes files old enough that their times prove something."""
    for file in files:
        os.utime(file, ns=(time.time_ns() - 10**10,) * 2)


def test_new_changed_unchanged_removed_each_told_after_its_commit(notes: Collection, docs: Path) -> None:
    events: list[tuple[str, str]] = []

    def tell(event: Event) -> None:
        there = event.document in ids(notes)
        assert there == (event.status != "removed")
        events.append((event.document, event.status))

    assert outcome(notes.sync(docs, on_event=tell)) == (4, 0, 0, 0, 0)
    assert events == [(name, "new") for name in ids(notes)]
    assert ids(notes) == ["docs/a.txt", "docs/b.md", "docs/sub/c.txt", "docs/sub/deep/d.rst"]
    (docs / "a.txt").write_text(prose(10))
    (docs / "e.txt").write_text(prose(5))
    (docs / "b.md").unlink()
    events.clear()
    assert outcome(notes.sync(docs, on_event=tell)) == (1, 1, 2, 1, 0)
    assert sorted(events) == [
        ("docs/a.txt", "changed"),
        ("docs/b.md", "removed"),
        ("docs/e.txt", "new"),
        ("docs/sub/c.txt", "unchanged"),
        ("docs/sub/deep/d.rst", "unchanged"),
    ]
    whole(notes)


def test_a_sync_without_news_writes_nothing(notes: Collection, docs: Path) -> None:
    notes.sync(docs)
    state = notes._catalogue.changes()
    assert outcome(notes.sync(docs)) == (0, 0, 4, 0, 0)
    assert notes._catalogue.changes() == state
    age(*(file for file in docs.rglob("*.*") if file.is_file()))
    assert outcome(notes.sync(docs)) == (0, 0, 4, 0, 0)  # the new times are noted once
    state = notes._catalogue.changes()
    notes.sync(docs)
    assert notes._catalogue.changes() == state


def test_touched_files_are_read_and_left_alone(
    notes: Collection, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes.sync(docs)
    before = contents(notes)
    age(docs / "a.txt", docs / "b.md", docs / "sub/c.txt", docs / "sub/deep/d.rst")
    assert outcome(notes.sync(docs)) == (0, 0, 4, 0, 0)
    contents(notes).same_as(before)

    def unread(*arguments: object, **settings: object) -> None:
        raise AssertionError("a file whose time proves it unchanged was read")

    monkeypatch.setattr("omnivec.collection.syncing.read", unread)
    assert outcome(notes.sync(docs)) == (0, 0, 4, 0, 0)


@pytest.mark.parametrize("slow", [0.0, 2.5])
def test_a_change_that_keeps_size_and_time_is_noticed_within_the_clocks_grain(
    notes: Collection, docs: Path, slow: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file written, read, and written again within one tick of a coarse clock; however long embedding takes."""
    (docs / "a.txt").write_text("the quick fox")
    then = (docs / "a.txt").stat()
    notes.add("what comes first makes the space")
    embedder = notes.model
    run = embedder.run

    def slowly(*arguments: object, **settings: object) -> object:
        (docs / "a.txt").write_text("the lazy dogs"[: then.st_size])
        os.utime(docs / "a.txt", ns=(then.st_atime_ns, then.st_mtime_ns))
        time.sleep(slow)
        return run(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(embedder, "run", slowly)
    notes.sync(docs)
    monkeypatch.undo()
    now = (docs / "a.txt").stat()
    assert (now.st_mtime_ns, now.st_size) == (then.st_mtime_ns, then.st_size)
    assert outcome(notes.sync(docs)) == (0, 1, 3, 0, 0)
    assert notes.search("lazy", mode="text")[0].text == "the lazy dogs"


def test_rules_added_later_remove(notes: Collection, docs: Path) -> None:
    notes.sync(docs)
    (docs / ".omnivecignore").write_text("*.md\n")
    (docs / "sub" / ".gitignore").write_text("deep/\n")
    assert outcome(notes.sync(docs)) == (0, 0, 2, 2, 0)
    (docs / ".omnivecignore").write_text("*\n")  # the folder is there and full: nothing is to be taken
    report = notes.sync(docs)
    assert (report.removed, report.kept, ids(notes)) == (2, {}, [])


def test_hidden_files_come_and_go_with_their_option(notes: Collection, docs: Path) -> None:
    write_files(docs, {".secret.txt": prose(9), ".hid/x.txt": prose(8)})
    assert notes.sync(docs, hidden=True).new == 6
    assert notes.sync(docs).removed == 2


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    (folder / "left" / "over").mkdir(parents=True)


def a_dead_link(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("how", "why"), [(gone, "does not exist"), (emptied, "not mounted"), (a_dead_link, "does not exist")]
)
def test_a_root_that_is_missing_or_empty_keeps_its_documents_and_says_so(
    notes: Collection, docs: Path, how: Callable[[Path], None], why: str
) -> None:
    notes.sync(docs)
    how(docs)
    report = notes.sync(docs)
    assert (report.removed, len(notes)) == (0, 4)
    said = [*report.failed.values(), *report.kept.values()]
    assert any(why in line for line in said), said
    assert set(report.kept) == set(ids(notes))


def test_an_emptied_folder_below_a_root_is_gone(notes: Collection, docs: Path) -> None:
    notes.sync(docs)
    shutil.rmtree(docs / "sub")
    (docs / "sub").mkdir()
    assert notes.sync(docs).removed == 2


def test_other_roots_are_untouched(notes: Collection, docs: Path, tmp_path: Path) -> None:
    write_files(tmp_path / "other", {"x.txt": prose(7)})
    write_files(tmp_path / "docs-too", {"y.txt": prose(8)})  # a name that begins like the other's
    notes.sync([docs, tmp_path / "other", tmp_path / "docs-too"])
    shutil.rmtree(tmp_path / "other")
    shutil.rmtree(tmp_path / "docs-too")
    (docs / "a.txt").unlink()
    assert notes.sync(docs).removed == 1
    assert {"other/x.txt", "docs-too/y.txt"} <= set(ids(notes))
    notes.add("from memory", ids="docs/imagined.txt")
    assert outcome(notes.sync(docs)) == (0, 0, 3, 0, 0)
    assert "docs/imagined.txt" in ids(notes)
    assert notes.roots() == ("docs", "docs-too", "other")


@pytest.mark.parametrize("order", [("docs", "docs/sub"), ("docs/sub", "docs"), ("docs", "docs")])
def test_overlapping_roots_count_everything_once(
    notes: Collection, docs: Path, tmp_path: Path, order: tuple[str, str]
) -> None:
    roots = [tmp_path / name for name in order]
    (docs / "sub" / "bad.txt").write_bytes(b"caf\xe9")
    (docs / "sub" / "empty.txt").write_bytes(b"")
    (docs / "sub" / "gone.txt").symlink_to("nowhere")
    events: list[Event] = []
    report = notes.sync(roots, on_event=events.append)
    assert outcome(report) == (4, 0, 0, 0, 1) and len(events) == 5
    assert sorted(report.left_out.values()) == ["broken link", "empty"]
    (docs / "sub" / "c.txt").unlink()
    events.clear()
    assert outcome(notes.sync(roots, on_event=events.append)) == (0, 0, 3, 1, 1)
    assert sum(event.status == "removed" for event in events) == 1


def test_of_two_roots_the_doubting_one_counts(notes: Collection, docs: Path) -> None:
    """The folder above proves the files gone; but whoever names an empty folder may have a disk to mount there."""
    notes.sync([docs, docs / "sub"])
    shutil.rmtree(docs / "sub")
    (docs / "sub").mkdir()
    report = notes.sync([docs, docs / "sub"])
    assert report.removed == 0
    assert set(report.kept) == {"docs/sub/c.txt", "docs/sub/deep/d.rst"}


def test_what_was_named_itself_is_not_the_folders_to_remove(notes: Collection, docs: Path) -> None:
    write_files(docs, {"table.xyz": prose(6), ".hidden.txt": prose(7), "added.xyz": prose(8)})
    notes.sync([docs / "table.xyz", docs / ".hidden.txt"])
    notes.add(docs / "added.xyz")
    assert outcome(notes.sync(docs)) == (4, 0, 0, 0, 0)
    assert len(notes) == 7
    for name in ("table.xyz", "added.xyz"):
        (docs / name).unlink()
    assert notes.sync(docs).removed == 2
    assert "docs/.hidden.txt" in ids(notes)


def test_a_named_file_that_is_missing_keeps_its_document(notes: Collection, docs: Path) -> None:
    notes.sync(docs / "a.txt")
    (docs / "a.txt").unlink()
    report = notes.sync(docs / "a.txt")
    assert "does not exist" in report.failed[str(docs / "a.txt")]
    assert ids(notes) == ["docs/a.txt"]


def test_a_dry_run_says_it_all_and_changes_nothing(notes: Collection, docs: Path) -> None:
    notes.sync(docs)
    (docs / "a.txt").write_text(prose(10))
    (docs / "e.txt").write_text(prose(5))
    (docs / "f.txt").write_bytes(b"caf\xe9")
    (docs / "b.md").unlink()
    state, before = notes._catalogue.changes(), contents(notes)
    files = {file: file.stat().st_mtime_ns for file in notes.folder.iterdir()}
    events: list[Event] = []
    report = notes.sync(docs, dry_run=True, on_event=events.append)
    assert report.dry_run and outcome(report) == (1, 1, 2, 1, 1)
    assert len(events) == 6
    assert notes._catalogue.changes() == state
    contents(notes).same_as(before)
    assert {file: file.stat().st_mtime_ns for file in notes.folder.iterdir()} == files
    assert outcome(notes.sync(docs)) == outcome(report)


def test_a_dry_run_into_an_empty_collection_needs_no_model(tmp_path: Path, docs: Path) -> None:
    with Collection(tmp_path / "new.omni", model="no/such-model-anywhere") as new:
        assert outcome(new.sync(docs, dry_run=True)) == (4, 0, 0, 0, 0)
        assert new.space() is None and new.roots() == ()
        assert [file.name for file in new.folder.glob("*.lock")] == []


def test_renames(notes: Collection, docs: Path) -> None:
    notes.sync(docs)
    (docs / "sub").rename(docs / "moved")
    (docs / "a.txt").rename(docs / "A.txt")
    report = notes.sync(docs)
    assert (report.new, report.removed) == (3, 3)
    assert ids(notes) == ["docs/A.txt", "docs/b.md", "docs/moved/c.txt", "docs/moved/deep/d.rst"]


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_project_and_its_collection_move_together(
    tmp_path: Path, cache: Path, tiny: Path, how: str
) -> None:
    old, new = tmp_path / "old", tmp_path / "elsewhere" / "new"
    write_files(old / "docs", {"a.txt": prose(1), "sub/b.txt": prose(2)})
    with Collection(old / ".omnivec", model=loaded(tiny)) as notes:
        notes.sync(old / "docs")
        before = contents(notes)
    new.parent.mkdir()
    if how == "moved":
        old.rename(new)
    else:
        shutil.copytree(old, new, copy_function=shutil.copyfile)  # with new times
    with Collection(new / ".omnivec", model=loaded(tiny)) as notes:
        assert outcome(notes.sync(new / "docs")) == (0, 0, 2, 0, 0)
        contents(notes).same_as(before)
        assert notes.path_of("docs/a.txt") == new / "docs" / "a.txt"


def test_a_project_reached_through_a_link_is_the_same_project(
    tmp_path: Path, cache: Path, tiny: Path
) -> None:
    write_files(tmp_path / "real" / "docs", {"a.txt": prose(1)})
    (tmp_path / "link").symlink_to("real")
    for collection, root in (("real", "real"), ("link", "real"), ("link", "link")):
        with Collection(tmp_path / collection / ".omnivec", model=loaded(tiny)) as notes:
            notes.sync(tmp_path / root / "docs")
            assert ids(notes) == ["docs/a.txt"]


def test_many_roots_read_the_catalogue_once(
    notes: Collection, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell's docs/*.txt gives a root for each file; each against all documents would take their product."""
    write_files(docs / "many", [f"note {i}" for i in range(60)])
    files = sorted((docs / "many").iterdir())
    notes.sync(files)
    calls, documents = [], notes._catalogue.documents
    monkeypatch.setattr(notes._catalogue, "documents", lambda: calls.append(1) or documents())
    assert outcome(notes.sync(files)) == (0, 0, 60, 0, 0)
    assert len(calls) == 1
