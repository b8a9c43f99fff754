"""How far a vector moves with the batch that it is computed in: each text alone, against batches of five sizes.

    python benchmarks/batch_effect.py [--every 10] [--out benchmarks/results/batch_effect.csv]

Rounding depends on shapes: kernels add in another order for another batch, and in bfloat16 each sum is rounded to eight
bits. Data: the STSBenchmark's test part in ../shared/data or OMNIVEC_TEST_DATA.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

import machine
import omnivec
from machine import significant

SIZES = (None, 2, 7, 32, 128)
"""Most items in a batch; None fills it to a budget of tokens."""


def main() -> None:
    """Embeds twice, compares, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--every", type=int, default=10, help="every so many texts")
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "batch_effect.csv")
    asked = parser.parse_args()
    path = machine.needed("stsbenchmark", "stsb-en-test.csv")
    if path is None:
        return
    with path.open(encoding="utf-8", newline="") as file:
        texts = list(dict.fromkeys(text for one, other, _ in csv.reader(file) for text in (one, other)))
    # Beside what people write, what a model has never seen: one letter, again and again.
    texts, rows = [*texts[:: asked.every], *("a" * n for n in range(1, 60))], []
    for precision, deterministic in (("bfloat16", False), ("float32", False), ("float32", True)):
        model = omnivec.load(precision=precision, deterministic=deterministic)
        alone = np.stack([model.encode(text) for text in texts])
        found = [model.encode(texts, batch_size=size, show_progress_bar=False) for size in SIZES]
        moved = np.concatenate([_moved(alone, vectors) for vectors in found])
        rows.append(
            {
                "precision": precision,
                "deterministic": deterministic,
                "vectors": len(moved),
                "largest_1_minus_cosine": significant(float(moved.max())),
                "mean_1_minus_cosine": significant(float(moved.mean())),
                "same_bits": sum(int((vectors == alone).all(axis=1).sum()) for vectors in found),
            }
        )
    machine.print_table(rows, list(rows[0]))
    machine.write_csv(asked.out, rows)


def _moved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 - cosine of the vectors (n, dim) of each row, in float64."""
    a, b = (
        v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a.astype(np.float64), b.astype(np.float64))
    )
    return 1 - np.einsum("nd,nd->n", a, b)


if __name__ == "__main__":
    main()
