"""Lists the files of the PATH arguments of a command, which are files and folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

from omnivec.cli.common import Command, left_out
from omnivec.errors import ItemError
from omnivec.inputs.files.walk import walk
from omnivec.inputs.modality import of_name
from omnivec.inputs.reading import read
from omnivec.progress import say
from omnivec.types import ModalityName
from omnivec.validation.reasons import LeftOut, printable

NAME_WIDTH, LABEL_WIDTH = 48, 24
"""Minimum widths of the columns of a table of files; a line is printed before the later ones are known."""

LARGEST = 2**40
"""Largest size in bytes of a listed file; the code that reads it has limits of its own."""


class FileListing(Iterable[Path]):
    """An iterable of the named files, and of those in the named folders that are of some modalities; each file once.

    The attributes are complete once all files were iterated over.

    Attributes:
        failures: why something could not be listed, one line each.
        left_out: counts what in folders holds nothing to embed, by reason, such as "empty".
        skipped: counts the files in folders that are of another modality, by lower-case suffix.
    """

    def __init__(
        self, paths: Sequence[Path], modalities: Sequence[ModalityName], hidden: bool = False
    ) -> None:
        self._paths, self._modalities, self._hidden = paths, modalities, hidden
        self._named: set[Path] = set(paths)
        self.failures: list[str] = []
        self.left_out: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Path]:
        """Yields paths that begin with the argument of the command: in the folder "photos", "photos/2024/a.jpg"."""
        seen: set[Path] = set()
        for argument in self._paths:
            walked = walk(argument, hidden=self._hidden, max_bytes=LARGEST, wanted=self._wants)
            for entry in walked:
                if entry.path not in seen:
                    seen.add(entry.path)
                    yield argument / entry.path.relative_to(walked.root)
            self.failures += walked.failures.values()
            self.left_out.update(walked.left_out.values())
            self.skipped += walked.skipped

    def _wants(self, path: Path) -> bool:
        return of_name(path) in self._modalities

    def leaves_out(self, path: Path) -> bool:
        """Whether a file that failed is in a folder and holds nothing to embed; it is then counted in `left_out`."""
        if path in self._named:
            return False
        try:
            read(path)
        except LeftOut as why:
            self.left_out[why.kind] += 1
            return True
        except ItemError:
            return False
        return False

    def report(self) -> bool:
        """Reports on stderr what could not be listed and what was left out; returns whether there were failures."""
        for why in self.failures:
            say(why)
        if line := left_out(self.left_out.elements(), self.skipped, f"no {' or '.join(self._modalities)}"):
            say(line)
        return bool(self.failures)


def paths_argument(command: Command) -> Command:
    """Adds the argument PATH... to a command."""
    path_type = click.Path(path_type=Path, readable=False)
    return click.argument("paths", nargs=-1, required=True, type=path_type, metavar="PATH...")(command)


def hidden_option(command: Command) -> Command:
    """Adds --hidden to a command."""
    text = "Include files and folders whose names begin with a dot."
    return click.option("--hidden", is_flag=True, help=text)(command)


def show_line(file: str, label: str, number: str) -> None:
    """Prints a line of a table of files: the file, a label, and a number."""
    cells = printable(file).ljust(NAME_WIDTH), printable(label).ljust(LABEL_WIDTH), number
    click.echo("  ".join(cells).rstrip())
