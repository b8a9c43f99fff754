"""Builds of an index in a process of its own: extended, interrupted, killed, two at once, read meanwhile."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from omnivec.errors import CollectionError, UsageError
from omnivec.store import index_files
from omnivec.store.index_builder import Builder, build
from omnivec.store.indexes.faiss import FaissIndex
from patience import PATIENCE
from store_samples import document


def fill(catalogue, name="a", passages=600):
    """Adds a document, whose passages have vectors that are drawn."""
    made, chance = document(name, ["text"] * passages), np.random.default_rng(len(name) + ord(name[0]))
    rows = chance.standard_normal((passages, 1, 4)).astype(np.float32)
    listed = [replace(one, vectors={"text": row}) for one, row in zip(made.passages, rows, strict=True)]
    catalogue.write([replace(made, passages=tuple(listed))])


def newest(catalogue):
    return index_files.newest(catalogue, catalogue.folder, "text", "faiss")


def builder(catalogue):
    return Builder(catalogue.folder, "text", "faiss")


def test_a_build_reports_progress_and_what_it_built(catalogue):
    fill(catalogue)
    told = []
    built = builder(catalogue).run(lambda *line: told.append(line))
    assert (built.space, built.rows, built.added) == ("text", 600, 600)
    assert built.recall == newest(catalogue).header.facts["recall"] and built.bytes == newest(catalogue).size
    assert [line[0] for line in told] == ["reading", "training", "adding"]
    assert told[-1] == ("adding", 600, 600)
    again = builder(catalogue).run(lambda *line: None)
    assert (again.rows, again.added) == (600, 0)


def test_an_index_is_extended_until_it_has_doubled(catalogue, monkeypatch):
    made, whole = [], vars(FaissIndex)["build"].__func__

    def counted(cls, *of):
        made.append(of)
        return whole(cls, *of)

    monkeypatch.setattr(FaissIndex, "build", classmethod(counted))
    fill(catalogue)
    build(catalogue, catalogue.folder, "text", "faiss")
    for i, passages in enumerate((300, 200)):
        fill(catalogue, f"{i}", passages)
        built = build(catalogue, catalogue.folder, "text", "faiss")
        keys, vectors = catalogue.vectors("text")
        assert built.added == passages and len(made) == 1
        assert newest(catalogue).header.rows == len(keys) == len(newest(catalogue).index)
        assert keys[-1] in newest(catalogue).index.search(vectors[-1:], 10)[0]
    fill(catalogue, "c", 400)
    assert build(catalogue, catalogue.folder, "text", "faiss").added == 1500
    assert len(made) == 2 and newest(catalogue).header.trained == 1500


def test_removed_vectors_leave_the_index(catalogue):
    fill(catalogue)
    fill(catalogue, "b", 50)
    build(catalogue, catalogue.folder, "text", "faiss")
    removed = set(catalogue.vectors("text")[0])
    catalogue.delete(["b"])
    trained = newest(catalogue).header.trained
    build(catalogue, catalogue.folder, "text", "faiss")
    assert newest(catalogue).header.trained == trained == 650  # extended, not built anew
    keys, vectors = catalogue.vectors("text")
    removed -= set(keys)
    assert len(removed) == 50 and len(newest(catalogue).index) == 600
    found, _ = newest(catalogue).index.search(vectors[-5:], 600)
    assert removed.isdisjoint(found.ravel())


def test_what_cannot_be_built_is_said_in_a_line(catalogue):
    fill(catalogue)
    with pytest.raises(CollectionError, match="no space 'other' in this collection; there are: text"):
        Builder(catalogue.folder, "other", "faiss").run(lambda *line: None)
    with pytest.raises(UsageError, match="no space 'other'"):
        build(catalogue, catalogue.folder, "other", "faiss")


def test_an_empty_space_has_an_empty_index(catalogue):
    build(catalogue, catalogue.folder, "text", "faiss")
    assert len(newest(catalogue).index) == 0
    fill(catalogue)
    assert build(catalogue, catalogue.folder, "text", "faiss").rows == 600


def test_a_killed_build_leaves_nothing_that_is_used_and_the_next_one_ends(catalogue):
    fill(catalogue)
    build(catalogue, catalogue.folder, "text", "faiss")
    before = newest(catalogue).header
    fill(catalogue, "b", 900)
    chance = random.Random(0)
    for _ in range(4):
        running = builder(catalogue)
        running.start()
        time.sleep(chance.uniform(0, 1.5))
        running.stop()
        read = newest(catalogue)
        assert read.header.rows in (600, 1500) and len(read.index) == read.header.rows
    assert before.rows == 600
    built = builder(catalogue).run(lambda *line: None)
    assert built.rows == newest(catalogue).header.rows == 1500
    assert index_files.problems(catalogue, catalogue.folder) == []
    assert len(list(catalogue.folder.glob("index-*.faiss"))) == 1


def test_two_builds_at_once_are_one(catalogue):
    fill(catalogue)
    one, other = builder(catalogue), builder(catalogue)
    one.start()
    built = other.run(lambda *line: None)  # waits for the first one, if that came first
    assert one.wait(PATIENCE) and not one.running
    assert built.rows == newest(catalogue).header.rows == 600
    assert len(list(catalogue.folder.glob("index-*.faiss"))) == 1


def test_a_reader_uses_the_older_index_until_the_newer_one_is_there(catalogue):
    fill(catalogue)
    build(catalogue, catalogue.folder, "text", "faiss")
    fill(catalogue, "b", 700)
    running = builder(catalogue)
    running.start()
    seen = []
    while running.running:
        read = newest(catalogue)
        seen.append(read.header.rows)
        assert len(read.index) == seen[-1]
    assert set(seen) <= {600, 1300} and seen == sorted(seen)
    assert newest(catalogue).header.rows == 1300


def test_a_build_ends_with_the_process_that_started_it(catalogue):
    fill(catalogue)
    code = (
        "import sys, os, pathlib\n"
        "from omnivec.store import index_builder\n"
        "b = index_builder.Builder(pathlib.Path(sys.argv[1]), 'text', 'faiss')\n"
        "handle = os.open(pathlib.Path(sys.argv[1]) / index_builder.LOCK, os.O_RDWR | os.O_CREAT)\n"
        "import fcntl; fcntl.flock(handle, fcntl.LOCK_EX)\n"  # so that the build cannot end by itself
        "process = b._started(['--wait'], None)\n"
        "print(process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(catalogue.folder)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
    )
    child = int(done.stdout.split()[0])
    deadline = time.monotonic() + PATIENCE
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert newest(catalogue) is None or newest(catalogue).header.rows == 600


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stream:  # noqa: PTH123
            return stream.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_vectors_of_a_document_stay_together(catalogue):
    catalogue.write([document("a", ["text"] * 300, parts=3)])
    build(catalogue, catalogue.folder, "text", "faiss")
    found, _ = newest(catalogue).index.search(np.ones((1, 4), np.float32), 60)
    kept = found[found >= 0]
    assert len(np.unique(kept)) == len(kept)
