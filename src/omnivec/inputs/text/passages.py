"""Splits a text into passages that fit a model, with their offsets in the text and lines in the source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from omnivec.inputs.content import Content, Cutting, Piece
from omnivec.inputs.files.cut import cut
from omnivec.validation.reasons import LeftOut

# Largest number of tokens in a passage: the vector of a longer one is unspecific, even if the model could read it.
LONGEST = 512
_BLOCK = 1 << 16

NOTHING_SEEN = "the model's tokenizer finds no tokens in its text, so it could not be found"


class TextModel(Protocol):
    """The members of an embedder that are needed to split texts for it."""

    @property
    def encoder(self) -> Any:
        """The encoder, which knows the spans of tokens, and how many a prompt uses."""

    def task_prompt(self, task: str) -> str:
        """Returns the prompt for a task, here "document"."""


def passages_of(content: Content, model: TextModel, cutting: Cutting) -> list[Piece]:
    """Splits a text into passages for a model.

    Args:
        content: the text, with its lines.
        model: the embedder that will embed the passages.
        cutting: length and overlap of the passages.

    Raises:
        LeftOut: the model's tokenizer finds no tokens in the text.
    """
    text, line = content.text, content.line
    reserved = model.encoder.reserved_tokens(model.task_prompt("document"))
    length, overlap = tokens(cutting, reserved)
    pieces = cut(text, spans_of(text, model.encoder.spans), length=length, overlap=overlap)
    if not pieces:
        raise LeftOut("without text", NOTHING_SEEN)
    return [
        Piece(piece.start, piece.end, line(piece.start) if line else None, passage, passage)
        for piece in pieces
        for passage in (text[piece.start : piece.end],)
    ]


def tokens(cutting: Cutting, reserved: int) -> tuple[int, int]:
    """Returns length and overlap of a passage in tokens, given the number of special and prompt tokens."""
    limit = min(int(cutting.limit), int(cutting.within) or int(cutting.limit))
    room = max(1, min(limit - reserved, int(cutting.length) or LONGEST))
    return room, min(int(cutting.overlap), room // 4)


def spans_of(text: str, spans: Callable[[str], NDArray[np.int64]]) -> NDArray[np.int64]:
    """Returns the spans (n, 2) of all tokens in characters; a large text is tokenised in blocks, to save memory."""
    blocks = [spans(text[start:end]) + start for start, end in _blocks(text)]
    return np.concatenate(blocks) if blocks else np.zeros((0, 2), np.int64)


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Yields blocks of a text that end at the end of a line, or else at a space, if possible."""
    start = 0
    while start < len(text):
        end = min(start + _BLOCK, len(text))
        if end < len(text):
            blank = max(text.rfind("\n", start + 1, end), text.rfind(" ", end - 256, end))
            end = blank if blank > start else end
        yield start, end
        start = end
