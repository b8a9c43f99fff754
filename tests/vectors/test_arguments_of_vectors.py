"""What is no array of numbers is refused in one line by each public function on vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import omnivec.vectors
from omnivec.errors import UsageError
from omnivec.vectors.calibration import background

vectors: Any = omnivec.vectors
UNIT = np.eye(3, dtype=np.float32)
SAMPLE = background(np.linspace(0, 1, 50))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vectors.zero_shot("x", UNIT), "items is a str that is not an array of numbers"),
        (lambda: vectors.zero_shot(UNIT, [[1, 0], [1]]), "labels is a list that is not an array of numbers"),
        (lambda: vectors.zero_shot(UNIT, UNIT, scale="x"), "scale='x': a number"),
        (lambda: vectors.zero_shot(UNIT, UNIT, bias="x"), "bias='x': a number"),
        (lambda: vectors.most_similar(3, [0]), r"vectors of shape \(\): give vectors"),
        (lambda: vectors.most_similar(UNIT, 0), "positive=0: give a list of rows"),
        (lambda: vectors.most_similar(UNIT, "ab"), "positive='ab': give a list"),
        (lambda: vectors.most_similar(UNIT, [0], ["b"]), "negative has 'b': give rows"),
        (lambda: vectors.most_similar(UNIT, [0.5]), "positive has 0.5: give rows"),
        (lambda: vectors.most_similar(UNIT, [UNIT]), r"a vector of positive of shape \(3, 3\)"),
        (lambda: vectors.odd_one_out("x"), "vectors is a str that is not an array of numbers"),
        (lambda: vectors.odd_one_out([1.0, 2.0]), r"vectors of shape \(2,\)"),
        (lambda: vectors.spearman("x", [1, 2]), "values is a str .* give a list of numbers"),
        (lambda: vectors.rank_together(3, [SAMPLE]), "scores=3: give a list"),
        (lambda: vectors.rank_together([["a"]], [SAMPLE]), "scores is a list .* as a search returns them"),
        (lambda: vectors.rank_together([[0.5]], [SAMPLE], k="x"), "k='x': a whole number"),
        (lambda: vectors.rank_together([[0.5]], [3]), "backgrounds has 3: give what `background` returns"),
        (lambda: vectors.odd_one_out(3), r"vectors of shape \(\): give vectors"),
        (lambda: vectors.spearman(3, 3), r"spearman of \(\) and \(\) values"),
        (lambda: background(np.array(["a"] * 30)), "scores is a ndarray that is not an array of numbers"),
        (lambda: vectors.most_similar(np.ma.masked_equal(UNIT, 1), [0]), "vectors is an array with masked"),
    ],
)
def test_what_is_not_an_array_of_numbers_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_rows_may_be_numpy_integers_and_a_table_is_not_copied() -> None:
    rows, scores = vectors.most_similar(UNIT + 0.1, [np.int64(0)], k=np.int64(2))
    assert rows.tolist() == [1, 2] and scores.shape == (2,)
