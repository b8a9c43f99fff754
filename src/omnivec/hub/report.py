"""What a download tells whoever waits for it: one line per thing done, and bytes for a progress bar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class Progress(Protocol):
    """A progress bar, in bytes. One download is one `start`, any number of `advance`, one `done`."""

    def start(self, label: str, total_bytes: int | None) -> None:
        """A download begins; `total_bytes` is None where the server does not say."""

    def advance(self, n: int) -> None:
        """`n` more bytes are here; negative when a server makes the download begin again."""

    def done(self) -> None:
        """The download is over, well or not."""


class NoProgress:
    """Progress that nobody watches."""

    def start(self, label: str, total_bytes: int | None) -> None:
        """Show nothing."""

    def advance(self, n: int) -> None:
        """Show nothing."""

    def done(self) -> None:
        """Show nothing."""


def _say_nothing(line: str) -> None:
    pass


@dataclass(frozen=True)
class Reporter:
    """Where lines and progress go."""

    say: Callable[[str], None] = _say_nothing
    progress: Progress = field(default_factory=NoProgress)


def megabytes(count: int) -> str:
    """A number of bytes for people: 81564321 -> "81.6 MB"."""
    return f"{count:,} bytes" if count < 100_000 else f"{count / 1e6:,.1f} MB"
