"""ESC-10, environmental sounds by vectors of models: nearest neighbours and a linear probe, in five published folds.

    python benchmarks/esc10.py [--model mfcc yamnet "whisper-base[layer=3]" ...] [--precision float32] [--quiet 0 26 43]

400 clips of 5 s in ten classes (rain, dog, chainsaw, ...), 40 of each. Each fold is asked once, and the other four
are known. Neighbours are the nearest by the model's metric, each with one voice; of equal numbers of voices, the
class of the nearest wins. The probe is a multinomial logistic regression on standardised components with C = 1. No
model was trained on these clips.

Writes results/esc10.csv; rows of other models stay. Data: esc10 in ../shared/data or OMNIVEC_TEST_DATA. Figures of
Piczak 2015, doi:10.1145/2733373.2806390: 66.7 % (k-NN) and 72.7 % (random forest) by statistics of MFCC, people 95.7 %.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

import machine
import omnivec
from omnivec.types import Audio

MODELS = ("mfcc", "yamnet")
KEY = ("model", "precision")

Labels = NDArray[np.str_]
Matrix = NDArray[np.float32]


def clips() -> tuple[list[Audio], Labels, Labels]:
    """The clips, the class of each, and its fold."""
    path = machine.data("esc10", "audio.zip")
    if path is None:
        sys.exit("esc10 is not in the data folder; OMNIVEC_TEST_DATA names another place")
    sounds, classes, folds = [], [], []
    with zipfile.ZipFile(path) as files:
        for name in sorted(name for name in files.namelist() if name.endswith(".ogg")):
            samples, rate = soundfile.read(io.BytesIO(files.read(name)), dtype="float32")
            sounds.append(Audio(samples, rate))
            classes.append(name.partition("/")[0])
            folds.append(Path(name).name[0])
    return sounds, np.array(classes), np.array(folds)


def neighbours(scores: Matrix, classes: Labels, folds: Labels, k: int) -> float:
    """Accuracy in percent of the majority of the k nearest of other folds, by similarities (n, n)."""
    right = 0
    for i, score in enumerate(scores):
        known = np.flatnonzero(folds != folds[i])
        near = classes[known[np.argsort(-score[known], kind="stable")[:k]]]
        names, first, counts = np.unique(near, return_index=True, return_counts=True)
        right += names[np.lexsort((first, -counts))[0]] == classes[i]
    return 100 * right / len(scores)


def probe(vectors: Matrix, classes: Labels, folds: Labels) -> float:
    """Accuracy in percent of a multinomial logistic regression, over all folds."""
    from sklearn.linear_model import LogisticRegression

    right = 0
    for fold in np.unique(folds):
        known, asked = folds != fold, folds == fold
        mean, spread = vectors[known].mean(0), vectors[known].std(0) + 1e-6
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the last digits have not settled changes no accuracy
            fitted = LogisticRegression(C=1.0, max_iter=200).fit(
                (vectors[known] - mean) / spread, classes[known]
            )
        right += int((fitted.predict((vectors[asked] - mean) / spread) == classes[asked]).sum())
    return 100 * right / len(vectors)


def cosines(vectors: Matrix) -> Matrix:
    """Cosines (n, n) of vectors (n, dim)."""
    rows = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    product: Matrix = rows @ rows.T
    return product


def loaded(name: str, precision: str) -> omnivec.Embedder:
    """A model by its name; "yamnet, quiet 26" is YAMNet with another threshold of patches that do not count."""
    plain, _, quiet = name.partition(", quiet ")
    model = omnivec.load(plain, precision=precision)
    if not quiet:
        return model
    with tempfile.TemporaryDirectory() as place:
        folder = model.save(Path(place) / "model")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "quiet": float(quiet)}))
        return omnivec.load(folder, precision=precision)


def measured(
    name: str, precision: str, sounds: list[Audio], classes: Labels, folds: Labels
) -> dict[str, Any]:
    """The row of one model."""
    model = loaded(name, precision)
    begun = time.process_time()
    vectors = model.encode(sounds)
    spent = time.process_time() - begun
    seconds = sum(len(sound.samples) / sound.rate for sound in sounds)
    scores = model.similarity(vectors, vectors)
    return {
        "model": name,
        "precision": precision,
        "dim": model.dim,
        "5_nearest_%": round(neighbours(scores, classes, folds, 5), 2),
        "1_nearest_%": round(neighbours(scores, classes, folds, 1), 2),
        "5_nearest_cosine_%": round(neighbours(cosines(vectors), classes, folds, 5), 2),
        "linear_probe_%": round(probe(vectors, classes, folds), 2),
        "cpu_s": round(spent, 1),
        "sound_s": round(seconds),
    }


def main() -> None:
    """Measures, prints a table and writes the CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", nargs="+", default=list(MODELS))
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--quiet", nargs="*", default=[], help="decibels, other thresholds of YAMNet")
    parser.add_argument("--output", type=Path, default=machine.RESULTS / "esc10.csv")
    given = parser.parse_args()
    sounds, classes, folds = clips()
    names = [*given.model, *(f"yamnet, quiet {decibels}" for decibels in given.quiet)]
    rows = [measured(name, given.precision, sounds, classes, folds) for name in names]
    machine.print_table(rows, list(rows[0]))
    machine.write_csv(given.output, rows, KEY)


if __name__ == "__main__":
    main()
