"""Doc2Vec: infers vectors of new documents from the trained vectors of words.

Le and Mikolov 2014, arXiv:1405.4053, section 2.3. Inference is training of the document's vector with all word and
output vectors fixed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import MissingExtra
from omnivec.types import Floats, Ints

KEPT = (
    *("dm", "dm_mean", "dm_concat", "dbow_words", "window", "negative"),
    *("sample", "epochs", "lr", "min_lr", "seed"),
)
"""Training settings that inference needs and a table therefore stores."""
RATE = 0.025
"""Default initial learning rate of training."""


class InferenceModel(NamedTuple):
    """A trained model in the form that the kernels take.

    Attributes:
        model: input and output rows, padded to whole SIMD vectors, and the distribution of negative samples.
        keep: the probability with which subsampling keeps each word.
        targets: most targets (the word and its negative samples, or nodes of the tree) of a prediction.
        settings: `WindowSettings` of the kernels.
        way: `Prediction` of the kernels: what a word is predicted from.
        rates: (epochs,) the learning rate of each pass over a document.
        seed: seed of the random draws.
    """

    model: Any
    keep: Any
    targets: int
    settings: Any
    way: Any
    rates: Any
    seed: int


def learned_of(
    settings: Mapping[str, Any], counts: NDArray[np.int64], inputs: Floats, outputs: Floats, dim: int
) -> InferenceModel:
    """Prepares a trained model for `infer`.

    Args:
        settings: the training settings named in KEPT.
        counts: (v,) how often each word occurred.
        inputs: (v + 1, dim) the word vectors, and the vector of positions beyond a document's ends.
        outputs: (v, dim), or (v, (1 + 2 * window) * dim) where context vectors are concatenated (dm_concat).
        dim: components of a vector.

    Raises:
        MissingExtra: numba is not installed.
    """
    if importlib.util.find_spec("numba") is None:
        raise MissingExtra("vectors of new documents are inferred with numba: pip install 'omnivec[words]'")
    from omnivec.tables.kernels import draws, windows

    width = windows.width_of(dim)
    alias, tree, targets = windows.targets_of(counts, settings["negative"])
    model = windows.Tables(padded(inputs, dim), padded(outputs, dim), alias, tree)
    window, way = how_of(settings, width)
    keep = draws.keep_table(counts, settings["sample"])
    # Folders of version 0.1 that were trained with the default rate hold null.
    rate = RATE if settings["lr"] is None else settings["lr"]
    rates = np.linspace(rate, settings["min_lr"], settings["epochs"])
    return InferenceModel(model, keep, targets, window, way, rates, settings["seed"])


def how_of(settings: Mapping[str, Any], width: int) -> tuple[Any, Any]:
    """The kernels' settings: `tables.kernels.windows.WindowSettings` and `tables.kernels.doc2vec.Prediction`."""
    from omnivec.tables.kernels.doc2vec import CONCATENATED, DBOW, MEAN, SUM, Prediction
    from omnivec.tables.kernels.windows import WindowSettings

    combination = DBOW
    if settings["dm"]:
        combination = CONCATENATED if settings["dm_concat"] else MEAN if settings["dm_mean"] else SUM
    hidden = width * (1 + 2 * settings["window"]) if combination == CONCATENATED else width
    window = WindowSettings(
        skipgram=True,
        negative=settings["negative"],
        window=settings["window"],
        shrink=True,
        mean=True,
        width=hidden,
    )
    return window, Prediction(combination, settings["dbow_words"], True)


def infer(
    learned: InferenceModel, ids: NDArray[np.int32], starts: NDArray[np.int64], dim: int, threads: int = 1
) -> tuple[Floats, Ints]:
    """Vectors (documents, dim) float32 of new documents, and the number of words (documents,) int64 used of each.

    A vector depends only on the document's words and the seed, not on the other documents. It is trained for as many
    passes as in training, at the same learning rates. Each pass subsamples the words again; if none is left, the pass
    uses all.

    Args:
        learned: the trained model.
        ids: rows of the words of all documents, concatenated.
        starts: (documents + 1,) the offset of each document in `ids`, and the end of the last.
        dim: components of a vector.
        threads: number of threads.
    """
    from omnivec.tables.kernels import doc2vec, windows

    text = windows.Sentences(ids, starts, learned.keep)
    vectors, seen = doc2vec.infer(
        text,
        learned.model,
        learned.settings,
        learned.way,
        learned.targets,
        learned.rates,
        learned.seed,
        threads,
    )
    return np.ascontiguousarray(vectors[:, :dim]), seen


def padded(table: Floats, dim: int) -> Floats:
    """Rows of one or several vectors of `dim` components, each vector padded with zeros to whole SIMD vectors."""
    from omnivec.tables.kernels.windows import width_of, zeros

    parts, width = table.shape[1] // dim, width_of(dim)
    rows: Floats = zeros(len(table), parts * width)
    rows.reshape(len(table), parts, width)[:, :, :dim] = table.reshape(len(table), parts, dim)
    return rows
