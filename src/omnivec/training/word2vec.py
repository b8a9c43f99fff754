"""Vectors of words from the words around them: skip-gram and CBOW (word2vec).

Mikolov et al. 2013, arXiv:1301.3781 and 1310.4546. The words around a centre share its negatives, drawn anew for each
centre: measured, this costs no quality, and it is most of the speed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import ModelError, UsageError
from omnivec.keyed import trained
from omnivec.training import phrases
from omnivec.training.corpus import Corpus, check_numba, cores, kept, read_corpus
from omnivec.training.passes import Outcome, Pace, Piece, over
from omnivec.training.recipes import check_limits
from omnivec.types import Floats
from omnivec.weights.tables.record import Table

if TYPE_CHECKING:
    from omnivec.embedder import Embedder
    from omnivec.kernels.word2vec import Model

INF = float("inf")
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
    "threads": (1, 1_024),
    "seed": (0, 2**63 - 1),
}


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
class Options:
    """What may be told to this recipe.

    Attributes:
        dim: components of a vector.
        window: words on either side, at most.
        negative: words drawn against each centre; 0 takes a hierarchical softmax.
        hs: whether to take a hierarchical softmax in place of negative sampling.
        sg: whether words around foretell the centre one by one (skip-gram); otherwise together (CBOW).
        min_count: rarer words are left out.
        max_vocab: only so many words, the most frequent, get a vector; None keeps all.
        sample: share of the corpus above which a word is thinned; 0 thins none.
        epochs: passes over the corpus.
        lr: learning rate at the beginning; it falls in a straight line.
        min_lr: what it falls to.
        cbow_mean: whether CBOW takes the mean of the words around; otherwise their sum.
        ns_exponent: negatives are drawn by their counts to this power.
        shrink_windows: whether each centre draws its window's size from 1 to `window`.
        phrases: a file that the recipe `phrases` made; what it lists becomes one word.
        init: a model of words to begin with: its words keep their vectors, new ones are added.
        threads: that read and learn; by default as many as there are CPUs. One makes the same bits for the same seed.
        seed: of all that is drawn.
        show_progress_bar: progress on stderr; None on a terminal only.
        on_epoch: called after each pass with its loss.
    """

    dim: int = 100
    window: int = 5
    negative: int = 5
    hs: bool | int = False
    sg: bool | int = True
    min_count: int = 5
    max_vocab: int | None = None
    sample: float = 1e-3
    epochs: int = 5
    lr: float = 0.025
    min_lr: float = 0.0001
    cbow_mean: bool | int = True
    ns_exponent: float = 0.75
    shrink_windows: bool = True
    phrases: str | Path | None = None
    init: str | Path | Embedder | None = None
    threads: int | None = None
    seed: int = 1
    show_progress_bar: bool | None = None
    on_epoch: Callable[[Epoch], None] | None = None

    def __post_init__(self) -> None:
        check_limits(self, LIMITS)
        if self.min_lr > self.lr:
            raise UsageError(f"min_lr={self.min_lr} is above lr={self.lr}: the learning rate falls")


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
    learned = fit(read(data, options), options, beginning(options))
    return trained(Table(learned.words, learned.vectors, learned.counts), "word2vec")


def read(data: Any, options: Options) -> Corpus:
    """The corpus that these options ask for, phrases joined."""
    joined = None if options.phrases is None else phrases.load(options.phrases)
    corpus = read_corpus(
        data,
        min_count=1 if joined else options.min_count,
        max_vocab=None if joined else options.max_vocab,
        threads=options.threads,
        show_progress_bar=options.show_progress_bar,
    )
    return kept(joined.join(corpus), options.min_count, options.max_vocab) if joined else corpus


def beginning(options: Options) -> dict[str, Floats]:
    """The vectors of the model to begin with, by word; none where none is asked for."""
    if options.init is None:
        return {}
    from omnivec.loading import load

    model: Any = load(options.init) if isinstance(options.init, str | Path) else options.init
    if not hasattr(model, "keys"):
        raise UsageError(
            f"init={options.init!r} is a model of {', '.join(model.modalities)}, not a table of words"
        )
    if model.dim != options.dim:
        raise UsageError(
            f"init has vectors of {model.dim} components, dim={options.dim} asks for others: they must agree"
        )
    return dict(zip(model.keys, model.vectors, strict=True))


def fit(corpus: Corpus, options: Options, known: dict[str, Floats] | None = None) -> Trained:
    """Learns vectors of a corpus's words.

    Ctrl-C ends it early: what was learned by then stays, and a line on stderr says so.

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
    from omnivec.kernels import word2vec as kernels

    _check(corpus)
    known, own = known or {}, set(corpus.words)
    words = [*corpus.words, *(word for word in known if word not in own)]
    model = _model(corpus, words, options, known)
    outcome = _passes(corpus, options, model)
    inputs, outputs = (
        np.ascontiguousarray(table.reshape(-1, kernels.width_of(options.dim))[:, : options.dim])
        for table in (model.inputs, model.outputs)
    )
    if not np.isfinite(inputs).all():
        raise ModelError(f"the vectors are not finite at lr={options.lr:g}: use a smaller lr")
    counts = np.concatenate([corpus.counts, np.zeros(len(words) - len(corpus.words), np.int64)])
    return Trained(words, counts, inputs, outputs, outcome)


def _check(corpus: Corpus) -> None:
    if len(corpus.words) < 2:
        raise UsageError(
            f"only {corpus.words[0]!r} is frequent enough: a model needs two words, lower min_count"
        )
    if int(np.diff(corpus.starts).max()) < 2:
        raise UsageError(
            f"no two words stand in one of the {len(corpus.starts) - 1:,} sentences: give longer ones"
        )


def _model(corpus: Corpus, words: list[str], options: Options, known: dict[str, Floats]) -> Model:
    """Tables to begin with: inputs known or from -1/(2 dim) to 1/(2 dim), outputs 0."""
    from omnivec.kernels import draws
    from omnivec.kernels import word2vec as kernels

    random = np.random.default_rng(options.seed)
    inputs = kernels.zeros(len(words), options.dim)
    for first in range(0, len(words), 2**16):
        rows = inputs[first : first + 2**16, : options.dim]
        rows[:] = (random.random(rows.shape, np.float32) - np.float32(0.5)) / np.float32(options.dim)
    for row, word in enumerate(words if known else ()):
        if word in known:
            inputs[row, : options.dim] = known[word]
    outputs = kernels.zeros(len(corpus.words), options.dim)
    tree = kernels.huffman_tree(corpus.counts) if _softmax(options) else kernels.no_tree()
    alias = draws.negatives_table(corpus.counts, options.ns_exponent)
    return kernels.Model(inputs.reshape(-1), outputs.reshape(-1), alias, tree)


def _softmax(options: Options) -> bool:
    return bool(options.hs) or options.negative == 0


def _passes(corpus: Corpus, options: Options, model: Model) -> Outcome:
    from omnivec.kernels import draws
    from omnivec.kernels import word2vec as kernels

    text = kernels.Text(corpus.ids, corpus.starts, draws.keep_table(corpus.counts, options.sample))
    negative = 0 if _softmax(options) else options.negative
    width = kernels.width_of(options.dim)
    settings = kernels.Settings(
        skipgram=bool(options.sg),
        negative=negative,
        window=options.window,
        shrink=options.shrink_windows,
        mean=bool(options.cbow_mean),
        rate=options.lr,
        least=options.min_lr,
        words=0,
        width=width,
    )
    targets = negative + 1 if negative else int(np.diff(model.tree.starts).max())
    threads = options.threads or cores()
    rooms = SimpleQueue[kernels.Room]()
    for _ in range(threads):
        rooms.put(kernels.room(int(np.diff(corpus.starts).max()), options.window, targets, width))
    epochs = _Epochs(options, len(corpus.ids))

    def work(piece: Piece) -> tuple[float, int]:
        mine = rooms.get()
        found = kernels.learn(text, model, settings, mine, piece.first, piece.last, piece.lr, piece.seed)
        rooms.put(mine)
        epochs.add(piece, *found)
        return found

    pace = Pace(options.epochs, options.lr, options.min_lr, threads, options.seed, options.show_progress_bar)
    return over(corpus.starts, pace, work)


class _Epochs:
    """Tells when a pass is over; pieces of the next may have begun."""

    def __init__(self, options: Options, words: int) -> None:
        self._options, self._words = options, words
        self._done = np.zeros((options.epochs, 3))
        self._lock = threading.Lock()
        self._start = time.perf_counter()

    def add(self, piece: Piece, loss: float, count: int) -> None:
        """A piece is done."""
        if self._options.on_epoch is None:
            return
        with self._lock:
            self._done[piece.epoch] += piece.words, loss, count
            words, total, many = self._done[piece.epoch]
            if words == self._words:
                seconds = time.perf_counter() - self._start
                mean = float(total / max(many, 1))
                self._options.on_epoch(Epoch(piece.epoch + 1, self._options.epochs, mean, seconds))
