"""How well vectors of voices tell speakers apart: equal error rate over all pairs of recordings.

    python benchmarks/speaker_eer.py [--model dvector ...] [--precision float32 ...]

Every pair of recordings of a set is a trial; its score is the cosine of the two vectors. The rate is that at which
false accepts and false rejects are equally frequent; the detection cost has a prior of 0.01. Nothing is trained on the
sets, and no voice detector is applied. Beside the figures are those with AS-norm, by the 120 other speakers of
LibriSpeech cut to the median length of the set. The length of the recordings decides the figure, so the rows say it:

LibriSpeech   10 speakers of test-other, 10 utterances each: whole, and seconds from their middle
Arabic words  30 speakers, 20 words of 1 s each
Digits        6 speakers of the Free Spoken Digit Dataset at 8 kHz, five digits of a take joined to about 2 s; single
              digits of about 0.4 s

Writes results/speaker_eer.csv. Data: librispeech_other_sub, arabic_speech_commands_sub and free_spoken_digit in
../shared/data or OMNIVEC_TEST_DATA.
"""

from __future__ import annotations

import argparse
import io
import itertools
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import machine
import omnivec
from omnivec.types import Audio
from omnivec.vectors.cohort import Cohort
from omnivec.vectors.verification import equal_error_rate, min_dcf

TAKES = 8
"""Takes of each digit and speaker that are used."""
CUTS = (4.0, 2.0, 1.0)
"""Seconds from the middle of the utterances of LibriSpeech."""

Clips = list[tuple[str, Audio]]


def clips(archive: Path, suffix: str) -> Iterator[tuple[Path, Audio]]:
    """Name and sound of each file of a zip archive, in the order of the names."""
    with zipfile.ZipFile(archive) as files:
        for name in sorted(files.namelist()):
            if name.endswith(suffix):
                samples, rate = soundfile.read(io.BytesIO(files.read(name)), dtype="float32")
                yield Path(name), Audio(samples, rate)


def librispeech(folder: Path) -> Iterator[tuple[str, Clips]]:
    """Whole utterances, then their middles; the name of a file begins with its speaker."""
    whole = [(name.stem.partition("-")[0], sound) for name, sound in clips(folder / "flac.zip", ".flac")]
    yield "LibriSpeech test-other, whole", whole
    for seconds in CUTS:
        middles = [(who, middle(sound, seconds)) for who, sound in whole]
        yield f"LibriSpeech test-other, {seconds:g} s", middles


def middle(sound: Audio, seconds: float) -> Audio:
    """The middle of a sound, which begins and ends with silence."""
    count = round(seconds * sound.rate)
    start = max(0, (len(sound.samples) - count) // 2)
    return Audio(sound.samples[start : start + count], sound.rate)


def arabic(folder: Path) -> Iterator[tuple[str, Clips]]:
    """Words; the first eight characters of a file's name are its speaker."""
    yield "Arabic words, 1 s", [(name.stem[:8], sound) for name, sound in clips(folder / "wav.zip", ".wav")]


def digits(folder: Path) -> Iterator[tuple[str, Clips]]:
    """The digits 0 to 4 and 5 to 9 of each take joined, and alone; a file is DIGIT_SPEAKER_TAKE.wav."""
    takes: dict[tuple[str, int], dict[int, Audio]] = {}
    for name, sound in clips(folder / "recordings.zip", ".wav"):
        digit, who, take = name.stem.split("_")
        if int(take) < TAKES:
            takes.setdefault((who, int(take)), {})[int(digit)] = sound
    joined: Clips = []
    for (who, _), spoken in sorted(takes.items()):
        for first in (0, 5):
            parts = [spoken[digit] for digit in range(first, first + 5)]
            joined.append((who, Audio(np.concatenate([one.samples for one in parts]), parts[0].rate)))
    yield "Digits, five joined", joined
    single = [(who, spoken[digit]) for (who, _), spoken in sorted(takes.items()) for digit in sorted(spoken)]
    yield "Digits, single", single


SETS = {
    "librispeech_other_sub": librispeech,
    "arabic_speech_commands_sub": arabic,
    "free_spoken_digit": digits,
}


def cohort_of(folder: Path, seconds: float) -> Clips:
    """The 120 other speakers of LibriSpeech, cut to so many seconds."""
    return [
        (name.stem.partition("-")[0], Audio(sound.samples[: round(seconds * sound.rate)], sound.rate))
        for name, sound in clips(folder / "cohort.zip", ".flac")
    ]


def measured(model: omnivec.Embedder, listed: Clips, cohort: Path) -> dict[str, Any]:
    """The figures of a set, and those of scores that are normalised by the cohort."""
    speakers = np.array([who for who, _ in listed])
    vectors = model.encode([sound for _, sound in listed])
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    one, other = np.triu_indices(len(listed), 1)
    same, scores = speakers[one] == speakers[other], np.sum(vectors[one] * vectors[other], axis=1)
    rate, cost = equal_error_rate(same, scores), min_dcf(same, scores)
    seconds = [len(sound.samples) / sound.rate for _, sound in listed]
    others = model.encode([sound for _, sound in cohort_of(cohort, float(np.median(seconds)))])
    normal = Cohort.fit(others).normalize_all(vectors, vectors)[one, other]
    return {
        "clips": len(listed),
        "speakers": len(set(speakers.tolist())),
        "median_s": round(float(np.median(seconds)), 2),
        "same": rate.targets,
        "different": rate.impostors,
        "eer_%": round(100 * rate.value, 2),
        "threshold": round(rate.threshold, 3),
        "min_dcf": round(cost.value, 3),
        "as_norm_eer_%": round(100 * equal_error_rate(same, normal).value, 2),
        "as_norm_min_dcf": round(min_dcf(same, normal).value, 3),
    }


def main() -> None:
    """Measures, prints a table and writes the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", nargs="+", default=["dvector"])
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--output", type=Path, default=machine.RESULTS / "speaker_eer.csv")
    given = parser.parse_args()
    folders = {name: machine.data(name) for name in SETS}
    if missing := [name for name, folder in folders.items() if folder is None]:
        sys.exit(f"{', '.join(missing)}: not in the data folder; OMNIVEC_TEST_DATA names another place")
    cohort = folders["librispeech_other_sub"] or Path()
    rows = []
    for name, precision in itertools.product(given.model, given.precision):
        model = omnivec.load(name, precision=precision)
        for data, folder in folders.items():
            for title, listed in SETS[data](folder) if folder else ():
                rows.append(
                    {"model": name, "precision": precision, "set": title, **measured(model, listed, cohort)}
                )
    machine.print_table(rows, list(rows[0]))
    machine.write_csv(given.output, rows)


if __name__ == "__main__":
    main()
