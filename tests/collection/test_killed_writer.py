"""Acknowledged means committed: writers killed at any moment, and write-ahead logs cut at any byte."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

import forked
from omnivec import Collection
from workbench import MAIN, CommandLine, contents, loaded, prose, whole, write_files, write_pictures

FILES = 100
KILLS = {"texts": 50, "texts and images": 16}

# More commits in the same time: more moments that could go wrong.
SMALL_COMMITS = "from omnivec.collection import indexing; indexing.PASSAGES = 14; indexing.BYTES = 7_000"


def passages_of(collection: Collection, document: str) -> int:
    """How many passages of a document are there, each with a vector and found by its words."""
    catalogue = collection._catalogue
    keys = catalogue.keys_of([document])
    having = [key for space in catalogue.spaces() for key in catalogue.vectors(space, keys)[0].tolist()]
    assert sorted(having) == keys.tolist()
    return len(keys)


def killed(omni: CommandLine, arguments: Sequence[str], out: Path, seconds: float, lines: int) -> None:
    """Runs a command and kills it: so long after it wrote so many lines."""
    server = forked.server()
    out.write_bytes(b"")
    nothing = Path(os.devnull)
    server.start(
        f"{SMALL_COMMITS}\n{MAIN}", arguments, omni.folder, omni.environment(), [nothing, out, nothing]
    )
    while lines and not server.ended() and out.read_bytes().count(b"\n") < lines:
        time.sleep(0.002)
    time.sleep(seconds)
    server.kill()
    server.wait()


@pytest.mark.slow
@pytest.mark.skipif(not forked.POSSIBLE, reason="killed processes are forked, for their number")
@pytest.mark.parametrize("kind", KILLS)
def test_a_killed_index_keeps_what_it_said_and_the_next_one_ends_as_if_undisturbed(
    omni: CommandLine, tiny: Path, vit: Path, tmp_path: Path, kind: str
) -> None:
    images = 0 if kind == "texts" else FILES // 2
    write_files(omni.folder / "docs", [prose(i, 60) for i in range(FILES - images)])
    write_pictures(omni.folder / "docs", images)
    models = {"text": loaded(tiny), "image": loaded(vit)}
    named = [f"--model={modality}={folder}" for modality, folder in (("text", tiny), ("image", vit))]
    arguments = ("index", "docs", "--json", *named, "-c", "notes.omni")
    done = omni(*arguments, before=SMALL_COMMITS)  # a new process; those that are killed are forked
    assert done.code == 0, done.err
    with Collection(omni.folder / "notes.omni", models=models) as undisturbed:
        whole(undisturbed)
        wanted = contents(undisturbed)
        assert len(wanted.documents) == FILES < undisturbed.counts().passages
    shutil.rmtree(omni.folder / "notes.omni")
    omni.forked("--version")  # what forks is there before time is taken
    begun = time.monotonic()
    assert omni.forked(*arguments, before=SMALL_COMMITS).code == 0
    whole_run = time.monotonic() - begun
    shutil.rmtree(omni.folder / "notes.omni")

    chance, seen = random.Random(11), Counter[str]()
    for turn in range(KILLS[kind]):
        out = tmp_path / "said.jsonl"
        if turn % 2:  # anywhere in its run time
            seconds, lines = chance.uniform(0.0, whole_run), 0
        else:  # while it writes: after some line, within the time of one batch
            seconds, lines = chance.uniform(0.0, whole_run / 10), chance.randrange(1, FILES)
        killed(omni, arguments, out, seconds, lines)
        raw = out.read_bytes()
        said = [json.loads(line) for line in raw[: raw.rfind(b"\n") + 1].splitlines()]
        said = [line for line in said if "summary" not in line]
        if not (omni.folder / "notes.omni" / "catalogue.sqlite").exists():
            assert not said
            seen["before there was anything"] += 1
            continue
        with Collection(omni.folder / "notes.omni", models=models) as left:
            whole(left)
            there = {entry.id: entry.passages for entry in left.documents()}
            for line in said:
                assert line["status"] == "new"
                assert there[line["document"]] == line["passages"] == passages_of(left, line["document"])
            contents(left).same_as(wanted, there)
            some = 0 < len(there) < FILES
            seen["half way" if some else "at the end" if there else "before the first commit"] += 1
            if some or turn % 5 == 0:
                report = left.sync(omni.folder / "docs")
                assert (report.new, report.unchanged) == (FILES - len(there), len(there))
                assert not report.failed and not report.changed
                whole(left)
                contents(left).same_as(wanted)
        shutil.rmtree(omni.folder / "notes.omni")
    assert seen["half way"] >= KILLS[kind] // 4, seen  # else the moments missed what this is about


def test_a_log_cut_anywhere_loses_only_what_was_not_yet_wholly_in_it(
    tmp_path: Path, cache: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power cut leaves: the file, and a prefix of its log, perhaps with foreign bytes at the end."""
    monkeypatch.setattr("omnivec.store.connections._LOG_BYTES", 2**40)  # one log for all commits
    folder = tmp_path / "notes.omni"
    log = folder / "catalogue.sqlite-wal"
    acknowledged: list[tuple[int, str]] = []  # (size of the log after the commit, id)
    with Collection(folder, model=loaded(tiny)) as notes:
        notes.add("the first")
        started = log.stat().st_size
        for i in range(30):
            name = f"note {i}"
            notes.add(prose(i, 30 + 10 * i), ids=name)
            acknowledged.append((log.stat().st_size, name))
        sizes = [started, *(size for size, _ in acknowledged)]
        assert sizes == sorted(set(sizes)), "a checkpoint began the log anew: no use for this test"
        taken = tmp_path / "taken"
        taken.mkdir()
        for name in ("catalogue.sqlite", "catalogue.sqlite-wal"):
            shutil.copy(folder / name, taken / name)
    raw = (taken / "catalogue.sqlite-wal").read_bytes()
    chance = random.Random(5)
    edges = [size + d for size, _ in acknowledged[::6] for d in (-1, 0, 1)]
    cuts = [0, 1, 31, 32, 33, len(raw), *edges, *(chance.randrange(len(raw)) for _ in range(50))]
    for turn, place in enumerate(cut for cut in cuts if cut <= len(raw)):
        copy = tmp_path / f"cut-{turn}"
        shutil.copytree(taken, copy)
        tail = chance.randbytes(chance.randrange(40_000)) if turn % 3 == 0 else b""
        (copy / "catalogue.sqlite-wal").write_bytes(raw[:place] + tail)
        try:
            with Collection(copy, model=loaded(tiny), create=False) as left:
                whole(left)
                there = {entry.id for entry in left.documents()}
                kept = {name for size, name in acknowledged if size <= place}
                assert kept == {name for name in there if name.startswith("note")}
                left.add("and it goes on", ids="after")
                whole(left)
        except Exception as error:
            raise AssertionError(
                f"log cut at byte {place} of {len(raw)}, {len(tail)} foreign bytes"
            ) from error
        shutil.rmtree(copy)
