"""Google's analogy questions, "Athens is to Greece as Baghdad is to ...": how many does a table of words answer?

Mikolov et al. 2013, arXiv:1301.3781, section 4.1. Sections whose name begins with "gram" are about syntax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnivec.errors import UsageError
from omnivec.evaluation.rows import look_up
from omnivec.inputs.files.rows import lines
from omnivec.inputs.text.whitespace import split_words
from omnivec.types import Floats
from omnivec.vectors.analogies import Method, analogies


@dataclass(frozen=True)
class Section:
    """Questions about one relation: a is to b as c is to d."""

    name: str
    questions: tuple[tuple[str, str, str, str], ...]


@dataclass(frozen=True)
class Score:
    """How many questions of a section were answered correctly.

    Attributes:
        name: of the section, or "semantic", "syntactic", "total".
        correct: number of questions answered with the expected word.
        asked: number of questions all of whose words the table has.
        unknown: number of the other questions, which were not asked.
    """

    name: str
    correct: int
    asked: int
    unknown: int

    @property
    def accuracy(self) -> float:
        """Share of the asked questions that were answered correctly; 0 if none was asked."""
        return self.correct / self.asked if self.asked else 0.0


@dataclass(frozen=True)
class Result:
    """The scores of all sections, and their sums."""

    sections: tuple[Score, ...]

    @property
    def semantic(self) -> Score:
        """The sum over the sections about meaning."""
        return _sum("semantic", [one for one in self.sections if not one.name.startswith("gram")])

    @property
    def syntactic(self) -> Score:
        """The sum over the sections about syntax."""
        return _sum("syntactic", [one for one in self.sections if one.name.startswith("gram")])

    @property
    def total(self) -> Score:
        """The sum over all sections."""
        return _sum("total", self.sections)


def _sum(name: str, scores: Sequence[Score]) -> Score:
    correct, asked, unknown = (
        sum(getattr(score, count) for score in scores) for count in ("correct", "asked", "unknown")
    )
    return Score(name, correct, asked, unknown)


def read_questions(path: Path) -> tuple[Section, ...]:
    """Reads a file of questions: a line ": name" begins a section, a line of four words is a question.

    Raises:
        UsageError: the file cannot be read, or a line has another form.
    """
    sections: list[tuple[str, list[tuple[str, str, str, str]]]] = []
    for number, line in enumerate(lines(path), 1):
        match split_words(line):
            case []:
                continue
            case [":", *name]:
                sections.append((" ".join(name), []))
            case [a, b, c, d] if sections:
                sections[-1][1].append((a, b, c, d))
            case words:
                raise UsageError(
                    f"{path}, line {number}: {len(words)} words {'' if sections else 'before the first section '}"
                    "where a question has 4 and a section begins with ':'"
                )
    return tuple(Section(name, tuple(questions)) for name, questions in sections)


def score_analogies(
    keys: Sequence[str],
    vectors: Floats,
    sections: Sequence[Section],
    first: int = 300_000,
    any_case: bool = True,
    method: Method = "add",
) -> Result:
    """Scores a table on all questions whose words it has.

    Args:
        keys: (n,), sorted by frequency.
        vectors: (n, dim).
        sections: as `read_questions` returns them.
        first: how many of the most frequent keys are used; others are neither known nor answers.
        any_case: whether "athens" and "Athens" are the same word; the more frequent spelling is used.
        method: "add" (3CosAdd) or "mul" (3CosMul).

    Raises:
        UsageError: an unknown method.
    """
    lookup = look_up(keys, first, any_case)
    rows_of_questions = [[lookup.find(question) for question in section.questions] for section in sections]
    asked = [[rows for rows in each if rows is not None] for each in rows_of_questions]
    questions = np.array([rows for each in asked for rows in each], np.int64).reshape(-1, 4)
    right = np.zeros(len(questions), bool)
    if len(questions):
        same = lookup.spelling if any_case else None
        answers = analogies(vectors[:first], questions[:, :3], same, method)
        right = lookup.spelling[answers] == lookup.spelling[questions[:, 3]]
    scores = []
    start = 0
    for section, rows in zip(sections, asked, strict=True):
        correct = int(right[start : start + len(rows)].sum())
        scores.append(Score(section.name, correct, len(rows), len(section.questions) - len(rows)))
        start += len(rows)
    return Result(tuple(scores))
