"""Word similarity benchmarks, such as WordSim-353 and SimLex-999: do cosines rank pairs of words as people do?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnivec.errors import UsageError
from omnivec.evaluation.rows import look_up
from omnivec.inputs.files.rows import lines
from omnivec.inputs.text.whitespace import BLANKS, is_blank, split_words
from omnivec.types import Floats
from omnivec.vectors.correlation import spearman
from omnivec.vectors.unit import unit_table


@dataclass(frozen=True)
class Pair:
    """Two words and how similar people judge them."""

    one: str
    other: str
    score: float


@dataclass(frozen=True)
class Similarity:
    """How well cosines rank the pairs.

    Attributes:
        spearman: rank correlation with people's scores; NaN for fewer than two known pairs.
        pairs: number of pairs both of whose words the table has.
        unknown: number of the other pairs, which were left out.
    """

    spearman: float
    pairs: int
    unknown: int


def read_pairs(path: Path) -> tuple[Pair, ...]:
    """Reads a file with two words and a score on each line, separated by tabs, commas, semicolons or blanks.

    Lines that begin with "#" are comments. A first line without a score is taken as a header.

    Raises:
        UsageError: the file cannot be read, or another line has no score.
    """
    pairs = []
    for number, line in enumerate(lines(path), 1):
        if is_blank(line) or line.startswith("#"):
            continue
        separator = next((each for each in "\t,;" if each in line), None)
        parts = [part.strip(BLANKS) for part in line.split(separator)] if separator else split_words(line)
        try:
            pairs.append(Pair(parts[0], parts[1], float(parts[2])))
        except (IndexError, ValueError) as error:
            if number > 1:
                raise UsageError(
                    f"{path}, line {number}: {line[:60]!r} is not two words and a score"
                ) from error
    return tuple(pairs)


def score_pairs(
    keys: Sequence[str], vectors: Floats, pairs: Sequence[Pair], first: int = 300_000, any_case: bool = True
) -> Similarity:
    """Compares cosines with people's scores.

    Args:
        keys: (n,), sorted by frequency.
        vectors: (n, dim).
        pairs: as `read_pairs` returns them.
        first: how many of the most frequent keys are used.
        any_case: whether "Tiger" and "tiger" are the same word; the more frequent spelling is used.
    """
    lookup = look_up(keys, first, any_case)
    scored = [(lookup.find((pair.one, pair.other)), pair.score) for pair in pairs]
    known = [(rows, score) for rows, score in scored if rows is not None]
    if len(known) < 2:
        return Similarity(math.nan, len(known), len(pairs) - len(known))
    rows = np.array([each for each, _ in known])
    one, other = unit_table(vectors[rows[:, 0]]), unit_table(vectors[rows[:, 1]])
    cosines = np.einsum("ij,ij->i", one, other)
    return Similarity(spearman(cosines, [score for _, score in known]), len(known), len(pairs) - len(known))
