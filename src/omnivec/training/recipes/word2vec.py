"""Vectors of words from the words around them: skip-gram and CBOW (word2vec).

Mikolov et al. 2013, arXiv:1301.3781 and 1310.4546. The words around a centre share its negatives, drawn anew for each
centre: measured, this costs no quality, and it is most of the speed.
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
    from omnivec.tables.kernels.windows import Tables

DATA = "a UTF-8 text (.gz and .bz2 too), a sentence on each line"

SPAN = 2.0
"""Of the first values, in 1 / dim: gensim's, twice word2vec.c's.

Outputs begin at 0 and grow by these values, so a short training learns sooner with larger ones, CBOW above all:
`benchmarks/words_budgets.py`.
"""


class Epoch(NamedTuple):
    """What one pass was like.

    Attributes:
        number: from 1.
        of: passes in all.
        loss: mean over a sample of the predictions in it: minus the log probability of the word and its negatives.
        seconds: since training began.
    """

    number: int
    of: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class Options(Centred):
    """What may be told to this recipe.

    Attributes:
        window: words on either side, at most.
        hs: whether to take a hierarchical softmax in place of negative sampling.
        cbow_mean: whether CBOW takes the mean of the words around; otherwise their sum.
        ns_exponent: negatives are drawn by their counts to this power.
        shrink_windows: whether each centre draws its window's size from 1 to `window`.
        phrases: a file that the recipe `phrases` made; what it lists becomes one word.
        init: a model of words to begin with: its words keep their vectors, new ones are added.
        on_epoch: called after each pass with its loss.
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
        """Whether a hierarchical softmax is taken in place of negative sampling."""
        return bool(self.hs) or self.negative == 0


@dataclass(frozen=True, eq=False)
class Trained:
    """What was learned.

    Attributes:
        words: of the corpus by falling count, then those that only `init` has.
        counts: (v,) occurrences of each.
        vectors: (v, dim) float32.
        outputs: (w, dim) float32: of the corpus's w words as targets, or of their tree's nodes.
        outcome: of the passes.
    """

    words: list[str]
    counts: NDArray[np.int64]
    vectors: Floats
    outputs: Floats
    outcome: Outcome


def run(data: Any, options: Options) -> Embedder:
    """Trains on a text; `data` as `training.corpus.read_corpus` takes it."""
    corpus = read(data, options)
    learned = fit(corpus, options, beginning(options))
    settings = {"lr": options.rate, "min_lr": options.least(len(corpus.ids), len(corpus.words))}
    return trained(Table(learned.words, learned.vectors, learned.counts, settings=settings), "word2vec")


def read(data: Any, options: Options) -> Corpus:
    """The corpus that these options ask for, phrases joined."""
    brief = replace(options, on_epoch=None)
    if options.phrases is None:
        return read_words(data, brief, fit)
    joined = phrases.load(options.phrases)
    everything = read_words(data, replace(brief, min_count=1, max_vocab=None), fit)
    return kept(joined.join(everything), options.min_count, options.max_vocab)


def beginning(options: Options) -> dict[str, Floats]:
    """The vectors of the model to begin with, by word; none where none is asked for."""
    if options.init is None:
        return {}
    from omnivec.models.keyed import keyed
    from omnivec.models.loading import load

    initial: Any = load(options.init) if isinstance(options.init, str | Path) else options.init
    reads = ", ".join(getattr(initial, "modalities", ()))
    model = keyed(initial, f"init={options.init!r} is a model of {reads}, not a table of words")
    if model.dim != options.dim:
        raise UsageError(
            f"init has vectors of {model.dim} components, dim={options.dim} asks for others: they must agree"
        )
    return dict(zip(model.keys, model.vectors, strict=True))


def fit(corpus: Corpus, options: Options, known: dict[str, Floats] | None = None) -> Trained:
    """Learns vectors of a corpus's words.

    Ctrl-C ends it early: what was learned by then stays, and a line on stderr says how much that is.

    Args:
        corpus: as `read_corpus` returns it.
        options: how.
        known: word -> (dim,) to begin with.

    Raises:
        UsageError: fewer than two words, or no sentence of two.
        ModelError: numbers that are not finite.
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
            f"only {corpus.words[0]!r} is frequent enough: a model needs two words, lower min_count"
        )
    if int(np.diff(corpus.starts).max()) < 2:
        raise UsageError(
            f"no two words stand in one of the {len(corpus.starts) - 1:,} sentences: give longer ones"
        )


def _model(corpus: Corpus, words: list[str], options: Options, known: dict[str, Floats]) -> Tables:
    """Tables to begin with: inputs known or from -1/dim to 1/dim, outputs 0."""
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
    """Tells when a pass is over; shards of the next may have begun."""

    def __init__(self, options: Options, words: int) -> None:
        self._options, self._words = options, words
        self._done = np.zeros((options.epochs, 3))
        self._lock = threading.Lock()
        self._start = time.perf_counter()

    def add(self, shard: Shard, loss: float, count: int) -> None:
        """A shard is done."""
        if self._options.on_epoch is None:
            return
        with self._lock:
            self._done[shard.epoch] += shard.words, loss, count
            words, total, many = self._done[shard.epoch]
            if words == self._words:
                seconds = time.perf_counter() - self._start
                mean = float(total / max(many, 1))
                self._options.on_epoch(Epoch(shard.epoch + 1, self._options.epochs, mean, seconds))
