"""How to batch: budgets of tokens, steps that lengths are rounded to, and streams, on real all-MiniLM-L6-v2.

    python benchmarks/batching.py [--quick] [--repetitions 3] [--out benchmarks/results/batching.csv]

Texts are tokenised, sorted by length, padded to the rounded length of the longest in a batch, and computed by as many
threads as there are streams. Every combination is compiled afresh for each repetition and takes fresh texts twice:
`cold` pays for every shape, `warm` for those that the first call has not seen. Ratios are medians over the
repetitions of (the policy in use / combination): above 1 is faster than what omnivec does.

Two questions are answered beside it. Whether tokenising while the engine computes helps: `ahead` tokenises the next
texts in a thread of its own, `before` tokenises all first. And whether packing several texts into one row could pay:
it saves the padding and nothing else, so its gain is at most the padded part of the tokens.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import machine
import omnivec
from machine import Spent, significant
from omnivec.ops import openvino
from omnivec.ops.base import EngineSettings, Executable
from text_encode import MODEL, SETS, passages

Ids = NDArray[np.int32]
BUDGETS = (256, 512, 1024, 2048, 4096, 8192)
STEPS = {"8": (8, 8), "16": (16, 16), "32": (32, 32), "none": (1, 1)}
STEPS |= {"8 to 64, then 16": (8, 16), "4 to 64, then 16": (4, 16)}
STREAMS = (1, 2, 4)
SHORT = 64
AHEAD = 128
WORTH = 0.05


@dataclass(frozen=True)
class Policy:
    """One combination.

    Attributes:
        budget: tokens in a batch, padding included.
        step: a name in STEPS: what lengths are rounded up to, at most 64 tokens and above.
        streams: batches at a time.
    """

    budget: int
    step: str
    streams: int

    def rounded(self, length: int, limit: int) -> int:
        """A length as it is padded."""
        low, high = STEPS[self.step]
        step = low if length <= SHORT else high
        return min(-(-length // step) * step, limit)

    def batches(self, lengths: Sequence[int], limit: int) -> Iterator[tuple[int, list[int]]]:
        """(padded length, which texts), the longest first."""
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        while order:
            width = self.rounded(lengths[order[0]], limit)
            rows = max(1, self.budget // width)
            yield width, order[:rows]
            order = order[rows:]


def padded_part(policy: Policy, lengths: Sequence[int], limit: int) -> float:
    """The part of all computed places that is padding."""
    places = sum(width * len(chosen) for width, chosen in policy.batches(lengths, limit))
    return 1 - sum(lengths) / places


class Runner:
    """A model compiled for a policy; what it does is what omnivec does, less the handling of failures."""

    def __init__(self, model: omnivec.Embedder, policy: Policy, threads: int) -> None:
        self._policy, self._preparer = policy, model.model.texts
        settings = EngineSettings(model.card["precision"], threads, policy.streams)
        own = model.model
        self._engine: Executable = openvino.compile_program(
            own.body, own.inputs, own.tensors, settings
        ).bulk()

    def tokenise(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text, cut to the model's limit."""
        limit, tokenizer = self._preparer.limit, self._preparer.tokenizer
        ends = tokenizer.special_ids()[1]
        # The limit counts special tokens, and the last of them stays.
        return [
            np.concatenate([ids[: limit - len(ends)], ends]).astype(np.int32) if len(ids) > limit else ids
            for ids in tokenizer.ids(list(texts))
        ]

    def before(self, texts: Sequence[str]) -> None:
        """All are tokenised, then all computed."""
        self._compute(self.tokenise(texts))

    def ahead(self, texts: Sequence[str]) -> None:
        """The longest are computed while the next are tokenised; characters stand for tokens in the order."""
        order = sorted(texts, key=len, reverse=True)
        parts = [order[i : i + AHEAD] for i in range(0, len(order), AHEAD)]
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(self._policy.streams) as pool:
            running = []
            for ids in reader.map(self.tokenise, parts):
                for width, chosen in self._policy.batches([len(own) for own in ids], self._preparer.limit):
                    running.append(pool.submit(self._run, width, [ids[i] for i in chosen]))
            for one in running:
                one.result()

    def _compute(self, ids: Sequence[Ids]) -> None:
        batches = self._policy.batches([len(own) for own in ids], self._preparer.limit)
        with ThreadPoolExecutor(self._policy.streams) as pool:
            for _ in pool.map(lambda batch: self._run(batch[0], [ids[i] for i in batch[1]]), batches):
                pass

    def _run(self, width: int, rows: Sequence[Ids]) -> None:
        padded = np.full((len(rows), width), self._preparer.tokenizer.pad_id, np.int32)
        mask = np.zeros_like(padded)
        for i, own in enumerate(rows):
            padded[i, : len(own)] = own
            mask[i, : len(own)] = 1
        self._engine.run({"ids": padded, "mask": mask})


@dataclass(frozen=True)
class Result:
    """What a policy did in one repetition.

    Attributes:
        cold: with shapes never seen.
        warm: with other texts after that.
        ahead: tokenising while computing, scaled to as many tokens as `warm` had.
        tokenising: that alone.
        padded: the part of the places that is padding.
    """

    cold: Spent
    warm: Spent
    ahead: Spent
    tokenising: Spent
    padded: float


def measure(model: omnivec.Embedder, policy: Policy, texts: Sequence[Sequence[str]], threads: int) -> Result:
    """One policy on three lists of fresh texts."""
    runner = Runner(model, policy, threads)
    ids, tokenising = machine.spent(lambda: runner.tokenise(texts[1]))
    padded = padded_part(policy, [len(own) for own in ids], int(model.max_length))
    _, cold = machine.spent(lambda: runner.before(texts[0]))
    _, warm = machine.spent(lambda: runner.before(texts[1]))
    _, ahead = machine.spent(lambda: runner.ahead(texts[2]))
    tokens = [sum(map(len, runner.tokenise(part))) for part in texts[1:]]
    return Result(
        cold,
        warm,
        Spent(*(took * tokens[0] / tokens[1] for took in (ahead.wall, ahead.cpu))),
        tokenising,
        padded,
    )


def row(
    kind: str, policy: Policy, own: Sequence[Result], used: Sequence[Result], texts: int
) -> dict[str, Any]:
    """One line of the result; `used` is the policy that omnivec has."""

    def ratio(name: str, clock: str) -> float:
        pairs = zip(used, own, strict=True)
        return statistics.median(
            getattr(getattr(u, name), clock) / getattr(getattr(o, name), clock) for u, o in pairs
        )

    padded = statistics.median(one.padded for one in own)
    return {
        "set": kind,
        "budget": policy.budget,
        "step": policy.step,
        "streams": policy.streams,
        "repetitions": len(own),
        "warm_sentences_per_s": significant(texts / statistics.median(one.warm.wall for one in own)),
        "warm_ratio_wall": significant(ratio("warm", "wall"), 3),
        "warm_ratio_cpu": significant(ratio("warm", "cpu"), 3),
        "cold_ratio_wall": significant(ratio("cold", "wall"), 3),
        "cold_ratio_cpu": significant(ratio("cold", "cpu"), 3),
        "ahead_gain_wall": significant(statistics.median(one.warm.wall / one.ahead.wall for one in own), 3),
        "tokenising_part_cpu": significant(
            statistics.median(one.tokenising.cpu / one.warm.cpu for one in own), 3
        ),
        "padded_part": significant(padded, 3),
        "packing_at_most": significant(1 / (1 - padded), 3),
    }


def verdicts(rows: Sequence[dict[str, Any]], used: Policy) -> Iterator[str]:
    """What the rows say of the policy in use."""
    for kind in dict.fromkeys(row["set"] for row in rows):
        of_kind = [row for row in rows if row["set"] == kind]
        own = next(row for row in of_kind if all(row[key] == value for key, value in vars(used).items()))
        best = max(of_kind, key=lambda row: row["warm_ratio_cpu"])
        small = own["padded_part"] < WORTH
        yield (
            f"{kind}: {own['padded_part']:.1%} of the places are padding, packing gains at most "
            f"{own['packing_at_most']} times"
            + (": it cannot pay" if small else "")
            + f"; tokenising is {own['tokenising_part_cpu']:.1%} of the CPU time, ahead of the engine "
            f"{own['ahead_gain_wall']} times; best by CPU: {best['budget']} tokens, step {best['step']}, "
            f"{best['streams']} streams, {best['warm_ratio_cpu']} times the policy in use"
        )


def main() -> None:
    """Reads the arguments, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the texts, one repetition, two budgets"
    )
    parser.add_argument("--repetitions", "--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--budgets", help="tokens in a batch, parted by commas; not given: all")
    parser.add_argument("--streams", help="batches at a time, likewise")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="not given: as omnivec chooses")
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "batching.csv")
    asked = parser.parse_args()
    path = machine.needed("wiki17m", "wiki17m_docs.txt.bz2")
    if path is None:
        return
    model = omnivec.load(MODEL, threads=asked.threads, precision=asked.precision)
    used = Policy(1024, "4 to 64, then 16", max(s for s in STREAMS if s <= max(1, asked.threads)))
    budgets = numbers(asked.budgets, (512, 1024) if asked.quick else BUDGETS)
    policies = [Policy(*one) for one in product(budgets, STEPS, numbers(asked.streams, STREAMS))]
    rows = []
    for kind, size in SETS.items():
        texts = size.texts // 10 if asked.quick else size.texts
        repetitions = 1 if asked.quick else asked.repetitions
        fresh = passages(path, size.tokens, seed=7)
        given = [[[next(fresh) for _ in range(texts)] for _ in range(3)] for _ in range(repetitions)]
        done: dict[str, list[Result]] = {str(policy): [] for policy in policies}
        by_name = {str(policy): policy for policy in policies}
        for repetition, name in machine.in_turns(list(by_name), repetitions):
            done[name].append(measure(model, by_name[name], given[repetition], asked.threads))
        rows += [row(kind, policy, done[str(policy)], done[str(used)], texts) for policy in policies]
    rows = [{**one, "threads": asked.threads, "precision": model.card["precision"]} for one in rows]
    machine.print_table(rows, [column for column in rows[0] if column not in ("repetitions", "threads")])
    print(*verdicts(rows, used), sep="\n")
    machine.write_csv(asked.out, rows)


def numbers(said: str | None, usual: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers parted by commas; `usual` where nothing is said."""
    return tuple(int(each) for each in said.split(",")) if said else usual


if __name__ == "__main__":
    main()
