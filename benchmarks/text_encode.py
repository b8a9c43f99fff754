"""Text to vectors: omnivec against sentence-transformers, one model, one process, the same cores.

    python benchmarks/text_encode.py [--quick] [--repetitions 5] [--out benchmarks/results/text_encode.csv]

Each repetition takes fresh texts, so that shapes never seen before are paid for, and gives them to every engine
in turn. Ratios are medians over the repetitions of (sentence-transformers' default / engine) for the same texts:
above 1 is faster than the default. On a shared machine trust `ratio_cpu`, of CPU seconds of the whole process.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import machine
import omnivec
from machine import Spent, significant

MODEL = "all-MiniLM-L6-v2"
BASE = "sentence-transformers float32"
Vectors = NDArray[np.float32]
Encode = Callable[[list[str]], Vectors]


@dataclass(frozen=True)
class TextSet:
    """Texts of one kind.

    Attributes:
        texts: how many in a repetition.
        tokens: draws the length of one in tokens.
    """

    texts: int
    tokens: Callable[[np.random.Generator], float]


SETS = {
    "short 8-30": TextSet(600, lambda random: random.integers(8, 31)),
    "mixed 10-256": TextSet(300, lambda random: np.exp(random.uniform(np.log(10), np.log(257)))),
    "long 256": TextSet(64, lambda random: random.integers(290, 400)),  # both engines cut at 256
}


@dataclass
class Measured:
    """What one engine did on one set, by repetition."""

    spent: list[Spent] = field(default_factory=list)
    cosines: list[NDArray[np.float64]] = field(default_factory=list)


def engines(names: Sequence[str], threads: int) -> dict[str, Encode]:
    """The engines that are compared, each with as many threads; in the order of the table."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    chosen = omnivec.load(MODEL, threads=threads)
    folder = str(chosen.folder)
    exact = omnivec.load(MODEL, threads=threads, precision="float32")
    half = omnivec.load(MODEL, threads=threads, precision="bfloat16")
    base = SentenceTransformer(folder, device="cpu")
    base_half = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.bfloat16})
    print(f"omnivec chose {chosen.card['precision']} ({chosen.card['reasons']['precision']})")
    made: dict[str, Encode] = {
        BASE: base.encode,
        # A bfloat16 tensor has no NumPy form: out as a tensor, then widened.
        "sentence-transformers bfloat16": lambda texts: (
            base_half.encode(texts, convert_to_tensor=True).float().numpy()
        ),
        "omnivec": chosen.encode,
        "omnivec float32": exact.encode,
        "omnivec bfloat16": half.encode,
    }
    return {name: encode for name, encode in made.items() if not names or name == BASE or name in names}


def passages(path: Path, draw: Callable[[np.random.Generator], float], seed: int) -> Iterator[str]:
    """Endless fresh texts of drawn lengths: one after the other from the articles, at whole words."""
    tokenizer, random = omnivec.load(MODEL).model.preparer.tokenizer, np.random.default_rng(seed)
    for article in machine.articles(path):
        text = article[:100_000]
        starts = [start for start, _ in tokenizer.spans(text).tolist()]
        place = 0
        while place + 400 < len(starts):
            end = place + max(1, int(draw(random)) - tokenizer.special_count)
            begin, behind = text.rfind(" ", 0, starts[place] + 1) + 1, text.rfind(" ", 0, starts[end])
            yield text[begin:behind] if behind > begin else text[begin : starts[end]]
            place = end


def measure(made: Mapping[str, Encode], size: TextSet, path: Path, repetitions: int) -> dict[str, Measured]:
    """All engines on one set, in turns."""
    fresh = passages(path, size.tokens, seed=7)
    for encode in made.values():
        encode([next(fresh) for _ in range(32)])  # kernels and threads of the first call are no throughput
    texts = [[next(fresh) for _ in range(size.texts)] for _ in range(repetitions)]
    vectors: dict[tuple[int, str], Vectors] = {}
    measured = {name: Measured() for name in made}
    for repetition, name in machine.in_turns(list(made), repetitions):
        encode = made[name]
        vectors[repetition, name], took = machine.spent(lambda e=encode, r=repetition: e(texts[r]))
        measured[name].spent.append(took)
    for (repetition, name), found in vectors.items():
        measured[name].cosines.append(cosine(found, vectors[repetition, BASE]))
    return measured


def cosine(a: Vectors, b: Vectors) -> NDArray[np.float64]:
    """(n, d) and (n, d) -> (n,) cosines, in float64."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    return np.asarray((x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1))


def similarity_scores(made: Mapping[str, Encode]) -> dict[str, float | str]:
    """Spearman x 100 of cosines with people's scores on STSBenchmark's test part, for each engine."""
    path = machine.data("stsbenchmark", "stsb-en-test.csv")
    if path is None:
        print("stsbenchmark is not here: no quality column")
        return dict.fromkeys(made, "")
    from scipy.stats import spearmanr

    with path.open(newline="", encoding="utf-8") as file:
        left, right, gold = zip(*csv.reader(file), strict=True)
    people = [float(score) for score in gold]
    return {
        name: round(100 * float(spearmanr(cosine(encode(list(left)), encode(list(right))), people)[0]), 3)
        for name, encode in made.items()
    }


def row(name: str, kind: str, texts: int, found: Mapping[str, Measured]) -> dict[str, Any]:
    """One line of the result."""
    own, base = found[name].spent, found[BASE].spent
    wall, cpu = (statistics.median(getattr(one, clock) for one in own) for clock in ("wall", "cpu"))
    pairs = list(zip(base, own, strict=True))
    by_cpu = [b.cpu / o.cpu for b, o in pairs]
    cosines = np.concatenate(found[name].cosines)
    return {
        "set": kind,
        "engine": name,
        "texts": texts,
        "repetitions": len(own),
        "sentences_per_s": significant(texts / wall),
        "ratio_wall": significant(statistics.median(b.wall / o.wall for b, o in pairs), 3),
        "cpu_s": significant(cpu),
        "ratio_cpu": significant(statistics.median(by_cpu), 3),
        "ratio_cpu_low": significant(min(by_cpu), 3),
        "ratio_cpu_high": significant(max(by_cpu), 3),
        "cores_got": significant(statistics.median(one.cpu / one.wall for one in own), 3),
        "cosine_mean": round(float(cosines.mean()), 7),
        "cosine_min": round(float(cosines.min()), 7),
    }


def main() -> None:
    """Reads the arguments, measures, prints and writes."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument(
        "--quick", action="store_true", help="a tenth of the texts, two repetitions, no STS"
    )
    arguments.add_argument("--repetitions", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=machine.cores(), help="of every engine")
    arguments.add_argument("--engine", action="append", default=[], help="only this one beside the default")
    arguments.add_argument("--out", type=Path, default=machine.RESULTS / "text_encode.csv")
    asked = arguments.parse_args()
    path = machine.data("wiki17m", "wiki17m_docs.txt.bz2")
    if path is None:
        print("skipped: wiki17m is not at ../shared/data, and OMNIVEC_TEST_DATA names no other place")
        return
    made = engines(asked.engine, asked.threads)
    quality = dict.fromkeys(made, "") if asked.quick else similarity_scores(made)
    rows = []
    for kind, size in SETS.items():
        part = TextSet(size.texts // 10, size.tokens) if asked.quick else size
        found = measure(made, part, path, 2 if asked.quick else asked.repetitions)
        rows += [
            {**row(name, kind, part.texts, found), "threads": asked.threads, "sts_spearman": quality[name]}
            for name in made
        ]
    shown = [column for column in rows[0] if column not in ("texts", "repetitions")]
    machine.print_table(rows, shown)
    machine.write_csv(asked.out, rows)


if __name__ == "__main__":
    main()
