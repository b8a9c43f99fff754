"""Classification from few examples, by vectors of models: accuracy, and how true the estimates and probabilities are.

    python benchmarks/probes.py [--set esc10 digits banking77 trec] [--shots 1 2 5 10 all] [--cache FOLDER]

Four sets: environmental sounds in five published folds (ESC-10, YAMNet); spoken digits of six speakers, each asked by
what the others said, speakers being groups (Free Spoken Digit Dataset, layer 3 of Whisper tiny.en); questions of 77
and of 6 kinds with their published test parts (banking77 and TREC, all-MiniLM-L6-v2). Of each class so many examples
are drawn from the training part, with the same draws for each kind of probe.

The columns are means over folds and draws: accuracy on the test part; the estimate by cross-validation of the training
part, and the mean absolute difference of the two; the expected calibration error on the test part; how often each rule
was taken. Writes results/probes.csv. Data: ../shared/data or OMNIVEC_TEST_DATA; what is absent is
left out, and said. --cache keeps the vectors.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import machine
import omnivec
from omnivec.vectors.probe_estimate import calibration_error
from omnivec.vectors.probe_rules import LogisticRule
from omnivec.vectors.probes import KINDS, VectorClassifier

SETS = ("esc10", "digits", "banking77", "trec")
SHOTS = ("1", "2", "5", "10", "all")
DRAWS = 5
MODELS = {"esc10": "yamnet", "digits": "whisper-tiny.en[layer=3,fast]"}
TEXTS = "all-MiniLM-L6-v2"

Names = NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class Data:
    """Vectors (n, dim) with labels (n,), the part (n,) in which each is asked, and the group (n,) of each, if any.

    A part "" is never asked, so that a set with a test part has the parts "" and "test".
    """

    vectors: NDArray[np.float32]
    labels: Names
    parts: Names
    groups: Names | None


def read(name: str, cache: Path | None) -> Data | None:
    """The data of a set; None, and said, where it is absent."""
    items: list[Any]
    groups = None
    if name == "esc10":
        import esc10

        items, labels, parts = esc10.clips()
    elif name == "digits":
        import spoken_digits

        items, labels, parts = spoken_digits.clips()
        groups = parts
    else:
        texts = banking() if name == "banking77" else trec()
        if texts is None:
            return None
        items = [text for text, _, _ in texts]
        labels, parts = np.array([label for _, label, _ in texts]), np.array([part for _, _, part in texts])
    file = None if cache is None else cache / f"{name}.npy"
    if file is not None and file.exists():
        return Data(np.load(file), labels, parts, groups)
    vectors = omnivec.load(MODELS.get(name, TEXTS), precision="float32").encode(items)
    if file is not None:
        np.save(file, vectors)
    return Data(vectors, labels, parts, groups)


def banking() -> list[tuple[str, str, str]] | None:
    """(question, class, part) of banking77."""
    if machine.needed("banking77", "train.csv") is None:
        return None
    rows = []
    for file, part in (("train.csv", ""), ("test.csv", "test")):
        path = machine.data("banking77", file)
        assert path is not None
        with path.open(encoding="utf-8", newline="") as lines:
            rows += [(row["text"], row["category"], part) for row in csv.DictReader(lines)]
    return rows


def trec() -> list[tuple[str, str, str]] | None:
    """(question, class, part) of TREC; its six classes."""
    if machine.needed("sentence_classification", "TREC.train.all") is None:
        return None
    rows = []
    for file, part in (("TREC.train.all", ""), ("TREC.test.all", "test")):
        path = machine.data("sentence_classification", file)
        assert path is not None
        for line in path.read_text(encoding="latin-1").splitlines():
            label, _, text = line.partition(" ")
            rows.append((text.strip(), label.partition(":")[0], part))
    return rows


def draws(data: Data, shots: str) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The rows to learn from and those to ask, for each part and each draw."""
    random = np.random.default_rng(0)
    asked_parts = sorted(set(data.parts.tolist()) - {""})
    for part in asked_parts:
        known, asked = np.flatnonzero(data.parts != part), np.flatnonzero(data.parts == part)
        for _ in range(1 if shots == "all" or len(asked_parts) > 1 else DRAWS):
            shuffled = random.permutation(known)
            if shots == "all":
                yield np.sort(known), asked
                continue
            each = [shuffled[data.labels[shuffled] == one][: int(shots)] for one in np.unique(data.labels)]
            yield np.concatenate(each), asked


def taken(probe: VectorClassifier) -> str:
    """The rule that was taken, in a word."""
    rule = probe.rule_
    return f"C={rule.strength:g}" if isinstance(rule, LogisticRule) else rule.kind


def measured(name: str, data: Data, shots: str) -> list[dict[str, Any]]:
    """The rows of all kinds for one number of examples of each class."""
    found: defaultdict[str, list[tuple[float, ...]]] = defaultdict(list)
    rules: defaultdict[str, Counter[str]] = defaultdict(Counter)
    examples = 0
    for known, asked in draws(data, shots):
        examples = len(known)
        for kind, make in KINDS.items():
            begun = time.process_time()
            groups = None if data.groups is None else data.groups[known]
            probe = make().fit(data.vectors[known], data.labels[known], groups)
            spent = time.process_time() - begun
            shares = probe.predict_proba(data.vectors[asked])
            truth = np.searchsorted(probe.classes_, data.labels[asked])
            accuracy = float((shares.argmax(axis=1) == truth).mean())
            stated = probe.estimate_
            estimate = np.nan if stated is None else stated.accuracy
            error = calibration_error(shares, truth)
            found[kind].append((accuracy, estimate, abs(accuracy - estimate), error, spent))
            rules[kind][taken(probe)] += 1
    rows = []
    for kind, values in found.items():
        accuracy, estimate, off, error, spent = np.mean(values, axis=0).tolist()
        rows.append(
            {
                "set": name,
                "model": MODELS.get(name, TEXTS),
                "shots": shots,
                "examples": examples,
                "kind": kind,
                "fits": len(values),
                "accuracy_%": round(100 * accuracy, 2),
                "estimate_%": "" if np.isnan(estimate) else round(100 * estimate, 2),
                "estimate_off_%": "" if np.isnan(off) else round(100 * off, 2),
                "calibration_error_%": round(100 * error, 2),
                "taken": " ".join(f"{rule}:{count}" for rule, count in rules[kind].most_common()),
                "cpu_s": round(spent, 2),
            }
        )
    return rows


def main() -> None:
    """Measures, prints a table and writes the CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--set", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--shots", nargs="+", default=list(SHOTS))
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--output", type=Path, default=machine.RESULTS / "probes.csv")
    given = parser.parse_args()
    for name in given.set:
        data = read(name, given.cache)
        for shots in given.shots if data is not None else ():
            assert data is not None
            rows = measured(name, data, shots)
            machine.print_table(rows, list(rows[0]))
            machine.write_csv(given.output, rows, ("set", "shots", "kind"))


if __name__ == "__main__":
    main()
