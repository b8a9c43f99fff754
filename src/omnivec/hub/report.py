"""Reports of a download: lines about what was done, and bytes for a progress bar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class Progress(Protocol):
    """A progress bar, in bytes. For each download, `start` is called once, then `advance` any times, then `done`."""

    def start(self, label: str, total_bytes: int | None) -> None:
        """Begins a download; `total_bytes` is None if the server does not state it."""

    def advance(self, n: int) -> None:
        """Counts `n` more bytes; negative if the server makes the download begin again."""

    def done(self) -> None:
        """Ends the download, whether it succeeded or not."""


class NoProgress:
    """A `Progress` that shows nothing."""

    def start(self, label: str, total_bytes: int | None) -> None:
        """Does nothing."""

    def advance(self, n: int) -> None:
        """Does nothing."""

    def done(self) -> None:
        """Does nothing."""


def _say_nothing(line: str) -> None:
    pass


@dataclass(frozen=True)
class Reporter:
    """Receives the lines and the progress of a download."""

    say: Callable[[str], None] = _say_nothing
    progress: Progress = field(default_factory=NoProgress)


def megabytes(count: int) -> str:
    """A number of bytes for messages: 81564321 -> "81.6 MB"."""
    return f"{count:,} bytes" if count < 100_000 else f"{count / 1e6:,.1f} MB"
