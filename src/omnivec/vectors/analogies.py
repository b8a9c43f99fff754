"""Similar keys, the odd one out, and analogies: a is to b as c is to what?

Rows are compared by their cosine, which is 0 for a row of zeros.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Literal, SupportsIndex, get_args

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.types import Floats, Ints
from omnivec.validation.arguments import choice, said, whole
from omnivec.vectors.arrays import numbers
from omnivec.vectors.unit import unit_table

Method = Literal["add", "mul"]

_EPSILON = 1e-6  # added to the denominator of 3CosMul; Levy and Goldberg have 0.001, gensim this value
_SCORES = 1 << 24  # most scores in memory at a time


def most_similar(
    vectors: Floats,
    positive: Sequence[int | Floats],
    negative: Sequence[int | Floats] = (),
    k: SupportsIndex = 10,
    method: Method = "add",
    exclude: Sequence[int] = (),
) -> tuple[Ints, Floats]:
    """The rows most similar to some vectors and dissimilar to others, best first.

    "add" (3CosAdd, Mikolov et al. 2013, arXiv:1301.3781): the cosine to the sum of the unit vectors, negative ones
    subtracted. "mul" (3CosMul, Levy and Goldberg 2014, W14-1618): the product of the similarities to the positive
    vectors divided by that to the negative ones, each shifted to [0, 1].

    Args:
        vectors: (n, dim).
        positive: rows or vectors (dim,) to be similar to; these rows are not returned.
        negative: rows or vectors (dim,) to be dissimilar to; these rows are not returned.
        k: how many.
        method: "add" or "mul".
        exclude: further rows that are not returned.

    Returns:
        rows (at most k,) int64 and their scores.

    Raises:
        UsageError: no row or vector, a row out of range, an unknown method, or k below 0.
    """
    wanted, vectors = whole("k", k, least=0), numbers("vectors", vectors, 2)
    chosen = choice("method", method, get_args(Method))
    positive, negative = _terms("positive", positive), _terms("negative", negative)
    left_out = _terms("exclude", exclude)
    if not len(positive) and (chosen == "mul" or not len(negative)):
        raise UsageError(
            f"most_similar by {chosen!r} needs a positive row or vector; there are {len(negative)} negative ones only"
        )
    count = len(vectors)
    rows_given = [one for one in [*positive, *negative, *left_out] if isinstance(one, int)]
    if wrong := [row for row in rows_given if not 0 <= row < count]:
        raise UsageError(f"row {wrong[0]} does not exist: there are {count}, counted from 0")
    rows = unit_table(vectors)
    near, far = (_directions(rows, some) for some in (positive, negative))
    if chosen == "add":
        scores = rows @ unit_table((near.sum(0) - far.sum(0))[None])[0]
    else:
        scores = _product(rows, near) / (_product(rows, far) + _EPSILON)
    scores[rows_given] = -np.inf
    wanted = max(min(wanted, count - len(set(rows_given))), 0)
    best = np.argpartition(-scores, min(wanted, count - 1))[:wanted]
    best = best[np.lexsort((best, -scores[best]))]
    return best.astype(np.int64), scores[best]


def _terms(name: str, terms: Sequence[int | Floats]) -> list[int | Floats]:
    """An argument as rows and vectors (dim,)."""
    expected = "rows, which are whole numbers, and vectors (dim,)"
    if isinstance(terms, str | bytes) or not isinstance(terms, Iterable):
        raise UsageError(f"{name}={said(terms)}: give a list of {expected}")
    checked: list[int | Floats] = []
    for one in terms:
        if isinstance(one, np.ndarray) and one.ndim:
            checked.append(numbers(f"a vector of {name}", one, 1, expected))
            continue
        try:
            checked.append(operator.index(one))
        except TypeError:
            raise UsageError(f"{name} has {said(one)}: give {expected}") from None
    return checked


def _directions(rows: Floats, terms: Sequence[int | Floats]) -> Floats:
    """Rows and vectors as unit vectors (m, dim)."""
    directions = [unit_table(one[None])[0] if isinstance(one, np.ndarray) else rows[one] for one in terms]
    return np.array(directions, np.float32).reshape(-1, rows.shape[1])


def _product(rows: Floats, directions: Floats) -> Floats:
    shifted: Floats = np.prod((1 + rows @ directions.T) / 2, axis=1, dtype=np.float32)
    return shifted


def odd_one_out(vectors: Floats) -> int:
    """The row with the lowest cosine to the mean of all unit vectors; the first of equal ones.

    Args:
        vectors: (n, dim).

    Raises:
        UsageError: there are no vectors, or they are not an array of numbers (n, dim).
    """
    array = numbers("vectors", vectors)
    if array.shape[:1] == (0,):
        raise UsageError("odd_one_out of 0 vectors: give at least one")
    rows = unit_table(numbers("vectors", array, 2))
    return int((rows @ rows.mean(0)).argmin())


def analogies(
    vectors: Floats, questions: Ints, same: Ints | None = None, method: Method = "add"
) -> NDArray[np.int64]:
    """Answers "a is to b as c is to ...?" for many questions at once.

    Args:
        vectors: (n, dim).
        questions: (q, 3) rows of a, b and c.
        same: (n,) a number for each row, equal for spellings of the same key. The question's keys are no answers, in
            any spelling.
        method: "add" or "mul", as in `most_similar`.

    Returns:
        (q,) the answering rows.

    Raises:
        UsageError: an unknown method, or fewer than four rows.
    """
    choice("method", method, get_args(Method))
    if len(vectors) < 4:
        raise UsageError(f"analogies in {len(vectors)} vectors: at least 4 are needed")
    rows = unit_table(vectors)
    size = max(_SCORES // len(rows), 1)
    parts = [questions[start : start + size] for start in range(0, len(questions), size)]
    answers = [_answers(_scores(rows, part, method), part, same) for part in parts]
    return np.concatenate(answers) if answers else np.zeros(0, np.int64)


def _scores(rows: Floats, questions: Ints, method: Method) -> Floats:
    """The score of each row as an answer to each question: (q, n)."""
    a, b, c = (rows[questions[:, place]] for place in range(3))
    if method == "add":
        return np.asarray((b - a + c) @ rows.T, np.float32)
    # Computed in place, with twice the similarities: the factors do not change which score is the largest.
    scores = b @ rows.T
    scores += 1
    other = c @ rows.T
    other += 1
    scores *= other
    np.matmul(a, rows.T, out=other)
    other += 1 + 2 * _EPSILON
    scores /= other
    return np.asarray(scores, np.float32)


def _answers(scores: Floats, questions: Ints, same: Ints | None) -> NDArray[np.int64]:
    every = np.arange(len(questions))
    scores[every[:, None], questions] = -np.inf
    best: NDArray[np.int64] = scores.argmax(1)
    while same is not None:
        clash = np.flatnonzero(
            (same[best][:, None] == same[questions]).any(1) & (scores[every, best] > -np.inf)
        )
        if not clash.size:
            break
        scores[clash, best[clash]] = -np.inf
        best[clash] = scores[clash].argmax(1)
    return best
