"""What word2vec's vectors are worth at small and large budgets: omnivec against gensim, over seeds, quality alone.

    python benchmarks/words_budgets.py [--megabytes 5,20] [--epochs 1,2,5] [--model skipgram,cbow,cbow-0.05]
                                       [--program omnivec,gensim-2,gensim-1] [--seeds 3] [--out ...]

Text, settings and quality are those of `words.py`. gensim reads from a file, its fastest way, with two workers as its
users have it, and with one: each worker lets the learning rate fall by its own share of the words alone, so that it
falls less far with several. omnivec learns on one thread, which makes the same bits for the same seed. Other courses of
the rate are the programs `omnivec-to-0.004`, `omnivec-to-0.1` ..., whose rate falls to that share of the first; with
`-narrow` behind it (`omnivec-to-0.1-narrow`) the first values are half as wide, as word2vec.c has them.

Each run adds a line to `words_budgets_runs.csv`; those that are there already are not done again, unless the version of
omnivec or of gensim has changed. `words_budgets.csv` has their means and standard deviations. Nothing here is a measure
of speed: it may run on a busy machine.
"""

from __future__ import annotations

import argparse
import bz2
import csv
import itertools
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import machine
import words
from words import MEASURES, Side, Task

MODELS: dict[str, dict[str, Any]] = {
    "skipgram": {"sg": True, "lr": 0.025},
    "cbow": {"sg": False, "lr": 0.025},
    "cbow-0.05": {"sg": False, "lr": 0.05},
    "hs": {"sg": True, "hs": True, "lr": 0.025},
}
KEY = ("megabytes", "epochs", "model", "program")
Row = dict[str, Any]


def side(program: str, settings: Mapping[str, Any]) -> tuple[Side, int]:
    """How a program learns, and on how many threads."""
    name, _, course = program.partition("-")
    if name == words.THEIRS:
        given = {"sg": int(settings["sg"]), "alpha": settings["lr"], "hs": int(settings.get("hs", False))}
        return words.theirs(**given), int(course or 2)
    if not course:
        return words.ours(**settings), 1
    share, _, narrow = course.removeprefix("to-").partition("-")
    how = words.ours(**settings, min_lr=settings["lr"] * float(share))
    return (narrowly(how) if narrow else how), 1


def narrowly(how: Side) -> Side:
    """The same, from first values half as wide."""
    from omnivec.training.recipes import word2vec

    def work(task: Task, ready: Any) -> words.Vectors | None:
        usual = word2vec.SPAN
        try:
            word2vec.SPAN = usual / 2
            return how.work(task, ready)
        finally:
            word2vec.SPAN = usual

    return Side(how.prepare, work)


def run(text: Path, megabytes: int, epochs: int, model: str, program: str, seed: int) -> Row:
    """Learns once, and judges what was learned."""
    how, threads = side(program, MODELS[model])
    task = Task(text, epochs, threads, seed)
    ready = how.prepare(task)
    learned, took = machine.spent(lambda: how.work(task, ready))
    if learned is None:
        raise SystemExit(f"{program} has no vectors to judge")
    worth = {name: round(value, 2) for name, value in words.quality(*learned).items()}
    key = {"megabytes": megabytes, "epochs": epochs, "model": model, "program": program, "seed": seed}
    return {**key, **worth, "cpu_s": machine.significant(took.cpu, 3)}


def runs_before(path: Path) -> list[Row]:
    """Lines of an earlier call, numbers as numbers."""
    numbers = ("megabytes", "epochs", "seed")
    return [{**row, **{name: int(row[name]) for name in numbers}} for row in machine.read_csv(path)]


def summary(runs: Sequence[Row]) -> list[Row]:
    """A row for each budget, model and program: means over the seeds, and their standard deviations."""
    rows = []
    ordered = sorted(runs, key=lambda row: [row[name] for name in KEY])
    for key, group in itertools.groupby(ordered, lambda row: tuple(row[name] for name in KEY)):
        each = list(group)
        row: Row = {**dict(zip(KEY, key, strict=True)), "seeds": len(each)}
        for name in MEASURES:
            values = [float(one[name]) for one in each]
            row[name] = round(statistics.mean(values), 2)
            row[f"{name}_sd"] = machine.spread(values)
        rows.append({**row, **{name: each[-1][name] for name in ABOUT}})
    return rows


ABOUT = ("date", "cpu", "cores", "omnivec", "numpy", "numba", "gensim")
"""Columns of a run that say where it was done, and with what."""


def about() -> Row:
    """The values of ABOUT, here and now."""
    known = {**machine.machine(), **machine.versions()}
    return {name: known[name] for name in ABOUT}


def write(path: Path, rows: Sequence[Row]) -> None:
    """Rows of equal columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def append(path: Path, row: Row) -> None:
    """Adds a row; several of these programs may do so at once."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    """Reads the arguments, learns what is not there yet, prints and writes."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--megabytes", default="5,20", help="of the text; 0 for all")
    arguments.add_argument("--epochs", default="1,2,5")
    arguments.add_argument("--model", default="skipgram,cbow,cbow-0.05", help="names, parted by commas")
    arguments.add_argument("--program", default="omnivec,gensim-2,gensim-1", help="names, parted by commas")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--out", type=Path, default=machine.RESULTS / "words_budgets.csv")
    asked = arguments.parse_args()
    path = machine.needed("wiki17m", "wiki17m_docs.txt.bz2")
    if path is None:
        return
    listed = asked.out.with_name(f"{asked.out.stem}_runs.csv")
    now, rows = about(), runs_before(listed)
    same = ("omnivec", "gensim")
    done = {tuple(row[name] for name in (*KEY, "seed", *same)) for row in rows}
    for size in map(int, asked.megabytes.split(",")):
        with tempfile.TemporaryDirectory() as folder, bz2.open(path) as file:
            text = Path(folder) / "text.txt"
            text.write_bytes(file.read(size * 10**6 or -1))
            for epochs, model, program, seed in itertools.product(
                map(int, asked.epochs.split(",")),
                asked.model.split(","),
                asked.program.split(","),
                range(1, asked.seeds + 1),
            ):
                if (size, epochs, model, program, seed, *(now[name] for name in same)) in done:
                    continue
                rows.append({**run(text, size, epochs, model, program, seed), **now})
                print(*list(rows[-1].values())[: len(KEY) + 2 + len(MEASURES)], flush=True)
                append(listed, rows[-1])
    means = summary(rows)
    machine.print_table(means, [*KEY, "seeds", *itertools.chain(*((m, f"{m}_sd") for m in MEASURES[2:]))])
    write(asked.out, means)


if __name__ == "__main__":
    main()
