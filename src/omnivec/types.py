"""The vocabulary: the few types that every room of omnivec speaks in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

ModalityName = str
"""The name of a kind of item; `inputs.modality` has a record for each."""

IN_CHARACTERS = frozenset(("text",))
"""Modalities whose passages are as long as their texts: spans count characters."""

Metric = Literal["cosine", "dot", "euclidean"]
Precision = Literal["float32", "bfloat16"]

Truncate = Literal["tail", "head", "error"]
Chunk = Literal["pool"]
Decode = Literal["reduced", "exact"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Keys = NDArray[np.int64]
"""Keys of passages, as a collection and a vector index number them."""


@dataclass(frozen=True, eq=False)
class Audio:
    """Sound in memory.

    Attributes:
        samples: (n,) mono or (n, channels), float in [-1, 1] or int16.
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
        values: (n,), or (n, channels) of several measured together.
        times: (n,) when each was measured, in a unit of one's own; None of equal steps.
    """

    values: NDArray[Any]
    times: NDArray[Any] | None = None

    def __repr__(self) -> str:
        return f"<Series: {' x '.join(map(str, self.values.shape))} values>"


@dataclass(frozen=True)
class Key:
    """The name of a node, user, product or word: a row of a table, and no text.

    Attributes:
        name: as the table has it.
    """

    name: str


@dataclass(frozen=True)
class Space:
    """The vector space of a model; vectors of different spaces are never compared.

    Attributes:
        dim: length of a vector.
        metric: what its nearness means.
        modalities: what can be embedded into it.
    """

    dim: int
    metric: Metric
    modalities: tuple[ModalityName, ...]


@dataclass(eq=False)
class Encoded:
    """What `run` returns for n items of which m were embedded.

    Attributes:
        vectors: (m, dim) float32, in the order of the items.
        kept: (m,) int64, for each row the index of its item.
        failures: index of an item -> why it has no vector, one line.
        seen: (m,) int64, how much of each item reached the model, in `unit`.
        lost: (m,) int64, how much was cut off by the model's limit, in `unit`.
        unit: what seen and lost count: "tokens", "pixels", "seconds".
    """

    vectors: Floats
    kept: Ints
    failures: dict[int, str] = field(default_factory=dict)
    seen: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    lost: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    unit: str = "tokens"

    def __repr__(self) -> str:
        count, width = self.vectors.shape
        failed, cut = len(self.failures), int((self.lost > 0).sum())
        return f"<Encoded: {count:,} of {count + failed:,} items, {width} components; {cut:,} cut, {failed:,} failed>"

    def __len__(self) -> int:
        return len(self.kept)

    def __iter__(self) -> Iterator[tuple[int, Floats]]:
        """Pairs (index of the item, its vector)."""
        return iter(zip(self.kept.tolist(), self.vectors, strict=True))


@dataclass(frozen=True)
class Hit:
    """One found passage.

    Attributes:
        id: of the passage: "<document>#<ordinal>".
        document: id of the document it belongs to.
        span: (start, end) in the document, end exclusive, in `span_unit`; (0, 0) where the passage is all of it and
            has no extent, such as an image.
        line: first line in the source, from 1; None where it has none.
        modality: of the passage.
        space: name of the space it was found in; "text search" where it was found by its words.
        score: higher is better; cosine, dot product or negative distance, by the space's metric; where several
            spaces were searched, how surprising that is there (-log10 of the share of a random sample that scores as
            high), or 1 / (60 + rank) where one of them is too small to tell; in hybrid mode the reciprocal-rank sum.
        text: of the passage; "" where it has none.
        metadata: of the document.
        matches: (start, end) characters of `text`, end exclusive, that words of the query match; of a search by words,
            or by both.
        span_unit: what `span` counts: "characters", "seconds"; "" of a modality without an extent.
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


@dataclass(frozen=True, eq=False)
class Prepared:
    """An item made ready for a model, before it meets others in a batch.

    Attributes:
        arrays: by input name.
        cost: what it takes of a batch's budget: tokens, pixels, samples.
        seen: how much of it is in the arrays.
        lost: how much the model's limit cut off.
        skip: leading places that belong to a prompt and are not pooled.
    """

    arrays: Mapping[str, NDArray[Any]]
    cost: int
    seen: int
    lost: int
    skip: int = 0


def _short(text: str, most: int = 60) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most and len(text) <= 4 * most else line[:most] + "..."
