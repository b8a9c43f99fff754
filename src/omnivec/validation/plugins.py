"""What other packages add, announced by entry points: families, modalities, indexes."""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from collections.abc import Mapping
from typing import Any


def plugins(group: str) -> Mapping[str, str]:
    """Name of each plug-in of a group -> its module."""
    entry_points = _announced(tuple(sys.path)).select(group=group)
    return {point.name: point.value for point in entry_points}


@functools.cache
def _announced(path: tuple[str, ...]) -> Any:
    """All entry points of a path, read once: looking through every installed package takes about 10 ms."""
    return importlib.metadata.entry_points()
