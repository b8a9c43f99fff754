"""Features of a fastText classifier: a text as the table rows of its words, their character n-grams and word n-grams.

Joulin et al. 2017, arXiv:1607.01759. Texts are split into words as `whitespace` describes, without changing case, and
the word "</s>" is appended to each text. As in the fastText program, a text that contains "</s>" itself ends there,
and words that begin with "__label__" are labels and are skipped.

Example, for a table that has rows for three words and for two of ten hash buckets:

    bag = Bag(words=["cat", "</s>", "dog"], buckets=[3, 7], word_ngrams=2, min_n=3, max_n=3, bucket=10)
    bag.rows(["cat mat"])

    words               cat, mat, </s>          rows 0, none, 1
    character n-grams   <ca, cat, at>           buckets 7, 1, 6
                        <ma, mat, at>           buckets 9, 7, 6      ("</s>" has none)
    word n-grams        cat mat, mat </s>       buckets 2, 8
    buckets in table    7 twice, at index 1     rows 3 + 1 = 4, 4    (3 rows of words come first)
    result              [0, 1, 4, 4]
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
"""The prefix of labels."""


@dataclass(frozen=True, eq=False)
class Bag:
    """The word or hash bucket that each row of a table belongs to.

    Attributes:
        words: the words of the first rows, in order.
        buckets: (n,) int32, ascending: the n-gram buckets of the rows after them.
        word_ngrams: length of the longest word n-gram, in words; 1 for none.
        min_n, max_n: lengths of the shortest and longest character n-gram; max_n 0 for none.
        bucket: number of buckets that n-grams are hashed to.
    """

    words: Sequence[str]
    buckets: NDArray[np.int32]
    word_ngrams: int = 1
    min_n: int = 0
    max_n: int = 0
    bucket: int = 2_000_000

    @cached_property
    def index(self) -> dict[str, int]:
        """The row of each word."""
        return {word: i for i, word in enumerate(self.words)}

    def rows(self, texts: Sequence[str]) -> Ragged:
        """The rows of each text, words before n-grams; words and n-grams without a row are left out."""
        word_rows, ngrams = self.parts(texts)
        present = known(ngrams, self.buckets)
        return _joined(word_rows, Ragged(present.values + np.int32(len(self.words)), present.starts))

    def parts(self, texts: Sequence[str]) -> tuple[Ragged, Ragged]:
        """The rows of each text's words that have one, and the buckets of all its n-grams, with a row or without."""
        # Each distinct word gets a number, so that its n-grams are hashed once.
        numbers: defaultdict[str, int] = defaultdict()
        numbers.default_factory = numbers.__len__
        tokens = [[numbers[word] for word in (*words_of(text), END)] for text in texts]
        starts = np.append(0, np.cumsum([len(each) for each in tokens], dtype=np.int64))
        flat = np.fromiter((number for each in tokens for number in each), np.int64, int(starts[-1]))
        distinct = list(numbers)
        word_rows = np.array([self.index.get(word, -1) for word in distinct], np.int32)
        char_grams = char_ngrams(
            [word if word != END else "" for word in distinct], self.min_n, self.max_n, self.bucket
        )
        not_end = np.array([word != END for word in distinct], bool)
        char_grams = char_grams.only(np.repeat(not_end, np.diff(char_grams.starts))).take(flat)
        word_grams = word_ngrams(word_hashes(distinct)[flat], starts, self.word_ngrams, self.bucket)
        return Ragged(word_rows[flat], starts).only(word_rows[flat] >= 0), _joined(
            Ragged(char_grams.values, char_grams.starts[starts]), word_grams
        )


def words_of(text: str) -> list[str]:
    """The words of a text up to "</s>", without labels; "</s>" itself is not included."""
    words = split_words(text)
    if END in words:
        words = words[: words.index(END)]
    return [word for word in words if not word.startswith(MARK)] if MARK in text else words


def frequent(texts: Sequence[str], min_count: int) -> tuple[list[str], NDArray[np.int64]]:
    """The words that occur at least `min_count` times in texts, most frequent first, and their counts (n,) int64."""
    counts = Counter(word for text in texts for word in words_of(text))
    counts[END] = len(texts)
    frequent_words = [(word, count) for word, count in counts.most_common() if count >= min_count]
    return [word for word, _ in frequent_words], np.array([count for _, count in frequent_words], np.int64)


def softmax(hidden: NDArray[np.float32], outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Label probabilities (n, labels) float32: the softmax of `hidden` (n, dim) @ `outputs` (labels, dim).T."""
    scores = hidden @ outputs.T
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: NDArray[np.float32] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return result


def _joined(first: Ragged, second: Ragged) -> Ragged:
    """Row i of the result is row i of `first` followed by row i of `second`."""
    # Number the rows of both in the order of the result: 0, 2, 4, ... and 1, 3, 5, ...; then sort values by that.
    counts = np.stack([np.diff(first.starts), np.diff(second.starts)], 1)
    rows = np.arange(counts.size).reshape(counts.shape)
    order = np.argsort(np.repeat(np.append(rows[:, 0], rows[:, 1]), counts.T.ravel()), kind="stable")
    starts = np.append(0, np.cumsum(counts.sum(1)))
    return Ragged(np.append(first.values, second.values)[order], starts)
