"""Trains word vectors from the words around each word: skip-gram and CBOW (word2vec).

Mikolov et al. 2013, arXiv:1301.3781 and 1310.4546. The words around a centre word share its negatives, which are drawn
for each centre word. In our measurements this does not reduce quality, and it accounts for most of the speed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.models.keyed import trained
from omnivec.tables.record import Table
from omnivec.training.corpus import Corpus, check_numba, kept
from omnivec.training.passes import Outcome, Shard, run_epochs
from omnivec.training.recipes import phrases
from omnivec.training.tables import Centred, PerThread, read_words, schedule_of, uniform, workers
from omnivec.types import Floats

if TYPE_CHECKING:
    from omnivec.models.embedder import Embedder
    from omnivec.models.keyed import KeyedEmbedder
    from omnivec.tables.kernels.windows import Tables

DATA = "a UTF-8 text (.gz and .bz2 too), a sentence on each line"

SPAN = 2.0
"""Range of initial values, in units of 1 / dim: that of gensim, twice that of word2vec.c.

Outputs start at 0 and grow in proportion to these values, so in a short training larger ones learn faster, above all
with CBOW: `benchmarks/words_budgets.py`.
"""


class Epoch(NamedTuple):
    """The record of one epoch.

    Attributes:
        number: number of the epoch, from 1.
        of: number of all epochs.
        loss: mean over a sample of its predictions of minus the log probability of the word and its negatives.
        seconds: time since training began.
    """

    number: int
    of: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class Options(Centred):
    """Options of this recipe.

    Attributes:
        window: most words on either side of the centre word.
        hs: whether to use a hierarchical softmax in place of negative sampling.
        cbow_mean: whether CBOW averages the vectors of the surrounding words; otherwise it adds them up.
        ns_exponent: negatives are drawn in proportion to their counts to this power.
        shrink_windows: whether to draw the size of each window from 1 to `window`.
        phrases: file made by the recipe `phrases`; each phrase in it becomes one word.
        init: table of words to start from: its words keep their vectors, new words are added.
        on_epoch: called after each epoch with its loss.
    """

    window: int = 5
    hs: bool | int = False
    cbow_mean: bool | int = True
    ns_exponent: float = 0.75
    shrink_windows: bool = True
    phrases: str | Path | None = None
    init: str | Path | Embedder | None = None
    on_epoch: Callable[[Epoch], None] | None = None

    @property
    def softmax(self) -> bool:
        """Whether a hierarchical softmax replaces negative sampling."""
        return bool(self.hs) or self.negative == 0


@dataclass(frozen=True, eq=False)
class Trained:
    """The result of training.

    Attributes:
        words: words of the corpus, most frequent first, then words that only `init` has.
        counts: (v,) occurrences of each word in the corpus.
        vectors: (v, dim) float32.
        outputs: (w, dim) float32, output vectors of the corpus's w words, or of the tree's nodes.
        outcome: loss, words and time of the training.
    """

    words: list[str]
    counts: NDArray[np.int64]
    vectors: Floats
    outputs: Floats
    outcome: Outcome


def run(data: Any, options: Options) -> KeyedEmbedder:
    """Trains on a text; `data` is that of `training.corpus.read_corpus`."""
    corpus = read(data, options)
    learned = fit(corpus, options, beginning(options))
    settings = {"lr": options.rate, "min_lr": options.least(len(corpus.ids), len(corpus.words))}
    return trained(Table(learned.words, learned.vectors, learned.counts, settings=settings), "word2vec")


def read(data: Any, options: Options) -> Corpus:
    """Reads the corpus within the options' limits, with phrases joined."""
    brief = replace(options, on_epoch=None)
    if options.phrases is None:
        return read_words(data, brief, fit)
    joined = phrases.load(options.phrases)
    everything = read_words(data, replace(brief, min_count=1, max_vocab=None), fit)
    return kept(joined.join(everything), options.min_count, options.max_vocab)


def beginning(options: Options) -> dict[str, Floats]:
    """The vectors of the model to start from, by word; empty if there is none.

    Raises:
        UsageError: the model is not a table of words, or its vectors have another dimension.
    """
    if options.init is None:
        return {}
    from omnivec.models.keyed import keyed
    from omnivec.models.loading import load

    initial: Any = load(options.init) if isinstance(options.init, str | Path) else options.init
    reads = ", ".join(getattr(initial, "modalities", ()))
    model = keyed(initial, f"init={options.init!r} is a model of {reads}, not a table of words")
    if model.dim != options.dim:
        raise UsageError(
            f"init has vectors of {model.dim} components, but dim={options.dim}: they must be equal"
        )
    return dict(zip(model.keys, model.vectors, strict=True))


def fit(corpus: Corpus, options: Options, known: dict[str, Floats] | None = None) -> Trained:
    """Trains vectors of a corpus's words.

    Ctrl-C ends training early: the vectors keep what was learned so far, and a line on stderr says how much that is.

    Args:
        corpus: the corpus, from `read_corpus`.
        options: the options of the recipe.
        known: word -> initial vector (dim,).

    Raises:
        UsageError: there are fewer than two words, or no sentence has two.
        ModelError: the loss or a vector is not finite.
        MissingExtra: numba is not installed.
    """
    check_numba()
    from omnivec.tables.kernels.windows import width_of

    _check(corpus)
    known, in_corpus = known or {}, set(corpus.words)
    words = [*corpus.words, *(word for word in known if word not in in_corpus)]
    model = _model(corpus, words, options, known)
    outcome = _passes(corpus, options, model)
    inputs, outputs = (
        np.ascontiguousarray(table.reshape(-1, width_of(options.dim))[:, : options.dim])
        for table in (model.inputs, model.outputs)
    )
    counts = np.concatenate([corpus.counts, np.zeros(len(words) - len(corpus.words), np.int64)])
    return Trained(words, counts, inputs, outputs[: len(corpus.words)], outcome)


def _check(corpus: Corpus) -> None:
    if len(corpus.words) < 2:
        raise UsageError(
            f"only {corpus.words[0]!r} is frequent enough, but a model needs two words: lower min_count"
        )
    if int(np.diff(corpus.starts).max()) < 2:
        raise UsageError(f"none of the {len(corpus.starts) - 1:,} sentences has two words: give longer ones")


def _model(corpus: Corpus, words: list[str], options: Options, known: dict[str, Floats]) -> Tables:
    """The initial tables: inputs are known vectors or random from -1 / dim to 1 / dim, outputs are zeros."""
    from omnivec.tables.kernels import draws, trees, windows

    inputs = uniform((len(words), options.dim), options.seed, SPAN)
    for row, word in enumerate(words if known else ()):
        if word in known:
            inputs[row, : options.dim] = known[word]
    tree = trees.huffman_tree(corpus.counts) if options.softmax else trees.no_tree()
    rows = len(corpus.words) + windows.copied(tree, workers(options))
    outputs = windows.zeros(rows, options.dim)
    alias = draws.negatives_table(corpus.counts, options.ns_exponent)
    return windows.Tables(inputs.reshape(-1), outputs.reshape(-1), alias, tree)


def _passes(corpus: Corpus, options: Options, model: Tables) -> Outcome:
    from omnivec.tables.kernels import draws, windows
    from omnivec.tables.kernels.word2vec import learn

    text = windows.Sentences(corpus.ids, corpus.starts, draws.keep_table(corpus.counts, options.sample))
    negative = 0 if options.softmax else options.negative
    settings = windows.WindowSettings(
        skipgram=bool(options.sg),
        negative=negative,
        window=options.window,
        shrink=options.shrink_windows,
        mean=bool(options.cbow_mean),
        width=windows.width_of(options.dim),
    )
    targets = negative + 1 if negative else int(np.diff(model.tree.starts).max())
    longest = int(np.diff(corpus.starts).max())
    copies = windows.crowns(model.tree, len(corpus.words), settings.width, workers(options))
    per_thread = PerThread(
        lambda thread: windows.room(longest, options.window, targets, settings.width, copies(thread))
    )
    epochs = _Epochs(options, len(corpus.ids))

    def work(shard: Shard) -> tuple[float, int]:
        losses = learn(text, model, settings, per_thread.get(), shard.first, shard.last, shard.lr, shard.seed)
        epochs.add(shard, *losses)
        return losses

    learned = {
        name: table.reshape(-1, settings.width)
        for name, table in (("vectors", model.inputs), ("outputs", model.outputs))
    }
    return run_epochs(corpus.starts, schedule_of(options, len(corpus.ids), len(corpus.words)), work, learned)


class _Epochs:
    """Calls `on_epoch` when an epoch is complete; shards of the next may have been begun by then."""

    def __init__(self, options: Options, words: int) -> None:
        self._options, self._words = options, words
        self._done = np.zeros((options.epochs, 3))
        self._lock = threading.Lock()
        self._start = time.perf_counter()

    def add(self, shard: Shard, loss: float, count: int) -> None:
        """Counts a finished shard."""
        if self._options.on_epoch is None:
            return
        with self._lock:
            self._done[shard.epoch] += shard.words, loss, count
            words, total, many = self._done[shard.epoch]
            if words == self._words:
                seconds = time.perf_counter() - self._start
                mean = float(total / max(many, 1))
                self._options.on_epoch(Epoch(shard.epoch + 1, self._options.epochs, mean, seconds))
