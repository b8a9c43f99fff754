"""Vector indexes by name: each file of indexes/ is one, named as the file; entry points add those of other packages."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from omnivec.errors import UsageError
from omnivec.store.indexes.base import VectorIndex
from omnivec.types import Floats, Keys, Metric
from omnivec.validation.plugins import plugins

GROUP = "omnivec.indexes"
EXACT = "exact"


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
def indexes() -> Mapping[str, str]:
    """Name of each index -> its module."""
    files = sorted(Path(__file__).with_name("indexes").glob("[a-z]*.py"))
    built_in = {path.stem: f"omnivec.store.indexes.{path.stem}" for path in files if path.stem != "base"}
    return {**built_in, **plugins(GROUP)}


def index_class(name: str) -> IndexClass:
    """Imports the index of this name.

    Raises:
        UsageError: there is no such index; the message lists all.
    """
    module = indexes().get(name)
    if module is None:
        raise UsageError(f"no index {name!r}; there are: {', '.join(indexes())}")
    index: IndexClass = importlib.import_module(module).INDEX
    return index
