"""Plug-ins of other packages, which they declare by entry points: families, modalities, indexes."""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from collections.abc import Mapping
from typing import Any


def plugins(group: str) -> Mapping[str, str]:
    """Name of each plug-in in an entry-point group -> its module."""
    entry_points = _announced(tuple(sys.path)).select(group=group)
    return {point.name: point.value for point in entry_points}


@functools.cache
def _announced(path: tuple[str, ...]) -> Any:
    """All entry points on a path, cached, since reading those of all installed packages takes about 10 ms."""
    return importlib.metadata.entry_points()
