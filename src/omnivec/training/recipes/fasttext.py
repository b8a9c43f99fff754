"""Vectors of words from their character n-grams, so that words never seen have one too (fastText).

Bojanowski et al. 2017, arXiv:1607.04606. Words around a centre share its negatives, as in the recipe word2vec.
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
    from omnivec.models.embedder import Embedder

DATA = "a UTF-8 text (.gz and .bz2 too), a sentence on each line"

SPAN = 2.0
"""Of the first values of n-gram rows, in 1 / dim: as fastText has them, wide, since means of many are narrow."""


@dataclass(frozen=True)
class Options(Centred):
    """What may be told to this recipe.

    Attributes:
        min_count: rarer words are left out; they still have vectors, from their n-grams.
        min_n: characters of the shortest n-gram, angle brackets included.
        max_n: characters of the longest; 0 for no n-grams.
        bucket: numbers that n-grams are hashed to.
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
    """Learns vectors of a corpus's words and of their n-grams."""
    check_numba()
    from omnivec.tables.kernels import draws, windows
    from omnivec.tables.kernels import fasttext as kernels

    words = len(corpus.words)
    buckets, ngrams = used(char_ngrams(corpus.words, options.min_n, options.max_n, options.bucket))
    subwords = kernels.WordRows(*with_words(ngrams))
    inputs = uniform((words + len(buckets), options.dim), options.seed, SPAN)
    width = inputs.shape[1]
    alias, tree, most = windows.targets_of(corpus.counts, options.negative)
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
    per_thread = PerThread(lambda thread: kernels.ring(options.window, most, width, longest, copies(thread)))

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
    """The buckets that occur, in the order of their first, and each n-gram as a place among them.

    Words stand by falling count, so the rows of frequent n-grams lie side by side.
    """
    buckets, first, places = np.unique(ngrams.values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    ranks = np.empty(len(order), np.int32)
    ranks[order] = np.arange(len(order))
    return buckets[order], Ragged(ranks[places], ngrams.starts)


def with_words(ngrams: Ragged) -> Ragged:
    """Rows of words: each word's own before those of its n-grams, which lie behind all words' own."""
    words = len(ngrams.starts) - 1
    word_rows = np.arange(words, dtype=np.int32)
    return Ragged(
        np.insert(ngrams.values + np.int32(words), ngrams.starts[:-1], word_rows),
        ngrams.starts + np.arange(words + 1),
    )
