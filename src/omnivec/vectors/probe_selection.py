"""Cross-validation of the rules of a probe: which to take, how good it is, and at which temperature.

Up to `SPLIT` examples, each of five folds is asked once; beyond, one fifth is held out once. Up to `NESTED` examples,
the choice between rules is made again within each fold, so that an estimate does not profit from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from omnivec.types import Ints
from omnivec.vectors.folds import Folds, folds_of
from omnivec.vectors.probe_estimate import (
    LEAST,
    Estimate,
    estimate,
    fitted_temperature,
    log_loss,
)
from omnivec.vectors.probe_rules import Rule, Scorer, learn
from omnivec.vectors.softmax_regression import TOLERANCE

Doubles = NDArray[np.float64]

NESTED = 500
"""Most examples for which the choice between rules is repeated within each fold."""

SPLIT = 2000
"""Most examples for which all folds are carried out, and not one only."""

_COARSE = 1e-4
"""Tolerance of the regressions that are only compared."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled vectors.

    Attributes:
        rows: (n, dim) float64 of length 1.
        labels: (n,) int64, index of the class of each.
        groups: (n,) int64, index of the group of each.
        classes: the classes.
        grouped: whether the groups were given, rather than one for each row.
    """

    rows: Doubles
    labels: Ints
    groups: Ints
    classes: tuple[str, ...]
    grouped: bool

    def part(self, rows: Ints) -> Examples:
        """Some of them; all classes must occur among these."""
        return replace(self, rows=self.rows[rows], labels=self.labels[rows], groups=self.groups[rows])


@dataclass(frozen=True)
class Trial:
    """A rule that was compared with others.

    Attributes:
        rule: the rule, such as "the nearest class mean".
        accuracy: share of right predictions for examples that were not learned from.
        log_loss: their mean log loss at the best temperature; the rule with the lowest is taken.
    """

    rule: str
    accuracy: float
    log_loss: float


@dataclass(frozen=True, eq=False)
class Selection:
    """The rule that was taken, and what is known of it.

    Attributes:
        rule: the rule.
        temperature: by which its scores are divided.
        calibrated: how the temperature was found, or why it could not be, in words.
        trials: the rules that were compared; empty if there was one, or too few examples.
        estimate: how good it is; None if there are too few examples.
        basis: how that was computed, or why it was not, in words.
    """

    rule: Rule
    temperature: float
    calibrated: str
    trials: tuple[Trial, ...]
    estimate: Estimate | None
    basis: str


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """Scores (m, classes) of each rule for those rows (m,) that were asked, and their truth (m,)."""

    rows: Ints
    truth: Ints
    scores: list[Doubles]


def select(rules: Sequence[Rule], examples: Examples, count: int, seed: int, default: Rule) -> Selection:
    """Takes the rule with the lowest cross-validated log loss, and estimates how good it is.

    Args:
        rules: the rules to choose from.
        examples: the examples.
        count: largest number of folds; 0 for no cross-validation.
        seed: of the folds.
        default: the rule that is taken if fewer than `LEAST` examples can be asked.
    """
    folds = _folds(examples, count, seed)
    if folds is None:
        why = _why_not(examples, count)
        return Selection(default, 1.0, f"not calibrated: {why}", (), None, f"no estimate: {why}")
    asked = folds.asked
    rules = rules if asked >= LEAST else [default]
    held = _held_out(rules, examples, folds)
    best, temperature, trials = _best(rules, held)
    if asked < LEAST:
        temperature = 1.0
        calibrated = f"not calibrated: {asked} examples could be asked, and at least {LEAST} are needed"
    else:
        calibrated = (
            f"calibrated by a temperature of {temperature:.3g}, fitted to {asked:,} out-of-fold scores"
        )
    repeated = len(rules) > 1 and len(examples.rows) <= NESTED
    predicted = held.scores[best].argmax(axis=1)
    if repeated:
        predicted = _nested(rules, examples, folds, (count, seed), default)
    found = estimate(
        held.truth,
        predicted,
        examples.groups[held.rows],
        len(examples.classes),
        _method(examples, folds, repeated),
    )
    return Selection(rules[best], temperature, calibrated, trials, found, found.method)


def learned(rule: Rule, examples: Examples) -> Scorer:
    """What a rule learns from all examples."""
    return learn([rule], examples.rows, examples.labels, len(examples.classes), TOLERANCE)[0]


def _folds(examples: Examples, count: int, seed: int) -> Folds | None:
    if count < 2:
        return None
    folds = folds_of(examples.labels, examples.groups, count, seed)
    if folds is not None and len(examples.rows) > SPLIT:
        folds = replace(folds, count=1)
    return folds if folds is not None and folds.asked else None


def _held_out(rules: Sequence[Rule], examples: Examples, folds: Folds) -> _HeldOut:
    asked_rows: list[Ints] = []
    scores: list[list[Doubles]] = [[] for _ in rules]
    for known, asked in folds:
        # A class that lies in another fold only is not learned here: its score is -inf.
        present, labels = np.unique(examples.labels[known], return_inverse=True)
        scorers = learn(rules, examples.rows[known], labels.astype(np.int64), len(present), _COARSE)
        for parts, scorer in zip(scores, scorers, strict=True):
            full = np.full((len(asked), len(examples.classes)), -np.inf)
            full[:, present] = scorer.scores(examples.rows[asked])
            parts.append(full)
        asked_rows.append(asked)
    rows = np.concatenate(asked_rows)
    return _HeldOut(rows, examples.labels[rows], [np.concatenate(parts) for parts in scores])


def _best(rules: Sequence[Rule], held: _HeldOut) -> tuple[int, float, tuple[Trial, ...]]:
    """The index of the best rule, its temperature, and all trials; of equal rules the first is the best."""
    temperatures = [fitted_temperature(scores, held.truth) for scores in held.scores]
    losses = [
        log_loss(scores, held.truth, temperature)
        for scores, temperature in zip(held.scores, temperatures, strict=True)
    ]
    best = int(np.argmin(np.round(losses, 9)))
    trials = tuple(
        Trial(str(rule), float((scores.argmax(axis=1) == held.truth).mean()), loss)
        for rule, scores, loss in zip(rules, held.scores, losses, strict=True)
    )
    return best, temperatures[best], trials if len(rules) > 1 else ()


def _nested(
    rules: Sequence[Rule], examples: Examples, folds: Folds, inner: tuple[int, int], default: Rule
) -> Ints:
    """The predictions for the rows in the order of `_held_out`, by the rule that is best within each fold's rest."""
    predicted = []
    for known, asked in folds:
        present, labels = np.unique(examples.labels[known], return_inverse=True)
        rest = replace(
            examples.part(known),
            labels=labels.astype(np.int64),
            classes=tuple(examples.classes[i] for i in present.tolist()),
        )
        within = _folds(rest, *inner)
        few = within is None or within.asked < LEAST
        rule = default if few or within is None else rules[_best(rules, _held_out(rules, rest, within))[0]]
        [scorer] = learn([rule], rest.rows, rest.labels, len(present), _COARSE)
        predicted.append(present[scorer.scores(examples.rows[asked]).argmax(axis=1)])
    return np.concatenate(predicted)


def _method(examples: Examples, folds: Folds, repeated: bool) -> str:
    """How an estimate was computed, in words."""
    asked = folds.asked
    total = len(examples.rows)
    if folds.count > 1:
        way = f"{folds.count}-fold cross-validation, {asked:,} of {total:,} examples asked"
    else:
        way = f"{asked:,} of {total:,} examples held out once"
    groups = len(np.unique(examples.groups))
    apart = f"; {groups:,} groups, none on both sides" if examples.grouped else ""
    chosen = "; the choice of the rule was repeated in each fold" if repeated else ""
    left = _never_asked(examples)
    never = f"; never asked: {left}" if left else ""
    return way + apart + chosen + never


def _never_asked(examples: Examples) -> str:
    """Names the classes that lie in one group only."""
    pairs = np.unique(np.column_stack([examples.labels, examples.groups]), axis=0)
    counts = np.bincount(pairs[:, 0], minlength=len(examples.classes))
    return _named([examples.classes[i] for i in np.flatnonzero(counts == 1).tolist()])


def _why_not(examples: Examples, count: int) -> str:
    if count < 2:
        return "cross-validation was switched off"
    left = _never_asked(examples)
    one = "group" if examples.grouped else "example"
    if not left:
        return f"no {one} can be asked whose label another one has"
    return f"one {one} of {left}; two labels with two {one}s each are needed"


def _named(names: list[str]) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
