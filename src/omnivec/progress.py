"""Progress for people, on stderr: bars in a terminal, lines in a notebook, nothing where nobody watches.

Without being asked it shows itself where stderr is a terminal, or the program a notebook, and only of work that goes on
for longer than `DELAY`. Work inside of work that has a bar shows its own after `INSIDE`, downloads at once: all bars
that there are share one live display. Inside of what shall be silent everything is.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from omnivec.validation.reasons import printable

if TYPE_CHECKING:
    from rich.progress import Progress, Task

DELAY = 0.5
"""Seconds that work lasts before it shows a bar unasked."""

INSIDE = 5.0
"""The same of work inside of other work: the embedding of one document of a thousand passages, never that of a few."""

EVERY = 30.0
"""Seconds after which a line is written however little was done since the last one."""

PAUSE = 10.0
"""Seconds between two lines of a `Report`."""

Place = Literal["terminal", "lines"]


class Bar(Protocol):
    """Something that counts up to a total."""

    def advance(self, n: int) -> None:
        """`n` more are done."""


class _View(Protocol):
    """Where a bar is seen, from when it is shown."""

    def show(self, done: int) -> None:
        """So many are done."""

    def close(self) -> None:
        """The work is over, well or not."""


class Counter:
    """A bar as a context manager; made by `bar`.

    Args:
        label: what is going on.
        total: how many, or None where it is not known.
        unit: what is counted.
        place: where it is seen; None for nowhere.
        delay: seconds before it is.
    """

    def __init__(self, label: str, total: int | None, unit: str, place: Place | None, delay: float) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._place, self._delay, self._silent = place, delay, place is None
        self._view: _View | None = None
        self._done = 0
        self._begun = 0.0

    def __enter__(self) -> Counter:
        _WORK.depth += 1
        _WORK.silent += self._silent
        self._begun = time.monotonic()
        if not self._delay:
            self.advance(0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _WORK.depth -= 1
        _WORK.silent -= self._silent
        if self._view is not None:
            with suppress(OSError, ValueError):
                self._view.close()

    def advance(self, n: int) -> None:
        """`n` more are done; fewer where `n` is negative."""
        self._done += n
        if self._place is None:
            return
        try:
            if self._view is None and self._is_worth_it():
                self._open(self._place)
            if self._view is not None:
                self._view.show(self._done)
        except (OSError, ValueError):  # The terminal is gone: no reason to end the work.
            self._place = self._view = None

    def _is_worth_it(self) -> bool:
        """Whether the work has lasted long enough to be shown, and is not over."""
        ended = self._total is not None and self._done >= self._total
        return not self._delay or (not ended and time.monotonic() - self._begun >= self._delay)

    def _open(self, place: Place) -> None:
        if place == "terminal":
            self._view = _TERMINAL.add(self._label, self._total, self._unit)
        else:
            self._view = _Lines(self._label, self._total, self._unit, self._begun)


def say(line: str) -> None:
    """Writes "omnivec: " and one line to stderr, above the live bars; does nothing where there is no stderr.

    Names of files and texts of others may hold line ends and control characters: these are escaped.
    """
    with suppress(OSError, ValueError):
        _write(f"omnivec: {printable(line)}")


def _write(line: str) -> None:
    if sys.stderr is not None:  # as under pythonw
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


class Report:
    """Lines about long work, beside its bar and where that is shown: one every `PAUSE` seconds, and the last.

    Args:
        wanted: whether to show them; None as the module says.
        at_once: whether the first line is written as soon as there is one.
    """

    def __init__(self, wanted: bool | None, *, at_once: bool = False) -> None:
        self._shown = is_visible(wanted)
        self._begun = time.perf_counter()
        self._last = -PAUSE if at_once else 0.0

    def elapsed(self) -> float:
        """Seconds since the work began."""
        return time.perf_counter() - self._begun

    def tell(self, line: str, *, last: bool) -> None:
        """Writes a line, unless one was written just now and another will follow."""
        seconds = self.elapsed()
        if self._shown and (last or seconds - self._last >= PAUSE):
            self._last = seconds
            say(line)


def is_visible(wanted: bool | None = None) -> bool:
    """Whether a bar would be seen: who has to count for its total need not where it is not."""
    return _place(wanted) is not None


def bar(
    label: str, total: int | None, unit: str = "items", wanted: bool | None = None, inside: bool = False
) -> Counter:
    """A bar as a context manager.

    Args:
        label: what is going on.
        total: how many, or None where it is not known.
        unit: what is counted; "bytes" are shown as sizes.
        wanted: whether to show it; None as the module says.
        inside: whether it is shown as early inside of work that has a bar of its own.

    Raises:
        UsageError: `wanted` is none of them.
    """
    if wanted is not None and not isinstance(wanted, bool):
        from omnivec.validation.arguments import flag

        wanted = flag("show_progress_bar", wanted)
    hidden = wanted is None and _WORK.silent > 0 and not inside
    delay = 0.0 if wanted else INSIDE if _WORK.depth and not inside else DELAY
    return Counter(label, total, unit, None if hidden else _place(wanted), delay)


class DownloadBar:
    """A download's progress, as `hub` reports it."""

    def __init__(self) -> None:
        self._bar: Counter | None = None

    def start(self, label: str, total_bytes: int | None) -> None:
        """A download begins."""
        self._bar = bar(label, total_bytes, "bytes", inside=True)
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


class _Work(threading.local):
    """How many bars the work of this thread is inside of, and how many of them are not to be seen."""

    depth = 0
    silent = 0


_WORK = _Work()


class _Terminal:
    """The one live display of this process: two would overwrite each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._open = 0

    def add(self, label: str, total: int | None, unit: str) -> _Row:
        """One more bar, below those there are."""
        with self._lock:
            if self._progress is None:
                made = _display()
                made.start()
                self._progress = made
            self._open += 1
            row = _Row(self._progress, self._progress.add_task(label, total=total, unit=unit))
            self._progress.refresh()
            return row

    def remove(self, row: _Row) -> None:
        """A bar less; the display ends with the last one."""
        with self._lock:
            try:
                row.progress.refresh()  # How far it came is seen, however short its last part was.
            finally:
                row.progress.remove_task(row.task)
                self._open -= 1
                if not self._open:
                    self._progress = None
                    row.progress.stop()


_TERMINAL = _Terminal()


class _Row:
    """A bar of the terminal's display."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self.progress, self.task = progress, task

    def show(self, done: int) -> None:
        """So many are done."""
        self.progress.update(self.task, completed=done)

    def close(self) -> None:
        """The work is over."""
        _TERMINAL.remove(self)


class _Lines:
    """Plain lines: at each tenth of the total, or when twice as much is done, and after `EVERY` seconds at least."""

    def __init__(self, label: str, total: int | None, unit: str, begun: float) -> None:
        self._label, self._total, self._unit, self._begun = label, total, unit, begun
        self._done = self._said = 0
        self._next, self._last = 1, time.monotonic()

    def show(self, done: int) -> None:
        """So many are done."""
        self._done = done
        now = time.monotonic()
        if done >= self._next or now - self._last >= EVERY:
            self._say(now)

    def close(self) -> None:
        """The work is over."""
        if self._done != self._said:
            self._say(time.monotonic())

    def _say(self, now: float) -> None:
        self._said, self._last = self._done, now
        tenth = None if self._total is None else max(1, self._total // 10)
        self._next = 2 * self._done if tenth is None else (self._done // tenth + 1) * tenth
        _write(f"{self._label}: {self._state(now - self._begun)}")

    def _state(self, seconds: float) -> str:
        amount = _amount(self._done, self._total, self._unit)
        if not self._total or self._done >= self._total:
            return f"{amount}, {_clock(seconds)}"
        left = seconds / self._done * (self._total - self._done) if self._done > 0 else 0.0
        return f"{amount} ({self._done / self._total:.0%}), {_clock(left)} left"


def _display() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Amount(ProgressColumn):
        def render(self, task: Task) -> Text:
            total = None if task.total is None else int(task.total)
            return Text(_amount(int(task.completed), total, task.fields["unit"]))

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        Amount(),
        TimeRemainingColumn(),
        console=Console(stderr=True, force_jupyter=False),
        transient=True,
        # What is printed meanwhile appears above the bars; what goes to a file or a pipe stays what it is.
        redirect_stdout=_is_terminal(sys.stdout),
    )


def _place(wanted: bool | None) -> Place | None:
    """Where a bar is seen."""
    if wanted is False or sys.stderr is None:
        return None
    terminal = _is_terminal(sys.stderr)
    if terminal and os.environ.get("TERM") != "dumb":
        return "terminal" if wanted or not os.environ.get("CI") else None
    return "lines" if wanted or (not terminal and _is_notebook()) else None


def _is_terminal(stream: Any) -> bool:
    try:
        return stream is not None and bool(stream.isatty())
    except (AttributeError, ValueError):  # a stand-in without it, or a closed file
        return False


def _is_notebook() -> bool:
    """Whether this program is a notebook's kernel; who runs in one has imported IPython."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def _amount(done: int, total: int | None, unit: str) -> str:
    if unit == "bytes":
        size = f"{done / 1e6:,.1f}"
        return f"{size} MB" if total is None else f"{size} of {total / 1e6:,.1f} MB"
    return f"{done:,} {unit}" if total is None else f"{done:,} of {total:,} {unit}"


def _clock(seconds: float) -> str:
    """A time in words: 12 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
