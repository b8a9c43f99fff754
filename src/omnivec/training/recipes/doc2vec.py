"""Trains vectors of whole documents together with their words; new documents are inferred (paragraph vectors).

Le and Mikolov 2014, arXiv:1405.4053.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from omnivec.models.keyed import trained
from omnivec.tables.document_inference import KEPT, how_of
from omnivec.tables.record import Table
from omnivec.training.corpus import Corpus, aside, check_numba
from omnivec.training.passes import Outcome, Shard, run_epochs
from omnivec.training.tables import PerThread, Windowed, schedule_of, uniform, warm_up_kernels, workers
from omnivec.training.tagged import Documents, read_documents

if TYPE_CHECKING:
    from omnivec.models.keyed import KeyedEmbedder

DATA = "a UTF-8 text (.gz and .bz2 too), a document on each line"
SPAN = 2.0
"""Range of initial values, in units of 1 / dim: twice that of word2vec.

Document vectors grow from their initial values, and a short document has too few words to make up for small ones.
"""


@dataclass(frozen=True)
class Options(Windowed):
    """Options of this recipe.

    Attributes:
        epochs: passes over the documents, and over a new document whose vector is inferred.
        window: most words on either side; each word draws its own number from 1 to this, except with dm_concat.
        dm: PV-DM, in which surrounding words help to predict each word; otherwise the document alone does (PV-DBOW).
        dm_mean: whether PV-DM averages the vectors; otherwise it adds them up.
        dm_concat: whether PV-DM concatenates the vectors in place of averaging them; slow, and needs much text.
        dbow_words: whether PV-DBOW learns word vectors too, by skip-gram.
    """

    epochs: int = 10
    window: int = 5
    dm: bool = True
    dm_mean: bool = True
    dm_concat: bool = False
    dbow_words: bool = False


@dataclass(frozen=True, eq=False)
class Doc2VecVectors:
    """The result of training.

    Attributes:
        tags: the documents' tags.
        documents: (tags, dim) float32, their vectors.
        words: the vocabulary, most frequent first.
        counts: (v,) occurrences of each word.
        inputs: (v + 1, dim) float32, word vectors; not trained by PV-DBOW without `dbow_words`. With `dm_concat` the
            last row stands for positions beyond a document's ends.
        outputs: (v, dim) float32, output vectors of words, or of the tree's nodes; with `dm_concat`
            (v, (1 + 2 * window) * dim).
        outcome: loss, words and time of the training.
    """

    tags: list[str]
    documents: NDArray[np.float32]
    words: list[str]
    counts: NDArray[np.int64]
    inputs: NDArray[np.float32]
    outputs: NDArray[np.float32]
    outcome: Outcome


def run(data: Any, options: Options) -> KeyedEmbedder:
    """Trains on documents; `data` is that of `training.tagged.read_documents`."""

    def one(words: Corpus, brief: Options) -> Doc2VecVectors:
        return fit(Documents(["0"], np.zeros(1, np.int32), words), brief)

    aside(warm_up_kernels(one, options))
    return embedder(fit(read_documents(data, options.min_count, options.max_vocab), options), options)


def embedder(learned: Doc2VecVectors, options: Options) -> KeyedEmbedder:
    """An embedder of the trained table, which also infers vectors of new documents."""
    words = Table(learned.words, learned.inputs[:-1], learned.counts, output=learned.outputs)
    settings = {name: getattr(options, name) for name in KEPT}
    settings |= {"lr": options.rate, "min_lr": options.least(int(learned.counts.sum()), len(learned.words))}
    settings |= {"beyond": learned.inputs[-1].tolist()}
    table = Table(learned.tags, learned.documents, words=words, settings=settings, kind="doc2vec")
    return trained(table, "doc2vec")


def fit(documents: Documents, options: Options) -> Doc2VecVectors:
    """Trains vectors of documents."""
    check_numba()
    from omnivec.tables.kernels import doc2vec as kernels
    from omnivec.tables.kernels import draws, windows

    corpus, count, threads = documents.corpus, len(documents.corpus.words), workers(options)
    inputs = uniform((count + 1, options.dim), options.seed, SPAN)
    vectors = uniform((len(documents.tags), options.dim), options.seed + 1, SPAN)
    settings, way = how_of(vars(options), inputs.shape[1])
    alias, tree, targets = windows.targets_of(corpus.counts, options.negative)
    outputs = windows.zeros(count + windows.copied(tree, threads), settings.width)
    model = windows.Tables(inputs, outputs, alias, tree)
    text = windows.Sentences(corpus.ids, corpus.starts, draws.keep_table(corpus.counts, options.sample))
    reading = kernels.DocumentVectors(text, documents.rows, vectors)
    longest = int(np.diff(corpus.starts).max())
    copies = windows.crowns(tree, count, settings.width, threads)
    per_thread = PerThread(
        lambda thread: windows.room(longest, options.window, targets, settings.width, copies(thread))
    )

    def work(shard: Shard) -> tuple[float, int]:
        loss, losses = kernels.learn(
            reading, model, settings, way, per_thread.get(), shard.first, shard.last, shard.lr, shard.seed
        )
        return float(loss), int(losses)

    learned = {"documents' vectors": vectors, "words' vectors": inputs, "outputs": outputs}
    outcome = run_epochs(corpus.starts, schedule_of(options, len(corpus.ids), count), work, learned)
    tag_vectors, words, targeted = (
        _cut(table, inputs.shape[1], options.dim) for table in (vectors, inputs, outputs[:count])
    )
    return Doc2VecVectors(documents.tags, tag_vectors, corpus.words, corpus.counts, words, targeted, outcome)


def _cut(table: NDArray[np.float32], width: int, dim: int) -> NDArray[np.float32]:
    """Rows of one or several vectors, each padded to `width`, without the padding."""
    return table.reshape(len(table), -1, width)[:, :, :dim].reshape(len(table), -1).copy()
