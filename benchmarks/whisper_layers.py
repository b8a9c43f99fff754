"""Which layer of Whisper's encoder to use: sounds of the environment and spoken digits, by layer, padded and fast.

    python benchmarks/whisper_layers.py [--model whisper-tiny.en ...] [--takes N]

A vector is the mean of the states of one layer. ESC-10 has 400 clips of 5 s in ten classes, in five folds: a probe
(multinomial logistic regression, C = 1) and the vote of the five nearest neighbours are trained on four folds and asked
about the fifth. Of the Free Spoken Digit Dataset, each recording is given the digit of its nearest neighbour among the
recordings of the other five speakers; the first 8 of 50 takes are used. Components are standardised by the mean and
standard deviation of the known vectors; neighbours are the nearest by cosine. "padded" is the default: the encoder
reads 30 s, and the states of the silence are left out of the mean. "fast" reads the sound alone (`fast=True`). All
layers are computed in one run, whose CPU seconds the rows of one model, set and way share.

Writes results/whisper_layers.csv. Data: esc10 and free_spoken_digit in ../shared/data or OMNIVEC_TEST_DATA.
"""

from __future__ import annotations

import argparse
import functools
import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

import machine
import omnivec
from omnivec.types import Audio, Floats

Labels = NDArray[np.str_]
NEAREST = 5
EMPTY = {"probe_%": "", "nearest_5_%": "", "nearest_1_%": ""}


def clips(archive: Path) -> Iterator[tuple[str, Audio]]:
    """Name and sound of each file of an archive."""
    with zipfile.ZipFile(archive) as files:
        for name in sorted(files.namelist()):
            if name.endswith((".wav", ".ogg")):
                samples, rate = soundfile.read(io.BytesIO(files.read(name)), dtype="float32")
                yield name, Audio(samples, rate)


def esc10(folder: Path, takes: int) -> tuple[list[Audio], Labels, Labels]:
    """Sounds, their classes, and their folds: "001 - Dog bark/1-100032-A.ogg" is of fold 1."""
    listed = list(clips(folder / "audio.zip"))
    names = [name.split("/") for name, _ in listed]
    return (
        [sound for _, sound in listed],
        np.array([n[-2] for n in names]),
        np.array([n[-1][0] for n in names]),
    )


def digits(folder: Path, takes: int) -> tuple[list[Audio], Labels, Labels]:
    """Sounds, their digits, and their speakers: a file is DIGIT_SPEAKER_TAKE.wav."""
    listed = [(Path(name).stem.split("_"), sound) for name, sound in clips(folder / "recordings.zip")]
    listed = [(facts, sound) for facts, sound in listed if int(facts[2]) < takes]
    sounds = [sound for _, sound in listed]
    return sounds, np.array([facts[0] for facts, _ in listed]), np.array([facts[1] for facts, _ in listed])


def all_layers(model: omnivec.Embedder, sounds: list[Audio]) -> Floats:
    """Vectors (layers + 1, n, dim) of all hidden states up to the model's layer."""
    network = model.encoder.networks[0]
    preparer = network.preparer

    def program(ops: Any, get: Any, p: Any) -> dict[str, Any]:
        batch = preparer.batch(ops, get)
        network.model.forward(ops, p, network.model.config, batch)
        mask = ops.cast(batch.mask, "float32")[:, :, None]
        return {str(i): ops.sum(one * mask, 1) / ops.sum(mask, 1) for i, one in enumerate(ops.states)}

    executable = network.compile(program, preparer.inputs)
    done = preparer.prepare([preparer.decode(one) for one in sounds])
    prepared = [parts[0] for parts in done if not isinstance(parts, omnivec.ItemError)]
    if len(prepared) < len(sounds):
        sys.exit(f"{len(sounds) - len(prepared)} sounds cannot be read")
    order = sorted(range(len(prepared)), key=lambda i: prepared[i].cost)
    vectors: dict[int, list[Floats]] = {}
    for start in range(0, len(order), 4):
        chosen = order[start : start + 4]
        states = executable.run(preparer.collate([prepared[i] for i in chosen]))
        for place, i in enumerate(chosen):
            vectors[i] = [states[str(layer)][place] for layer in range(len(states))]
    return np.stack([vectors[i] for i in range(len(sounds))], axis=1)


def standardised(known: Floats, asked: Floats) -> tuple[Floats, Floats]:
    """Both with the mean and standard deviation of the known vectors taken out of each component."""
    mean, deviation = known.mean(0), known.std(0) + 1e-8
    return (known - mean) / deviation, (asked - mean) / deviation


def voted(known: Floats, labels: Labels, asked: Floats, nearest: int) -> Labels:
    """The label that most of the nearest neighbours have; of equally many, that of the nearer ones."""
    known, asked = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (known, asked))
    best = np.argsort(-(asked @ known.T), axis=1, kind="stable")[:, :nearest]
    chosen = []
    for row in labels[best]:
        names, first, counts = np.unique(row, return_index=True, return_counts=True)
        chosen.append(names[np.lexsort((first, -counts))[0]])
    return np.array(chosen)


def probed(known: Floats, labels: Labels, asked: Floats) -> Labels:
    """The labels by a logistic regression."""
    from sklearn.linear_model import LogisticRegression

    predicted: Labels = LogisticRegression(max_iter=2000).fit(known, labels).predict(asked)
    return predicted


def accuracies(vectors: Floats, labels: Labels, groups: Labels, data: str) -> dict[str, float]:
    """Per cent of the labels that are right, where each group is asked about and the others are known."""
    right: dict[str, list[NDArray[np.bool_]]] = {}
    for group in sorted(set(groups.tolist())):
        mine = groups == group
        known, asked = standardised(vectors[~mine], vectors[mine])
        answers = {"nearest_1_%": voted(known, labels[~mine], asked, 1)}
        if data == "esc10":
            answers = {"probe_%": probed(known, labels[~mine], asked)}
            answers["nearest_5_%"] = voted(known, labels[~mine], asked, NEAREST)
        for name, answer in answers.items():
            right.setdefault(name, []).append(answer == labels[mine])
    return {name: round(100 * float(np.concatenate(found).mean()), 2) for name, found in right.items()}


SETS = {"esc10": esc10, "free_spoken_digit": digits}


def main() -> None:
    """Measures, prints a table and writes the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", nargs="+", default=["whisper-tiny.en", "whisper-base"])
    parser.add_argument("--takes", type=int, default=8)
    parser.add_argument("--output", type=Path, default=machine.RESULTS / "whisper_layers.csv")
    given = parser.parse_args()
    folders = {name: machine.data(name) for name in SETS}
    if missing := [name for name, folder in folders.items() if folder is None]:
        sys.exit(f"{', '.join(missing)}: not in the data folder; OMNIVEC_TEST_DATA names another place")
    rows = []
    for fast in (True, False):
        for name in given.model:
            model = omnivec.load(name, fast=fast)
            last = model.model.config.encoder_layers
            model = omnivec.load(name, layer=last, fast=fast)
            for data, folder in folders.items():
                sounds, labels, groups = SETS[data](folder or Path(), given.takes)
                vectors, spent = machine.spent(functools.partial(all_layers, model, sounds))
                shared = {"model": name, "set": data, "way": "fast" if fast else "padded"}
                shared |= {
                    "precision": model.card["precision"],
                    "clips": len(sounds),
                    "cpu_s": round(spent.cpu, 1),
                }
                for layer, one in enumerate(vectors):
                    rows.append(shared | {"layer": layer, **EMPTY} | accuracies(one, labels, groups, data))
                    print(rows[-1], flush=True)
                machine.write_csv(given.output, rows)
    machine.print_table(rows, list(rows[0]))


if __name__ == "__main__":
    main()
