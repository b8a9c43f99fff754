"""Shared by the recipes that train tables: options, initial rows, the schedule, reading, warming up kernels."""

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
"""Default final learning rate, as in word2vec.c."""
FEW = 12_000_000
"""By default the learning rate falls to the share FEW / predictions of its initial value.

A rate that falls to zero learns half as much as a constant one, which is too little where each word is seen only a few
times. Measured by `benchmarks/words_budgets.py` on 5 to 100 MB, 1 to 5 epochs. With lr=0.025 and 48 million predictions
it falls to 0.025 * 12 / 48 = 0.00625.
"""
FEW_EACH = 1_000
"""Upper limit of FEW per word of the vocabulary: small vocabularies are learned sooner."""
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
    """Options of all recipes that train tables with `training.passes`.

    Attributes:
        dim: components of a vector.
        epochs: passes over the corpus.
        lr: initial learning rate, by default 0.025; it falls linearly.
        min_lr: final learning rate.
        min_count: words that occur less often are left out.
        threads: threads that train, by default as many as there are CPUs; with one, the same seed gives the same bits.
        seed: seed of all random choices.
        show_progress_bar: progress on stderr; by default on a terminal or in a notebook.
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
            raise UsageError(
                f"min_lr={self.min_lr} is above lr={self.rate}: the learning rate falls, so give a lower min_lr"
            )
        settle(self, {"lr": self.rate, "threads": open_cpus()})

    @property
    def rate(self) -> float:
        """The initial learning rate, given or default."""
        return 0.025 if self.lr is None else self.lr

    def least(self, words: int, vocabulary: int) -> float:
        """The final learning rate, given or default, for a corpus of `words` words, `vocabulary` of them distinct."""
        return LEAST if self.min_lr is None else self.min_lr


@dataclass(frozen=True)
class Windowed(Common):
    """Options of recipes that train on windows of words.

    Attributes:
        window: most words on either side of the centre word; each centre word draws its own number from 1 to this.
        negative: negative words for each centre word; 0 uses a hierarchical softmax.
        max_vocab: most words that get a vector, the most frequent first; by default all.
        sample: words above this share of the corpus are subsampled; 0 subsamples none.
    """

    window: int = 5
    negative: int = 5
    max_vocab: int | None = None
    sample: float = 1e-3


@dataclass(frozen=True)
class Centred(Windowed):
    """Options of recipes with skip-gram and CBOW.

    Attributes:
        lr: initial learning rate; by default 0.025 for skip-gram and 0.05 for CBOW, as in word2vec.c; it falls
            linearly.
        min_lr: final learning rate; by default `lr` * min(1, 12 million / predictions), and at least 0.0001, so that
            the rate falls less in a short training. Predictions are the corpus's words * epochs, and for skip-gram
            also * (window + 1). For a vocabulary of fewer than 12,000 words, 1,000 for each word replace the 12
            million. With a hierarchical softmax it is 0.0001.
        sg: skip-gram, which predicts the centre word from each surrounding word; otherwise CBOW, from all of them
            together.
    """

    lr: float | None = None
    min_lr: float | None = None
    sg: bool | int = True

    @property
    def rate(self) -> float:
        """The initial learning rate, given or default."""
        usual = 0.025 if self.sg else 0.05
        return usual if self.lr is None else self.lr

    @property
    def softmax(self) -> bool:
        """Whether a hierarchical softmax replaces negative sampling."""
        return self.negative == 0

    def least(self, words: int, vocabulary: int) -> float:
        """The final learning rate, given or default, for a corpus of `words` words, `vocabulary` of them distinct."""
        if self.min_lr is not None:
            return self.min_lr
        if self.softmax:
            return min(LEAST, self.rate)
        predictions = words * self.epochs * (self.window + 1 if self.sg else 1)
        share = min(1.0, min(FEW, FEW_EACH * vocabulary) / max(predictions, 1))
        return max(self.rate * share, min(LEAST, self.rate))


def check_ngrams(min_n: int, max_n: int) -> None:
    """Raises UsageError if the shortest n-gram is longer than the longest; a `max_n` of 0 means no n-grams."""
    if max_n and min_n > max_n:
        raise UsageError(f"min_n={min_n} is above max_n={max_n}: lower min_n, or set max_n=0 for no n-grams")


class PerThread(Generic[T]):
    """An object per thread, made at first use by `make`, which gets the thread's number, counted from 0."""

    def __init__(self, make: Callable[[int], T]) -> None:
        self._make, self._local, self._numbers = make, threading.local(), itertools.count()

    def get(self) -> T:
        """The object of the calling thread."""
        if not hasattr(self._local, "made"):
            self._local.made = self._make(next(self._numbers))
        made: T = self._local.made
        return made


def schedule_of(options: Common, words: int, vocabulary: int) -> Schedule:
    """The schedule of these options for a corpus of `words` words, `vocabulary` of them distinct."""
    return Schedule(
        options.epochs,
        options.rate,
        options.least(words, vocabulary),
        workers(options),
        options.seed,
        options.show_progress_bar,
    )


def workers(options: Common) -> int:
    """The number of threads, given or default."""
    return options.threads or open_cpus()


def uniform(shape: tuple[int, int], seed: int, span: float = 1.0) -> Floats:
    """Random rows, uniform from -span / (2 dim) to span / (2 dim), padded with zeros to whole SIMD values.

    Args:
        shape: (rows, dim).
        seed: seed of the random draws.
        span: the width of the range, in units of 1 / dim.
    """
    from omnivec.tables.kernels.windows import zeros

    count, dim = shape
    rows = zeros(count, dim)
    random = np.random.default_rng(seed)
    for first in range(0, count, 2**16):
        part = rows[first : first + 2**16, :dim]
        part[:] = (random.random(part.shape, np.float32) - np.float32(0.5)) * np.float32(span / dim)
    return rows


def read_words(data: Any, options: Any, fit: Callable[[Corpus, Any], object]) -> Corpus:
    """Reads a text with `training.corpus.read_corpus`, within the options' limits.

    The kernels of `fit` are compiled while the text is read.
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
    """A function that trains on two words, so that kernels are compiled, or read from the cache, ahead of their use."""
    words = Corpus(["a", "b"], np.ones(2, np.int64), np.arange(2, dtype=np.int32), np.array([0, 2]), 2)
    brief = replace(options, dim=1, epochs=1, threads=1, show_progress_bar=False)
    return lambda: fit(words, brief)
