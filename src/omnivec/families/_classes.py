"""Names of classes and settings of front ends, as families of sounds read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omnivec.errors import UnsupportedModel
from omnivec.validation import typed
from omnivec.weights.bounds import brief


@dataclass(frozen=True)
class _Classes:
    id2label: Mapping[str, str] = field(default_factory=dict)


def class_names(published: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """The names of classes by `id2label` of config.json, the number of a class without one; () without any name.

    Raises:
        ModelError: `id2label` is no table of names.
    """
    names = typed.read(_Classes, published, "config.json").id2label
    return tuple(names.get(str(i), str(i)) for i in range(count)) if names else ()


def refuse_settings(settings: Mapping[str, Any], model: str) -> None:
    """UnsupportedModel for a preprocessor_config.json with settings, which the models of a family do not have."""
    if settings:
        raise UnsupportedModel(
            f"preprocessor_config.json with {brief(sorted(settings))}: {model} has no such settings"
        )
