"""Peak memory of training tables of words, omnivec against gensim on the same text, each in a process of its own.

    python benchmarks/words_memory.py [--part skipgram,cbow,fasttext,doc2vec] [--megabytes 0] [--small 30] [--threads 2]
                                      [--out benchmarks/results/words_memory.csv]

Resident bytes at their highest, the interpreter and the libraries included; beside them those of the imports alone.
One pass with the settings of words.py. skipgram and cbow read `--megabytes` of wiki17m, 0 for all of it; fasttext and
doc2vec the first `--small`. gensim reads the file itself where it can; Doc2Vec's documents come from an iterator over
its lines on both sides.
"""

from __future__ import annotations

import argparse
import bz2
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import machine
from machine import significant

ALLOWED = 2.5
"""Times gensim's peak."""
SMALL = ("fasttext", "doc2vec")
MEASURED = ("skipgram", "cbow", *SMALL)
PROGRAMS = ("omnivec", "gensim")
SETTINGS = {"window": 5, "negative": 5, "min_count": 5, "sample": 1e-3, "epochs": 1}


def peak() -> float:
    """Megabytes that this process had resident at most.

    Linux counts what the parent had before the program began in ru_maxrss, but not in VmHWM.
    """
    status = Path("/proc/self/status")
    if status.exists():
        said = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(said.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def ours(part: str, text: Path, threads: int) -> float:
    """Trains with omnivec; returns the peak of the imports."""
    import numba  # noqa: F401

    import omnivec
    from omnivec.training.recipes import (
        word2vec,  # noqa: F401
    )

    before = peak()
    recipe = {"skipgram": "word2vec", "cbow": "word2vec"}.get(part, part)
    given = {"cbow": {"sg": False}, "doc2vec": {"dm": False}}.get(part, {})
    omnivec.train(recipe, text, threads=threads, show_progress_bar=False, **SETTINGS, **given)
    return before


def theirs(part: str, text: Path, threads: int) -> float:
    """Trains with gensim; returns the peak of the imports."""
    from gensim.models import FastText, Word2Vec
    from gensim.models.doc2vec import Doc2Vec, TaggedLineDocument

    before = peak()
    common: dict[str, Any] = {"vector_size": 100, "workers": threads, **SETTINGS}
    if part == "doc2vec":
        Doc2Vec(documents=TaggedLineDocument(str(text)), dm=0, **common)
    elif part == "fasttext":
        FastText(corpus_file=str(text), sg=1, **common)
    else:
        Word2Vec(corpus_file=str(text), sg=int(part == "skipgram"), **common)
    return before


def measured(part: str, text: Path, threads: int) -> list[dict[str, Any]]:
    """A row for each program."""
    found = {}
    for program in PROGRAMS:
        told = subprocess.run(
            [sys.executable, __file__, "--one", program, part, str(text), "--threads", str(threads)],
            stdout=subprocess.PIPE,
            check=True,
        )
        found[program] = json.loads(told.stdout)
    gensim = found["gensim"]["peak_mb"]
    return [
        {
            "part": part,
            "program": program,
            "text_mb": round(text.stat().st_size / 1e6, 1),
            "threads": threads,
            **{name: round(value, 1) for name, value in one.items()},
            "times_gensim": significant(one["peak_mb"] / gensim, 3),
            "allowed": ALLOWED,
        }
        for program, one in found.items()
    ]


def main() -> None:
    """Reads the arguments, measures, prints and writes."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--part", default=",".join(MEASURED), help="names, parted by commas")
    arguments.add_argument("--megabytes", type=int, default=0, help="of the text for word2vec; 0 for all")
    arguments.add_argument("--small", type=int, default=30, help="megabytes for the others")
    arguments.add_argument("--threads", type=int, default=machine.cores())
    arguments.add_argument("--out", type=Path, default=machine.RESULTS / "words_memory.csv")
    arguments.add_argument(
        "--one", nargs=3, metavar=("PROGRAM", "PART", "TEXT"), help="one run, in this process"
    )
    asked = arguments.parse_args()
    if asked.one:
        program, part, text = asked.one
        imports = {"omnivec": ours, "gensim": theirs}[program](part, Path(text), asked.threads)
        print(json.dumps({"imports_mb": imports, "peak_mb": peak()}))
        return
    source = machine.needed("wiki17m", "wiki17m_docs.txt.bz2")
    if source is None:
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for part in asked.part.split(","):
            size = asked.small if part in SMALL else asked.megabytes
            text = Path(folder) / f"{size}.txt"
            if not text.exists():
                with bz2.open(source) as file:
                    text.write_bytes(file.read(size * 10**6 or -1))
            rows += measured(part, text, asked.threads)
            machine.print_table(rows[-len(PROGRAMS) :], list(rows[0]))
    machine.write_csv(asked.out, rows)


if __name__ == "__main__":
    main()
