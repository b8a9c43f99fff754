"""Images and texts in one space from a thousand and a half pairs: EfficientNet-Lite0 and all-MiniLM-L6-v2 on emoji.

Neither model has seen the other. Heads are learned on vectors of emoji and of their names, and partners of pairs that
were held out are sought in both directions: at random ("random"), and of whole subcategories ("subcategories"), where
no near twin of a sought emoji, in another skin tone or of another country, was learned from. Beside the methods:
chance, and the nearest learned neighbour's partner as the guess. Writes results/align.csv.

    python benchmarks/align.py

Data: emoji_pairs in ../shared/data or OMNIVEC_TEST_DATA.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import machine
import omnivec
from omnivec.training.projector import ContrastiveOptions as Contrastive
from omnivec.training.projector import contrastive
from omnivec.vectors import alignment
from omnivec.vectors.unit import unit

SHARE = 0.2
K = 10
BORDER = 5
CONTRASTIVE = Contrastive(256, 1024, 40, 256, 1e-3, 0.01, 0.5, 10.0, 0, show_progress_bar=False)
METHODS = {**alignment.METHODS, "contrastive": lambda a, b, strength: contrastive(a, b, CONTRASTIVE)}


def framed(content: bytes) -> Image.Image:
    """A transparent picture of 64 pixels a side on white, with the border that the network crops off."""
    picture = Image.open(io.BytesIO(content)).convert("RGBA")
    white = Image.new("RGBA", (picture.width + 2 * BORDER, picture.height + 2 * BORDER), "white")
    white.alpha_composite(picture, (BORDER, BORDER))
    return white.convert("RGB")


def splits(groups: list[str], seeds: int) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
    """(protocol, seed, rows to learn from, rows held out)."""
    for seed in range(seeds):
        yield ("random", seed, *alignment.split(len(groups), SHARE, seed))
        order, held = (
            np.random.default_rng(seed).permutation(sorted(set(groups))),
            np.zeros(len(groups), bool),
        )
        for group in order:
            if held.mean() >= SHARE:
                break
            held |= np.array(groups) == group
        yield "subcategories", seed, np.flatnonzero(~held), np.flatnonzero(held)


def neighbours(
    left: np.ndarray, right: np.ndarray, known: np.ndarray, held: np.ndarray
) -> tuple[float, float]:
    """Recall where an item's vector on the other side is taken from its nearest neighbour among the known pairs."""
    a, b = unit(left.astype(np.float64)), unit(right.astype(np.float64))
    near = known[(a[held] @ a[known].T).argmax(1)]
    forth = alignment.recall(right[near], right[held], K)[0]
    near = known[(b[held] @ b[known].T).argmax(1)]
    return forth, alignment.recall(left[near], left[held], K)[0]


def measured(
    left: np.ndarray, right: np.ndarray, known: np.ndarray, held: np.ndarray
) -> Iterator[tuple[Any, ...]]:
    """(method, recall from left to right, and back, strength, CPU seconds) of one split."""
    chance = min(1.0, K / len(held))
    yield "chance", chance, chance, 0.0, 0.0
    found, took = machine.spent(partial(neighbours, left, right, known, held))
    yield "nearest neighbour", *found, 0.0, took.cpu
    for name, fit in METHODS.items():
        strengths = alignment.STRENGTHS if name in ("ridge", "cca") else (0.0,)
        learn = partial(alignment.choose, fit, left[known], right[known], strengths)
        made, took = machine.spent(learn)
        found = alignment.recall(made.left(left[held]), made.right(right[held]), K)
        yield name, *found, made.strength, took.cpu


def main() -> None:
    """Measures, prints a table and writes the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=machine.RESULTS / "align.csv")
    given = parser.parse_args()
    folder = machine.data("emoji_pairs")
    if folder is None:
        sys.exit("emoji_pairs is not in the data folder; OMNIVEC_TEST_DATA names another place")
    emoji = json.loads((folder / "emoji.json").read_text(encoding="utf-8"))
    with zipfile.ZipFile(folder / "twitter64.zip") as archive:
        pictures = [archive.read(one["image"]) for one in emoji]
    left = omnivec.load("efficientnet-lite0").encode([framed(one) for one in pictures])
    right = omnivec.load("all-MiniLM-L6-v2").encode([one["name"].lower() for one in emoji])

    found: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for protocol, _, known, held in splits([one["subcategory"] for one in emoji], given.seeds):
        for name, *values in measured(left, right, known, held):
            found.setdefault((protocol, name), []).append((len(held), *values))
    columns = ("held_out", "image_to_text", "text_to_image", "strength", "cpu_s")
    rows = [
        {"pairs": len(emoji), "splits": given.seeds, "held_out_by": protocol, "method": name}
        | {
            f"recall@{K}_{c}" if "_to_" in c else c: machine.significant(v, 3)
            for c, v in mean(columns, values)
        }
        for (protocol, name), values in found.items()
    ]
    machine.print_table(rows, list(rows[0])[2:])
    machine.write_csv(given.output, rows)


def mean(columns: tuple[str, ...], values: list[tuple[Any, ...]]) -> Iterator[tuple[str, float]]:
    """The mean over the splits of each column."""
    yield from zip(columns, np.mean(values, 0).tolist(), strict=True)


if __name__ == "__main__":
    main()
