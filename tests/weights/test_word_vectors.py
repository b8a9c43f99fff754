"""Word vectors from text files: with and without a first line, odd words, and files that are no such thing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from omnivec.errors import WeightsError
from omnivec.weights import read_word_vectors


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8", newline="")
    return path


def test_with_and_without_a_first_line(tmp_path: Path) -> None:
    lines = "cat 1 -2.5 3e-2\ndog 4 5 6 \n"
    for name, content in (("glove.txt", lines), ("fasttext.vec", f"2 3\n{lines}")):
        words, vectors = read_word_vectors(write(tmp_path / name, content), 3)
        assert words == ["cat", "dog"] and vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, np.float32([[1, -2.5, 0.03], [4, 5, 6]]))


def test_odd_words(tmp_path: Path) -> None:
    """Twice the same, with blanks, with a line separator of Unicode, numbers as words."""
    content = "a 1 1\n. . . 2 2\na 3 3\nx\u2028y 4 4\n7 5 5\né 6 6\n"
    words, vectors = read_word_vectors(write(tmp_path / "odd.txt", content), 2)
    assert words == ["a", "7", "é"]
    np.testing.assert_array_equal(vectors[:, 0], [1, 5, 6])


def test_the_first_words_and_some_wherever_they_stand(tmp_path: Path) -> None:
    path = write(tmp_path / "many.txt", "".join(f"w{i} {i} {i}\n" for i in range(100)) + "broken")
    words, vectors = read_word_vectors(path, 2, 3, ("w1", "w50"))
    assert words == ["w0", "w1", "w2", "w50"] and vectors[:, 1].tolist() == [0, 1, 2, 50]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("cat 1 2\ndog 1\n", "line 2: 1 numbers behind 'dog', expected 2"),
        ("cat 1 2\ndog 1 two\n", "line 2: could not convert string to float: 'two'"),
        ("", "holds no word vectors"),
    ],
)
def test_damage_is_named_with_its_line(tmp_path: Path, content: str, named: str) -> None:
    with pytest.raises(WeightsError, match=named):
        read_word_vectors(write(tmp_path / "bad.txt", content), 2)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        read_word_vectors(tmp_path / "none.txt", 2)
