"""Late chunking: a text goes through the model once, then the states of each span's tokens are pooled.

Günther et al. 2024, arXiv:2409.04701. A span's vector so knows what stands around it. Texts beyond the model's limit
go through it in windows that overlap, and each token's state is that of the window which shows most around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from omnivec.errors import UsageError
from omnivec.models.network import Network
from omnivec.types import Floats, Prepared

SHARED = 4
"""Windows of a text beyond the limit share a fourth of their tokens with the next."""

Spans = Sequence[tuple[int, int]] | NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """A part of a text's content that goes through the model together, in tokens.

    Attributes:
        first, end: what the model sees.
        kept_from, kept_to: the tokens whose states are taken from it.
    """

    first: int
    end: int
    kept_from: int
    kept_to: int


def windows(tokens: int, room: int) -> Iterator[Window]:
    """Windows over so many tokens, each of at most `room`; every token's state is kept once, in order."""
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
    """Vectors (n, dim) float32 of spans of one text, each in the context of the whole; see `Embedder.encode_spans`."""
    model = network.model
    if model.head.pooling != ("mean",):
        raise UsageError(
            f"spans are pooled by the mean of their tokens, and this model by {' and '.join(model.head.pooling)}: "
            "encode each span by itself"
        )
    asked = _checked(spans, len(text))
    places, states = _states(network, text, prompt)
    pooled = np.zeros((len(asked), states.shape[1]), np.float32)
    for i, (start, end) in enumerate(asked):
        inside = (places[:, 0] < end) & (places[:, 1] > start)
        if not inside.any():
            raise UsageError(
                f"span {i}, characters {start} to {end}, holds no token: {text[start:end][:40]!r}"
            )
        pooled[i] = states[inside].mean(axis=0)
    return network.finish(pooled)


def _checked(spans: Spans, length: int) -> NDArray[np.int64]:
    try:
        array = np.asarray(spans)
    except ValueError:  # rows of different lengths
        array = np.zeros((1, 1), object)
    if array.size and (array.dtype.kind not in "iu" or array.ndim > 2 or array.shape[-1] != 2):
        raise UsageError(
            f"spans={spans!r:.60}: pairs of whole numbers are due, the first and the behind-last character of each"
        )
    asked = array.astype(np.int64).reshape(-1, 2)
    wrong = np.flatnonzero((asked[:, 0] < 0) | (asked[:, 0] >= asked[:, 1]) | (asked[:, 1] > length))
    if len(wrong):
        raise UsageError(
            f"span {wrong[0]}, {tuple(asked[wrong[0]].tolist())}: begin and end lie in 0 to {length:,}, begin first"
        )
    return asked


def _states(network: Network, text: str, prompt: str) -> tuple[NDArray[np.int64], Floats]:
    """Characters (n, 2) and state (n, width) of each token; the special ones stand at the text's begin and end.

    A span from the first character on pools the first special tokens too, and one up to the last the last ones: a
    single span over the whole text is the text's own vector. The prompt's tokens are seen; whether they are pooled, the
    model says.
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
        raise UsageError(f"the prompt's {led} tokens leave no room in the model's {preparer.limit}")
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
