"""Labels for texts without training: banking77's questions by the names of its classes, with all-MiniLM-L6-v2.

    python benchmarks/zero_shot.py [--every 4] [--out benchmarks/results/zero_shot.csv]

Cosines become probabilities by a softmax with a scale; a scale is good where the mean probability of what was taken is
the share that is right, and the log loss is small. Data: banking77 in ../shared/data or OMNIVEC_TEST_DATA.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

import machine
import omnivec
from machine import significant
from omnivec.tasks.classify import SCALE, Classifier

SCALES = (10.0, 15.0, SCALE, 30.0, 40.0)


def main() -> None:
    """Asks, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--every", type=int, default=4, help="every so many texts of the test part")
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "zero_shot.csv")
    asked = parser.parse_args()
    path = machine.needed("banking77", "test.csv")
    if path is None:
        return
    with path.open(encoding="utf-8") as file:
        texts, classes = zip(*((row["text"], row["category"]) for row in csv.DictReader(file)), strict=True)
    names = sorted(set(classes))
    truth = np.array([names.index(name) for name in classes[:: asked.every]])
    model, rows = omnivec.load(), []
    for scale in SCALES:
        labels = [name.replace("_", " ") for name in names]
        found = Classifier.of(model, labels, scale=scale).run(texts[:: asked.every]).probabilities
        rows.append(
            {
                "scale": scale,
                "texts": len(truth),
                "labels": len(names),
                "accuracy": significant(100 * float((found.argmax(1) == truth).mean()), 3),
                "mean_probability": significant(100 * float(found.max(1).mean()), 3),
                "log_loss": significant(-float(np.log(found[np.arange(len(truth)), truth]).mean())),
            }
        )
    machine.print_table(rows, list(rows[0]))
    machine.write_csv(asked.out, rows)


if __name__ == "__main__":
    main()
