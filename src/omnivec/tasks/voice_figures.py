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
        seconds: (n,) seconds of speech, ascending.
        thresholds: (n,) cosine at which false accepts and false rejects are equally frequent.
        rates: (n,) that rate, the equal error rate.
        conversation: cosine from which on clusters of a conversation are merged; None if it was not measured.
        source: what they rest on, one line.
    """

    weights: str
    speech: bool
    seconds: tuple[float, ...]
    thresholds: tuple[float, ...]
    rates: tuple[float, ...]
    conversation: float | None
    source: str

    def at(self, seconds: float) -> tuple[float, float] | None:
        """Threshold and rate for so much speech, interpolated in its logarithm; None if it is less than measured."""
        if seconds < self.seconds[0]:
            return None
        place = np.log(self.seconds)
        return (
            float(np.interp(np.log(seconds), place, self.thresholds)),
            float(np.interp(np.log(seconds), place, self.rates)),
        )


FIGURES: tuple[Figures, ...] = ()


def figures_of(identity: Mapping[str, Any]) -> Figures | None:
    """The figures of what made the vectors of a file of voices; None if there are none.

    Args:
        identity: `Profiles.identity`.
    """
    digits = str(identity["model"].get("weights", {}).get("float32", ""))
    speech = identity["speech"] is not None
    return next((one for one in FIGURES if digits.startswith(one.weights) and one.speech == speech), None)
