"""Finds phrases, such as "new york": pairs of words that occur together much more often than by chance.

Mikolov et al. 2013, arXiv:1310.4546, section 4; normalised pointwise mutual information: Bouma 2009. Further passes
join phrases into longer ones. The result is a file that the recipe word2vec takes as `phrases`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ModelError, UsageError
from omnivec.files import written
from omnivec.inputs.text.whitespace import split_words
from omnivec.training.corpus import Corpus, cut, read_corpus
from omnivec.training.recipe_registry import check_limits, settle
from omnivec.validation import arguments
from omnivec.validation.reasons import of_system

INF = float("inf")
LIMITS = {"min_count": (1, INF), "threshold": (-INF, INF), "passes": (1, 10), "threads": (1, 1_024)}
SCORINGS = {"default": 100.0, "npmi": 0.5}
"""Default threshold of each scoring."""
HEAD = "omnivec phrases"

DATA = "a UTF-8 text (.gz and .bz2 too), a sentence on each line"
OUTPUT = "file"
Pair = tuple[str, str]


@dataclass(frozen=True)
class Options:
    """Options of this recipe.

    Attributes:
        min_count: pairs that occur less often are not phrases; "default" scoring also subtracts it from each count.
        threshold: lowest score of a phrase; by default 100 for "default" and 0.5 for "npmi".
        scoring: "default": (count(ab) - min_count) * words / (count(a) * count(b)), as in word2phrase; "npmi":
            ln(p(ab) / (p(a) p(b))) / -ln p(ab), from -1 to 1.
        delimiter: string that joins the words of a phrase.
        passes: number of passes; each can join the phrases of the passes before it into longer ones.
        threads: threads that read; by default as many as there are CPUs.
        show_progress_bar: progress on stderr; by default on a terminal or in a notebook.
    """

    min_count: int = 5
    threshold: float | None = None
    scoring: str = "default"
    delimiter: str = "_"
    passes: int = 1
    threads: int | None = None
    show_progress_bar: bool | None = None

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)
        if self.scoring not in SCORINGS:
            raise UsageError(f"scoring={self.scoring!r} is none of {', '.join(SCORINGS)}")
        settle(self, {"threshold": self.least})
        if self.delimiter != "".join(split_words(self.delimiter)):
            raise UsageError(
                f"delimiter={self.delimiter!r}: whitespace would split the phrases into words again"
            )

    @property
    def least(self) -> float:
        """The threshold, given or default."""
        return SCORINGS[self.scoring] if self.threshold is None else self.threshold


@dataclass(frozen=True)
class Phrases:
    """The phrases of each pass, with their scores.

    Attributes:
        passes: for each pass, pair of words -> score; words of a later pass may be phrases of an earlier one.
        delimiter: string that joins the words of a phrase.
    """

    passes: tuple[dict[Pair, float], ...]
    delimiter: str = "_"

    def __len__(self) -> int:
        return sum(map(len, self.passes))

    def words(self, sentence: str | Sequence[str]) -> list[str]:
        """The words of a sentence, with phrases joined from left to right.

        Args:
            sentence: a list of words, or a text, which is split as `omnivec.inputs.text.whitespace` describes.
        """
        words = split_words(sentence) if isinstance(sentence, str) else list(sentence)
        for pairs in self.passes:
            words = list(_joined(words, pairs, self.delimiter))
        return words

    def join(self, corpus: Corpus) -> Corpus:
        """The corpus with each phrase joined into one word.

        It should hold all words (min_count=1): words left out of it would bring others next to each other.
        """
        for pairs in self.passes:
            corpus = _join(corpus, pairs, self.delimiter)
        return corpus

    def save(self, path: str | Path) -> Path:
        """Writes a text file: a header, then a line for each phrase with pass, two words and score, separated by tabs.

        Raises:
            UsageError: a word contains a tab or a line feed.
            ModelError: the disk refused.
        """
        place = arguments.path("path", path)
        lines = [f"{HEAD}\t{self.delimiter}"]
        for number, pairs in enumerate(self.passes, 1):
            lines += [f"{number}\t{first}\t{second}\t{score!r}" for (first, second), score in pairs.items()]
        broken = next((line for line in lines[1:] if line.count("\t") != 3 or "\n" in line), None)
        if broken is not None:
            raise UsageError(
                f"{broken[:60]!r}: a phrase whose words contain a tab or a line feed cannot be saved"
            )
        with written(place, error=ModelError) as scratch:
            scratch.write_bytes(("\n".join(lines) + "\n").encode())
        return place


def load(path: str | Path) -> Phrases:
    """Reads a file that `Phrases.save` wrote.

    Raises:
        UsageError: the file cannot be read, or is not such a file.
    """
    place = arguments.path("path", path)
    try:
        head, *lines = place.read_bytes().decode().split("\n")
    except OSError as error:
        raise UsageError(f"{place} cannot be read: {of_system(error)}") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{place} is not UTF-8 at byte {error.start}: it is not a file of phrases"
        ) from error
    name, _, delimiter = head.partition("\t")
    if name != HEAD:
        raise UsageError(
            f"{place} is not a file of phrases: its first line is not {HEAD!r}; omnivec train phrases makes one"
        )
    passes: list[dict[Pair, float]] = []
    for number, line in enumerate(lines, 2):
        if not line:
            continue
        try:
            at, first, second, score = line.split("\t")
            passes += [{} for _ in range(int(at) - len(passes))]
            passes[int(at) - 1][first, second] = float(score)
        except (ValueError, IndexError) as error:
            raise UsageError(
                f"{place}, line {number}: expected pass, two words and a score: {line[:60]!r}"
            ) from error
    return Phrases(tuple(passes), delimiter)


def run(data: Any, options: Options) -> Phrases:
    """Finds phrases in a text; `data` is that of `training.corpus.read_corpus`."""
    corpus = read_corpus(
        data, min_count=1, threads=options.threads, show_progress_bar=options.show_progress_bar
    )
    return learn(corpus, options)


def learn(corpus: Corpus, options: Options) -> Phrases:
    """The phrases of a corpus that holds all words (min_count=1), in each pass by descending score."""
    passes: list[dict[Pair, float]] = []
    for number in range(options.passes):
        pairs = _pairs(corpus, options)
        if pairs:
            passes.append(pairs)
        if not pairs or number + 1 == options.passes:
            break
        corpus = _join(corpus, pairs, options.delimiter)
    return Phrases(tuple(passes), options.delimiter)


def _pairs(corpus: Corpus, options: Options) -> dict[Pair, float]:
    """The pairs whose score is above the threshold, by descending score."""
    first, second, together = _neighbours(corpus, options.min_count)
    words, a, b = float(len(corpus.ids)), corpus.counts[first], corpus.counts[second]
    if options.scoring == "default":
        scores = (together - options.min_count) / a / b * words
    else:
        # If the text is this pair and nothing else, ln p(ab) is 0.
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = np.nan_to_num(np.log(together / a / b * words) / -np.log(together / words), nan=1.0)
    order = np.flatnonzero(scores > options.least)
    order = order[np.argsort(-scores[order], kind="stable")]
    return {(corpus.words[first[i]], corpus.words[second[i]]): float(scores[i]) for i in order.tolist()}


def _neighbours(
    corpus: Corpus, least: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of adjacent words that occur at least `least` times: first words, second words, counts."""
    size = len(corpus.words)
    # A pair is at most as frequent as its rarer word.
    common = corpus.counts[corpus.ids] >= least
    near = common[:-1] & common[1:]
    near[corpus.starts[1:-1] - 1] = False
    pairs = corpus.ids[:-1][near].astype(np.int64) * size + corpus.ids[1:][near]
    pairs, counts = np.unique(pairs, return_counts=True)
    pairs, counts = pairs[counts >= least], counts[counts >= least]
    return pairs // size, pairs % size, counts.astype(np.float64)


def _joined(words: Sequence[str], pairs: dict[Pair, float], delimiter: str) -> Iterable[str]:
    at = 0
    while at < len(words):
        if tuple(words[at : at + 2]) in pairs:
            yield delimiter.join(words[at : at + 2])
            at += 2
        else:
            yield words[at]
            at += 1


def _join(corpus: Corpus, pairs: dict[Pair, float], delimiter: str) -> Corpus:
    from omnivec.tables.kernels import vocabulary

    number = {word: i for i, word in enumerate(corpus.words)}
    words, rows = list(corpus.words), []
    for first, second in pairs:
        if first in number and second in number:
            word = first + delimiter + second
            if word not in number:
                number[word] = len(words)
                words.append(word)
            rows.append((number[first], number[second], number[word]))
    table = np.array(sorted(rows), np.int32).reshape(-1, 3)
    begins = np.searchsorted(table[:, 0], np.arange(len(words) + 1))
    ids, ends = np.array(corpus.ids), np.empty(len(corpus.starts) - 1, np.int64)
    seconds, joined = (np.ascontiguousarray(column) for column in table.T[1:])
    count = int(vocabulary.join(ids, corpus.starts, begins, seconds, joined, ends))
    return _ranked(words, ids[:count], cut(ends, count), corpus.total)


def _ranked(words: list[str], ids: NDArray[np.int32], starts: NDArray[np.int64], total: int) -> Corpus:
    """A corpus from a vocabulary in any order, in which some words may not occur."""
    counts = np.bincount(ids, minlength=len(words))
    first = np.full(len(words), len(ids))
    first[ids[::-1]] = np.arange(len(ids))[::-1]
    order = np.lexsort((first, -counts))[: int((counts > 0).sum())]
    ranks = np.zeros(len(words), np.int32)
    ranks[order] = np.arange(len(order))
    return Corpus([words[i] for i in order], counts[order], ranks[ids], starts, total)
