"""Progress on stderr: bars in a terminal, lines of text in a notebook, nothing elsewhere.

By default, progress is shown if stderr is a terminal or the program is a notebook, and only for work that takes longer
than `DELAY`. A bar that is opened inside another one is shown after `INSIDE`, that of a download after `DELAY`;
all bars share one live display. Inside a bar that is hidden, all bars are hidden.
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
"""Seconds that work must take before a bar is shown by default."""

INSIDE = 5.0
"""The same for work inside other work: embedding a document of a thousand passages shows a bar, of a few does not."""

EVERY = 30.0
"""Seconds after which a line is written even if little was done since the last one."""

PAUSE = 10.0
"""Seconds between two lines of a `Report`."""

Place = Literal["terminal", "lines"]


class Bar(Protocol):
    """An object to which progress is reported."""

    def advance(self, n: int) -> None:
        """Adds `n` to the count of what is done."""


class _BarView(Protocol):
    """The display of one bar."""

    def show(self, done: int) -> None:
        """Shows that `done` units are done."""

    def close(self) -> None:
        """Ends the display, whether the work succeeded or not."""


class Counter:
    """A bar as a context manager; made by `bar`.

    Args:
        label: name of the work.
        total: number of units, or None if it is not known.
        unit: what is counted.
        place: where the bar is shown; None hides it.
        delay: seconds before it is shown.
    """

    def __init__(self, label: str, total: int | None, unit: str, place: Place | None, delay: float) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._place, self._delay, self._silent = place, delay, place is None
        self._view: _BarView | None = None
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
        """Adds `n`, which may be negative, to the count of what is done."""
        self._done += n
        if self._place is None:
            return
        try:
            if self._view is None and self._is_worth_it():
                self._open(self._place)
            if self._view is not None:
                self._view.show(self._done)
        except (OSError, ValueError):  # The terminal is gone, which must not end the work.
            self._place = self._view = None

    def _is_worth_it(self) -> bool:
        """Whether the work has taken long enough to be shown and is not finished."""
        ended = self._total is not None and self._done >= self._total
        return not self._delay or (not ended and time.monotonic() - self._begun >= self._delay)

    def _open(self, place: Place) -> None:
        if place == "terminal":
            self._view = _TERMINAL.add(self._label, self._total, self._unit)
        else:
            self._view = _LineView(self._label, self._total, self._unit, self._begun)


def say(line: str) -> None:
    """Writes "omnivec: " and one line to stderr, above the live bars; does nothing if there is no stderr.

    Line breaks and control characters, which file names and texts may contain, are escaped.
    """
    with suppress(OSError, ValueError):
        _write(f"omnivec: {printable(line)}")


def _write(line: str) -> None:
    if sys.stderr is not None:  # as under pythonw
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


class Report:
    """Lines of text about long work, shown where a bar would be: one every `PAUSE` seconds, and the last one.

    Args:
        wanted: whether to show them; None for the default, see the module.
        at_once: whether to write the first line immediately instead of after `PAUSE` seconds.
    """

    def __init__(self, wanted: bool | None, *, at_once: bool = False) -> None:
        self._shown = is_visible(wanted)
        self._begun = time.perf_counter()
        self._last = -PAUSE if at_once else 0.0

    def elapsed(self) -> float:
        """Seconds since the work began."""
        return time.perf_counter() - self._begun

    def tell(self, line: str, *, last: bool) -> None:
        """Writes a line, unless `PAUSE` seconds have not passed and it is not the last."""
        seconds = self.elapsed()
        if self._shown and (last or seconds - self._last >= PAUSE):
            self._last = seconds
            say(line)


def is_visible(wanted: bool | None = None) -> bool:
    """Whether a bar would be shown; if not, there is no need to find out its total."""
    return _place(wanted) is not None


def bar(
    label: str, total: int | None, unit: str = "items", wanted: bool | None = None, inside: bool = False
) -> Counter:
    """Makes a progress bar, which is used as a context manager.

    Args:
        label: name of the work.
        total: number of units, or None if it is not known.
        unit: what is counted; "bytes" are shown as sizes.
        wanted: whether to show it; None for the default, see the module.
        inside: whether it is treated as the outermost bar, although it may be opened inside another one.

    Raises:
        UsageError: `wanted` is not True, False or None.
    """
    if wanted is not None and not isinstance(wanted, bool):
        from omnivec.validation.arguments import flag

        wanted = flag("show_progress_bar", wanted)
    hidden = wanted is None and _WORK.silent > 0 and not inside
    delay = 0.0 if wanted else INSIDE if _WORK.depth and not inside else DELAY
    return Counter(label, total, unit, None if hidden else _place(wanted), delay)


class DownloadBar:
    """A bar for the downloads of `hub`."""

    def __init__(self) -> None:
        self._bar: Counter | None = None

    def start(self, label: str, total_bytes: int | None) -> None:
        """Opens the bar of a download."""
        self._bar = bar(label, total_bytes, "bytes", inside=True)
        self._bar.__enter__()

    def advance(self, n: int) -> None:
        """Reports that `n` more bytes were received."""
        if self._bar is not None:
            self._bar.advance(n)

    def done(self) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None


class _Work(threading.local):
    """How many bars are open in this thread, and how many of these are hidden."""

    depth = 0
    silent = 0


_WORK = _Work()


class _Terminal:
    """The one live display of this process: two would overwrite each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._open = 0

    def add(self, label: str, total: int | None, unit: str) -> _BarRow:
        """Adds a bar below the others."""
        with self._lock:
            if self._progress is None:
                made = _display()
                made.start()
                self._progress = made
            self._open += 1
            row = _BarRow(self._progress, self._progress.add_task(label, total=total, unit=unit))
            self._progress.refresh()
            return row

    def remove(self, row: _BarRow) -> None:
        """Removes a bar; the display ends with the last one."""
        with self._lock:
            try:
                row.progress.refresh()  # so that its final count is shown
            finally:
                row.progress.remove_task(row.task)
                self._open -= 1
                if not self._open:
                    self._progress = None
                    row.progress.stop()


_TERMINAL = _Terminal()


class _BarRow:
    """A bar in the terminal's display."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self.progress, self.task = progress, task

    def show(self, done: int) -> None:
        """Shows that `done` units are done."""
        self.progress.update(self.task, completed=done)

    def close(self) -> None:
        """Removes the bar."""
        _TERMINAL.remove(self)


class _LineView:
    """Lines of text: one at each tenth of the total, or at each doubling of the count, and at least every `EVERY` s."""

    def __init__(self, label: str, total: int | None, unit: str, begun: float) -> None:
        self._label, self._total, self._unit, self._begun = label, total, unit, begun
        self._done = self._reported = 0
        self._next, self._last = 1, time.monotonic()

    def show(self, done: int) -> None:
        """Shows that `done` units are done."""
        self._done = done
        now = time.monotonic()
        if done >= self._next or now - self._last >= EVERY:
            self._report(now)

    def close(self) -> None:
        """Writes the final count, unless the last line has it."""
        if self._done != self._reported:
            self._report(time.monotonic())

    def _report(self, now: float) -> None:
        self._reported, self._last = self._done, now
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
        # Text printed to the terminal meanwhile appears above the bars; output to a file or a pipe is left alone.
        redirect_stdout=_is_terminal(sys.stdout),
    )


def _place(wanted: bool | None) -> Place | None:
    """Where a bar is shown; None if it is hidden."""
    if wanted is False or sys.stderr is None:
        return None
    terminal = _is_terminal(sys.stderr)
    if terminal and os.environ.get("TERM") != "dumb":
        return "terminal" if wanted or not os.environ.get("CI") else None
    return "lines" if wanted or (not terminal and _is_notebook()) else None


def _is_terminal(stream: Any) -> bool:
    try:
        return stream is not None and bool(stream.isatty())
    except (AttributeError, ValueError):  # an object without isatty, or a closed file
        return False


def _is_notebook() -> bool:
    """Whether this program is the kernel of a notebook, in which IPython is always imported."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def _amount(done: int, total: int | None, unit: str) -> str:
    if unit == "bytes":
        size = f"{done / 1e6:,.1f}"
        return f"{size} MB" if total is None else f"{size} of {total / 1e6:,.1f} MB"
    return f"{done:,} {unit}" if total is None else f"{done:,} of {total:,} {unit}"


def _clock(seconds: float) -> str:
    """Formats a duration: 12 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
