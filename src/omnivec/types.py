"""The types that all packages of omnivec share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ModalityName = str
"""The name of a modality, such as "text"; `inputs.modality` has a record for each."""

IN_CHARACTERS = frozenset(("text",))
"""Modalities whose spans count characters, so that the length of a passage is the length of its text."""

Metric = Literal["cosine", "dot", "euclidean"]
Precision = Literal["float32", "bfloat16"]
Kind = Literal["dense", "multi", "sparse"]
"""What a model gives for an item: one vector; several, such as one for each token (ColBERT); or weights of the terms of
a vocabulary, most of them zero (SPLADE)."""
DENSE: Kind = "dense"
MULTI: Kind = "multi"
SPARSE: Kind = "sparse"

Truncate = Literal["tail", "head", "error"]
Chunk = Literal["pool"]
Decode = Literal["reduced", "exact"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Amounts = NDArray[np.int64] | NDArray[np.float64]
"""How much of each item was read: tokens or pixels, which are counted, or seconds, which are measured."""
Keys = NDArray[np.int64]
"""Keys of passages: the integers by which a collection and its vector indexes identify them."""


@dataclass(frozen=True, eq=False)
class Audio:
    """Sound in memory.

    Attributes:
        samples: (n,) for mono or (n, channels); floats in [-1, 1], or int16.
        rate: sampling rate in Hz.
    """

    samples: NDArray[Any]
    rate: int

    def __repr__(self) -> str:
        return f"<Audio: {' x '.join(map(str, self.samples.shape))} samples at {self.rate:,} Hz>"


@dataclass(frozen=True, eq=False)
class Series:
    """A time series in memory.

    Attributes:
        values: (n,), or (n, channels) where several values are measured together.
        times: (n,) time of each measurement, in any unit; None if the measurements are equally spaced.
    """

    values: NDArray[Any]
    times: NDArray[Any] | None = None

    def __repr__(self) -> str:
        return f"<Series: {' x '.join(map(str, self.values.shape))} values>"


@dataclass(frozen=True)
class Key:
    """The name of a node, user, product or word: it is looked up in a table, where a str would be read as text.

    Attributes:
        name: the key, spelled as in the table.
    """

    name: str


@dataclass(frozen=True)
class Space:
    """The vector space of a model; vectors of different spaces are never compared.

    Attributes:
        dim: length of a vector.
        metric: how similarity is measured: "cosine", "dot" or "euclidean".
        modalities: the kinds of item that can be embedded into it.
        kind: "dense": one vector for each item; "multi": several; "sparse": weights of `dim` terms, most of them zero.
    """

    dim: int
    metric: Metric
    modalities: tuple[ModalityName, ...]
    kind: Kind = DENSE


@dataclass(frozen=True, eq=False)
class SparseRow:
    """A sparse vector.

    Attributes:
        indices: (n,) int64, ascending, of the components that are not zero.
        weights: (n,) float32, finite.
    """

    indices: Ints
    weights: Floats

    def __repr__(self) -> str:
        return f"<SparseRow: {len(self.indices):,} components>"


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Sparse vectors, one after the other.

    Attributes:
        offsets: (m + 1,) int64, where each vector begins and ends in the other two.
        indices: (n,) int64, ascending in each vector.
        weights: (n,) float32.
    """

    offsets: Ints
    indices: Ints
    weights: Floats

    @classmethod
    def of(cls, rows: Sequence[SparseRow]) -> SparseRows:
        """Joins vectors."""
        offsets = np.cumsum([0, *(len(row.indices) for row in rows)])
        indices = np.concatenate([np.zeros(0, np.int64), *(row.indices for row in rows)])
        weights = np.concatenate([np.zeros(0, np.float32), *(row.weights for row in rows)])
        return cls(offsets.astype(np.int64), indices, weights)

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(eq=False)
class Encoded:
    """The result of `Embedder.run` for n items, m of which were embedded.

    Its length is m; iterating over it yields pairs (index of the item, what `row` returns for it).

    Attributes:
        vectors: (m, dim) float32, in the order of the items. Of kind "multi", (parts, dim): the vectors of all items,
            one item after the other. Of kind "sparse", (n,): the weights of all items.
        kept: (m,) int64, the index of the item of each row.
        failures: maps the index of each item that has no vector to the reason, one line.
        seen: (m,) how much of each item the model has read, in `unit`: int64, or float64 for seconds.
        lost: (m,) how much of each item the model's limit cut off, in `unit`: int64, or float64 for seconds.
        unit: what `seen` and `lost` count: "tokens", "pixels" or "seconds".
        kind: what each item has: one vector ("dense"), several ("multi"), or weights of terms ("sparse").
        offsets: (m + 1,) int64, where the rows of each item begin and end in `vectors`; None if dense.
        indices: (n,) int64, the term of each weight, ascending for each item; None unless sparse.
    """

    vectors: Floats
    kept: Ints
    failures: dict[int, str] = field(default_factory=dict)
    seen: Amounts = field(default_factory=lambda: np.zeros(0, np.int64))
    lost: Amounts = field(default_factory=lambda: np.zeros(0, np.int64))
    unit: str = "tokens"
    kind: Kind = DENSE
    offsets: Ints | None = None
    indices: Ints | None = None

    def __repr__(self) -> str:
        count, failed, cut = len(self.kept), len(self.failures), int((self.lost > 0).sum())
        if self.kind == SPARSE:
            what = f"{len(self.vectors):,} weights"
        elif self.kind == MULTI:
            what = f"{len(self.vectors):,} vectors of {self.vectors.shape[1]} components"
        else:
            what = f"{self.vectors.shape[1]} components"
        return f"<Encoded: {count:,} of {count + failed:,} items, {what}; {cut:,} cut, {failed:,} failed>"

    def __len__(self) -> int:
        return len(self.kept)

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        """Yields pairs (index of the item, its vector); see `row`."""
        return ((item, self.row(place)) for place, item in enumerate(self.kept.tolist()))

    def row(self, place: int) -> Any:
        """Returns what the item of one row has: its vector (dim,), its vectors (parts, dim), or a `SparseRow`."""
        if self.offsets is None:
            return self.vectors[place]
        rows = slice(int(self.offsets[place]), int(self.offsets[place + 1]))
        if self.indices is None:
            return self.vectors[rows]
        return SparseRow(self.indices[rows], self.vectors[rows])


@dataclass(frozen=True)
class Hit:
    """One result of a search: a passage with its score.

    Attributes:
        id: id of the passage, "<document>#<ordinal>".
        document: id of the document that the passage belongs to.
        span: (start, end) of the passage in the document, end exclusive, in `span_unit`; (0, 0) for a modality without
            an extent, such as an image.
        line: line of the source file in which the passage begins, counted from 1; None if the source has no lines.
        modality: modality of the passage.
        space: name of the space that the passage was found in; "text search" if it was found by its words.
        score: higher is better. In one space: cosine, dot product or negative distance, by the metric of the space.
            Over several spaces: -log10 of the share of a random sample of the space that scores as high, or
            1 / (60 + rank) if one of the spaces is too small for such a sample. In hybrid mode: the sum of
            reciprocal ranks.
        text: text of the passage; "" if it has none.
        metadata: metadata of the document.
        matches: (start, end) offsets in `text`, end exclusive, of the words that match the query; empty in a search by
            vectors alone.
        span_unit: what `span` counts: "characters" or "seconds"; "" for a modality without an extent.
    """

    id: str
    document: str
    span: tuple[float, float]
    line: int | None
    modality: ModalityName
    space: str
    score: float
    text: str
    metadata: Mapping[str, Any]
    matches: tuple[tuple[int, int], ...] = ()
    span_unit: str = ""

    def __repr__(self) -> str:
        what = repr(_short(self.text)) if self.text else self.modality
        return f"<Hit {self.id!r} {self.score:.4g} in {self.space!r}: {what}>"


@dataclass(frozen=True)
class Segment:
    """A piece of speech that was written down.

    Attributes:
        start: where it begins in the sound, in seconds.
        end: where it ends, in seconds.
        text: what is said.
    """

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Transcript:
    """What is said in a sound.

    Attributes:
        text: the text of all segments, separated by spaces.
        segments: its pieces, in order.
        language: code of the language, such as "en"; of several, the one of most of the sound. None if the model does
            not tell languages apart.
        notes: remarks about pieces that are doubtful, such as text that repeats itself.
    """

    text: str
    segments: tuple[Segment, ...]
    language: str | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Transcript: {len(self.segments):,} segments, {_short(self.text)!r}>"


@dataclass(frozen=True, eq=False)
class Prepared:
    """The model inputs of one item, before it is padded and stacked with others to a batch.

    Attributes:
        arrays: maps the name of each input of the model to its array, without a batch axis.
        cost: how much of a batch's budget the item uses, in tokens, pixels or samples.
        seen: how much of the item is in the arrays.
        lost: how much of the item the model's limit cut off.
        skip: number of leading positions that belong to a prompt and are left out of pooling.
    """

    arrays: Mapping[str, NDArray[Any]]
    cost: int
    seen: float
    lost: float
    skip: int = 0


def _short(text: str, most: int = 60) -> str:
    """The beginning of a text, at most `most` characters, on one line."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most and len(text) <= 4 * most else line[:most] + "..."
