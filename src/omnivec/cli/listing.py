"""Files and folders as a command was given them, to the files in them."""

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
from omnivec.validation.reasons import LeftOut

LARGEST = 2**40
"""Bytes of a file that is still listed: what reads it has limits of its own."""


class Listing(Iterable[Path]):
    """The files that are named, and of folders those below them that are of a kind; each file once.

    Attributes:
        failures: why something could not be listed, one line each; whole once all files were taken.
        left_out: kind of what folders hold and has nothing to embed, such as "empty" -> how many.
        skipped: lower-case suffix -> how many files of folders are of another kind.
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
        """The files, called as the command was given them: below a folder "photos", "photos/2024/a.jpg"."""
        seen: set[Path] = set()
        for path in self._paths:
            walked = walk(path, hidden=self._hidden, max_bytes=LARGEST, wanted=self._wants)
            for entry in walked:
                if entry.path not in seen:
                    seen.add(entry.path)
                    yield path / entry.path.relative_to(walked.root)
            self.failures += walked.failures.values()
            self.left_out.update(walked.left_out.values())
            self.skipped += walked.skipped

    def _wants(self, path: Path) -> bool:
        return of_name(path) in self._modalities

    def leaves_out(self, path: Path) -> bool:
        """Whether a file that failed was found in a folder and holds nothing to embed; then it is counted as such."""
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
        """Says on stderr what could not be listed and what was left out; whether anything could not."""
        for why in self.failures:
            say(why)
        if line := left_out(self.left_out.elements(), self.skipped, f"no {' or '.join(self._modalities)}"):
            say(line)
        return bool(self.failures)


def paths_argument(command: Command) -> Command:
    """PATH..., as every command that reads files and folders takes it."""
    path_type = click.Path(path_type=Path, readable=False)
    return click.argument("paths", nargs=-1, required=True, type=path_type, metavar="PATH...")(command)


def hidden_option(command: Command) -> Command:
    """--hidden, as every command that reads folders takes it."""
    text = "Take files and folders whose name begins with a dot too."
    return click.option("--hidden", is_flag=True, help=text)(command)
