"""Word similarity, such as WordSim-353 and SimLex-999: do the cosines rank pairs of words as people do?"""

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
    """Two words and how alike people find them."""

    one: str
    other: str
    score: float


@dataclass(frozen=True)
class Similarity:
    """How well cosines rank the pairs.

    Attributes:
        spearman: rank correlation with the people's scores; NaN where fewer than two pairs are known.
        pairs: both of whose words the table knows.
        unknown: others, which were left out.
    """

    spearman: float
    pairs: int
    unknown: int


def read_pairs(path: Path) -> tuple[Pair, ...]:
    """Reads a file with two words and a score on each line, parted by tabs, commas or blanks; "#" begins a comment.

    A first line without a score names the columns.

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
        keys: (n,) in the order of their frequency.
        vectors: (n, dim).
        pairs: as `read_pairs` gives them.
        first: only so many keys are known.
        any_case: whether "Tiger" is "tiger"; of several spellings the first counts.
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
