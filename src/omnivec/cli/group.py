"""The command group, which imports a subcommand only when it is run."""

from __future__ import annotations

import importlib
from typing import Any

import click

from omnivec.version import VERSION

# Name: module and the line that --help shows, so that help imports no subcommand.
COMMANDS = {
    "demo": ("omnivec.cli.demo", "Search the documentation of Python's standard library."),
    "index": (
        "omnivec.cli.index",
        "Index files and folders, and keep the collection up to date with them.",
    ),
    "search": ("omnivec.cli.search", "Find the passages and images that match a query best."),
    "embed": ("omnivec.cli.embed", "Write vectors of files, lines or columns to a file."),
    "analogy": ("omnivec.cli.analogy", "Add and subtract words: king - man + woman."),
    "classify": ("omnivec.cli.classify", "Label images and texts without training."),
    "duplicates": (
        "omnivec.cli.duplicates",
        "Find copies of images: exact, recompressed, resized, cropped.",
    ),
    "transcribe": ("omnivec.cli.transcribe", "Write down the speech in audio files, with times."),
    "voice": (
        "omnivec.cli.voice",
        "Enroll, verify, identify and cluster voices; find who speaks where.",
    ),
    "models": ("omnivec.cli.models", "List known models and families."),
    "info": ("omnivec.cli.info", "Show a model's properties and how it runs on this machine."),
    "train": ("omnivec.cli.train", "Train or fine-tune a model with a recipe."),
    "collection": (
        "omnivec.cli.collection",
        "Manage a collection: documents, import, export, migrate, check, backup, restore, vacuum.",
    ),
}


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they are run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Lists the subcommands in the order in which a new user needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports and returns a subcommand."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command if isinstance(command, click.Command) else None

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the subcommand; Ctrl-C is reported by `main.run`, without the empty line that click would print."""
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

    Results go to stdout, everything else to stderr; --json prints JSON lines.
    """
