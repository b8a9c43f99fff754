"""Spoken digits by vectors of models: the nearest neighbour among all other clips, and among those of other speakers.

    python benchmarks/spoken_digits.py [--model speech-embedding whisper-tiny.en ...] [--precision float32]

480 clips of the Free Spoken Digit Dataset: the first eight takes of ten digits by six speakers, 0.43 s each, at 8 kHz.
The nearest is by cosine of components that are standardised over all clips. Nothing is trained. Chance is 10 %.

Writes results/spoken_digits.csv; rows of other models stay. Data: free_spoken_digit in ../shared/data or
OMNIVEC_TEST_DATA.
"""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

import machine
import omnivec
from omnivec.types import Audio

MODELS = ("mfcc", "speech-embedding")
KEY = ("model", "precision")
TAKES = 8

Names = NDArray[np.str_]


def clips() -> tuple[list[Audio], Names, Names]:
    """The clips, the digit of each, and its speaker."""
    path = machine.data("free_spoken_digit", "recordings.zip")
    if path is None:
        sys.exit("free_spoken_digit is not in the data folder; OMNIVEC_TEST_DATA names another place")
    sounds, digits, speakers = [], [], []
    with zipfile.ZipFile(path) as files:
        for name in sorted(name for name in files.namelist() if name.endswith(".wav")):
            digit, speaker, take = Path(name).stem.split("_")
            if int(take) < TAKES:
                sounds.append(Audio(*soundfile.read(io.BytesIO(files.read(name)), dtype="float32")))
                digits.append(digit)
                speakers.append(speaker)
    return sounds, np.array(digits), np.array(speakers)


def measured(
    name: str, precision: str, sounds: list[Audio], digits: Names, speakers: Names
) -> dict[str, Any]:
    """The row of one model."""
    model = omnivec.load(name, precision=precision)
    vectors = model.encode(sounds)
    rows = (vectors - vectors.mean(0)) / (vectors.std(0) + 1e-6)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    scores = rows @ rows.T
    np.fill_diagonal(scores, -np.inf)
    others = np.where(speakers[:, None] == speakers, -np.inf, scores)
    right = [100 * float((digits[each.argmax(1)] == digits).mean()) for each in (others, scores)]
    return {
        "model": name,
        "precision": precision,
        "dim": model.dim,
        "clips": len(sounds),
        "other_speakers_%": round(right[0], 2),
        "any_other_clip_%": round(right[1], 2),
    }


def main() -> None:
    """Measures, prints a table and writes the CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", nargs="+", default=list(MODELS))
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--output", type=Path, default=machine.RESULTS / "spoken_digits.csv")
    given = parser.parse_args()
    sounds, digits, speakers = clips()
    rows = [measured(name, given.precision, sounds, digits, speakers) for name in given.model]
    machine.print_table(rows, list(rows[0]))
    machine.write_csv(given.output, rows, KEY)


if __name__ == "__main__":
    main()
