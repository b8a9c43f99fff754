"""Trains word vectors whose dot products predict how often words occur near each other (GloVe).

Pennington et al. 2014, "GloVe: Global Vectors for Word Representation", sections 3 and 4.2. Pairs of near words are
counted once; then the logarithms of the counts are factorised. Runs on a CPU, compiled by Numba.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from omnivec import progress
from omnivec.errors import ModelError, UsageError
from omnivec.models.keyed import trained
from omnivec.models.runtime import open_cpus
from omnivec.progress import say
from omnivec.tables.record import Table
from omnivec.training.corpus import Corpus, check_numba
from omnivec.training.passes import check_finite, stopped_line
from omnivec.training.recipe_registry import check_limits, settle
from omnivec.training.tables import read_words
from omnivec.types import Floats

if TYPE_CHECKING:
    from omnivec.models.keyed import KeyedEmbedder
    from omnivec.tables.kernels.cooccurrence import Cooccurrence

DATA = "a UTF-8 text (.gz and .bz2 too), a sentence on each line"

INF = float("inf")
LIMITS = {
    "dim": (1, 65_536),
    "window": (1, 10_000),
    "min_count": (1, INF),
    "max_vocab": (1, INF),
    "x_max": (1e-3, INF),
    "alpha": (0.0, INF),
    "lr": (1e-12, 1e38),  # a float32 in the kernel
    "epochs": (1, INF),
    "threads": (1, INF),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True)
class Options:
    """Options of this recipe.

    Attributes:
        dim: components of a vector.
        window: largest distance, in words, at which two words count as near.
        symmetric: whether to count words on both sides; otherwise only those before.
        distance_weighting: whether words at distance d count 1/d; otherwise 1.
        min_count: words that occur less often are left out.
        max_vocab: most words that get a vector, the most frequent first; by default all.
        x_max: counts from here on have full weight; the paper used 100 for billions of words.
        alpha: smaller counts have the weight (count / x_max) ** alpha.
        lr: learning rate of AdaGrad.
        epochs: passes over the counts.
        add_contexts: whether to add each word's word vector and context vector; otherwise the word vector alone is
            used.
        threads: threads that count and train; by default as many as there are CPUs. With one, the same seed gives the
            same bits.
        seed: seed of the initial vectors and the order.
        show_progress_bar: progress on stderr; by default on a terminal or in a notebook.
    """

    dim: int = 100
    window: int = 15
    symmetric: bool = True
    distance_weighting: bool = True
    min_count: int = 5
    max_vocab: int | None = None
    x_max: float = 10.0
    alpha: float = 0.75
    lr: float = 0.05
    epochs: int = 25
    add_contexts: bool = True
    threads: int | None = None
    seed: int = 0
    show_progress_bar: bool | None = None

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)
        settle(self, {"threads": open_cpus()})


@dataclass(frozen=True, eq=False)
class Fitted:
    """The result of training.

    Attributes:
        vectors: (v, dim) float32, in the order of the corpus's words.
        costs: mean cost of an entry in each completed epoch.
        entries: number of entries of the co-occurrence matrix above 0.
        stopped: whether Ctrl-C ended training early.
    """

    vectors: Floats
    costs: tuple[float, ...]
    entries: int
    stopped: bool


def run(data: Any, options: Options) -> KeyedEmbedder:
    """Trains on a text; `data` is that of `training.corpus.read_corpus`."""
    corpus = read_words(data, options, fit)
    fitted = fit(corpus, options)
    return trained(Table(corpus.words, fitted.vectors, corpus.counts), "glove")


def fit(corpus: Corpus, options: Options) -> Fitted:
    """Counts co-occurrences, and factorises them.

    Ctrl-C ends training early: the vectors keep what was learned so far, and a line on stderr says how much that is.

    Raises:
        UsageError: no two words occur near each other.
        ModelError: the cost or a vector is not finite.
        MissingExtra: numba is not installed.
    """
    check_numba()
    return factorise(count(corpus, options), options)


def count(corpus: Corpus, options: Options) -> Cooccurrence:
    """Counts how often words of a corpus occur near each other; raises UsageError if none do."""
    check_numba()
    from omnivec.tables.kernels import cooccurrence

    windows = cooccurrence.Windows(options.window, options.symmetric, options.distance_weighting)
    with progress.bar("counting", len(corpus.ids), "words", options.show_progress_bar) as bar:
        counts = cooccurrence.count(
            corpus.ids, corpus.starts, len(corpus.words), windows, options.threads or open_cpus(), bar.advance
        )
    if not len(counts):
        raise UsageError(
            f"none of the {len(corpus.starts) - 1:,} sentences has two words: give longer ones, or a lower min_count "
            f"(now {options.min_count})"
        )
    return counts


def factorise(counts: Cooccurrence, options: Options) -> Fitted:
    """Trains vectors on counts, which are changed in place; see `fit`."""
    check_numba()
    from omnivec.tables.kernels import glove

    how = glove.Factorisation(
        options.x_max, options.alpha, options.lr, options.threads or open_cpus(), options.seed
    )
    tables = glove.Tables.drawn(len(counts.indptr) - 1, options.dim, options.seed)
    learning = {"vectors": tables.words[:, 0], "vectors as contexts": tables.contexts[:, 0]}
    matrix = glove.Logarithms.of(counts)
    report = _CostReport(options, len(counts))
    stopped = False
    with progress.bar("training", report.total, "entries", options.show_progress_bar) as bar:
        try:
            for number in range(options.epochs):
                for learned in glove.epoch(tables, matrix, how, number):
                    report.add(_Costs(*learned))
                    bar.advance(learned[1])
                check_finite(learning, f"epoch {number + 1}", options.lr)
        except KeyboardInterrupt:
            if not report.done:
                raise
            stopped = True
    if stopped:
        say(stopped_line(report.done / report.total, options.epochs))
        check_finite(learning, f"epoch {len(report.costs) + 1}", options.lr)
    return Fitted(tables.vectors(options.add_contexts), tuple(report.costs), len(counts), stopped)


class _Costs(NamedTuple):
    """The sum of the costs of some entries, and their number."""

    cost: float
    entries: int


class _CostReport:
    """Adds up costs, and prints a line about them on stderr every few seconds, if progress is shown."""

    def __init__(self, options: Options, entries: int) -> None:
        self._lines = progress.Report(options.show_progress_bar, at_once=True)
        self._options = options
        self._entries = entries
        self.done = 0
        self._epoch = _Costs(0.0, 0)
        self.total = entries * options.epochs
        self.costs: list[float] = []

    def add(self, one: _Costs) -> None:
        """Counts trained entries, and prints a line unless the last one is recent.

        Raises:
            ModelError: the cost is not finite.
        """
        if not math.isfinite(one.cost):
            raise ModelError(
                f"epoch {len(self.costs) + 1}: cost {one.cost} at lr={self._options.lr:g}: use a smaller lr"
            )
        self.done += one.entries
        self._epoch = _Costs(self._epoch.cost + one.cost, self._epoch.entries + one.entries)
        self._lines.tell(self._line(self._lines.elapsed()), last=self.done == self.total)
        if self._epoch.entries == self._entries:
            self.costs.append(self._epoch.cost / self._entries)
            self._epoch = _Costs(0.0, 0)

    def _line(self, seconds: float) -> str:
        rate, cost = self.done / max(seconds, 1e-9), self._epoch.cost / self._epoch.entries
        return (
            f"epoch {len(self.costs) + 1} of {self._options.epochs}: cost {cost:.4f}, {rate:,.0f} entries/s, "
            f"{(self.total - self.done) / rate:.0f} s left"
        )
