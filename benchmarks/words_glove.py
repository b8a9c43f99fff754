"""GloVe: counting against a hash map, both compiled; the whole against the authors' C program, built elsewhere.

    python benchmarks/words_glove.py [--megabytes 10] [--epochs 15] [--c FOLDER [--keep FOLDER]]

Counting: the same windows over the same words, in turns, one thread each; the values are compared. `--c` names a folder
with the built programs vocab_count, cooccur, shuffle and glove of github.com/stanfordnlp/GloVe (gcc -O3 -march=native):
they read the same text, their counts are compared one by one, and both are trained at equal settings. What they write
and what each took stays in `--keep`, and is taken from there the next time. Every row counts CPU seconds of one thread.
Quality: Google analogies among the 30,000 most frequent words, Spearman x 100 on WordSim-353 and SimLex-999.
"""

from __future__ import annotations

import argparse
import bz2
import resource
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

import machine
from machine import significant
from omnivec.tables.kernels import cooccurrence
from omnivec.tables.kernels.cooccurrence import Cooccurrence, Windows
from omnivec.training import corpus as reading
from omnivec.training.corpus import Corpus, read_corpus
from omnivec.training.recipes import glove
from omnivec.training.recipes.glove import Options

WINDOW, DIM, X_MAX, CHECKPOINT = 15, 100, 10.0, 5
RECORD = np.dtype([("word", "i4"), ("context", "i4"), ("value", "f8")])
"""An entry as the C program writes it, words counted from 1."""
EMPTY = -1
Row = dict[str, Any]


@numba.njit(cache=True)
def hash_map(
    ids: NDArray[np.int32], starts: NDArray[np.int64], words: int, window: int, keys: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Sums of 1/d by pairs of words: open addressing, linear probing, a table at most half full."""
    values, mask = np.zeros(len(keys)), len(keys) - 1
    for sentence in range(len(starts) - 1):
        for here in range(starts[sentence], starts[sentence + 1]):
            for there in range(max(here - window, starts[sentence]), here):
                for a, b in ((ids[here], ids[there]), (ids[there], ids[here])):
                    key = np.int64(a) * words + b
                    place = ((key * -7046029254386353131) >> 20) & mask
                    while keys[place] != EMPTY and keys[place] != key:
                        place = (place + 1) & mask
                    keys[place] = key
                    values[place] += 1.0 / (here - there)
    return values


def counting(corpus: Corpus, repetitions: int) -> list[Row]:
    """Both ways of counting, in turns."""
    words, windows = len(corpus.words), Windows(WINDOW)
    entries = len(cooccurrence.count(corpus.ids, corpus.starts, words, windows))
    size = 1 << (2 * entries - 1).bit_length()
    hash_map(corpus.ids[:2], np.array([0, 2]), words, WINDOW, np.full(64, EMPTY))
    took: dict[str, list[float]] = {"omnivec": [], "hash map": []}
    for _, name in machine.in_turns(list(took), repetitions):
        keys = np.full(size, EMPTY)
        if name == "omnivec":
            counts, spent = machine.spent(
                lambda: cooccurrence.count(corpus.ids, corpus.starts, words, windows)
            )
        else:
            values, spent = machine.spent(partial(hash_map, corpus.ids, corpus.starts, words, WINDOW, keys))
            filled = keys[keys != EMPTY], values[keys != EMPTY]
        took[name].append(spent.cpu)
    equal = compare(counts, *filled)
    ratios = [h / o for h, o in zip(took["hash map"], took["omnivec"], strict=True)]
    return [
        row("count", "omnivec", statistics.median(took["omnivec"]), entries, equal=equal),
        row("count", "hash map, Numba", statistics.median(took["hash map"]), entries, *ratios),
    ]


def compare(counts: Cooccurrence, keys: NDArray[np.int64], values: NDArray[np.float64]) -> float:
    """Share of the other's entries that are here with the same float32; both must have the same pairs."""
    words = len(counts.indptr) - 1
    own = np.repeat(np.arange(words), np.diff(counts.indptr)) * words + counts.columns
    order, other = np.argsort(own), np.argsort(keys)
    if not np.array_equal(own[order], keys[other]):
        raise SystemExit(f"the pairs differ: {len(own):,} here, {len(keys):,} there")
    return float((counts.values[order] == values[other].astype(np.float32)).mean())


class Program:
    """The C program's four parts; what each wrote and took is kept."""

    def __init__(self, folder: Path, keep: Path, text: bytes) -> None:
        self._folder, self._keep = folder.resolve(), keep
        keep.mkdir(parents=True, exist_ok=True)
        (keep / "text.txt").write_bytes(text)

    def run(self, name: str, output: str, options: str, source: str | None = None) -> float:
        """CPU seconds of a part, now or when it ran."""
        note = self._keep / f"{output}.cpu_s"
        if not note.exists():
            command, before = [str(self._folder / name), *options.split()], _children()
            with (self._keep / (source or "text.txt")).open("rb") as given:
                done = subprocess.run(command, stdin=given, capture_output=True, cwd=self._keep, check=True)
            if source is not None:
                (self._keep / output).write_bytes(done.stdout)
            note.write_text(str(_children() - before))
        return float(note.read_text())

    def prepare(self) -> tuple[float, float]:
        """Vocabulary, counts, shuffled: CPU seconds of the counting and of the shuffling."""
        self.run("vocab_count", "vocab.txt", "-min-count 5 -verbose 0", "text.txt")
        settings = f"-memory 4 -vocab-file vocab.txt -verbose 0 -window-size {WINDOW}"
        counted = self.run("cooccur", "counts.bin", settings, "text.txt")
        return counted, self.run("shuffle", "shuffled.bin", "-memory 4 -verbose 0 -seed 1", "counts.bin")

    def train(self, epochs: int) -> float:
        """CPU seconds of the training; vectors of every fifth epoch are kept."""
        return self.run(
            "glove",
            "vectors",
            f"-save-file vectors -threads 1 -input-file shuffled.bin -x-max {X_MAX} -iter {epochs} -vector-size {DIM} "
            f"-binary 0 -vocab-file vocab.txt -verbose 0 -seed 1 -checkpoint-every {CHECKPOINT}",
        )

    def words(self) -> list[str]:
        """Its vocabulary."""
        return [line.split()[0] for line in (self._keep / "vocab.txt").read_text().splitlines()]

    def counts(self, corpus: Corpus) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Its entries, by the numbers of our words."""
        number = {word: i for i, word in enumerate(corpus.words)}
        ours = np.array([number[word] for word in self.words()])
        found = np.fromfile(self._keep / "counts.bin", RECORD)
        return ours[found["word"] - 1] * len(number) + ours[found["context"] - 1], found["value"]

    def vectors(self, epochs: int) -> tuple[list[str], NDArray[np.float32]]:
        """What it had learned after so many epochs."""
        lines = (self._keep / f"vectors.{epochs:03}.txt").read_text().splitlines()[:-1]  # the last is <unk>
        return [line.split()[0] for line in lines], np.loadtxt(lines, np.float32, usecols=range(1, DIM + 1))


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def against(program: Program, corpus: Corpus, epochs: int) -> Iterator[Row]:
    """Counts and training of the C program and here, and what the vectors are worth."""
    counted, shuffled = program.prepare()
    options = Options(dim=DIM, window=WINDOW, x_max=X_MAX, epochs=epochs, threads=1, seed=1)
    counts, here = machine.spent(lambda: glove.count(corpus, options))
    entries, equal = len(counts), compare(counts, *program.counts(corpus))
    yield row("count", "omnivec", here.cpu, entries, equal=equal)
    yield row("count", "GloVe, C", counted, entries, counted / here.cpu)
    taken = program.train(epochs)
    for done in range(CHECKPOINT, epochs + 1, CHECKPOINT):
        counts = glove.count(corpus, options) if counts is None else counts
        fitted, spent = machine.spent(partial(glove.factorise, counts, replaced(options, done)))
        counts = None
        yield row(f"train {done}", "omnivec", spent.cpu, entries * done) | quality(
            corpus.words, fitted.vectors
        )
        theirs = (taken * done / epochs) + shuffled
        found = row(f"train {done}", "GloVe, C, shuffle too", theirs, entries * done, theirs / spent.cpu)
        yield found | quality(*program.vectors(done))


def replaced(options: Options, epochs: int) -> Options:
    """The same options for another number of epochs."""
    return Options(**{**vars(options), "epochs": epochs})


def row(step: str, program: str, cpu: float, entries: int, *ratios: float, equal: float = 1.0) -> Row:
    """One line of the result; the ratios are those of each turn, none of the first program."""
    turns = ratios or (1.0,)
    return {
        "step": step,
        "program": program,
        "cpu_s": significant(cpu),
        "ratio_cpu": significant(statistics.median(turns), 3),
        "ratio_cpu_low": significant(min(turns), 3),
        "ratio_cpu_high": significant(max(turns), 3),
        "entries": entries,
        "entries_per_cpu_s": significant(entries / cpu),
        "equal_values": equal,
        **dict.fromkeys(("semantic", "syntactic", "analogies", "wordsim", "simlex"), ""),
    }


def quality(words: Sequence[str], vectors: NDArray[np.float32]) -> Row:
    """Analogies answered right, and rank correlations with people, in percent."""
    number = {word: i for i, word in enumerate(words)}
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    kinds, questions = _analogies(number)
    right = np.concatenate(
        [_answered(unit[:30_000], questions[i : i + 500]) for i in range(0, len(questions), 500)]
    )
    shares = {"semantic": right[~kinds], "syntactic": right[kinds], "analogies": right}
    likeness = {"wordsim": "EN-WS-353-ALL.txt", "simlex": "EN-SIMLEX-999.txt"}
    return {name: round(100 * float(found.mean()), 2) for name, found in shares.items()} | {
        name: round(100 * _correlation(number, unit, file), 2) for name, file in likeness.items()
    }


def _analogies(number: dict[str, int]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether each question is of grammar, and its four words."""
    path = machine.data("word_analogies", "questions-words.txt")
    if path is None:
        raise SystemExit("word_analogies is not in the data folder")
    kinds, questions, grammar = [], [], False
    for line in path.read_text(encoding="utf-8").lower().splitlines():
        words = line.split()
        if words[0] == ":":
            grammar = words[1].startswith("gram")
        elif all(number.get(word, 30_000) < 30_000 for word in words):
            kinds.append(grammar)
            questions.append([number[word] for word in words])
    return np.array(kinds), np.array(questions)


def _answered(unit: NDArray[np.float32], questions: NDArray[np.int64]) -> NDArray[np.bool_]:
    a, b, c, d = questions.T
    scores = (unit[b] - unit[a] + unit[c]) @ unit.T
    scores[np.arange(len(a))[:, None], questions[:, :3]] = -np.inf
    return np.asarray(scores.argmax(axis=1) == d)


def _correlation(number: dict[str, int], unit: NDArray[np.float32], file: str) -> float:
    from scipy.stats import spearmanr

    path = machine.data("word_similarity", file)
    if path is None:
        raise SystemExit("word_similarity is not in the data folder")
    rows = [line.lower().split() for line in path.read_text(encoding="utf-8").splitlines()]
    known = [(number[a], number[b], float(score)) for a, b, score in rows if a in number and b in number]
    left, right, people = zip(*known, strict=True)
    return float(spearmanr((unit[list(left)] * unit[list(right)]).sum(axis=1), people)[0])


def main() -> None:
    """Reads the arguments, measures, prints and writes."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--megabytes", type=int, default=10, help="of the text")
    arguments.add_argument("--epochs", type=int, default=15)
    arguments.add_argument("--repetitions", type=int, default=5, help="of the counting")
    arguments.add_argument("--c", type=Path, help="folder of the built C programs")
    arguments.add_argument("--keep", type=Path, help="folder for what they write")
    arguments.add_argument("--out", type=Path, default=machine.RESULTS / "words_glove.csv")
    asked = arguments.parse_args()
    path = machine.needed("wiki17m", "wiki17m_docs.txt.bz2")
    if path is None:
        return
    with bz2.open(path) as file, tempfile.TemporaryDirectory() as folder:
        text = file.read(asked.megabytes * 10**6)
        whole = Path(folder) / "text.txt"
        whole.write_bytes(text)
        reading.MOST = len(text)  # the C program does not cut long articles
        corpus = read_corpus(whole, threads=1)
        rows = counting(corpus, asked.repetitions)
        if asked.c is not None:
            rows += against(Program(asked.c, asked.keep or Path(folder) / "c", text), corpus, asked.epochs)
    rows = [{"megabytes": asked.megabytes, **one} for one in rows]
    machine.print_table(rows, list(rows[0]))
    machine.write_csv(asked.out, rows, ("megabytes", "step", "program", "cpu"))


if __name__ == "__main__":
    main()
