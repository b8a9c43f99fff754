"""gensim's saves: KeyedVectors, Word2Vec, FastText and Doc2Vec, with the .npy files beside them.

`save` pickles the object without its large arrays; those lie beside it as "<file>.<attribute>.npy".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import WeightsError
from omnivec.types import Floats
from omnivec.weights.tables.arrays import load_npy
from omnivec.weights.tables.checks import check_finite, limited, unique
from omnivec.weights.tables.pickles import Saved, as_array, read_pickle
from omnivec.weights.tables.record import Subwords, Table

# Attribute names of gensim 4, then those before it.
KEYS = ("index_to_key", "index2word", "index2entity")
VECTORS = ("vectors", "syn0")
OWN_ROWS = ("vectors_vocab", "syn0_vocab")
GRAM_ROWS = ("vectors_ngrams", "syn0_ngrams")
OUTPUTS = ("syn1neg", "syn1")
# What a model was trained with, where it says so.
SETTINGS = (
    "sg",
    "hs",
    "negative",
    "window",
    "alpha",
    "min_alpha",
    "sample",
    "epochs",
    "min_count",
    "dm",
    "cbow_mean",
)


@dataclass(frozen=True)
class _Part:
    """A saved object and the name that the arrays beside the file have in front."""

    path: Path
    prefix: str
    attributes: Mapping[str, Any]

    def child(self, name: str) -> _Part | None:
        inner = self.attributes.get(name)
        if not isinstance(inner, Saved):
            return None
        return _Part(self.path, f"{self.prefix}.{name}", inner.attributes())

    def array(self, names: tuple[str, ...]) -> NDArray[Any] | None:
        """The first of these arrays that there is, from the pickle or from the file beside it."""
        for name in names:
            if name in self.attributes.get("__numpys", ()):
                return load_npy(self.path.with_name(f"{self.prefix}.{name}.npy"))
            if self.attributes.get(name) is not None:
                return as_array(self.path, self.attributes[name], name)
        return None


def read_gensim(path: Path, limit: int = 0) -> Table:
    """Reads what gensim's `save` wrote: the words' vectors; of a Doc2Vec the documents', with `words` beside.

    Args:
        path: of the main file; those beside it are found by its name and mapped.
        limit: keep the first so many keys; 0 for all.

    Raises:
        WeightsError: a file is damaged, missing, or would run code.
    """
    saved = read_pickle(path)
    if not isinstance(saved, Saved) or not saved.name.startswith("gensim."):
        kind = saved.name if isinstance(saved, Saved) else type(saved).__name__
        raise WeightsError(f"{path} holds a {kind}: none of gensim's tables of vectors")
    model = _Part(path, path.name, saved.attributes())
    words, documents = model.child("wv"), model.child("dv") or model.child("docvecs")
    table = _table(words or model)
    output = model.array(OUTPUTS)
    settings = {name: model.attributes[name] for name in SETTINGS if _is_plain(model.attributes.get(name))}
    table = replace(
        table, output=None if output is None else np.asarray(output, np.float32), settings=settings
    )
    if documents is not None:
        table = replace(_table(documents), words=table)
    return limited(unique(table), limit)


def _is_plain(value: object) -> bool:
    return isinstance(value, (bool, int, float, str))


def _table(part: _Part) -> Table:
    keys = next((part.attributes[name] for name in KEYS if name in part.attributes), None)
    own, grams = part.array(OWN_ROWS), part.array(GRAM_ROWS)
    vectors = part.array(VECTORS) if own is None else own
    if not isinstance(keys, list) or vectors is None:
        raise WeightsError(
            f"{part.path}: {part.prefix} has no keys or no vectors: saved by another version of gensim?"
        )
    if vectors.ndim != 2 or len(vectors) < len(keys):
        raise WeightsError(f"{part.path}: {len(keys)} keys for vectors of shape {vectors.shape}: damaged")
    rows = _floats(part.path, vectors[: len(keys)])
    subwords = None
    if grams is not None and grams.ndim == 2 and grams.shape[1] == rows.shape[1]:
        if part.attributes.get("compatible_hash") is False:
            raise WeightsError(
                f"{part.path}: its n-grams are hashed as before gensim 3.7: save it with a newer one"
            )
        said = [part.attributes.get(name) for name in ("min_n", "max_n")]
        min_n, max_n = (each if isinstance(each, int) else 0 for each in said)
        subwords = Subwords(_floats(part.path, grams), min_n, max_n)
    return Table([str(key) for key in keys], rows, counts=_counts(part, keys), subwords=subwords)


def _floats(path: Path, vectors: NDArray[Any]) -> Floats:
    rows = vectors.astype(np.float32, copy=False)
    check_finite(path, rows)
    return rows


def _counts(part: _Part, keys: list[Any]) -> NDArray[np.int64] | None:
    """How often each key was seen: gensim 4 keeps an array, those before a record for each key."""
    expandos, vocab = part.attributes.get("expandos"), part.attributes.get("vocab")
    if isinstance(expandos, dict) and isinstance(expandos.get("count"), Saved):
        counts = as_array(part.path, expandos["count"], "count")
        return counts[: len(keys)].astype(np.int64) if counts.shape[:1] >= (len(keys),) else None
    if isinstance(vocab, dict) and all(isinstance(vocab.get(key), Saved) for key in keys):
        found = [vocab[key].attributes().get("count") for key in keys]
        return np.array(found, np.int64) if all(isinstance(each, int) for each in found) else None
    return None
