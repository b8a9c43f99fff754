"""Vectors of words from their character n-grams, so that words never seen have one too (fastText).

Bojanowski et al. 2017, arXiv:1607.04606. Words around a centre share its negatives, as in the recipe word2vec.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from omnivec.keyed import trained
from omnivec.training.corpus import Corpus, check_numba, cores, read_corpus
from omnivec.training.passes import Outcome, Pace, Piece, over
from omnivec.training.recipes import check_limits
from omnivec.weights.ngrams import Ragged, char_ngrams
from omnivec.weights.tables.record import Subwords, Table

if TYPE_CHECKING:
    from omnivec.embedder import Embedder

T = TypeVar("T")

INF = float("inf")
SPAN = 2.0
"""Of the first values of n-gram rows, in 1 / dim: as fastText has them, wide, since means of many are narrow."""
LIMITS = {
    "dim": (1, INF),
    "window": (1, INF),
    "negative": (0, 1000),
    "min_count": (1, INF),
    "max_vocab": (1, INF),
    "sample": (0.0, 1.0),
    "epochs": (1, INF),
    "lr": (0.0, INF),
    "min_lr": (0.0, INF),
    "min_n": (1, 1000),
    "max_n": (0, 1000),
    "bucket": (1, 2**31 - 1),
    "threads": (1, INF),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True)
class Options:
    """What may be told to this recipe.

    Attributes:
        dim: components of a vector.
        sg: whether words around foretell the centre one by one (skip-gram); otherwise their mean does (CBOW).
        window: words on either side, at most; each centre draws its own from 1 to it.
        negative: words drawn against each centre; 0 for a hierarchical softmax instead.
        min_count: rarer words are left out; they still have vectors, from their n-grams.
        max_vocab: only so many words, the most frequent, are learned; None keeps all.
        sample: share of the corpus above which a word is thinned; 0 thins none.
        epochs: passes over the corpus.
        lr: learning rate at the beginning; it falls in a straight line.
        min_lr: what it falls to.
        min_n: characters of the shortest n-gram, angle brackets included.
        max_n: characters of the longest; 0 for no n-grams.
        bucket: numbers that n-grams are hashed to.
        threads: that learn at a time, by default as many as there are CPUs; one makes the same bits for the same seed.
        seed: of all that is drawn.
        show_progress_bar: progress on stderr; None on a terminal only.
    """

    dim: int = 100
    sg: bool = True
    window: int = 5
    negative: int = 5
    min_count: int = 5
    max_vocab: int | None = None
    sample: float = 1e-3
    epochs: int = 5
    lr: float = 0.025
    min_lr: float = 0.0001
    min_n: int = 3
    max_n: int = 6
    bucket: int = 2_000_000
    threads: int | None = None
    seed: int = 1
    show_progress_bar: bool | None = None

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)


@dataclass(frozen=True, eq=False)
class Vectors:
    """What was learned.

    Attributes:
        words: by falling count.
        counts: (v,) occurrences of each.
        rows: (v, dim) float32, of the words themselves.
        vectors: (v, dim) float32, of the words: means of their own row and their n-grams' rows.
        buckets: (n,) int32, rising: the numbers of all n-grams that these words have.
        bucket_vectors: (n, dim) float32, of these n-grams.
        outputs: (v, dim) float32, of the words as targets, or of their tree's nodes.
        outcome: of the training.
    """

    words: list[str]
    counts: NDArray[np.int64]
    rows: NDArray[np.float32]
    vectors: NDArray[np.float32]
    buckets: NDArray[np.int32]
    bucket_vectors: NDArray[np.float32]
    outputs: NDArray[np.float32]
    outcome: Outcome


def run(data: Any, options: Options) -> Embedder:
    """Trains on a text; `data` as `training.corpus.read_corpus` takes it."""
    corpus = read_corpus(
        data,
        min_count=options.min_count,
        max_vocab=options.max_vocab,
        threads=options.threads,
        show_progress_bar=options.show_progress_bar,
    )
    learned = fit(corpus, options)
    hashed = Subwords(learned.bucket_vectors, options.min_n, options.max_n, learned.buckets, options.bucket)
    settings = {
        "model": "skipgram" if options.sg else "cbow",
        "loss": "ns" if options.negative else "hs",
        **{
            name: getattr(options, name)
            for name in ("window", "negative", "min_count", "epochs", "lr", "sample")
        },
    }
    table = Table(
        learned.words,
        learned.rows,
        learned.counts,
        subwords=hashed,
        output=learned.outputs,
        settings=settings,
    )
    return trained(table, "fasttext")


def fit(corpus: Corpus, options: Options) -> Vectors:
    """Learns vectors of a corpus's words and of their n-grams."""
    check_numba()
    from omnivec.kernels import draws, word2vec
    from omnivec.kernels import fasttext as kernels

    words = len(corpus.words)
    buckets, ngrams = used(char_ngrams(corpus.words, options.min_n, options.max_n, options.bucket))
    subwords = kernels.Subwords(*with_own(ngrams))
    inputs = uniform((words + len(buckets), options.dim), options.seed, SPAN)
    width = inputs.shape[1]
    alias, tree, most = kernels.targets_of(corpus.counts, options.negative)
    text = word2vec.Text(corpus.ids, corpus.starts, draws.keep_table(corpus.counts, options.sample))
    model = word2vec.Model(inputs, word2vec.zeros(words, options.dim), alias, tree)
    settings = settings_of(options, options.sg, width)
    longest = int(np.diff(corpus.starts).max())
    own = Own(lambda: kernels.ring(options.window, most, width, longest))

    def work(piece: Piece) -> tuple[float, int]:
        loss, count = kernels.learn(
            text, subwords, model, settings, own.get(), piece.first, piece.last, piece.lr, piece.seed
        )
        return float(loss), int(count)

    outcome = over(corpus.starts, pace(options), work)
    vectors = np.empty((words, width), np.float32)
    kernels.means(inputs, subwords, vectors)
    order = np.argsort(buckets)
    return Vectors(
        corpus.words,
        corpus.counts,
        inputs[:words, : options.dim].copy(),
        np.ascontiguousarray(vectors[:, : options.dim]),
        buckets[order],
        inputs[words + order, : options.dim],
        model.outputs[:, : options.dim].copy(),
        outcome,
    )


class Own(Generic[T]):
    """Arrays of which each thread has its own."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._local = make, threading.local()

    def get(self) -> T:
        """Those of the thread that asks."""
        if not hasattr(self._local, "made"):
            self._local.made = self._make()
        made: T = self._local.made
        return made


def settings_of(options: Any, skipgram: bool, width: int) -> Any:
    """How windows are learned from, for the kernels; rates come with each piece, so those here are not asked."""
    from omnivec.kernels.word2vec import Settings

    return Settings(
        skipgram=skipgram,
        negative=options.negative,
        window=options.window,
        shrink=True,
        mean=True,
        rate=options.lr,
        least=options.min_lr,
        words=0,
        width=width,
    )


def pace(options: Any) -> Pace:
    """The pace that options of a recipe of this kind ask for."""
    threads = options.threads or cores()
    return Pace(options.epochs, options.lr, options.min_lr, threads, options.seed, options.show_progress_bar)


def used(ngrams: Ragged) -> tuple[NDArray[np.int32], Ragged]:
    """The buckets that occur, in the order of their first, and each n-gram as a place among them.

    Words stand by falling count, so the rows of frequent n-grams lie side by side.
    """
    buckets, first, places = np.unique(ngrams.values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    ranks = np.empty(len(order), np.int32)
    ranks[order] = np.arange(len(order))
    return buckets[order], Ragged(ranks[places], ngrams.starts)


def with_own(ngrams: Ragged) -> Ragged:
    """Rows of words: each word's own before those of its n-grams, which lie behind all words' own."""
    words = len(ngrams.starts) - 1
    own = np.arange(words, dtype=np.int32)
    return Ragged(
        np.insert(ngrams.values + np.int32(words), ngrams.starts[:-1], own),
        ngrams.starts + np.arange(words + 1),
    )


def uniform(shape: tuple[int, int], seed: int, span: float) -> NDArray[np.float32]:
    """Rows from -span/(2 dim) to span/(2 dim), padded with zeros to whole lanes."""
    from omnivec.kernels.word2vec import zeros

    count, dim = shape
    rows = zeros(count, dim)
    random = np.random.default_rng(seed)
    for first in range(0, count, 2**16):
        part = rows[first : first + 2**16, :dim]
        part[:] = (random.random(part.shape, np.float32) - np.float32(0.5)) * np.float32(span / dim)
    return rows
