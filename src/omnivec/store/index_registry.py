"""Vector indexes by name: each file of indexes/ is one, named as the file; entry points add those of other packages."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from omnivec.errors import OmnivecError, UsageError
from omnivec.store.indexes.base import VectorIndex
from omnivec.types import Floats, Keys, Metric
from omnivec.validation.plugins import only, plugins
from omnivec.validation.reasons import with_class

GROUP = "omnivec.indexes"
OWN = "omnivec.store.indexes."
EXACT = "exact"
AUTOMATIC = "faiss"
"""The index of spaces that are too large to compare all vectors, unless the caller chooses another one."""


class IndexClass(Protocol):
    """The `INDEX` of an index's module: a class that makes an index, empty or of the vectors of a space."""

    def __call__(
        self, dim: int, metric: Metric, keys: Keys | None = None, vectors: Floats | None = None, /
    ) -> VectorIndex:
        """Makes an index.

        Args:
            dim: length of a vector.
            metric: by which vectors are compared.
            keys: (n,) int64, ascending; a key with several vectors has several rows.
            vectors: (n, dim) float32, finite; may be a read-only memory map, and is not changed.
        """


@functools.cache
def indexes() -> Mapping[str, Sequence[str]]:
    """Name of each index -> its module, or several where packages use one name; omnivec's own names stay its own."""
    files = sorted(Path(__file__).with_name("indexes").glob("[a-z]*.py"))
    built_in = {path.stem: [f"{OWN}{path.stem}"] for path in files if path.stem != "base"}
    return {**plugins(GROUP), **built_in}


def index_class(name: str) -> IndexClass:
    """Imports the index of this name.

    Raises:
        UsageError: there is no such index; the message lists all. Or its module cannot be imported or has no INDEX.
    """
    modules = indexes().get(name)
    if modules is None:
        raise UsageError(f"no index {name!r}; there are: {', '.join(indexes())}")
    module = only("index", name, modules)
    try:
        index: IndexClass = importlib.import_module(module).INDEX
    except OmnivecError:
        raise
    except Exception as error:
        if module.startswith(OWN):
            raise
        raise UsageError(
            f"index {name!r} of another package cannot be imported from {module} ({with_class(error)}): fix that "
            "package, or choose another index"
        ) from error
    return index
