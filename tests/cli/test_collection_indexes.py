"""`omnivec collection build-index`, and the build at the end of `omnivec collection import`."""

from __future__ import annotations

import json

import numpy as np

from workbench import CommandLine

NOTES = "notes.omni"
LARGE = "import omnivec.store.matrix as m; m.EXACT_ROWS = 100; m._WORTHWHILE = 50"
"""Spaces are large from 101 vectors on."""


def write(omni: CommandLine, name: str, first: int, count: int) -> None:
    vectors = np.random.default_rng(first).standard_normal((count, 16))
    lines = [json.dumps({"id": f"{first + i}", "vector": row}) for i, row in enumerate(vectors.tolist())]
    (omni.folder / name).write_text("\n".join(lines) + "\n")


def test_an_import_ends_with_the_index_and_a_command_extends_it(omni: CommandLine) -> None:
    write(omni, "a.jsonl", 0, 400)
    write(omni, "b.jsonl", 400, 20)
    done = omni("collection", "import", "a.jsonl", "-c", NOTES, "--vector", "vector", before=LARGE)
    assert done.code == 0 and "index of vectors: 400 vectors, 400 added; recall 1.000, " in done.err
    [file] = (omni.folder / NOTES).glob("index-vectors~*.faiss")
    # A twentieth more is no reason to build; those vectors are compared.
    more = omni("collection", "import", "b.jsonl", "-c", NOTES, "--vector", "vector", before=LARGE)
    assert (more.code, more.err, file.exists()) == (0, "", True)
    [built] = omni("collection", "build-index", "-c", NOTES, "--json", before=LARGE).rows
    assert (built["space"], built["rows"], built["added"]) == ("vectors", 420, 20)
    assert not file.exists() and len(list((omni.folder / NOTES).glob("index-*.faiss"))) == 1
    again = omni("collection", "build-index", "vectors", "-c", NOTES)
    assert again.code == 0 and again.out.startswith("vectors: 420 vectors, 0 added; ")
    checked = omni("collection", "check", "-c", NOTES)
    assert checked.code == 0 and "sound" in checked.out


def test_small_and_unknown_spaces_are_named_in_one_line(omni: CommandLine) -> None:
    write(omni, "a.jsonl", 0, 30)
    assert omni("collection", "import", "a.jsonl", "-c", NOTES, "--vector", "vector").code == 0
    done = omni("collection", "build-index", "-c", NOTES)
    assert (done.code, done.out.splitlines()) == (
        0,
        ["no space has more than 50,000 vectors; smaller ones are searched without an index"],
    )
    wrong = omni("collection", "build-index", "words", "-c", NOTES)
    assert (
        wrong.code,
        wrong.err,
    ) == (2, "omnivec: no space 'words' in this collection; there are: vectors\n")
