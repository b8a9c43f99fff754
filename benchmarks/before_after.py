"""Whether a change costs speed: two checkouts in turns, in CPU seconds, with an interval around each ratio.

    python benchmarks/before_after.py --before CHECKOUT [--repetitions 15] [--part NAME ...]
                                      [--out benchmarks/results/before_after.csv]

Each measured run is a whole new process of this Python that imports omnivec from one checkout or the other; both do
the same work on the same items. `many` and `one` encode texts (many in one call; one in each of 200 calls), `search`
is one question from a shell over 3,000 passages, from process start to answer, in the version's own default mode,
`images` encodes 96 photographs with EfficientNet-Lite0. Except for `search`, what comes before the work (imports,
loading, first shapes) is not counted. `ratio` is the median over the repetitions of (this checkout / the one before)
in CPU seconds: above 1 is slower. Its interval holds 95 % of the medians of 10,000 resamples of the repetitions. A part
whose interval begins above 1.03 became slower.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import machine
from cold_start import OUR_PROGRAM, QUESTION, process, texts_of
from image_encode import photographs
from machine import significant

MODEL = "all-MiniLM-L6-v2"
BEFORE, NOW = "before", "now"
ALLOWED = 1.03

# What every program begins with; `spent()` prints the CPU seconds that a call takes.
SHARED = """
import json, sys, time
from pathlib import Path
import omnivec
def spent(call):
    start = time.process_time()
    call()
    print(json.dumps({"cpu": time.process_time() - start}))
"""
PROGRAMS = {
    "many": """
texts = json.loads(Path(sys.argv[1], "texts.json").read_text(encoding="utf-8"))
model = omnivec.load("all-MiniLM-L6-v2")
model.encode(texts[:300])
spent(lambda: model.encode(texts[300:]))
""",
    "one": """
texts = json.loads(Path(sys.argv[1], "texts.json").read_text(encoding="utf-8"))
model = omnivec.load("all-MiniLM-L6-v2")
for text in texts[:200]:
    model.encode(text)
spent(lambda: [model.encode(text) for text in texts[:200]])
""",
    "images": """
images = sorted(Path(sys.argv[1], "images").iterdir())
model = omnivec.load("efficientnet-lite0")
model.encode(images[:32])
spent(lambda: model.encode(images))
""",
}
PARTS = (*PROGRAMS, "search")


def run(checkout: Path, part: str, folder: Path, name: str) -> float:
    """CPU seconds of one run of a part; the collection is the one that this version made."""
    chosen = {"PYTHONPATH": str(checkout / "src")}
    if part == "search":
        command = [sys.executable, "-c", OUR_PROGRAM, "search", QUESTION, "--collection", str(folder / name)]
        return process([*command, "-k", "10", "--json"], chosen).cpu
    done = process([sys.executable, "-c", SHARED + PROGRAMS[part], str(folder)], chosen)
    return float(json.loads(done.out)["cpu"])


def prepare(checkouts: Mapping[str, Path], folder: Path, path: Path) -> None:
    """What the runs read: texts, photographs, and a collection made by each version."""
    texts = list(texts_of(path, 3000))
    lengths = np.random.default_rng(5).integers(8, 100, len(texts))
    short = [" ".join(text.split()[:n]) for text, n in zip(texts, lengths, strict=True)]
    (folder / "texts.json").write_text(json.dumps(short[:900]), encoding="utf-8")
    (folder / "passages.json").write_text(json.dumps(texts), encoding="utf-8")
    photographs(folder / "images", np.random.default_rng(5), 96)
    index = f"""
texts = json.loads(Path(sys.argv[1], "passages.json").read_text(encoding="utf-8"))
with omnivec.Collection(sys.argv[2], model="{MODEL}") as notes:
    notes.add(texts, ids=[str(i) for i in range(len(texts))])
"""
    for name, checkout in checkouts.items():
        command = [sys.executable, "-c", SHARED + index, str(folder), str(folder / name)]
        process(command, {"PYTHONPATH": str(checkout / "src")})


def interval(ratios: np.ndarray) -> tuple[float, float]:
    """Where 95 % of the medians of resamples lie."""
    random = np.random.default_rng(0)
    medians = np.median(random.choice(ratios, (10_000, len(ratios))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(low), float(high)


def commit(checkout: Path) -> str:
    """Which commit lies there."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def measured(part: str, checkouts: Mapping[str, Path], folder: Path, repetitions: int) -> dict[str, Any]:
    """The row of one part."""
    took: dict[str, list[float]] = {name: [] for name in checkouts}
    for name, checkout in checkouts.items():
        run(checkout, part, folder, name)  # bytecode, caches of the disk
    for _, name in machine.in_turns(list(checkouts), repetitions):
        took[name].append(run(checkouts[name], part, folder, name))
    ratios = np.array(took[NOW]) / np.array(took[BEFORE])
    low, high = interval(ratios)
    return {
        "part": part,
        "before": commit(checkouts[BEFORE]),
        "now": commit(checkouts[NOW]),
        "repetitions": repetitions,
        "before_cpu_s": significant(statistics.median(took[BEFORE])),
        "now_cpu_s": significant(statistics.median(took[NOW])),
        "ratio": significant(float(np.median(ratios))),
        "ratio_low": significant(low),
        "ratio_high": significant(high),
        "kept": low <= ALLOWED,
    }


def main() -> None:
    """Reads the arguments, measures, prints and writes; exit code 1 where something became slower."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--before", type=Path, required=True, help="a checkout of the version before")
    arguments.add_argument("--repetitions", type=int, default=15)
    arguments.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    arguments.add_argument("--out", type=Path, default=machine.RESULTS / "before_after.csv")
    asked = arguments.parse_args()
    path = machine.needed("wiki17m", "wiki17m_docs.txt.bz2")
    if path is None:
        return
    checkouts = {BEFORE: asked.before.resolve(), NOW: machine.HERE.parent}
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(checkouts, folder, path)
        for part in asked.part:
            rows.append(measured(part, checkouts, folder, asked.repetitions))
            machine.print_table(rows[-1:], list(rows[0]))
    machine.write_csv(asked.out, rows, ("part", "before", "cpu"), machine.cores())
    sys.exit(not all(row["kept"] for row in rows))


if __name__ == "__main__":
    main()
