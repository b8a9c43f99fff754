"""Several threads and processes on one collection, and writers that are killed."""

from __future__ import annotations

import multiprocessing
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from omnivec.store.sqlite import Catalogue
from patience import PATIENCE
from store_samples import document, space


def read_consistently(catalogue):
    """One look: every document that is there has all of its parts. Documents are written in pairs."""
    with catalogue.snapshot():
        entries = catalogue.documents()
        keys = catalogue.passage_keys({})
        rows, vectors = catalogue.vectors("text")
        hits = catalogue.text_search("pair", 10_000)
        found = catalogue.passages(keys)
        changes = catalogue.changes()[0]
    assert len(entries) % 2 == 0
    assert len(keys) == 3 * len(entries) == len(hits) == len(found)
    np.testing.assert_array_equal(rows, keys)
    numbers = [float(found[key].text.split()[1]) + found[key].ordinal for key in keys.tolist()]
    np.testing.assert_array_equal(vectors[:, 0], numbers)
    return changes


def pair(i):
    return [document(f"{i}-{side}", [f"pair {i}"] * 3, i) for side in "ab"]


def test_eight_threads_read_while_one_writes(catalogue):
    done, failures, seen = threading.Event(), [], []

    def reader():
        try:
            while not done.is_set():
                seen.append(read_consistently(catalogue))
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=reader) for _ in range(8)]
    for thread in threads:
        thread.start()
    for i in range(60):
        catalogue.write(pair(i % 20), remove=[f"{(i + 7) % 20}-{side}" for side in "ab"])
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(set(seen)) > 1
    assert catalogue.check() == []


def test_threads_write_one_after_the_other(catalogue):
    threads = [
        threading.Thread(target=lambda i=i: [catalogue.write(pair(10 * i + j)) for j in range(5)])
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert catalogue.counts().documents == 60
    read_consistently(catalogue)


def _read_in_a_process(folder, looks):
    with Catalogue.open(Path(folder), create=False, readonly=True) as catalogue:
        first = last = read_consistently(catalogue)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and last < first + 10:
            last = read_consistently(catalogue)
        looks.put(last - first)


def test_processes_read_while_one_writes(catalogue):
    context = multiprocessing.get_context("spawn")
    looks = context.Queue()
    readers = [
        context.Process(target=_read_in_a_process, args=(str(catalogue.folder), looks)) for _ in range(3)
    ]
    for reader in readers:
        reader.start()
    i = 0
    while any(reader.is_alive() for reader in readers):
        catalogue.write(pair(i % 30))
        i += 1
    for reader in readers:
        reader.join()
        assert reader.exitcode == 0
    assert all(looks.get(timeout=PATIENCE) >= 10 for _ in readers)
    assert catalogue.check() == []


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from store_samples import document
from omnivec.store.sqlite import Catalogue

catalogue = Catalogue.open(Path(sys.argv[1]), create=False)
start = int(sys.argv[3])
for i in range(start, start + 100_000):
    names = [f"{i}-{j}" for j in range(5)]
    gone = [f"{i - 3}-0"] if i - 3 >= start else []
    catalogue.write([document(name, [f"{name} words"] * 4, i) for name in names], remove=gone)
    print(" ".join([*names, *("!" + name for name in gone)]), flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_writer_loses_nothing_that_it_said(tmp_path):
    with Catalogue.open(tmp_path, create=True) as catalogue:
        catalogue.put_space(space())
    chance = random.Random(3)
    said: dict[str, bool] = {}
    for turn in range(10):
        command = [
            sys.executable,
            "-c",
            WRITER,
            str(tmp_path),
            str(Path(__file__).parents[1] / "helpers"),
            str(turn * 100_000),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline()]
            time.sleep(chance.uniform(0, 0.15))
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.read().splitlines()
        for name in " ".join(lines).split():
            said[name.removeprefix("!")] = not name.startswith("!")
        with Catalogue.open(tmp_path, create=False) as catalogue:
            there = {entry.id: entry.passages for entry in catalogue.documents()}
            # The write in flight may be whole or absent: at most its five documents, and one that it removed.
            missing = [name for name, kept in said.items() if kept and name not in there]
            assert len(there.keys() - {name for name, kept in said.items() if kept}) in (0, 5)
            assert missing == [] or (len(missing) == 1 and missing[0].endswith("-0"))
            said = dict.fromkeys(there, True)
            assert set(there.values()) == {4}
            assert len(catalogue.vectors("text")[0]) == 4 * len(there)
            assert catalogue.check() == []
    assert len(said) >= 40


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize(("kills", "options"), [(200, []), (40, ["--migrate"])], ids=["writes", "migrations"])
def test_many_kills_leave_what_was_acknowledged(tmp_path, kills, options):
    """Every operation and every answer against a model; `benchmarks/kills.py --kills N` for more."""
    program = Path(__file__).parents[2] / "benchmarks" / "kills.py"
    history = tmp_path / "history.jsonl"
    done = subprocess.run(
        [sys.executable, program, "--kills", str(kills), *options, "--folder", tmp_path, "--out", history],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert len(history.read_text().splitlines()) == kills
