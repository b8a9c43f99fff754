"""Trains a text classifier on words and word n-grams: a softmax over the mean of their vectors (fastText).

Joulin et al. 2017, arXiv:1607.01759.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.models.keyed import KeyedEmbedder, trained
from omnivec.tables.bags import Bag, frequent
from omnivec.tables.record import Subwords, Table
from omnivec.training.corpus import check_numba
from omnivec.training.labelled import Labelled, read_labelled
from omnivec.training.passes import Outcome, Shard, run_epochs
from omnivec.training.recipes.fasttext import SPAN
from omnivec.training.tables import Common, PerThread, check_ngrams, schedule_of, uniform

if TYPE_CHECKING:
    from collections.abc import Sequence

DATA = (
    "a .csv, .tsv, .jsonl or .parquet with the columns text and label, or a text of lines '__label__x words'"
)


@dataclass(frozen=True)
class Options(Common):
    """Options of this recipe.

    Attributes:
        epochs: passes over the texts.
        lr: initial learning rate; it falls linearly.
        seed: seed of all random choices and of the order of the texts.
        word_ngrams: words of the longest word n-gram; 1 uses single words only.
        min_n: characters of the shortest n-gram, angle brackets included.
        max_n: characters of the longest character n-gram; 0 uses none.
        bucket: hash buckets for n-grams.
    """

    epochs: int = 5
    lr: float = 0.1
    min_lr: float = 0.0
    min_count: int = 1
    seed: int = 1
    word_ngrams: int = 1
    min_n: int = 3
    max_n: int = 0
    bucket: int = 2_000_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ngrams(self.min_n, self.max_n)


@dataclass(frozen=True, eq=False)
class TrainedClassifier:
    """The result of training.

    Attributes:
        bag: the words and buckets of the rows of `inputs`.
        counts: (words,) occurrences of each word.
        inputs: (words + buckets, dim) float32; a text's vector is the mean of its rows.
        labels: the labels, most frequent first.
        outputs: (labels, dim) float32, output vectors of labels.
        outcome: loss, words and time of the training.
    """

    bag: Bag
    counts: NDArray[np.int64]
    inputs: NDArray[np.float32]
    labels: list[str]
    outputs: NDArray[np.float32]
    outcome: Outcome


def run(data: Any, options: Options) -> KeyedEmbedder:
    """Trains on texts with labels; `data` is that of `training.labelled.read_labelled`."""
    return embedder(fit(read_labelled(data), options), options)


def embedder(learned: TrainedClassifier, options: Options) -> KeyedEmbedder:
    """An embedder of the trained table, which predicts labels of texts."""
    bag, words = learned.bag, len(learned.bag.words)
    hashed = Subwords(learned.inputs[words:], bag.min_n, bag.max_n, bag.buckets, bag.bucket)
    settings = {
        "model": "supervised",
        "loss": "softmax",
        "labels": learned.labels,
        **{name: getattr(options, name) for name in ("word_ngrams", "min_count", "epochs", "lr")},
    }
    table = Table(
        list(bag.words),
        learned.inputs[:words],
        learned.counts,
        subwords=hashed,
        output=learned.outputs,
        settings=settings,
        kind="fasttext",
    )
    return trained(table, "fasttext_supervised")


def fit(examples: Sequence[Labelled], options: Options) -> TrainedClassifier:
    """Trains a classifier of texts, in an order that is shuffled once, by the seed."""
    check_numba()
    from omnivec.tables.kernels import fasttext as kernels

    shuffled = np.random.default_rng(options.seed).permutation(len(examples))
    texts = [examples[i].text for i in shuffled]
    words, counts = frequent(texts, options.min_count)
    if not words:
        raise UsageError(f"no word occurs {options.min_count} times or more: lower min_count")
    hashing = (options.word_ngrams, options.min_n, options.max_n, options.bucket)
    ngrams = Bag(words, np.empty(0, np.int32), *hashing).parts(texts)[1]
    bag = Bag(words, np.unique(ngrams.values), *hashing)
    rows = bag.rows(texts)
    labels = [label for label, _ in Counter(one.label for one in examples).most_common()]
    numbers = {label: i for i, label in enumerate(labels)}
    gold = np.array([numbers[examples[i].label] for i in shuffled], np.int32)
    inputs = uniform((len(words) + len(bag.buckets), options.dim), options.seed, SPAN)
    outputs = np.zeros((len(labels), inputs.shape[1]), np.float32)
    per_thread = PerThread(lambda thread: np.zeros(2 * inputs.shape[1] + len(labels), np.float32))

    def work(shard: Shard) -> tuple[float, int]:
        bags = kernels.WordRows(*rows)
        loss, count = kernels.classify(
            bags, gold, inputs, outputs, per_thread.get(), shard.first, shard.last, shard.lr
        )
        return float(loss), int(count)

    learned = {"rows": inputs, "labels' vectors": outputs}
    outcome = run_epochs(rows.starts, schedule_of(options, len(rows.values), len(words)), work, learned)
    dim = options.dim
    return TrainedClassifier(bag, counts, inputs[:, :dim].copy(), labels, outputs[:, :dim].copy(), outcome)
