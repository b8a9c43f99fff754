"""`SoundProcessing`: what a model reads of a sound, and `Features`, the protocol of front ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np

from omnivec.errors import ItemError
from omnivec.types import Floats

Short = Literal["refuse", "zeros", "repeat"]


class Features(Protocol):
    """A front end, from samples to the rows of a model's input.

    An implementation is a frozen dataclass whose fields are JSON types: they become part of a model's identity,
    together with the name of its class.
    """

    @property
    def rows(self) -> tuple[int, ...]:
        """Shape of one row: () for samples, (80,) for 80 bands, (96, 64) for patches."""

    def count(self, samples: int) -> int:
        """Number of rows that a number of samples gives."""

    def __call__(self, samples: Floats) -> Floats:
        """Samples (n,) float32 in [-1, 1] -> rows (t, *rows) float32, where t is `count(n)`."""


@dataclass(frozen=True, kw_only=True)
class SoundProcessing:
    """What a model reads of a sound.

    Attributes:
        rate: sampling rate in Hz that a sound is converted to.
        features: front end.
        seconds: longest sound of one vector. What is longer is cut off, or read in windows of this length, which a
            collection stores as passages.
        whole: seconds of the longest sound that the front end reads at once, if these are more than `seconds`: up to
            this length a sound is read whole, if no windows are asked for, and cut off after it; 0 if they are not.
        shortest: smallest number of samples, at `rate`, that gives a vector.
        short: what is done to a shorter sound: "refuse" refuses it, "zeros" appends zeros, "repeat" repeats it.
        states: returns the number of states that the family's forward function returns for a number of rows; None if
            it returns a single vector.
        padded: smallest number of rows of an input: fewer are padded with zeros; 0 for no padding beyond the longest
            input of a batch.
        batch: seconds of sound in a batch, for networks that gain no speed by more, which takes more memory; 0 for a
            minute, or one longest sound.
    """

    rate: int
    features: Features
    seconds: float
    whole: float = 0.0
    shortest: int = 1
    short: Short = "refuse"
    states: Callable[[int], int] | None = None
    padded: int = 0
    batch: float = 0.0

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the model's input, in JSON types."""
        settings: Any = self.features  # a dataclass, which a protocol cannot express
        return {
            "rate": self.rate,
            "features": {"front end": type(self.features).__name__, **asdict(settings)},
            "limit": self.seconds,
            "shortest": self.shortest,
            "short": self.short,
            "padded": self.padded,
        } | ({"whole": self.whole} if self.whole else {})

    @property
    def longest(self) -> int:
        """Number of samples of the longest sound of one vector."""
        return round(self.seconds * self.rate)

    def filled(self, samples: Floats) -> Floats:
        """Returns samples (n,) of at least `shortest`; ItemError if a shorter sound is refused."""
        if not len(samples):
            raise ItemError("has no samples: its length is zero")
        if len(samples) >= self.shortest:
            return samples
        if self.short == "refuse":
            raise ItemError(
                f"lasts {len(samples) / self.rate:.3f} s ({len(samples):,} samples at {self.rate:,} Hz), but the model "
                f"needs {self.shortest / self.rate:.3f} s ({self.shortest:,} samples): join it with others, or "
                "repeat it"
            )
        if self.short == "zeros":
            return np.pad(samples, (0, self.shortest - len(samples)))
        return np.resize(samples, self.shortest)

    def rows_of(self, samples: Floats) -> Floats:
        """Returns the rows (t, *rows) of samples (n,), without padding; ItemError for a sound that is too short."""
        return self.features(self.filled(samples))
