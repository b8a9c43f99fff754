"""Files saved by gensim: KeyedVectors, Word2Vec, FastText and Doc2Vec.

gensim's `save` pickles the object without its large arrays, which it writes beside it as "<file>.<attribute>.npy".
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
# Attributes that are read as training settings, where present.
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
class _SavedObject:
    """A saved object, and the prefix of the names of its array files."""

    path: Path
    prefix: str
    attributes: Mapping[str, Any]

    def child(self, name: str) -> _SavedObject | None:
        inner = self.attributes.get(name)
        if not isinstance(inner, Saved):
            return None
        return _SavedObject(self.path, f"{self.prefix}.{name}", inner.attributes())

    def array(self, names: tuple[str, ...]) -> NDArray[Any] | None:
        """The first of these arrays that exists, from the pickle or from the file beside it; None without any."""
        beside = self.attributes.get("__numpys") or ()
        for name in names:
            if isinstance(beside, (list, tuple)) and name in beside:
                return map_npy(self.path.with_name(f"{self.prefix}.{name}.npy"))
            if self.attributes.get(name) is not None:
                return as_array(self.path, self.attributes[name], name)
        return None

    def rows(self, names: tuple[str, ...], count: int, dim: int, what: str) -> Floats | None:
        """The first of these matrices that exists, checked to be (count, dim): the file may be another model's.

        Raises:
            WeightsError: it has another shape, or numbers that are not finite.
        """
        matrix = self.array(names)
        if matrix is None:
            return None
        return self.checked(matrix, names, matrix.shape == (count, dim), f"{what} need ({count}, {dim})")

    def checked(self, array: NDArray[Any], names: tuple[str, ...], fits: bool, due: str) -> Floats:
        """A matrix as float32.

        Args:
            array: the matrix.
            names: names of the attribute; the first is used in the error.
            fits: whether the matrix has the expected shape.
            due: the expected shape, for the error.

        Raises:
            WeightsError: the matrix does not fit, is not of floats, or is not finite.
        """
        if not fits or array.dtype.kind != "f":
            raise WeightsError(
                f"{self.path}: {self.prefix}.{names[0]} is {array.dtype} {array.shape} where {due}: damaged, or the "
                "file beside it belongs to another model"
            )
        rows = array.astype(np.float32, copy=False)
        check_finite(self.path, rows)
        return rows

    def unreadable(self) -> WeightsError:
        """The error for an object without keys or vectors."""
        return WeightsError(
            f"{self.path}: {self.prefix} has no keys or no vectors: saved by another version of gensim?"
        )


def read_gensim(path: Path, limit: int = 0) -> Table:
    """Reads a file that gensim's `save` wrote: word vectors, or a Doc2Vec's document vectors with a table of `words`.

    Args:
        path: the main file; the array files beside it are memory-mapped.
        limit: keep at most this many keys, from the beginning; 0 for all.

    Raises:
        WeightsError: a file is damaged or missing, or the pickle would run code.
    """
    saved = read_pickle(path)
    if not isinstance(saved, Saved) or not saved.name.startswith("gensim."):
        type_name = saved.name if isinstance(saved, Saved) else type(saved).__name__
        raise WeightsError(f"{path} holds a {type_name}, which is not one of gensim's tables of vectors")
    model = _SavedObject(path, path.name, saved.attributes())
    words, documents = model.child("wv"), model.child("dv") or model.child("docvecs")
    fasttext = ".fasttext." in saved.name or "FastText" in saved.name
    table = _table(words or model, fasttext)
    settings = {name: model.attributes[name] for name in SETTINGS if _is_plain(model.attributes.get(name))}
    table = replace(table, output=_output(model, table), settings=settings)
    if documents is not None:
        table = replace(_table(documents, False), words=table, kind="doc2vec")
    return limited(unique(table), limit)


def _output(model: _SavedObject, table: Table) -> Floats | None:
    """The output matrix: a row per word, or with hierarchical softmax per inner node, of which there is one fewer."""
    matrix = model.array(OUTPUTS)
    if matrix is None:
        return None
    # With dm_concat the hidden vector is a concatenation, and output rows are as long as that.
    concatenated = bool(model.attributes.get("dm_concat"))
    fits = (
        matrix.ndim == 2
        and (concatenated or matrix.shape[1] == table.dim)
        and len(table) - 1 <= len(matrix) <= len(table)
    )
    return model.checked(matrix, OUTPUTS, fits, f"{len(table)} keys have {table.dim} dimensions")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 2**63


def _is_plain(value: object) -> bool:
    return isinstance(value, (bool, int, float, str)) and len(brief(value)) < 100


def _table(saved: _SavedObject, fasttext: bool) -> Table:
    keys = next((saved.attributes[name] for name in KEYS if name in saved.attributes), None)
    if not isinstance(keys, list) or not keys:
        raise saved.unreadable()
    if bad_keys := [key for key in keys if type(key) not in (str, int)]:
        raise WeightsError(f"{saved.path}: a key {brief(bad_keys[0])} is neither text nor a number: damaged")
    dim = _dim(saved)
    word_rows = saved.rows(OWN_ROWS, len(keys), dim, f"{len(keys)} keys")
    rows = saved.rows(VECTORS, len(keys), dim, f"{len(keys)} keys") if word_rows is None else word_rows
    if rows is None:
        raise saved.unreadable()
    return Table(
        [str(key) for key in keys],
        rows,
        counts=_counts(saved, keys),
        subwords=_subwords(saved, dim),
        kind="fasttext" if fasttext else "static",
    )


def _dim(saved: _SavedObject) -> int:
    """The dimension of the vectors, from vector_size, or from the matrix for objects of gensim before version 1."""
    stated = saved.attributes.get("vector_size")
    if type(stated) is int:
        return stated
    matrix = saved.array(OWN_ROWS)
    matrix = saved.array(VECTORS) if matrix is None else matrix
    return matrix.shape[1] if matrix is not None and matrix.ndim == 2 else 0


def _subwords(saved: _SavedObject, dim: int) -> Subwords | None:
    grams = saved.array(GRAM_ROWS)
    if grams is None or not len(grams):
        return None
    if saved.attributes.get("compatible_hash") is False:
        raise WeightsError(
            f"{saved.path}: its n-grams use the hash function of gensim before 3.7: train it again with a newer gensim"
        )
    lengths = [saved.attributes.get(name) for name in ("min_n", "max_n")]
    min_n, max_n = (each if isinstance(each, int) else 0 for each in lengths)
    buckets = saved.attributes.get("bucket")
    number = buckets if type(buckets) is int else len(grams)
    check_ngrams(Bounds.of(saved.path), min_n, max_n, 1, number)
    rows = saved.rows(GRAM_ROWS, number, dim, f"{number} buckets")
    return None if rows is None else Subwords(rows, min_n, max_n)


def _counts(saved: _SavedObject, keys: list[Any]) -> NDArray[np.int64] | None:
    """How often each key occurred: an array in gensim 4, a record per key in earlier versions; None without either."""
    expandos, vocab = saved.attributes.get("expandos"), saved.attributes.get("vocab")
    if isinstance(expandos, dict) and isinstance(expandos.get("count"), Saved):
        counts = as_array(saved.path, expandos["count"], "count")
        return counts.astype(np.int64) if counts.shape == (len(keys),) and counts.dtype.kind in "iu" else None
    if isinstance(vocab, dict) and all(isinstance(vocab.get(key), Saved) for key in keys):
        key_counts = [vocab[key].attributes().get("count") for key in keys]
        return np.array(key_counts, np.int64) if all(_is_count(each) for each in key_counts) else None
    return None
