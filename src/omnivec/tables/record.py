"""`Table`: keys and vectors in memory, whatever file format they were read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from omnivec.types import Floats

Kind = Literal["static", "fasttext", "doc2vec", "keys"]
"""How a table makes vectors.

"static": the mean of a text's rows. "fasttext": the mean of its words' vectors, each scaled to length 1. "doc2vec":
inferred from a document's words. "keys": the row of a key, which is a whole name (of a node, product or user); texts
have no vectors.
"""
MODEL_TYPES: tuple[Kind, ...] = get_args(Kind)
"""Values of "model_type" in the config.json of tables in omnivec's format."""
ERRORS = ("strict", "replace", "ignore")
"""Error handlers for keys that are not valid UTF-8, as in `bytes.decode`."""


@dataclass(frozen=True, eq=False)
class Subwords:
    """fastText's hashed character n-grams.

    Attributes:
        vectors: (n, dim), one row per bucket; may be a memory map.
        min_n: length of the shortest n-gram, in characters of "<word>", brackets included.
        max_n: length of the longest; 0 for none (the buckets of a classifier may hold word n-grams only).
        buckets: (n,) int32, ascending: the bucket of each row; None if there is a row for every bucket.
        number: the number of buckets that n-grams are hashed to, if `buckets` is not None.
    """

    vectors: Floats
    min_n: int
    max_n: int
    buckets: NDArray[np.int32] | None = None
    number: int = 0

    @property
    def hashed_to(self) -> int:
        """The number of buckets that n-grams are hashed to."""
        return len(self.vectors) if self.buckets is None else self.number

    def dense(self) -> Floats:
        """A row for every bucket (hashed_to, dim); zeros for buckets without a row."""
        if self.buckets is None:
            return self.vectors
        rows = np.zeros((self.number, self.vectors.shape[1]), np.float32)
        rows[self.buckets] = self.vectors
        return rows


@dataclass(frozen=True, eq=False)
class Table:
    """Keys and their vectors, one per row, with whatever else training left.

    Attributes:
        keys: (n,) unique, in the file's order.
        vectors: (n, dim); may be a memory map. With `subwords`, the rows of the keys without their n-grams; the
            vectors of words are then computed by `subwords.composed`.
        counts: (n,) how often each key occurred in training.
        weights: (n,) the factor of each vector in a weighted mean: model2vec's weights, idf, SIF.
        subwords: fastText's n-grams.
        output: (m, dim) the output matrix of training: rows of context words, or of `settings["labels"]`. May be an
            unaligned view of a file.
        words: for a table of documents, the table of their words, from which vectors of new documents are inferred.
        tokenizer: content of tokenizer.json; the keys are then its tokens, in the order of their ids.
        settings: other values from the file: normalize, loss, labels, ...
        duplicates: number of rows that were skipped because their key had occurred before.
        undecoded: number of keys that were not valid UTF-8 and had bytes replaced or left out.
        kind: how vectors are made, as stated by the file or the caller; "" to derive it from the other attributes
            (`kind_of`).
    """

    keys: Sequence[str]
    vectors: Floats
    counts: NDArray[np.int64] | None = None
    weights: Floats | None = None
    subwords: Subwords | None = None
    output: Floats | None = None
    words: Table | None = None
    tokenizer: bytes | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    duplicates: int = 0
    undecoded: int = 0
    kind: Kind = ""  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if not self.kind:
            object.__setattr__(self, "kind", kind_of(self))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def dim(self) -> int:
        """The number of components of a vector."""
        return int(self.vectors.shape[1])


def kind_of(table: Table) -> Kind:
    """The kind that a table's content implies.

    "doc2vec" with `words`, "fasttext" with `subwords` or labels, else "static".
    """
    if table.words is not None:
        return "doc2vec"
    return "fasttext" if table.subwords is not None or table.settings.get("labels") else "static"


def contradiction(table: Table) -> str | None:
    """Why a table's content does not fit its stated kind, for an error message; None if it fits."""
    implied, kind = kind_of(table), table.kind
    if implied not in ("static", kind):
        content = "words of documents" if implied == "doc2vec" else "n-grams or labels"
        return f"it holds {content}, which belong to a table of kind {implied!r}"
    text_only = {"a tokenizer": table.tokenizer, "weights of words in a mean": table.weights}
    present = [name for name, value in text_only.items() if value is not None] if kind == "keys" else []
    return f"it holds {present[0]}, which only a table of words of texts has" if present else None
