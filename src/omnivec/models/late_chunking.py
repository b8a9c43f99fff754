"""Late chunking: the model reads a whole text, then the states of the tokens of each span are pooled.

Günther et al. 2024, arXiv:2409.04701. The vector of a span thus depends on its context. A text beyond the model's limit
is read in overlapping windows, and the state of a token is taken from the window with the most context around it.

Example: `windows(20, 8)`, 20 tokens and a limit of 8. Neighbouring windows share 8 // 4 = 2 tokens; each window gives
the states of one of these two, the one that is further from its edge.

    the model reads tokens  0 to 8,   and states  0 to 7   are kept
    the model reads tokens  6 to 14,  and states  7 to 13  are kept
    the model reads tokens 12 to 20,  and states 13 to 20  are kept
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.models.network import Network
from omnivec.types import Floats, Prepared
from omnivec.validation.arguments import said

SHARED = 4
"""Each window shares 1 / SHARED of its tokens with the next."""

Spans = Sequence[tuple[int, int]] | NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """A window of a text, as offsets in its tokens, end exclusive.

    Attributes:
        first, end: the tokens that the model reads together.
        kept_from, kept_to: the tokens whose states are kept.
    """

    first: int
    end: int
    kept_from: int
    kept_to: int


def windows(tokens: int, room: int) -> Iterator[Window]:
    """Yields windows of at most `room` tokens over `tokens` tokens; the state of each token is kept once, in order."""
    shared = room // SHARED
    first = kept = 0
    while True:
        end = min(first + room, tokens)
        upto = tokens if end == tokens else end - shared // 2
        yield Window(first, end, kept, upto)
        if end == tokens:
            return
        first, kept = min(end - shared, tokens - room), upto


def span_vectors(network: Network, text: str, spans: Spans, prompt: str) -> Floats:
    """Embeds spans of one text in the context of the whole, (n, dim) float32; see `Embedder.encode_spans`."""
    model = network.model
    if model.head.pooling != ("mean",):
        raise UsageError(
            f"spans need mean pooling, but this model uses {' and '.join(model.head.pooling)} pooling: "
            "encode the text of each span instead"
        )
    asked = _checked(spans, len(text))
    places, states = _states(network, text, prompt)
    pooled = np.zeros((len(asked), states.shape[1]), np.float32)
    for i, (start, end) in enumerate(asked):
        inside = (places[:, 0] < end) & (places[:, 1] > start)
        if not inside.any():
            raise UsageError(
                f"span {i}, characters {start} to {end}, contains no token: {text[start:end][:40]!r}"
            )
        pooled[i] = states[inside].mean(axis=0)
    return network.finish(pooled)


def _checked(spans: Spans, length: int) -> NDArray[np.int64]:
    try:
        array = np.asarray(spans)
    except ValueError:  # rows of different lengths
        array = np.zeros((1, 1), object)
    pairs = array.ndim in (1, 2) and array.shape[-1] == 2
    if array.size and not (pairs and array.dtype.kind in "iu"):
        raise UsageError(
            f"spans={said(spans)}: must be pairs of whole numbers, the start and end offsets in characters"
        )
    asked = array.astype(np.int64).reshape(-1, 2)
    wrong = np.flatnonzero((asked[:, 0] < 0) | (asked[:, 0] >= asked[:, 1]) | (asked[:, 1] > length))
    if len(wrong):
        raise UsageError(
            f"span {wrong[0]}, {tuple(asked[wrong[0]].tolist())}: must be in 0 to {length:,}, with start before end"
        )
    return asked


def _states(network: Network, text: str, prompt: str) -> tuple[NDArray[np.int64], Floats]:
    """Computes the offsets (n, 2) and the state (n, width) of each token.

    Leading special tokens have the offsets of the first character, trailing ones those of the last, so that a span over
    the whole text pools all of them and has the vector of the text. The model also reads the tokens of the prompt; its
    `include_prompt` says whether they are pooled.
    """
    preparer, head = network.model.texts, network.model.head
    tokenizer = preparer.tokenizer
    shown = (prompt + text).lower() if preparer.lower else prompt + text
    [ids] = tokenizer.ids([shown])
    if (why := preparer.refused(ids)) is not None:
        raise why
    places = tokenizer.spans(shown, seen=True)
    before, behind = tokenizer.special_ids()
    led = int((places[:, 1] <= len(prompt)).sum())
    fixed = ids[: len(before) + led]
    content = ids[len(fixed) : len(ids) - len(behind)]
    room = preparer.limit - len(fixed) - len(behind)
    if room < SHARED:
        raise UsageError(
            f"the prompt has {led} tokens, which leaves no room for text within the model's limit of {preparer.limit}"
        )
    pieces: list[Floats] = []
    ends: tuple[Floats, Floats] | None = None
    for window in windows(len(content), room):
        row = np.concatenate([fixed, content[window.first : window.end], behind])
        states = network.last(Prepared({"ids": row}, preparer.cost(len(row)), len(row), 0))
        inner = states[len(fixed) : len(row) - len(behind)]
        pieces.append(inner[window.kept_from - window.first : window.kept_to - window.first])
        ends = (ends[0] if ends else states[: len(fixed)], states[len(row) - len(behind) :])
    head_states, tail_states = ends or (pieces[0][:0], pieces[0][:0])
    if prompt and not head.include_prompt:
        head_states = head_states[:0]
    places = np.clip(places[led:] - len(prompt), 0, None)
    around = [
        np.tile([[0, 1]], (len(head_states), 1)),
        places,
        np.tile([[len(text) - 1, len(text)]], (len(tail_states), 1)),
    ]
    return np.concatenate(around).astype(np.int64), np.concatenate([head_states, *pieces, tail_states])
