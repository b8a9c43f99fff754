"""Text cut into passages that fit a model, each with its place in the text and in the source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from omnivec.inputs.content import Content, Cutting, Piece
from omnivec.inputs.files.cut import cut
from omnivec.validation.reasons import LeftOut

# Longer passages blur what they are about, whatever a model could read at once.
LONGEST = 512
_BLOCK = 1 << 16

NOTHING_SEEN = "the model's tokenizer sees nothing in its text, so nothing could find it"


class TextModel(Protocol):
    """What of an embedder is asked, to cut texts for it."""

    @property
    def encoder(self) -> Any:
        """What tells the spans of tokens, and how many a prompt takes."""

    def task_prompt(self, task: str) -> str:
        """The prompt before a "document"."""


def passages_of(content: Content, model: TextModel, cutting: Cutting) -> list[Piece]:
    """Passages of a text for a model.

    Args:
        content: the text, with its lines.
        model: the embedder that will embed them.
        cutting: how long they are.

    Raises:
        LeftOut: the model's tokenizer sees nothing in it.
    """
    text, line = content.text, content.line
    taken = model.encoder.reserved_tokens(model.task_prompt("document"))
    length, overlap = tokens(cutting, taken)
    pieces = cut(text, spans_of(text, model.encoder.spans), length=length, overlap=overlap)
    if not pieces:
        raise LeftOut("without text", NOTHING_SEEN)
    return [
        Piece(piece.start, piece.end, line(piece.start) if line else None, passage, passage)
        for piece in pieces
        for passage in (text[piece.start : piece.end],)
    ]


def tokens(cutting: Cutting, taken: int) -> tuple[int, int]:
    """Length and overlap of a passage beside `taken` special and prompt tokens."""
    room = max(1, min(cutting.limit - taken, cutting.length or LONGEST))
    return room, min(cutting.overlap, room // 4)


def spans_of(text: str, spans: Callable[[str], NDArray[np.int64]]) -> NDArray[np.int64]:
    """Character spans (n, 2) of all tokens, block by block: tokenising a large text whole takes gigabytes."""
    blocks = [spans(text[start:end]) + start for start, end in _blocks(text)]
    return np.concatenate(blocks) if blocks else np.zeros((0, 2), np.int64)


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Blocks that end at a line's end, or at a blank, where there is one."""
    start = 0
    while start < len(text):
        end = min(start + _BLOCK, len(text))
        if end < len(text):
            blank = max(text.rfind("\n", start + 1, end), text.rfind(" ", end - 256, end))
            end = blank if blank > start else end
        yield start, end
        start = end
