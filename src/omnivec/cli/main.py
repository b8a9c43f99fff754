"""The command `omnivec`: turns errors and signals into one line and an exit code.

Exit codes: 0 done, 1 an error said in one line, 2 wrong usage, 3 done but some items failed, each named, 130 stopped by
Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType

STOPPED, ENDED = 128 + signal.SIGINT, 128 + signal.SIGTERM
_ARRIVED: list[int] = []
"""Signals that came so far: a library may have turned an interruption into an error of its own, or kept it."""
_IMPORT_SECONDS = 5.0
"""How long an import may keep a signal waiting."""


def main() -> None:
    """The entry point: runs a command and exits with its code."""
    # Until the command itself runs, there is nothing to clear away, and imports do not bear an interruption.
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in the background of a shell
            signal.signal(number, lambda number, frame: os._exit(128 + number))
    try:
        code = _main()
    except KeyboardInterrupt:
        code = STOPPED
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    _flush()
    # Everything is written and closed: taking modules and engine down one by one only keeps the user waiting.
    os._exit(code)


def _main() -> int:
    from io import TextIOWrapper

    for stream in (sys.stdout, sys.stderr):  # A terminal that cannot show a letter must not end the work.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    from omnivec.cli import common, group  # noqa: F401 - what is slow to import, before anything can be lost

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _arrived)
    sys.unraisablehook = _lost
    code = run(sys.argv[1:])
    # A command that keeps what it has when it is stopped, as training does, ends well and yet was stopped.
    return 128 + _ARRIVED[0] if _ARRIVED else code


def _arrived(number: int, frame: FrameType | None, since: float | None = None) -> None:
    """A signal: whatever is going on is unwound, so that half-written files are cleared away.

    What is raised inside an import may be dropped on the way (Python's compiler does so): there the signal waits.
    """
    now = time.monotonic()
    began = now if since is None else since
    _ARRIVED.append(number)
    if _importing(frame) and now - began < _IMPORT_SECONDS:
        signal.signal(number, lambda number, frame: _arrived(number, frame, began))
        _again()
        return
    signal.signal(number, _arrived)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(ENDED)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _again() -> None:
    """The last signal comes once more, a moment later."""
    from threading import Timer

    Timer(0.02, os.kill, (os.getpid(), _ARRIVED[-1])).start()


def _lost(unraisable: sys.UnraisableHookArgs) -> None:
    """An interruption that hit where nothing can be raised, as in a destructor, comes again a moment later."""
    if unraisable.exc_type not in (KeyboardInterrupt, SystemExit):
        sys.__unraisablehook__(unraisable)
        return
    _again()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, AttributeError, ValueError):  # closed, or never open
            continue


def run(arguments: list[str]) -> int:
    """Runs a command line and returns its exit code."""
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
        # The reader went away (`| head`): nothing more can be said, and Python must not try at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:  # a panic of a library is no Exception
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

    from omnivec.validation.reasons import is_of_system, of_item, one_line

    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "no room is left where the output goes: it is not whole"
    if is_of_system(error):
        return of_item(error)
    if isinstance(error, MemoryError):
        return "not enough memory: give the process more, or fewer and smaller items at a time"
    error_name, line = type(error).__name__, one_line(error)
    return f"a fault of omnivec itself: {error_name}: {line} (OMNIVEC_DEBUG=1 shows where)"


def is_interruption(error: BaseException) -> bool:
    """Whether an exception comes from Ctrl-C, also where a library has made one of its own of it."""
    if isinstance(error, SystemExit | GeneratorExit):
        return False
    return isinstance(error, KeyboardInterrupt) or signal.SIGINT in _ARRIVED


def _stopped(outcome: str = "") -> int:
    """Says that Ctrl-C was heard, and what is kept; a second one changes nothing any more."""
    import click

    from omnivec.progress import say

    if signal.getsignal(signal.SIGINT) is _arrived:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.stderr is not None and sys.stderr.isatty():  # The terminal has printed ^C.
        click.echo(err=True)
    say(f"stopped; {outcome or 'what was reported as done is done'}")
    return STOPPED


def __getattr__(name: str) -> object:
    if name in ("COMMANDS", "cli"):
        from omnivec.cli import group

        return getattr(group, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
