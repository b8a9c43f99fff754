"""What `omnivec index` does with files that a stranger's folder holds: each named in one line, the others done."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from omnivec import Collection
from workbench import DROP, CommandLine, loaded, prose, whole, write_files

NOTES = "notes.omni"
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX file system")
linux = pytest.mark.skipif(sys.platform != "linux", reason="drops rights as Linux has them")


def make_bad(docs: Path) -> dict[str, str]:
    """What cannot be indexed: each with the kind that it is left out as; of a failure, a part of the reason."""
    bad: dict[str, tuple[bytes, str]] = {
        "empty.txt": (b"", "empty"),
        "blank.txt": (b" \n\t\n", "empty"),
        "picture.txt": (bytes(range(256)) * 40, "binary"),
        "broken.txt": ("naïve café ".encode() * 20 + b"\xe9\xff tail", "FAILED utf-8"),
        "endless.txt": (b"x" * 2_000_000, "endless lines"),
        "wide.txt": (b"word " * 400_000, "endless lines"),
        "zero-width.txt": ("\u200b\u200d\u2060".encode() * 5, "without text"),
        "frame.html": (b"<html><script>var x = 1;</script></html>", "without text"),
        "pointer.png": (b"version https://git-lfs.github.com/spec/v1\n", "no image"),
    }
    for name, (data, _) in bad.items():
        (docs / name).write_bytes(data)
    with (docs / "huge.txt").open("wb") as file:
        file.truncate(200 * 2**20)
    (docs / "dangling.txt").symlink_to("nowhere.txt")
    (docs / "loop.txt").symlink_to("loop.txt")
    os.mkfifo(docs / "pipe.txt")
    (docs / "two\nlines.txt").write_bytes(b"")
    why = {name: part for name, (_, part) in bad.items()}
    return why | {
        "huge.txt": "over the size limit",
        "dangling.txt": "broken link",
        "loop.txt": "link in a circle",
        "pipe.txt": "FIFO",
        "two\nlines.txt": "empty",
    }


@posix
def test_each_failure_is_named_what_holds_nothing_is_counted_and_the_others_are_done(
    omni: CommandLine, tiny: Path
) -> None:
    docs = omni.folder / "docs"
    write_files(docs, {"good.txt": prose(1), "sub/fine.md": prose(2)})
    why = make_bad(docs)
    (docs / "sub" / "up").symlink_to("..")
    name = os.fsdecode(b"caf\xe9.txt")
    (docs / name).write_text(prose(3))
    why["caf\\xe9.txt"] = "FAILED UTF-8"
    failed = {name: part.removeprefix("FAILED ") for name, part in why.items() if part.startswith("FAILED ")}
    kinds = {str(docs / name): kind for name, kind in why.items() if name not in failed}

    done = omni("index", "docs", "-c", NOTES, "-m", tiny)
    assert done.code == 3
    *lines, counted = done.errors
    assert counted.startswith("omnivec: left out: 3 empty, 2 endless lines, 2 without text, ")
    for kind, n in Counter(kinds.values()).items():
        assert f" {n} {kind}" in counted
    assert len(lines) == len(failed), done.err
    for name, part in failed.items():
        [line] = [line for line in lines if f"docs/{name}" in line]
        assert line.startswith("omnivec: ") and part in line
        assert "Traceback" not in line and "its earlier version" not in line
    assert "2 new" in done.out and f"{len(failed)} failed" in done.out
    with Collection(omni.folder / NOTES, create=False) as notes:
        assert [entry.id for entry in notes.documents()] == ["docs/good.txt", "docs/sub/fine.md"]
        whole(notes)

    again = omni("index", "docs", "-c", NOTES, "--json")
    assert again.code == 3
    *events, last = again.rows
    assert {event["status"] for event in events} == {"failed"} and len(events) == len(failed)
    assert all(event["why"] for event in events)
    assert last["summary"]["unchanged"] == 2 and len(last["summary"]["failed"]) == len(failed)
    assert last["summary"]["left_out"] == kinds
    assert last["summary"]["new"] == last["summary"]["changed"] == last["summary"]["removed"] == 0


def make_repository(folder: Path) -> None:
    """What any repository of source code holds."""
    subprocess.run(["git", "init", "-q", folder], check=True)
    write_files(
        folder,
        {
            "README.md": prose(1),
            "src/tool/main.py": '"""A tool."""\n\nprint("it works")\n',
            "src/tool/__init__.py": "",
            "tests/__init__.py": "\n",
            "data/.gitkeep": "",
            "data/keep.txt": "",
            "docs/frame.html": "<html><script>let x = 1;</script></html>",
            "docs/bundle.min.js": "x=1;" * 300_000,
        },
    )
    (folder / "logo.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (folder / "tool.bin").write_bytes(bytes(range(256)))
    (folder / "fixture.txt").write_bytes(bytes(range(256)) * 10)
    (folder / "latest.md").symlink_to("missing/release.md")
    (folder / "self").symlink_to("self")
    os.mkfifo(folder / "pipe")


@posix
def test_the_index_of_an_ordinary_repository_is_no_failure(omni: CommandLine, tiny: Path) -> None:
    make_repository(omni.folder / "repo")
    done = omni("index", "repo", "-c", NOTES, "-m", tiny)
    assert done.code == 0, done.err
    assert "2 new" in done.out and "0 failed" in done.out
    [line] = done.errors
    counted, _, names = line.removeprefix("omnivec: left out: ").partition("; ")
    assert names == "neither text nor image nor audio by their names: 1 .bin"
    kinds = ["binary", "without text", "endless lines", "no image", "broken link", "link in a circle", "FIFO"]
    assert sorted(counted.split(", ")) == sorted(["3 empty", *(f"1 {kind}" for kind in kinds)])
    named = omni("index", "repo/src/tool/__init__.py", "-c", NOTES)
    assert named.code == 3 and "__init__.py: empty" in named.err
    again = omni("index", "-c", NOTES)  # nothing is named: what was brought in before is looked through
    assert again.code == 0 and "left out: 3 empty" in again.err


@posix
def test_bad_roots_do_not_cost_the_good_ones(omni: CommandLine, tiny: Path) -> None:
    write_files(omni.folder, {"good.txt": prose(1), "late.txt": prose(2)})
    (omni.folder / os.fsdecode(b"\xff.txt")).write_text(prose(3))
    (omni.folder / os.fsdecode(b"\xff")).mkdir()
    write_files(omni.folder / os.fsdecode(b"\xff"), {"inside.txt": prose(4)})
    os.mkfifo(omni.folder / "pipe")
    done = omni(
        "index", "good.txt", b"\xff.txt", b"\xff", "absent", "pipe", "late.txt", "-c", NOTES, "-m", tiny
    )
    assert done.code == 3
    assert "Traceback" not in done.err and "fault" not in done.err
    named = [line for line in done.errors if line.endswith("rename it")]
    assert len(named) == 2 and all("\\xff" in line for line in named)
    assert sum("absent: does not exist" in line for line in done.errors) == 1
    assert sum("pipe: is a FIFO" in line for line in done.errors) == 1
    with Collection(omni.folder / NOTES, create=False) as notes:
        assert {"good.txt", "late.txt"} <= {entry.id for entry in notes.documents()}


@linux
def test_what_may_not_be_read_is_named_and_an_earlier_version_stays(omni: CommandLine, tiny: Path) -> None:
    docs = omni.folder / "docs"
    names = ("closed/a.txt", "shut/b.txt", "open.txt", "locked.txt")
    write_files(docs, {name: prose(i) for i, name in enumerate(names)})
    assert omni("index", "docs", "-c", NOTES, "-m", tiny).code == 0
    with Collection(omni.folder / NOTES, model=loaded(tiny)) as notes:
        before = notes.search("quick fox", 20)
    (docs / "locked.txt").write_text(prose(40))
    (docs / "open.txt").write_text(prose(41))
    (docs / "locked.txt").chmod(0)
    (docs / "closed").chmod(0)
    (docs / "shut").chmod(0o600)  # can be listed, not entered
    try:
        done = omni("index", "docs", "-c", NOTES, "--json", before=DROP)
    finally:
        for name in ("closed", "shut", "locked.txt"):
            (docs / name).chmod(0o700)
    assert done.code == 3, done.err
    events = {event["document"]: event for event in done.rows if "summary" not in event}
    assert events.pop("docs/open.txt")["status"] == "changed"
    assert all(event["status"] == "failed" for event in events.values())
    assert "its earlier version stays" in events[str(docs / "locked.txt")]["why"]
    assert done.rows[-1]["summary"]["removed"] == 0
    for name in ("closed", "shut", "locked.txt"):
        assert any(f"docs/{name}" in line and "permission denied" in line for line in done.errors), name
    with Collection(omni.folder / NOTES, model=loaded(tiny)) as notes:
        assert {entry.id for entry in notes.documents()} == {f"docs/{name}" for name in names}
        kept = {hit.id: hit.text for hit in notes.search("quick fox", 20)}
        assert all(kept[h.id] == h.text for h in before if h.document != "docs/open.txt")


@linux
def test_a_root_that_cannot_be_reached_keeps_its_documents(omni: CommandLine, tiny: Path) -> None:
    write_files(omni.folder / "way" / "docs", {"a.txt": prose(1)})
    write_files(omni.folder / "way", {"named.txt": prose(2)})
    assert omni("index", "way/docs", "way/named.txt", "-c", NOTES, "-m", tiny).code == 0
    (omni.folder / "way").chmod(0)
    try:
        done = omni("index", "way/docs", "-c", NOTES, before=DROP)
        above = omni("index", "way", "-c", NOTES, before=DROP)
    finally:
        (omni.folder / "way").chmod(0o700)
    for result in (done, above):
        assert result.code == 3
        assert "permission denied" in result.err and "fault" not in result.err
    with Collection(omni.folder / NOTES, create=False) as notes:
        assert len(notes) == 2


def test_an_older_version_stays_when_its_file_becomes_unfit_and_goes_when_it_becomes_empty(
    omni: CommandLine, tiny: Path
) -> None:
    write_files(omni.folder / "docs", {"a.txt": prose(1), "b.txt": prose(2), "c.txt": prose(3)})
    assert omni("index", "docs", "-c", NOTES, "-m", tiny).code == 0
    (omni.folder / "docs" / "a.txt").write_bytes(b"\x00\x01" * 50)
    (omni.folder / "docs" / "b.txt").unlink()
    (omni.folder / "docs" / "b.txt").mkdir()
    (omni.folder / "docs" / "c.txt").write_text("\u200b")
    done = omni("index", "docs", "-c", NOTES, "--json")
    assert done.code == 0
    with Collection(omni.folder / NOTES, create=False) as notes:
        assert [entry.id for entry in notes.documents()] == ["docs/a.txt"]
        assert notes.search("document number 1", mode="text")[0].text.startswith("Document number 1")
    assert sorted((e["document"], e["status"]) for e in done.rows[:-1]) == [
        ("docs/b.txt", "removed"),
        ("docs/c.txt", "removed"),
    ]
    assert any("kept docs/a.txt: its file is now left out: binary" in line for line in done.errors)
    assert any("docs/c.txt" in line and "its earlier version is removed" in line for line in done.errors)
    again = omni("index", "docs", "-c", NOTES)
    assert again.code == 0 and any("kept docs/a.txt" in line for line in again.errors)


def test_times_no_calendar_holds(omni: CommandLine, tiny: Path) -> None:
    write_files(omni.folder / "docs", {"future.txt": prose(1), "past.txt": prose(2), "zero.txt": prose(3)})
    for name, seconds in (("future.txt", 10**12), ("past.txt", -(10**11)), ("zero.txt", 0)):
        os.utime(omni.folder / "docs" / name, (seconds, seconds))
    done = omni("index", "docs", "-c", NOTES, "-m", tiny)
    assert (done.code, "3 new" in done.out) == (0, True), done.err
    again = omni("index", "docs", "-c", NOTES)
    assert (again.code, "3 unchanged" in again.out) == (0, True), again.err


def test_an_item_whose_vector_overflows_costs_only_itself(omni: CommandLine, tiny: Path) -> None:
    """Weights with an infinity for one word: every text with it has no vector."""
    import numpy as np
    from safetensors.numpy import load_file, save_file
    from tokenizers import Tokenizer

    model = omni.folder / "model"
    model.mkdir()
    shutil.copytree(tiny, model, dirs_exist_ok=True)
    tensors = load_file(model / "model.safetensors")
    word = Tokenizer.from_file(str(model / "tokenizer.json")).encode("owners").ids[1]
    tensors["embeddings.word_embeddings.weight"][word] = np.inf
    save_file(tensors, model / "model.safetensors")
    write_files(omni.folder / "docs", {"a.txt": "the quick fox", "b.txt": "cafe owners", "c.txt": "lazy dog"})
    done = omni("index", "docs", "-c", NOTES, "-m", model, "--json")
    assert done.code == 3, done.err
    [line] = [line for line in done.errors if "finite" in line]
    assert "docs/b.txt: " in line
    events = {event["document"]: event["status"] for event in done.rows[:-1]}
    assert events == {
        "docs/a.txt": "new",
        str(omni.folder / "docs" / "b.txt"): "failed",
        "docs/c.txt": "new",
    }


def test_an_encoding_is_that_of_files_that_are_not_utf8_and_can_be_corrected(
    omni: CommandLine, tiny: Path
) -> None:
    write_files(omni.folder / "docs", {"a.txt": "the naïve café owners\n"})
    other = omni.folder / "docs" / "b.txt"
    other.write_bytes("a złoty coin\n".encode("iso8859-2"))
    assert omni("index", "docs", "-c", NOTES, "-m", tiny, "--encoding", "cp1252").code == 0
    with Collection(omni.folder / NOTES, create=False) as notes:
        assert notes.search("café", 1, mode="text")[0].text == "the naïve café owners"
        assert notes.search("coin", 1, mode="text")[0].text == "a z³oty coin"
    right = omni("index", "docs", "-c", NOTES, "--encoding", "iso8859-2", "--json")
    assert [(event["document"], event["status"]) for event in right.rows[:-1]] == [("docs/b.txt", "changed")]
    for arguments in ((), ("--encoding", "iso8859-2"), ("--encoding", "ascii", "--encoding", "iso8859-2")):
        again = omni("index", "docs", "-c", NOTES, "--json", *arguments)
        assert json.loads(again.out)["summary"]["unchanged"] == 2
    other.write_bytes("two złoty coins\n".encode("iso8859-2"))
    assert omni("index", "docs", "-c", NOTES).code == 0  # the encoding is remembered
    with Collection(omni.folder / NOTES, create=False) as notes:
        assert notes.search("coin", 1, mode="text")[0].text == "two złoty coins"
    other.write_text("now in UTF-8: złoty\n", encoding="utf-8")
    assert omni("index", "docs", "-c", NOTES).code == 0
    with Collection(omni.folder / NOTES, create=False) as notes:
        assert notes.search("utf", 1, mode="text")[0].text == "now in UTF-8: złoty"


def test_what_an_older_version_read_in_the_encoding_of_the_run_is_read_again(
    omni: CommandLine, tiny: Path
) -> None:
    write_files(omni.folder / "docs", {"a.txt": "the naïve café\n"})
    (omni.folder / "docs" / "b.txt").write_bytes(b"the na\xefve owner\n")
    assert omni("index", "docs", "-c", NOTES, "-m", tiny, "--encoding", "cp1252").code == 0
    with sqlite3.connect(omni.folder / NOTES / "catalogue.sqlite", isolation_level=None) as file:
        file.execute("UPDATE documents SET how = replace(how, ' read as cp1252', '') || ' encoding=cp1252'")
    file.close()
    again = omni("index", "docs", "-c", NOTES, "--json")
    assert [(event["document"], event["status"]) for event in again.rows[:-1]] == [("docs/a.txt", "changed")]


def test_an_unknown_encoding_is_refused_before_any_work(omni: CommandLine, tiny: Path) -> None:
    write_files(omni.folder / "docs", {"a.txt": "a text\n"})
    unknown = omni("index", "docs", "-c", NOTES, "-m", tiny, "--encoding", "no-such")
    assert unknown.code == 2 and unknown.errors == [
        "omnivec: encoding 'no-such' is not known to Python; use for instance utf-8 or cp1252"
    ]
    assert not (omni.folder / NOTES).exists()


def test_a_path_that_is_misspelt_makes_no_collection(omni: CommandLine, tiny: Path) -> None:
    done = omni("index", "dosc", "-c", NOTES, "-m", tiny)
    assert done.code == 1 and "dosc: does not exist" in done.err and len(done.errors) == 1
    assert not (omni.folder / NOTES).exists()
