"""What was read of a file or an item: the item, its hash, what is known of it, and its passages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from omnivec.types import ModalityName

MAX_BYTES = 64 * 2**20
"""Of a file that is read; a larger one is refused."""

OVERLAP = 32


@dataclass(frozen=True, eq=False)
class Content:
    """What was read of a file or an item.

    Attributes:
        modality: its name.
        digest: SHA-256 of a file's bytes, of a text in UTF-8, or of what else the item consists of.
        item: what is embedded where it is not cut: the text, the image with its header read.
        text: what full-text search sees; "" where there are no words.
        line: character -> line in the source, of a file of text.
        facts: for filters, in JSON's types: width and height of an image, in pixels.
        note: what of it is not in, though it is no failure; None where all is.
        encoding: the one of those given that a file of text was read with; None where it told by itself.
        held: bytes of memory that it takes until it is embedded, about.
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
    """How documents are cut, in the unit of their modality.

    Attributes:
        limit: of the model.
        length: most in a passage; 0 for as the modality has it.
        overlap: most that a passage repeats from the one before.
    """

    limit: int
    length: int = 0
    overlap: int = OVERLAP

    def pipeline(self, pipeline: str) -> str:
        """The way from content to passages in words: a document that was cut otherwise is cut anew."""
        return f"{pipeline} limit={self.limit} length={self.length} overlap={self.overlap}"


@dataclass(frozen=True, eq=False)
class Piece:
    """A passage before it has a vector.

    Attributes:
        start: where it begins, in the modality's `span_unit`; 0 where it is the whole of something without an extent.
        end: where it ends, exclusive.
        line: first line in the source, from 1; None where there are no lines.
        text: what full-text search sees; "" where there are no words.
        item: what is embedded.
    """

    start: float
    end: float
    line: int | None
    text: str
    item: Any
