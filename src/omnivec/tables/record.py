"""A table of keys and vectors, whatever file it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from omnivec.types import Floats

Kind = Literal["static", "fasttext", "doc2vec", "keys"]
"""How a table makes vectors: the mean of a text's rows; of its words' vectors at length 1; inferred from the words of a
document; or only the rows of keys, which are whole names (nodes, products, users) and no words of texts."""
MODEL_TYPES: tuple[Kind, ...] = get_args(Kind)
"""The "model_type" of a folder of omnivec's own that holds a table."""
ERRORS = ("strict", "replace", "ignore")
"""What can be done with keys that are no UTF-8."""


@dataclass(frozen=True, eq=False)
class Subwords:
    """fastText's hashed character n-grams.

    Attributes:
        vectors: (n, dim), the rows of the buckets that the table has; may be a memory map.
        min_n: shortest n-gram, in characters of the word between "<" and ">".
        max_n: longest; 0 for none (the buckets of a classifier may hold n-grams of words).
        buckets: (n,) int32, rising: which buckets these are; None for all of them, in order.
        number: of all buckets, with `buckets`.
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
        """A row for every bucket; zeros for those that the table does not have."""
        if self.buckets is None:
            return self.vectors
        rows = np.zeros((self.number, self.vectors.shape[1]), np.float32)
        rows[self.buckets] = self.vectors
        return rows


@dataclass(frozen=True, eq=False)
class Table:
    """What a trained table knows: a key and its vector in each row.

    Attributes:
        keys: (n,) unique, in the file's order.
        vectors: (n, dim); may be a memory map. With `subwords` these are the keys' own rows, and the vectors of
            the words are `subwords.composed`.
        counts: (n,) how often each key was seen in training.
        weights: (n,) what each vector is multiplied by before a mean: model2vec's weights, idf, SIF.
        subwords: fastText's n-grams.
        output: (m, dim) the other side of training: context rows, or those of `settings["labels"]`. May be a view
            of a file that is not aligned.
        words: of a table of documents, that of their words, from which new documents are inferred.
        tokenizer: tokenizer.json; the keys are then its tokens in the order of their ids.
        settings: what the file says besides: normalize, loss, labels, ...
        duplicates: rows of the file that were left out because their key had come before.
        undecoded: keys that are no UTF-8, in which what is none was replaced or left out.
        kind: as the table's file or maker states it; of a table made from parts, which states nothing, what `kind_of`
            tells of them.
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
        """Length of a vector."""
        return int(self.vectors.shape[1])


def kind_of(table: Table) -> Kind:
    """The kind that parts tell: "doc2vec" with `words`, "fasttext" with `subwords` or labels, else "static"."""
    if table.words is not None:
        return "doc2vec"
    return "fasttext" if table.subwords is not None or table.settings.get("labels") else "static"


def contradiction(table: Table) -> str | None:
    """What a table holds that its stated kind has no use for, in words; None where its parts go with it."""
    told, kind = kind_of(table), table.kind
    if told not in ("static", kind):
        return f"it holds {'words of documents' if told == 'doc2vec' else 'n-grams or labels'}, as kind {told!r} does"
    texts = {"a tokenizer": table.tokenizer, "weights of words in a mean": table.weights}
    found = [name for name, part in texts.items() if part is not None] if kind == "keys" else []
    return f"it holds {found[0]}, and its keys are no words of texts" if found else None
