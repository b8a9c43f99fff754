"""Figures of voice models that were measured: thresholds by the length of speech, and of diarization.

They are measured by `benchmarks/voice_thresholds.py`. A model is recognised by its weights, whatever its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Figures:
    """What was measured of one model.

    Attributes:
        weights: first digits of the hash of the weights in float32.
        speech: whether silence was left out.
        seconds: (n,) seconds of speech of the shorter side of a pair, ascending.
        thresholds: (n,) cosine at which false accepts and false rejects are equally frequent, if the other side is as
            long as the last of `seconds`.
        rates: (n,) that rate, the equal error rate, but not less than what so few pairs can show.
        both: (n,) pairs of threshold and rate if both sides are as short.
        conversation: cosine from which on clusters of a conversation are merged; None if it was not measured.
        source: what they rest on, one line.
    """

    weights: str
    speech: bool
    seconds: tuple[float, ...]
    thresholds: tuple[float, ...]
    rates: tuple[float, ...]
    both: tuple[tuple[float, float], ...]
    conversation: float | None
    source: str

    def at(self, shorter: float, longer: float) -> tuple[float, float] | None:
        """Threshold and rate for so much speech, interpolated in the logarithm of the shorter side's seconds.

        Both sides count as short if the longer one has less than twice as much speech. None if there is less speech
        than was measured.
        """
        if shorter < self.seconds[0]:
            return None
        thresholds, rates = self.thresholds, self.rates
        if longer < 2 * shorter:
            thresholds, rates = (tuple(column) for column in zip(*self.both, strict=True))
        place, at = np.log(self.seconds), np.log(shorter)
        return float(np.interp(at, place, thresholds)), float(np.interp(at, place, rates))


_SOURCE = "measured on 10 speakers with 10 utterances each, read English (LibriSpeech test-other)"

FIGURES: tuple[Figures, ...] = (
    Figures(
        weights="57af89df193513e7",  # dvector
        speech=True,
        seconds=(1.0, 2.0, 4.0, 7.25),
        thresholds=(0.6137, 0.6858, 0.7347, 0.7753),
        rates=(0.0278, 0.01, 0.01, 0.01),
        both=((0.6505, 0.0378), (0.6542, 0.0217), (0.6992, 0.01), (0.7753, 0.01)),
        conversation=0.64,
        source=_SOURCE,
    ),
    Figures(
        weights="57af89df193513e7",
        speech=False,
        seconds=(1.0, 2.0, 4.0, 8.22),
        thresholds=(0.6223, 0.7006, 0.7439, 0.7768),
        rates=(0.0656, 0.0109, 0.01, 0.01),
        both=((0.681, 0.0733), (0.6661, 0.0198), (0.7207, 0.01), (0.7768, 0.01)),
        conversation=0.64,
        source=_SOURCE,
    ),
)


def figures_of(identity: Mapping[str, Any]) -> Figures | None:
    """The figures of what made the vectors of a file of voices; None if there are none.

    Args:
        identity: `Profiles.identity`.
    """
    digits = str(identity["model"].get("weights", {}).get("float32", ""))
    speech = identity["speech"] is not None
    return next((one for one in FIGURES if digits.startswith(one.weights) and one.speech == speech), None)
