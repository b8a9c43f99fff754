"""Decides whether two recordings are of one speaker, and says what the decision rests on.

A threshold comes from the best evidence at hand: the scores of a cohort of other speakers, else published figures of
the model for that length of speech. Where there is neither, there is a score and no verdict.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.tasks.voice_figures import Figures, figures_of
from omnivec.tasks.voice_profiles import CohortVectors, Profiles, Voice
from omnivec.types import Floats
from omnivec.vectors.cohort import Cohort
from omnivec.vectors.score_calibration import LEAST, ScoreCalibration
from omnivec.vectors.verification import false_accept_threshold, rate_interval, scores_needed

Doubles = NDArray[np.float64]

NORMALIZED = 200
"""From so many speakers of a cohort on, scores are normalised by it unless told otherwise."""


@dataclass(frozen=True)
class Verdict:
    """Whether a recording is of an enrolled speaker.

    Attributes:
        name: of the enrolled speaker.
        score: cosine of both vectors, or its distance from chance in standard deviations if `normalized`.
        normalized: whether the score was normalised by the cohort.
        threshold: smallest score that is accepted; None if nothing supports one.
        same: whether it is the same speaker; None without a threshold.
        false_accepts: expected share of other speakers that are accepted; None if it is not known.
        false_rejects: expected share of the speaker's own recordings that are not; None if it is not known.
        probability: of the same speaker, if as many pairs of one speaker as of two were compared; None if the enrolled
            recordings are too few to calibrate it.
        enrolled: seconds of speech that were enrolled.
        tested: seconds of speech in the recording.
        basis: what threshold and rates rest on, one line.
    """

    name: str
    score: float
    normalized: bool
    threshold: float | None
    same: bool | None
    false_accepts: float | None
    false_rejects: float | None
    probability: float | None
    enrolled: float
    tested: float
    basis: str


@dataclass(frozen=True, eq=False)
class Evidence:
    """What decisions about the voices of a file rest on.

    Attributes:
        profiles: the enrolled voices and the cohort.
        rate: largest share of false accepts that a threshold of the cohort allows.
        normalize: whether scores are normalised by the cohort; None to do so if it has `NORMALIZED` speakers.
    """

    profiles: Profiles
    rate: float = 0.01
    normalize: bool | None = None

    @cached_property
    def normalized(self) -> bool:
        """Whether scores are normalised by the cohort.

        Raises:
            UsageError: there is no cohort, and `normalize` is True.
        """
        stored = self.profiles.cohort
        if self.normalize and stored is None:
            raise UsageError(
                "there is no cohort to normalise scores by: make one with `omnivec voice cohort FOLDER`"
            )
        return bool(stored and stored.count >= NORMALIZED) if self.normalize is None else self.normalize

    def scores(self, voices: Floats, others: Floats, tested: float) -> Doubles:
        """Scores of pairs of vectors, row by row.

        Args:
            voices: (n, dim) of length 1.
            others: (n, dim) of length 1.
            tested: seconds of speech in the recordings of `others`.

        Returns:
            (n,) cosines, normalised if `normalized` by the cohort cut to at most this length.
        """
        if self.normalized:
            return self._cohort(self._cut(tested)).normalize(voices, others)
        cosines: Doubles = np.einsum("ij,ij->i", voices.astype(np.float64), others.astype(np.float64))
        return cosines

    @cached_property
    def _cohorts(self) -> dict[int, Cohort]:
        return {}

    def _cohort(self, cut: int) -> Cohort:
        """The cohort cut to one of its lengths; UsageError if it has too few speakers."""
        stored = self.profiles.cohort
        if stored is None:
            raise UsageError("there is no cohort")
        if cut not in self._cohorts:
            self._cohorts[cut] = Cohort.fit(stored.vectors[cut], stored.speakers)
        return self._cohorts[cut]

    def _cut(self, seconds: float) -> int:
        stored = self.profiles.cohort
        return 0 if stored is None else _cut(stored.lengths, seconds)

    def verdict(self, voice: Voice, vector: Floats, tested: float) -> Verdict:
        """Compares an enrolled voice with the vector (dim,) of a recording with so many seconds of speech."""
        enrolled = sum(voice.seconds)
        score = float(self.scores(voice.vector[None], vector[None], tested)[0])
        threshold, accepts, rejects, basis = self._threshold(enrolled, tested)
        if threshold is not None and (found := self._own_rejects(threshold)) is not None:
            rejects, own = found
            basis = f"{basis}; {own}"
        return Verdict(
            voice.name,
            score,
            self.normalized,
            threshold,
            None if threshold is None else score >= threshold,
            accepts,
            rejects,
            self._probability(score, tested),
            enrolled,
            tested,
            basis,
        )

    def _threshold(
        self, enrolled: float, tested: float
    ) -> tuple[float | None, float | None, float | None, str]:
        """Threshold, expected rates of false accepts and rejects, and what they rest on."""
        cohort, figures = self.profiles.cohort, figures_of(self.profiles.identity)
        why = ""
        if cohort is not None:
            impostors, where = self._impostors(cohort, enrolled, tested)
            if len(impostors) >= scores_needed(self.rate):
                return false_accept_threshold(impostors, self.rate), self.rate, None, where
            why = f" (there are {where}, and {scores_needed(self.rate):,} are needed)"
        if figures is None:
            return None, None, None, f"no verdict: nothing supports a threshold for this model{why}"
        if self.normalized:
            return (
                None,
                None,
                None,
                f"no verdict: the figures of the model are for scores without a cohort{why}",
            )
        return _published(figures, enrolled, tested, why)

    def _impostors(self, cohort: CohortVectors, enrolled: float, tested: float) -> tuple[Doubles, str]:
        """Scores of pairs of different speakers of the cohort, each side cut to at most the length compared."""
        sides = self._cut(enrolled), self._cut(tested)
        if sides not in self._strangers:
            self._strangers[sides] = self._scores_of_cohort(cohort, *sides)
        scores, length = self._strangers[sides], cohort.lengths[min(sides)]
        cut = f" cut to {length:g} s" if math.isfinite(length) else ""
        return scores, f"{len(scores):,} scores of {cohort.count:,} speakers of the cohort{cut}"

    @cached_property
    def _strangers(self) -> dict[tuple[int, int], Doubles]:
        return {}

    def _scores_of_cohort(self, cohort: CohortVectors, one: int, other: int) -> Doubles:
        rows, others = (cohort.vectors[cut].astype(np.float64) for cut in (one, other))
        if self.normalized:  # nobody is compared with a cohort that has their own voice
            names = {name: i for i, name in enumerate(dict.fromkeys(cohort.speakers))}
            order = [names[name] for name in cohort.speakers]
            table = self._cohort(other).normalize_all(rows, others, order, order)
        else:
            table = rows @ others.T
        speakers = np.unique(np.array(cohort.speakers), return_inverse=True)[1]
        scores: Doubles = table[np.triu(speakers[:, None] != speakers)]
        return scores

    @cached_property
    def _own(self) -> tuple[NDArray[np.bool_], Doubles, Doubles]:
        """Labels, scores and seconds of the enrolled recordings, each against the other recordings of every voice."""
        labels, scores, seconds = [], [], []
        voices = list(self.profiles.voices.values())
        for voice in voices:
            for i, length in enumerate(voice.seconds):
                rest = np.delete(voice.vectors, i, axis=0)
                sides = [rest.mean(axis=0)] if len(rest) else []
                others = [other.vector for other in voices if other.name != voice.name]
                if sides + others:
                    tested = np.repeat(voice.vectors[i : i + 1], len(sides + others), axis=0)
                    means = np.stack(sides + others)
                    means /= np.linalg.norm(means, axis=1, keepdims=True)
                    scores += self.scores(means, tested, length).tolist()
                    labels += [True] * len(sides) + [False] * len(others)
                    seconds += [length] * len(sides + others)
        return np.array(labels, bool), np.array(scores, np.float64), np.array(seconds, np.float64)

    def _own_rejects(self, threshold: float) -> tuple[float, str] | None:
        """The share of the enrolled recordings that the threshold would reject; None if they are fewer than `LEAST`."""
        labels, scores, _ = self._own
        own = scores[labels]
        if len(own) < LEAST:
            return None
        rejected = int((own < threshold).sum())
        low, high = rate_interval(rejected, len(own))
        return (
            rejected / len(own),
            f"{rejected} of the {len(own)} enrolled recordings score less against the others of their speaker "
            f"({100 * low:.2g} to {100 * high:.2g} %)",
        )

    @cached_property
    def _calibration(self) -> ScoreCalibration | None:
        labels, scores, seconds = self._own
        if min(labels.sum(), (~labels).sum()) < LEAST or np.ptp(scores) == 0:
            return None
        return ScoreCalibration.fit(labels, scores, seconds)

    def _probability(self, score: float, tested: float) -> float | None:
        """The probability of the same speaker, calibrated on the enrolled recordings."""
        calibration = self._calibration
        if calibration is None or calibration.weights[0] <= 0:
            return None
        return float(calibration.predict_proba([score], [tested])[0])


def _cut(lengths: tuple[float, ...], seconds: float) -> int:
    """Index of the longest length that is not above so many seconds, or of the shortest.

    Whole recordings, the last length, are compared from twice the longest cut on.
    """
    *cuts, whole = lengths
    if not cuts or seconds >= 2 * cuts[-1]:
        return lengths.index(whole)
    return max(bisect_right(cuts, seconds) - 1, 0)


def _published(
    figures: Figures, enrolled: float, tested: float, why: str
) -> tuple[float | None, float | None, float | None, str]:
    point = figures.at(min(enrolled, tested), max(enrolled, tested))
    if point is None:
        lacking = (
            f"no verdict: {min(enrolled, tested):.1f} s of speech are compared, and the model's figures begin at "
            f"{figures.seconds[0]:g} s{why}"
        )
        return None, None, None, lacking
    threshold, rate = point
    return threshold, rate, rate, f"{figures.source}{why}"


def facts(verdict: Verdict) -> Mapping[str, Any]:
    """A verdict as a JSON object, with rounded numbers."""
    rounded = {"score": 4, "threshold": 4, "probability": 4, "false_accepts": 5, "false_rejects": 5}
    values = {name: getattr(verdict, name) for name in Verdict.__dataclass_fields__}
    for name, digits in {**rounded, "enrolled": 2, "tested": 2}.items():
        values[name] = None if values[name] is None else round(values[name], digits)
    return values
