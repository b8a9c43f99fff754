"""The command `omnivec`: finds the subcommand, and turns errors into one line and an exit code.

Exit codes: 0 done, 1 an error said in one line, 2 wrong usage, 3 done but some items failed, each named.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import Any

import click

from omnivec.cli.common import complain
from omnivec.errors import OmnivecError, UsageError
from omnivec.version import VERSION

# Name -> module and the line that --help shows: a subcommand is imported only when it is run.
COMMANDS = {
    "demo": ("omnivec.cli.demo", "Search the documentation of Python's standard library, here and now."),
    "index": (
        "omnivec.cli.index",
        "Bring files and folders into a collection, and keep it in step with them.",
    ),
    "search": ("omnivec.cli.search", "Find the passages and images that answer a query best."),
    "embed": ("omnivec.cli.embed", "Write vectors of files, lines or columns to a file."),
    "analogy": ("omnivec.cli.analogy", "Add and subtract words: king - man + woman."),
    "classify": ("omnivec.cli.classify", "Label images and texts without training."),
    "duplicates": (
        "omnivec.cli.duplicates",
        "Find copies of images: exact, recompressed, resized, cropped.",
    ),
    "models": ("omnivec.cli.models", "List known models and families."),
    "info": ("omnivec.cli.info", "Show what a model is and how it runs here, with reasons."),
    "train": ("omnivec.cli.train", "Train or fine-tune a model by a recipe."),
    "collection": ("omnivec.cli.collection", "Look after a collection: status, list, remove."),
}


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they are run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The subcommands, in the order in which a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a subcommand."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command if isinstance(command, click.Command) else None

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the subcommand; Ctrl-C is said by `run`, without the empty line that click would print."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise click.Abort from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="omnivec")
def cli() -> None:
    """Any data in, vectors out, and everything people do with vectors.

    Results go to stdout, all else to stderr; --json gives JSON lines.
    """


def main() -> None:
    """The entry point: runs a command and exits with its code."""
    for stream in (sys.stdout, sys.stderr):  # A terminal that cannot show a letter must not end the work.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    # Everything is written and closed: taking modules and engine down one by one only keeps the user waiting.
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Runs a command line and returns its exit code."""
    try:
        code = cli.main(arguments, prog_name="omnivec", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        if sys.stderr.isatty():  # The terminal has printed ^C.
            click.echo(err=True)
        return _said("stopped; what was reported as done is done")
    except OmnivecError as error:
        return _said(str(error), 2 if isinstance(error, UsageError) else 1)
    except BrokenPipeError:
        # The reader went away (`| head`): nothing more can be said, and Python must not try at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return _said("no room is left where the output goes: it is not whole")
        if os.environ.get("OMNIVEC_DEBUG"):
            raise
        kind, line = type(error).__name__, " ".join(str(error).split())
        return _said(f"a fault of omnivec itself: {kind}: {line} (OMNIVEC_DEBUG=1 shows where)")


def _said(line: str, code: int = 1) -> int:
    complain(line)
    return code
