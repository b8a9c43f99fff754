"""Progress for people: bars on stderr, only where stderr is a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Protocol


class Bar(Protocol):
    """Something that counts up to a total."""

    def advance(self, n: int) -> None:
        """`n` more are done."""


class Silent:
    """A bar that nobody watches."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        return None

    def advance(self, n: int) -> None:
        """Show nothing."""


class Shown:
    """A bar with rate and time left."""

    def __init__(self, label: str, total: int | None, unit: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        amount: list[Any] = (
            [DownloadColumn(), TransferSpeedColumn()]
            if unit == "bytes"
            else [MofNCompleteColumn(), TextColumn(unit)]
        )
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            *amount,
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task(label, total=total)

    def __enter__(self) -> Shown:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, n: int) -> None:
        """`n` more are done."""
        self._progress.advance(self._task, n)


def bar(label: str, total: int | None, unit: str = "items", wanted: bool | None = None) -> Shown | Silent:
    """A bar as a context manager.

    Args:
        label: what is going on.
        total: how many, or None where it is not known.
        unit: what is counted; "bytes" are shown as sizes.
        wanted: whether to show it; None shows it on a terminal.
    """
    shown = sys.stderr.isatty() if wanted is None else wanted
    return Shown(label, total, unit) if shown else Silent()


class DownloadBar:
    """A download's progress, as `hub` reports it."""

    def __init__(self) -> None:
        self._bar: Shown | Silent | None = None

    def start(self, label: str, total_bytes: int | None) -> None:
        """A download begins."""
        self._bar = bar(label, total_bytes, "bytes")
        self._bar.__enter__()

    def advance(self, n: int) -> None:
        """`n` more bytes are here."""
        if self._bar is not None:
            self._bar.advance(n)

    def done(self) -> None:
        """The download is over."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None
