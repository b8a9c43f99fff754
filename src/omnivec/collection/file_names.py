"""The ids of files in a collection: their paths, as seen from the folder that the collection lies in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class FileNames:
    """Ids of files: POSIX paths relative to a base where they lie below it, by its name or the one that links lead to.

    All others are absolute.
    """

    base: Path

    def of(self, path: Path) -> str:
        """The id of a file."""
        whole = Path(os.path.abspath(path))  # noqa: PTH100  resolve() would follow links: the id is the name as given
        bases = (base for base in (self.base, self._real) if whole.is_relative_to(base))
        base = next(bases, None)
        return (whole if base is None else whole.relative_to(base)).as_posix()

    def path(self, name: str) -> Path:
        """The file of an id."""
        return self.base / name

    @cached_property
    def _real(self) -> Path:
        return self.base.resolve()
