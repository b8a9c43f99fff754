"""The records that are written to a collection and read from it: strings, numbers and arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from omnivec.types import DENSE, Floats, Kind, Metric, ModalityName, SparseRows

FLOAT32 = "float32"
ACTIVE, FILLING, RETIRED = STATES = ("active", "filling", "retired")


@dataclass(frozen=True, eq=False)
class Passage:
    """A piece of a document that has its own vectors.

    Attributes:
        start: start offset in the document, in `unit`; 0 if the modality has no extent.
        end: end offset, exclusive.
        line: number of its first line in the source, from 1; None if the source has no lines.
        text: the text for full-text search; "" if there is none.
        modality: its modality.
        vectors: name of a space -> (parts, dim) float32, usually one part; in a sparse space, a `SparseRow`.
        unit: what its offsets count: "characters" or "seconds"; "" if the modality has no extent.
    """

    start: float
    end: float
    line: int | None
    text: str
    modality: ModalityName
    vectors: Mapping[str, Any]
    unit: str | None = None


@dataclass(frozen=True, eq=False)
class Document:
    """A file or a record that a user added.

    Attributes:
        id: its id in the collection.
        modality: its modality.
        pipeline: version of the reader and settings of the splitting that made its passages.
        digest: hash of its content.
        root: the synced folder in which it was found; None if it was added by itself.
        path: of its file; None if it came from memory.
        size: of its file in bytes.
        mtime_ns: when its file was last modified, in nanoseconds since 1970.
        device: number of the device that holds its file.
        metadata: the user's metadata, in JSON's types.
        lost: how many tokens were cut off by the model's limit.
        passages: in their order.
        derived: names of the metadata that follow from its file: when it replaces an earlier version, the metadata of
            that version under other names are kept. None if all metadata are replaced.
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
    derived: frozenset[str] | None = None


@dataclass(frozen=True, eq=False)
class Transferred:
    """A document that is copied from another collection, or from an export.

    Attributes:
        document: with its passages and vectors.
        indexed_ns: when it was written there, in nanoseconds since 1970.
        checksum: that it had there, see `checksums`.
    """

    document: Document
    indexed_ns: int
    checksum: int


@dataclass(frozen=True)
class DocumentEntry:
    """A document as listings show it, without its passages.

    Attributes:
        passages: how many it has.
        indexed_ns: when it was written, in nanoseconds since 1970.

    The other attributes are those of `Document`.
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
    passages: int
    indexed_ns: int

    @property
    def how(self) -> str:
        """The former name of `pipeline`."""
        return self.pipeline


@dataclass(frozen=True)
class Signature:
    """The attributes of a `DocumentEntry` by which a sync recognises that a document has not changed."""

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
        model: name of the model; "" for a space of vectors that the user brings.
        dim: length of a vector; the number of terms of a sparse one.
        metric: by which vectors are compared.
        identity: the facts that must be equal for two models to count as the same.
        provenance: how the vectors were computed: precision, engine, versions.
        canaries: (text, (dim,) float32) pairs by which a model is checked: does it still compute the same vectors?
        modalities: of the items that are embedded into it, in the order of the modalities.
        kind: what a passage has in it: one vector ("dense"), several ("multi"), or weights of terms ("sparse").
        dtype: how the numbers are stored.
        state: "active"; "filling" while its vectors are made; "retired" when another space has taken its place.
    """

    name: str
    model: str
    dim: int
    metric: Metric
    identity: Mapping[str, Any]
    provenance: Mapping[str, Any]
    canaries: tuple[tuple[str, Floats], ...]
    modalities: tuple[ModalityName, ...] = ()
    kind: Kind = DENSE
    dtype: str = FLOAT32
    state: str = ACTIVE


class StoredPassage(NamedTuple):
    """A passage read from a collection, with its key, its number in its document, and the document's metadata."""

    key: int
    ordinal: int
    document: str
    start: float
    end: float
    line: int | None
    text: str
    modality: ModalityName
    unit: str | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Record(DocumentEntry):
    """A document with its passages, as `get` returns it.

    Attributes:
        text: its text, put together from its passages; of a sound, what was heard in it, a line for each passage. "" if
            there is none.
        pieces: its passages in their order.
        vectors: name of a space -> (parts, dim) float32, the vectors of all passages in their order; of a sparse space,
            one sparse vector for each passage. Empty if they were not asked for.

    The other attributes are those of `DocumentEntry`; `passages` is the number of passages.
    """

    text: str
    pieces: tuple[StoredPassage, ...]
    vectors: Mapping[str, Floats | SparseRows] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Counts:
    """How large a collection is.

    Attributes:
        documents: number of documents.
        passages: number of passages.
        vectors: name of a space -> number of its vectors.
        bytes: size of all files in the collection's folder.
        lost: tokens of all documents that were cut off by the models' limits.
        free: unused bytes in the catalogue's file, which `vacuum` would free.
    """

    documents: int
    passages: int
    vectors: Mapping[str, int]
    bytes: int
    lost: int
    free: int = 0
