"""What goes into a collection and what comes out of it: frozen records of strings, numbers and arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omnivec.types import Floats, Metric, ModalityName


@dataclass(frozen=True, eq=False)
class Passage:
    """A piece of a document that has its own vectors.

    Attributes:
        start: where it begins in the document, in the unit of its modality: the first character of a text. 0 where it
            has no extent.
        end: where it ends, exclusive.
        line: first line in the source, from 1; None where it has none.
        text: what full-text search sees; "" where there is none.
        modality: what kind of thing it is.
        vectors: name of a space -> (parts, dim) float32; usually one part.
    """

    start: float
    end: float
    line: int | None
    text: str
    modality: ModalityName
    vectors: Mapping[str, Floats]


@dataclass(frozen=True, eq=False)
class Document:
    """What a user added: a file, a record.

    Attributes:
        id: its name in the collection.
        modality: what kind of thing it is.
        pipeline: version of the reader and settings of the cutting that made its passages.
        digest: hash of its content.
        root: the folder whose listing brought it; None if it was added by itself.
        path: where its content lies; None if it came from memory.
        size: bytes.
        mtime_ns: time of its last modification, nanoseconds since 1970.
        device: number of the device that holds it.
        metadata: what the user says about it, in JSON's types.
        lost: tokens that the model's limit cut off.
        passages: its pieces, in order.
    """

    id: str
    modality: ModalityName
    pipeline: str
    digest: bytes
    root: str | None
    path: str | None
    size: int
    mtime_ns: int
    device: int
    metadata: Mapping[str, Any]
    lost: int
    passages: tuple[Passage, ...]


@dataclass(frozen=True)
class DocumentEntry:
    """A document as a listing shows it; `passages` counts them, `indexed_ns` is the time of its write."""

    id: str
    modality: ModalityName
    pipeline: str
    digest: bytes
    root: str | None
    path: str | None
    size: int
    mtime_ns: int
    device: int
    metadata: Mapping[str, Any]
    lost: int
    passages: int
    indexed_ns: int

    @property
    def how(self) -> str:
        """The former name of `pipeline`."""
        return self.pipeline


@dataclass(frozen=True)
class Signature:
    """By what a sync recognises a document that has not changed; `indexed_ns` is the time of its write."""

    digest: bytes
    pipeline: str
    size: int
    mtime_ns: int
    device: int
    indexed_ns: int


@dataclass(frozen=True, eq=False)
class SpaceRecord:
    """A vector space of the collection and the model that made its vectors.

    Attributes:
        name: of the space in this collection.
        model: name of the model.
        dim: length of a vector.
        metric: what nearness means in it.
        identity: what must be equal for two models to be the same.
        provenance: how the vectors were computed: precision, engine, versions.
        canaries: (text, (dim,) float32) pairs that show whether a model still makes the same vectors.
    """

    name: str
    model: str
    dim: int
    metric: Metric
    identity: Mapping[str, Any]
    provenance: Mapping[str, Any]
    canaries: tuple[tuple[str, Floats], ...]


@dataclass(frozen=True)
class StoredPassage:
    """A passage read back: its key, its place in its document, its text and the document's metadata."""

    key: int
    ordinal: int
    document: str
    start: float
    end: float
    line: int | None
    text: str
    modality: ModalityName
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Counts:
    """How large a collection is.

    Attributes:
        documents: how many.
        passages: how many.
        vectors: name of a space -> how many vectors.
        bytes: size of all files in the collection's folder.
        lost: tokens that the models' limits cut off, over all documents.
        free: bytes in the catalogue's file that hold nothing now, and would be given back by `vacuum`.
    """

    documents: int
    passages: int
    vectors: Mapping[str, int]
    bytes: int
    lost: int
    free: int = 0
