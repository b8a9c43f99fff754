"""Vectors of whole documents, learned with their words; new documents are inferred (paragraph vectors).

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
    from omnivec.models.embedder import Embedder

DATA = "a UTF-8 text (.gz and .bz2 too), a document on each line"
SPAN = 2.0
"""Of the first values of rows, in 1 / dim: twice word2vec's.

What tells documents apart grows from these values, and the few words of a short document do not make up for small ones.
"""


@dataclass(frozen=True)
class Options(Windowed):
    """What may be told to this recipe.

    Attributes:
        epochs: passes over the documents, and over a new one that is inferred.
        window: words on either side, at most; each word draws its own from 1 to it, but for dm_concat.
        dm: whether words around help to foretell each word (PV-DM); otherwise the document alone does (PV-DBOW).
        dm_mean: whether PV-DM takes the mean of the vectors; otherwise their sum.
        dm_concat: whether PV-DM puts the vectors one behind the other, in place of their mean; slow, and needs much
            text.
        dbow_words: whether words learn too in PV-DBOW, by skip-gram.
    """

    epochs: int = 10
    window: int = 5
    dm: bool = True
    dm_mean: bool = True
    dm_concat: bool = False
    dbow_words: bool = False


@dataclass(frozen=True, eq=False)
class Doc2VecVectors:
    """What was learned.

    Attributes:
        tags: of the documents' vectors.
        documents: (tags, dim) float32.
        words: by falling count.
        counts: (v,) occurrences of each.
        inputs: (v + 1, dim) float32, of the words; not learned by PV-DBOW without `dbow_words`. The last stands beyond
            a document's ends where vectors are one behind the other.
        outputs: (v, dim) float32, of the words as targets, or of their tree's nodes; (v, (1 + 2 * window) * dim) where
            vectors are one behind the other.
        outcome: of the training.
    """

    tags: list[str]
    documents: NDArray[np.float32]
    words: list[str]
    counts: NDArray[np.int64]
    inputs: NDArray[np.float32]
    outputs: NDArray[np.float32]
    outcome: Outcome


def run(data: Any, options: Options) -> Embedder:
    """Trains on documents; `data` as `training.tagged.read_documents` takes it."""

    def one(words: Corpus, brief: Options) -> Doc2VecVectors:
        return fit(Documents(["0"], np.zeros(1, np.int32), words), brief)

    aside(warm_up_kernels(one, options))
    return embedder(fit(read_documents(data, options.min_count, options.max_vocab), options), options)


def embedder(learned: Doc2VecVectors, options: Options) -> Embedder:
    """What was learned, as a table of tags that infers vectors of new documents."""
    words = Table(learned.words, learned.inputs[:-1], learned.counts, output=learned.outputs)
    settings = {name: getattr(options, name) for name in KEPT}
    settings |= {"lr": options.rate, "min_lr": options.least(int(learned.counts.sum()), len(learned.words))}
    settings |= {"beyond": learned.inputs[-1].tolist()}
    table = Table(learned.tags, learned.documents, words=words, settings=settings, kind="doc2vec")
    return trained(table, "doc2vec")


def fit(documents: Documents, options: Options) -> Doc2VecVectors:
    """Learns vectors of documents."""
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
    """Rows of one or several vectors without their padding."""
    return table.reshape(len(table), -1, width)[:, :, :dim].reshape(len(table), -1).copy()
