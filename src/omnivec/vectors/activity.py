"""Spans in which something is active, such as speech, from a probability for each frame of a recording."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from omnivec.errors import UsageError
from omnivec.validation.arguments import real
from omnivec.vectors.arrays import numbers

LEAST_EXIT = 0.01
"""Smallest threshold below which an active span ends."""


def active_spans(
    probabilities: ArrayLike,
    frame: float,
    length: float | None = None,
    *,
    threshold: float = 0.5,
    exit_threshold: float | None = None,
    min_active: float = 0.0,
    min_gap: float = 0.0,
    pad: float = 0.0,
) -> NDArray[np.float64]:
    """The spans in which something is active, by two thresholds.

    A span begins with a frame whose probability is at least `threshold`. It ends where the probability falls below
    `exit_threshold` and stays below `threshold` for `min_gap`; between both thresholds, a span goes on. Spans that are
    no longer than `min_active` are left out, and `pad` is added to both ends of the others. Spans that would overlap by
    it share the gap between them. These are the rules of Silero's `get_speech_timestamps`.

    Args:
        probabilities: (t,) of the frames, which follow each other without gaps.
        frame: duration of a frame; all durations are in one unit, such as seconds or samples.
        length: duration of the recording, by which the last span is limited; None for that of all frames.
        threshold: probability at which a span begins.
        exit_threshold: probability below which it ends; None for `threshold` - 0.15, but at least 0.01.
        min_active: longest duration of spans that are left out.
        min_gap: duration of a gap that ends a span.
        pad: duration that is added to both ends of a span.

    Returns:
        (n, 2) float64, start and end of each span, ascending and without overlap.

    Raises:
        UsageError: no array (t,), probabilities that are not finite, or a number out of range.
    """
    shares = numbers("probabilities", probabilities, 1, "probabilities (t,) of the frames")
    if not np.isfinite(shares).all():
        raise UsageError(
            f"probabilities: {int((~np.isfinite(shares)).sum())} of {shares.size} are not finite"
        )
    frame = real("frame", frame, 1e-9)
    whole = len(shares) * frame
    length = whole if length is None else real("length", length, 0.0, whole)
    enter = real("threshold", threshold, 0.0, 1.0)
    leave = (
        max(enter - 0.15, LEAST_EXIT)
        if exit_threshold is None
        else real("exit_threshold", exit_threshold, 0.0, 1.0)
    )
    gap, least, extra = (
        real(name, value, 0.0)
        for name, value in (("min_gap", min_gap), ("min_active", min_active), ("pad", pad))
    )
    spans = [
        (start, end)
        for start, end in _unpadded(shares.tolist(), frame, length, enter, leave, gap)
        if end - start > least
    ]
    return _padded(np.array(spans, np.float64).reshape(-1, 2), length, extra)


def _unpadded(
    shares: list[float], frame: float, length: float, enter: float, leave: float, gap: float
) -> list[tuple[float, float]]:
    """The spans of any duration.

    With thresholds 0.5 and 0.35, frames of 1 and a gap of 2:

        probability   0.1  0.9  0.4  0.3  0.6  0.2  0.1  0.1
        span                1    1    1    1    -    -        ends at 5, since frames 5 and 6 are below 0.35
    """
    spans: list[tuple[float, float]] = []
    start: float | None = None
    end: float | None = None  # where the span ends if the gap that began there lasts
    for i, share in enumerate(shares):
        now = i * frame
        if share >= enter:
            start, end = now if start is None else start, None
        elif share < leave and start is not None:
            end = now if end is None else end
            if now - end >= gap:
                spans.append((start, end))
                start = end = None
    return spans if start is None else [*spans, (start, length)]


def _padded(spans: NDArray[np.float64], length: float, pad: float) -> NDArray[np.float64]:
    """Spans (n, 2) with `pad` at both ends, or half of the gap to their neighbour."""
    if not len(spans):
        return spans
    between = np.minimum(np.full(len(spans) - 1, pad), (spans[1:, 0] - spans[:-1, 1]) / 2)
    before, after = np.concatenate([[pad], between]), np.concatenate([between, [pad]])
    return np.stack([np.maximum(spans[:, 0] - before, 0.0), np.minimum(spans[:, 1] + after, length)], axis=1)
