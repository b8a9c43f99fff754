"""Text cut into passages that fit a model, each with its place in the text and in the source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omnivec.models.embedder import Embedder

# Longer passages blur what they are about, whatever a model could read at once.
LONGEST = 512
OVERLAP = 32
_BLOCK = 1 << 16

NOTHING_SEEN = "the model's tokenizer sees nothing in its text, so nothing could find it"


@dataclass(frozen=True)
class Cutting:
    """How texts are cut.

    Attributes:
        limit: of the model, in tokens.
        length: most tokens in a passage; 0 for as many as the model reads, at most 512.
        overlap: most tokens that a passage repeats from the one before.
    """

    limit: int
    length: int = 0
    overlap: int = OVERLAP

    @property
    def how(self) -> str:
        """The settings in words: a document cut otherwise is cut anew."""
        return f"text/1 limit={self.limit} length={self.length} overlap={self.overlap}"

    def tokens(self, taken: int) -> tuple[int, int]:
        """Length and overlap of a passage beside `taken` special and prompt tokens."""
        room = max(1, min(self.limit - taken, self.length or LONGEST))
        return room, min(self.overlap, room // 4)


@dataclass(frozen=True)
class Cut:
    """A passage before it has a vector: its characters, its first line in the source, and its text."""

    start: int
    end: int
    line: int | None
    text: str


def cuts_of(
    text: str, model: Embedder, cutting: Cutting, line: Callable[[int], int] | None = None
) -> list[Cut]:
    """Passages of a text for a model.

    Args:
        text: the whole text.
        model: what will embed them.
        cutting: how long they are.
        line: character -> line in the source; None where there are no lines.
    """
    from omnivec.inputs.files.cut import cut  # A search cuts nothing.

    taken = model.model.taken(model.task_prompt("document"))
    length, overlap = cutting.tokens(taken)
    pieces = cut(text, spans_of(text, model.model.spans), length=length, overlap=overlap)
    return [
        Cut(piece.start, piece.end, line(piece.start) if line else None, text[piece.start : piece.end])
        for piece in pieces
    ]


def spans_of(text: str, spans: Callable[[str], NDArray[np.int64]]) -> NDArray[np.int64]:
    """Character spans (n, 2) of all tokens, block by block: tokenising a large text whole takes gigabytes."""
    found = [spans(text[start:end]) + start for start, end in _blocks(text)]
    return np.concatenate(found) if found else np.zeros((0, 2), np.int64)


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Blocks that end at a line's end, or at a blank, where there is one."""
    start = 0
    while start < len(text):
        end = min(start + _BLOCK, len(text))
        if end < len(text):
            found = max(text.rfind("\n", start + 1, end), text.rfind(" ", end - 256, end))
            end = found if found > start else end
        yield start, end
        start = end
