"""Texts to bags of rows: of their words, of the words' character n-grams, and of n-grams of words.

Joulin et al. 2017, arXiv:1607.01759. Words are parted as `whitespace` has it and taken as they are; behind each text
stands the word "</s>". As in fastText's program a text ends where it holds that word itself, and what begins with
"__label__" is a label and no word.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from omnivec.inputs.text.whitespace import END, split_words
from omnivec.tables.ngrams import Ragged, char_ngrams, known, word_hashes, word_ngrams

MARK = "__label__"
"""What a label begins with."""


@dataclass(frozen=True, eq=False)
class Bag:
    """What a table's rows stand for.

    Attributes:
        words: of its first rows.
        buckets: (n,) int32, rising: n-grams of its other rows.
        word_ngrams: words of the longest n-gram of words; 1 for none.
        min_n, max_n: characters of the shortest and of the longest n-gram of characters; max_n 0 for none.
        bucket: numbers that n-grams are hashed to.
    """

    words: Sequence[str]
    buckets: NDArray[np.int32]
    word_ngrams: int = 1
    min_n: int = 0
    max_n: int = 0
    bucket: int = 2_000_000

    @cached_property
    def index(self) -> dict[str, int]:
        """Row of each word."""
        return {word: i for i, word in enumerate(self.words)}

    def rows(self, texts: Sequence[str]) -> Ragged:
        """The rows of each text; what the table does not have is left out."""
        own, ngrams = self.parts(texts)
        found = known(ngrams, self.buckets)
        return _joined(own, Ragged(found.values + np.int32(len(self.words)), found.starts))

    def parts(self, texts: Sequence[str]) -> tuple[Ragged, Ragged]:
        """Of each text the rows of its words, and the buckets of its n-grams, whether the table has them or not."""
        numbers: defaultdict[str, int] = defaultdict()
        numbers.default_factory = numbers.__len__
        tokens = [[numbers[word] for word in (*words_of(text), END)] for text in texts]
        starts = np.append(0, np.cumsum([len(each) for each in tokens], dtype=np.int64))
        flat = np.fromiter((number for each in tokens for number in each), np.int64, int(starts[-1]))
        different = list(numbers)
        own = np.array([self.index.get(word, -1) for word in different], np.int32)
        spelled = char_ngrams(
            [word if word != END else "" for word in different], self.min_n, self.max_n, self.bucket
        )
        plain = np.array([word != END for word in different], bool)
        spelled = spelled.only(np.repeat(plain, np.diff(spelled.starts))).take(flat)
        phrases = word_ngrams(word_hashes(different)[flat], starts, self.word_ngrams, self.bucket)
        return Ragged(own[flat], starts).only(own[flat] >= 0), _joined(
            Ragged(spelled.values, spelled.starts[starts]), phrases
        )


def words_of(text: str) -> list[str]:
    """The words of a text that count, without the one that ends it."""
    found = split_words(text)
    if END in found:
        found = found[: found.index(END)]
    return [word for word in found if not word.startswith(MARK)] if MARK in text else found


def frequent(texts: Sequence[str], min_count: int) -> tuple[list[str], NDArray[np.int64]]:
    """The words of texts that are not too rare, by falling count, and their counts."""
    counts = Counter(word for text in texts for word in words_of(text))
    counts[END] = len(texts)
    kept = [(word, count) for word, count in counts.most_common() if count >= min_count]
    return [word for word, _ in kept], np.array([count for _, count in kept], np.int64)


def softmax(hidden: NDArray[np.float32], outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, labels) float32, the probability of each label by a softmax of the hidden vectors (n, dim)."""
    scores = hidden @ outputs.T
    grown = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: NDArray[np.float32] = grown / grown.sum(axis=1, keepdims=True)
    return result


def _joined(first: Ragged, second: Ragged) -> Ragged:
    """Each row of the one before that of the other."""
    counts = np.stack([np.diff(first.starts), np.diff(second.starts)], 1)
    rows = np.arange(counts.size).reshape(counts.shape)
    order = np.argsort(np.repeat(np.append(rows[:, 0], rows[:, 1]), counts.T.ravel()), kind="stable")
    starts = np.append(0, np.cumsum(counts.sum(1)))
    return Ragged(np.append(first.values, second.values)[order], starts)
