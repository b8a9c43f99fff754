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
from omnivec.tables.checks import check_finite, limited, unique
from omnivec.tables.pickles import Saved, as_array, read_pickle
from omnivec.tables.record import Subwords, Table
from omnivec.types import Floats
from omnivec.weights.bounds import Bounds, brief, check_ngrams
from omnivec.weights.numpyfile import map_npy

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
        beside = self.attributes.get("__numpys") or ()
        for name in names:
            if isinstance(beside, (list, tuple)) and name in beside:
                return map_npy(self.path.with_name(f"{self.prefix}.{name}.npy"))
            if self.attributes.get(name) is not None:
                return as_array(self.path, self.attributes[name], name)
        return None

    def rows(self, names: tuple[str, ...], count: int, dim: int, what: str) -> Floats | None:
        """The first of these matrices that there is, which must be (count, dim): a file beside may be another model's.

        Raises:
            WeightsError: it has another shape, or numbers that are not finite.
        """
        found = self.array(names)
        if found is None:
            return None
        return self.checked(found, names, found.shape == (count, dim), f"{what} need ({count}, {dim})")

    def checked(self, found: NDArray[Any], names: tuple[str, ...], fits: bool, due: str) -> Floats:
        """A matrix as float32; WeightsError where it does not fit, is no matrix of floats, or not finite."""
        if not fits or found.dtype.kind != "f":
            raise WeightsError(
                f"{self.path}: {self.prefix}.{names[0]} is {found.dtype} {found.shape} where {due}: damaged, or a file "
                "of another model beside it"
            )
        rows = found.astype(np.float32, copy=False)
        check_finite(self.path, rows)
        return rows

    def unreadable(self) -> WeightsError:
        """The error of an object that is no table."""
        return WeightsError(
            f"{self.path}: {self.prefix} has no keys or no vectors: saved by another version of gensim?"
        )


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
    fasttext = ".fasttext." in saved.name or "FastText" in saved.name
    table = _table(words or model, fasttext)
    settings = {name: model.attributes[name] for name in SETTINGS if _is_plain(model.attributes.get(name))}
    table = replace(table, output=_output(model, table), settings=settings)
    if documents is not None:
        table = replace(_table(documents, False), words=table, kind="doc2vec")
    return limited(unique(table), limit)


def _output(model: _Part, table: Table) -> Floats | None:
    """The other side of training: a row for each word, of hierarchical softmax one less for its inner nodes."""
    found = model.array(OUTPUTS)
    if found is None:
        return None
    # Words that are joined, not averaged (dm_concat), meet rows of several vectors' length.
    joined = bool(model.attributes.get("dm_concat"))
    fits = (
        found.ndim == 2
        and (joined or found.shape[1] == table.dim)
        and len(table) - 1 <= len(found) <= len(table)
    )
    return model.checked(found, OUTPUTS, fits, f"{len(table)} keys have {table.dim} dimensions")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 2**63


def _is_plain(value: object) -> bool:
    return isinstance(value, (bool, int, float, str)) and len(brief(value)) < 100


def _table(part: _Part, fasttext: bool) -> Table:
    keys = next((part.attributes[name] for name in KEYS if name in part.attributes), None)
    if not isinstance(keys, list) or not keys:
        raise part.unreadable()
    if odd := [key for key in keys if type(key) not in (str, int)]:
        raise WeightsError(f"{part.path}: a key {brief(odd[0])} is neither text nor a number: damaged")
    dim = _dim(part)
    own = part.rows(OWN_ROWS, len(keys), dim, f"{len(keys)} keys")
    rows = part.rows(VECTORS, len(keys), dim, f"{len(keys)} keys") if own is None else own
    if rows is None:
        raise part.unreadable()
    return Table(
        [str(key) for key in keys],
        rows,
        counts=_counts(part, keys),
        subwords=_subwords(part, dim),
        kind="fasttext" if fasttext else "static",
    )


def _dim(part: _Part) -> int:
    """The length of a vector, as the object says, or those before gensim 1 by their matrix."""
    stated = part.attributes.get("vector_size")
    if type(stated) is int:
        return stated
    found = part.array(OWN_ROWS)
    found = part.array(VECTORS) if found is None else found
    return found.shape[1] if found is not None and found.ndim == 2 else 0


def _subwords(part: _Part, dim: int) -> Subwords | None:
    grams = part.array(GRAM_ROWS)
    if grams is None or not len(grams):
        return None
    if part.attributes.get("compatible_hash") is False:
        raise WeightsError(
            f"{part.path}: its n-grams are hashed as before gensim 3.7: save it with a newer one"
        )
    said = [part.attributes.get(name) for name in ("min_n", "max_n")]
    min_n, max_n = (each if isinstance(each, int) else 0 for each in said)
    buckets = part.attributes.get("bucket")
    number = buckets if type(buckets) is int else len(grams)
    check_ngrams(Bounds.of(part.path), min_n, max_n, 1, number)
    rows = part.rows(GRAM_ROWS, number, dim, f"{number} buckets")
    return None if rows is None else Subwords(rows, min_n, max_n)


def _counts(part: _Part, keys: list[Any]) -> NDArray[np.int64] | None:
    """How often each key was seen: gensim 4 keeps an array, those before a record for each key."""
    expandos, vocab = part.attributes.get("expandos"), part.attributes.get("vocab")
    if isinstance(expandos, dict) and isinstance(expandos.get("count"), Saved):
        counts = as_array(part.path, expandos["count"], "count")
        return counts.astype(np.int64) if counts.shape == (len(keys),) and counts.dtype.kind in "iu" else None
    if isinstance(vocab, dict) and all(isinstance(vocab.get(key), Saved) for key in keys):
        found = [vocab[key].attributes().get("count") for key in keys]
        return np.array(found, np.int64) if all(_is_count(each) for each in found) else None
    return None
