"""Where in its document a hit is, for passages that are measured in seconds: "1:20-1:30"."""

from __future__ import annotations

from omnivec.types import Hit


def extent(hit: Hit) -> str:
    """Returns the start and end of a hit in minutes and seconds; "" if it is the whole document, or has no times.

    Example: a span of (80, 90) seconds in a document of 200 s -> "1:20-1:30".
    """
    start, end = hit.span
    whole = hit.metadata.get("seconds")
    if hit.span_unit != "seconds" or (not start and isinstance(whole, int | float) and end >= whole - 0.5):
        return ""
    return f"{clock(start)}-{clock(end)}"


def clock(seconds: float) -> str:
    """A time as "1:05", or "2:01:05" from an hour up; fractions of a second are dropped."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
