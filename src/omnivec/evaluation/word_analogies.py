"""Google's analogies, "Athens is to Greece as Baghdad is to ...": how many does a table of words complete?

Mikolov et al. 2013, arXiv:1301.3781, section 4.1. Sections whose name begins with "gram" ask for syntax.
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
    """Questions of one kind: a is to b as c is to d."""

    name: str
    questions: tuple[tuple[str, str, str, str], ...]


@dataclass(frozen=True)
class Score:
    """How many questions of a section were completed.

    Attributes:
        name: of the section, or "semantic", "syntactic", "total".
        correct: completed with the word that was expected.
        asked: questions all of whose words the table knows.
        unknown: others, which were not asked.
    """

    name: str
    correct: int
    asked: int
    unknown: int

    @property
    def accuracy(self) -> float:
        """0 to 1, of the questions asked; 0 where none was."""
        return self.correct / self.asked if self.asked else 0.0


@dataclass(frozen=True)
class Result:
    """The scores of each section, and of several together."""

    sections: tuple[Score, ...]

    @property
    def semantic(self) -> Score:
        """All sections that ask for meaning."""
        return _sum("semantic", [one for one in self.sections if not one.name.startswith("gram")])

    @property
    def syntactic(self) -> Score:
        """All sections that ask for grammar."""
        return _sum("syntactic", [one for one in self.sections if one.name.startswith("gram")])

    @property
    def total(self) -> Score:
        """All sections."""
        return _sum("total", self.sections)


def _sum(name: str, scores: Sequence[Score]) -> Score:
    correct, asked, unknown = (
        sum(getattr(score, part) for score in scores) for part in ("correct", "asked", "unknown")
    )
    return Score(name, correct, asked, unknown)


def read_questions(path: Path) -> tuple[Section, ...]:
    """Reads the file: ": name" begins a section, four words are a question.

    Raises:
        UsageError: the file cannot be read, or a line is neither.
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
    """Asks a table all questions whose words it knows.

    Args:
        keys: (n,) in the order of their frequency.
        vectors: (n, dim).
        sections: as `read_questions` gives them.
        first: only so many keys are known, and may be answers.
        any_case: whether "athens" is "Athens"; of several spellings the first counts.
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
