"""Progress: what a terminal, a notebook, a pipe and CI see of it; counts, never seconds."""

from __future__ import annotations

import io
import os
import pty
import re
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from omnivec import progress
from omnivec.errors import UsageError
from omnivec.progress import DownloadBar, Report, bar, say


class Screen:
    """A terminal that remembers what was written to it."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        self.file = os.fdopen(slave, "w")
        self._read = bytearray()
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        while True:
            try:
                part = os.read(self.master, 65536)
            except OSError:  # the other end is closed
                return
            self._read += part

    def text(self) -> str:
        """All that was written, without control sequences; closes the terminal."""
        self.file.close()
        self._thread.join()
        os.close(self.master)
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._read.decode())


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    made = Screen()
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("CI", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    yield made
    if not made.file.closed:
        made.text()


def count_to(n: int, **settings: Any) -> None:
    with bar("indexing", n, "documents", **settings) as shown:
        for _ in range(n):
            shown.advance(1)


def test_a_terminal_sees_the_count_the_total_and_the_time_left(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", screen.file)
    count_to(1234)
    seen = screen.text()
    assert "indexing" in seen and "0 of 1,234 documents" in seen and "1,234 of 1,234 documents" in seen
    assert re.search(r"\d:\d\d:\d\d|-:--:--", seen)


def test_a_download_inside_of_work_is_a_second_row_of_the_same_display(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", screen.file)
    made: list[object] = []
    display = progress._display
    monkeypatch.setattr(progress, "_display", lambda: made.append(0) or display())
    with bar("indexing", 2, "documents") as shown:
        shown.advance(1)
        download = DownloadBar()
        download.start("model", 3_000_000)
        download.advance(1_500_000)
        download.done()
        with bar("embedding", 7) as inner:  # short work inside of work has no bar of its own
            inner.advance(1)
        monkeypatch.setattr(progress, "INSIDE", 0.0)
        with bar("reading one long text", 7) as inner:
            inner.advance(3)
        shown.advance(1)
    count_to(1)
    seen = screen.text()
    assert "1.5 of 3.0 MB" in seen and "2 of 2 documents" in seen
    assert "embedding" not in seen
    assert "reading one long text" in seen and "3 of 7 items" in seen
    assert len(made) == 2  # one display for the first two bars, one for the last


def test_work_inside_of_work_that_shall_be_silent_is_silent(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", screen.file)
    monkeypatch.setattr(progress, "INSIDE", 0.0)
    with bar("indexing", 2, wanted=False):
        count_to(3)
    assert screen.text() == ""


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("TERM", "dumb")])
def test_ci_and_terminals_that_cannot_move_the_cursor_see_nothing(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setattr(sys, "stderr", screen.file)
    monkeypatch.setenv(name, value)
    count_to(50)
    assert screen.text() == ""


def test_what_goes_to_a_pipe_stays_there_while_a_terminal_shows_a_bar(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", screen.file)
    piped = io.StringIO()
    monkeypatch.setattr(sys, "stdout", piped)
    with bar("indexing", 2) as shown:
        shown.advance(1)
        print("a result")
    assert piped.getvalue() == "a result\n" and "a result" not in screen.text()


def test_a_notebook_gets_plain_lines_at_each_tenth(
    notebook: None, capsys: pytest.CaptureFixture[str]
) -> None:
    count_to(100)
    lines = capsys.readouterr().err.splitlines()
    assert [int(line.split()[1]) for line in lines] == [1, *range(10, 101, 10)]
    assert re.fullmatch(r"indexing: 50 of 100 documents \(50%\), \d+ s left", lines[5])
    assert re.fullmatch(r"indexing: 100 of 100 documents, \d+ s", lines[-1])


def test_without_a_total_a_notebook_gets_a_line_whenever_twice_as_much_is_done(
    notebook: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with bar("reading", None, "files") as shown:
        for _ in range(20):
            shown.advance(1)
    assert [int(line.split()[1]) for line in capsys.readouterr().err.splitlines()] == [1, 2, 4, 8, 16, 20]


def test_a_pipe_sees_nothing_unless_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(progress, "DELAY", 0.0)
    count_to(5)
    count_to(5, wanted=False)
    assert said.getvalue() == ""
    count_to(2, wanted=True)
    assert [line.split(",")[0] for line in said.getvalue().splitlines()] == [
        "indexing: 1 of 2 documents (50%)",
        "indexing: 2 of 2 documents",
    ]
    with pytest.raises(UsageError, match="show_progress_bar='yes'"):
        bar("indexing", 1, wanted="yes")  # type: ignore[arg-type]


def test_a_terminal_that_goes_away_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    with bar("indexing", 30, wanted=True) as shown:
        for _ in range(30):
            shown.advance(1)
    say("a line")


def test_without_a_stderr_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)  # as under pythonw
    count_to(5, wanted=True)
    Report(True, at_once=True).tell("a line", last=True)
    say("a line")


def test_a_line_stands_above_the_bar_and_holds_no_control_characters(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", screen.file)
    with bar("indexing", 2) as shown:
        say("left out: a\nb\x1b[2J.txt")
        shown.advance(2)
    before, found, after = screen.text().partition(r"omnivec: left out: a\nb\x1b[2J.txt")
    assert found and "2 of 2 documents" not in before and "2 of 2" in after


def test_a_report_has_a_line_at_its_begin_in_a_while_and_at_its_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def told(wanted: bool | None, at_once: bool) -> list[str]:
        now[0] = 0.0
        report = Report(wanted, at_once=at_once)
        for second in (0, 1, 11, 12, 22):
            now[0] = second
            report.tell(f"{report.elapsed():.0f} s", last=second == 22)
        return capsys.readouterr().err.splitlines()

    assert told(True, at_once=True) == [f"omnivec: {second} s" for second in (0, 11, 22)]
    assert told(True, at_once=False) == [f"omnivec: {second} s" for second in (11, 22)]
    assert told(None, at_once=True) == told(False, at_once=True) == []  # a pipe, and on demand


def test_short_work_shows_nothing_unasked(
    notebook: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress, "DELAY", 0.5)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def take(seconds: float) -> None:
        now[0] = 0.0
        with bar("embedding", 4) as shown:
            for _ in range(4):
                now[0] += seconds
                shown.advance(1)

    take(0.1)
    assert capsys.readouterr().err == ""
    take(0.3)
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "embedding: 2 of 4 items (50%)",
        "embedding: 3 of 4 items (75%)",
        "embedding: 4 of 4 items",
    ]
