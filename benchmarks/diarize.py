"""Who speaks where, in conversations made of LibriSpeech: error rates with the number of speakers known and not.

    python benchmarks/diarize.py [--model dvector] [--vad] [--out benchmarks/results/diarize.csv]

Six conversations each of 2, 3 and 4 speakers: 24 turns of 1.5 to 6 s, without overlap or pauses between turns, so that
this is easier than a real meeting. Where the number is not known, clusters are merged down to a threshold, which is
chosen by short conversations of the cohort's speakers, nobody of whom is in the others. The diarization error rate is
given without a collar and with one of 0.25 s. With --vad, the turns are limited to the speech that is found, and
`silence` is the share of them that is not.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import machine
import speakers
from machine import significant
from omnivec.progress import bar
from omnivec.tasks.diarize import joined
from omnivec.tasks.voice import new_reader
from omnivec.tasks.voice_reading import Doubles, VoiceReader
from omnivec.types import Floats
from omnivec.vectors.diarization import Turns, diarization_error, speaker_turns, windows

COUNTS, TIMES = (2, 3, 4), 6
COHORT_COUNTS, COHORT_TIMES, COHORT_SHORTEST = (1, 2, 3, 4), 30, 0.5
"""Of the conversations that choose the threshold: in 4 s each, a speaker may have less than 2 s of speech."""
THRESHOLDS = np.arange(0.30, 0.901, 0.02).round(2)
COLLAR = 0.25


@dataclass(frozen=True, eq=False)
class Heard:
    """A conversation with the vectors of its windows."""

    truth: Turns
    vectors: Floats
    spans: Doubles
    speech: Doubles
    silence: float

    def error(self, collar: float = 0.0, **options: Any) -> float:
        """The diarization error rate in per cent."""
        return 100 * diarization_error(self.truth, self.turns(**options), collar).rate

    def turns(self, **options: Any) -> Turns:
        """Who is found."""
        return speaker_turns(self.vectors, self.spans, self.speech, **options)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="dvector")
    parser.add_argument("--vad", action="store_true", help="leave silence out")
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "diarize.csv")
    asked = parser.parse_args()
    reader = new_reader(asked.model, asked.vad)
    own, others = speakers.utterances(), speakers.cohort()
    tested = heard(reader, lambda count, seed: speakers.conversation(own, count, seed), COUNTS, TIMES)
    choosing = heard(
        reader,
        lambda count, seed: speakers.short_conversation(others, count, seed),
        COHORT_COUNTS,
        COHORT_TIMES,
    )
    threshold = chosen(choosing)
    about = {"model": asked.model, "vad": asked.vad}
    rows = []
    for known in (True, False):
        means: list[tuple[float, float]] = []
        for count in COUNTS:
            options: dict[str, Any] = {"count": count} if known else {"threshold": threshold}
            some = tested[count]
            errors = [one.error(**options) for one in some], [one.error(COLLAR, **options) for one in some]
            means.append((float(np.mean(errors[0])), float(np.mean(errors[1]))))
            found = " ".join(str(one.turns(**options).count) for one in some)
            quiet = {**about, "silence": significant(float(np.mean([one.silence for one in some])), 2)}
            rows.append(row(quiet, known, threshold, str(count), len(some), means[-1], found))
        whole = float(np.mean([one for one, _ in means])), float(np.mean([other for _, other in means]))
        rows.append(
            row({**about, "silence": ""}, known, threshold, "all", sum(map(len, tested.values())), whole, "")
        )
    machine.print_table(rows, list(rows[0]))
    machine.write_csv(asked.out, rows, ("model", "vad", "known", "speakers"))


def heard(
    reader: VoiceReader,
    make: Callable[[int, int], speakers.Conversation],
    counts: tuple[int, ...],
    times: int,
) -> dict[int, list[Heard]]:
    """The conversations of each number of speakers."""
    made: dict[int, list[Heard]] = {count: [] for count in counts}
    with bar("conversations", len(counts) * times, "conversations") as progress:
        for count in counts:
            for seed in range(times):
                one = make(count, seed)
                speech = reader.read(one.sound)
                spoken = joined(speech.spans)
                vectors, spans = reader.windows(speech, windows(spoken))
                made[count].append(
                    Heard(speakers.within(one.truth, spoken), vectors, spans, spoken, silence(one, spoken))
                )
                progress.advance(1)
    return made


def silence(made: speakers.Conversation, spoken: Doubles) -> float:
    """The per cent of a conversation in which no speech was found."""
    return 100 * (1 - float(np.diff(spoken, axis=1).sum()) / float(made.truth.spans[-1, 1]))


def chosen(conversations: dict[int, list[Heard]]) -> float:
    """The threshold with the least mean error over all numbers of speakers."""
    listed = [one for some in conversations.values() for one in some]
    errors = [
        float(np.mean([one.error(threshold=level, shortest=COHORT_SHORTEST) for one in listed]))
        for level in THRESHOLDS.tolist()
    ]
    return float(THRESHOLDS[int(np.argmin(errors))])


def row(
    about: dict[str, Any],
    known: bool,
    threshold: float,
    count: str,
    times: int,
    errors: tuple[float, float],
    found: str,
) -> dict[str, Any]:
    """A row of the table."""
    return {
        **about,
        "known": known,
        "threshold": "" if known else threshold,
        "speakers": count,
        "conversations": times,
        "der": significant(errors[0], 3),
        "der_collar": significant(errors[1], 3),
        "found": found,
    }


if __name__ == "__main__":
    main()
