"""Ids of files in a collection: their paths relative to the folder that contains the collection."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class FileNames:
    """Converts between files and their ids, POSIX paths relative to the folder `base`.

    A path outside of `base`, both as it is written and with links resolved, stays absolute.
    """

    base: Path

    def of(self, path: Path) -> str:
        """Returns the id of a file."""
        whole = Path(os.path.abspath(path))  # noqa: PTH100  resolve() would follow links, but ids are paths as written
        bases = (base for base in (self.base, self._real) if whole.is_relative_to(base))
        base = next(bases, None)
        return (whole if base is None else whole.relative_to(base)).as_posix()

    def path(self, name: str) -> Path:
        """Returns the file of an id."""
        return self.base / name

    @cached_property
    def _real(self) -> Path:
        return self.base.resolve()
