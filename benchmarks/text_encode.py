"""Text to vectors: omnivec against the libraries that users would take instead, one model, the same cores.

    python benchmarks/text_encode.py [--quick] [--repetitions 5] [--engine NAME ...] [--peer NAME=/venv/bin/python ...]

Every engine is a process of its own and all stand ready at once; each repetition takes fresh texts, so that shapes
never seen before are paid for, and gives them to every engine in turn. Each has all cores and its own batching; of
the batch sizes in peers.py the faster one on a sample of the set is taken. Ratios are medians over the repetitions of
(sentence-transformers' default / engine) for the same texts: above 1 is faster. On a shared machine trust
`ratio_cpu`. `peak_part` is the model's arithmetic for real tokens, padding left out, by the fastest matrix product
that was measured in the same run in the engine's precision. An engine that cannot run has a row that says why.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import machine
import omnivec
import peers_worker
from machine import significant
from peers import DEFAULT, ENVIRONMENTS, PEERS, Peer
from peers_peak import model_flops
from peers_worker import PeerError, Took, Worker

MODEL = "all-MiniLM-L6-v2"
LEAST_COSINE = 0.9995
Vectors = NDArray[np.float32]


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
    "short 8-30": TextSet(600, lambda random: int(random.integers(8, 31))),
    "mixed 10-256": TextSet(300, lambda random: np.exp(random.uniform(np.log(10), np.log(257)))),
    "long 256": TextSet(64, lambda random: int(random.integers(290, 400))),  # the engines cut at 256
}


@dataclass
class Engine:
    """An engine in this run.

    Attributes:
        peer: its row of the table in peers.py.
        worker: its process; None when it has failed.
        status: "ok", or why it has no figures.
    """

    peer: Peer
    worker: Worker | None
    status: str = "ok"

    def encode(self, texts: Sequence[str], rows: int) -> tuple[Vectors, Took] | None:
        """Vectors and what they took; None once it has failed, and `status` says why."""
        if self.worker is None:
            return None
        try:
            return self.worker.encode(texts, rows)
        except PeerError as error:
            self.worker.close()
            self.worker, self.status = None, str(error)
            return None


@dataclass
class Measured:
    """What one engine did on one set, by repetition."""

    rows: int = 0
    spent: list[Took] = field(default_factory=list)
    vectors: list[Vectors] = field(default_factory=list)


@dataclass(frozen=True)
class Work:
    """What a set asked for: operations per repetition, and the machine's GFLOP/s by precision."""

    texts: int
    flops: Sequence[float]
    peaks: Mapping[str, float]


def start(names: Sequence[str], pythons: Mapping[str, str], root: Path, threads: int) -> list[Engine]:
    """The engines that are compared, in the order of the table."""
    engines = []
    for peer in PEERS:
        if peer.name not in (*names, DEFAULT) and (names or peer.named_only):
            continue
        python = pythons.get(peer.environment, sys.executable)
        try:
            engines.append(Engine(peer, peers_worker.start(python, peer.name, root, threads)))
        except PeerError as error:
            engines.append(Engine(peer, None, str(error)))
            print(f"{peer.name}: {error}")
    return engines


def passages(path: Path, draw: Callable[[np.random.Generator], float], seed: int) -> Iterator[str]:
    """Endless fresh texts of drawn lengths: one after the other from the articles, at whole words."""
    tokenizer, random = omnivec.load(MODEL).model.texts.tokenizer, np.random.default_rng(seed)
    for article in machine.articles(path):
        text = article[:100_000]
        starts = [start for start, _ in tokenizer.spans(text).tolist()]
        place = 0
        while place + 400 < len(starts):
            end = place + max(1, int(draw(random)) - tokenizer.special_count)
            begin, behind = text.rfind(" ", 0, starts[place] + 1) + 1, text.rfind(" ", 0, starts[end])
            yield text[begin:behind] if behind > begin else text[begin : starts[end]]
            place = end


def measure(
    engines: Sequence[Engine], size: TextSet, fresh: Iterator[str], repetitions: int
) -> tuple[dict[str, Measured], list[list[str]]]:
    """All engines on one set, in turns; and the texts of each repetition."""
    batches = tune(engines, [next(fresh) for _ in range(max(32, size.texts // 3))])
    texts = [[next(fresh) for _ in range(size.texts)] for _ in range(repetitions)]
    by_name = {engine.peer.name: engine for engine in engines}
    measured = {name: Measured(batches.get(name, 0)) for name in by_name}
    for repetition, name in machine.in_turns(list(by_name), repetitions):
        done = by_name[name].encode(texts[repetition], measured[name].rows)
        if done is not None:
            measured[name].vectors.append(done[0])
            measured[name].spent.append(done[1])
    return measured, texts


def tune(engines: Sequence[Engine], sample: Sequence[str]) -> dict[str, int]:
    """The faster of each engine's batch sizes on a sample; the first calls, which are not counted, warm it up."""
    chosen = {}
    for engine in engines:
        best: dict[int, float] = {}
        for _ in range(2 if len(engine.peer.batches) > 1 else 1):
            for rows in engine.peer.batches:
                engine.encode(sample[:32], rows)
                done = engine.encode(sample, rows) if len(engine.peer.batches) > 1 else None
                best[rows] = min(best.get(rows, float("inf")), done[1].wall if done else float("inf"))
        chosen[engine.peer.name] = min(best, key=lambda rows: best[rows])
    return chosen


def cosine(a: Vectors, b: Vectors) -> NDArray[np.float64]:
    """(n, d) and (n, d) -> (n,) cosines, in float64."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    return np.asarray((x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1))


def similarity_score(engine: Engine) -> float | str:
    """Spearman x 100 of cosines with people's scores on STSBenchmark's test part; "" without the data."""
    path = machine.data("stsbenchmark", "stsb-en-test.csv")
    if path is None:
        return ""
    from scipy.stats import spearmanr

    with path.open(newline="", encoding="utf-8") as file:
        left, right, gold = zip(*csv.reader(file), strict=True)
    done = engine.encode([*left, *right], engine.peer.batches[0])
    if done is None:
        return ""
    cosines = cosine(done[0][: len(left)], done[0][len(left) :])
    return round(100 * float(spearmanr(cosines, [float(score) for score in gold])[0]), 3)


FIGURES = (
    "sentences_per_s",
    "ratio_wall",
    "cpu_s",
    "ratio_cpu",
    "ratio_cpu_low",
    "ratio_cpu_high",
    "cores_got",
    "gflops",
    "peak_gflops",
    "peak_part",
    "cosine_mean",
    "cosine_min",
)


def row(engine: Engine, kind: str, work: Work, found: Mapping[str, Measured]) -> dict[str, Any]:
    """One line of the result; without figures where the engine failed."""
    own, base = found[engine.peer.name], found[DEFAULT]
    complete = len(own.spent) == len(work.flops) == len(base.spent)
    figures = compared(engine, own, base, work) if complete else dict.fromkeys(FIGURES, "")
    status = engine.status
    if complete and status == "ok" and float(figures["cosine_min"]) < LEAST_COSINE:
        status = f"a cosine of {figures['cosine_min']} is below {LEAST_COSINE}"
    return {
        "set": kind,
        "engine": engine.peer.name,
        "texts": work.texts,
        "repetitions": len(own.spent),
        "batch": own.rows or "",
        "precision": engine.worker.precision if engine.worker else "",
        **figures,
        "status": status,
        "software": engine.worker.software if engine.worker else "",
    }


def compared(engine: Engine, own: Measured, base: Measured, work: Work) -> dict[str, Any]:
    """The figures of an engine beside those of the default."""
    wall, cpu = (statistics.median(getattr(one, clock) for one in own.spent) for clock in ("wall", "cpu"))
    pairs = list(zip(base.spent, own.spent, strict=True))
    by_cpu = [b.cpu / o.cpu for b, o in pairs]
    cosines = np.concatenate([cosine(a, b) for a, b in zip(own.vectors, base.vectors, strict=True)])
    rate = statistics.median(flops / one.wall / 1e9 for flops, one in zip(work.flops, own.spent, strict=True))
    peak = work.peaks[engine.worker.precision if engine.worker else "float32"]
    values = (
        significant(work.texts / wall),
        significant(statistics.median(b.wall / o.wall for b, o in pairs), 3),
        significant(cpu),
        significant(statistics.median(by_cpu), 3),
        significant(min(by_cpu), 3),
        significant(max(by_cpu), 3),
        significant(statistics.median(one.cpu / one.wall for one in own.spent), 3),
        significant(rate, 3),
        significant(peak, 3),
        significant(rate / peak, 3),
        round(float(cosines.mean()), 7),
        round(float(cosines.min()), 7),
    )
    return dict(zip(FIGURES, values, strict=True))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the texts, at most two repetitions, no STS"
    )
    parser.add_argument("--repetitions", "--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=machine.cores(), help="of every engine")
    parser.add_argument("--engine", action="append", default=[], help="only this one beside the default")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=PYTHON",
        help=f"the Python that has a peer: {', '.join(ENVIRONMENTS)}",
    )
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "text_encode.csv")
    asked = parser.parse_args()
    known = {peer.name for peer in PEERS}
    if unknown := [name for name in asked.engine if name not in known]:
        parser.error(f"--engine {unknown[0]!r} is none of {', '.join(sorted(known))}")
    asked.pythons = dict(option.partition("=")[::2] for option in asked.peer)
    if unknown := [name for name in asked.pythons if name not in ENVIRONMENTS]:
        parser.error(f"--peer {unknown[0]!r} is none of {', '.join(ENVIRONMENTS)}")
    return asked


def compare(engines: Sequence[Engine], asked: argparse.Namespace, path: Path) -> list[dict[str, Any]]:
    """All sets, one after the other."""
    scores = {engine.peer.name: "" if asked.quick else similarity_score(engine) for engine in engines}
    model = omnivec.load(MODEL)
    tokenizer = model.model.texts.tokenizer
    repetitions = min(2, asked.repetitions) if asked.quick else asked.repetitions
    done = []
    for kind, size in SETS.items():
        part = TextSet(size.texts // 10, size.tokens) if asked.quick else size
        found, texts = measure(engines, part, passages(path, part.tokens, seed=7), repetitions)
        flops = []
        for batch in texts:
            lengths = [min(len(ids), int(model.max_length)) for ids in tokenizer.ids(batch)]
            flops.append(model_flops(model.model.published, lengths))
        done.append((kind, part.texts, flops, found))
    return [
        {
            **row(engine, kind, Work(count, flops, machine.peaks(asked.threads)), found),
            "threads": asked.threads,
            "sts_spearman": scores[engine.peer.name],
        }
        for kind, count, flops, found in done
        for engine in engines
    ]


def main() -> None:
    """Reads the arguments, measures, prints and writes."""
    asked = arguments()
    path = machine.needed("wiki17m", "wiki17m_docs.txt.bz2")
    if path is None:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = str(omnivec.load(MODEL).folder)
        prepare = [sys.executable, str(machine.HERE / "peers_prepare.py"), folder, name]
        subprocess.run(prepare, check=True, stderr=subprocess.DEVNULL)
        engines = start(asked.engine, asked.pythons, Path(name), asked.threads)
        try:
            rows = compare(engines, asked, path)
        finally:
            for engine in engines:
                if engine.worker is not None:
                    engine.worker.close()
    hidden = ("texts", "repetitions", "software", "threads", "ratio_cpu_low", "ratio_cpu_high")
    machine.print_table(rows, [column for column in rows[0] if column not in hidden])
    machine.write_csv(asked.out, rows, ("set", "engine", "threads", "cpu"), asked.threads)


if __name__ == "__main__":
    main()
