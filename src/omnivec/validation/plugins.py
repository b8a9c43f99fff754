"""Plug-ins of other packages, which they declare by entry points: families, modalities, indexes."""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from omnivec.errors import UsageError


def plugins(group: str) -> Mapping[str, Sequence[str]]:
    """Name of each plug-in in an entry-point group -> its module, or several where packages use one name.

    Of an entry point "package.module:ATTRIBUTE" the module counts: each kind of plug-in has a fixed attribute.
    """
    modules: dict[str, list[str]] = {}
    for point in _announced(tuple(sys.path)).select(group=group):
        module = point.value.partition(":")[0].strip()
        listed = modules.setdefault(point.name, [])
        listed += [] if module in listed else [module]
    return modules


def only(kind: str, name: str, modules: Sequence[str]) -> str:
    """The one module of a plug-in; UsageError where several packages provide a plug-in of this name."""
    if len(modules) > 1:
        listed = " and ".join(sorted(modules))
        raise UsageError(
            f"{len(modules)} packages provide the {kind} {name!r}, in the modules {listed}: uninstall "
            "all but one of them"
        )
    return modules[0]


@functools.cache
def _announced(path: tuple[str, ...]) -> Any:
    """All entry points on a path, cached, since reading those of all installed packages takes about 10 ms."""
    return importlib.metadata.entry_points()
