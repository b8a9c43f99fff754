"""Thresholds of a voice model by the length of speech: equal error rate, detection cost, and what a cohort changes.

    python benchmarks/voice_thresholds.py [--model dvector] [--no-vad] [--out benchmarks/results/voice_thresholds.csv]

100 utterances of 10 speakers of LibriSpeech test-other are compared with each other: 450 pairs are of one speaker and
4,500 of two, so that one error is 0.22 or 0.02 points. The speech of one side is cut to a length, from the first word
on; the other side is whole, which is how most recordings meet an enrolled voice, or cut as well. `as_norm` is with the
120 speakers of the cohort, cut like the shorter side. `cohort_threshold` is the score that 1 % of the pairs of the
cohort reach, and beside it are the false accepts and rejects that it has here. Thresholds and `stated` rates are those
of `omnivec/tasks/voice_figures.py`.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import machine
import speakers
from machine import significant
from omnivec.tasks.voice import LENGTHS, new_reader
from omnivec.types import Floats
from omnivec.vectors.cohort import Cohort
from omnivec.vectors.verification import (
    equal_error_rate,
    false_accept_threshold,
    min_dcf,
)

LEAST = 1.0
"""Least per cent of errors that is stated of a length: of 171 to 450 pairs of one speaker, one is 0.2 to 0.6 %."""


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="dvector")
    parser.add_argument("--no-vad", action="store_true", help="take recordings whole")
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "voice_thresholds.csv")
    asked = parser.parse_args()
    reader = new_reader(asked.model, not asked.no_vad)
    own = speakers.utterances()
    names = [name for name, sounds in own.items() for _ in sounds]
    lengths = (*LENGTHS, math.inf)
    tested = reader.embed([sound for sounds in own.values() for sound in sounds], lengths)
    others = reader.embed([sounds[0] for sounds in speakers.cohort().values()], lengths)
    if tested.failures or others.failures:
        raise SystemExit(f"some recordings failed: {[*tested.failures.values(), *others.failures.values()]}")
    about = {"model": asked.model, "vad": not asked.no_vad}
    about["weights"] = str(reader.identity["model"]["weights"].get("float32", ""))[:16]
    rows = []
    whole = len(lengths) - 1
    cuts = [(f"{length:g} s", i, length) for i, length in enumerate(LENGTHS)]
    for name, i, least in [
        *cuts,
        ("whole", whole, 0.0),
        (f"whole, {LENGTHS[-1]:g} s or more", whole, LENGTHS[-1]),
    ]:
        kept = np.flatnonzero(tested.seconds >= least)
        seconds = significant(float(np.median(np.minimum(tested.seconds[kept], lengths[i]))), 3)
        for other in ("whole", "cut") if i != whole else ("whole",):
            sides = (whole if other == "whole" else i), i
            row = measured(
                [tested.vectors[side][kept] for side in sides],
                [names[place] for place in kept.tolist()],
                [others.vectors[side] for side in sides],
            )
            rows.append(
                {**about, "cut": name, "seconds": seconds, "other": other, "recordings": len(kept), **row}
            )
    machine.print_table(rows, [name for name in rows[0] if name not in ("model", "weights")])
    machine.write_csv(asked.out, rows, ("model", "vad", "cut", "other"))


def measured(sides: list[Floats], names: list[str], cohort: list[Floats]) -> dict[str, Any]:
    """The figures of one length; both sides of the pairs, and of the cohort, have an array each."""
    labels, scores = pairs(sides, np.array(names))
    equal, cost = equal_error_rate(labels, scores), min_dcf(labels, scores)
    normal = Cohort.fit(cohort[1]).normalize_all(*sides)[others_of(len(names))]
    strangers = pairs(cohort, np.arange(len(cohort[0])))[1]
    threshold = false_accept_threshold(strangers)
    return {
        "pairs": len(labels),
        "eer": significant(100 * equal.value, 3),
        "stated": max(significant(100 * equal.value, 3), LEAST),
        "threshold": significant(equal.threshold, 4),
        "min_dcf": significant(cost.value, 3),
        "as_norm_eer": significant(100 * equal_error_rate(labels, normal).value, 3),
        "as_norm_min_dcf": significant(min_dcf(labels, normal).value, 3),
        "cohort_threshold": significant(threshold, 4),
        "false_accepts": significant(100 * float((scores[~labels] >= threshold).mean()), 3),
        "false_rejects": significant(100 * float((scores[labels] < threshold).mean()), 3),
    }


def pairs(sides: list[Floats], names: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Labels and scores of all pairs of two different recordings, in both orders: either may be the shorter one."""
    chosen = others_of(len(names))
    scores = (sides[0].astype(np.float64) @ sides[1].T)[chosen]
    return (names[:, None] == names)[chosen], scores


def others_of(count: int) -> NDArray[np.bool_]:
    """The pairs of a table (count, count) that are of two different rows."""
    return ~np.eye(count, dtype=bool)


if __name__ == "__main__":
    main()
