"""Word vectors from text files: a word and its numbers on each line, as GloVe and fastText publish them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from omnivec.errors import WeightsError
from omnivec.types import Floats


def read_word_vectors(
    path: Path, dim: int, most: int = 0, always: Collection[str] = ()
) -> tuple[list[str], Floats]:
    """The words of a file, in its order, and their vectors (words, dim) float32.

    Of a word that stands there twice the first counts. Words with a blank inside are left out: no text has them.

    Args:
        path: a line for each word; a first line with two numbers, as word2vec and fastText have it, is skipped.
        dim: numbers on each line.
        most: read the first so many words only; 0 for all.
        always: words that are read wherever they stand.

    Raises:
        WeightsError: the file cannot be read, or a line has other than a word and `dim` numbers.
    """
    rows: dict[str, None] = {}
    missing = set(always)
    values = bytearray()
    for number, line in _lines(path):
        if most and len(rows) >= most and line.partition(" ")[0] not in missing:
            if not missing:
                break
            continue
        word, *numbers = line.rstrip().rsplit(" ", dim)
        if number == 1 and len(numbers) == 1 < dim:
            continue
        try:
            vector = np.array([*map(float, numbers)], np.float32)
        except ValueError as error:
            raise WeightsError(
                f"{path}, line {number}: {error}; the word {word[:40]!r} has no vector"
            ) from error
        if len(vector) != dim:
            raise WeightsError(
                f"{path}, line {number}: {len(vector)} numbers behind {word[:40]!r}, expected {dim}"
            )
        if word not in rows and word.split() == [word]:
            rows[word] = None
            values += vector.tobytes()
            missing.discard(word)
    if not rows:
        raise WeightsError(f"{path} holds no word vectors")
    return list(rows), np.frombuffer(values, np.float32).reshape(-1, dim)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers, cut at line feeds alone: words hold other separators."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            yield from enumerate(file, 1)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
