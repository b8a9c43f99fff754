"""Training tables of words: omnivec against gensim, in turns in one run, and what the vectors are worth.

    python benchmarks/words.py [--part vocab,skipgram,cbow,cbow-0.05,hs,hs-cbow] [--megabytes 10] [--epochs 1]
                               [--threads 2] [--repetitions 2] [--out benchmarks/results/words.csv]

wiki17m: 16.9 M words of English Wikipedia, an article on each line; 0 megabytes take all of it. Both sides read the
same file and learn with the same settings (dim 100, window 5, 5 negatives, min_count 5, sample 1e-3, learning rate
0.025; in `cbow-0.05` word2vec.c's for CBOW). Reading is the part `vocab`; the others count training alone, compiled
before. Quality: Google analogies among the 30,000 most frequent words, Spearman x 100 on WordSim-353 and SimLex-999; a
seed for each repetition.

A part more is an entry of PARTS, here or in a `words_*.py` beside that has such a mapping.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import machine
from machine import significant

OURS, THEIRS = "omnivec", "gensim"
DIM, WINDOW, NEGATIVE, MIN_COUNT = 100, 5, 5, 5
FREQUENT = 30_000
"""Words among which analogies are asked."""
MEASURES = ("semantic", "syntactic", "analogies", "wordsim", "simlex")
KEY = ("part", "program", "words", "epochs", "threads", "cpu")
"""Columns that tell rows apart: what was measured before stays in the file where one of them differs."""

Vectors = tuple[Sequence[str], NDArray[np.float32]]
"""Words by falling count, and (v, dim)."""


@dataclass(frozen=True)
class Task:
    """What both sides are to do.

    Attributes:
        text: file, a sentence on each line.
        epochs: passes.
        threads: of each side.
        seed: of the repetition.
    """

    text: Path
    epochs: int
    threads: int
    seed: int


@dataclass(frozen=True)
class Side:
    """One way to do a part.

    Attributes:
        prepare: what is not timed; its result is given to `work`.
        work: what is timed; returns words and vectors, or None where there is nothing to judge.
    """

    prepare: Callable[[Task], Any]
    work: Callable[[Task, Any], Vectors | None]


Part = Mapping[str, Side]
"""Program -> how it does the part; the first is what ratios are to."""


def our_corpus(task: Task) -> Any:
    """The text as omnivec reads it."""
    from omnivec.training.corpus import read_corpus

    return read_corpus(task.text, min_count=MIN_COUNT, threads=task.threads, show_progress_bar=False)


def ours(**given: Any) -> Side:
    """Word2Vec of omnivec."""
    from omnivec.training.recipes.word2vec import Options, fit

    def work(task: Task, corpus: Any) -> Vectors:
        learned = fit(
            corpus,
            Options(
                dim=DIM,
                window=WINDOW,
                negative=NEGATIVE,
                min_count=MIN_COUNT,
                epochs=task.epochs,
                threads=task.threads,
                seed=task.seed,
                show_progress_bar=False,
                **given,
            ),
        )
        return learned.words, learned.vectors

    return Side(our_corpus, work)


def their_model(task: Task, **given: Any) -> Any:
    """gensim's model, not trained yet, its vocabulary not read."""
    from gensim.models import Word2Vec

    chosen = {"negative": 0 if given.get("hs") else NEGATIVE, **given}
    return Word2Vec(
        vector_size=DIM,
        window=WINDOW,
        min_count=MIN_COUNT,
        workers=task.threads,
        seed=task.seed,
        epochs=task.epochs,
        **chosen,
    )


def theirs(**given: Any) -> Side:
    """Word2Vec of gensim, from a file, its fastest way."""

    def prepare(task: Task) -> Any:
        model = their_model(task, **given)
        model.build_vocab(corpus_file=str(task.text))
        return model

    def work(task: Task, model: Any) -> Vectors:
        model.train(
            corpus_file=str(task.text),
            total_examples=model.corpus_count,
            total_words=model.corpus_total_words,
            epochs=task.epochs,
        )
        return model.wv.index_to_key, model.wv.vectors

    return Side(prepare, work)


def read_ours(task: Task, nothing: None) -> None:
    """Reading, with omnivec."""
    our_corpus(task)


def read_theirs(task: Task, model: Any) -> None:
    """Reading, with gensim."""
    model.scan_vocab(corpus_file=str(task.text))


PARTS: dict[str, Part] = {
    "vocab": {OURS: Side(lambda task: None, read_ours), THEIRS: Side(their_model, read_theirs)},
    "skipgram": {OURS: ours(), THEIRS: theirs(sg=1)},
    "cbow": {OURS: ours(sg=False, lr=0.025), THEIRS: theirs(sg=0)},
    "cbow-0.05": {OURS: ours(sg=False), THEIRS: theirs(sg=0, alpha=0.05)},
    "hs": {OURS: ours(hs=True), THEIRS: theirs(sg=1, hs=1)},
    "hs-cbow": {OURS: ours(hs=True, sg=False, lr=0.025), THEIRS: theirs(sg=0, hs=1)},
}


def parts(wanted: Sequence[str]) -> dict[str, Part]:
    """The parts that are asked for, from here and from the modules beside."""
    known = dict(PARTS)
    if not set(wanted) <= known.keys():
        for path in sorted(machine.HERE.glob("words_*.py")):
            known |= getattr(importlib.import_module(path.stem), "PARTS", {})
    missing = [name for name in wanted if name not in known]
    if missing:
        raise SystemExit(f"no part {', '.join(missing)}; there are {', '.join(known)}")
    return {name: known[name] for name in wanted}


def measured(name: str, part: Part, task: Task, repetitions: int, words: int) -> list[dict[str, Any]]:
    """A row for each program: medians of what it took, and means over the seeds of what its vectors are worth.

    Beside the median of the ratios of CPU-seconds stand the lowest and the highest, turn by turn; beside each mean, the
    standard deviation.
    """
    took: dict[str, list[machine.Spent]] = {program: [] for program in part}
    worth: dict[str, list[dict[str, float]]] = {program: [] for program in part}
    for repetition, program in machine.in_turns(list(part), repetitions):
        now = Task(task.text, task.epochs, task.threads, task.seed + repetition)
        ready = part[program].prepare(now)
        learned, spent = machine.spent(partial(part[program].work, now, ready))
        took[program].append(spent)
        if learned is not None:
            worth[program].append(quality(*learned))
    first = took[next(iter(part))]
    rows = []
    for program, own in took.items():
        cpu = statistics.median(each.cpu for each in own)
        turns = ratios(own, first, "cpu")
        rows.append(
            {
                "part": name,
                "program": program,
                "words": words,
                "epochs": task.epochs,
                "threads": task.threads,
                "repetitions": repetitions,
                "wall_s": significant(statistics.median(each.wall for each in own)),
                "cpu_s": significant(cpu),
                "million_words_per_cpu_s": significant(words * task.epochs / cpu / 1e6, 3),
                "ratio_wall": significant(statistics.median(ratios(own, first, "wall")), 3),
                "ratio_cpu": significant(statistics.median(turns), 3),
                "ratio_cpu_low": significant(min(turns), 3),
                "ratio_cpu_high": significant(max(turns), 3),
                **means(worth[program]),
            }
        )
    return rows


def ratios(own: Sequence[machine.Spent], first: Sequence[machine.Spent], kind: str) -> list[float]:
    """How many times as much as the first program, turn by turn."""
    return [getattr(o, kind) / getattr(f, kind) for o, f in zip(own, first, strict=True)]


def means(worth: Sequence[Mapping[str, float]]) -> dict[str, float | str]:
    """Means of what vectors are worth over the seeds, and their standard deviations; nothing where none is judged."""
    columns: dict[str, float | str] = {}
    for kind in MEASURES:
        values = [each[kind] for each in worth]
        columns[kind] = round(statistics.mean(values), 1) if values else ""
        columns[f"{kind}_sd"] = machine.spread(values)
    return columns


def quality(words: Sequence[str], vectors: NDArray[np.float32]) -> dict[str, float]:
    """Analogies answered right, and rank correlations with people, in percent; empty without the data."""
    from omnivec.evaluation.word_analogies import read_questions, score_analogies
    from omnivec.evaluation.word_similarity import read_pairs, score_pairs

    questions = machine.data("word_analogies", "questions-words.txt")
    pairs = {
        "wordsim": machine.data("word_similarity", "EN-WS-353-ALL.txt"),
        "simlex": machine.data("word_similarity", "EN-SIMLEX-999.txt"),
    }
    if questions is None or None in pairs.values():
        raise SystemExit("word_analogies and word_similarity are not in the data folder")
    found = score_analogies(list(words), vectors, read_questions(questions), first=FREQUENT)
    shares = {"semantic": found.semantic, "syntactic": found.syntactic, "analogies": found.total}
    return {kind: 100 * score.accuracy for kind, score in shares.items()} | {
        kind: 100 * score_pairs(list(words), vectors, read_pairs(path)).spearman
        for kind, path in pairs.items()
        if path is not None
    }


def main() -> None:
    """Reads the arguments, measures, prints and writes."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--part", default="vocab,skipgram,cbow", help="names, parted by commas")
    arguments.add_argument("--megabytes", type=int, default=10, help="of the text; 0 for all")
    arguments.add_argument("--epochs", type=int, default=1)
    arguments.add_argument("--threads", type=int, default=machine.cores())
    arguments.add_argument("--repetitions", type=int, default=2)
    arguments.add_argument("--seed", type=int, default=1, help="of the first repetition")
    arguments.add_argument("--out", type=Path, default=machine.RESULTS / "words.csv")
    asked = arguments.parse_args()
    content = machine.wikipedia(asked.megabytes)
    if content is None:
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        text, warm = Path(folder) / "text.txt", Path(folder) / "warm.txt"
        text.write_bytes(content)
        warm.write_bytes(b"a b c d e f g h\n" * 100)
        task = Task(text, asked.epochs, asked.threads, asked.seed)
        words = our_corpus(task).total
        for name, part in parts(asked.part.split(",")).items():
            small = Task(warm, 1, asked.threads, asked.seed)
            part[OURS].work(small, part[OURS].prepare(small))  # compiled, or read from the cache
            rows += measured(name, part, task, asked.repetitions, words)
            machine.print_table(rows[-len(part) :], list(rows[0]))
    machine.write_csv(asked.out, rows, KEY, asked.threads)


if __name__ == "__main__":
    main()
