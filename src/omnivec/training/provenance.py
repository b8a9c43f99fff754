"""Records how a model was trained, as `weights.card.Training`: recipe, options, base models and data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from omnivec.validation.arguments import expanded
from omnivec.weights.card import Training, name_of

BASES = ("model", "teacher", "left", "right", "init")
"""Options that name a model to start from."""
_OF_THE_RUN = ("show_progress_bar", "on_step", "on_epoch")

Facts = Callable[[], dict[str, Any]]


def observed(data: Any) -> tuple[Any, Facts]:
    """The data to hand to a recipe, and a function that returns their size and sha256 once the recipe has read them.

    Files are hashed by their bytes, items in memory by their JSON. Of items without JSON (images, arrays) only the
    number is recorded. The items of an iterator are counted and hashed as they pass through.
    """
    if isinstance(data, str | Path):
        return data, lambda: _of_files([data])
    if isinstance(data, Sequence) and data and all(isinstance(one, Path) for one in data):
        return data, lambda: _of_files(data)
    if isinstance(data, Iterator):
        passing = _Passing(data)
        return passing.items(), passing.facts
    if isinstance(data, Sequence):
        return data, lambda: _of_items(data)
    return data, dict


def training(recipe: str, options: Any, facts: Mapping[str, Any], trained: Any) -> Training:
    """The record of a training run.

    Args:
        recipe: name of the recipe.
        options: its options. Options that are None get the values in the trained table's settings, if it has them.
        facts: size and sha256 of the data, from `observed`.
        trained: the result of the recipe.
    """
    settings = getattr(getattr(trained, "table", None), "settings", {})
    shown: dict[str, Any] = {}
    for field in fields(options):
        value = getattr(options, field.name)
        if field.name in _OF_THE_RUN:
            continue
        value = settings.get(field.name) if value is None else value
        shown[field.name] = _plain(value, field.name)
    bases = tuple(str(shown[name]) for name in BASES if shown.get(name) is not None)
    measured: Mapping[str, Any] = getattr(trained, "card", {}).get("training", {})  # of a joint model
    results = {k: v for k, v in measured.items() if k not in shown}
    return Training(recipe, bases, shown, facts, results)


def _plain(value: Any, name: str) -> Any:
    """An option's value for a model card: paths are reduced to names, objects to their name or type."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Path) or (isinstance(value, str) and name in (*BASES, "phrases")):
        return name_of(value)
    if isinstance(value, str):
        return value
    named = getattr(value, "name", None)
    return name_of(named) if isinstance(named, str) else type(value).__name__


class _Passing:
    """Counts and hashes the items of an iterator as they pass through it."""

    def __init__(self, data: Iterator[Any]) -> None:
        self._data, self._count = data, 0
        self._digest: Any = hashlib.sha256()

    def items(self) -> Iterator[Any]:
        for item in self._data:
            self._count += 1
            if self._digest is not None:
                self._digest = _updated(self._digest, item)
            yield item

    def facts(self) -> dict[str, Any]:
        known = {} if self._digest is None else {"sha256": self._digest.hexdigest()}
        return {"items": self._count, **known}


def _of_items(items: Iterable[Any]) -> dict[str, Any]:
    passing = _Passing(iter(items))
    for _ in passing.items():
        pass
    return passing.facts()


def _updated(digest: Any, item: Any) -> Any:
    """The digest updated with an item; None if the item cannot be written as JSON."""
    try:
        digest.update(json.dumps(item, sort_keys=True).encode() + b"\n")
    except (TypeError, ValueError, RecursionError):
        return None
    return digest


def _of_files(paths: Iterable[str | Path]) -> dict[str, Any]:
    """The size and sha256 of the concatenation of files; empty if one of them no longer exists."""
    digest, size, count = hashlib.sha256(), 0, 0
    try:
        for path in paths:
            with expanded(Path(path)).open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
                    size += len(block)
            count += 1
    except OSError:
        return {}
    many = {"files": count} if count > 1 else {}
    return {**many, "bytes": size, "sha256": digest.hexdigest()}
