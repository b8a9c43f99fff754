"""What is known of a trained probe: what it learned from, how good it is, and what looks wrong with the labels."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from omnivec.inputs.items import shown
from omnivec.types import Floats, Ints
from omnivec.vectors.probe_estimate import Estimate
from omnivec.vectors.probe_selection import Trial

UNEVEN = 10
"""How many times as many examples a class may have as another without a warning."""

_NAMED = 3
"""Most cases that a warning names."""


@dataclass(frozen=True, eq=False)
class Report:
    """What is known of a trained probe; `str` of it has a line for each thing.

    Attributes:
        counts: maps each label to the number of its examples.
        rule: what the probe decides by, in words.
        estimate: how good it is on items that it has not learned from; None if there were too few examples.
        basis: how that was computed, or why it was not.
        calibration: how probabilities are calibrated, or why they are not.
        trials: what was compared to choose the rule.
        warnings: what looks wrong with the examples, one line each.
        failures: maps the index of each item that was left out to the reason, one line.
    """

    counts: Mapping[str, int]
    rule: str
    estimate: Estimate | None
    basis: str
    calibration: str
    trials: tuple[Trial, ...] = ()
    warnings: tuple[str, ...] = ()
    failures: Mapping[int, str] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = sorted(self.counts.items(), key=lambda pair: -pair[1])
        more = f" and {len(counts) - 10:,} more labels" if len(counts) > 10 else ""
        lines = [
            f"{sum(self.counts.values()):,} examples: "
            + ", ".join(f"{count:,} {label}" for label, count in counts[:10])
            + more,
            f"decides by {self.rule}",
            self.basis if self.estimate is None else str(self.estimate),
            f"probabilities: {self.calibration}",
        ]
        lines += [f"{len(self.failures):,} items were left out"] if self.failures else []
        return "\n".join(lines + [f"warning: {line}" for line in self.warnings])


def content_groups(items: Sequence[Any], vectors: Floats) -> Ints:
    """Numbers the contents of items: equal texts, files with equal bytes, and equal vectors of others are one.

    Args:
        items: (n,) the items.
        vectors: (n, dim) their vectors.
    """
    numbers: dict[Any, int] = {}
    keys = [_content(item, vector) for item, vector in zip(items, vectors, strict=True)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _content(item: Any, vector: Floats) -> Any:
    if isinstance(item, str):
        return item
    if isinstance(item, Path):
        try:
            with item.open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        except OSError:  # it was read a moment ago
            return str(item)
    return vector.tobytes()


def warnings_of(
    items: Sequence[Any], labels: Sequence[str], contents: Ints, cut: int, unit: str
) -> list[str]:
    """What looks wrong with examples, one line each.

    Args:
        items: (n,) the items.
        labels: (n,) their labels.
        contents: (n,) number of the content of each.
        cut: how many of them were cut at the model's limit.
        unit: in which that limit is.
    """
    counts = Counter(labels)
    found = []
    if single := sorted(label for label, count in counts.items() if count == 1):
        found.append(f"one example only of {_some(single)}: how well it is recognised is not known")
    found += _contradictions(items, labels, contents)
    repeated = len(items) - len(np.unique(contents))
    if repeated:
        found.append(
            f"{repeated:,} of {len(items):,} examples repeat another one; both are kept on one side of a fold"
        )
    (most, high), (least, low) = counts.most_common()[0], counts.most_common()[-1]
    if high >= UNEVEN * low:
        found.append(
            f"{high:,} examples of {most} and {low:,} of {least}: accuracy says little about the rare labels, see "
            "macro-F1"
        )
    if cut:
        found.append(f"{cut:,} of {len(items):,} examples were cut at the model's limit, in {unit}")
    return found


def _contradictions(items: Sequence[Any], labels: Sequence[str], contents: Ints) -> list[str]:
    """Names items that are equal and have different labels."""
    members: defaultdict[int, list[int]] = defaultdict(list)
    for place, content in enumerate(contents.tolist()):
        members[content].append(place)
    torn = [places for places in members.values() if len({labels[i] for i in places}) > 1]
    lines = []
    for places in torn[:_NAMED]:
        names = list(dict.fromkeys(f"{_name(items[i])} ({labels[i]})" for i in places))
        lines.append(f"the same content with different labels: {_some(names)}")
    if len(torn) > _NAMED:
        lines.append(f"{len(torn) - _NAMED:,} further contents have different labels")
    return lines


def _name(item: Any) -> str:
    return str(item) if isinstance(item, Path) else shown(item)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
