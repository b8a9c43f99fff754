"""Fashion-MNIST by EfficientNet-Lite0's vectors: the vote of nearest neighbours and a linear probe, beside raw pixels.

    python benchmarks/image_quality.py [--precision float32 ...] [--cache FOLDER] [--train N] [--test N]

60,000 pictures of clothes, 28 x 28 grey pixels in ten classes, are known; 10,000 are asked. The network was trained on
the photographs of ImageNet, never on these. It crops an eighth off each picture, so two black pixels stand around each:
what it then sees is the whole. Neighbours are the nearest by cosine, each with one voice, 20 of them and as many as
judge a held-out tenth of the known pictures best; the probe is a multinomial logistic regression on standardised
components, its L2 chosen by the same tenth. Both on the raw pixels check the protocol against the published figures,
which stand beside them with their source. Writes results/image_quality.csv.

Data: fashion_mnist in ../shared/data or OMNIVEC_TEST_DATA. Vectors are kept in the folder of --cache.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import machine
import omnivec

MODEL = "efficientnet-lite0"
SIDE, BORDER = 28, 2
USUAL_K, KS = 20, (1, 3, 5, 10, 20, 50)
STRENGTHS = (1e-3, 1e-2, 1e-1)
"""Of C, the inverse of L2 over the sum of losses."""
HELD_OUT = 10
"""Every tenth known picture chooses k and C."""
BLOCK = 1000

PAPER = "Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747, table 3"
README = "README of zalandoresearch/fashion-mnist, as submitted"
PUBLISHED: tuple[tuple[str, str, float, str], ...] = (
    ("raw pixels", "5 nearest, euclidean", 84.9, PAPER),
    ("raw pixels", "5 nearest, city block, by distance", 85.4, PAPER),
    ("raw pixels", "logistic regression, one against all", 84.1, PAPER),
    ("raw pixels", "network of one hidden layer of 100", 87.1, PAPER),
    ("raw pixels", "support vectors, RBF, C = 10", 89.7, PAPER),
    ("two convolutions, under 100,000 parameters, trained", "convolutional network", 92.5, README),
    ("three hidden layers of 256, 128 and 64, trained", "network", 90.0, README),
    ("people without expertise, 1,000 pictures", "majority of 3", 83.5, README),
)

Labels = NDArray[np.int64]
Matrix = NDArray[np.float32]


class Split(NamedTuple):
    """Known pictures and asked ones, as vectors or pixels, with their classes."""

    known: Matrix
    labels: Labels
    asked: Matrix
    truth: Labels


def read(name: str, header: int) -> NDArray[np.uint8]:
    """The bytes of a file behind its header."""
    path = machine.data("fashion_mnist", name)
    if path is None:
        sys.exit("fashion_mnist is not in the data folder; OMNIVEC_TEST_DATA names another place")
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def pictures(part: str, most: int) -> tuple[NDArray[np.uint8], Labels]:
    """Pictures (n, 28, 28) and classes (n,) of "train" or "t10k", the first so many."""
    pixels = read(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, SIDE, SIDE)[:most]
    return pixels, read(f"{part}-labels-idx1-ubyte.gz", 8)[:most].astype(np.int64)


def vectors(precision: str | None, part: str, pixels: NDArray[np.uint8], cache: Path | None) -> Matrix:
    """Vectors (n, 1280) of pictures in a border."""
    file = cache / f"{part}-{len(pixels)}-{precision}.npy" if cache else None
    if file and file.exists():
        return np.asarray(np.load(file))
    framed = np.pad(pixels, ((0, 0), (BORDER, BORDER), (BORDER, BORDER)))
    shown = np.broadcast_to(framed[..., None], (*framed.shape, 3))
    model = omnivec.load(MODEL, precision=precision)
    found = np.concatenate([encoded.vectors for encoded in model.stream(iter(shown))])
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, found)
    return found


def voices(split: Split, most: int) -> Labels:
    """Classes (n, most) of the known pictures nearest to each asked one by cosine, the nearest first."""
    known = split.known / np.linalg.norm(split.known, axis=1, keepdims=True)
    near = np.empty((len(split.asked), most), np.int64)
    for start in range(0, len(near), BLOCK):
        scores = split.asked[start : start + BLOCK] @ known.T
        best = np.argpartition(-scores, most, axis=1)[:, :most]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
        near[start : start + BLOCK] = split.labels[np.take_along_axis(best, order, 1)]
    return near


def vote(near: Labels, k: int, truth: Labels) -> float:
    """Accuracy in percent of the majority of k voices; of equal numbers the class of the lower number."""
    counts = np.stack([(near[:, :k] == label).sum(1) for label in range(10)], 1)
    return 100 * float((counts.argmax(1) == truth).mean())


def probe(split: Split, strength: float) -> float:
    """Accuracy in percent of a multinomial logistic regression."""
    from sklearn.linear_model import LogisticRegression

    mean, spread = split.known.mean(0), split.known.std(0) + 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the last digits have not settled changes no accuracy
        fitted = LogisticRegression(C=strength, max_iter=100).fit((split.known - mean) / spread, split.labels)
    return 100 * float(fitted.score((split.asked - mean) / spread, split.truth))


def held_out(split: Split) -> Split:
    """The known pictures alone: every tenth is asked."""
    asked = np.arange(len(split.known)) % HELD_OUT == 0
    return Split(split.known[~asked], split.labels[~asked], split.known[asked], split.labels[asked])


def judged(name: str, precision: str, split: Split) -> Iterator[dict[str, Any]]:
    """The lines of one representation."""
    trial = held_out(split)
    tried, near = voices(trial, max(KS)), voices(split, max(KS))
    best = max(KS, key=lambda k: vote(tried, k, trial.truth))
    for k in dict.fromkeys((USUAL_K, best)):
        yield line(name, f"{k} nearest", vote(near, k, split.truth), precision)
    strength = max(STRENGTHS, key=lambda c: probe(trial, c))
    yield line(name, f"linear probe, C = {strength:g}", probe(split, strength), precision)


def line(name: str, judge: str, accuracy: float, precision: str = "", source: str = "") -> dict[str, Any]:
    """One line of the table."""
    said = {"representation": name, "judge": judge, "accuracy": round(accuracy, 2)}
    return {**said, "precision": precision, "source": source or "measured here"}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--precision", action="append", help="of the network; by default what load chooses")
    parser.add_argument("--cache", type=Path, help="a folder in which vectors are kept")
    parser.add_argument("--train", type=int, default=60_000, help="known pictures")
    parser.add_argument("--test", type=int, default=10_000, help="asked pictures")
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "image_quality.csv")
    return parser.parse_args()


def main() -> None:
    """Makes the vectors, judges them, prints and writes."""
    asked = arguments()
    parts = {"train": pictures("train", asked.train), "t10k": pictures("t10k", asked.test)}
    classes = [labels for _, labels in parts.values()]

    def split(shown: Sequence[Matrix]) -> Split:
        return Split(shown[0], classes[0], shown[1], classes[1])

    raw = [pixels.reshape(len(pixels), -1).astype(np.float32) for pixels, _ in parts.values()]
    rows = list(judged("raw pixels", "", split(raw)))
    for precision in asked.precision or [omnivec.load(MODEL).card["precision"]]:
        made = [vectors(precision, part, pixels, asked.cache) for part, (pixels, _) in parts.items()]
        rows += judged(MODEL, precision, split(made))
    rows += [line(name, judge, accuracy, "", source) for name, judge, accuracy, source in PUBLISHED]
    rows = [{**row, "known": asked.train, "asked": asked.test} for row in rows]
    machine.print_table(rows, ("representation", "judge", "accuracy", "precision", "source"))
    machine.write_csv(asked.out, rows)


if __name__ == "__main__":
    main()
