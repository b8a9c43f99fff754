"""What recipes share that learn a table row by row: options, first rows, the schedule, reading, warming up kernels."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np

from omnivec.errors import UsageError
from omnivec.models.runtime import open_cpus
from omnivec.training.corpus import Corpus, read_corpus
from omnivec.training.passes import Schedule
from omnivec.training.recipe_registry import check_limits, settle
from omnivec.types import Floats

T = TypeVar("T")

INF = float("inf")
LEAST = 0.0001
"""What a learning rate falls to, word2vec.c's."""
FEW = 12_000_000
"""Predictions over the share of the first rate that the last one is.

A rate that falls to nothing learns half as much as one that stays: too little where each word is seen a few times only.
By `benchmarks/words_budgets.py`, on 5 to 100 MB in 1 to 5 epochs.
"""
FEW_EACH = 1_000
"""The same for each word of the vocabulary: a small one has learned enough sooner."""
LIMITS = {
    "dim": (1, 65_536),
    "window": (1, 10_000),
    "negative": (0, 1_000),
    "min_count": (1, INF),
    "max_vocab": (2, INF),
    "sample": (0.0, 1.0),
    "epochs": (1, INF),
    "lr": (1e-12, INF),
    "min_lr": (0.0, INF),
    "word_ngrams": (1, 100),
    "min_n": (1, 1_000),
    "max_n": (0, 1_000),
    "bucket": (1, 2**31 - 1),
    "ns_exponent": (-10.0, 10.0),
    "sg": (0, 1),
    "hs": (0, 1),
    "cbow_mean": (0, 1),
    "threads": (1, 1_024),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True)
class Common:
    """What may be told to every recipe of this kind.

    Attributes:
        dim: components of a vector.
        epochs: passes over the corpus.
        lr: learning rate at the beginning, by default 0.025; it falls in a straight line.
        min_lr: what it falls to.
        min_count: rarer words are left out.
        threads: that learn at a time, by default as many as there are CPUs; one makes the same bits for the same seed.
        seed: of all that is drawn.
        show_progress_bar: progress on stderr; None in a terminal or a notebook.
    """

    dim: int = 100
    epochs: int = 5
    lr: float | None = None
    min_lr: float | None = 0.0001
    min_count: int = 5
    threads: int | None = None
    seed: int = 1
    show_progress_bar: bool | None = None

    def __post_init__(self) -> None:
        check_limits(self, {name: limits for name, limits in LIMITS.items() if hasattr(self, name)})
        if self.min_lr is not None and self.min_lr > self.rate:
            raise UsageError(f"min_lr={self.min_lr} is above lr={self.rate}: the learning rate falls")
        settle(self, {"lr": self.rate, "threads": open_cpus()})

    @property
    def rate(self) -> float:
        """The learning rate at the beginning, asked for or usual."""
        return 0.025 if self.lr is None else self.lr

    def least(self, words: int, vocabulary: int) -> float:
        """What the learning rate falls to, asked for or usual, with so many words, so many of them different."""
        return LEAST if self.min_lr is None else self.min_lr


@dataclass(frozen=True)
class Windowed(Common):
    """What may be told to recipes that learn from the words around a word.

    Attributes:
        window: words on either side, at most; each centre draws its own from 1 to it.
        negative: words drawn against each centre; 0 for a hierarchical softmax instead.
        max_vocab: only so many words, the most frequent, are learned; None keeps all.
        sample: share of the corpus above which a word is thinned; 0 thins none.
    """

    window: int = 5
    negative: int = 5
    max_vocab: int | None = None
    sample: float = 1e-3


@dataclass(frozen=True)
class Centred(Windowed):
    """What may be told to recipes of skip-gram and CBOW.

    Attributes:
        lr: learning rate at the beginning, by default word2vec.c's: 0.025 for skip-gram, 0.05 for CBOW; it falls in a
            straight line.
        min_lr: what it falls to; by default to 12 million / predictions of `lr`, to 0.0001 at least: less far where
            little is learned. Predictions are the corpus's words, times epochs, times window + 1 in skip-gram. In place
            of 12 million stand 1,000 for each word of the vocabulary where these are fewer. With a hierarchical
            softmax, whose words learn from many nodes each, it is 0.0001.
        sg: whether words around foretell the centre one by one (skip-gram); otherwise together (CBOW).
    """

    lr: float | None = None
    min_lr: float | None = None
    sg: bool | int = True

    @property
    def rate(self) -> float:
        """The learning rate at the beginning, asked for or usual."""
        usual = 0.025 if self.sg else 0.05
        return usual if self.lr is None else self.lr

    @property
    def softmax(self) -> bool:
        """Whether a hierarchical softmax is taken in place of negative sampling."""
        return self.negative == 0

    def least(self, words: int, vocabulary: int) -> float:
        """What the learning rate falls to, asked for or usual, with so many words, so many of them different."""
        if self.min_lr is not None:
            return self.min_lr
        if self.softmax:
            return min(LEAST, self.rate)
        predictions = words * self.epochs * (self.window + 1 if self.sg else 1)
        share = min(1.0, min(FEW, FEW_EACH * vocabulary) / max(predictions, 1))
        return max(self.rate * share, min(LEAST, self.rate))


def check_ngrams(min_n: int, max_n: int) -> None:
    """Raises UsageError where the shortest n-gram is longer than the longest; a longest of 0 asks for none."""
    if max_n and min_n > max_n:
        raise UsageError(
            f"min_n={min_n} is above max_n={max_n}: no n-gram is of such a length; max_n=0 takes none"
        )


class PerThread(Generic[T]):
    """Arrays of which each thread has its own; `make` is given the thread's number, counted from 0."""

    def __init__(self, make: Callable[[int], T]) -> None:
        self._make, self._local, self._numbers = make, threading.local(), itertools.count()

    def get(self) -> T:
        """Those of the thread that asks."""
        if not hasattr(self._local, "made"):
            self._local.made = self._make(next(self._numbers))
        made: T = self._local.made
        return made


def schedule_of(options: Common, words: int, vocabulary: int) -> Schedule:
    """How long and how fast these options have it learn from so many words, so many of them different."""
    return Schedule(
        options.epochs,
        options.rate,
        options.least(words, vocabulary),
        workers(options),
        options.seed,
        options.show_progress_bar,
    )


def workers(options: Common) -> int:
    """How many work at a time."""
    return options.threads or open_cpus()


def uniform(shape: tuple[int, int], seed: int, span: float = 1.0) -> Floats:
    """Rows from -span/(2 dim) to span/(2 dim), padded with zeros to whole lanes."""
    from omnivec.tables.kernels.windows import zeros

    count, dim = shape
    rows = zeros(count, dim)
    random = np.random.default_rng(seed)
    for first in range(0, count, 2**16):
        part = rows[first : first + 2**16, :dim]
        part[:] = (random.random(part.shape, np.float32) - np.float32(0.5)) * np.float32(span / dim)
    return rows


def read_words(data: Any, options: Any, fit: Callable[[Corpus, Any], object]) -> Corpus:
    """A text as `training.corpus.read_corpus` has it, within the options' limits.

    The kernels of `fit` are warmed up while it is read.
    """
    return read_corpus(
        data,
        min_count=options.min_count,
        max_vocab=options.max_vocab,
        threads=options.threads,
        show_progress_bar=options.show_progress_bar,
        meanwhile=warm_up_kernels(fit, options),
    )


def warm_up_kernels(fit: Callable[[Corpus, Any], object], options: Any) -> Callable[[], object]:
    """Learning from two words: its kernels are compiled, or read from the cache, while a text is still being read."""
    words = Corpus(["a", "b"], np.ones(2, np.int64), np.arange(2, dtype=np.int32), np.array([0, 2]), 2)
    brief = replace(options, dim=1, epochs=1, threads=1, show_progress_bar=False)
    return lambda: fit(words, brief)
