"""The command `omnivec`: turns errors and signals into one line on stderr and an exit code.

Exit codes: 0 done, 1 an error, 2 wrong usage, 3 done but some items failed (each is named), 130 stopped by Ctrl-C,
143 stopped by SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType

STOPPED, ENDED = 128 + signal.SIGINT, 128 + signal.SIGTERM
_ARRIVED: list[int] = []
"""Signals received so far: a library may have replaced the exception of an interruption by another, or swallowed it."""
_IMPORT_SECONDS = 5.0
"""Longest time for which a signal is postponed while a module is imported."""


def main() -> None:
    """The entry point: runs a command and exits with its code."""
    # Before the command runs there is nothing to clean up, and an exception inside an import may be lost: exit at once.
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # it is ignored for background jobs of a shell
            signal.signal(number, lambda number, frame: os._exit(128 + number))
    try:
        code = _main()
    except KeyboardInterrupt:
        code = STOPPED
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    _flush()
    # Everything is written and closed, so skip the teardown of the interpreter and the engine, which takes time.
    os._exit(code)


def _main() -> int:
    from io import TextIOWrapper

    for stream in (sys.stdout, sys.stderr):  # a character that the terminal cannot show must not raise
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    from omnivec.cli import common, group  # noqa: F401 - slow imports, before signals raise

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _arrived)
    sys.unraisablehook = _retry_unraisable
    code = run(sys.argv[1:])
    # Training saves its state when it is stopped and returns normally; the exit code still says that it was stopped.
    return 128 + _ARRIVED[0] if _ARRIVED else code


def _arrived(number: int, frame: FrameType | None, since: float | None = None) -> None:
    """Handles a signal by raising, so that the stack is unwound and incomplete files are removed.

    An exception that is raised inside an import may be lost (Python's compiler drops it), so there the signal is
    postponed, for `_IMPORT_SECONDS` at most.

    Args:
        number: number of the signal.
        frame: frame that was running.
        since: time at which the signal was first postponed; None if it was not.
    """
    now = time.monotonic()
    began = now if since is None else since
    _ARRIVED.append(number)
    if _importing(frame) and now - began < _IMPORT_SECONDS:
        signal.signal(number, lambda number, frame: _arrived(number, frame, began))
        _repeat()
        return
    signal.signal(number, _arrived)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(ENDED)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _repeat() -> None:
    """Sends the last signal to this process again, a moment later."""
    from threading import Timer

    Timer(0.02, os.kill, (os.getpid(), _ARRIVED[-1])).start()


def _retry_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Repeats an interruption that was raised where exceptions are lost, such as in a destructor."""
    if unraisable.exc_type not in (KeyboardInterrupt, SystemExit):
        sys.__unraisablehook__(unraisable)
        return
    _repeat()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, AttributeError, ValueError):  # closed, or never open
            continue


def run(arguments: list[str]) -> int:
    """Runs a command with its arguments, reports errors on stderr, and returns the exit code."""
    import click

    from omnivec.cli.group import cli
    from omnivec.errors import ItemErrors, OmnivecError, UsageError
    from omnivec.progress import say

    try:
        code = cli.main(arguments, prog_name="omnivec", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        return _stopped(str(error.__cause__ or error))  # click wraps the interruption
    except OmnivecError as error:
        if _ARRIVED:
            return _stopped()
        say(error.summary if isinstance(error, ItemErrors) else str(error))
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:
        # The reader of the pipe is gone (`| head`): redirect stdout, or Python would fail to flush it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:  # the panic of a Rust library is not an Exception
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        if _ARRIVED:
            return _stopped()
        if os.environ.get("OMNIVEC_DEBUG"):
            raise
        say(_fault(error))
        return 1


def _fault(error: BaseException) -> str:
    import errno

    from omnivec.validation.reasons import is_of_system, of_item, with_class

    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "no space is left on the disk of the output, which is incomplete: make room, or choose another place"
    if is_of_system(error):
        return of_item(error)
    if isinstance(error, MemoryError):
        return "not enough memory: give the process more, or embed fewer or smaller items at a time"
    return f"a fault in omnivec itself: {with_class(error)} (OMNIVEC_DEBUG=1 shows where)"


def is_interruption(error: BaseException) -> bool:
    """Whether an exception comes from Ctrl-C, even if a library has replaced it by another one."""
    if isinstance(error, SystemExit | GeneratorExit):
        return False
    return isinstance(error, KeyboardInterrupt) or signal.SIGINT in _ARRIVED


def _stopped(result: str = "") -> int:
    """Reports that the command was stopped, and what it has done until then; further Ctrl-C are ignored."""
    import click

    from omnivec.progress import say

    if signal.getsignal(signal.SIGINT) is _arrived:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.stderr is not None and sys.stderr.isatty():  # the terminal has printed ^C without a line break
        click.echo(err=True)
    say(f"stopped; {result or 'what was reported as done is saved'}")
    return STOPPED


def __getattr__(name: str) -> object:
    if name in ("COMMANDS", "cli"):
        from omnivec.cli import group

        return getattr(group, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
