"""Trains word vectors from character n-grams, so that unseen words have vectors too (fastText).

Bojanowski et al. 2017, arXiv:1607.04606. The words around a centre word share its negatives, as in the recipe word2vec.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from omnivec.models.keyed import trained
from omnivec.tables.ngrams import Ragged, char_ngrams
from omnivec.tables.record import Subwords, Table
from omnivec.training.corpus import Corpus, check_numba
from omnivec.training.passes import Outcome, Shard, run_epochs
from omnivec.training.tables import (
    Centred,
    PerThread,
    check_ngrams,
    read_words,
    schedule_of,
    uniform,
    workers,
)

if TYPE_CHECKING:
    from omnivec.models.keyed import KeyedEmbedder

DATA = "a UTF-8 text (.gz and .bz2 too), a sentence on each line"

SPAN = 2.0
"""Range of initial values, in units of 1 / dim: wide, as in fastText, because the mean of many rows is small."""


@dataclass(frozen=True)
class Options(Centred):
    """Options of this recipe.

    Attributes:
        min_count: words that occur less often are left out; they still have vectors, from their n-grams.
        min_n: characters of the shortest n-gram, angle brackets included.
        max_n: characters of the longest n-gram; 0 uses none.
        bucket: hash buckets for n-grams.
    """

    min_count: int = 5
    min_n: int = 3
    max_n: int = 6
    bucket: int = 2_000_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ngrams(self.min_n, self.max_n)


@dataclass(frozen=True, eq=False)
class FastTextVectors:
    """The result of training.

    Attributes:
        words: the vocabulary, most frequent first.
        counts: (v,) occurrences of each word.
        rows: (v, dim) float32, the rows of words without their n-grams.
        vectors: (v, dim) float32, word vectors: the mean of a word's row and the rows of its n-grams.
        buckets: (n,) int32, ascending: the buckets of all n-grams of these words.
        bucket_vectors: (n, dim) float32, the rows of these buckets.
        outputs: (v, dim) float32, output vectors of words, or of the tree's nodes.
        outcome: loss, words and time of the training.
    """

    words: list[str]
    counts: NDArray[np.int64]
    rows: NDArray[np.float32]
    vectors: NDArray[np.float32]
    buckets: NDArray[np.int32]
    bucket_vectors: NDArray[np.float32]
    outputs: NDArray[np.float32]
    outcome: Outcome


def run(data: Any, options: Options) -> KeyedEmbedder:
    """Trains on a text; `data` is that of `training.corpus.read_corpus`."""
    corpus = read_words(data, options, fit)
    learned = fit(corpus, options)
    hashed = Subwords(learned.bucket_vectors, options.min_n, options.max_n, learned.buckets, options.bucket)
    settings = {
        "model": "skipgram" if options.sg else "cbow",
        "loss": "ns" if options.negative else "hs",
        "lr": options.rate,
        "min_lr": options.least(len(corpus.ids), len(corpus.words)),
        **{name: getattr(options, name) for name in ("window", "negative", "min_count", "epochs", "sample")},
    }
    table = Table(
        learned.words,
        learned.rows,
        learned.counts,
        subwords=hashed,
        output=learned.outputs,
        settings=settings,
        kind="fasttext",
    )
    return trained(table, "fasttext")


def fit(corpus: Corpus, options: Options) -> FastTextVectors:
    """Trains vectors of a corpus's words and of their n-grams."""
    check_numba()
    from omnivec.tables.kernels import draws, windows
    from omnivec.tables.kernels import fasttext as kernels

    words = len(corpus.words)
    buckets, ngrams = used(char_ngrams(corpus.words, options.min_n, options.max_n, options.bucket))
    subwords = kernels.WordRows(*with_words(ngrams))
    inputs = uniform((words + len(buckets), options.dim), options.seed, SPAN)
    width = inputs.shape[1]
    alias, tree, most_targets = windows.targets_of(corpus.counts, options.negative)
    text = windows.Sentences(corpus.ids, corpus.starts, draws.keep_table(corpus.counts, options.sample))
    outputs = windows.zeros(words + windows.copied(tree, workers(options)), options.dim)
    model = windows.Tables(inputs, outputs, alias, tree)
    settings = windows.WindowSettings(
        skipgram=bool(options.sg),
        negative=options.negative,
        window=options.window,
        shrink=True,
        mean=True,
        width=width,
    )
    longest = int(np.diff(corpus.starts).max())
    copies = windows.crowns(tree, words, width, workers(options))
    per_thread = PerThread(
        lambda thread: kernels.ring(options.window, most_targets, width, longest, copies(thread))
    )

    def work(shard: Shard) -> tuple[float, int]:
        loss, count = kernels.learn(
            text, subwords, model, settings, per_thread.get(), shard.first, shard.last, shard.lr, shard.seed
        )
        return float(loss), int(count)

    outcome = run_epochs(
        corpus.starts,
        schedule_of(options, len(corpus.ids), words),
        work,
        {"vectors": inputs, "outputs": outputs},
    )
    vectors = np.empty((words, width), np.float32)
    kernels.means(inputs, subwords, vectors)
    order = np.argsort(buckets)
    return FastTextVectors(
        corpus.words,
        corpus.counts,
        inputs[:words, : options.dim].copy(),
        np.ascontiguousarray(vectors[:, : options.dim]),
        buckets[order],
        inputs[words + order, : options.dim],
        outputs[:words, : options.dim].copy(),
        outcome,
    )


def used(ngrams: Ragged) -> tuple[NDArray[np.int32], Ragged]:
    """The distinct buckets, in order of first occurrence, and the n-grams as indices of them.

    Words are sorted by descending count, so the rows of frequent n-grams are close together in memory. For example,
    buckets [7, 1, 7, 4] become ([7, 1, 4], [0, 1, 0, 2]).
    """
    buckets, first, places = np.unique(ngrams.values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    ranks = np.empty(len(order), np.int32)
    ranks[order] = np.arange(len(order))
    return buckets[order], Ragged(ranks[places], ngrams.starts)


def with_words(ngrams: Ragged) -> Ragged:
    """The rows of each word: its own row, then those of its n-grams, which are numbered after the words' rows."""
    words = len(ngrams.starts) - 1
    word_rows = np.arange(words, dtype=np.int32)
    return Ragged(
        np.insert(ngrams.values + np.int32(words), ngrams.starts[:-1], word_rows),
        ngrams.starts + np.arange(words + 1),
    )
