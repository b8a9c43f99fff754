"""One question from a shell, from process start to answer: omnivec against sentence-transformers and NumPy.

    python benchmarks/cold_start.py [--quick] [--repetitions 9] [--out benchmarks/results/cold_start.csv]

Both sides have done their indexing: omnivec holds a collection, the other a matrix (.npy) and its texts (.json).
Every measured run is a whole new process with warm disk caches, nothing stays resident and no answer is kept.
The first runs are not counted; then the two alternate. The ten best must be the same passages, but for places
that differ in score by less than 2e-3.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import machine
import omnivec
from machine import significant

MODEL = "all-MiniLM-L6-v2"
QUESTION = "which animals live in the desert and how do they find water"
OTHER, OURS, FLOOR = "sentence-transformers + numpy", "omnivec search", "python -c 'import numpy'"
TIE = 2e-3

# What somebody who has both libraries would write: nothing is imported that is not needed.
OTHER_PROGRAM = """
import json, sys
import numpy as np
from sentence_transformers import SentenceTransformer
folder, matrix, texts, question = sys.argv[1:]
model = SentenceTransformer(folder, device="cpu")
vectors = np.load(matrix)
with open(texts, encoding="utf-8") as file:
    passages = json.load(file)
scores = vectors @ model.encode(question)
for i in np.argsort(-scores)[:10].tolist():
    print(json.dumps({"id": str(i), "score": float(scores[i]), "text": passages[i]}))
"""
# What the installed command runs.
OUR_PROGRAM = "import sys; from omnivec.cli.main import main; sys.exit(main())"
# The same through the library, for a version without the command.
OUR_LIBRARY = """
import json, sys
from omnivec import Collection
folder, question = sys.argv[1:]
with Collection(folder, create=False) as notes:
    for hit in notes.search(question, k=10):
        print(json.dumps({"id": hit.document, "score": hit.score, "text": hit.text}))
"""


@dataclass(frozen=True)
class Ran:
    """One process from start to end.

    Attributes:
        wall: seconds.
        cpu: CPU seconds, user and system.
        peak_mb: most resident memory, in MB.
        out: what it printed.
    """

    wall: float
    cpu: float
    peak_mb: float
    out: str


def process(command: Sequence[str], chosen: Mapping[str, str] | None = None) -> Ran:
    """Runs a command and asks the kernel what that process alone used; `chosen` joins its environment."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore", **(chosen or {})}
    environment.pop(
        "PYTHONDONTWRITEBYTECODE", None
    )  # an installed package has its bytecode: so has a checkout
    with tempfile.TemporaryFile("w+") as said:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, env=environment, text=True)
        with child:
            out = child.stdout.read() if child.stdout is not None else ""
            _, status, usage = os.wait4(child.pid, 0)
            wall = time.perf_counter() - start
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            raise SystemExit(f"{command[2].strip()[:60]}... ended with {child.returncode}: {said.read()}")
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is bytes there, KiB on Linux
    return Ran(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit, out)


def texts_of(path: Path, count: int) -> Iterator[str]:
    """Passages of 40 to 120 words, one after the other from the articles."""
    random, made = np.random.default_rng(11), 0
    for article in machine.articles(path):
        words, place = article.split(), 0
        while place + 120 < len(words) and made < count:
            end = place + int(random.integers(40, 121))
            yield " ".join(words[place:end])
            place, made = end, made + 1
        if made == count:
            return


def prepare(folder: Path, texts: list[str]) -> dict[str, list[str]]:
    """Indexes the texts for both, and returns the command of each."""
    from sentence_transformers import SentenceTransformer

    with omnivec.Collection(folder / "notes.omni", model=MODEL) as notes:
        notes.add(texts, ids=[str(i) for i in range(len(texts))])
        home = str(notes.model.folder)
    np.save(folder / "matrix.npy", SentenceTransformer(home, device="cpu").encode(texts))
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    python, place = sys.executable, str(folder / "notes.omni")
    # By meaning alone, as the other searches; words would be looked for too.
    search = ["search", QUESTION, "--mode", "vector", "--collection", place, "-k", "10", "--json"]
    ours = [python, "-c", OUR_PROGRAM, *search]
    if not has_command():
        print("this version has no command line: the library is measured instead")
        ours = [python, "-c", OUR_LIBRARY, place, QUESTION]
    files = [home, str(folder / "matrix.npy"), str(folder / "texts.json")]
    return {
        OTHER: [python, "-c", OTHER_PROGRAM, *files, QUESTION],
        OURS: ours,
        FLOOR: [python, "-c", "import numpy"],
    }


def has_command() -> bool:
    """Whether this version of omnivec has its command line."""
    try:
        return importlib.util.find_spec("omnivec.cli.main") is not None
    except ModuleNotFoundError:
        return False


def check_equal(ours: str, other: str) -> None:
    """Ends the run where the two answers differ by more than ties."""
    found, wanted = (
        {hit["text"]: float(hit["score"]) for hit in map(json.loads, out.splitlines())}
        for out in (ours, other)
    )
    if len(found) != 10 or len(wanted) != 10:
        raise SystemExit(f"10 answers were asked for: {len(found)} and {len(wanted)} came")
    for mine, theirs in ((found, wanted), (wanted, found)):
        last = min(theirs.values())  # what is in one answer only has to tie with the other's last
        for text, score in mine.items():
            if abs(score - theirs.get(text, last)) > TIE:
                raise SystemExit(f"the answers differ: {score:.4f} against {theirs.get(text)}: {text[:80]}")


def row(name: str, passages: int, runs: Mapping[str, Sequence[Ran]]) -> dict[str, Any]:
    """One line of the result; ratios are medians over the repetitions."""
    own = runs[name]
    pairs = list(zip(runs[OTHER], own, strict=True))
    return {
        "program": name,
        "passages": passages,
        "repetitions": len(own),
        "wall_s": significant(statistics.median(run.wall for run in own)),
        "wall_s_best": significant(min(run.wall for run in own)),
        "ratio_wall": significant(statistics.median(b.wall / o.wall for b, o in pairs), 3),
        "cpu_s": significant(statistics.median(run.cpu for run in own)),
        "ratio_cpu": significant(statistics.median(b.cpu / o.cpu for b, o in pairs), 3),
        "peak_mb": round(statistics.median(run.peak_mb for run in own)),
    }


def main() -> None:
    """Reads the arguments, measures, prints and writes."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--quick", action="store_true", help="100 passages; the first runs are the result")
    arguments.add_argument("--repetitions", type=int, default=9)
    arguments.add_argument("--passages", type=int, default=3000)
    arguments.add_argument("--out", type=Path, default=machine.RESULTS / "cold_start.csv")
    asked = arguments.parse_args()
    path = machine.needed("wiki17m", "wiki17m_docs.txt.bz2")
    if path is None:
        return
    count, repetitions = (100, 0) if asked.quick else (asked.passages, asked.repetitions)
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: a child's peak memory counts what its parent had when it was started.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
            commands = apart.submit(prepare, Path(folder), list(texts_of(path, count))).result()
        first = {name: process(command) for name, command in commands.items()}
        check_equal(first[OURS].out, first[OTHER].out)
        runs: dict[str, list[Ran]] = {name: [ran] if asked.quick else [] for name, ran in first.items()}
        for _, name in machine.in_turns(list(commands), repetitions):
            runs[name].append(process(commands[name]))
    rows = [row(name, count, runs) for name in commands]
    machine.print_table(rows, list(rows[0]))
    machine.write_csv(asked.out, rows, ("program", "passages", "cpu"), machine.cores())


if __name__ == "__main__":
    main()
