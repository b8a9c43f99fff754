"""Vectors of new documents, inferred from what training left of the words (Doc2Vec).

Le and Mikolov 2014, arXiv:1405.4053, section 2.3. Inference is training with the words left as they are.
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
"""Settings of the training that inference needs."""
RATE = 0.025
"""The learning rate that training begins with where no other is asked for."""


class Learned(NamedTuple):
    """Words and outputs as the kernels take them.

    Attributes:
        model: inputs and outputs, padded to whole lanes, and what targets are drawn from.
        keep: how often each word is kept.
        targets: most targets of a word.
        settings: how windows are learned from.
        way: what foretells a word.
        rates: the learning rate of each pass over a document.
        seed: of what is drawn.
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
) -> Learned:
    """What was learned, for `infer`.

    Args:
        settings: those of KEPT.
        counts: (v,) of the words.
        inputs: (v + 1, dim): the words', and what stands beyond a document's ends.
        outputs: (v, dim), or (v, (1 + 2 * window) * dim) where vectors are one behind the other.
        dim: components of a vector.
    """
    if importlib.util.find_spec("numba") is None:
        raise MissingExtra("vectors of new documents are inferred with numba: pip install 'omnivec[words]'")
    from omnivec.tables.kernels import draws, windows

    width = windows.width_of(dim)
    alias, tree, targets = windows.targets_of(counts, settings["negative"])
    model = windows.Model(padded(inputs, dim), padded(outputs, dim), alias, tree)
    how = how_of(settings, width)
    keep = draws.keep_table(counts, settings["sample"])
    # Folders of version 0.1 that were trained with the default rate hold null.
    rate = RATE if settings["lr"] is None else settings["lr"]
    rates = np.linspace(rate, settings["min_lr"], settings["epochs"])
    return Learned(model, keep, targets, how[0], how[1], rates, settings["seed"])


def how_of(settings: Mapping[str, Any], width: int) -> tuple[Any, Any]:
    """How documents learn: `tables.kernels.windows.WindowSettings` and `tables.kernels.doc2vec.Way`."""
    from omnivec.tables.kernels.doc2vec import CONCATENATED, DBOW, MEAN, SUM, Way
    from omnivec.tables.kernels.windows import WindowSettings

    kind = DBOW
    if settings["dm"]:
        kind = CONCATENATED if settings["dm_concat"] else MEAN if settings["dm_mean"] else SUM
    hidden = width * (1 + 2 * settings["window"]) if kind == CONCATENATED else width
    window = WindowSettings(
        skipgram=True,
        negative=settings["negative"],
        window=settings["window"],
        shrink=True,
        mean=True,
        width=hidden,
    )
    return window, Way(kind, settings["dbow_words"], True)


def infer(
    learned: Learned, ids: NDArray[np.int32], starts: NDArray[np.int64], dim: int, threads: int = 1
) -> tuple[Floats, Ints]:
    """Vectors (documents, dim) float32 of new documents, and how many words of each took part.

    Each depends on its own words and the seed alone. A document is learned in as many passes as in training, at the
    same rates, from the words that are left after subsampling; a pass without any takes them all.

    Args:
        learned: words and outputs.
        ids: rows of all documents' words, one document after the other.
        starts: where each begins, and the end of the last.
        dim: components of a vector.
        threads: that work at a time.
    """
    from omnivec.tables.kernels import doc2vec, windows

    text = windows.Text(ids, starts, learned.keep)
    found, seen = doc2vec.infer(
        text,
        learned.model,
        learned.settings,
        learned.way,
        learned.targets,
        learned.rates,
        learned.seed,
        threads,
    )
    return np.ascontiguousarray(found[:, :dim]), seen


def padded(table: Floats, dim: int) -> Floats:
    """Rows of one or several vectors, each padded to whole lanes."""
    from omnivec.tables.kernels.windows import width_of, zeros

    parts, width = table.shape[1] // dim, width_of(dim)
    rows: Floats = zeros(len(table), parts * width)
    rows.reshape(len(table), parts, width)[:, :, :dim] = table.reshape(len(table), parts, dim)
    return rows
