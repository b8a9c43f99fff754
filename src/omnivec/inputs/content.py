"""The content of a file or an item: the item, its hash, its metadata, and how it is split into passages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from omnivec.types import ModalityName, Transcript

MAX_BYTES = 64 * 2**20
"""Largest size of a file; larger ones are refused."""

OVERLAP = 32
"""Largest number of tokens that a passage repeats from the one before."""


@dataclass(frozen=True, eq=False)
class Content:
    """The content of a file or an item.

    Attributes:
        modality: name of the modality.
        digest: SHA-256 of the bytes of a file, of a text in UTF-8, or of the data of another item.
        item: the item to embed if it is not split: the text, or the image with its header read.
        text: text for full-text search; "" if there is none.
        line: maps an offset in characters to the line in a text file.
        facts: metadata for filters, in JSON types, such as width and height of an image in pixels.
        note: what was left out, such as later frames of an animation; None if nothing was.
        encoding: which of the caller's encodings a text file was read with; None if the file determines its encoding.
        held: approximate bytes of memory that it takes until it is embedded.
    """

    modality: ModalityName
    digest: bytes
    item: Any
    text: str = ""
    line: Callable[[int], int] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    note: str | None = None
    encoding: str | None = None
    held: int = 0


@dataclass(frozen=True)
class Cutting:
    """How documents are split into passages, in the unit of their modality.

    Attributes:
        limit: length limit of the model.
        length: largest length of a passage; 0 for the default of the modality.
        overlap: largest length that a passage repeats from the one before.
        transcriber: name of the model whose transcripts become the text of passages; "" for none.
        transcribe: writes down the speech in an item with that model.
        within: length limit of the present model, if documents were split for that of an earlier one, which is `limit`
            then; 0 if it is the same. It is no part of the pipeline, so that documents stay as they were split.
    """

    limit: float
    length: float = 0
    overlap: float = OVERLAP
    transcriber: str = ""
    transcribe: Callable[[Any], Transcript] | None = field(default=None, compare=False)
    within: float = 0

    def pipeline(self, pipeline: str) -> str:
        """Appends the settings to a pipeline; a document with another recorded pipeline is split again."""
        settings = f"{pipeline} limit={self.limit} length={self.length} overlap={self.overlap}"
        return f"{settings} transcriber={self.transcriber}" if self.transcriber else settings


@dataclass(frozen=True, eq=False)
class Piece:
    """A passage before it has a vector.

    Attributes:
        start: start in the document, in the modality's `span_unit`; 0 for a modality without an extent.
        end: end in the document, exclusive.
        line: line of the source in which it begins, counted from 1; None if the source has no lines.
        text: text for full-text search; "" if there is none.
        item: the item to embed.
    """

    start: float
    end: float
    line: int | None
    text: str
    item: Any
